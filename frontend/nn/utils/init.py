"""Modules whose parameters are not initialized."""

from __future__ import annotations

import inspect
from typing import Any

from ...generator import default_generator
from ..modules.module import Module


def skip_init(module_cls: type[Module], *args: Any, **kwargs: Any) -> Module:
    """`module_cls(*args, **kwargs)` for parameters that will be overwritten. The generator is left as it was."""
    if not issubclass(module_cls, Module):
        raise RuntimeError(f"Expected a Module; got {module_cls}")
    if "device" not in inspect.signature(module_cls).parameters:
        raise RuntimeError("Module must support a 'device' arg to skip initialization")
    before = default_generator.state_bytes()
    try:
        return module_cls(*args, **kwargs)
    finally:
        default_generator.set_state_bytes(before)


__all__ = ["skip_init"]
