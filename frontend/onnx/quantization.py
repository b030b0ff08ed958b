"""Rules of quantized arithmetic. Products of matrices are those of uint8 and int8, which processors multiply, whatever
the operands are: 128 moves from the numbers to their zero points. Convolutions are computed in float64, where sums of
products of 8-bit numbers are exact, but for those without borders and zero points."""

from __future__ import annotations

from typing import Any

import vitrify as torch

from ..ir.dtypes import DType
from ..quantized_layers import sums_of_integers
from ..tensor import Tensor
from .convolutions import conv
from .narrow import is_narrow, narrow_type, quantized, widened
from .table import Call, ONNXError, Value, as_array, as_tensor, dtype_of, rule


def _spread(parameter: Tensor, x: Tensor, axis: int, block: int) -> Tensor:
    """A scale or zero point in a shape that broadcasts with x: one for all, one per index of an axis, or one per
    block."""
    if parameter.numel() == 1:
        return parameter.reshape([1] * x.ndim)
    if block:
        axis %= x.ndim
        shape = [*parameter.shape[: axis + 1], block, *parameter.shape[axis + 1 :]]
        blocks = parameter.unsqueeze(axis + 1).expand(shape).flatten(axis, axis + 1)
        return torch.narrow(blocks, axis, 0, x.shape[axis])
    if parameter.ndim != 1:
        raise ONNXError(f"a scale of shape {list(parameter.shape)} without a block size")
    shape = [1] * x.ndim
    shape[axis] = parameter.shape[0]
    return parameter.reshape(shape)


def _quantized(x: Tensor, scale: Tensor, zero: Tensor | None, dtype: DType) -> Tensor:
    info = torch.iinfo(dtype)
    rounded = torch.round(x.to(torch.float32) / scale.to(torch.float32))
    if zero is not None:
        rounded = rounded + zero.to(torch.float32)
    return torch.clamp(rounded, info.min, info.max).to(dtype)


@rule("QuantizeLinear")
def quantize_linear(call: Call) -> Value:
    x, scale = call.tensor(0), call.tensor(1)
    axis, block = call.attr("axis", 1), call.attr("block_size", 0)
    zero = as_tensor(widened(call.value(2))) if call.has(2) else None
    spread = None if zero is None else _spread(zero, x, axis, block)
    narrow = call.value(2).dtype if call.has(2) and is_narrow(call.value(2)) else None
    number = call.attr("output_dtype", 0)
    if narrow is None and zero is None and number:
        narrow = narrow_type(number)
    if narrow is not None:
        steps = x.to(torch.float32) / _spread(scale, x, axis, block).to(torch.float32)
        whole = None if spread is None else as_array(spread)
        return quantized(as_array(steps), whole, narrow, bool(call.attr("saturate", 1)))
    if zero is not None:
        dtype: DType = zero.dtype
    else:
        dtype = dtype_of(number) if number else torch.uint8
    if dtype.is_floating_point:
        raise ONNXError(f"quantizing to {dtype.torch_name} is not supported")
    return _quantized(x, _spread(scale, x, axis, block), spread, dtype).reshape(x.shape)


@rule("DequantizeLinear")
def dequantize_linear(call: Call) -> Tensor:
    x, scale = as_tensor(widened(call.value(0))), call.tensor(1)
    zero = as_tensor(widened(call.value(2))) if call.has(2) else None
    axis, block = call.attr("axis", 1), call.attr("block_size", 0)
    dtype = dtype_of(call.attrs["output_dtype"]) if call.attr("output_dtype", 0) else scale.dtype
    y = x.to(torch.float32)
    if zero is not None:
        y = y - _spread(zero, x, axis, block).to(torch.float32)
    return (y * _spread(scale, x, axis, block)).to(dtype).reshape(x.shape)


def _centred(x: Tensor, zero: Tensor | None, row: bool = False) -> Tensor:
    """x - zero in float64; a vector of zero points is per row of a matrix, else per column."""
    wide = x.to(torch.float64)
    if zero is None:
        return wide
    zero = zero.to(torch.float64)
    return wide - (zero.unsqueeze(-1) if row and zero.ndim == 1 and zero.numel() > 1 else zero)


