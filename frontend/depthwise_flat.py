"""Depthwise convolutions on images as they lie in memory, all of them one row of numbers.

An output's place on its image is the place of an input element, where the windows begin `stride` apart and are as many
as that: moving a window is then adding to an index, over whole images at once however narrow they are, and no border is
copied around them. What a kernel position reads beyond an image (its neighbours' elements) is left out by a mask, a bit
for each position. With a stride, the elements that lie a stride apart are put together first: each such *phase* of an
image is an image of its own, of the outputs' size, from which a kernel position takes one shifted piece.

    split   x[rows, w * stride, ...] by phases
    taps    y[n, c, t] = sum over k of x[phase(k)][n, c, t + offset(k)] * w[c, k], where the bit k of mask[t] is set
    dots    dw[c, k] = sum over n, t of x[phase(k)][n, c, t + offset(k)] * dy[n, c, t], where it is set
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from itertools import product as every
from math import prod

import numpy as np

from .eager_kernels import call, compiled
from .ir import dtypes
from .ir.builder import GraphBuilder
from .ir.dims import Dim, DimLike, evaluate
from .ir.dtypes import DType, from_numpy
from .ir.graph import Value
from .ir.types import TensorType
from .runtime.allocator import empty
from .runtime.compiled_graph import CompiledGraph
from .tensor import Array

Ints = tuple[int, ...]

# Sums made in one pass: each is kept in four vectors, and there are 32 registers.
TOGETHER = 5
BITS = 31  # kernel positions to a word of the mask, an i32


@dataclass(frozen=True)
class Windows:
    """Where windows lie, in each dim."""

    kernel: Ints
    stride: Ints
    padding: Ints
    dilation: Ints

    def grid(self, sizes: Ints) -> Ints:
        """The places where windows may begin."""
        return tuple(-(-n // s) for n, s in zip(sizes, self.stride))

    def lengths(self, sizes: Ints) -> Ints:
        """How many windows there are."""
        rows = zip(sizes, self.kernel, self.stride, self.padding, self.dilation)
        return tuple((n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in rows)

    @cached_property
    def reads(self) -> list[tuple[int, Ints]]:
        """For each position in the kernel, which phase it reads, and how many elements on, in each dim."""
        found = []
        for position in every(*map(range, self.kernel)):
            phase, moves = 0, []
            for k, s, p, d in zip(position, self.stride, self.padding, self.dilation):
                move, rest = divmod(k * d - p, s)
                phase = phase * s + rest
                moves.append(move)
            found.append((phase, tuple(moves)))
        return found

    @cached_property
    def reach(self) -> tuple[Ints, Ints]:
        """The farthest that any position reads back, and on, in each dim; not negative."""
        moves = list(zip(*(moves for _, moves in self.reads)))
        return tuple(max(0, -min(m)) for m in moves), tuple(max(0, max(m)) for m in moves)


def _elements(moves: Sequence[int], pitches: Sequence[DimLike]) -> DimLike:
    """How far on in memory that many elements in each dim are."""
    found: DimLike = 0
    for n, pitch in zip(moves, pitches):
        found = found + n * pitch
    return found


def taps(x: Array, w: Array, bias: Array | None, windows: Windows) -> Array:
    """The convolution of x [images, channels, sizes...], whose windows are as many as `windows.grid` says, with
    w [channels, 1, kernel...]."""
    layout = _layout(windows, x.shape[2:])
    kernel = _taps(windows, bias is not None, from_numpy(x.dtype))
    mask = _mask(windows, x.shape[2:], layout.grid, BITS)
    operands = [_planes(x, windows, layout), w.reshape(w.shape[0], -1), mask]
    operands += [] if bias is None else [bias]
    sizes = {"images": x.shape[0], "channels": x.shape[1], "elements": layout.image, **layout.sizes}
    return call(kernel, operands, sizes)[0].reshape(*x.shape[:2], *layout.grid)


def dots(x: Array, dy: Array, windows: Windows) -> Array:
    """The gradient of w, with dy [images, channels, lengths...], where the lengths are at most the grid's."""
    layout = _layout(windows, x.shape[2:])
    masks = _mask(windows, x.shape[2:], dy.shape[2:], TOGETHER)
    if dy.shape[2:] != layout.grid:
        dy = _at_the_start(dy, layout.grid)
    rows = np.ascontiguousarray(dy).reshape(*dy.shape[:2], -1)
    planes = _planes(x, windows, layout)
    starts = [layout.before + phase * rows.size + move for phase, move in layout.moves]
    sizes = {"images": x.shape[0], "channels": x.shape[1], "elements": layout.image}
    kernel = _dots(from_numpy(x.dtype))
    found: list[Array] = []
    for number, mask in enumerate(masks):
        some = starts[number * TOGETHER : (number + 1) * TOGETHER]
        pieces = [planes[start : start + rows.size] for start in some]
        pieces += [rows] * (TOGETHER - len(some))  # bits that are not set: these count for nothing
        found += call(kernel, [*pieces, rows, mask], sizes)[: len(some)]
    return np.stack(found, 1).reshape(x.shape[1], 1, *windows.kernel)


