"""Large grouped convolutions of eager mode, and their gradients: columns by a kernel of our own compiler, products by
NumPy.

Groups are small, so that their products cost little beside writing their columns, and NumPy writes those in runs as
long as a row of the result. On flat images (`flat_images.py`) a column's row is one shifted, masked image:

    columns   cols[r, k, t] = x_k[r, t] where the bit k of mask[t] is set, else 0

with x_k the memory from where kernel position k begins to read: one graph for all convolutions of so many positions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product as every
from math import gcd, prod
from typing import Any

import numpy as np

from . import depthwise
from .eager_kernels import call, compiled
from .flat_images import BITS, Windows, layout_of, masks, planes, windows_of
from .ir import dtypes
from .ir.builder import GraphBuilder
from .ir.dims import Dim
from .ir.dtypes import DType, from_numpy
from .ir.ops.convolution_flat import products
from .ir.ops.scratch import Scratch
from .ir.types import TensorType
from .runtime.allocator import empty
from .runtime.compiled_graph import CompiledGraph
from .tensor import Array

Ints = tuple[int, ...]

# Below this many multiply-adds NumPy's rules are not worth replacing: about a third of a millisecond.
FEWEST_PRODUCTS = 1 << 22
# Columns are made for as many images, or groups of an image, at a time as keep them within this many elements: they
# stay in the cache (a megabyte of float32).
COLUMN_ELEMENTS = 1 << 18
# The columns of a group's image are made at once. If they are more, NumPy's rules, which take groups one by one, are as
# fast or faster.
MOST_COLUMN_ELEMENTS = 1 << 19
DTYPES = depthwise.DTYPES


def run(name: str, operands: Sequence[Array], attrs: Mapping[str, Any]) -> Array | None:
    """The result of the convolution op `name`, or None where NumPy's rule is to compute it: where few products are asked
    for, or the windows are not as many as there are places for them. Depthwise ones are computed by `depthwise.py`."""
    first, second = operands[:2]
    if attrs["groups"] == 1 or first.dtype not in DTYPES or second.dtype != first.dtype:
        return None
    w_shape = tuple(attrs["weight_size"]) if name == "conv_weight_grad" else second.shape
    size = tuple(attrs["input_size"]) if name == "conv_input_grad" else first.shape
    if attrs["groups"] == size[1] == w_shape[0]:
        return depthwise.run(name, operands, attrs)
    windows = windows_of(w_shape, attrs)
    places = windows.grid(size[2:])
    whole = all(n % s == 0 for n, s in zip(size[2:], windows.stride))
    if prod(windows.kernel) == 1 or not whole or windows.lengths(size[2:]) != places:
        return None
    if size[0] * prod(places) * prod(w_shape) < max(1, FEWEST_PRODUCTS):
        return None
    channels = w_shape[0] // attrs["groups"] if name == "conv_input_grad" else w_shape[1]
    if channels * prod(windows.kernel) * prod(places) > MOST_COLUMN_ELEMENTS:
        return None
    if name == "conv_input_grad":
        return _input_grad(first, second, size[2:], windows, attrs["groups"])
    if name == "conv_weight_grad":
        return _weight_grad(first, second, w_shape, windows, attrs["groups"])
    y = _conv(first, second, windows, attrs["groups"])
    if len(operands) == 3:
        y += operands[2].reshape(-1, *(1,) * len(places))
    return y


def _conv(x: Array, w: Array, windows: Windows, groups: int) -> Array:
    layout = layout_of(windows, x.shape[2:])
    rows = w.reshape(groups, w.shape[0] // groups, -1)
    y = empty((x.shape[0], groups, rows.shape[1], layout.image), x.dtype)
    with Scratch() as scratch:
        memory = planes(x, windows.stride, layout.before, layout.behind, scratch)
        columns = _Columns(memory, layout.before, x.shape[:2], windows, x.shape[2:], groups, scratch)
        for images, some, found in columns:
            np.matmul(rows[some], found, out=y[images, some])
    return y.reshape(x.shape[0], w.shape[0], *layout.grid)


def _weight_grad(x: Array, dy: Array, w_shape: Ints, windows: Windows, groups: int) -> Array:
    layout = layout_of(windows, x.shape[2:])
    images_dy = np.ascontiguousarray(dy).reshape(x.shape[0], groups, w_shape[0] // groups, layout.image)
    total = np.zeros((groups, prod(w_shape[1:]), images_dy.shape[2]), x.dtype)
    with Scratch() as scratch:
        memory = planes(x, windows.stride, layout.before, layout.behind, scratch)
        columns = _Columns(memory, layout.before, x.shape[:2], windows, x.shape[2:], groups, scratch)
        for images, some, found in columns:
            total[some] += products(found, images_dy[images, some]).sum(0)
    return total.swapaxes(1, 2).reshape(w_shape)


def _input_grad(dy: Array, w: Array, sizes: Ints, windows: Windows, groups: int) -> Array:
    """Elements of dx that are a stride apart read the same kernel positions: each phase is a convolution of dy, by steps
    of one, with those positions of the reversed kernels."""
    each, stride, lengths = w.shape[1], windows.stride, dy.shape[2:]
    backwards = w.reshape(groups, -1, *w.shape[1:]).swapaxes(1, 2)  # [groups, each, outer, kernel...]
    parts = [(phase, *_phase(windows, phase)) for phase in every(*map(range, stride))]
    layouts = [layout_of(found, lengths) for _, found, _ in parts if found is not None]
    before, behind = max(part.before for part in layouts), max(part.behind for part in layouts)
    dx = empty((dy.shape[0], groups, each, *sizes), dy.dtype)
    whole = slice(None)
    with Scratch() as scratch:
        memory = planes(dy, (1,) * len(stride), before, behind, scratch)
        for phase, found, taken in parts:
            places: tuple[Any, ...] = (..., *(slice(start, None, s) for start, s in zip(phase, stride)))
            if found is None:
                dx[places] = 0
                continue
            read: tuple[Any, ...] = (whole, whole, whole, *np.ix_(*taken))
            rows = backwards[read].reshape(groups, each, -1)
            with Scratch() as inner:
                columns = _Columns(memory, before, dy.shape[:2], found, lengths, groups, inner)
                for images, some, column in columns:
                    with Scratch() as innermost:
                        part = innermost.empty((*column.shape[:2], each, column.shape[3]), dy.dtype)
                        np.matmul(rows[some], column, out=part)
                        dx[images, some][places] = part.reshape(*part.shape[:3], *lengths)
    return dx.reshape(dy.shape[0], -1, *sizes)


def _phase(windows: Windows, phase: Ints) -> tuple[Windows | None, list[list[int]]]:
    """The windows over dy, and in each dim the kernel's positions, of the elements of dx that begin at `phase`; None
    where no position reads them.

    Element q * stride + phase of x is read at kernel position k by window q + (phase + padding - k * dilation) / stride.
    """
    steps, paddings, taken = [], [], []
    for k, s, p, d, start in zip(windows.kernel, windows.stride, windows.padding, windows.dilation, phase):
        reading = [at for at in reversed(range(k)) if (start + p - at * d) % s == 0]
        if not reading:
            return None, []
        taken.append(reading)
        steps.append(d // gcd(d, s))
        paddings.append(-((start + p - reading[0] * d) // s))
    kernel, ones = tuple(map(len, taken)), (1,) * len(taken)
    return Windows(kernel, ones, tuple(paddings), tuple(steps)), taken


@dataclass(frozen=True)
class _Columns:
    """The columns of images whose phases lie in `memory` from `before` on. Iterated over: which images, which groups,
    and [images, groups, channels per group * kernel, windows], which last until the next are asked for."""

    memory: Array
    before: int
    shape: tuple[int, int]
    windows: Windows
    sizes: Ints
    groups: int
    scratch: Scratch

    def __iter__(self) -> Iterator[tuple[slice, slice, Array]]:
        (batch, channels), groups = self.shape, self.groups
        grid = self.windows.grid(self.sizes)
        each, image, count = channels // groups, prod(grid), prod(self.windows.kernel)
        mask = masks(self.windows, self.sizes, grid)
        moves = layout_of(self.windows, self.sizes).moves
        starts = [self.before + phase * batch * channels * image + move for phase, move in moves]
        dtype = from_numpy(self.memory.dtype)
        as_they_are = count == 1 and bool((mask == 1).all())
        room = max(1, COLUMN_ELEMENTS // (each * count * image))
        step, some = max(1, room // groups), min(groups, room)
        columns = self.scratch.empty((min(step, batch) * some * each * count * image,), self.memory.dtype)
        for first in range(0, batch, step):
            for group in range(0, groups, some):
                images, taken = min(step, batch - first), min(some, groups - group)
                rows, at = images * taken * each, (first * channels + group * each) * image
                pieces = [self.memory[start + at : start + at + rows * image] for start in starts]
                found = columns[: rows * count * image]
                if as_they_are:
                    found = pieces[0]
                else:
                    call(_columns(count, dtype), [*pieces, mask], {"rows": rows, "elements": image}, [found])
                yield (
                    slice(first, first + images),
                    slice(group, group + taken),
                    found.reshape(images, taken, each * count, image),
                )


@cache
def _columns(count: int, dtype: DType) -> CompiledGraph:
    F = GraphBuilder("columns")
    rows, elements = shape = (Dim("rows", 1), Dim("elements", 1))
    pieces = [F.input(f"x{number}", TensorType(shape, dtype)) for number in range(count)]
    mask = F.input("mask", TensorType((-(-count // BITS), elements), dtypes.i32))
    zeros = F.full(shape=shape, value=0.0, dtype=dtype)
    found = []
    for number, piece in enumerate(pieces):
        word, bit = divmod(number, BITS)
        bits = F.slice(mask, starts=(word, 0), stops=(word + 1, elements), steps=(1, 1))
        on = F.expand(F.ne(F.bitwise_and(bits, 1 << bit), 0), shape=shape)
        found.append(F.reshape(F.where(on, piece, zeros), shape=(rows, 1, elements)))
    return compiled(F.finish([F.concat(*found, dim=1) if count > 1 else found[0]]))
