"""Transposed convolution functions."""

from __future__ import annotations

from ..autocast import lower_precision
from ..dispatch import apply, op_named
from ..functional_slices import narrow
from ..tensor import Tensor, scalar_type_name
from .padding import pad
from .windows import Ints, batched, spread

_OP = op_named("conv_transpose")
_NAMES = {1: ("length",), 2: ("height", "width"), 3: ("depth", "height", "width")}


def _transpose(
    rank: int,
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Ints,
    padding: Ints,
    output_padding: Ints,
    groups: int,
    dilation: Ints,
) -> Tensor:
    x, lone = batched(input, rank, f"conv_transpose{rank}d")
    if x.dtype is not weight.dtype:
        raise RuntimeError(
            f"expected scalar type {scalar_type_name(x.dtype)} but found {scalar_type_name(weight.dtype)}"
        )
    strides, dilations = spread(stride, rank, "stride"), spread(dilation, rank, "dilation")
    paddings = spread(padding, rank, "padding")
    extra = spread(output_padding, rank, "output_padding")
    if min(strides) <= 0:
        raise RuntimeError("non-positive stride is not supported")
    if min(paddings) < 0:
        raise RuntimeError("negative padding is not supported")
    if min(dilations) <= 0:
        raise RuntimeError("dilation should be greater than zero")
    if min(extra) < 0:
        raise RuntimeError("negative output_padding is not supported")
    if any(o >= s and o >= d for o, s, d in zip(extra, strides, dilations)):
        sides = list(zip(_NAMES[rank], extra, strides, dilations))
        text = " ".join(
            " ".join(f"{what}_{side[0]}: {side[i]}" for side in sides)
            for i, what in enumerate(("output_padding", "stride", "dilation"), 1)
        )
        raise RuntimeError(f"output padding must be smaller than either stride or dilation, but got {text}")
    operands = (x, weight) if bias is None else (x, weight, bias)
    attrs = {
        "stride": strides,
        "padding": paddings,
        "dilation": dilations,
        "groups": int(groups),
        "output_padding": extra,
    }
    if any(o >= s for o, s in zip(extra, strides)):
        result = _beyond_the_stride(x, weight, bias, attrs)
    else:
        result = apply(_OP, operands, attrs)
    return result.squeeze(0) if lone else result


def _beyond_the_stride(x: Tensor, weight: Tensor, bias: Tensor | None, attrs: dict[str, object]) -> Tensor:
    """More output padding than a stride (dilation allows it): no convolution has such a gradient. All that the
    kernel reaches is computed, and the part that is asked for cut from it, zeros beyond."""
    rank = weight.ndim - 2
    none = (0,) * rank
    y: Tensor = apply(_OP, (x, weight), {**attrs, "padding": none, "output_padding": none})
    paddings, extra = attrs["padding"], attrs["output_padding"]
    assert isinstance(paddings, tuple) and isinstance(extra, tuple)
    border: list[int] = []
    for p, o in zip(reversed(paddings), reversed(extra)):
        border += [0, max(o - p, 0)]
    lengths = [n - 2 * p + o for n, p, o in zip(y.shape[2:], paddings, extra)]
    y = pad(y, border)
    for dim, (p, length) in enumerate(zip(paddings, lengths), 2):
        y = narrow(y, dim, p, length)
    return y if bias is None else y + bias.reshape(-1, *none[1:], 1)


@lower_precision
def conv_transpose1d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Ints = 1,
    padding: Ints = 0,
    output_padding: Ints = 0,
    groups: int = 1,
    dilation: Ints = 1,
) -> Tensor:
    """input[n, c, l], weight[c, o / groups, k] -> [n, o, l']."""
    return _transpose(1, input, weight, bias, stride, padding, output_padding, groups, dilation)


@lower_precision
def conv_transpose2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Ints = 1,
    padding: Ints = 0,
    output_padding: Ints = 0,
    groups: int = 1,
    dilation: Ints = 1,
) -> Tensor:
    """input[n, c, h, w], weight[c, o / groups, kh, kw] -> [n, o, h', w']."""
    return _transpose(2, input, weight, bias, stride, padding, output_padding, groups, dilation)


@lower_precision
def conv_transpose3d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Ints = 1,
    padding: Ints = 0,
    output_padding: Ints = 0,
    groups: int = 1,
    dilation: Ints = 1,
) -> Tensor:
    """input[n, c, d, h, w], weight[c, o / groups, kd, kh, kw] -> [n, o, d', h', w']."""
    return _transpose(3, input, weight, bias, stride, padding, output_padding, groups, dilation)
