"""Linear functions."""

from __future__ import annotations

from ..arguments import tensor_argument
from ..autocast import lower_precision
from ..dispatch import apply, op_named
from ..half_precision import in_float32
from ..tensor import Tensor, scalar_type_name

_ADDMM, _MATMUL = op_named("addmm"), op_named("matmul")


@lower_precision
def linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """input[..., in] times weight[out, in] transposed, plus bias[out]."""
    tensor_argument(input, "linear")
    transposed = weight.t() if weight.ndim == 2 else weight
    if bias is not None and input.dtype is not weight.dtype:
        have, want = scalar_type_name(input.dtype), scalar_type_name(weight.dtype)
        raise RuntimeError(f"mat1 and mat2 must have the same dtype, but got {have} and {want}")
    if weight.ndim == 1 or input.ndim == 1 or (bias is not None and bias.ndim != 1):
        product = input.matmul(transposed)
        return product if bias is None else product + bias
    if input.ndim == 2:
        if bias is None:
            return apply(_MATMUL, (input, transposed), {}, "MmBackward0")
        return apply(_ADDMM, (bias, input, transposed), {}, "AddmmBackward0")
    shape = tuple(input.shape)
    if bias is None:
        flat = apply(_MATMUL, (input.reshape(-1, shape[-1]), transposed), {}, "MmBackward0")
    else:
        flat = apply(_ADDMM, (bias, input.reshape(-1, shape[-1]), transposed), {}, "AddmmBackward0")
    return flat.reshape(*shape[:-1], weight.shape[0])


@in_float32
def bilinear(input1: Tensor, input2: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """y[..., o] = sum over i, j of input1[..., i] weight[o, i, j] input2[..., j], plus bias[o]."""
    out, first, second = weight.shape
    lead = tuple(input1.shape[:-1])
    if input1.ndim != input2.ndim:
        raise RuntimeError(f"bilinear(): input dimensions do not match: got {input1.ndim} and {input2.ndim}")
    for i, (a, b) in enumerate(zip(lead, input2.shape[:-1])):
        if a != b:
            raise RuntimeError(f"bilinear(): input batch dimensions do not match at dim {i}: got {a} and {b}")
    for name, x, size in (("input1", input1, first), ("input2", input2, second)):
        if x.shape[-1] != size:
            raise RuntimeError(
                f"bilinear(): {name} size does not match weight size: got {x.shape[-1]} but expected {size}"
            )
    left = input1.reshape(-1, first)
    right = input2.reshape(-1, second)
    mixed = left.matmul(weight.permute(1, 0, 2).reshape(first, out * second))
    product = mixed.reshape(-1, out, second) * right.unsqueeze(1)
    result = product.sum(-1, dtype=product.dtype).reshape(*lead, out)
    return result if bias is None else result + bias
