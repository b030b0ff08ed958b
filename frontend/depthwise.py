"""Depthwise convolutions of eager mode, and their gradients, by kernels of our own compiler.

With one channel to a group a convolution is a few multiply-adds on each element: no matrix product, and NumPy writes
every one of them to memory. The best of three ways to do it in NumPy (shifted products added up in blocks that stay in
the cache, the same on channel-last images, matrix products with banded matrices) took 3 to 20 times PyTorch's time;
kernels that keep the sums in registers take 0.5 to 2.5 times (`docs/performance.md`). Three small graphs with symbolic
sizes serve all shapes, so that few are ever compiled, and the disk cache keeps them:

    border   an image with zeros around it
    taps     y[n, c, t] = sum over k of x[n, c, t * stride + k * dilation] * w[c, k]
    dots     dw[c, k] = sum over n, t of x[c, n, t + k * dilation] * dy[c, n, t], on images laid out as one row

The rules in `ir/ops/convolution.py` say what is meant; small convolutions, and all that do not fit here, are computed by
them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from itertools import product as every
from math import prod
from typing import Any

import numpy as np

from .eager_kernels import call, compiled
from .ir.builder import GraphBuilder
from .ir.dims import Dim, DimLike
from .ir.dtypes import DType, from_numpy
from .ir.graph import Value
from .ir.types import TensorType
from .runtime.allocator import empty
from .runtime.compiled_graph import CompiledGraph
from .tensor import Array

Ints = tuple[int, ...]

# Below this many multiply-adds NumPy's rules are not worth replacing: about a third of a millisecond.
FEWEST_PRODUCTS = 1 << 18
# Sums made in one pass: each is kept in four vectors, and there are 32 registers.
TOGETHER = 5
DTYPES = frozenset({np.dtype(np.float32), np.dtype(np.float64)})


def run(name: str, operands: Sequence[Array], attrs: Mapping[str, Any]) -> Array | None:
    """The result of the convolution op `name`, or None where NumPy's rule is to compute it."""
    groups = attrs["groups"]
    first, second = operands[:2]
    if groups == 1 or first.dtype not in DTYPES or second.dtype != first.dtype:
        return None
    kernel: Ints
    match name:
        case "conv" | "convolution":
            channels, w_shape, kernel = first.shape[1], second.shape, second.shape[2:]
            outputs = first.shape[0] * prod(_lengths(first.shape[2:], kernel, attrs))
        case "conv_input_grad":
            channels, w_shape, kernel = attrs["input_size"][1], second.shape, second.shape[2:]
            outputs = prod(first.shape) // groups
            if any(d * (k - 1) < p for d, k, p in zip(attrs["dilation"], kernel, attrs["padding"])):
                return None  # windows that lie in the padding alone
        case _:
            channels, w_shape, kernel = first.shape[1], attrs["weight_size"], attrs["weight_size"][2:]
            outputs = prod(second.shape) // groups
    if not groups == channels == w_shape[0] or outputs * groups * prod(kernel) < FEWEST_PRODUCTS:
        return None
    geometry = (attrs["stride"], attrs["padding"], attrs["dilation"])
    if name == "conv_input_grad":
        return _input_grad(first, second, tuple(attrs["input_size"]), *geometry)
    if name == "conv_weight_grad":
        return _weight_grad(first, second, tuple(w_shape), *geometry)
    bias = operands[2] if len(operands) == 3 else None
    padding = attrs["padding"]
    return _taps(_bordered(first, padding, padding), second, bias, geometry[0], geometry[2])


