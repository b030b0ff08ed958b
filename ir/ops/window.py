"""Pooling: a reduction over a small window around each element.

Windows slide over the last len(kernel) dims; every dim before them is a batch.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import product as every
from typing import Any

import numpy as np

from ..dims import DimLike, bounds, floordiv, minimum
from ..dtypes import f32
from ..op import Attr, Op, declare
from ..types import TensorType
from .common import (
    FLOAT,
    REAL,
    Array,
    Shape,
    check_dtype,
    check_same_dtype,
    distinct,
    shape_of,
    strided,
    uniform,
    values,
    wide,
)

Ints = tuple[int, ...]
NAN = math.nan
SLIDING = {"kernel": Attr("ints"), "stride": Attr("ints"), "padding": Attr("ints")}
MAX = {**SLIDING, "dilation": Attr("ints"), "ceil_mode": Attr("bool", False)}
AVERAGE = {**SLIDING, "ceil_mode": Attr("bool", False), "count_include_pad": Attr("bool", True)}


def _length(size: DimLike, k: int, s: int, p: int, d: int, ceil_mode: bool) -> DimLike:
    """How many windows there are along a dim. With `ceil_mode` the last may hang over the end, but it begins
    inside the operand or its left padding."""
    reach = size + 2 * p - d * (k - 1) - 1
    if not ceil_mode:
        return floordiv(reach, s) + 1
    return minimum(floordiv(reach + s - 1, s) + 1, floordiv(size + p - 1, s) + 1)


def _pooled(
    x: TensorType, kernel: Ints, stride: Ints, padding: Ints, dilation: Ints, ceil_mode: bool
) -> tuple[DimLike, ...]:
    """The shape of the result; RuntimeError in PyTorch's words for a window that does not fit."""
    rank = len(kernel)
    if not len(stride) == len(padding) == len(dilation) == rank or x.rank < rank:
        raise RuntimeError(
            f"pooling: kernel {kernel}, stride {stride}, padding {padding} and dilation {dilation} must "
            f"have one value per spatial dim of {x}"
        )
    if min(kernel) < 1:
        raise RuntimeError(f"kernel size should be greater than zero, but got kernel_size={list(kernel)}")
    if min(stride) < 1:
        raise RuntimeError("stride should not be zero")
    if min(dilation) < 1:
        raise RuntimeError(f"dilation should be greater than zero, but got dilation={list(dilation)}")
    for k, p, d in zip(kernel, padding, dilation):
        if not 0 <= p <= (d * (k - 1) + 1) // 2:
            raise RuntimeError(
                f"pad should be at most half of effective kernel size, but got pad={p}, kernel_size={k} and "
                f"dilation={d}"
            )
    sizes = x.shape[x.rank - rank :]
    lengths = tuple(
        _length(n, k, s, p, d, ceil_mode) for n, k, s, p, d in zip(sizes, kernel, stride, padding, dilation)
    )
    if any(bounds(n)[1] < 1 for n in lengths):
        channel = x.shape[: x.rank - rank][-1:] or (1,)
        raise RuntimeError(
            f"Given input size: ({_by(channel + sizes)}). Calculated output size: "
            f"({_by(channel + tuple(max(n, 0) if isinstance(n, int) else n for n in lengths))}). "
            "Output size is too small"
        )
    return (*x.shape[: x.rank - rank], *lengths)


def _by(shape: Shape) -> str:
    return "x".join(map(str, shape))


def _padded(
    x: Array, lengths: Ints, kernel: Ints, stride: Ints, padding: Ints, dilation: Ints, fill: Any
) -> Array:
    """x with `padding` in front and as much behind as the windows reach."""
    sizes = x.shape[x.ndim - len(kernel) :]
    reach = [(n - 1) * s + d * (k - 1) + 1 for n, k, s, d in zip(lengths, kernel, stride, dilation)]
    behind = [max(r - n - p, 0) for r, n, p in zip(reach, sizes, padding)]
    if not any(padding) and not any(behind):
        return x
    lead = [(0, 0)] * (x.ndim - len(kernel))
    return np.pad(x, [*lead, *zip(padding, behind)], constant_values=fill)


def _inside(padding: Ints, sizes: Ints) -> tuple[Any, ...]:
    """The index of the operand in its padded form."""
    return (..., *(slice(p, p + n) for p, n in zip(padding, sizes)))


def _positions(lengths: Ints, kernel: Ints, stride: Ints, dilation: Ints) -> Iterator[tuple[Any, ...]]:
    """For each kernel position in order, the index that takes that element of every window from the padded
    operand."""
    for offset in every(*map(range, kernel)):
        yield (
            ...,
            *(
                slice(o * d, o * d + (n - 1) * s + 1, s)
                for o, n, s, d in zip(offset, lengths, stride, dilation)
            ),
        )


