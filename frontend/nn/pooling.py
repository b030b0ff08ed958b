"""Pooling whose windows follow from the result's size, by norms, and its inverse. The plain pools are in
`windows.py`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from ..arguments import not_implemented
from ..autocast import full_precision
from ..creation import zeros
from ..functional_indexing import gather
from ..functional_reductions import max as largest
from ..half_precision import in_float32
from ..ir.dims import Expr
from ..tensor import Tensor, wrap
from .windows import (
    Ints,
    avg_pool1d,
    avg_pool2d,
    avg_pool3d,
    batched,
    max_pool1d,
    max_pool2d,
    max_pool3d,
    spread,
)

Sizes = int | None | Sequence[int | None]
_AVG = {1: avg_pool1d, 2: avg_pool2d, 3: avg_pool3d}
_MAX = {1: max_pool1d, 2: max_pool2d, 3: max_pool3d}


def _wanted(x: Tensor, rank: int, output_size: Sizes) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The spatial sizes of the input and of the result."""
    have = tuple(int(n) for n in x.shape[x.ndim - rank :])
    asked = (
        (output_size,) * rank if output_size is None or isinstance(output_size, int) else tuple(output_size)
    )
    if len(asked) != rank:
        raise ValueError(
            "Input dimension should be at least " + str(len(asked) + 1)
            if len(asked) > rank
            else f"adaptive_pool{rank}d: output_size must be {rank}"
        )
    return have, tuple(n if size is None else size for n, size in zip(have, asked))


