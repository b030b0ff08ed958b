"""The part of `torch.fx` that model code uses without tracing anything: marks for PyTorch's tracer.

Models are captured by `vitrify.compile`, whose graphs are `vitrify.ir`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class GraphModule:
    """What PyTorch's symbolic tracer gives: NotImplementedError where one is made."""

    def __init__(self, *args: Any, **kwargs: Any):
        raise NotImplementedError("torch.fx.GraphModule is not in vitrify: vitrify.compile captures models")


def wrap(fn_or_name: str | Callable[..., Any]) -> Any:
    """Mark a function as a leaf for PyTorch's symbolic tracer: nothing to do here.

    Reference: https://docs.pytorch.org/docs/stable/fx.html#torch.fx.wrap
    """
    if not callable(fn_or_name) and not isinstance(fn_or_name, str):
        raise RuntimeError("Unsupported type for global function! Must be either a callable or string name")
    return fn_or_name
