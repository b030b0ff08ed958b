"""Activation functions."""

from __future__ import annotations

import warnings
from typing import Any

from .. import functional_pointwise as pointwise
from .. import functional_reductions as reductions
from ..dispatch import apply, constant, op_named
from ..inplace import overwrite
from ..ir.dtypes import DType
from ..tensor import Tensor, scalar_type_name


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
