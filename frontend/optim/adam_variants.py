"""Adamax, NAdam and RAdam."""

from __future__ import annotations

from typing import Any

from ..creation import ones, zeros_like
from ..functional_pointwise import where
from ..ir import dtypes
from ..tensor import Tensor
from .optimizer import Group, to_be_read
from .per_parameter import Numbers, PerParameter, advance, check, check_betas, check_lr, new_step


def _check(lr: float | Tensor, eps: float, betas: tuple[float, float], weight_decay: float) -> None:
    check_lr(lr)
    check(eps, "epsilon", eps >= 0.0)
    check_betas(betas)
    check(weight_decay, "weight_decay", weight_decay >= 0.0)


def _moments(param: Tensor) -> dict[str, Tensor]:
    return {"step": new_step(), "exp_avg": zeros_like(param), "exp_avg_sq": zeros_like(param)}


def _follow(grad: Tensor, state: dict[str, Tensor], numbers: Numbers) -> tuple[Tensor, Tensor]:
    """Move the averages of the gradient and of its square."""
    mean, square = state["exp_avg"], state["exp_avg_sq"]
    mean.add_((grad - mean) * (1.0 - numbers("betas", 0)))
    square.mul_(numbers("betas", 1)).add_(grad * grad * (1.0 - numbers("betas", 1)))
    return mean, square


class Adamax(PerParameter):
    """D. Kingma, J. Ba, "Adam: A method for stochastic optimization", 2014, section 7."""

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        foreach: bool | None = None,
        *,
        maximize: bool = False,
        differentiable: bool = False,
        capturable: bool = False,
    ):
        _check(lr, eps, betas, weight_decay)
        super().__init__(params, {
            "lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "foreach": foreach,
            "maximize": maximize, "differentiable": differentiable, "capturable": capturable,
        })  # fmt: skip

    def new_state(self, param: Tensor, group: Group) -> dict[str, Tensor]:
        return {"step": new_step(), "exp_avg": zeros_like(param), "exp_inf": zeros_like(param)}

    def update(
        self, param: Tensor, grad: Tensor, state: dict[str, Tensor], numbers: Numbers, flags: dict[str, bool]
    ) -> None:
        count = advance(state["step"])
        mean, largest = state["exp_avg"], state["exp_inf"]
        mean.add_((grad - mean) * (1.0 - numbers("betas", 0)))
        largest.copy_((largest * numbers("betas", 1)).maximum(grad.abs() + numbers("eps")))
        rate = numbers("lr") / (1.0 - numbers.power("betas", 0, count))
        param.sub_(mean / largest * rate)


class NAdam(PerParameter):
    """T. Dozat, "Incorporating Nesterov Momentum into Adam", 2016."""

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        momentum_decay: float = 4e-3,
        decoupled_weight_decay: bool = False,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
    ):
        _check(lr, eps, betas, weight_decay)
        check(momentum_decay, "momentum_decay", momentum_decay >= 0.0)
        super().__init__(params, {
            "lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "momentum_decay": momentum_decay,
            "decoupled_weight_decay": decoupled_weight_decay, "maximize": maximize, "foreach": foreach,
            "capturable": capturable, "differentiable": differentiable,
        })  # fmt: skip

    def new_state(self, param: Tensor, group: Group) -> dict[str, Tensor]:
        return {**_moments(param), "mu_product": ones((), dtype=dtypes.f32)}

    def update(
        self, param: Tensor, grad: Tensor, state: dict[str, Tensor], numbers: Numbers, flags: dict[str, bool]
    ) -> None:
        count = advance(state["step"])
        lr, beta1, decay = numbers("lr"), numbers("betas", 0), numbers("momentum_decay")
        momentum = (1.0 - _power_of_096(count * decay) * 0.5) * beta1
        coming = (1.0 - _power_of_096((count + 1.0) * decay) * 0.5) * beta1
        product = state["mu_product"].mul_(momentum)
        if not isinstance(count, Tensor):
            product = product.item()
        mean, square = _follow(grad, state, numbers)
        root = (square / (1.0 - numbers.power("betas", 1, count))).sqrt() + numbers("eps")
        param.sub_(grad / root * (lr * (1.0 - momentum) / (1.0 - product)))
        param.sub_(to_be_read(mean) / root * (lr * coming / (1.0 - product * coming)))


_LOG_096 = -0.040821994520255166  # log(0.96)


def _power_of_096(exponent: Any) -> Any:
    return (exponent * _LOG_096).exp() if isinstance(exponent, Tensor) else 0.96**exponent


class RAdam(PerParameter):
    """L. Liu et al., "On the Variance of the Adaptive Learning Rate and Beyond", 2019."""

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        decoupled_weight_decay: bool = False,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
    ):
        _check(lr, eps, betas, weight_decay)
        super().__init__(params, {
            "lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "maximize": maximize,
            "foreach": foreach, "capturable": capturable, "decoupled_weight_decay": decoupled_weight_decay,
            "differentiable": differentiable,
        })  # fmt: skip

    def new_state(self, param: Tensor, group: Group) -> dict[str, Tensor]:
        return _moments(param)

    def update(
        self, param: Tensor, grad: Tensor, state: dict[str, Tensor], numbers: Numbers, flags: dict[str, bool]
    ) -> None:
        count = advance(state["step"])
        lr, beta2 = numbers("lr"), numbers("betas", 1)
        mean, square = _follow(grad, state, numbers)
        correction1 = 1.0 - numbers.power("betas", 0, count)
        power2 = numbers.power("betas", 1, count)
        correction2 = 1.0 - power2
        longest = 2.0 / (1.0 - beta2) - 1.0
        length = longest - count * 2.0 * power2 / correction2
        step = mean / correction1 * lr
        squared_factor = (
            (length - 4.0) * (length - 2.0) * longest / ((longest - 4.0) * (longest - 2.0) * length)
        )
        adapted = correction2**0.5 / (square.sqrt() + numbers("eps"))
        if isinstance(length, Tensor):
            # Where the length is short the factor is not a number, and not taken.
            param.sub_(where(length > 5.0, step * adapted * squared_factor**0.5, step))
        elif length > 5.0:
            param.sub_(step * adapted * squared_factor**0.5)
        else:
            param.sub_(step)
