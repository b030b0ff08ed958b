"""Rprop and averaged SGD."""

from __future__ import annotations

from typing import Any

from ..creation import full_like, ones, tensor, zeros_like
from ..functional_pointwise import where
from ..ir import dtypes
from ..tensor import Tensor
from .optimizer import Group
from .per_parameter import Numbers, PerParameter, advance, check, check_lr, new_step


class Rprop(PerParameter):
    """M. Riedmiller, H. Braun, "A direct adaptive method for faster backpropagation learning", 1993."""

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1e-2,
        etas: tuple[float, float] = (0.5, 1.2),
        step_sizes: tuple[float, float] = (1e-6, 50),
        *,
        capturable: bool = False,
        foreach: bool | None = None,
        maximize: bool = False,
        differentiable: bool = False,
    ):
        check_lr(lr)
        if not 0.0 < etas[0] < 1.0 < etas[1]:
            raise ValueError(f"Invalid eta values: {etas[0]}, {etas[1]}")
        super().__init__(params, {
            "lr": lr, "etas": etas, "step_sizes": step_sizes, "foreach": foreach, "maximize": maximize,
            "differentiable": differentiable, "capturable": capturable,
        })  # fmt: skip

    def new_state(self, param: Tensor, group: Group) -> dict[str, Tensor]:
        return {
            "step": new_step(),
            "prev": zeros_like(param),
            "step_size": full_like(param, float(group["lr"])),
        }

    def update(
        self, param: Tensor, grad: Tensor, state: dict[str, Tensor], numbers: Numbers, flags: dict[str, bool]
    ) -> None:
        advance(state["step"])
        agreement = grad * state["prev"]
        size = state["step_size"]
        grown = (size * numbers("etas", 1)).minimum(_like(size, numbers("step_sizes", 1)))
        shrunk = (size * numbers("etas", 0)).maximum(_like(size, numbers("step_sizes", 0)))
        size.copy_(where(agreement > 0, grown, where(agreement < 0, shrunk, size)))
        grad = where(agreement < 0, zeros_like(grad), grad)
        state["prev"].copy_(grad)
        param.sub_(grad.sign() * size)


def _like(given: Tensor, value: Any) -> Tensor:
    """A number as a 0-d tensor of the dtype."""
    return value.to(given.dtype) if isinstance(value, Tensor) else tensor(value, dtype=given.dtype)


class ASGD(PerParameter):
    """B. Polyak, A. Juditsky, "Acceleration of stochastic approximation by averaging", 1992."""

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1e-2,
        lambd: float = 1e-4,
        alpha: float = 0.75,
        t0: float = 1e6,
        weight_decay: float = 0,
        foreach: bool | None = None,
        maximize: bool = False,
        differentiable: bool = False,
        capturable: bool = False,
    ):
        check_lr(lr)
        check(weight_decay, "weight_decay", weight_decay >= 0.0)
        super().__init__(params, {
            "lr": lr, "lambd": lambd, "alpha": alpha, "t0": t0, "weight_decay": weight_decay, "foreach": foreach,
            "maximize": maximize, "differentiable": differentiable, "capturable": capturable,
        })  # fmt: skip

    def new_state(self, param: Tensor, group: Group) -> dict[str, Tensor]:
        return {
            "step": new_step(),
            "eta": tensor(float(group["lr"]), dtype=dtypes.f32),
            "mu": ones((), dtype=dtypes.f32),
            "ax": zeros_like(param),
        }

    def update(
        self, param: Tensor, grad: Tensor, state: dict[str, Tensor], numbers: Numbers, flags: dict[str, bool]
    ) -> None:
        count = advance(state["step"])
        eta, average = state["eta"], state["ax"]
        lr, lambd = numbers("lr"), numbers("lambd")
        param.mul_(1.0 - eta * lambd)
        param.sub_(grad * eta)
        average.add_((param - average) * state["mu"])
        eta.copy_(lr / (1.0 + lambd * lr * state["step"].to(dtypes.f64)) ** numbers("alpha"))
        past = count - numbers("t0")
        if isinstance(past, Tensor):
            state["mu"].copy_(1.0 / past.clamp(min=1.0))
        else:
            state["mu"].fill_(1.0 / max(1.0, past))
