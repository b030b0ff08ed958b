"""Images as they lie in memory, all of them one row of numbers, for convolutions of eager mode.

An output's place on its image is the place of an input element, where the windows begin `stride` apart and are as many
as that: moving a window is then adding to an index, over whole images at once however narrow they are, and no border is
copied around them. What a kernel position reads beyond an image (its neighbours' elements) is left out by a mask, a bit
for each position. With a stride, the elements that lie a stride apart are put together first: each such *phase* of an
image is an image of its own, of the outputs' size, from which a kernel position takes one shifted piece.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from itertools import product as every
from math import prod
from typing import Any

import numpy as np

from .eager_kernels import call, compiled
from .ir.builder import GraphBuilder
from .ir.dims import Dim, DimLike, evaluate
from .ir.dtypes import DType, from_numpy
from .ir.ops.scratch import Scratch
from .ir.types import TensorType
from .runtime.allocator import empty, is_small
from .runtime.compiled_graph import CompiledGraph
from .tensor import Array

Ints = tuple[int, ...]

BITS = 31  # kernel positions to a word of a mask, an i32


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


def windows_of(w_shape: Sequence[int], attrs: Mapping[str, Any]) -> Windows:
    """The windows of a convolution op with these attributes."""
    stride, padding, dilation = (tuple(attrs[name]) for name in ("stride", "padding", "dilation"))
    return Windows(tuple(w_shape[2:]), stride, padding, dilation)


def elements(moves: Sequence[int], pitches: Sequence[DimLike]) -> DimLike:
    """How far on in memory that many elements in each dim are."""
    found: DimLike = 0
    for n, pitch in zip(moves, pitches):
        found = found + n * pitch
    return found


@dataclass(frozen=True)
class Layout:
    """Where phases of images of some size lie. `before`, `behind`: how many elements around them are read; `moves`: for
    each position in the kernel the phase that it reads and how many elements on."""

    grid: Ints
    image: int
    before: int
    behind: int
    moves: list[tuple[int, int]]
    sizes: dict[str, int]


@lru_cache(maxsize=128)
def layout_of(windows: Windows, sizes: Ints) -> Layout:
    grid = windows.grid(sizes)
    pitches = [prod(grid[i + 1 :]) for i in range(len(grid))]
    before, behind = (evaluate(elements(reach, pitches), {}) for reach in windows.reach)
    moves = [(phase, evaluate(elements(moves, pitches), {})) for phase, moves in windows.reads]
    named = {f"pitch{i}": n for i, n in enumerate(pitches[:-1])}
    return Layout(grid, prod(grid), before, behind, moves, named)


def at_the_start(x: Array, sizes: Ints) -> Array:
    """x and zeros behind it, in each dim."""
    result = empty((*x.shape[:2], *sizes), x.dtype)
    result.fill(0)
    result[tuple(map(slice, x.shape))] = x
    return result


def planes(x: Array, stride: Ints, before: int, behind: int, scratch: Scratch) -> Array:
    """The phases of x one after another, behind `before` and before `behind` elements that count for nothing: so many
    as windows reach beyond them. In `scratch`, or in recycled memory."""
    grid = tuple(-(-n // s) for n, s in zip(x.shape[2:], stride))
    whole = tuple(n * s for n, s in zip(grid, stride))
    if x.shape[2:] != whole:
        x = at_the_start(x, whole)
    shape = (before + x.size + behind,)
    memory = scratch.empty(shape, x.dtype) if is_small(shape, x.dtype) else empty(shape, x.dtype)
    inside = memory[before : before + x.size]
    memory[:before] = 0  # no numbers that are slow to add
    memory[before + x.size :] = 0
    if max(stride) == 1:
        np.copyto(inside.reshape(x.shape), x)
        return memory
    # Rows of the first dim go with the images.
    found = {"rows": x.shape[0] * x.shape[1] * grid[0]}
    found.update((f"size{i}", n) for i, n in enumerate(grid) if i)
    split = _split(stride, from_numpy(x.dtype))
    call(split, [x], found, [inside])
    return memory


@lru_cache(maxsize=128)
def masks(windows: Windows, sizes: Ints, lengths: Ints, bits: int = BITS) -> Array:
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


@cache
def _split(stride: Ints, dtype: DType) -> CompiledGraph:
    F = GraphBuilder("split")
    sizes: list[DimLike] = []
    for i, s in enumerate(stride):
        sizes += [Dim(f"size{i}", 1) if i else Dim("rows", 1), s]
    x = F.input("x", TensorType(tuple(sizes), dtype))
    apart = F.permute(x, dims=(*range(1, len(sizes), 2), *range(0, len(sizes), 2)))
    return compiled(F.finish([apart]))
