"""Stochastic gradient descent, with momentum."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from .. import capture
from ..creation import zeros_like
from ..tensor import Tensor
from .optimizer import Group, GroupReader, Optimizer, recorded_if_differentiable


def _facts(group: Group) -> tuple[Any, ...]:
    return (
        group["momentum"] != 0,
        group["dampening"] != 0,
        group["weight_decay"] != 0,
        bool(group["nesterov"]),
        bool(group["maximize"]),
    )


class SGD(Optimizer):
    """p -= lr * v, v = momentum * v + (1 - dampening) * g, where v starts as the first g.

    `nesterov` steps along g + momentum * v (I. Sutskever et al., "On the importance of initialization and
    momentum in deep learning", 2013). `weight_decay` adds weight_decay * p to g. `foreach` and `fused` are
    accepted and ignored: a compiled step is one kernel.
    """

    def __init__(
        self,
        params: Any,
        lr: float | Tensor = 1e-3,
        momentum: float = 0,
        dampening: float = 0,
        weight_decay: float = 0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        differentiable: bool = False,
        fused: bool | None = None,
    ):
        if isinstance(lr, Tensor) and lr.numel() != 1:
            raise ValueError("Tensor lr must be 1-element")
        if lr < 0.0:
            raise ValueError(f"Invalid learning rate: {lr}")
        if momentum < 0.0:
            raise ValueError(f"Invalid momentum value: {momentum}")
        if weight_decay < 0.0:
            raise ValueError(f"Invalid weight_decay value: {weight_decay}")
        if differentiable and fused:
            raise RuntimeError("`fused` does not support `differentiable`")
        if nesterov and (momentum <= 0 or dampening != 0):
            raise ValueError("Nesterov momentum requires a momentum and zero dampening")
        defaults = {
            "lr": lr,
            "momentum": momentum,
            "dampening": dampening,
            "weight_decay": weight_decay,
            "nesterov": nesterov,
            "maximize": maximize,
            "foreach": foreach,
            "differentiable": differentiable,
            "fused": fused,
        }
        super().__init__(params, defaults)

    @recorded_if_differentiable
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        loss = self._loss(closure)
        self._update_groups()
        return loss

    def _update(self, group: Group, reader: GroupReader) -> None:
        facts = "momentum != 0, dampening != 0, weight_decay != 0, nesterov, maximize"
        has_momentum, has_dampening, has_decay, nesterov, maximize = reader.structure(_facts, facts)
        lr = reader.number("lr", _lr)
        momentum = reader.number("momentum", _momentum) if has_momentum else 0.0
        decay = reader.number("weight_decay", _weight_decay) if has_decay else 0.0
        kept = 1.0 - reader.number("dampening", _dampening) if has_momentum and has_dampening else 1
        for param in group["params"]:
            grad = param.grad
            if grad is None:
                continue
            if maximize:
                grad = -grad
            if has_decay:
                grad = grad.add(param, alpha=decay)
            if has_momentum:
                state = self.state[param]
                velocity = state.get("momentum_buffer")
                if velocity is None:
                    # A recorded step does not record this: the first velocity is a number, as in PyTorch.
                    velocity = capture.create_state(partial(zeros_like, param))
                    state["momentum_buffer"] = velocity
                    if has_dampening:
                        # The first gradient counts in full, so this step is other code than the next one.
                        velocity.copy_(grad.detach())
                        self.state_version += 1
                    else:
                        velocity.mul_(momentum).add_(grad.detach())
                else:
                    velocity.mul_(momentum).add_(grad, alpha=kept)
                grad = grad.add(velocity, alpha=momentum) if nesterov else velocity
            param.sub_(grad * lr)


def _lr(group: Group) -> Any:
    return group["lr"]


def _momentum(group: Group) -> Any:
    return group["momentum"]


def _dampening(group: Group) -> Any:
    return group["dampening"]


def _weight_decay(group: Group) -> Any:
    return group["weight_decay"]
