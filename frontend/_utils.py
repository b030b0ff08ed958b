"""`torch._utils`: what libraries import of it."""

from __future__ import annotations

from collections.abc import Sequence

from .functional_shape import cat, reshape
from .functional_slices import split
from .tensor import Tensor


def _flatten_dense_tensors(tensors: Sequence[Tensor]) -> Tensor:
    """All elements, one tensor's after the other's."""
    return cat([reshape(t, (-1,)) for t in tensors])


def _unflatten_dense_tensors(flat: Tensor, tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Views of `flat`, as many and of the same shapes as the tensors."""
    parts = split(flat, [t.numel() for t in tensors])
    return tuple(part.view(t.shape) for part, t in zip(parts, tensors))


__all__ = ["_flatten_dense_tensors", "_unflatten_dense_tensors"]
