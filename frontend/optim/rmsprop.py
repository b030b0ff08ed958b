"""RMSprop."""

from __future__ import annotations

from typing import Any

from ..creation import zeros_like
from ..tensor import Tensor
from .optimizer import Group
from .per_parameter import Numbers, PerParameter, advance, check, check_lr, new_step


class RMSprop(PerParameter):
    """G. Hinton, "Neural Networks for Machine Learning", lecture 6e, 2012; `centered`: A. Graves, "Generating Sequences
    With Recurrent Neural Networks", 2013."""

    flags = ("momentum", "centered")

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0,
        momentum: float = 0,
        centered: bool = False,
        capturable: bool = False,
        foreach: bool | None = None,
        maximize: bool = False,
        differentiable: bool = False,
    ):
        check_lr(lr)
        check(eps, "epsilon", eps >= 0.0)
        check(momentum, "momentum", momentum >= 0.0)
        check(weight_decay, "weight_decay", weight_decay >= 0.0)
        check(alpha, "alpha", alpha >= 0.0)
        super().__init__(params, {
            "lr": lr, "momentum": momentum, "alpha": alpha, "eps": eps, "centered": centered,
            "weight_decay": weight_decay, "capturable": capturable, "foreach": foreach, "maximize": maximize,
            "differentiable": differentiable,
        })  # fmt: skip

    def new_state(self, param: Tensor, group: Group) -> dict[str, Tensor]:
        state = {"step": new_step(), "square_avg": zeros_like(param)}
        if group["momentum"] > 0:
            state["momentum_buffer"] = zeros_like(param)
        if group["centered"]:
            state["grad_avg"] = zeros_like(param)
        return state

    def update(
        self, param: Tensor, grad: Tensor, state: dict[str, Tensor], numbers: Numbers, flags: dict[str, bool]
    ) -> None:
        advance(state["step"])
        alpha = numbers("alpha")
        square = state["square_avg"]
        square.mul_(alpha).add_(grad * grad * (1.0 - alpha))
        if flags["centered"]:
            mean = state["grad_avg"]
            mean.add_((grad - mean) * (1.0 - alpha))
            square = square - mean * mean
        change = grad / (square.sqrt() + numbers("eps"))
        if flags["momentum"]:
            change = state["momentum_buffer"].mul_(numbers("momentum")).add_(change)
        param.sub_(change * numbers("lr"))