def _lengths(sizes: Ints, kernel: Ints, attrs: Mapping[str, Any]) -> Ints:
    rows = zip(sizes, kernel, attrs["stride"], attrs["padding"], attrs["dilation"])
    return tuple((n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in rows)


def _input_grad(dy: Array, w: Array, size: Ints, stride: Ints, padding: Ints, dilation: Ints) -> Array:
    """With zeros between dy's elements where the windows moved by more than one, a convolution with the reversed
    kernels."""
    low = [d * (k - 1) - p for k, p, d in zip(w.shape[2:], padding, dilation)]
    sizes = [n + d * (k - 1) for n, k, d in zip(size[2:], w.shape[2:], dilation)]
    if max(stride) == 1:
        spread = _bordered(dy, low, [n - a - t for n, a, t in zip(sizes, low, dy.shape[2:])])
    else:
        spread = _spread(dy, sizes, low, stride)
    backwards = (slice(None), slice(None), *(slice(None, None, -1) for _ in stride))
    return _taps(spread, w[backwards], None, (1,) * len(stride), dilation)


def _weight_grad(x: Array, dy: Array, size: Ints, stride: Ints, padding: Ints, dilation: Ints) -> Array:
    """Products of whole rows: all images of a channel one after another, dy spread to where its windows begin and zero
    elsewhere, so that what a window reads beyond its image counts for nothing."""
    sizes = [n + 2 * p for n, p in zip(x.shape[2:], padding)]
    images = _spread(x.swapaxes(0, 1), sizes, padding, (1,) * len(stride))
    spread = _spread(dy.swapaxes(0, 1), sizes, (0,) * len(stride), stride)
    rows = images.reshape(size[0], -1), spread.reshape(size[0], -1)
    pitches = [prod(sizes[i + 1 :]) for i in range(len(sizes))]
    reach = sum(d * (k - 1) * pitch for d, k, pitch in zip(dilation, size[2:], pitches))
    found = {"channels": size[0], "elements": rows[0].shape[1] - reach}
    found.update((f"pitch{i}", pitch) for i, pitch in enumerate(pitches[:-1]))
    parts = call(_dots(size[2:], dilation, from_numpy(x.dtype)), rows, found)
    return np.stack(parts[: prod(size[2:])], 1).reshape(size)


def _bordered(x: Array, low: Sequence[int], high: Sequence[int]) -> Array:
    """x with zeros around."""
    if not (any(low) or any(high)):
        return x
    found = {"images": x.shape[0] * x.shape[1]}
    found.update((f"size{i}", n) for i, n in enumerate(x.shape[2:]))
    rows = x.reshape(-1, *x.shape[2:])
    return call(_border(tuple(low), tuple(high), from_numpy(x.dtype)), (rows,), found)[0].reshape(
        *x.shape[:2], *(n + a + b for n, a, b in zip(x.shape[2:], low, high))
    )


def _spread(x: Array, sizes: Sequence[int], start: Sequence[int], step: Sequence[int]) -> Array:
    """Zeros of `sizes`, and x's elements in them, from `start` on `step` apart."""
    result = empty((*x.shape[:2], *sizes), x.dtype)
    result.fill(0)
    ends = [a + (n - 1) * s + 1 for a, n, s in zip(start, x.shape[2:], step)]
    places: tuple[Any, ...] = (..., *map(slice, start, ends, step))
    result[places] = x
    return result


def _taps(x: Array, w: Array, bias: Array | None, stride: Ints, dilation: Ints) -> Array:
    kernel = w.shape[2:]
    found = {"images": x.shape[0], "channels": x.shape[1]}
    for i, (n, k, s, d) in enumerate(zip(x.shape[2:], kernel, stride, dilation)):
        length, found[f"rest{i}"] = divmod(n - d * (k - 1) - 1, s)
        found[f"size{i}"] = length + 1
    kernel_of = _taps_kernel(kernel, stride, dilation, bias is not None, from_numpy(x.dtype))
    operands = (x, w.reshape(w.shape[0], -1), *(() if bias is None else (bias,)))
    return call(kernel_of, operands, found)[0]


# The graphs


@cache
def _border(low: Ints, high: Ints, dtype: DType) -> CompiledGraph:
    F = GraphBuilder("border")
    sizes = [Dim(f"size{i}", 1) for i in range(len(low))]
    x = F.input("x", TensorType((Dim("images", 0), *sizes), dtype))
    return compiled(F.finish([F.pad(x, low=(0, *low), high=(0, *high), value=0.0)]))


@cache
def _taps_kernel(kernel: Ints, stride: Ints, dilation: Ints, bias: bool, dtype: DType) -> CompiledGraph:
    F = GraphBuilder("taps")
    images, channels = Dim("images", 0), Dim("channels", 0)
    sizes = [Dim(f"size{i}", 1) for i in range(len(kernel))]
    reach = [(size - 1) * s + 1 for size, s in zip(sizes, stride)]
    # Elements behind the last window; told apart from none where there may be some.
    rest = [Dim(f"rest{i}", 0, s - 1) if s > 1 else 0 for i, s in enumerate(stride)]
    whole = [n + d * (k - 1) + r for n, k, d, r in zip(reach, kernel, dilation, rest)]
    x = F.input("x", TensorType((images, channels, *whole), dtype))
    w = F.input("w", TensorType((channels, prod(kernel)), dtype))
    shape = (images, channels, *sizes)

    def per_channel(value: Value) -> Value:
        return F.expand(F.reshape(value, shape=(1, channels, *(1 for _ in sizes))), shape=shape)

    total = per_channel(F.input("bias", TensorType((channels,), dtype))) if bias else None
    for number, position in enumerate(every(*map(range, kernel))):
        starts = [k * d for k, d in zip(position, dilation)]
        taken = F.slice(
            x,
            starts=(0, 0, *starts),
            stops=(images, channels, *(a + n for a, n in zip(starts, reach))),
            steps=(1, 1, *stride),
        )
        weight = F.slice(w, starts=(0, number), stops=(channels, number + 1), steps=(1, 1))
        term = F.mul(taken, per_channel(weight))
        total = term if total is None else F.add(total, term)
    assert total is not None
    return compiled(F.finish([total]))


@cache
def _dots(kernel: Ints, dilation: Ints, dtype: DType) -> CompiledGraph:
    F = GraphBuilder("dots")
    channels, elements = Dim("channels", 0), Dim("elements", 1)
    pitches: list[DimLike] = [*(Dim(f"pitch{i}", 1) for i in range(len(kernel) - 1)), 1]
    offsets: list[DimLike] = []
    for position in every(*map(range, kernel)):
        offset: DimLike = 0
        for k, d, pitch in zip(position, dilation, pitches):
            offset = offset + k * d * pitch
        offsets.append(offset)
    row = TensorType((channels, elements + offsets[-1]), dtype)
    x, dy = F.input("x", row), F.input("dy", row)
    begun = F.slice(dy, starts=(0, 0), stops=(channels, elements), steps=(1, 1))
    found = []
    for offset in offsets:
        moved = F.slice(x, starts=(0, offset), stops=(channels, offset + elements), steps=(1, 1))
        found.append(F.sum(F.mul(moved, begun), dims=(1,), keepdim=False))
    # A value that needs several of them makes those one kernel, which reads each row once.
    joined = []
    for start in range(0, len(found), TOGETHER):
        total, *others = found[start : start + TOGETHER]
        for part in others:
            total = F.add(total, part)
        joined.append(total)
    return compiled(F.finish([*found, *joined]))
