"""Adagrad and Adadelta."""

from __future__ import annotations

from typing import Any

from ..creation import full_like, zeros_like
from ..tensor import Tensor
from .optimizer import Group
from .per_parameter import Numbers, PerParameter, advance, check, check_lr, new_step


class Adagrad(PerParameter):
    """J. Duchi, E. Hazan, Y. Singer, "Adaptive Subgradient Methods for Online Learning and Stochastic Optimization",
    2011."""

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1e-2,
        lr_decay: float = 0,
        weight_decay: float = 0,
        initial_accumulator_value: float = 0,
        eps: float = 1e-10,
        foreach: bool | None = None,
        *,
        maximize: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
    ):
        check_lr(lr)
        check(lr_decay, "lr_decay", lr_decay >= 0.0)
        check(weight_decay, "weight_decay", weight_decay >= 0.0)
        check(initial_accumulator_value, "initial_accumulator_value", initial_accumulator_value >= 0.0)
        check(eps, "epsilon", eps >= 0.0)
        super().__init__(params, {
            "lr": lr, "lr_decay": lr_decay, "eps": eps, "weight_decay": weight_decay,
            "initial_accumulator_value": initial_accumulator_value, "foreach": foreach, "maximize": maximize,
            "differentiable": differentiable, "fused": fused,
        })  # fmt: skip
        for group in self.param_groups:
            for param in group["params"]:
                self.state[param] = self.state_for(param, group)

    def new_state(self, param: Tensor, group: Group) -> dict[str, Tensor]:
        return {"step": new_step(), "sum": full_like(param, group["initial_accumulator_value"])}

    def update(
        self, param: Tensor, grad: Tensor, state: dict[str, Tensor], numbers: Numbers, flags: dict[str, bool]
    ) -> None:
        count = advance(state["step"])
        rate = numbers("lr") / ((count - 1.0) * numbers("lr_decay") + 1.0)
        total = state["sum"].add_(grad * grad)
        param.sub_(grad / (total.sqrt() + numbers("eps")) * rate)


class Adadelta(PerParameter):
    """M. Zeiler, "ADADELTA: An Adaptive Learning Rate Method", 2012."""

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1.0,
        rho: float = 0.9,
        eps: float = 1e-6,
        weight_decay: float = 0,
        foreach: bool | None = None,
        *,
        capturable: bool = False,
        maximize: bool = False,
        differentiable: bool = False,
    ):
        check_lr(lr)
        check(rho, "rho", 0.0 <= rho <= 1.0)
        check(eps, "epsilon", eps >= 0.0)
        check(weight_decay, "weight_decay", weight_decay >= 0.0)
        super().__init__(params, {
            "lr": lr, "rho": rho, "eps": eps, "weight_decay": weight_decay, "maximize": maximize,
            "capturable": capturable, "foreach": foreach, "differentiable": differentiable,
        })  # fmt: skip

    def new_state(self, param: Tensor, group: Group) -> dict[str, Tensor]:
        return {"step": new_step(), "square_avg": zeros_like(param), "acc_delta": zeros_like(param)}

    def update(
        self, param: Tensor, grad: Tensor, state: dict[str, Tensor], numbers: Numbers, flags: dict[str, bool]
    ) -> None:
        advance(state["step"])
        rho, eps = numbers("rho"), numbers("eps")
        square, changes = state["square_avg"], state["acc_delta"]
        square.mul_(rho).add_(grad * grad * (1.0 - rho))
        change = (changes + eps).sqrt() / (square + eps).sqrt() * grad
        changes.mul_(rho).add_(change * change * (1.0 - rho))
        param.sub_(change * numbers("lr"))
