"""Positions in triangles, and memory laid out on request."""

from __future__ import annotations

from typing import Any

import numpy as np

from .arguments import as_int
from .creation import check_options, empty, leaf
from .functional_memory import as_strided
from .functional_shape import permute
from .ir import dtypes
from .ir.dtypes import DType
from .nested_data import dtype_or
from .tensor import Tensor, wrap


def _triangle(
    row: int, col: int, offset: int, lower: bool, dtype: Any, device: Any, requires_grad: bool
) -> Tensor:
    check_options(dtype, device)
    for name, size in (("row", row), ("col", col)):
        if size < 0:
            raise RuntimeError(f"{name} must be non-negative, got{size}")
    rows, columns = np.indices((row, col)).reshape(2, -1)
    inside = columns - rows <= offset if lower else columns - rows >= offset
    found = np.stack((rows[inside], columns[inside])).astype(dtype_or(dtype, dtypes.i64).numpy)
    return leaf(wrap(found), requires_grad)


def tril_indices(
    row: int, col: int, offset: int = 0, *, dtype: DType | None = None, device: Any = "cpu", layout: Any = None,
    pin_memory: bool = False, requires_grad: bool = False,
) -> Tensor:  # fmt: skip
    """The rows and columns (two rows of the result) of the elements on and below a diagonal."""
    return _triangle(row, col, offset, True, dtype, device, requires_grad)


def triu_indices(
    row: int, col: int, offset: int = 0, *, dtype: DType | None = None, device: Any = "cpu", layout: Any = None,
    pin_memory: bool = False, requires_grad: bool = False,
) -> Tensor:  # fmt: skip
    """The rows and columns (two rows of the result) of the elements on and above a diagonal."""
    return _triangle(row, col, offset, False, dtype, device, requires_grad)


def empty_strided(
    size: Any, stride: Any, *, dtype: DType | None = None, layout: Any = None, device: Any = None,
    requires_grad: bool = False, pin_memory: bool = False,
) -> Tensor:  # fmt: skip
    """Undefined elements (here 0) that lie `stride` apart in new memory."""
    shape, steps = tuple(map(as_int, size)), tuple(map(as_int, stride))
    if len(shape) != len(steps):
        raise RuntimeError(
            f"dimensionality of sizes ({len(shape)}) must match dimensionality of strides ({len(steps)})"
        )
    last = 0 if 0 in shape else 1 + sum((n - 1) * step for n, step in zip(shape, steps))
    memory = empty(last, dtype=dtype, device=device)
    return leaf(as_strided(memory, shape, steps)._alias(), requires_grad)


def empty_permuted(
    size: Any, physical_layout: Any, *, dtype: DType | None = None, layout: Any = None, device: Any = None,
    requires_grad: bool = False, pin_memory: bool = False,
) -> Tensor:  # fmt: skip
    """Undefined elements (here 0) without gaps, the dims in memory in the order of `physical_layout`."""
    shape, order = tuple(map(as_int, size)), tuple(map(as_int, physical_layout))
    if len(shape) != len(order):
        raise RuntimeError(
            f"Number of dimensions in size does not match the length of the physical_layout; i.e. len(size) = "
            f"{len(shape)} is not equal to len(physical_layout) = {len(order)}"
        )
    if sorted(order) != list(np.arange(len(order))):
        raise RuntimeError("Duplicate dim not allowed")
    memory = empty(tuple(shape[d] for d in order), dtype=dtype, device=device)
    back = tuple(sorted(np.arange(len(order)).tolist(), key=order.__getitem__))
    return leaf(permute(memory, back)._alias(), requires_grad)


# The names of `torch` that are defined here.
__all__ = ["empty_permuted", "empty_strided", "tril_indices", "triu_indices"]
