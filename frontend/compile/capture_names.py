"""Readable names for the tensors a compiled function meets outside its arguments."""

from __future__ import annotations

import types
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from ..nn.modules.module import Module
from ..optim.optimizer import Optimizer
from ..tensor import Tensor
from .guards.optimizers import is_users_optimizer
from .guards.values import is_plain


def closed_over(fn: Any) -> Iterator[tuple[str, Callable[[], Any]]]:
    """(name, getter) of what the function reads from outside: closure cells, globals it names, a bound `self`."""
    fn = getattr(fn, "__wrapped__", fn)
    if isinstance(fn, types.MethodType):
        owner = fn.__self__
        yield "self", lambda: owner
        fn = fn.__func__
    code = getattr(fn, "__code__", None)
    if code is None:
        module = getattr(fn, "module", None)
        if module is not None:
            yield "", lambda: module
        return
    for name, cell in zip(code.co_freevars, fn.__closure__ or ()):
        yield name, _cell_getter(cell)
    names = _global_names(code)
    for name in names:
        if name in fn.__globals__:
            yield name, _global_getter(fn.__globals__, name)


def _global_names(code: types.CodeType) -> list[str]:
    found = list(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            found += _global_names(constant)
    return list(dict.fromkeys(found))


def _cell_getter(cell: types.CellType) -> Callable[[], Any]:
    def get() -> Any:
        try:
            return cell.cell_contents
        except ValueError:
            return None

    return get


def _global_getter(space: dict[str, Any], name: str) -> Callable[[], Any]:
    return lambda: space.get(name)


class Describer:
    """Names tensors by where the function reaches them: `conv1.weight`, `conv1.weight.momentum_buffer`, `mask`."""

    def __init__(self, fn: Any):
        self._modules: list[tuple[str, Module]] = []
        self._optimizers: list[tuple[str, Optimizer]] = []
        self._tensors: list[tuple[str, Tensor]] = []
        for name, get in closed_over(fn):
            value = get()
            if isinstance(value, Module):
                self._modules.append((name, value))
            elif isinstance(value, Optimizer):
                self._optimizers.append((name, value))
            elif isinstance(value, Tensor):
                self._tensors.append((name, value))
            elif name == "self" and hasattr(value, "__dict__"):
                for attribute, inner in vars(value).items():
                    if isinstance(inner, Module):
                        self._modules.append((attribute, inner))
                    elif isinstance(inner, Optimizer):
                        self._optimizers.append((attribute, inner))
        self._names: dict[int, str] = {}
        single = len(self._modules) == 1
        for prefix, module in self._modules:
            for table in (module.named_parameters(), module.named_buffers()):
                for path, tensor in table:
                    full = path if single or not prefix else f"{prefix}.{path}"
                    self._names.setdefault(id(tensor), full)
        for name, tensor in self._tensors:
            self._names.setdefault(id(tensor), name)
        self._captured = 0

    def hyperparameters(self) -> list[tuple[str, Callable[[], Any], Any]]:
        """(name, getter, value now) of the numbers in the parameter groups of vitrify's optimizers."""
        return [
            (f"{name}.param_groups[{i}][{key!r}]", partial(group.get, key), value)
            for name, optimizer in self._optimizers
            if not is_users_optimizer(optimizer)
            for i, group in enumerate(optimizer.param_groups)
            for key, value in group.items()
            if is_plain(value)
        ]

    def __call__(self, tensor: Tensor) -> str:
        if id(tensor) not in self._names:
            self._name_optimizer_state()
        known = self._names.get(id(tensor))
        if known is None:
            known = self._names[id(tensor)] = f"captured.{self._captured}"
            self._captured += 1
        return known

    def _name_optimizer_state(self) -> None:
        """Names for what optimizers hold by now."""
        for name, optimizer in self._optimizers:
            for parameter, state in optimizer.state.items():
                owner = self._names.get(id(parameter), name)
                for key, value in state.items():
                    if isinstance(value, Tensor):
                        self._names.setdefault(id(value), f"{owner}.{key}")
            for group in optimizer.param_groups:
                for parameter in group["params"]:
                    if parameter._grad is not None:
                        owner = self._names.get(id(parameter), name)
                        self._names.setdefault(id(parameter._grad), f"{owner}.grad")
