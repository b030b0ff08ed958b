"""NumPy rules for convolutions of stride 1: on flat images, where moving a window is adding to an index.

The padded image of a channel is one row of numbers, and so are the results, with as many columns as the padded image
has; those beyond a result's own are left out at the end. What a kernel position takes from the image is then one
contiguous piece of it. Columns are written for the positions along the last kernel dim only; for each position along
the others a matrix product takes its piece of them where it lies. Of im2col's copies this makes a kernel height's
share, in long runs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product as every
from math import prod
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

from .common import Array
from .scratch import Scratch

Ints = tuple[int, ...]
# Columns are made for as many images at a time as keep them about this many elements, so that they stay in the cache.
CACHED_ELEMENTS = 1 << 18
# Which is the faster, measured on one core of an x86-64 server. Products of fewer rows cost less than adding them to the
# others; with more channels than these the copies that im2col makes cost little beside its one large product.
FEWEST_ROWS, MOST_OUTER, MOST_INNER_FOR_WEIGHT = 24, 64, 32
ALL = slice(None)
MOST_WASTE = 1.5  # columns computed over columns kept


def _at(*index: Any) -> Any:
    """An index into an array, of slices and numbers."""
    return index


def with_border(x: Array, padding: Ints, scratch: Scratch) -> Array:
    """x with so many zeros before and behind it in each spatial dim."""
    return bordered(x, [(p, p) for p in padding], scratch)


def bordered(x: Array, borders: Sequence[tuple[int, int]], scratch: Scratch) -> Array:
    """x with so many zeros before and behind it in each spatial dim, or without as many elements where a number is
    negative."""
    if not any(map(any, borders)):
        return x
    sizes = x.shape[2:]
    taken = [slice(max(0, -low), n + min(0, high)) for n, (low, high) in zip(sizes, borders)]
    found = scratch.empty(
        (*x.shape[:2], *(low + n + high for n, (low, high) in zip(sizes, borders))), x.dtype
    )
    if any(max(border) > 0 for border in borders):
        found.fill(0)
    places = [slice(max(0, low), low + n + min(0, high)) for n, (low, high) in zip(sizes, borders)]
    found[_at(..., *places)] = x[_at(..., *taken)]
    return found


def products(first: Array, second: Array) -> Array:
    """[..., m, n] times the transpose of [..., k, n]. The factor of more rows comes first: 1.2 to 1.7 times as fast on
    one core of an x86-64 server."""
    if first.shape[-2] >= second.shape[-2]:
        return np.matmul(first, second.swapaxes(-1, -2))
    return np.matmul(second, first.swapaxes(-1, -2)).swapaxes(-1, -2)


class FlatWindows:
    """Where windows of stride 1 lie in flat padded images of `sizes` + 2 `padding` elements."""

    def __init__(self, sizes: Ints, kernel: Ints, lengths: Ints, padding: Ints, dilation: Ints):
        self.padding, self.lengths, self.kernel = padding, lengths, kernel
        self.padded = tuple(n + 2 * p for n, p in zip(sizes, padding))
        self.strides = tuple(prod(self.padded[i + 1 :]) for i in range(len(kernel)))
        # Elements from the first result to the last, both counted.
        self.reach = 1 + sum((n - 1) * s for n, s in zip(lengths, self.strides))
        self.step = dilation[-1]
        steps = [d * s for d, s in zip(dilation, self.strides)][:-1]
        self.outer = list(every(*map(range, kernel[:-1])))
        self.starts = [sum(o * s for o, s in zip(offset, steps)) for offset in self.outer]

    def columns(self, x: Array, scratch: Scratch) -> Array:
        """[images, channels * last kernel dim, elements]."""
        images, channels = x.shape[:2]
        x = with_border(x, self.padding, scratch)
        flat = np.ascontiguousarray(x).reshape(images, channels, -1)
        last, length = self.kernel[-1], self.starts[-1] + self.reach
        strides = (*flat.strides[:2], self.step * flat.itemsize, flat.itemsize)
        windows = as_strided(flat, (images, channels, last, length), strides, writeable=False)
        columns = scratch.empty(windows.shape, x.dtype)
        columns[...] = windows
        return columns.reshape(images, channels * last, length)

    def pieces(self, columns: Array) -> Iterator[tuple[Ints, Array]]:
        """For each kernel position along all dims but the last, its index and what it takes of the columns."""
        for offset, start in zip(self.outer, self.starts):
            yield offset, columns[..., start : start + self.reach]

    def results(self, batch: Ints, dtype: Any, scratch: Scratch) -> tuple[Array, Array, Array]:
        """Memory for results: whole, as flat rows [*batch, reach], and as images [*batch, *lengths]."""
        shape = (self.lengths[0], *self.padded[1:])
        memory = scratch.empty((*batch, prod(shape)), dtype)
        return (
            memory,
            memory[..., : self.reach],
            memory.reshape(*batch, *shape)[_at(..., *map(slice, self.lengths))],
        )


def applies(x: Ints, w: Ints, lengths: Ints, stride: Ints, padding: Ints, groups: int) -> bool:
    """Whether these rules compute a convolution of shapes x and w, and faster than im2col."""
    outer, inner, *kernel = w
    if groups > 1 or max(stride) > 1 or prod(kernel[:-1]) == 1 or 0 in lengths or 0 in x:
        return False
    columns = lengths[0] * prod(n + 2 * p for n, p in zip(x[3:], padding[1:]))
    few = inner * kernel[-1] >= FEWEST_ROWS and outer <= MOST_OUTER
    return few and columns <= MOST_WASTE * prod(lengths)


def _chunks(images: int, elements_per_image: int) -> Iterator[slice]:
    step = max(1, CACHED_ELEMENTS // max(1, elements_per_image))
    return (slice(start, start + step) for start in range(0, images, step))


def conv(x: Array, w: Array, lengths: Ints, padding: Ints, dilation: Ints) -> Array:
    """The convolution, of stride 1 and one group."""
    outer, inner, *kernel = w.shape
    windows = FlatWindows(x.shape[2:], tuple(kernel), lengths, padding, dilation)
    rows = [
        np.ascontiguousarray(w[_at(ALL, ALL, *o)]).reshape(outer, inner * kernel[-1]) for o in windows.outer
    ]
    y = np.empty((x.shape[0], outer, *lengths), x.dtype)
    for images in _chunks(x.shape[0], inner * kernel[-1] * prod(windows.padded)):
        with Scratch() as scratch:
            columns = windows.columns(x[images], scratch)
            _, total, inside = windows.results((columns.shape[0], outer), x.dtype, scratch)
            product = scratch.empty(total.shape, x.dtype)
            for number, (_, piece) in enumerate(windows.pieces(columns)):
                np.matmul(rows[number], piece, out=product if number else total)
                if number:
                    total += product
            y[images] = inside
    return y


def weight_grad(x: Array, dy: Array, weight_size: Ints, padding: Ints, dilation: Ints) -> Array:
    """The gradient of `conv` with respect to the weight."""
    outer, inner, *kernel = weight_size
    windows = FlatWindows(x.shape[2:], tuple(kernel), dy.shape[2:], padding, dilation)
    total = np.zeros(weight_size, x.dtype)
    for images in _chunks(x.shape[0], inner * kernel[-1] * prod(windows.padded)):
        with Scratch() as scratch:
            columns = windows.columns(x[images], scratch)
            memory, rows, inside = windows.results((columns.shape[0], outer), dy.dtype, scratch)
            memory.fill(0)
            inside[...] = dy[images]
            for offset, piece in windows.pieces(columns):
                found = products(piece, rows).sum(0)
                total[_at(ALL, ALL, *offset)] += found.T.reshape(outer, inner, kernel[-1])
    return total
