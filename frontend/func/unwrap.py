"""Looking through a vmap's tensor, for debugging."""

from __future__ import annotations

from ..batched_values import Batched
from ..tensor import Tensor


def debug_unwrap(tensor: Tensor, *, recurse: bool = True) -> Tensor:
    """The tensor of all samples that a tensor inside `vmap` stands for (through all levels, or one)."""
    value = tensor._value
    if type(value) is not Batched:
        return tensor
    return debug_unwrap(value.lower) if recurse else value.lower
