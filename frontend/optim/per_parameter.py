"""Optimizers that update each parameter by a formula of its own gradient and state."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache, partial
from typing import Any

from .. import capture
from ..creation import tensor
from ..functional_complex import as_reals, view_as_complex
from ..ir import dtypes
from ..tensor import Tensor
from .optimizer import Group, GroupReader, Optimizer, recorded_if_differentiable


class Numbers:
    """A group's hyper-parameters: `numbers("lr")`, `numbers("betas", 0)`; floats, or 0-d tensors in a compiled step."""

    def __init__(self, reader: GroupReader):
        self._reader = reader

    def __call__(self, key: str, index: int | None = None) -> Any:
        return self._reader.number(key if index is None else f"{key}{index}", _entry(key, index))

    def missing(self, key: str, index: int) -> bool:
        """Whether the entry is None; compiled code is made for the answer."""
        (found,) = self._reader.structure(_is_none(key, index), f"{key}{index} is None")
        return bool(found)

    def constants(self, *keys: str) -> tuple[Any, ...]:
        """Entries that decide which code runs; compiled code is made for their values."""
        return self._reader.structure(_entries(keys), ", ".join(keys))

    def power(self, key: str, index: int, count: Any) -> Any:
        """The hyper-parameter to the power of a step count; from its logarithm, taken on the host, when compiled."""
        if not isinstance(count, Tensor):
            return self(key, index) ** count
        return (count * self._reader.number(f"log_{key}{index}", _log_entry(key, index))).exp()


# One function for each entry: a compiled step knows a number by the function that reads it.
@cache
def _entry(key: str, index: int | None) -> Callable[[Group], Any]:
    return (lambda group: group[key]) if index is None else (lambda group: group[key][index])


@cache
def _is_none(key: str, index: int) -> Callable[[Group], tuple[bool]]:
    return lambda group: (group[key][index] is None,)


@cache
def _entries(keys: tuple[str, ...]) -> Callable[[Group], tuple[Any, ...]]:
    return lambda group: tuple(group[key] for key in keys)


@cache
def _log_entry(key: str, index: int) -> Callable[[Group], float]:
    return lambda group: math.log(group[key][index]) if group[key][index] > 0.0 else -math.inf


class PerParameter(Optimizer):
    """Subclasses say what state a parameter has and how one step changes it.

    `flags`: the hyper-parameters that decide which code runs, beside weight_decay and maximize.
    """

    flags: tuple[str, ...] = ()
    own_decay = False  # whether `update` does the weight decay itself

    def __init__(self, params: Any, defaults: dict[str, Any]):
        if defaults.get("differentiable") and defaults.get("fused"):
            raise RuntimeError("`fused` does not support `differentiable`")
        super().__init__(params, defaults)

    def new_state(self, param: Tensor, group: Group) -> dict[str, Tensor]:
        """What is kept for a parameter, before its first step."""
        raise NotImplementedError

    def state_for(self, param: Tensor, group: Group) -> dict[str, Tensor]:
        """`new_state`; of a complex parameter that of its parts, kept as complex numbers."""
        if not param.dtype.is_complex:
            return self.new_state(param, group)
        parts = as_reals(param.detach())
        made = self.new_state(parts, group)
        return {
            name: view_as_complex(value).clone() if tuple(value.shape) == tuple(parts.shape) else value
            for name, value in made.items()
        }

    def update(
        self, param: Tensor, grad: Tensor, state: dict[str, Tensor], numbers: Numbers, flags: dict[str, bool]
    ) -> None:
        """One step of one parameter, in place. `grad` has the weight decay in it."""
        raise NotImplementedError

    @recorded_if_differentiable
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        loss = self._loss(closure)
        self._update_groups()
        return loss

    def _update(self, group: Group, reader: GroupReader) -> None:
        names = ("weight_decay", "maximize", "decoupled_weight_decay", *self.flags)
        flags = dict(zip(names, reader.structure(_flags(names), ", ".join(names))))
        self._update_group(group, Numbers(reader), flags)

    def _update_group(self, group: Group, numbers: Numbers, flags: dict[str, bool]) -> None:
        for param in group["params"]:
            grad = param.grad
            if grad is None:
                continue
            state = self.state[param]
            if not state:
                state.update(capture.create_state(partial(self.state_for, param, group)))
            if flags["maximize"]:
                grad = -grad
            if self.own_decay:
                pass
            elif flags["weight_decay"] and flags["decoupled_weight_decay"]:
                param.mul_(1.0 - numbers("lr") * numbers("weight_decay"))
            elif flags["weight_decay"]:
                grad = grad.add(param, alpha=numbers("weight_decay"))
            if param.dtype.is_complex:
                seen = {name: as_reals(value) for name, value in state.items()}
                self.update(as_reals(param), as_reals(grad), seen, numbers, flags)
            else:
                self.update(param, grad, state, numbers, flags)


@cache
def _flags(names: tuple[str, ...]) -> Callable[[Group], tuple[bool, ...]]:
    return lambda group: tuple(bool(group.get(name)) for name in names)


def new_step() -> Tensor:
    """A step counter, as PyTorch keeps it."""
    return tensor(0.0, dtype=dtypes.f32)


def advance(step: Tensor) -> Any:
    """Count the step; the count, as a Python number or, in a compiled step, as a float64 tensor."""
    step.add_(1)
    return step.item() if capture.active() is None else step.to(dtypes.f64)


def check(value: Any, name: str, valid: bool) -> None:
    """ValueError naming the argument unless it is valid."""
    if not valid:
        raise ValueError(f"Invalid {name} value: {value}")


def check_lr(lr: Any) -> None:
    """ValueError for a negative rate or a tensor of several."""
    if isinstance(lr, Tensor) and lr.numel() != 1:
        raise ValueError("Tensor lr must be 1-element")
    if not lr >= 0.0:
        raise ValueError(f"Invalid learning rate: {lr}")


def check_betas(betas: tuple[float, float]) -> None:
    """ValueError for a factor outside [0, 1)."""
    for position, beta in enumerate(betas):
        if not 0.0 <= beta < 1.0:
            raise ValueError(f"Invalid beta parameter at index {position}: {beta}")
