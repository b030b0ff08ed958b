"""Depthwise convolutions of eager mode, and their gradients, by kernels of our own compiler.

With one channel to a group a convolution is a few multiply-adds on each element: no matrix product, and NumPy writes
every one of them to memory. The best of three ways to do it in NumPy (shifted products added up in blocks that stay in
the cache, the same on channel-last images, matrix products with banded matrices) took 3 to 20 times PyTorch's time;
kernels that keep the sums in registers take 0.3 to 2 times (`docs/performance.md`). Small graphs with symbolic sizes
serve all shapes, so that few are ever compiled, and the disk cache keeps them. Narrow images, and all gradients of
weights, are computed on flat images (`depthwise_flat.py`), the others row by row:

    border   an image with zeros around it
    taps     y[n, c, t] = sum over k of x[n, c, t * stride + k * dilation] * w[c, k]

The rules in `ir/ops/convolution.py` say what is meant; small convolutions, and all that do not fit here, are computed by
them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from itertools import product as every
from math import prod
from operator import gt
from typing import Any

import numpy as np

from . import depthwise_flat as flat
from .eager_kernels import call, compiled
from .flat_images import Windows, windows_of
from .ir.builder import GraphBuilder
from .ir.dims import Dim
from .ir.dtypes import DType, from_numpy
from .ir.graph import Value
from .ir.types import TensorType
from .runtime.allocator import empty
from .runtime.compiled_graph import CompiledGraph
from .tensor import Array

Ints = tuple[int, ...]

# Below this many multiply-adds NumPy's rules are not worth replacing: about a third of a millisecond.
FEWEST_PRODUCTS = 1 << 18
# Rows of more elements are long enough for a loop each. Measured on Zen 4: with a stride the flat way has more to copy,
# 56 wide it takes 1.2 to 1.5 times as long; without, 0.8 to 1 times up to 56, 1.1 times at 112.
WIDEST_FLAT = 32
DTYPES = frozenset({np.dtype(np.float32), np.dtype(np.float64)})


def run(name: str, operands: Sequence[Array], attrs: Mapping[str, Any]) -> Array | None:
    """The result of the convolution op `name`, or None where NumPy's rule is to compute it."""
    groups = attrs["groups"]
    first, second = operands[:2]
    if groups == 1 or first.dtype not in DTYPES or second.dtype != first.dtype:
        return None
    w_shape = attrs["weight_size"] if name == "conv_weight_grad" else second.shape
    channels = attrs["input_size"][1] if name == "conv_input_grad" else first.shape[1]
    if not groups == channels == w_shape[0]:
        return None
    windows = windows_of(w_shape, attrs)
    kernel = windows.kernel
    match name:
        case "conv" | "convolution":
            products = first.shape[0] * channels * prod(windows.lengths(first.shape[2:])) * prod(kernel)
        case "conv_input_grad":
            products = first.size * prod(kernel)
            if any(d * (k - 1) < p for d, k, p in zip(windows.dilation, kernel, windows.padding)):
                return None  # windows that lie in the padding alone
        case _:
            products = second.size * prod(kernel)
    if not products or products < FEWEST_PRODUCTS:
        return None
    if name == "conv_input_grad":
        return _input_grad(first, second, tuple(attrs["input_size"][2:]), windows)
    if name == "conv_weight_grad":
        return _weight_grad(first, second, windows)
    return _conv(first, second, operands[2] if len(operands) == 3 else None, windows)


def _conv(x: Array, w: Array, bias: Array | None, windows: Windows) -> Array:
    sizes = x.shape[2:]
    whole = all(n % s == 0 for n, s in zip(sizes, windows.stride))
    if whole and sizes[-1] <= WIDEST_FLAT and windows.lengths(sizes) == windows.grid(sizes):
        return flat.taps(x, w, bias, windows)
    x = _bordered(x, windows.padding, windows.padding)
    return _taps(x, w, bias, windows.stride, windows.dilation)


def _input_grad(dy: Array, w: Array, sizes: Ints, windows: Windows) -> Array:
    """With zeros between dy's elements where the windows moved by more than one, a convolution with the reversed
    kernels."""
    kernel, stride, dilation = windows.kernel, windows.stride, windows.dilation
    low = tuple(d * (k - 1) - p for k, p, d in zip(kernel, windows.padding, dilation))
    ones = (1,) * len(stride)
    backwards = w[(slice(None), slice(None), *(slice(None, None, -1) for _ in stride))]
    reversed_ = Windows(kernel, ones, low, dilation)
    if sizes[-1] <= WIDEST_FLAT and reversed_.lengths(sizes) == sizes:
        spread = dy if max(stride) == 1 else _spread(dy, sizes, (0,) * len(stride), stride)
        return flat.taps(spread, backwards, None, reversed_)
    whole = [n + d * (k - 1) for n, k, d in zip(sizes, kernel, dilation)]
    if max(stride) == 1:
        spread = _bordered(dy, low, [n - a - t for n, a, t in zip(whole, low, dy.shape[2:])])
    else:
        spread = _spread(dy, whole, low, stride)
    return _taps(spread, backwards, None, ones, dilation)


def _weight_grad(x: Array, dy: Array, windows: Windows) -> Array:
    if any(map(gt, dy.shape[2:], windows.grid(x.shape[2:]))):  # windows begin before and behind the image
        x = _bordered(x, windows.padding, windows.padding)
        windows = replace(windows, padding=(0,) * len(windows.padding))
    return flat.dots(x, dy, windows)


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
