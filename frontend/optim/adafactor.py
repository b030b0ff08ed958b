"""Adafactor."""

from __future__ import annotations

from typing import Any

import ml_dtypes

from .. import capture
from ..creation import zeros, zeros_like
from ..ir import dtypes
from ..tensor import Tensor
from .optimizer import Group
from .per_parameter import Numbers, PerParameter, advance, new_step


class Adafactor(PerParameter):
    """Squared gradients of matrices are kept as a row and a column: N. Shazeer, M. Stern, "Adafactor: adaptive learning
    rates with sublinear memory cost", 2018.

    `lr` bounds the relative step size and is the factor of the weight decay; `eps` are the bounds of the variance (None:
    the dtype's eps) and of the parameter's scale; updates whose root mean square is above `d` are shrunk to it.
    """

    own_decay = True

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1e-2,
        beta2_decay: float = -0.8,
        eps: tuple[float | None, float] = (None, 1e-3),
        d: float = 1.0,
        weight_decay: float = 0.0,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
    ):
        if isinstance(lr, Tensor) and lr.numel() != 1:
            raise ValueError("Tensor lr must be 1-element")
        if not lr >= 0.0:
            raise ValueError(f"Learning rate should be >= 0 but is: {lr}")
        if not beta2_decay <= 0.0:
            raise ValueError(f"beta2_decay should be <= 0 but is: {beta2_decay}")
        for position, bound in enumerate(eps):
            if bound is not None and not bound >= 0.0:
                raise ValueError(f"epsilon{position + 1} should be >= 0 but is: {bound}")
        if not d >= 1.0:
            raise ValueError(f"Clipping threshold d should be >= 1 but is: {d}")
        if not weight_decay >= 0.0:
            raise ValueError(f"weight_decay should be >= 0 but is: {weight_decay}")
        super().__init__(params, {
            "lr": lr, "beta2_decay": beta2_decay, "eps": eps, "d": d, "weight_decay": weight_decay,
            "foreach": foreach, "maximize": maximize,
        })  # fmt: skip

    def new_state(self, param: Tensor, group: Group) -> dict[str, Tensor]:
        state = {"step": new_step()}
        if param.ndim > 1:
            shape = tuple(param.shape)
            state["row_var"] = zeros((*shape[:-1], 1), dtype=param.dtype)
            state["col_var"] = zeros((*shape[:-2], 1, shape[-1]), dtype=param.dtype)
        else:
            state["variance"] = zeros_like(param)
        return state

    def _update_group(self, group: Group, numbers: Numbers, flags: dict[str, bool]) -> None:
        super()._update_group(group, numbers, {**flags, "own_floor": numbers.missing("eps", 0)})

    def update(
        self, param: Tensor, grad: Tensor, state: dict[str, Tensor], numbers: Numbers, flags: dict[str, bool]
    ) -> None:
        count = advance(state["step"])
        share = count ** numbers("beta2_decay")
        lr, floor = numbers("lr"), _own_floor(param) if flags["own_floor"] else numbers("eps", 0)
        rate = _largest(_root_mean_square(param), numbers("eps", 1)) * _smallest(lr, count**-0.5)
        if flags["weight_decay"]:
            param.mul_(1.0 - lr * numbers("weight_decay"))
        if grad.ndim > 1:
            row, column = state["row_var"], state["col_var"]
            row.add_((grad.square().mean(-1, keepdim=True) - row) * share)
            column.add_((grad.square().mean(-2, keepdim=True) - column) * share)
            variance = row @ column / _largest(row.mean(-2, keepdim=True), floor)
        else:
            variance = state["variance"]
            variance.add_((grad * grad - variance) * share)
        change = _largest(variance, floor * floor).rsqrt() * grad
        excess = _largest(_root_mean_square(change) / numbers("d"), 1.0)
        param.sub_(change * (rate / excess))


def _own_floor(param: Tensor) -> float:
    return float(ml_dtypes.finfo(param.dtype.numpy).eps)


def _root_mean_square(values: Tensor) -> Any:
    """A 0-d tensor, or eagerly a Python number."""
    found = values.norm() / values.numel() ** 0.5
    return found if capture.active() is not None else found.item()


def _largest(value: Any, bound: Any) -> Any:
    """max(value, bound) of a tensor or number and a 0-d tensor or number."""
    if isinstance(value, Tensor):
        if isinstance(bound, Tensor):
            return value.maximum(bound.to(value.dtype))
        return value.clamp(min=bound)
    return max(value, bound)


def _smallest(a: Any, b: Any) -> Any:
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return a.to(dtypes.f64).minimum(b.to(dtypes.f64))
    if isinstance(a, Tensor) or isinstance(b, Tensor):
        tensor, number = (a, b) if isinstance(a, Tensor) else (b, a)
        return tensor.clamp(max=number)
    return min(a, b)
