"""Layers that learn the size of their input from the first one."""

from __future__ import annotations

from itertools import chain
from typing import Any

from ... import capture
from ...autograd.grad_mode import no_grad
from ..parameter import is_lazy
from .module import Module
from .state_dict import own_state
from .structure import changed


class LazyModuleMixin(Module):
    """Stands before a layer's class: parameters are uninitialized until the first call, whose input
    `initialize_parameters` reads. Then the module becomes one of `cls_to_become`."""

    cls_to_become: type[Module] | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._load_hook = self._register_load_state_dict_pre_hook(self._lazy_load_hook)
        self._initialize_hook = self.register_forward_pre_hook(self._infer_parameters, with_kwargs=True)

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        for name, tensor in own_state(self).items():
            destination[prefix + name] = tensor if keep_vars or is_lazy(tensor) else tensor.detach()

    def _lazy_load_hook(self, state_dict: Any, prefix: str, *rest: Any) -> None:
        """Before loading: what the dict has values for gets their shape."""
        for name, own in chain(self._parameters.items(), self._buffers.items()):
            given = state_dict.get(prefix + name)
            if is_lazy(own) and given is not None and not is_lazy(given):
                with no_grad():
                    own.materialize(given.shape)  # type: ignore[union-attr]

    def initialize_parameters(self, *args: Any, **kwargs: Any) -> None:
        """Give the parameters the shape that suits the forward's arguments."""
        raise NotImplementedError(f"initialize_parameters is not implemented for {type(self).__name__}")

    def has_uninitialized_params(self) -> bool:
        """Whether a parameter or buffer still waits for the first input."""
        return any(map(is_lazy, chain(self._parameters.values(), self._buffers.values())))

    def _infer_parameters(self, module: Any, args: Any, kwargs: Any = None) -> None:
        traced = capture.active() is not None

        def initialize() -> None:
            module.initialize_parameters(*args, **(kwargs or {}))

        capture.create_state(initialize)
        if module.has_uninitialized_params():
            raise RuntimeError(f"module {self._get_name()} has not been fully initialized")
        for hook in ("_initialize_hook", "_load_hook"):
            getattr(module, hook).remove()
            delattr(module, hook)
        if module.cls_to_become is not None:
            module.__class__ = module.cls_to_become
        changed()
        if traced:
            raise capture.TraceAgain(module)


__all__ = ["LazyModuleMixin"]
