"""Small functions of `torch.utils` about Python objects."""

from __future__ import annotations

from typing import Any

from ..tensor import Tensor


def set_module(obj: Any, mod: Any) -> None:
    """Set the module that the object says it is from."""
    if not isinstance(mod, str):
        raise TypeError("The mod argument should be a string")
    obj.__module__ = mod


def swap_tensors(t1: Tensor, t2: Tensor) -> None:
    """Exchange everything about two tensors, class and history included: each name now means the other."""
    for number, tensor in enumerate((t1, t2), 1):
        if tensor._extra is not None and tensor._extra.accumulator is not None:
            accumulator = tensor._extra.accumulator()
            if accumulator is not None:
                raise RuntimeError(
                    f"Cannot swap t{number} because it has an AccumulateGrad node, which a graph refers to"
                )
    t1.__class__, t2.__class__ = t2.__class__, t1.__class__
    t1.__dict__, t2.__dict__ = t2.__dict__, t1.__dict__
    for name in Tensor.__slots__:
        if name not in ("__dict__", "__weakref__"):
            first, second = getattr(t1, name), getattr(t2, name)
            setattr(t1, name, second)
            setattr(t2, name, first)


__all__ = ["set_module", "swap_tensors"]
