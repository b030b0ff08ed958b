"""L-BFGS."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..autograd.grad_mode import enable_grad, no_grad
from ..functional_shape import cat
from ..tensor import Tensor
from .line_search import strong_wolfe
from .optimizer import Optimizer

# The largest curvature that is still noise: pairs below it are left out of the history.
LEAST_CURVATURE = 1e-10


class LBFGS(Optimizer):
    """Limited-memory BFGS: J. Nocedal, S. Wright, "Numerical Optimization", 2006, algorithm 7.4; after M. Schmidt's
    minFunc, as PyTorch's. All parameters are one vector; `step(closure)` does up to `max_iter` iterations, and keeps the
    history of curvature for the next call. `line_search_fn`: None (steps of `lr`) or "strong_wolfe".
    """

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1,
        max_iter: int = 20,
        max_eval: int | None = None,
        tolerance_grad: float = 1e-7,
        tolerance_change: float = 1e-9,
        history_size: int = 100,
        line_search_fn: str | None = None,
    ):
        if not lr >= 0.0:
            raise ValueError(f"Invalid learning rate: {lr}")
        super().__init__(params, {
            "lr": lr, "max_iter": max_iter, "max_eval": max_iter * 5 // 4 if max_eval is None else max_eval,
            "tolerance_grad": tolerance_grad, "tolerance_change": tolerance_change, "history_size": history_size,
            "line_search_fn": line_search_fn,
        })  # fmt: skip
        if len(self.param_groups) != 1:
            raise ValueError("LBFGS doesn't support per-parameter options (parameter groups)")
        self._params: list[Tensor] = self.param_groups[0]["params"]

    def _flat_grad(self) -> Tensor:
        return cat(
            [(p.new_zeros(p.numel()) if p.grad is None else p.grad.reshape(-1)) for p in self._params], 0
        )

    def _move(self, origin: list[Tensor], step: float, direction: Tensor) -> None:
        """Put the parameters at origin + step * direction."""
        offset = 0
        for param, start in zip(self._params, origin):
            part = direction[offset : offset + param.numel()].view_as(param)
            param.copy_(start.add(part, alpha=step))
            offset += param.numel()

    def _origin(self) -> list[Tensor]:
        return [p.clone() for p in self._params]

    @no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Minimise what the closure computes: it clears the gradients, computes the loss, calls backward, returns the
        loss. The loss at the first evaluation is returned."""
        if closure is None:
            raise TypeError("LBFGS.step() missing 1 required positional argument: 'closure'")
        group = self.param_groups[0]
        lr = float(group["lr"])
        search = group["line_search_fn"]
        if search not in (None, "strong_wolfe"):
            raise RuntimeError("only 'strong_wolfe' is supported")
        state = self.state[self._params[0]]
        state.setdefault("func_evals", 0)
        state.setdefault("n_iter", 0)

        def evaluate() -> Any:
            with enable_grad():
                return closure()

        first = evaluate()
        loss, evaluations = float(first), 1
        state["func_evals"] += 1
        grad = self._flat_grad()
        if float(grad.abs().max()) <= group["tolerance_grad"]:
            return first
        for iteration in range(1, group["max_iter"] + 1):
            state["n_iter"] += 1
            direction = self._direction(state, grad, group["history_size"])
            state["prev_flat_grad"] = grad.clone()
            state["prev_loss"] = previous = loss
            step = lr
            if state["n_iter"] == 1:
                step *= min(1.0, 1.0 / float(grad.abs().sum()))
            slope = float(grad.dot(direction))
            if slope > -group["tolerance_change"]:
                state["t"] = step
                break
            origin = self._origin()
            used = 1
            if search is not None:

                def at(
                    length: float, origin: list[Tensor] = origin, d: Tensor = direction
                ) -> tuple[float, Tensor]:
                    self._move(origin, length, d)
                    return float(evaluate()), self._flat_grad()

                loss, grad, step, used = strong_wolfe(
                    at, step, direction, loss, grad, slope, max_steps=group["max_eval"] - evaluations
                )
                self._move(origin, step, direction)
            else:
                self._move(origin, step, direction)
                if iteration != group["max_iter"]:
                    loss = float(evaluate())
                    grad = self._flat_grad()
                else:
                    used = 0  # the next call begins with an evaluation here
            state["t"] = step
            evaluations += used
            state["func_evals"] += used
            if (
                evaluations >= group["max_eval"]
                or float(grad.abs().max()) <= group["tolerance_grad"]
                or float(direction.mul(step).abs().max()) <= group["tolerance_change"]
                or abs(loss - previous) < group["tolerance_change"]
            ):
                break
        return first

    def _direction(self, state: dict[str, Any], grad: Tensor, history: int) -> Tensor:
        """Minus the inverse Hessian's estimate times the gradient: the two loops over the last steps and changes of the
        gradient. Takes the last step into the history."""
        if state["n_iter"] == 1:
            state.update(d=grad.neg(), old_dirs=[], old_stps=[], ro=[], H_diag=1.0)
            return state["d"]
        changes, steps, inverses = state["old_dirs"], state["old_stps"], state["ro"]
        change = grad.sub(state["prev_flat_grad"])
        step = state["d"].mul(state["t"])
        curvature = float(change.dot(step))
        if curvature > LEAST_CURVATURE:
            if len(changes) == history:
                del changes[0], steps[0], inverses[0]
            changes.append(change)
            steps.append(step)
            inverses.append(1.0 / curvature)
            state["H_diag"] = curvature / float(change.dot(change))
        direction = grad.neg()
        factors = []
        for change, step, inverse in zip(reversed(changes), reversed(steps), reversed(inverses)):
            factors.append(float(step.dot(direction)) * inverse)
            direction.add_(change, alpha=-factors[-1])
        direction = direction.mul(state["H_diag"])
        for change, step, inverse, factor in zip(changes, steps, inverses, reversed(factors)):
            direction.add_(step, alpha=factor - float(change.dot(direction)) * inverse)
        state["d"] = direction
        return direction