def _product(a: Tensor, a_zero: Tensor | None, b: Tensor, b_zero: Tensor | None) -> Tensor:
    """The product of matrices less their zero points, in int32: sums of the numbers as they are, less what the zero
    points add to them."""
    if a.ndim < 2 or b.ndim < 2 or a.element_size() > 1 or b.element_size() > 1:
        return torch.matmul(_centred(a, a_zero, row=True), _centred(b, b_zero)).to(torch.int32)
    left, left_zero = _moved(a, a_zero, torch.uint8)
    right, right_zero = _moved(b, b_zero, torch.int8)
    if left_zero.ndim == 1 and left_zero.numel() > 1:
        left_zero = left_zero.unsqueeze(-1)
    sums = torch.matmul(left, right)
    sums = sums - left_zero * right.sum(-2, keepdim=True, dtype=torch.int32)
    return sums - right_zero * (left.sum(-1, keepdim=True, dtype=torch.int32) - a.shape[-1] * left_zero)


def _moved(x: Tensor, zero: Tensor | None, dtype: DType) -> tuple[Tensor, Tensor]:
    """8-bit numbers of one sign or the other as int32 from the range of `dtype`, and their zero point."""
    wide = torch.zeros((), dtype=torch.int32) if zero is None else zero.to(torch.int32)
    if x.dtype is dtype:
        return x.to(torch.int32), wide
    by = 128 if dtype is torch.uint8 else -128
    return (x.to(torch.int32) + by).to(dtype).to(torch.int32), wide + by


@rule("MatMulInteger")
def matmul_integer(call: Call) -> Tensor:
    return _product(call.tensor(0), call.optional(2), call.tensor(1), call.optional(3))


@rule("QLinearMatMul")
def qlinear_matmul(call: Call) -> Tensor:
    a, a_scale, a_zero, b, b_scale, b_zero, y_scale, y_zero = (call.tensor(i) for i in range(8))
    product = _product(a, a_zero, b, b_zero).to(torch.float64)
    a_scale = a_scale.unsqueeze(-1) if a_scale.ndim == 1 and a_scale.numel() > 1 else a_scale
    scaled = product * (a_scale.to(torch.float64) * b_scale.to(torch.float64))
    return _quantized(scaled, y_scale, y_zero, y_zero.dtype)


def _convolved(call: Call, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    inputs: list[Any] = [x, weight, bias]
    found: Tensor = conv(Call(call.attrs, inputs, call.version))
    return found


def _per_filter(parameter: Tensor | None, weight: Tensor) -> Tensor | None:
    if parameter is None or parameter.numel() == 1:
        return parameter
    return parameter.reshape([-1, *[1] * (weight.ndim - 1)])


@rule("ConvInteger")
def conv_integer(call: Call) -> Tensor:
    x, weight = call.tensor(0), call.tensor(1)
    plain = not any(call.attr("pads", [0])) and call.attr("auto_pad", "NOTSET") in ("NOTSET", "VALID")
    if plain and (x.dtype, weight.dtype) == (torch.uint8, torch.int8) and not (call.has(2) or call.has(3)):
        ones = [1] * (x.ndim - 2)
        strides, dilations = call.attr("strides", ones), call.attr("dilations", ones)
        return sums_of_integers(x, weight, strides, dilations, call.attr("group", 1))
    weight_zero = _per_filter(call.optional(3), weight)
    return _convolved(call, _centred(x, call.optional(2)), _centred(weight, weight_zero)).to(torch.int32)


@rule("QLinearConv")
def qlinear_conv(call: Call) -> Tensor:
    x, x_scale, x_zero, weight, w_scale, w_zero, y_scale, y_zero = (call.tensor(i) for i in range(8))
    bias = call.optional(8)
    y = _convolved(
        call,
        _centred(x, x_zero),
        _centred(weight, _per_filter(w_zero, weight)),
        None if bias is None else bias.to(torch.float64),
    )
    scale = x_scale.to(torch.float64) * w_scale.to(torch.float64)
    if scale.numel() > 1:
        scale = scale.reshape([-1, *[1] * (y.ndim - 2)])
    return _quantized(y * scale, y_scale, y_zero, y_zero.dtype)
