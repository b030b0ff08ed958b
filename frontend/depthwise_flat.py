"""Depthwise convolutions of eager mode on flat images (`flat_images.py`).

taps    y[n, c, t] = sum over k of x[phase(k)][n, c, t + offset(k)] * w[c, k], where the bit k of mask[t] is set
dots    dw[c, k] = sum over n, t of x[phase(k)][n, c, t + offset(k)] * dy[n, c, t], where it is set
"""

from __future__ import annotations

from functools import cache
from math import prod

import numpy as np

from .eager_kernels import call, compiled
from .flat_images import BITS, Windows, at_the_start, elements, layout_of, masks, planes
from .ir import dtypes
from .ir.builder import GraphBuilder
from .ir.dims import Dim, DimLike
from .ir.dtypes import DType, from_numpy
from .ir.graph import Value
from .ir.ops.scratch import Scratch
from .ir.types import TensorType
from .runtime.compiled_graph import CompiledGraph
from .tensor import Array

# Sums made in one pass: each is kept in four vectors, and there are 32 registers.
TOGETHER = 5


def taps(x: Array, w: Array, bias: Array | None, windows: Windows) -> Array:
    """The convolution of x [images, channels, sizes...], whose windows are as many as `windows.grid` says, with
    w [channels, 1, kernel...]."""
    layout = layout_of(windows, x.shape[2:])
    kernel = _taps(windows, bias is not None, from_numpy(x.dtype))
    mask = masks(windows, x.shape[2:], layout.grid)
    sizes = {"images": x.shape[0], "channels": x.shape[1], "elements": layout.image, **layout.sizes}
    with Scratch() as scratch:
        memory = planes(x, windows.stride, layout.before, layout.behind, scratch)
        operands = [memory, w.reshape(w.shape[0], -1), mask, *([] if bias is None else [bias])]
        return call(kernel, operands, sizes)[0].reshape(*x.shape[:2], *layout.grid)


def dots(x: Array, dy: Array, windows: Windows) -> Array:
    """The gradient of w, with dy [images, channels, lengths...], where the lengths are at most the grid's."""
    layout = layout_of(windows, x.shape[2:])
    words = masks(windows, x.shape[2:], dy.shape[2:], TOGETHER)
    if dy.shape[2:] != layout.grid:
        dy = at_the_start(dy, layout.grid)
    rows = np.ascontiguousarray(dy).reshape(*dy.shape[:2], -1)
    found: list[Array] = []
    with Scratch() as scratch:
        memory = planes(x, windows.stride, layout.before, layout.behind, scratch)
        starts = [layout.before + phase * rows.size + move for phase, move in layout.moves]
        sizes = {"images": x.shape[0], "channels": x.shape[1], "elements": layout.image}
        kernel = _dots(from_numpy(x.dtype))
        for number, mask in enumerate(words):
            some = starts[number * TOGETHER : (number + 1) * TOGETHER]
            pieces = [memory[start : start + rows.size] for start in some]
            pieces += [rows] * (TOGETHER - len(some))  # bits that are not set: these count for nothing
            found += call(kernel, [*pieces, rows, mask], sizes)[: len(some)]
    return np.stack(found, 1).reshape(x.shape[1], 1, *windows.kernel)


# The graphs


@cache
def _taps(windows: Windows, bias: bool, dtype: DType) -> CompiledGraph:
    F = GraphBuilder("flat_taps")
    images, channels, count = shape = (Dim("images", 1), Dim("channels", 1), Dim("elements", 1))
    total, kernel = images * channels * count, windows.kernel
    pitches: list[DimLike] = [*(Dim(f"pitch{i}", 1) for i in range(len(kernel) - 1)), 1]
    before, behind = (elements(reach, pitches) for reach in windows.reach)
    memory = before + total * prod(windows.stride) + behind
    x = F.input("x", TensorType((memory,), dtype))
    w = F.input("w", TensorType((channels, prod(kernel)), dtype))
    words = -(-prod(kernel) // BITS)
    mask = F.input("mask", TensorType((words, count), dtypes.i32))
    zeros = F.full(shape=shape, value=0.0, dtype=dtype)

    def per_channel(value: Value) -> Value:
        return F.expand(F.reshape(value, shape=(1, channels, 1)), shape=shape)

    sum_ = per_channel(F.input("bias", TensorType((channels,), dtype))) if bias else None
    for number, (phase, moves) in enumerate(windows.reads):
        start = before + phase * total + elements(moves, pitches)
        piece = F.reshape(F.slice(x, starts=(start,), stops=(start + total,), steps=(1,)), shape=shape)
        word, bit = divmod(number, BITS)
        bits = F.slice(mask, starts=(word, 0), stops=(word + 1, count), steps=(1, 1))
        on = F.reshape(F.ne(F.bitwise_and(bits, 1 << bit), 0), shape=(1, 1, count))
        read = F.where(F.expand(on, shape=shape), piece, zeros)
        weight = F.slice(w, starts=(0, number), stops=(channels, number + 1), steps=(1, 1))
        term = F.mul(read, per_channel(weight))
        sum_ = term if sum_ is None else F.add(sum_, term)
    assert sum_ is not None
    return compiled(F.finish([sum_]))


@cache
def _dots(dtype: DType) -> CompiledGraph:
    """`TOGETHER` sums, for any pieces of x: these two graphs serve all kernels and strides."""
    F = GraphBuilder("flat_dots")
    shape = (Dim("images", 1), Dim("channels", 1), Dim("elements", 1))
    pieces = [F.input(f"x{number}", TensorType(shape, dtype)) for number in range(TOGETHER)]
    dy = F.input("dy", TensorType(shape, dtype))
    mask = F.input("mask", TensorType((1, 1, shape[2]), dtypes.i32))
    zeros = F.full(shape=shape, value=0.0, dtype=dtype)
    found = []
    for number, piece in enumerate(pieces):
        on = F.expand(F.ne(F.bitwise_and(mask, 1 << number), 0), shape=shape)
        found.append(F.sum(F.where(on, F.mul(piece, dy), zeros), dims=(0, 2), keepdim=False))
    # A value that needs all of them makes them one kernel, which reads dy once.
    joined = found[0]
    for part in found[1:]:
        joined = F.add(joined, part)
    return compiled(F.finish([*found, joined]))
