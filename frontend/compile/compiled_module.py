"""`torch.compile` of a module."""

from __future__ import annotations

import inspect
from typing import Any

from ..nn.modules.module import Module
from .compiled import CompiledFunction


class CompiledModule(Module):
    """A module whose forward is compiled; everything else is the original's. Made by `torch.compile(module)`."""

    def __init__(self, module: Module, **options: Any):
        super().__init__()
        self._orig_mod = module
        object.__setattr__(
            self, "_compiled", CompiledFunction(_Forward(module), name=type(module).__name__, **options)
        )

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self._compiled(*args, **kwargs)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._compiled(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(self._modules["_orig_mod"], name)

    def train(self, mode: bool = True) -> CompiledModule:
        self._orig_mod.train(mode)
        self.training = mode
        return self

    report = property(lambda self: self._compiled.report)
    explain = property(lambda self: self._compiled.explain)
    check = property(lambda self: self._compiled.check)
    graph = property(lambda self: self._compiled.graph)
    loops = property(lambda self: self._compiled.loops)
    llvm = property(lambda self: self._compiled.llvm)
    assembly = property(lambda self: self._compiled.assembly)


class _Forward:
    """Calls a module, hooks and all, under the forward method's signature."""

    def __init__(self, module: Module):
        self.module = module
        self.__signature__ = inspect.signature(module.forward)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.module(*args, **kwargs)
