"""Normalization: values less their mean over their deviation, and values over their root mean square.

Batch, layer, group and instance norm are one op here: they differ in the dims that are averaged over and in how the
scale and the shift lie against the input, which the caller says by shapes that broadcast.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..op import Attr, Op, declare
from ..types import TensorType
from .common import (
    FLOAT,
    Array,
    Shape,
    broadcast,
    check_dtype,
    check_same_dtype,
    needed,
    shape_of,
    strided,
    uniform,
    wide,
)
from .reduce import reduced_shape

Dims = tuple[int, ...]
ATTRS = {"dims": Attr("ints"), "eps": Attr("float", 1e-5)}


def _infer(name: str) -> Callable[..., TensorType]:
    def infer(x: TensorType, *affine: TensorType, dims: Dims, eps: float) -> TensorType:
        check_dtype(name, x, FLOAT)
        check_same_dtype(name, x, *affine)
        reduced_shape(x.shape, dims, True)
        if broadcast(x.shape, *(a.shape for a in affine)) != x.shape:
            raise RuntimeError(f"{name}: weight and bias must broadcast to the input's shape {list(x.shape)}")
        return x

    return infer


def _affine_numpy(y: Array, affine: tuple[Array, ...]) -> Array:
    if affine:
        y = y * affine[0]
    return y + affine[1] if len(affine) > 1 else y


def _mean(x: Array, dims: Dims) -> Array:
    """np.mean warns where there is nothing to average."""
    count = np.prod([x.shape[d] for d in dims])
    return np.add.reduce(x, tuple(dims), keepdims=True) / x.dtype.type(count)


def _standardize_numpy(x: Array, *affine: Array, dims: Dims, eps: float) -> Array:
    with np.errstate(invalid="ignore", divide="ignore"):
        deviation = x - _mean(x, dims)
        variance = _mean(deviation * deviation, dims)
        return _affine_numpy(deviation / np.sqrt(variance + x.dtype.type(eps)), affine)


def _deviation_and_scale(F: Any, x: Any, dims: Dims, eps: float) -> tuple[Any, Any]:
    """x - mean, and 1 / sqrt(variance + eps). The gradient computes them again: in one graph with the forward
    they are the same nodes, and in two a row kernel has the row at hand."""
    deviation = F.sub(x, F.mean(x, dims=dims, keepdim=True))
    variance = F.mean(F.mul(deviation, deviation), dims=dims, keepdim=True)
    return deviation, F.rsqrt(F.add(variance, eps))


def _standardize_vjp(F: Any, ctx: Any, dy: Any) -> list[Any]:
    dims, eps = ctx.attrs["dims"], ctx.attrs["eps"]
    deviation, scale = _deviation_and_scale(F, ctx.inputs[0], dims, eps)
    # Products that are not normalized yet may be more than a short number holds.
    short = F.type_of(dy).dtype.itemsize < 4
    if not short and _sums_columns(dims, *(shape_of(F, x) for x in (dy, *ctx.inputs[1:2]))):
        return _column_gradients(F, ctx, dy, deviation, scale)
    normal = F.mul(deviation, scale)

    def input_gradient() -> Any:
        dn = F.mul(dy, ctx.inputs[1]) if len(ctx.inputs) > 1 else dy
        centred = F.sub(dn, F.mean(dn, dims=dims, keepdim=True))
        # The scale comes after the sum, so that the pass over a row that finds the variance makes this sum too.
        along = F.mul(scale, F.mean(F.mul(dn, deviation), dims=dims, keepdim=True))
        return F.mul(scale, F.sub(centred, F.mul(normal, along)))

    return needed(ctx, input_gradient, lambda: F.mul(dy, normal), lambda: dy)


def _sums_columns(dims: Dims, shape: Shape, *weights: Shape) -> bool:
    """Whether the sums go across rows, for columns of which each has one weight, as in a batch norm of [N, C]."""
    rank = len(shape)
    alike = all(size[d - rank] == 1 for size in weights for d in dims if d - rank >= -len(size))
    return rank - 1 not in dims and alike


def _column_gradients(F: Any, ctx: Any, dy: Any, deviation: Any, scale: Any) -> list[Any]:
    """The weight comes after the sums: all gradients share them, and one pass over the values makes both, which do not
    wait for the scale. Along rows, of images for one, it is no gain: what the kernels around read is not made there."""
    over = {"dims": ctx.attrs["dims"], "keepdim": True}
    product = F.mul(dy, deviation)

    def input_gradient() -> Any:
        centred = F.sub(dy, F.mean(dy, **over))
        along = F.mul(F.mul(scale, scale), F.mean(product, **over))
        factor = F.mul(scale, ctx.inputs[1]) if len(ctx.inputs) > 1 else scale
        return F.mul(factor, F.sub(centred, F.mul(deviation, along)))

    return needed(ctx, input_gradient, lambda: F.mul(scale, F.sum(product, **over)), lambda: dy)


def _affine(F: Any, y: Any, affine: tuple[Any, ...]) -> Any:
    if affine:
        y = F.mul(y, affine[0])
    return F.add(y, affine[1]) if len(affine) > 1 else y


def _standardize_decompose(F: Any, x: Any, *affine: Any, dims: Dims, eps: float) -> Any:
    deviation, scale = _deviation_and_scale(F, x, dims, eps)
    return _affine(F, F.mul(deviation, scale), affine)


declare(
    Op(
        "standardize",
        "standardize(x[, weight[, bias]]): (x - mean) / sqrt(variance + eps), mean and (biased) variance over `dims`, "
        "times the weight, plus the bias, which broadcast to x. https://arxiv.org/abs/1502.03167, "
        "https://arxiv.org/abs/1607.06450, https://arxiv.org/abs/1803.08494",
        infer=_infer("standardize"),
        numpy=wide(_standardize_numpy),
        attrs=ATTRS,
        arity=(1, 3),
        level="composite",
        vjp=_standardize_vjp,
        decompose=_standardize_decompose,
        saves=("input:0", "input:1"),
        grad_name="NativeLayerNormBackward0",
        samples=(
            uniform((3, 5), dims=(1,), tolerance=4.0),
            uniform((3, 5), (5,), (5,), dims=(1,), eps=0.1),
            uniform((4, 3, 2), (3, 1), dims=(0, 2), tolerance=4.0),
            uniform((6, 3), (3,), (3,), dims=(0,), eps=0.1),
            uniform((4, 2, 3), dims=(0, 1), eps=0.1),
            uniform((2, 3, 4), (1, 3, 4), (1, 3, 4), dims=(1, 2), eps=1e-3),
            strided((3, 4), dims=(1,), eps=0.1),
            uniform((0, 3), (3,), dims=(1,)),
        ),
    )
)


def _rms_numpy(x: Array, *affine: Array, dims: Dims, eps: float) -> Array:
    with np.errstate(invalid="ignore", divide="ignore"):
        return _affine_numpy(x / np.sqrt(_mean(x * x, dims) + x.dtype.type(eps)), affine)


def _rms_scale(F: Any, x: Any, dims: Dims, eps: float) -> Any:
    return F.rsqrt(F.add(F.mean(F.mul(x, x), dims=dims, keepdim=True), eps))


def _rms_vjp(F: Any, ctx: Any, dy: Any) -> list[Any]:
    x, dims = ctx.inputs[0], ctx.attrs["dims"]
    scale = _rms_scale(F, x, dims, ctx.attrs["eps"])
    normal = F.mul(x, scale)

    def input_gradient() -> Any:
        dn = F.mul(dy, ctx.inputs[1]) if len(ctx.inputs) > 1 else dy
        along = F.mul(scale, F.mean(F.mul(dn, x), dims=dims, keepdim=True))
        return F.mul(scale, F.sub(dn, F.mul(normal, along)))

    return needed(ctx, input_gradient, lambda: F.mul(dy, normal))


declare(
    Op(
        "rms_norm",
        "rms_norm(x[, weight]): x / sqrt(mean of x² over `dims` + eps), times the weight, which broadcasts to x. "
        "https://arxiv.org/abs/1910.07467",
        infer=_infer("rms_norm"),
        numpy=wide(_rms_numpy),
        attrs=ATTRS,
        arity=(1, 2),
        level="composite",
        vjp=_rms_vjp,
        decompose=lambda F, x, *affine, dims, eps: _affine(F, F.mul(x, _rms_scale(F, x, dims, eps)), affine),
        saves=("input:0", "input:1"),
        grad_name="FusedRmsNormBackward0",
        samples=(
            uniform((3, 5), dims=(1,)),
            uniform((3, 5), (5,), dims=(1,), eps=0.1),
            uniform((2, 3, 4), (3, 4), dims=(1, 2), eps=1e-3),
            strided((3, 4), dims=(1,)),
            uniform((0, 3), (3,), dims=(1,)),
        ),
    )
)