@dataclass(frozen=True)
class _Layout:
    """Where phases of images of some size lie. `before`, `behind`: the memory that is read around them; `moves`: for
    each position in the kernel the phase that it reads and how many elements on."""

    grid: Ints
    image: int
    before: int
    behind: int
    moves: list[tuple[int, int]]
    sizes: dict[str, int]


@lru_cache(maxsize=128)
def _layout(windows: Windows, sizes: Ints) -> _Layout:
    grid = windows.grid(sizes)
    pitches = [prod(grid[i + 1 :]) for i in range(len(grid))]
    before, behind = (evaluate(_elements(reach, pitches), {}) for reach in windows.reach)
    moves = [(phase, evaluate(_elements(moves, pitches), {})) for phase, moves in windows.reads]
    named = {f"pitch{i}": n for i, n in enumerate(pitches[:-1])}
    return _Layout(grid, prod(grid), before, behind, moves, named)


def _at_the_start(x: Array, sizes: Ints) -> Array:
    """x and zeros behind it, in each dim."""
    result = empty((*x.shape[:2], *sizes), x.dtype)
    result.fill(0)
    result[tuple(map(slice, x.shape))] = x
    return result


def _planes(x: Array, windows: Windows, layout: _Layout) -> Array:
    """The phases of x one after another, with as much memory around them as windows reach beyond them. What is there
    counts for nothing."""
    grid = layout.grid
    whole = tuple(n * s for n, s in zip(grid, windows.stride))
    if x.shape[2:] != whole:
        x = _at_the_start(x, whole)
    memory = empty((layout.before + x.size + layout.behind,), x.dtype)
    inside = memory[layout.before : layout.before + x.size]
    memory[: layout.before] = 0  # no numbers that are slow to add
    memory[layout.before + x.size :] = 0
    if max(windows.stride) == 1:
        np.copyto(inside.reshape(x.shape), x)
        return memory
    # Rows of the first dim go with the images.
    found = {"rows": x.shape[0] * x.shape[1] * grid[0]}
    found.update((f"size{i}", n) for i, n in enumerate(grid) if i)
    split = _split(windows.stride, from_numpy(x.dtype))
    call(split, [x], found, [inside])
    return memory


@lru_cache(maxsize=128)
def _mask(windows: Windows, sizes: Ints, lengths: Ints, bits: int) -> Array:
    """[words, grid]: bit k % bits of word k // bits says whether position k of the window that begins there lies on the
    image, and whether there is such a window."""
    grid = windows.grid(sizes)
    words = np.zeros((-(-prod(windows.kernel) // bits), *grid), np.int32)
    for number, position in enumerate(every(*map(range, windows.kernel))):
        on = np.ones((), bool)
        rows = zip(position, grid, lengths, sizes, windows.stride, windows.padding, windows.dilation)
        for dim, (k, places, length, n, s, p, d) in enumerate(rows):
            begin = np.arange(places)
            where = begin * s + k * d - p
            inside = (where >= 0) & (where < n) & (begin < length)
            on = on & inside.reshape(-1, *(1,) * (len(grid) - 1 - dim))
        words[number // bits] |= on.astype(np.int32) << (number % bits)
    return words.reshape(len(words), -1)


# The graphs


@cache
def _split(stride: Ints, dtype: DType) -> CompiledGraph:
    F = GraphBuilder("split")
    sizes: list[DimLike] = []
    for i, s in enumerate(stride):
        sizes += [Dim(f"size{i}", 1) if i else Dim("rows", 1), s]
    x = F.input("x", TensorType(tuple(sizes), dtype))
    apart = F.permute(x, dims=(*range(1, len(sizes), 2), *range(0, len(sizes), 2)))
    return compiled(F.finish([apart]))


@cache
def _taps(windows: Windows, bias: bool, dtype: DType) -> CompiledGraph:
    F = GraphBuilder("flat_taps")
    images, channels, count = shape = (Dim("images", 1), Dim("channels", 1), Dim("elements", 1))
    total, kernel = images * channels * count, windows.kernel
    pitches: list[DimLike] = [*(Dim(f"pitch{i}", 1) for i in range(len(kernel) - 1)), 1]
    before, behind = (_elements(reach, pitches) for reach in windows.reach)
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
        start = before + phase * total + _elements(moves, pitches)
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
