"""Adam and AdamW."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

from .. import capture
from ..creation import tensor, zeros_like
from ..functional_complex import as_reals
from ..ir import dtypes
from ..tensor import Tensor
from .optimizer import Group, GroupReader, Optimizer, recorded_if_differentiable, to_be_read


def _facts(group: Group) -> tuple[Any, ...]:
    return (
        group["weight_decay"] != 0,
        bool(group["decoupled_weight_decay"]),
        bool(group["amsgrad"]),
        bool(group["maximize"]),
    )


class Adam(Optimizer):
    """D. Kingma, J. Ba, "Adam: A method for stochastic optimization", 2014; `amsgrad`: S. Reddi et al., 2018.

    m and v follow the gradient and its square with factors beta1 and beta2; p -= lr * m / (1 - beta1**t) /
    (sqrt(v / (1 - beta2**t)) + eps). The counter t is a 0-d float32 tensor, as in PyTorch. `foreach`,
    `capturable` and `fused` are accepted and ignored: a compiled step is one kernel.
    """

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        amsgrad: bool = False,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        decoupled_weight_decay: bool = False,
    ):
        if isinstance(lr, Tensor) and lr.numel() != 1:
            raise ValueError("Tensor lr must be 1-element")
        if not lr >= 0.0:
            raise ValueError(f"Invalid learning rate: {lr}")
        if not eps >= 0.0:
            raise ValueError(f"Invalid epsilon value: {eps}")
        for position, beta in enumerate(betas):
            if not 0.0 <= beta < 1.0:
                raise ValueError(f"Invalid beta parameter at index {position}: {beta}")
        if not weight_decay >= 0.0:
            raise ValueError(f"Invalid weight_decay value: {weight_decay}")
        if differentiable and fused:
            raise RuntimeError("`fused` does not support `differentiable`")
        defaults = {
            "lr": lr,
            "betas": betas,
            "eps": eps,
            "weight_decay": weight_decay,
            "amsgrad": amsgrad,
            "maximize": maximize,
            "foreach": foreach,
            "capturable": capturable,
            "differentiable": differentiable,
            "fused": fused,
            "decoupled_weight_decay": decoupled_weight_decay,
        }
        super().__init__(params, defaults)

    @recorded_if_differentiable
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        loss = self._loss(closure)
        self._update_groups()
        return loss

    def _update(self, group: Group, reader: GroupReader) -> None:
        facts = "weight_decay != 0, decoupled_weight_decay, amsgrad, maximize"
        has_decay, decoupled, amsgrad, maximize = reader.structure(_facts, facts)
        lr = reader.number("lr", _lr)
        beta1, beta2 = reader.number("beta1", _beta1), reader.number("beta2", _beta2)
        eps = reader.number("eps", _eps)
        decay = reader.number("weight_decay", _weight_decay) if has_decay else 0.0
        kept = 1.0 - lr * decay if has_decay else 1.0
        new1, new2 = 1.0 - beta1, 1.0 - beta2
        for param in group["params"]:
            grad = param.grad
            if grad is None:
                continue
            state = self.state[param]
            if "step" not in state:
                state.update(capture.create_state(partial(_new_state, param, amsgrad)))
            step, mean, square = state["step"], state["exp_avg"], state["exp_avg_sq"]
            step.add_(1)
            if maximize:
                grad = -grad
            if has_decay and decoupled:
                param.mul_(kept)
            elif has_decay:
                grad = grad.add(param, alpha=decay)
            target = as_reals(param)
            grad, mean, square = as_reals(grad), as_reals(mean), as_reals(square)
            mean.add_((grad - mean) * new1)
            square.mul_(beta2).add_(grad * grad * new2)
            if amsgrad:
                largest = as_reals(state["max_exp_avg_sq"])
                largest.copy_(to_be_read(largest).maximum(square))
                square = largest
            correction1, correction2 = _bias_corrections(step, beta1, beta2, reader)
            root = square.sqrt() / correction2**0.5 + eps
            target.sub_(to_be_read(mean) / root * (lr / correction1))


def _new_state(param: Tensor, amsgrad: bool) -> dict[str, Tensor]:
    state = {
        "step": tensor(0.0, dtype=dtypes.f32),
        "exp_avg": zeros_like(param),
        "exp_avg_sq": zeros_like(param),
    }
    if amsgrad:
        state["max_exp_avg_sq"] = zeros_like(param)
    return state


def _bias_corrections(step: Tensor, beta1: Any, beta2: Any, reader: GroupReader) -> tuple[Any, Any]:
    """1 - beta**t for both. Eagerly Python numbers, as in PyTorch; compiled, float64 from the host's
    log(beta)."""
    if capture.active() is None:
        count = step.item()
        return 1.0 - beta1**count, 1.0 - beta2**count
    count = step.to(dtypes.f64)
    logs = reader.number("log_beta1", _log_beta1), reader.number("log_beta2", _log_beta2)
    return 1.0 - (count * logs[0]).exp(), 1.0 - (count * logs[1]).exp()


class AdamW(Adam):
    """Adam whose weight decay shrinks the parameters instead of adding to the gradient: I. Loshchilov, F.
    Hutter, "Decoupled weight decay regularization", 2017."""

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        amsgrad: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
    ):
        super().__init__(
            params,
            lr,
            betas,
            eps,
            weight_decay,
            amsgrad,
            foreach=foreach,
            maximize=maximize,
            capturable=capturable,
            differentiable=differentiable,
            fused=fused,
            decoupled_weight_decay=True,
        )


def _lr(group: Group) -> Any:
    return group["lr"]


def _beta1(group: Group) -> Any:
    return group["betas"][0]


def _beta2(group: Group) -> Any:
    return group["betas"][1]


def _log(beta: float) -> float:
    return math.log(beta) if beta > 0.0 else -math.inf


def _log_beta1(group: Group) -> float:
    return _log(group["betas"][0])


def _log_beta2(group: Group) -> float:
    return _log(group["betas"][1])


def _eps(group: Group) -> Any:
    return group["eps"]


def _weight_decay(group: Group) -> Any:
    return group["weight_decay"]