# Maximum


def _max_infer(
    x: TensorType, kernel: Ints, stride: Ints, padding: Ints, dilation: Ints, ceil_mode: bool
) -> TensorType:
    check_dtype("max_pool2d", x, REAL - {"bool"})
    return x.with_shape(_pooled(x, kernel, stride, padding, dilation, ceil_mode))


def _lowest(x: Array) -> Any:
    return -math.inf if x.dtype.kind not in "iu" else np.iinfo(x.dtype).min


def _max_windows(
    x: Array, kernel: Ints, stride: Ints, padding: Ints, dilation: Ints, ceil_mode: bool
) -> tuple[Array, Ints, list[tuple[Any, ...]]]:
    """The padded operand, the number of windows, and the index of each kernel position in it."""
    sizes = x.shape[x.ndim - len(kernel) :]
    lengths = tuple(
        int(_length(n, k, s, p, d, ceil_mode))
        for n, k, s, p, d in zip(sizes, kernel, stride, padding, dilation)
    )
    padded = _padded(x, lengths, kernel, stride, padding, dilation, _lowest(x))
    return padded, lengths, list(_positions(lengths, kernel, stride, dilation))


def _max_numpy(x: Array, **attrs: Any) -> Array:
    padded, _, positions = _max_windows(x, **attrs)
    return _largest(padded, positions)


def _largest(padded: Array, positions: list[tuple[Any, ...]]) -> Array:
    result = padded[positions[0]].copy()
    for position in positions[1:]:
        np.maximum(result, padded[position], out=result)
    return result


def _winners(padded: Array, positions: list[tuple[Any, ...]]) -> Iterator[Array]:
    """For each kernel position, where it holds its window's maximum: the first one, or the last NaN, as
    PyTorch's loop (`value > best or isnan(value)`) chooses."""
    best = _largest(padded, positions)
    if np.isnan(best).any():
        chosen = np.zeros(best.shape, np.int64)
        best = padded[positions[0]].copy()
        for number, position in enumerate(positions):
            value = padded[position]
            better = (value > best) | (value != value)
            np.copyto(best, value, where=better)
            chosen[better] = number
        yield from (chosen == number for number in range(len(positions)))
        return
    free = np.ones(best.shape, bool)
    for position in positions:
        wins = padded[position] == best
        wins &= free
        free ^= wins
        yield wins


def _max_grad_infer(x: TensorType, dy: TensorType, **attrs: Any) -> TensorType:
    check_same_dtype("max_pool_grad", x, dy)
    want = _max_infer(x, **attrs)
    if want != dy:
        raise RuntimeError(f"max_pool_grad: expected dy to be {want}, got {dy}")
    return x


# Gradients are computed for so many elements at a time: their temporaries stay in the cache.
CACHED_ELEMENTS = 1 << 16


