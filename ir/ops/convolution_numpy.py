"""NumPy rules of convolutions and their two gradients.

Each window of the input is written as a column (im2col), and matrices are multiplied; V. Dumoulin and F. Visin, "A guide
to convolution arithmetic for deep learning", https://arxiv.org/abs/1603.07285, has the index arithmetic. Convolutions
of stride 1 whose columns would be long (`convolution_flat.py`) and of many small images (`convolution_batch.py`) have
rules of their own.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product as every
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

from . import convolution_batch as batched
from . import convolution_flat as flat
from .common import Array
from .scratch import Scratch

Ints = tuple[int, ...]


def _window_slices(offset: Ints, lengths: Ints, stride: Ints, dilation: Ints) -> tuple[Any, ...]:
    """Where the windows' element at kernel position `offset` lies in the padded input, for all windows at
    once."""
    return (
        ...,
        *(slice(o * d, o * d + (n - 1) * s + 1, s) for o, n, s, d in zip(offset, lengths, stride, dilation)),
    )


def _grouped(a: Array, groups: int) -> Array:
    """[batch, channels, windows...] as [batch, groups, channels per group, windows]."""
    return a.reshape(a.shape[0], groups, a.shape[1] // groups, int(np.prod(a.shape[2:])))


# Columns are made for as many images, or groups of an image, at a time as keep them within this many elements, and in
# the same memory: they stay in the cache (a megabyte of float32).
COLUMN_ELEMENTS = 1 << 18


def _chunks(batch: int, groups: int, elements_per_group: int) -> Iterator[tuple[slice, slice]]:
    """Which images and groups are taken together."""
    room = max(1, COLUMN_ELEMENTS // max(1, elements_per_group))
    images, some = max(1, room // groups), min(groups, room)
    for image in range(0, batch, images):
        for group in range(0, groups, some):
            yield slice(image, min(batch, image + images)), slice(group, min(groups, group + some))


def _large(w: Ints, lengths: Ints, groups: int) -> bool:
    """Whether one group's columns of one image are already more than are made at a time: groups are then better taken
    one by one, by rules that make fewer columns."""
    return groups > 1 and int(np.prod(w[1:])) * int(np.prod(lengths)) > COLUMN_ELEMENTS


def _group(channels: int, number: int) -> slice:
    return slice(channels * number, channels * (number + 1))


def _windows(
    x: Array, kernel: Ints, lengths: Ints, stride: Ints, dilation: Ints, writeable: bool = False
) -> Array:
    """The windows of x as they lie in its memory: [images, channels, kernel..., windows...]."""
    steps = x.strides[2:]
    moves = (*(t * d for t, d in zip(steps, dilation)), *(t * s for t, s in zip(steps, stride)))
    shape = (*x.shape[:2], *kernel, *lengths)
    return as_strided(x, shape, (*x.strides[:2], *moves), writeable=writeable)


class _Columns:
    """im2col, part by part: [images, groups, channels per group * kernel, windows]."""

    def __init__(
        self,
        x: Array,
        kernel: Ints,
        lengths: Ints,
        stride: Ints,
        padding: Ints,
        dilation: Ints,
        groups: int,
        scratch: Scratch,
    ):
        x = flat.with_border(x, padding, scratch)
        self.each = x.shape[1] // groups
        self.shape = (self.each * int(np.prod(kernel)), int(np.prod(lengths)))
        self.windows = _windows(x, kernel, lengths, stride, dilation)
        self.scratch, self.memory = scratch, np.empty(0, x.dtype)

    def of(self, images: slice, groups: slice) -> Array:
        """The columns of these images and groups, until the next are asked for."""
        part = self.windows[images, groups.start * self.each : groups.stop * self.each]
        if part.flags.c_contiguous:  # kernels of one element
            found = part
        else:
            if part.size > self.memory.size:
                self.memory = self.scratch.empty((part.size,), part.dtype)
            found = self.memory[: part.size].reshape(part.shape)
            np.copyto(found, part)
        return found.reshape(part.shape[0], groups.stop - groups.start, *self.shape)


def conv(x: Array, w: Array, stride: Ints, padding: Ints, dilation: Ints, groups: int) -> Array:
    dims = zip(x.shape[2:], w.shape[2:], stride, padding, dilation)
    lengths = tuple((n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in dims)
    if batched.applies(x.shape[0], w.shape, lengths, stride, groups):
        return batched.conv(x, w, lengths, stride, padding, dilation)
    if flat.applies(x.shape, w.shape, lengths, stride, padding, groups):
        return flat.conv(x, w, lengths, padding, dilation)
    if _large(w.shape, lengths, groups):
        y = np.empty((x.shape[0], w.shape[0], *lengths), x.dtype)
        for group in range(groups):
            ours, theirs = _group(w.shape[1], group), _group(w.shape[0] // groups, group)
            y[:, theirs] = conv(x[:, ours], w[theirs], stride, padding, dilation, 1)
        return y
    rows = w.reshape(groups, w.shape[0] // groups, int(np.prod(w.shape[1:])))
    y = np.empty((x.shape[0], groups, rows.shape[1], int(np.prod(lengths))), x.dtype)
    with Scratch() as scratch:
        columns = _Columns(x, w.shape[2:], lengths, stride, padding, dilation, groups, scratch)
        for images, some in _chunks(x.shape[0], groups, rows.shape[2] * y.shape[3]):
            np.matmul(rows[some], columns.of(images, some), out=y[images, some])
    return y.reshape(x.shape[0], w.shape[0], *lengths)


def _reversed(w: Array, groups: int) -> Array:
    """The kernels reversed, and of each group the in and out channels exchanged."""
    outer, inner, *kernel = w.shape
    backwards: tuple[Any, ...] = (..., *(slice(None, None, -1) for _ in kernel))
    exchanged = w[backwards].reshape(groups, outer // groups, inner, *kernel).swapaxes(1, 2)
    return exchanged.reshape(groups * inner, outer // groups, *kernel)


def input_grad(
    dy: Array, w: Array, input_size: Ints, stride: Ints, padding: Ints, dilation: Ints, groups: int
) -> Array:
    kernel, lengths = w.shape[2:], dy.shape[2:]
    around = tuple(d * (k - 1) - p for d, k, p in zip(dilation, kernel, padding))
    if max(stride) == 1 and min(around) >= 0 and w.shape[0] <= 2 * input_size[1]:
        # Windows that move by one: the same as convolving dy with the reversed kernels, which adds up in the product.
        return conv(dy, _reversed(w, groups), stride, around, dilation, groups)
    if batched.applies_to_gradient(dy.shape[0], w.shape, lengths, groups):
        return batched.input_grad(dy, w, input_size, stride, padding, dilation)
    apart = all(s >= d * (k - 1) + 1 for s, k, d in zip(stride, kernel, dilation))
    if not apart and max(dilation) == 1 and all(s <= k for s, k in zip(stride, kernel)):
        return _input_grad_by_phase(dy, w, input_size, stride, padding, groups)
    rows = w.reshape(groups, w.shape[0] // groups, int(np.prod(w.shape[1:]))).swapaxes(1, 2)
    images_dy = _grouped(dy, groups)
    padded = np.zeros((*input_size[:2], *(n + 2 * p for n, p in zip(input_size[2:], padding))), dy.dtype)
    each = w.shape[1]
    for images, some in _chunks(dy.shape[0], groups, rows.shape[1] * images_dy.shape[3]):
        target = padded[images, some.start * each : some.stop * each]
        columns = np.matmul(rows[some], images_dy[images, some]).reshape(*target.shape[:2], *kernel, *lengths)
        if apart:
            _windows(target, kernel, lengths, stride, dilation, writeable=True)[...] = columns
            continue
        for offset in every(*map(range, kernel)):
            window = _window_slices(offset, lengths, stride, dilation)
            target[window] += columns[(slice(None), slice(None), *offset)]
    inside: tuple[Any, ...] = (..., *(slice(p, p + n) for n, p in zip(input_size[2:], padding)))
    return padded[inside].copy()


def _input_grad_by_phase(
    dy: Array, w: Array, input_size: Ints, stride: Ints, padding: Ints, groups: int
) -> Array:
    """Elements of dx that are a stride apart read the same kernel positions: each phase is a convolution of dy, by steps
    of one, with those positions of the reversed kernels. No dilation, and every phase has kernel positions."""
    rank = len(stride)
    dx = np.empty(input_size, dy.dtype)
    for phases in every(*map(range, stride)):
        taken, borders, target = [], [], []
        for n, t, k, s, p, phase in zip(input_size[2:], dy.shape[2:], w.shape[2:], stride, padding, phases):
            first = (phase + p) % s
            last = (k - 1 - first) // s  # the position of the last of this phase's kernel elements
            # Element q of the phase is the sum over j of dy[q + start + j] times the kernel's last, ..., first element.
            start = (phase + p - first) // s - last
            length = -(-(n - phase) // s) if n > phase else 0
            taken.append(slice(first, None, s))
            borders.append((-start, start + length + last - t))
            target.append(slice(phase, None, s))
        places: tuple[Any, ...] = (..., *target)
        if 0 in dx[places].shape:
            continue
        some = _reversed(w[(slice(None), slice(None), *taken)], groups)
        with Scratch() as scratch:
            part = flat.bordered(dy, borders, scratch)
            dx[places] = conv(part, some, (1,) * rank, (0,) * rank, (1,) * rank, groups)
    return dx


def weight_grad(
    x: Array, dy: Array, weight_size: Ints, stride: Ints, padding: Ints, dilation: Ints, groups: int
) -> Array:
    kernel, lengths = weight_size[2:], dy.shape[2:]
    if batched.applies(x.shape[0], weight_size, lengths, stride, groups):
        return batched.weight_grad(x, dy, weight_size, stride, padding, dilation)
    few = weight_size[1] <= flat.MOST_INNER_FOR_WEIGHT
    if few and flat.applies(x.shape, weight_size, lengths, stride, padding, groups):
        return flat.weight_grad(x, dy, weight_size, padding, dilation)
    if _large(weight_size, lengths, groups):
        size = (weight_size[0] // groups, *weight_size[1:])
        parts = []
        for group in range(groups):
            ours, theirs = _group(size[1], group), _group(size[0], group)
            parts.append(weight_grad(x[:, ours], dy[:, theirs], size, stride, padding, dilation, 1))
        return np.concatenate(parts)
    images_dy = _grouped(dy, groups)
    rows = int(np.prod(weight_size[1:]))
    total = np.zeros((groups, rows, weight_size[0] // groups), x.dtype)
    with Scratch() as scratch:
        columns = _Columns(x, kernel, lengths, stride, padding, dilation, groups, scratch)
        # The products of a chunk, one per image, are of the weight's size each: bounded like the columns.
        for images, some in _chunks(x.shape[0], groups, rows * max(images_dy.shape[3], total.shape[2])):
            total[some] += flat.products(columns.of(images, some), images_dy[images, some]).sum(0)
    return total.swapaxes(1, 2).reshape(weight_size)
