"""NumPy rules for convolutions of many small images: with the images as the last dim, so that one matrix product takes
all of them, and what a kernel position reads of them lies in long runs.

A product per image has as many columns as an image has windows; with few of them it is hardly faster than a loop.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product as every
from math import prod
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

from .common import Array
from .scratch import Scratch

Ints = tuple[int, ...]

# Columns are made for as many rows of windows at a time as keep them within this many elements: they stay in the cache.
CACHED_ELEMENTS = 1 << 17
FEWEST_IMAGES = 16
# Measured on one core of an x86-64 server: with so few windows an image these rules are the faster; and with a few more,
# by steps of one and of so many channels and kernel positions.
MOST_WINDOWS, MOST_WINDOWS_BY_ONE, FEWEST_ROWS = 16, 200, 100
# A gradient of x that is no convolution with the reversed kernels is the faster here.
MOST_WINDOWS_OF_GRADIENT = 100
ALL = slice(None)


def applies(images: int, w: Ints, lengths: Ints, stride: Ints, groups: int) -> bool:
    """Whether these rules compute a convolution by a weight of shape w, and faster than others."""
    by_one = max(stride) == 1 and prod(w[1:]) >= FEWEST_ROWS
    return _applies(images, w, lengths, groups, MOST_WINDOWS_BY_ONE if by_one else MOST_WINDOWS)


def applies_to_gradient(images: int, w: Ints, lengths: Ints, groups: int) -> bool:
    """Whether `input_grad` is faster than convolutions of phases."""
    return _applies(images, w, lengths, groups, MOST_WINDOWS_OF_GRADIENT)


def _applies(images: int, w: Ints, lengths: Ints, groups: int, most: int) -> bool:
    return groups == 1 and images >= FEWEST_IMAGES and 0 < prod(lengths) <= most and prod(w) > 0


def conv(x: Array, w: Array, lengths: Ints, stride: Ints, padding: Ints, dilation: Ints) -> Array:
    """The convolution, of one group."""
    images, outer = x.shape[0], w.shape[0]
    rows = w.reshape(outer, -1)
    with Scratch() as scratch:
        total = scratch.empty((outer, prod(lengths) * images), x.dtype)
        padded = _images_last(x, padding, scratch)
        for windows, columns in _columns(padded, w.shape[2:], lengths, stride, dilation, scratch):
            np.matmul(rows, columns, out=total[:, windows])
        y = np.empty((images, outer, *lengths), x.dtype)
        y[...] = np.moveaxis(total.reshape(outer, *lengths, images), -1, 0)
    return y


def weight_grad(x: Array, dy: Array, weight_size: Ints, stride: Ints, padding: Ints, dilation: Ints) -> Array:
    """The gradient of `conv` with respect to the weight."""
    outer, lengths = weight_size[0], dy.shape[2:]
    total = np.zeros((prod(weight_size[1:]), outer), x.dtype)
    with Scratch() as scratch:
        rows = _images_last(dy, (0,) * len(lengths), scratch).reshape(outer, -1)
        padded = _images_last(x, padding, scratch)
        for windows, columns in _columns(padded, weight_size[2:], lengths, stride, dilation, scratch):
            total += columns @ rows[:, windows].T
    return total.T.reshape(weight_size)


def input_grad(dy: Array, w: Array, input_size: Ints, stride: Ints, padding: Ints, dilation: Ints) -> Array:
    """The gradient of `conv` with respect to x."""
    (images, outer, *lengths), kernel = dy.shape, w.shape[2:]
    with Scratch() as scratch:
        columns = scratch.empty((prod(w.shape[1:]), prod(lengths) * images), dy.dtype)
        rows = _images_last(dy, (0,) * len(lengths), scratch).reshape(outer, -1)
        np.matmul(w.reshape(outer, -1).T, rows, out=columns)
        parts = columns.reshape(w.shape[1], *kernel, *lengths, images)
        inside = tuple(slice(p, p + n) for p, n in zip(padding, input_size[2:]))
        sizes = [n + 2 * p for n, p in zip(input_size[2:], padding)]
        total = scratch.empty((w.shape[1], *sizes, images), dy.dtype)
        total.fill(0)
        for position in every(*map(range, kernel)):
            target: tuple[Any, ...] = tuple(
                slice(k * d, k * d + (n - 1) * s + 1, s)
                for k, d, n, s in zip(position, dilation, lengths, stride)
            )
            place: tuple[Any, ...] = (ALL, *position)
            total[(ALL, *target)] += parts[place]
        dx = np.empty(input_size, dy.dtype)
        dx[...] = np.moveaxis(total[(ALL, *inside)], -1, 0)
    return dx


def _images_last(x: Array, padding: Ints, scratch: Scratch) -> Array:
    """[channels, padded sizes..., images]."""
    sizes = [n + 2 * p for n, p in zip(x.shape[2:], padding)]
    found = scratch.empty((x.shape[1], *sizes, x.shape[0]), x.dtype)
    if any(padding):
        found.fill(0)
    inside = tuple(slice(p, n - p) for p, n in zip(padding, sizes))
    found[(ALL, *inside)] = np.moveaxis(x, 0, -1)
    return found


def _columns(
    x: Array, kernel: Ints, lengths: Ints, stride: Ints, dilation: Ints, scratch: Scratch
) -> Iterator[tuple[slice, Array]]:
    """Some of the windows of all images, and their columns [channels * kernel, windows * images], until the next are
    asked for."""
    channels, images, steps = x.shape[0], x.shape[-1], x.strides[1:-1]
    strides: tuple[Any, ...] = (
        x.strides[0],
        *(t * d for t, d in zip(steps, dilation)),
        *(t * s for t, s in zip(steps, stride)),
        x.strides[-1],
    )
    windows = as_strided(x, (channels, *kernel, *lengths, images), strides, writeable=False)
    rows, width = channels * prod(kernel), prod(lengths[1:]) * images
    step = min(lengths[0], max(1, CACHED_ELEMENTS // (rows * width)))
    memory = scratch.empty((rows * step * width,), x.dtype)
    for start in range(0, lengths[0], step):
        stop = min(start + step, lengths[0])
        part = windows[(*(ALL for _ in range(1 + len(kernel))), slice(start, stop))]
        columns = memory[: part.size].reshape(part.shape)
        np.copyto(columns, part)
        yield slice(start * width, stop * width), columns.reshape(rows, -1)
