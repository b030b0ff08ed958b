"""Transposed convolution: the gradient of a convolution with respect to its input, as a layer of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..dims import bounds
from ..op import Attr, Op, declare, op_named
from ..types import TensorType
from .common import FLOATING, Array, Shape, check_dtype, needed, shape_of, shape_text, uniform, wide
from .convolution import GEOMETRY

Ints = tuple[int, ...]
ATTRS = {**GEOMETRY, "output_padding": Attr("ints")}
_INPUT_GRAD = op_named("conv_input_grad")


def _size(x: Shape, w: Shape, attrs: Mapping[str, Any]) -> Shape:
    lengths = tuple(
        (n - 1) * s - 2 * p + d * (k - 1) + o + 1
        for n, k, s, p, d, o in zip(
            x[2:], w[2:], attrs["stride"], attrs["padding"], attrs["dilation"], attrs["output_padding"]
        )
    )
    return (x[0], w[1] * attrs["groups"], *lengths)


def _geometry(attrs: Mapping[str, Any]) -> dict[str, Any]:
    return {name: attrs[name] for name in GEOMETRY}


def _plane(shape: Shape) -> str:
    """Spatial sizes as PyTorch's message has them, which takes one dim for a plane of height 1."""
    return "(" + " x ".join(map(str, (1, shape[2]) if len(shape) == 3 else shape[2:])) + ")"


def _infer(x: TensorType, w: TensorType, bias: TensorType | None = None, **attrs: Any) -> TensorType:
    rank, groups = w.rank - 2, attrs["groups"]
    if not 1 <= rank <= 3 or x.rank != w.rank:
        raise RuntimeError(
            f"Expected {rank + 1}D (unbatched) or {rank + 2}D (batched) input to conv_transpose{rank}d, "
            f"but got input of size: {shape_text(x.shape)}"
        )
    check_dtype("conv_transpose", x, FLOATING)
    if x.dtype is not w.dtype:
        raise RuntimeError(f"Input type ({x.dtype!r}) and weight type ({w.dtype!r}) should be the same")
    if x.shape[1] != w.shape[0]:
        raise RuntimeError(
            f"Given transposed=1, weight of size {shape_text(w.shape)}, expected input{shape_text(x.shape)} to have "
            f"{w.shape[0]} channels, but got {x.shape[1]} channels instead"
        )
    size = _size(x.shape, w.shape, attrs)
    if any(bounds(n)[1] < 1 for n in size[2:]):
        raise RuntimeError(
            f"Given input size per channel: {_plane(x.shape)}. Calculated output size per channel: {_plane(size)}. "
            "Output size is too small"
        )
    if bias is not None and bias.shape != (size[1],):
        raise RuntimeError(
            f"Given transposed=1, weight of size {shape_text(w.shape)}, expected bias to be 1-dimensional with "
            f"{size[1]} elements, but got bias of size {shape_text(bias.shape)} instead"
        )
    if bias is not None and bias.dtype is not x.dtype:
        raise RuntimeError(f"Input type ({x.dtype!r}) and bias type ({bias.dtype!r}) should be the same")
    if groups < 1:
        raise RuntimeError("non-positive groups is not supported")
    return _INPUT_GRAD.infer_types((x, w), {"input_size": size, **_geometry(attrs)})[0]


def _numpy(x: Array, w: Array, bias: Array | None = None, **attrs: Any) -> Array:
    size = tuple(int(n) for n in _size(x.shape, w.shape, attrs))
    y: Array = _INPUT_GRAD.numpy(x, w, input_size=size, **_geometry(attrs))
    if bias is not None:
        y += bias.reshape(-1, *(1,) * (y.ndim - 2))
    return y


def _vjp(F: Any, ctx: Any, dy: Any) -> list[Any]:
    x, w, *bias = ctx.inputs
    geometry = _geometry(ctx.attrs)
    return needed(
        ctx,
        lambda: F.conv(dy, F.conj(w), **geometry),
        lambda: F.conv_weight_grad(dy, F.conj(x), weight_size=shape_of(F, w), **geometry),
        *[lambda: F.sum(dy, dims=tuple(i for i in range(len(shape_of(F, dy))) if i != 1))][: len(bias)],
    )


def _decompose(F: Any, x: Any, w: Any, bias: Any = None, **attrs: Any) -> Any:
    size = _size(shape_of(F, x), shape_of(F, w), attrs)
    y = F.conv_input_grad(x, w, input_size=size, **_geometry(attrs))
    if bias is None:
        return y
    return F.add(y, F.reshape(bias, shape=(*shape_of(F, bias), *(1,) * (len(size) - 2))))


def _sample(
    *shapes: Ints, stride: int, padding: int = 0, dilation: int = 1, groups: int = 1, output_padding: int = 0
) -> Any:
    rank = len(shapes[0]) - 2
    return uniform(
        *shapes,
        tolerance=2,
        stride=(stride,) * rank,
        padding=(padding,) * rank,
        dilation=(dilation,) * rank,
        groups=groups,
        output_padding=(output_padding,) * rank,
    )


declare(
    Op(
        "conv_transpose",
        "conv_transpose(x, w[, bias]): x [batch, channels, spatial...] spread by w [channels, out channels / groups, "
        "kernel...]: the `conv_input_grad` of x, plus a bias per out channel. `output_padding` adds to the end of each "
        "dim, less than its stride. https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.conv_transpose2d.html",
        infer=_infer,
        numpy=wide(_numpy),
        attrs=ATTRS,
        arity=(2, 3),
        level="composite",
        vjp=_vjp,
        decompose=_decompose,
        saves=("input:0", "input:1"),
        grad_name="ConvolutionBackward0",
        flops=lambda x, w, bias=None, **attrs: _INPUT_GRAD.flops(x, w) if _INPUT_GRAD.flops else 0,
        samples=(
            _sample((2, 3, 4, 5), (3, 4, 3, 2), (4,), stride=1),
            _sample((2, 4, 3, 3), (4, 3, 3, 3), stride=2, padding=1, groups=2, output_padding=1),
            _sample((1, 2, 5), (2, 3, 3), (3,), stride=3, padding=1, dilation=2, output_padding=2),
            _sample((1, 2, 2, 3, 2), (2, 1, 2, 2, 2), (1,), stride=2),
        ),
    )
)
