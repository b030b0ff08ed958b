"""What a tensor inside `vmap` holds in place of memory (`func/batched.py` computes with it)."""

from __future__ import annotations

from typing import Any

from .tensor import Tensor


class Batched:
    """The tensor below, with the batch as dim 0 if `batched`.

    `owner`: the vmap. `spread`: the state of a random op, which is to draw the numbers of all samples in one go.
    """

    __slots__ = ("batched", "lower", "owner", "spread")

    def __init__(self, owner: Any, lower: Tensor, batched: bool, spread: bool = False):
        self.owner = owner
        self.lower = lower
        self.batched = batched
        self.spread = spread


def under_vmaps(tensor: Tensor) -> Tensor:
    """The tensor that has the memory: itself, or the one of all samples below every vmap."""
    while type(tensor._value) is Batched:
        tensor = tensor._value.lower
    return tensor
