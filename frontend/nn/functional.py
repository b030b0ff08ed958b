"""`torch.nn.functional`: layers, activations and losses as plain functions."""

from __future__ import annotations

import warnings
from typing import Any

from .. import functional_pointwise as pointwise
from .. import functional_reductions as reductions
from ..dispatch import apply, constant, op_named
from ..inplace import overwrite
from ..ir import dtypes
from ..ir.dtypes import DType
from ..random import random_call
from ..tensor import Tensor, scalar_type_name
from .loss_functions import (
    binary_cross_entropy,
    binary_cross_entropy_with_logits,
    cross_entropy,
    huber_loss,
    kl_div,
    l1_loss,
    mse_loss,
    nll_loss,
    smooth_l1_loss,
)
from .normalization import (
    batch_norm,
    cosine_similarity,
    group_norm,
    instance_norm,
    layer_norm,
    local_response_norm,
    normalize,
    pairwise_distance,
    rms_norm,
)
from .padding import pad
from .windows import (
    avg_pool1d,
    avg_pool2d,
    avg_pool3d,
    conv1d,
    conv2d,
    conv3d,
    max_pool1d,
    max_pool2d,
    max_pool3d,
)

_ADDMM, _MATMUL = op_named("addmm"), op_named("matmul")


def linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """input[..., in] times weight[out, in] transposed, plus bias[out]."""
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


