"""Convolution and its two gradients.

The three ops are each other's gradients: with any two of (x, w, dy) given, the third's op contracts them. A
NumPy rule writes each window of the input as a column (im2col) and multiplies matrices; V. Dumoulin and F.
Visin, "A guide to convolution arithmetic for deep learning", https://arxiv.org/abs/1603.07285, has the index
arithmetic.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import product as every
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

from ..dims import DimLike, bounds, floordiv, product
from ..op import Attr, Op, declare
from ..types import TensorType
from . import convolution_batch as batched
from . import convolution_flat as flat
from .common import FLOATING, Array, Shape, check_dtype, needed, shape_of, shape_text, strided, uniform, wide
from .convolution_flat import products, with_border
from .scratch import Scratch

Ints = tuple[int, ...]

GEOMETRY = {
    "stride": Attr("ints"),
    "padding": Attr("ints"),
    "dilation": Attr("ints"),
    "groups": Attr("int", 1),
}


def _lengths(sizes: Shape, kernel: Shape, stride: Ints, padding: Ints, dilation: Ints) -> Shape:
    """How many windows fit along each dim."""
    return tuple(
        floordiv(n + 2 * p - d * (k - 1) - 1, s) + 1
        for n, k, s, p, d in zip(sizes, kernel, stride, padding, dilation)
    )


def _check_geometry(rank: int, stride: Ints, padding: Ints, dilation: Ints, groups: int) -> None:
    if not len(stride) == len(padding) == len(dilation) == rank:
        raise RuntimeError(
            f"expected stride, padding and dilation of {rank} values, got {stride}, {padding} and {dilation}"
        )
    if min(stride) < 1:
        raise RuntimeError("non-positive stride is not supported")
    if min(padding) < 0:
        raise RuntimeError("negative padding is not supported")
    if min(dilation) < 1:
        raise RuntimeError("dilation should be greater than zero")
    if groups < 1:
        raise RuntimeError("non-positive groups is not supported")


def _conv_infer(
    x: TensorType, w: TensorType, stride: Ints, padding: Ints, dilation: Ints, groups: int
) -> TensorType:
    rank = w.rank - 2
    if not 1 <= rank <= 3 or x.rank != w.rank:
        raise RuntimeError(
            f"Expected {rank + 1}D (unbatched) or {rank + 2}D (batched) input to conv{rank}d, "
            f"but got input of size: {shape_text(x.shape)}"
        )
    check_dtype("conv", x, FLOATING)
    if x.dtype is not w.dtype:
        raise RuntimeError(f"Input type ({x.dtype!r}) and weight type ({w.dtype!r}) should be the same")
    _check_geometry(rank, stride, padding, dilation, groups)
    outer, inner = w.shape[:2]
    if isinstance(outer, int) and outer % groups:
        raise RuntimeError(
            f"Given groups={groups}, expected weight to be divisible by {groups} at dimension 0, "
            f"but got weight of size [{shape_text(w.shape)}] instead"
        )
    if x.shape[1] != inner * groups:
        raise RuntimeError(
            f"Given groups={groups}, weight of size {shape_text(w.shape)}, expected "
            f"input{shape_text(x.shape)} to have {inner * groups} channels, but got {x.shape[1]} channels "
            "instead"
        )
    kernel = w.shape[2:]
    for n, k, p, d in zip(x.shape[2:], kernel, padding, dilation):
        if bounds(n + 2 * p - d * (k - 1) - 1)[1] < 0:
            padded = " x ".join(str(n + 2 * p) for n, p in zip(x.shape[2:], padding))
            window = " x ".join(str(d * (k - 1) + 1) for k, d in zip(kernel, dilation))
            raise RuntimeError(
                f"Calculated padded input size per channel: ({padded}). Kernel size: ({window}). "
                "Kernel size can't be greater than actual input size"
            )
    return x.with_shape((x.shape[0], outer, *_lengths(x.shape[2:], kernel, stride, padding, dilation)))


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
        x = with_border(x, padding, scratch)
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


def _conv_numpy(x: Array, w: Array, stride: Ints, padding: Ints, dilation: Ints, groups: int) -> Array:
    lengths = _static(_lengths(x.shape[2:], w.shape[2:], stride, padding, dilation))
    if batched.applies(x.shape[0], w.shape, lengths, stride, groups):
        return batched.conv(x, w, lengths, stride, padding, dilation)
    if flat.applies(x.shape, w.shape, lengths, stride, padding, groups):
        return flat.conv(x, w, lengths, padding, dilation)
    rows = w.reshape(groups, w.shape[0] // groups, int(np.prod(w.shape[1:])))
    y = np.empty((x.shape[0], groups, rows.shape[1], int(np.prod(lengths))), x.dtype)
    with Scratch() as scratch:
        columns = _Columns(x, w.shape[2:], lengths, stride, padding, dilation, groups, scratch)
        for images, some in _chunks(x.shape[0], groups, rows.shape[2] * y.shape[3]):
            np.matmul(rows[some], columns.of(images, some), out=y[images, some])
    return y.reshape(x.shape[0], w.shape[0], *lengths)


def _static(shape: Shape) -> Ints:
    return tuple(int(n) for n in shape)


def _conv_vjp(F: Any, ctx: Any, dy: Any) -> list[Any]:
    x, w = ctx.inputs
    return needed(
        ctx,
        lambda: F.conv_input_grad(dy, F.conj(w), input_size=shape_of(F, x), **_geometry(ctx.attrs)),
        lambda: F.conv_weight_grad(F.conj(x), dy, weight_size=shape_of(F, w), **_geometry(ctx.attrs)),
    )


def _geometry(attrs: Mapping[str, Any]) -> dict[str, Any]:
    return {name: attrs[name] for name in GEOMETRY}


def _conv_flops(x: TensorType, w: TensorType, **attrs: Any) -> DimLike:
    y = _conv_infer(x, w, **attrs)
    return product((2, *y.shape, *w.shape[1:]))


def _geometries(*rows: tuple[tuple[int, ...], tuple[int, ...], int, int, int, int]) -> list[dict[str, Any]]:
    """Sample rows (x shape, w shape, stride, padding, dilation, groups), the same in every dim."""
    return [
        {
            "x": x,
            "w": w,
            "stride": (s,) * (len(w) - 2),
            "padding": (p,) * (len(w) - 2),
            "dilation": (d,) * (len(w) - 2),
            "groups": g,
        }
        for x, w, s, p, d, g in rows
    ]


CASES = _geometries(
    ((2, 1, 8, 8), (3, 1, 5, 5), 1, 0, 1, 1),
    ((2, 3, 7, 9), (4, 3, 3, 3), 2, 1, 1, 1),
    ((1, 4, 7, 6), (6, 2, 3, 2), 1, 2, 2, 2),
    ((2, 3, 6, 6), (3, 1, 3, 3), 2, 1, 1, 3),
    ((2, 3, 9), (4, 3, 4), 3, 1, 1, 1),
    ((1, 2, 4, 5, 3), (3, 2, 2, 2, 2), 1, 1, 1, 1),
    ((2, 3, 5, 5), (4, 3, 1, 1), 1, 0, 1, 1),
    ((0, 2, 5, 5), (3, 2, 3, 3), 1, 0, 1, 1),
    ((1, 2, 3, 3), (3, 2, 3, 3), 1, 0, 1, 1),
)


def _attrs_of(case: dict[str, Any]) -> dict[str, Any]:
    return {name: case[name] for name in GEOMETRY}


def _y_shape(case: dict[str, Any]) -> Ints:
    x, w = case["x"], case["w"]
    lengths = _lengths(x[2:], w[2:], case["stride"], case["padding"], case["dilation"])
    return (x[0], w[0], *_static(lengths))


UNEVEN: dict[str, Any] = {"stride": (1, 2), "padding": (2, 0), "dilation": (2, 1), "groups": 1}

declare(
    Op(
        "conv",
        "Cross-correlation of x [batch, channels, spatial...] (1 to 3 spatial dims) with w [out channels, "
        "channels / groups, kernel...]. "
        "https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.conv2d.html",
        infer=_conv_infer,
        numpy=wide(_conv_numpy),
        attrs=GEOMETRY,
        arity=(2, 2),
        lowering="contraction",
        vjp=_conv_vjp,
        saves=("input:0", "input:1"),
        grad_name="ConvolutionBackward0",
        flops=_conv_flops,
        samples=(
            *(uniform(c["x"], c["w"], tolerance=2, **_attrs_of(c)) for c in CASES),
            uniform((2, 3, 6, 7), (4, 3, 3, 2), **UNEVEN),
            strided((2, 3, 6, 6), (4, 3, 3, 3), **_attrs_of(CASES[0])),
        ),
    )
)


def _input_grad_infer(
    dy: TensorType, w: TensorType, input_size: Shape, stride: Ints, padding: Ints, dilation: Ints, groups: int
) -> TensorType:
    x = dy.with_shape(input_size)
    want = _conv_infer(x, w, stride, padding, dilation, groups)
    if want != dy:
        raise RuntimeError(f"conv_input_grad: expected dy to be {want} for an input of {x}, got {dy}")
    return x


def _reversed(w: Array, groups: int) -> Array:
    """The kernels reversed, and of each group the in and out channels exchanged."""
    outer, inner, *kernel = w.shape
    backwards: tuple[Any, ...] = (..., *(slice(None, None, -1) for _ in kernel))
    exchanged = w[backwards].reshape(groups, outer // groups, inner, *kernel).swapaxes(1, 2)
    return exchanged.reshape(groups * inner, outer // groups, *kernel)


def _input_grad_numpy(
    dy: Array, w: Array, input_size: Ints, stride: Ints, padding: Ints, dilation: Ints, groups: int
) -> Array:
    kernel, lengths = w.shape[2:], dy.shape[2:]
    around = tuple(d * (k - 1) - p for d, k, p in zip(dilation, kernel, padding))
    if max(stride) == 1 and min(around) >= 0 and w.shape[0] <= 2 * input_size[1]:
        # Windows that move by one: the same as convolving dy with the reversed kernels, which adds up in the product.
        return _conv_numpy(dy, _reversed(w, groups), stride, around, dilation, groups)
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
        taken, bordered, target = [], [(0, 0), (0, 0)], []
        for n, t, k, s, p, phase in zip(input_size[2:], dy.shape[2:], w.shape[2:], stride, padding, phases):
            first = (phase + p) % s
            last = (k - 1 - first) // s  # the position of the last of this phase's kernel elements
            # Element q of the phase is the sum over j of dy[q + start + j] times the kernel's last, ..., first element.
            start = (phase + p - first) // s - last
            length = -(-(n - phase) // s) if n > phase else 0
            taken.append(slice(first, None, s))
            bordered.append((-start, start + length + last - t))
            target.append(slice(phase, None, s))
        places: tuple[Any, ...] = (..., *target)
        part = _bordered(dy, bordered)
        some = _reversed(w[(slice(None), slice(None), *taken)], groups)
        if 0 not in dx[places].shape:
            dx[places] = _conv_numpy(part, some, (1,) * rank, (0,) * rank, (1,) * rank, groups)
    return dx


def _bordered(x: Array, border: Sequence[tuple[int, int]]) -> Array:
    """x with zeros before and behind it along each dim, or without as many elements where a number is negative."""
    inside = tuple(slice(max(0, -low), n + min(0, high)) for n, (low, high) in zip(x.shape, border))
    return np.pad(x[inside], [(max(0, low), max(0, high)) for low, high in border])


def _input_grad_vjp(F: Any, ctx: Any, g: Any) -> list[Any]:
    dy, w = ctx.inputs
    return needed(
        ctx,
        lambda: F.conv(g, F.conj(w), **_geometry(ctx.attrs)),
        lambda: F.conv_weight_grad(g, F.conj(dy), weight_size=shape_of(F, w), **_geometry(ctx.attrs)),
    )


declare(
    Op(
        "conv_input_grad",
        "conv_input_grad(dy, w): the gradient of `conv` with respect to x, of shape `input_size`; a "
        "transposed convolution.",
        infer=_input_grad_infer,
        numpy=wide(_input_grad_numpy),
        attrs={"input_size": Attr("dims"), **GEOMETRY},
        arity=(2, 2),
        lowering="contraction",
        vjp=_input_grad_vjp,
        saves=("input:0", "input:1"),
        grad_name="ConvolutionBackwardBackward0",
        flops=lambda dy, w, **attrs: product((2, *dy.shape, *w.shape[1:])),
        samples=tuple(
            uniform(_y_shape(c), c["w"], tolerance=2, input_size=c["x"], **_attrs_of(c)) for c in CASES
        ),
    )
)


def _weight_grad_infer(
    x: TensorType,
    dy: TensorType,
    weight_size: Shape,
    stride: Ints,
    padding: Ints,
    dilation: Ints,
    groups: int,
) -> TensorType:
    w = x.with_shape(weight_size)
    want = _conv_infer(x, w, stride, padding, dilation, groups)
    if want != dy:
        raise RuntimeError(f"conv_weight_grad: expected dy to be {want} for a weight of {w}, got {dy}")
    return w


def _weight_grad_numpy(
    x: Array, dy: Array, weight_size: Ints, stride: Ints, padding: Ints, dilation: Ints, groups: int
) -> Array:
    kernel, lengths = weight_size[2:], dy.shape[2:]
    if batched.applies(x.shape[0], weight_size, lengths, stride, groups):
        return batched.weight_grad(x, dy, weight_size, stride, padding, dilation)
    few = weight_size[1] <= flat.MOST_INNER_FOR_WEIGHT
    if few and flat.applies(x.shape, weight_size, lengths, stride, padding, groups):
        return flat.weight_grad(x, dy, weight_size, padding, dilation)
    images_dy = _grouped(dy, groups)
    rows = int(np.prod(weight_size[1:]))
    total = np.zeros((groups, rows, weight_size[0] // groups), x.dtype)
    with Scratch() as scratch:
        columns = _Columns(x, kernel, lengths, stride, padding, dilation, groups, scratch)
        # The products of a chunk, one per image, are of the weight's size each: bounded like the columns.
        for images, some in _chunks(x.shape[0], groups, rows * max(images_dy.shape[3], total.shape[2])):
            total[some] += products(columns.of(images, some), images_dy[images, some]).sum(0)
    return total.swapaxes(1, 2).reshape(weight_size)


def _weight_grad_vjp(F: Any, ctx: Any, g: Any) -> list[Any]:
    x, dy = ctx.inputs
    return needed(
        ctx,
        lambda: F.conv_input_grad(F.conj(dy), g, input_size=shape_of(F, x), **_geometry(ctx.attrs)),
        lambda: F.conv(F.conj(x), g, **_geometry(ctx.attrs)),
    )


declare(
    Op(
        "conv_weight_grad",
        "conv_weight_grad(x, dy): the gradient of `conv` with respect to w, of shape `weight_size`.",
        infer=_weight_grad_infer,
        numpy=wide(_weight_grad_numpy),
        attrs={"weight_size": Attr("dims"), **GEOMETRY},
        arity=(2, 2),
        lowering="contraction",
        vjp=_weight_grad_vjp,
        saves=("input:0", "input:1"),
        grad_name="ConvolutionBackwardBackward0",
        flops=lambda x, dy, weight_size, **attrs: product((2, *dy.shape, *weight_size[1:])),
        samples=tuple(
            uniform(c["x"], _y_shape(c), tolerance=2, weight_size=c["w"], **_attrs_of(c)) for c in CASES
        ),
    )
)


def _convolution_infer(
    x: TensorType, w: TensorType, bias: TensorType | None = None, **attrs: Any
) -> TensorType:
    result = _conv_infer(x, w, **attrs)
    if bias is not None:
        if bias.shape != (w.shape[0],):
            raise RuntimeError(
                f"Given weight of size {shape_text(w.shape)}, expected bias to be 1-dimensional with "
                f"{w.shape[0]} elements, but got bias of size {shape_text(bias.shape)} instead"
            )
        if bias.dtype is not x.dtype:
            raise RuntimeError(f"Input type ({x.dtype!r}) and bias type ({bias.dtype!r}) should be the same")
    return result


def _convolution_numpy(x: Array, w: Array, bias: Array | None = None, **attrs: Any) -> Array:
    y = _conv_numpy(x, w, **attrs)
    if bias is not None:
        y += bias.reshape(-1, *(1,) * (y.ndim - 2))
    return y


def _convolution_vjp(F: Any, ctx: Any, dy: Any) -> list[Any]:
    grads = _conv_vjp(F, _operands(ctx, 2), dy)
    if len(ctx.inputs) == 3:
        dims = tuple(i for i in range(len(shape_of(F, dy))) if i != 1)
        grads.append(F.sum(dy, dims=dims) if ctx.needs[2] else None)
    return grads


def _operands(ctx: Any, count: int) -> Any:
    return type(ctx)(ctx.inputs[:count], ctx.outputs, ctx.attrs, ctx.needs[:count])


def _convolution_decompose(F: Any, x: Any, w: Any, bias: Any = None, **attrs: Any) -> Any:
    y = F.conv(x, w, **attrs)
    if bias is None:
        return y
    rank = len(shape_of(F, y))
    return F.add(y, F.reshape(bias, shape=(*shape_of(F, bias), *(1,) * (rank - 2))))


declare(
    Op(
        "convolution",
        "convolution(x, w[, bias]): `conv` plus a bias per out channel. "
        "https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.conv2d.html",
        infer=_convolution_infer,
        numpy=wide(_convolution_numpy),
        attrs=GEOMETRY,
        arity=(2, 3),
        level="composite",
        vjp=_convolution_vjp,
        decompose=_convolution_decompose,
        saves=("input:0", "input:1"),
        grad_name="ConvolutionBackward0",
        flops=lambda x, w, bias=None, **attrs: _conv_flops(x, w, **attrs),
        samples=(
            *(uniform(c["x"], c["w"], c["w"][:1], tolerance=2, **_attrs_of(c)) for c in CASES),
            uniform(CASES[0]["x"], CASES[0]["w"], **_attrs_of(CASES[0])),
        ),
    )
)
