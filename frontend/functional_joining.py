"""Tensors put together: side by side, in blocks, as products of their elements, as all combinations."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations as choose
from itertools import combinations_with_replacement
from typing import Any

import numpy as np

from .arguments import as_int, tensor_argument, tensors_argument
from .dispatch import apply, op_named
from .functional_arithmetic import floor_divide, mul, remainder
from .functional_cumulative import cumprod
from .functional_shape import (
    cat,
    expand,
    flip,
    ravel,
    reshape,
    shape_text,
    stack,
    unsqueeze,
)
from .inplace import finish
from .ir import dtypes
from .promotion import as_operand, convert, result_dtype
from .tensor import Tensor, wrap

_PAD, _INDEX_SELECT, _FULL = map(op_named, ("pad", "index_select", "full"))


def _parts(tensors: Any, name: str) -> list[Tensor]:
    parts = tensors_argument(tensors, name)
    if not parts:
        raise RuntimeError(f"{name} expects a non-empty TensorList")
    return parts


def atleast_1d(*tensors: Any) -> Any:
    """Numbers as vectors, the rest as they are; several tensors as a tuple."""
    given = tensors[0] if len(tensors) == 1 and isinstance(tensors[0], Sequence) else tensors
    found = tuple(x if x.ndim else reshape(x, (1,)) for x in given)
    return found[0] if len(tensors) == 1 and isinstance(tensors[0], Tensor) else found


def atleast_2d(*tensors: Any) -> Any:
    """Vectors as rows, numbers as 1 x 1 matrices, the rest as they are; several tensors as a tuple."""
    given = tensors[0] if len(tensors) == 1 and isinstance(tensors[0], Sequence) else tensors
    found = tuple(x if x.ndim > 1 else unsqueeze(x, 0) if x.ndim else reshape(x, (1, 1)) for x in given)
    return found[0] if len(tensors) == 1 and isinstance(tensors[0], Tensor) else found


def vstack(tensors: Sequence[Tensor], *, out: Tensor | None = None) -> Tensor:
    """Rows on top of one another."""
    return cat([atleast_2d(x) for x in _parts(tensors, "vstack")], 0, out=out)


row_stack = vstack


def hstack(tensors: Sequence[Tensor], *, out: Tensor | None = None) -> Tensor:
    """Side by side."""
    parts = [atleast_1d(x) for x in _parts(tensors, "hstack")]
    return cat(parts, 0 if parts[0].ndim == 1 else 1, out=out)


def dstack(tensors: Sequence[Tensor], *, out: Tensor | None = None) -> Tensor:
    """Behind one another."""
    return cat([atleast_3d(x) for x in _parts(tensors, "dstack")], 2, out=out)


def column_stack(tensors: Sequence[Tensor], *, out: Tensor | None = None) -> Tensor:
    """Side by side, vectors and numbers as columns."""
    parts = [x if x.ndim > 1 else reshape(x, (-1, 1)) for x in _parts(tensors, "column_stack")]
    return cat(parts, 1, out=out)


def atleast_3d(*tensors: Any) -> Any:
    """With dims of size 1 before and after, so that there are three; several tensors as a tuple."""
    given = tensors[0] if len(tensors) == 1 and isinstance(tensors[0], Sequence) else tensors
    found = tuple(
        x if x.ndim > 2 else unsqueeze(x, -1) if x.ndim == 2 else reshape(x, (1, -1, 1)) for x in given
    )
    return found[0] if len(tensors) == 1 and isinstance(tensors[0], Tensor) else found


def block_diag(*tensors: Tensor) -> Tensor:
    """A matrix with the matrices (or rows, or numbers) along its diagonal, the rest 0."""
    for number, x in enumerate(tensors):
        tensor_argument(x, "block_diag", f"tensors[{number}]")
        if x.ndim > 2:
            raise RuntimeError(
                f"torch.block_diag: Input tensors must have 2 or fewer dimensions. Input {number} has {x.ndim} "
                "dimensions"
            )
    if not tensors:
        made: Tensor = apply(_FULL, (), {"shape": (1, 0), "value": 0, "dtype": dtypes.f32})
        return made
    dtype = result_dtype(*tensors)
    blocks = [as_operand(atleast_2d(x), dtype) for x in tensors]
    width, left, rows = sum(as_int(x.shape[1]) for x in blocks), 0, []
    for block in blocks:
        right = width - left - as_int(block.shape[1])
        rows.append(apply(_PAD, (block,), {"low": (0, left), "high": (0, right), "value": 0}))
        left += as_int(block.shape[1])
    return cat(rows, 0)


def meshgrid(*tensors: Any, indexing: str = "ij") -> tuple[Tensor, ...]:
    """Grids of coordinates: one tensor per vector, of the shape that they span."""
    vectors = list(tensors[0]) if len(tensors) == 1 and isinstance(tensors[0], Sequence) else list(tensors)
    if indexing not in ("ij", "xy"):
        raise RuntimeError(f'torch.meshgrid: indexing must be one of "xy" or "ij", but received: {indexing}')
    for x in vectors:
        if x.ndim > 1:
            raise RuntimeError(
                f"torch.meshgrid: Expected 0D or 1D tensor in the tensor list but got: {x.ndim}D"
            )
    swap = indexing == "xy" and len(vectors) >= 2
    if swap:
        vectors[0], vectors[1] = vectors[1], vectors[0]
    shape = tuple(x.shape[0] if x.ndim else 1 for x in vectors)
    grids = [
        expand(reshape(x, (1,) * i + (-1,) + (1,) * (len(shape) - i - 1)), shape)
        for i, x in enumerate(vectors)
    ]
    if swap:
        grids[0], grids[1] = grids[1], grids[0]
    return tuple(grids)


def cartesian_prod(*tensors: Any) -> Tensor:
    """All ways of taking one element of each vector, a row each."""
    vectors = list(tensors[0]) if len(tensors) == 1 and isinstance(tensors[0], Sequence) else list(tensors)
    for x in vectors:
        if x.ndim != 1:
            raise RuntimeError(f"Expect a 1D vector, but got shape {shape_text(tuple(x.shape))}")
    if len(vectors) == 1:
        return vectors[0]
    return stack([ravel(grid) for grid in meshgrid(*vectors, indexing="ij")], 1)


def combinations(input: Tensor, r: int = 2, with_replacement: bool = False) -> Tensor:
    """All ways of taking r elements of the vector, in order, a row each."""
    if input.ndim != 1:
        raise RuntimeError(f"Expect a 1D vector, but got shape {shape_text(tuple(input.shape))}")
    if r < 0:
        raise RuntimeError(f"Expect a non-negative number, but got {r}")
    if r == 0:
        made: Tensor = apply(_FULL, (), {"shape": (0,), "value": 0, "dtype": input.dtype})
        return made
    ways = (combinations_with_replacement if with_replacement else choose)(range(as_int(input.shape[0])), r)
    rows = np.array(list(ways), np.int64).reshape(-1, r)
    found: Tensor = apply(_INDEX_SELECT, (input, wrap(rows)), {"dim": 0})
    return found


def vander(x: Tensor, N: int | None = None, increasing: bool = False) -> Tensor:
    """The matrix of the powers of a vector's elements: N columns, falling from the left."""
    if x.ndim != 1:
        raise RuntimeError("x must be a one-dimensional tensor.")
    if N is not None and N < 0:
        raise RuntimeError("N must be non-negative.")
    count = as_int(x.shape[0]) if N is None else N
    base = x if x.dtype.is_floating_point or x.dtype.is_complex else convert(x, dtypes.i64)
    first = {"shape": (x.shape[0], min(count, 1)), "value": 1, "dtype": base.dtype}
    powers = apply(_FULL, (), first)
    if count > 1:
        wide = expand(unsqueeze(base, 1), (x.shape[0], count - 1))
        powers = cat([powers, cumprod(wide, 1)], 1)
    return powers if increasing else flip(powers, 1)