def bilinear(input1: Tensor, input2: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """y[..., o] = sum over i, j of input1[..., i] weight[o, i, j] input2[..., j], plus bias[o]."""
    out, first, second = weight.shape
    lead = tuple(input1.shape[:-1])
    if tuple(input2.shape[:-1]) != lead:
        raise RuntimeError(
            f"bilinear(): input batch dimensions do not match: got {tuple(input1.shape)} and "
            f"{tuple(input2.shape)}"
        )
    left = input1.reshape(-1, first)
    right = input2.reshape(-1, second)
    mixed = left.matmul(weight.permute(1, 0, 2).reshape(first, out * second))
    product = mixed.reshape(-1, out, second) * right.unsqueeze(1)
    result = product.sum(-1).reshape(*lead, out)
    return result if bias is None else result + bias


def embedding(
    input: Tensor,
    weight: Tensor,
    padding_idx: int | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Tensor:
    """Rows of weight[n, d] by index: result[..., d]. The row `padding_idx` gets no gradient."""
    if max_norm is not None or scale_grad_by_freq or sparse:
        raise NotImplementedError("embedding: max_norm, scale_grad_by_freq and sparse are not supported")
    if input.dtype not in (dtypes.i64, dtypes.i32):
        raise RuntimeError(
            "Expected tensor for argument #1 'indices' to have one of the following scalar types: Long, Int; "
            f"but got {input.type()} instead (while checking arguments for embedding)"
        )
    if padding_idx is not None:
        count = weight.shape[0]
        if not -count <= padding_idx < count:
            raise AssertionError("Padding_idx must be within num_embeddings")
        padding_idx %= count
    rows: Tensor = apply(op_named("index_select"), (weight, input), {"dim": 0}, "EmbeddingBackward0")
    if padding_idx is not None and rows.requires_grad:
        rows = pointwise.where((input == padding_idx).unsqueeze(-1), rows.detach(), rows)
    return rows


def one_hot(tensor: Tensor, num_classes: int = -1) -> Tensor:
    """int64 rows with a single 1 at the given class."""
    if tensor.dtype is not dtypes.i64:
        raise RuntimeError("one_hot is only applicable to index tensor of type LongTensor.")
    if num_classes == -1:
        num_classes = int(tensor.max().item()) + 1
    classes: Tensor = apply(op_named("iota"), (), {"shape": (num_classes,), "dim": 0, "dtype": dtypes.i64})
    return (tensor.unsqueeze(-1) == classes).to(dtypes.i64)


# Activations


def _activation(name: str, grad_name: str, input: Tensor, inplace: bool, **attrs: Any) -> Tensor:
    op = op_named(name)
    if input.dtype.kind != "float" and name != "relu":
        raise NotImplementedError(f"\"{name}_cpu\" not implemented for '{scalar_type_name(input.dtype)}'")

    def compute() -> Tensor:
        result: Tensor = apply(op, (input,), attrs, grad_name)
        return result

    return overwrite(input, compute) if inplace else compute()


def relu(input: Tensor, inplace: bool = False) -> Tensor:
    return _activation("relu", "ReluBackward0", input, inplace)


def gelu(input: Tensor, approximate: str = "none") -> Tensor:
    """x * Phi(x); `approximate="tanh"` for the tanh formula."""
    if approximate not in ("none", "tanh"):
        raise RuntimeError("approximate argument must be either none or tanh.")
    return _activation("gelu", "GeluBackward0", input, False, approximate=approximate)


def silu(input: Tensor, inplace: bool = False) -> Tensor:
    return _activation("silu", "SiluBackward0", input, inplace)


def leaky_relu(input: Tensor, negative_slope: float = 0.01, inplace: bool = False) -> Tensor:
    return _activation(
        "leaky_relu", "LeakyReluBackward0", input, inplace, negative_slope=float(negative_slope)
    )


def elu(input: Tensor, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    return _activation("elu", "EluBackward0", input, inplace, alpha=float(alpha))


def selu(input: Tensor, inplace: bool = False) -> Tensor:
    """G. Klambauer et al., "Self-normalizing neural networks", 2017."""

    def compute() -> Tensor:
        value = elu(input, 1.6732632423543772848170429916717)
        scale = constant(1.0507009873554804934193349852946, value.dtype)
        result: Tensor = apply(op_named("mul"), (value, scale), grad_name="EluBackward0")
        return result

    return overwrite(input, compute) if inplace else compute()


def softplus(input: Tensor, beta: float = 1.0, threshold: float = 20.0) -> Tensor:
    """log(1 + exp(beta * x)) / beta, and x itself where beta * x exceeds the threshold."""
    return _activation(
        "softplus", "SoftplusBackward0", input, False, beta=float(beta), threshold=float(threshold)
    )


def logsigmoid(input: Tensor) -> Tensor:
    return -softplus(-input, threshold=50.0)


def relu6(input: Tensor, inplace: bool = False) -> Tensor:
    return hardtanh(input, 0.0, 6.0, inplace)


def hardtanh(input: Tensor, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> Tensor:
    if min_val > max_val:
        raise ValueError("min_val cannot be greater than max_val")
    return _activation("clamp", "HardtanhBackward0", input, inplace, min=float(min_val), max=float(max_val))


sigmoid = pointwise.sigmoid
tanh = pointwise.tanh


def relu_(input: Tensor) -> Tensor:
    return relu(input, inplace=True)


def _chosen_dim(name: str, rank: int, dim: int | None) -> int:
    if dim is not None:
        return dim
    chosen = 0 if rank in (0, 1, 3) else 1
    warnings.warn(
        f"Implicit dimension choice for {name} has been deprecated. Change the call to include dim=X as an "
        "argument.",
        stacklevel=3,
    )
    return chosen


def softmax(
    input: Tensor, dim: int | None = None, _stacklevel: int = 3, dtype: DType | None = None
) -> Tensor:
    return reductions.softmax(input, _chosen_dim("softmax", input.ndim, dim), dtype)


def log_softmax(
    input: Tensor, dim: int | None = None, _stacklevel: int = 3, dtype: DType | None = None
) -> Tensor:
    return reductions.log_softmax(input, _chosen_dim("log_softmax", input.ndim, dim), dtype)


def softmin(
    input: Tensor, dim: int | None = None, _stacklevel: int = 3, dtype: DType | None = None
) -> Tensor:
    return reductions.softmax(-input, _chosen_dim("softmin", input.ndim, dim), dtype)


# Regularisation, norms


def dropout(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Zero each element with probability `p` and scale the rest by 1 / (1 - p), in training; else the input
    itself.

    The mask comes from the counter-based stream (`random.random_call`), not from PyTorch's CPU generator: the
    same eager and compiled, other numbers than PyTorch's.
    """
    if p < 0.0 or p > 1.0:
        raise ValueError(f"dropout probability has to be between 0 and 1, but got {p}")
    if not training or p == 0.0:
        return input

    def compute() -> Tensor:
        if p == 1.0:
            return input * 0.0
        state, stream = random_call()
        result: Tensor = apply(
            op_named("dropout"), (input, state), {"p": float(p), "stream": stream}, "MulBackward0"
        )
        return result

    return overwrite(input, compute) if inplace else compute()


__all__ = [
    "avg_pool1d", "avg_pool2d", "avg_pool3d", "batch_norm", "bilinear", "binary_cross_entropy",
    "binary_cross_entropy_with_logits", "conv1d", "conv2d", "conv3d", "cosine_similarity",
    "cross_entropy", "dropout", "elu", "embedding", "gelu", "group_norm", "hardtanh", "huber_loss",
    "instance_norm", "kl_div", "l1_loss", "layer_norm", "leaky_relu", "linear", "local_response_norm",
    "log_softmax", "logsigmoid", "max_pool1d", "max_pool2d", "max_pool3d", "mse_loss", "nll_loss",
    "normalize", "one_hot", "pad", "pairwise_distance", "relu", "relu6", "relu_", "rms_norm", "selu",
    "sigmoid", "silu", "smooth_l1_loss", "softmax", "softmin", "softplus", "tanh",
]  # fmt: skip
