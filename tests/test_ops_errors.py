"""Operands that do not fit are refused in PyTorch's words, with PyTorch's types of error."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

import vitrify.ir.ops  # noqa: F401
from vitrify.ir import dtypes
from vitrify.ir.builder import ARRAYS as F
from vitrify.ir.graph import IRError
from vitrify.ir.op import op_named


def z(*shape: int, dtype: Any = np.float32) -> Any:
    return np.zeros(shape, dtype)


def n(values: Any) -> Any:
    return np.array(values, np.int64)


CONV = {"stride": (1, 1), "padding": (0, 0), "dilation": (1, 1), "groups": 1}
POOL = {"kernel": (2, 2), "stride": (2, 2), "padding": (0, 0)}
MAX = {**POOL, "dilation": (1, 1)}
LONG = np.int64

MESSAGES = [
    # Broadcasting and dtypes
    (
        lambda: F.add(z(2, 3), z(2, 4)),
        RuntimeError,
        "The size of tensor a (3) must match the size of tensor b (4) at non-singleton dimension 1",
    ),
    (lambda: F.add(z(2), z(2, dtype=LONG)), RuntimeError, "expected operands of one dtype"),
    (lambda: F.exp(z(3, dtype=LONG)), NotImplementedError, "\"exp\" not implemented for 'Long'"),
    (lambda: F.bitwise_and(z(3), z(3)), NotImplementedError, "not implemented for 'Float'"),
    (
        lambda: F.neg(z(3, dtype=bool)),
        RuntimeError,
        "Negation, the `-` operator, on a bool tensor is not supported. If you are trying to invert a mask, "
        "use the `~` or `logical_not()` operator instead.",
    ),
    (
        lambda: F.sub(z(3, dtype=bool), z(3, dtype=bool)),
        RuntimeError,
        "Subtraction, the `-` operator, with two bool tensors is not supported. Use the `^` or "
        "`logical_xor()` operator instead.",
    ),
    (
        lambda: F.where(z(3), z(3), z(3)),
        RuntimeError,
        "where expected condition to be a boolean tensor, but got a tensor with dtype Float",
    ),
    (lambda: F.div(n([5]), n([0])), RuntimeError, "ZeroDivisionError"),
    (lambda: F.floor_divide(n([5]), n([0])), RuntimeError, "ZeroDivisionError"),
    (lambda: F.remainder(n([5]), n([0])), RuntimeError, "ZeroDivisionError"),
    (lambda: F.clamp(z(3)), RuntimeError, "torch.clamp: At least one of 'min' or 'max' must not be None"),
    (
        lambda: F.gelu(z(3), approximate="x"),
        RuntimeError,
        "approximate argument must be either none or tanh.",
    ),
    # Views
    (lambda: F.reshape(z(2, 3), shape=(4, 5)), RuntimeError, "shape '[4, 5]' is invalid for input of size 6"),
    (lambda: F.permute(z(2, 3), dims=(0, 0)), RuntimeError, "permute(): duplicate dims are not allowed."),
    (
        lambda: F.permute(z(2, 3), dims=(0,)),
        RuntimeError,
        "permute(sparse_coo): number of dimensions in the tensor input does not match the length of the "
        "desired ordering of dimensions i.e. input.dim() = 2 is not equal to len(dims) = 1",
    ),
    (
        lambda: F.expand(z(2, 3), shape=(2, 4)),
        RuntimeError,
        "The expanded size of the tensor (4) must match the existing size (3) at non-singleton dimension 1.  "
        "Target sizes: [2, 4].  Tensor sizes: [2, 3]",
    ),
    (
        lambda: F.expand(z(2, 3), shape=(3,)),
        RuntimeError,
        "the number of sizes provided (1) must be greater or equal to the number of dimensions in the "
        "tensor (2)",
    ),
    (
        lambda: F.slice(z(4), starts=(2,), stops=(5,), steps=(1,)),
        RuntimeError,
        "slice 2:5 does not lie within a dim of size 4",
    ),
    (
        lambda: F.slice(z(4), starts=(0,), stops=(4,), steps=(0,)),
        ValueError,
        "step must be greater than zero",
    ),
    (lambda: F.flip(z(2, 3), dims=(0, 0)), RuntimeError, "dim 0 appears multiple times in the list of dims"),
    (lambda: F.pad(z(3), low=(-2,), high=(-2,)), RuntimeError, "narrow(): length must be non-negative."),
    (
        lambda: F.concat(z(2, 3), z(3, 4), dim=0),
        RuntimeError,
        "Sizes of tensors must match except in dimension 0. Expected size 3 but got size 4 for tensor "
        "number 1 in the list.",
    ),
    (
        lambda: F.concat(z(2, 3), z(3), dim=0),
        RuntimeError,
        "Tensors must have same number of dimensions: got 2 and 1",
    ),
    (lambda: F.concat(dim=0), ValueError, "torch.cat(): expected a non-empty list of Tensors"),
    (
        lambda: F.full(shape=(2, -1), value=0, dtype=dtypes.f32),
        RuntimeError,
        "Trying to create tensor with negative dimension -1: [2, -1]",
    ),
    # Reductions
    (
        lambda: F.sum(z(3, 2), dims=(5,)),
        IndexError,
        "Dimension out of range (expected to be in range of [-2, 1], but got 5)",
    ),
    (lambda: F.sum(z(3, 2), dims=(0, 0)), RuntimeError, "dim 0 appears multiple times in the list of dims"),
    (
        lambda: F.amax(z(3, 0), dims=(1,)),
        IndexError,
        "amax(): Expected reduction dim 1 to have non-zero size.",
    ),
    (
        lambda: F.argmax(z(3, 0), dim=1),
        IndexError,
        "argmax(): Expected reduction dim 1 to have non-zero size.",
    ),
    (
        lambda: F.mean(z(3, dtype=LONG), dims=(0,)),
        RuntimeError,
        "mean(): could not infer output dtype. Input dtype must be either a floating point or complex dtype. "
        "Got: Long",
    ),
    (
        lambda: F.var(z(3, dtype=LONG), dims=(0,)),
        RuntimeError,
        "std and var only support floating point and complex dtypes",
    ),
    # Contractions
    (
        lambda: F.matmul(z(2, 3), z(4, 5)),
        RuntimeError,
        "mat1 and mat2 shapes cannot be multiplied (2x3 and 4x5)",
    ),
    (
        lambda: F.matmul(z(2, 2, 3), z(4, 5)),
        RuntimeError,
        "mat1 and mat2 shapes cannot be multiplied (4x3 and 4x5)",
    ),
    (
        lambda: F.matmul(z(2, 2, 3), z(2, 4, 5)),
        RuntimeError,
        "Expected size for first two dimensions of batch2 tensor to be: [2, 3] but got: [2, 4].",
    ),
    (
        lambda: F.matmul(z(2, 3), z(3, 5, dtype=np.float64)),
        RuntimeError,
        "expected m1 and m2 to have the same dtype, but got: float != double",
    ),
    (
        lambda: F.addmm(z(4), z(2, 3), z(3, 5)),
        RuntimeError,
        "The expanded size of the tensor (5) must match the existing size (4) at non-singleton dimension 1.  "
        "Target sizes: [2, 5].  Tensor sizes: [4]",
    ),
    (
        lambda: F.conv(z(2, 3, 8, 8), z(6, 1, 5, 5), **CONV),
        RuntimeError,
        "Given groups=1, weight of size [6, 1, 5, 5], expected input[2, 3, 8, 8] to have 1 channels, but "
        "got 3 channels instead",
    ),
    (
        lambda: F.conv(z(2, 1, 2, 2), z(6, 1, 5, 5), **CONV),
        RuntimeError,
        "Calculated padded input size per channel: (2 x 2). Kernel size: (5 x 5). Kernel size can't be "
        "greater than actual input size",
    ),
    (
        lambda: F.conv(z(2, 4, 8, 8), z(5, 2, 5, 5), **{**CONV, "groups": 2}),
        RuntimeError,
        "Given groups=2, expected weight to be divisible by 2 at dimension 0, but got weight of size [[5, "
        "2, 5, 5]] instead",
    ),
    (
        lambda: F.convolution(z(2, 1, 8, 8), z(6, 1, 5, 5), z(5), **CONV),
        RuntimeError,
        "Given weight of size [6, 1, 5, 5], expected bias to be 1-dimensional with 6 elements, but got bias "
        "of size [5] instead",
    ),
    (
        lambda: F.conv(z(1, 8), z(6, 1, 5, 5), **CONV),
        RuntimeError,
        "Expected 3D (unbatched) or 4D (batched) input to conv2d, but got input of size: [1, 8]",
    ),
    (
        lambda: F.conv(z(2, 1, 8, 8), z(6, 1, 5, 5), **{**CONV, "stride": (0, 1)}),
        RuntimeError,
        "non-positive stride is not supported",
    ),
    # Windows
    (
        lambda: F.max_pool(z(1, 1, 2, 2), **{**MAX, "kernel": (5, 5), "stride": (5, 5)}),
        RuntimeError,
        "Given input size: (1x2x2). Calculated output size: (1x0x0). Output size is too small",
    ),
    (
        lambda: F.max_pool(z(1, 1, 8, 8), **{**MAX, "padding": (2, 2)}),
        RuntimeError,
        "pad should be at most half of effective kernel size, but got pad=2, kernel_size=2 and dilation=1",
    ),
    (
        lambda: F.avg_pool(z(1, 1, 8, 8), **{**POOL, "stride": (0, 0)}),
        RuntimeError,
        "stride should not be zero",
    ),
    # Indices
    (
        lambda: F.gather(z(3), n([5]), dim=0),
        RuntimeError,
        "index 5 is out of bounds for dimension 0 with size 3",
    ),
    (
        lambda: F.gather(z(3), n([-1]), dim=0),
        RuntimeError,
        "index -1 is out of bounds for dimension 0 with size 3",
    ),
    (
        lambda: F.gather(z(3, 2), n([[0, 1, 1]]), dim=0),
        RuntimeError,
        "Size does not match at dimension 1 expected index [1, 3] to be no larger than self [3, 2] apart "
        "from dimension 0",
    ),
    (
        lambda: F.gather(z(3, 2), n([0]), dim=0),
        RuntimeError,
        "Index tensor must have the same number of dimensions as input tensor",
    ),
    (
        lambda: F.scatter_add(z(3, 2), n([[0, 1, 1]]), z(1, 2), dim=0),
        RuntimeError,
        "Expected index [1, 3] to be no larger than self [3, 2] apart from dimension 0 and to be no larger "
        "size than src [1, 2]",
    ),
    (lambda: F.index_select(z(3), n([5]), dim=0), IndexError, "index out of range in self"),
    (lambda: F.index_add(z(3), n([5]), z(1), dim=0), IndexError, "index out of range in self"),
    (
        lambda: F.index_add(z(3), n([1]), z(2), dim=0),
        RuntimeError,
        "index_add_(): Number of indices (1) should be equal to source.size(dim): (2), for dim: 0",
    ),
    (
        lambda: F.index_select(z(3), z(1), dim=0),
        RuntimeError,
        "index_select(): Expected dtype int32 or int64 for index",
    ),
    # Losses and random numbers
    (lambda: F.nll_loss(z(3, 4), n([0, 1, 10])), IndexError, "Target 10 is out of bounds."),
    (
        lambda: F.nll_loss(z(3, 4), n([0, 1])),
        ValueError,
        "Expected input batch_size (3) to match target batch_size (2).",
    ),
    (
        lambda: F.nll_loss(z(3, 4, 2), z(3, 3, dtype=LONG)),
        RuntimeError,
        "Expected target size [3, 2], got [3, 3]",
    ),
    (
        lambda: F.nll_loss(z(3, 4), z(3)),
        RuntimeError,
        "expected target dtype to be Long or Byte, but got Float",
    ),
    (
        lambda: F.nll_loss(z(3, 4), z(3, 1, dtype=LONG)),
        RuntimeError,
        "0D or 1D target tensor expected, multi-target not supported",
    ),
    (
        lambda: F.nll_loss(z(3, 4), z(3, dtype=LONG), z(3)),
        RuntimeError,
        "weight tensor should be defined either for all 4 classes or no classes but got weight tensor of "
        "shape: [3]",
    ),
    (lambda: F.nll_loss(z(), z(dtype=LONG)), ValueError, "Expected 1 or more dimensions (got 0)"),
    (
        lambda: F.nll_loss(z(3, 4), z(3, dtype=LONG), reduction="x"),
        ValueError,
        "x is not a valid value for reduction",
    ),
    (
        lambda: F.softmax(z(3, dtype=LONG), dim=0),
        NotImplementedError,
        "\"softmax_lastdim_kernel_impl\" not implemented for 'Long'",
    ),
    (
        lambda: F.dropout(z(3), n([0, 0]), p=1.5),
        RuntimeError,
        "dropout probability has to be between 0 and 1, but got 1.5",
    ),
    (lambda: F.random_uniform(n([0]), shape=(3,)), RuntimeError, "the state must be i64[2]"),
    # Declarations
    (lambda: F.add(z(3)), TypeError, "add takes 2 operands, got 1"),
    (lambda: F.sum(z(3)), TypeError, "sum: attribute 'dims' is missing"),
    (lambda: F.sum(z(3), dims=0), TypeError, "sum: attribute dims must be ints, got 0"),
    (lambda: F.exp(z(3), x=1), TypeError, "exp has no attribute 'x'"),
    (lambda: F.fused(name="f", kind="loop"), IRError, "its result types are those of its region's outputs"),
    (lambda: op_named("soft_max"), KeyError, "unknown op 'soft_max'; did you mean softmax"),
]


@pytest.mark.parametrize("call, error, message", MESSAGES, ids=lambda v: v[:40] if isinstance(v, str) else "")
def test_misuse_is_told_as_pytorch_tells_it(call: Any, error: type[Exception], message: str):
    with pytest.raises(error, match=re.escape(message)) as caught:
        call()
    assert type(caught.value) is error