def kron(input: Tensor, other: Tensor, *, out: Tensor | None = None) -> Tensor:
    """Kronecker's product: each element of the input times the whole of the other."""
    rank = max(input.ndim, other.ndim)
    shapes = [(1,) * (rank - x.ndim) + tuple(x.shape) for x in (input, other)]
    apart = [
        reshape(input, tuple(d for n in shapes[0] for d in (n, 1))),
        reshape(other, tuple(d for n in shapes[1] for d in (1, n))),
    ]
    found = reshape(mul(*apart), tuple(a * b for a, b in zip(*shapes)))
    return finish(found, out, "kron")


def unravel_index(indices: Tensor, shape: Any) -> tuple[Tensor, ...]:
    """Where in a tensor of the shape the elements lie that are counted through it: an index tensor per dim."""
    if not isinstance(indices, Tensor) or not indices.dtype.is_integral or indices.dtype is dtypes.bool_:
        found = indices.dtype if isinstance(indices, Tensor) else type(indices).__name__
        raise TypeError(f"expected 'indices' to be integer dtype, but got {found}")
    sizes = (shape,) if isinstance(shape, int) else tuple(map(as_int, shape))
    for size in sizes:
        if size < 0:
            raise ValueError(f"'shape' cannot have negative values, but got {sizes}")
    parts: list[Tensor] = []
    step = 1
    for size in reversed(sizes):
        parts.append(remainder(floor_divide(indices, step), size))
        step *= size
    return tuple(reversed(parts))


def constant_pad_nd(input: Tensor, pad: Any, value: Any = 0) -> Tensor:
    """The tensor with `value` around it: `pad` counts before and after the last dim, then the one before ..."""
    counts = list(map(as_int, pad))
    if len(counts) % 2:
        raise RuntimeError(f"Length of pad must be even but instead it equals {len(counts)}")
    if len(counts) > 2 * input.ndim:
        raise RuntimeError(
            f"Length of pad should be no more than twice the number of dimensions of the input. Pad length is "
            f"{len(counts)}while the input has {input.ndim}dimensions."
        )
    low, high = [0] * input.ndim, [0] * input.ndim
    for number in range(len(counts) // 2):
        low[-1 - number], high[-1 - number] = counts[2 * number], counts[2 * number + 1]
    found: Tensor = apply(_PAD, (input,), {"low": tuple(low), "high": tuple(high), "value": value})
    return found


# The names of `torch` that are defined here.
__all__ = [
    "atleast_1d", "atleast_2d", "atleast_3d", "block_diag", "cartesian_prod", "column_stack", "combinations",
    "constant_pad_nd", "dstack", "hstack", "kron", "meshgrid", "row_stack", "unravel_index", "vander", "vstack",
]  # fmt: skip