def _max_grad_numpy(x: Array, dy: Array, **attrs: Any) -> Array:
    lead = x.ndim - len(attrs["kernel"])
    planes, plane = x.reshape(-1, *x.shape[lead:]), max(1, math.prod(x.shape[lead:]))
    planes_dy, result = dy.reshape(-1, *dy.shape[lead:]), np.empty(planes.shape, dy.dtype)
    step = max(1, CACHED_ELEMENTS // plane)
    for start in range(0, len(planes), step):
        part = slice(start, start + step)
        result[part] = _max_grad_planes(planes[part], planes_dy[part], **attrs)
    return result.reshape(x.shape)


def _max_grad_planes(x: Array, dy: Array, **attrs: Any) -> Array:
    padded, _, positions = _max_windows(x, **attrs)
    grad = np.zeros(padded.shape, dy.dtype)
    # Each dy's bits, kept where its position wins: NumPy's choice between dy and 0 goes element by element.
    integer = np.dtype(f"i{dy.dtype.itemsize}")
    bits = np.ascontiguousarray(dy).view(integer)
    for position, wins in zip(positions, _winners(padded, positions)):
        mask = wins.astype(integer)
        np.negative(mask, out=mask)
        mask &= bits
        grad[position] += mask.view(dy.dtype)
    return grad[_inside(attrs["padding"], x.shape[x.ndim - len(attrs["kernel"]) :])]


def _max_gather_infer(x: TensorType, g: TensorType, **attrs: Any) -> TensorType:
    if x != g:
        raise RuntimeError(f"max_pool_gather: expected two operands of one type, got {x} and {g}")
    return _max_infer(x, **attrs)


def _max_gather_numpy(x: Array, g: Array, **attrs: Any) -> Array:
    padded, lengths, positions = _max_windows(x, **attrs)
    kernel, stride, padding, dilation = (attrs[n] for n in ("kernel", "stride", "padding", "dilation"))
    source = _padded(g, lengths, kernel, stride, padding, dilation, 0)
    result = np.zeros((*x.shape[: x.ndim - len(lengths)], *lengths), g.dtype)
    for position, wins in zip(positions, _winners(padded, positions)):
        np.copyto(result, source[position], where=wins)
    return result


def _pool(k: int, s: int, p: int = 0, d: int = 1, ceil_mode: bool = False, rank: int = 2) -> dict[str, Any]:
    return {
        "kernel": (k,) * rank,
        "stride": (s,) * rank,
        "padding": (p,) * rank,
        "dilation": (d,) * rank,
        "ceil_mode": ceil_mode,
    }


MAX_CASES: tuple[tuple[tuple[int, ...], dict[str, Any]], ...] = (
    ((2, 3, 6, 8), _pool(2, 2)),
    ((2, 3, 7, 5), _pool(3, 2, 1)),
    ((1, 2, 7, 8), _pool(2, 2, ceil_mode=True)),
    ((1, 2, 8, 9), _pool(2, 1, 0, 2)),
    ((1, 2, 7, 7), _pool(3, 3, 1, ceil_mode=True)),
    ((2, 3, 7), _pool(3, 2, 1, rank=1)),
    ((1, 2, 4, 5, 4), _pool(2, 2, rank=3)),
    ((0, 3, 4, 4), _pool(2, 2)),
    ((3, 5, 4), {**_pool(2, 1), "kernel": (3, 2), "stride": (2, 1)}),
)


def _max_shape(case: tuple[tuple[int, ...], dict[str, Any]]) -> Ints:
    return _max_infer(TensorType(case[0], f32), **case[1]).shape  # type: ignore[return-value]


declare(
    Op(
        "max_pool",
        "The largest element of each window, padding not counted; NaN if there is one. "
        "https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.max_pool2d.html",
        infer=_max_infer,
        numpy=wide(_max_numpy),
        attrs=MAX,
        lowering="window",
        vjp=lambda F, ctx, dy: [F.max_pool_grad(ctx.inputs[0], dy, **ctx.attrs)],
        saves=("input:0",),
        grad_name="MaxPool2DWithIndicesBackward0",
        samples=(
            *(distinct(shape, **attrs) for shape, attrs in MAX_CASES),
            strided((2, 3, 4, 4), **_pool(2, 2)),
            values([[[[1.0, NAN, 3.0, NAN], [5.0, 6.0, 6.0, 1.0]]]], **_pool(2, 2)),
        ),
    )
)

declare(
    Op(
        "max_pool_grad",
        "max_pool_grad(x, dy): the gradient of `max_pool`: each dy added to the first maximum of its "
        "window, or to the last NaN.",
        infer=_max_grad_infer,
        numpy=wide(_max_grad_numpy),
        attrs=MAX,
        arity=(2, 2),
        lowering="window",
        vjp=lambda F, ctx, g: [
            None,
            F.max_pool_gather(ctx.inputs[0], g, **ctx.attrs) if ctx.needs[1] else None,
        ],
        saves=("input:0",),
        grad_name="MaxPool2DWithIndicesBackwardBackward0",
        samples=(
            *(distinct(case[0], _max_shape(case), **case[1]) for case in MAX_CASES),
            values(
                [[[[1.0, 1.0, NAN, 7.0], [1.0, 1.0, 6.0, NAN]]]],
                [[[[2.0, 3.0]]]],
                label="ties",
                **_pool(2, 2),
            ),
        ),
    )
)

declare(
    Op(
        "max_pool_gather",
        "max_pool_gather(x, g): the elements of g where x has the maxima of its windows; the gradient of "
        "`max_pool_grad` with respect to dy.",
        infer=_max_gather_infer,
        numpy=wide(_max_gather_numpy),
        attrs=MAX,
        arity=(2, 2),
        lowering="window",
        vjp=lambda F, ctx, dy: [
            None,
            F.max_pool_grad(ctx.inputs[0], dy, **ctx.attrs) if ctx.needs[1] else None,
        ],
        saves=("input:0",),
        grad_name="MaxPoolGatherBackward0",
        samples=tuple(distinct(shape, shape, **attrs) for shape, attrs in MAX_CASES),
    )
)

# Average


def _avg_infer(
    x: TensorType, kernel: Ints, stride: Ints, padding: Ints, ceil_mode: bool, count_include_pad: bool
) -> TensorType:
    check_dtype("avg_pool2d", x, FLOAT)
    return x.with_shape(_pooled(x, kernel, stride, padding, (1,) * len(kernel), ceil_mode))


def _weights(
    sizes: Ints, lengths: Ints, kernel: Ints, stride: Ints, padding: Ints, count_include_pad: bool
) -> Array:
    """What each window divides by: its elements, those of the padding counted or not, those beyond it
    never."""
    counts = np.ones((), np.float64)
    for size, length, k, s, p in zip(sizes, lengths, kernel, stride, padding):
        start = np.arange(length) * s - p
        stop = np.minimum(start + k, size + p)
        if not count_include_pad:
            start, stop = np.maximum(start, 0), np.minimum(stop, size)
        counts = counts[..., None] * (stop - start)
    return counts


def _avg_numpy(
    x: Array, kernel: Ints, stride: Ints, padding: Ints, ceil_mode: bool, count_include_pad: bool
) -> Array:
    ones = (1,) * len(kernel)
    sizes = x.shape[x.ndim - len(kernel) :]
    lengths = tuple(
        int(_length(n, k, s, p, 1, ceil_mode)) for n, k, s, p in zip(sizes, kernel, stride, padding)
    )
    padded = _padded(x, lengths, kernel, stride, padding, ones, 0)
    first, *others = _positions(lengths, kernel, stride, ones)
    total = padded[first].copy()
    for position in others:
        total += padded[position]
    return total / _weights(sizes, lengths, kernel, stride, padding, count_include_pad).astype(x.dtype)


def _avg_grad_infer(dy: TensorType, input_size: Shape, **attrs: Any) -> TensorType:
    x = dy.with_shape(input_size)
    want = _avg_infer(x, **attrs)
    if want != dy:
        raise RuntimeError(f"avg_pool_grad: expected dy to be {want} for an input of {x}, got {dy}")
    return x


def _avg_grad_numpy(
    dy: Array,
    input_size: Ints,
    kernel: Ints,
    stride: Ints,
    padding: Ints,
    ceil_mode: bool,
    count_include_pad: bool,
) -> Array:
    ones = (1,) * len(kernel)
    rank = len(kernel)
    sizes, lengths = input_size[len(input_size) - rank :], dy.shape[dy.ndim - rank :]
    share = dy / _weights(sizes, lengths, kernel, stride, padding, count_include_pad).astype(dy.dtype)
    grad = _padded(np.zeros(input_size, dy.dtype), lengths, kernel, stride, padding, ones, 0)
    for position in _positions(lengths, kernel, stride, ones):
        grad[position] += share
    return grad[_inside(padding, sizes)].copy()


def _average(
    k: int, s: int, p: int = 0, ceil_mode: bool = False, include: bool = True, rank: int = 2
) -> dict[str, Any]:
    return {
        "kernel": (k,) * rank,
        "stride": (s,) * rank,
        "padding": (p,) * rank,
        "ceil_mode": ceil_mode,
        "count_include_pad": include,
    }


AVG_CASES: tuple[tuple[tuple[int, ...], dict[str, Any]], ...] = (
    ((2, 3, 6, 8), _average(2, 2)),
    ((2, 3, 7, 5), _average(3, 2, 1)),
    ((2, 3, 7, 5), _average(3, 2, 1, include=False)),
    ((1, 2, 7, 8), _average(3, 2, 1, ceil_mode=True)),
    ((1, 2, 7, 8), _average(3, 2, 1, ceil_mode=True, include=False)),
    ((2, 3, 7), _average(3, 2, 1, rank=1)),
    ((1, 2, 4, 5, 4), _average(2, 2, rank=3)),
    ((0, 3, 4, 4), _average(2, 2)),
)


def _avg_shape(case: tuple[tuple[int, ...], dict[str, Any]]) -> Ints:
    return _avg_infer(TensorType(case[0], f32), **case[1]).shape  # type: ignore[return-value]


declare(
    Op(
        "avg_pool",
        "The mean of each window. "
        "https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.avg_pool2d.html",
        infer=_avg_infer,
        numpy=wide(_avg_numpy),
        attrs=AVERAGE,
        lowering="window",
        vjp=lambda F, ctx, dy: [F.avg_pool_grad(dy, input_size=shape_of(F, ctx.inputs[0]), **ctx.attrs)],
        grad_name="AvgPool2DBackward0",
        samples=tuple(uniform(shape, **attrs) for shape, attrs in AVG_CASES),
    )
)

declare(
    Op(
        "avg_pool_grad",
        "avg_pool_grad(dy): the gradient of `avg_pool` for an operand of shape `input_size`.",
        infer=_avg_grad_infer,
        numpy=wide(_avg_grad_numpy),
        attrs={"input_size": Attr("dims"), **AVERAGE},
        lowering="window",
        vjp=lambda F, ctx, g: [F.avg_pool(g, **{name: ctx.attrs[name] for name in AVERAGE})],
        grad_name="AvgPool2DBackwardBackward0",
        samples=tuple(uniform(_avg_shape(case), input_size=case[0], **case[1]) for case in AVG_CASES),
    )
)