def _borders(have: int, want: int) -> list[tuple[int, int]]:
    """Where each window starts and stops: they overlap where the sizes do not divide."""
    return [(i * have // want, -((i + 1) * have // -want)) for i in range(want)]


def _divides(have: Sequence[int], want: Sequence[int]) -> bool:
    return all(w and h % w == 0 for h, w in zip(have, want))


def _averaging(have: int, want: int) -> np.ndarray[Any, Any]:
    """[have, want]: each column averages over its window."""
    matrix = np.zeros((have, want))
    for column, (start, stop) in enumerate(_borders(have, want)):
        matrix[start:stop, column] = 1.0 / (stop - start)
    return matrix


@in_float32
def _adaptive_avg(rank: int, input: Tensor, output_size: Sizes) -> Tensor:
    x, lone = batched(input, rank, f"adaptive_avg_pool{rank}d")
    if not x.dtype.is_floating_point:
        raise not_implemented(f"adaptive_avg_pool{rank}d", x)
    space = tuple(range(x.ndim - rank, x.ndim))
    if output_size in (1, (1,) * rank, [1] * rank) and any(isinstance(x.shape[d], Expr) for d in space):
        result = x.mean(space, keepdim=True)  # of any size
        return result.squeeze(0) if lone else result
    have, want = _wanted(x, rank, output_size)
    if _divides(have, want):
        kernel = tuple(h // w for h, w in zip(have, want))
        result = _AVG[rank](x, kernel, kernel)
    else:
        result = x
        for axis, (h, w) in enumerate(zip(have, want), x.ndim - rank):
            if h != w:
                matrix = wrap(_averaging(h, w).astype(x.dtype.numpy))
                result = result.transpose(axis, -1).matmul(matrix).transpose(axis, -1)
    return result.squeeze(0) if lone else result


def adaptive_avg_pool1d(input: Tensor, output_size: Sizes) -> Tensor:
    """Averages over windows that cover the input evenly; `None` keeps a size."""
    return _adaptive_avg(1, input, output_size)


def adaptive_avg_pool2d(input: Tensor, output_size: Sizes) -> Tensor:
    """Averages over windows that cover the input evenly; `None` keeps a size."""
    return _adaptive_avg(2, input, output_size)


@full_precision
def adaptive_avg_pool3d(input: Tensor, output_size: Sizes) -> Tensor:
    """Averages over windows that cover the input evenly; `None` keeps a size."""
    return _adaptive_avg(3, input, output_size)


def _window_table(have: Sequence[int], want: Sequence[int]) -> np.ndarray[Any, Any]:
    """[windows, elements]: the flat positions of each window's elements; short windows repeat their first."""
    positions: list[list[int]] = []
    borders = [_borders(h, w) for h, w in zip(have, want)]
    strides = [math.prod(have[i + 1 :]) for i in range(len(have))]
    for which in np.ndindex(*want):
        flat = np.zeros((), np.int64)
        for stride, windows, i in zip(strides, borders, which):
            flat = flat[..., None] + np.arange(*windows[i]) * stride
        positions.append(flat.reshape(-1).tolist())
    longest = max(map(len, positions))
    return np.array([p + p[:1] * (longest - len(p)) for p in positions], np.int64)


def _adaptive_max(rank: int, input: Tensor, output_size: Sizes, return_indices: bool) -> Any:
    x, lone = batched(input, rank, f"adaptive_max_pool{rank}d")
    have, want = _wanted(x, rank, output_size)
    if _divides(have, want):
        kernel = tuple(h // w for h, w in zip(have, want))
        found = _MAX[rank](x, kernel, kernel, return_indices=return_indices)
        result, indices = found if return_indices else (found, None)
    else:
        table = _window_table(have, want)
        lead = tuple(x.shape[: x.ndim - rank])
        flat = x.reshape(*lead, math.prod(have)).index_select(-1, wrap(table.reshape(-1)))
        result, position = largest(flat.reshape(*lead, *table.shape), -1)
        result, indices = result.reshape(*lead, *want), None
        if return_indices:
            wide = wrap(table).expand(*lead, *table.shape)
            indices = gather(wide, -1, position.unsqueeze(-1)).reshape(*lead, *want)
    if lone:
        result, indices = result.squeeze(0), None if indices is None else indices.squeeze(0)
    return (result, indices) if return_indices else result


def adaptive_max_pool1d(input: Tensor, output_size: Sizes, return_indices: bool = False) -> Any:
    """Maxima over windows that cover the input evenly, and where they are if asked."""
    return _adaptive_max(1, input, output_size, return_indices)


def adaptive_max_pool2d(input: Tensor, output_size: Sizes, return_indices: bool = False) -> Any:
    """Maxima over windows that cover the input evenly, and where they are if asked."""
    return _adaptive_max(2, input, output_size, return_indices)


def adaptive_max_pool3d(input: Tensor, output_size: Sizes, return_indices: bool = False) -> Any:
    """Maxima over windows that cover the input evenly, and where they are if asked."""
    return _adaptive_max(3, input, output_size, return_indices)


adaptive_max_pool1d_with_indices = partial(adaptive_max_pool1d, return_indices=True)
adaptive_max_pool2d_with_indices = partial(adaptive_max_pool2d, return_indices=True)
adaptive_max_pool3d_with_indices = partial(adaptive_max_pool3d, return_indices=True)


@in_float32
def _lp_pool(
    rank: int, input: Tensor, norm_type: float, kernel_size: Ints, stride: Any, ceil_mode: bool
) -> Tensor:
    kernel = spread(kernel_size, rank, "kernel_size")
    if math.isinf(norm_type):
        sign = 1.0 if norm_type > 0 else -1.0
        return _MAX[rank](input.abs() * sign, kernel, stride, ceil_mode=ceil_mode) * sign
    mean = _AVG[rank](input.pow(norm_type), kernel, stride, 0, ceil_mode)
    positive = mean.sign() * mean.abs()
    return (positive * math.prod(kernel)).pow(1.0 / norm_type)


def lp_pool1d(
    input: Tensor, norm_type: float, kernel_size: Ints, stride: Any = None, ceil_mode: bool = False
) -> Tensor:
    """(sum of x**p over each window)**(1 / p)."""
    return _lp_pool(1, input, norm_type, kernel_size, stride, ceil_mode)


def lp_pool2d(
    input: Tensor, norm_type: float, kernel_size: Ints, stride: Any = None, ceil_mode: bool = False
) -> Tensor:
    """(sum of x**p over each window)**(1 / p)."""
    return _lp_pool(2, input, norm_type, kernel_size, stride, ceil_mode)


def lp_pool3d(
    input: Tensor, norm_type: float, kernel_size: Ints, stride: Any = None, ceil_mode: bool = False
) -> Tensor:
    """(sum of x**p over each window)**(1 / p)."""
    return _lp_pool(3, input, norm_type, kernel_size, stride, ceil_mode)


def _max_unpool(
    rank: int,
    input: Tensor,
    indices: Tensor,
    kernel_size: Ints,
    stride: Any,
    padding: Ints,
    output_size: Sequence[int] | None,
) -> Tensor:
    x, lone = batched(input, rank, f"max_unpool{rank}d")
    kernel, paddings = spread(kernel_size, rank, "kernel_size"), spread(padding, rank, "padding")
    strides = kernel if stride is None else spread(stride, rank, "stride")
    have = tuple(x.shape[2:])
    if output_size is None:
        sizes = tuple((n - 1) * s - 2 * p + k for n, s, p, k in zip(have, strides, paddings, kernel))
    else:
        sizes = tuple(output_size)[-rank:]
    lead = tuple(x.shape[:2])
    empty = zeros((*lead, math.prod(sizes)), dtype=x.dtype)
    count = math.prod(have)
    places, values = indices.reshape(*lead, count), x.reshape(*lead, count)
    # Windows that overlap may name a place twice; `scatter` then takes one of them, but not in compiled code.
    apart = all(s >= k for s, k in zip(strides, kernel))
    flat = empty.scatter_add(2, places, values) if apart else empty.scatter(2, places, values)
    filled = flat.reshape(*lead, *sizes)
    return filled.squeeze(0) if lone else filled


def max_unpool1d(
    input: Tensor,
    indices: Tensor,
    kernel_size: Ints,
    stride: Any = None,
    padding: Ints = 0,
    output_size: Sequence[int] | None = None,
) -> Tensor:
    """The values back where max_pool1d found them, zeros elsewhere."""
    return _max_unpool(1, input, indices, kernel_size, stride, padding, output_size)


@full_precision
def max_unpool2d(
    input: Tensor,
    indices: Tensor,
    kernel_size: Ints,
    stride: Any = None,
    padding: Ints = 0,
    output_size: Sequence[int] | None = None,
) -> Tensor:
    """The values back where max_pool2d found them, zeros elsewhere."""
    return _max_unpool(2, input, indices, kernel_size, stride, padding, output_size)


@full_precision
def max_unpool3d(
    input: Tensor,
    indices: Tensor,
    kernel_size: Ints,
    stride: Any = None,
    padding: Ints = 0,
    output_size: Sequence[int] | None = None,
) -> Tensor:
    """The values back where max_pool3d found them, zeros elsewhere."""
    return _max_unpool(3, input, indices, kernel_size, stride, padding, output_size)
