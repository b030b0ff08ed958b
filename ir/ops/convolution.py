"""Convolution and its two gradients.

The three ops are each other's gradients: with any two of (x, w, dy) given, the third's op contracts them. Their NumPy
rules are in `convolution_numpy.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

from ..dims import DimLike, bounds, floordiv, product
from ..op import Attr, Op, declare
from ..types import TensorType
from . import convolution_numpy as rules
from .common import (
    FLOATING,
    Array,
    Shape,
    by_float64,
    check_dtype,
    integers,
    needed,
    shape_of,
    shape_text,
    strided,
    uniform,
    wide,
)

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


# The front end's convolutions are those of floats, as PyTorch's; quantized layers sum products of integers.
_FACTORS = FLOATING | {"int"}


def _conv_infer(
    x: TensorType,
    w: TensorType,
    stride: Ints,
    padding: Ints,
    dilation: Ints,
    groups: int,
) -> TensorType:
    rank = w.rank - 2
    if not 1 <= rank <= 3 or x.rank != w.rank:
        raise RuntimeError(
            f"Expected {rank + 1}D (unbatched) or {rank + 2}D (batched) input to conv{rank}d, "
            f"but got input of size: {shape_text(x.shape)}"
        )
    check_dtype("conv", x, _FACTORS)
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


def _static(shape: Shape) -> Ints:
    return tuple(int(n) for n in shape)


def _conv_vjp(F: Any, ctx: Any, dy: Any) -> list[Any]:
    x, w = ctx.inputs
    return needed(
        ctx,
        lambda: F.conv_input_grad(dy, F.conj(w), input_size=shape_of(F, x), **_geometry(ctx.attrs)),
        lambda: F.conv_weight_grad(F.conj(x), dy, weight_size=shape_of(F, w), **_geometry(ctx.attrs)),
    )


def _conv_numpy(x: Array, w: Array, **attrs: Any) -> Array:
    return by_float64(lambda x, w: rules.conv(x, w, **attrs), x, w, prod(w.shape[1:]))


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
            integers((2, 4, 7, 6), (6, 2, 3, 2), **_attrs_of(CASES[2])),
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
        numpy=wide(rules.input_grad),
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
        numpy=wide(rules.weight_grad),
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
    check_dtype("conv", x, FLOATING)
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
    y = rules.conv(x, w, **attrs)
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
