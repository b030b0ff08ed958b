"""Activation functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ml_dtypes

from .. import functional_pointwise as pointwise
from .. import functional_reductions as reductions
from ..arguments import not_implemented
from ..autocast import full_precision_on_cuda, lower_precision
from ..autograd.grad_mode import no_grad
from ..capture import counter_based
from ..counter_draws import random_call
from ..creation import empty, ones_like, zeros_like
from ..dispatch import apply, constant, op_named
from ..functional_indexing import masked_scatter
from ..inplace import finish, overwrite
from ..ir import dtypes
from ..ir.dtypes import DType
from ..placement import is_on_device
from ..promotion import as_operand, number_in
from ..random import uniform_
from ..tape_folded import folded
from ..tensor import Tensor, scalar_type_name
from ..user_warnings import warn_user

_HALVES = (dtypes.f16, dtypes.bf16)
# Activations whose results are the input, a constant, or the input times a constant.
_EXACT = ("relu", "clamp", "threshold", "leaky_relu", "hardshrink")


def _activation(name: str, grad_name: str, input: Tensor, inplace: bool, **attrs: Any) -> Tensor:
    op = op_named(name)
    if input.dtype.kind != "float" and name != "relu":
        raise NotImplementedError(f"\"{name}_cpu\" not implemented for '{scalar_type_name(input.dtype)}'")

    def compute() -> Tensor:
        if input.dtype in _HALVES and name not in _EXACT:
            # In float32, the result and the gradient rounded once, as in PyTorch.
            return folded(
                grad_name, (input,), lambda: apply(op, (input.to(dtypes.f32),), attrs).to(input.dtype)
            )
        result: Tensor = apply(op, (input,), attrs, grad_name)
        return result

    return overwrite(input, compute) if inplace else compute()


def _normalized(function: Callable[..., Tensor], input: Tensor, dim: int, dtype: DType | None) -> Tensor:
    """softmax or log_softmax, of 16-bit floats in float32."""
    if input.dtype not in _HALVES or dtype is not None:
        return function(input, dim, dtype)
    name = "SoftmaxBackward0" if function is reductions.softmax else "LogSoftmaxBackward0"
    return folded(name, (input,), lambda: function(input.to(dtypes.f32), dim).to(input.dtype))


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
    low, high = float(min_val), float(max_val)

    def limited(x: Tensor) -> Tensor:
        # Unlike clamp's, the gradient is zero at the limits themselves.
        at_limit = (x <= low).logical_or(x >= high)
        return pointwise.where(at_limit, x.detach().clamp(low, high), x)

    def compute() -> Tensor:
        if not input.is_floating_point():
            return input.clamp(int(low), int(high))
        result: Tensor = folded("HardtanhBackward0", (input,), lambda: limited(input))
        return result

    return overwrite(input, compute) if inplace else compute()


sigmoid = pointwise.sigmoid
tanh = pointwise.tanh


def relu_(input: Tensor) -> Tensor:
    return relu(input, inplace=True)


def _chosen_dim(name: str, rank: int, dim: int | None) -> int:
    if dim is not None:
        return dim
    chosen = 0 if rank in (0, 1, 3) else 1
    warn_user(
        f"Implicit dimension choice for {name} has been deprecated. Change the call to include dim=X as an "
        "argument."
    )
    return chosen


@full_precision_on_cuda
def softmax(
    input: Tensor, dim: int | None = None, _stacklevel: int = 3, dtype: DType | None = None
) -> Tensor:
    return _normalized(reductions.softmax, input, _chosen_dim("softmax", input.ndim, dim), dtype)


@full_precision_on_cuda
def log_softmax(
    input: Tensor, dim: int | None = None, _stacklevel: int = 3, dtype: DType | None = None
) -> Tensor:
    return _normalized(reductions.log_softmax, input, _chosen_dim("log_softmax", input.ndim, dim), dtype)


@full_precision_on_cuda
def softmin(
    input: Tensor, dim: int | None = None, _stacklevel: int = 3, dtype: DType | None = None
) -> Tensor:
    return _normalized(reductions.softmax, -input, _chosen_dim("softmin", input.ndim, dim), dtype)


def celu(input: Tensor, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    if alpha == 0:
        raise RuntimeError("ZeroDivisionError: alpha cannot be 0 for CELU")
    return _activation("celu", "CeluBackward0", input, inplace, alpha=float(alpha))


def mish(input: Tensor, inplace: bool = False) -> Tensor:
    return _activation("mish", "MishBackward0", input, inplace)


def hardswish(input: Tensor, inplace: bool = False) -> Tensor:
    return _activation("hardswish", "HardswishBackward0", input, inplace)


def hardsigmoid(input: Tensor, inplace: bool = False) -> Tensor:
    return _activation("hardsigmoid", "HardsigmoidBackward0", input, inplace)


def hardshrink(input: Tensor, lambd: float = 0.5, *, out: Tensor | None = None) -> Tensor:
    made = _activation("hardshrink", "HardshrinkBackward0", input, False, lambd=float(lambd))
    return finish(made, out, "hardshrink")


def softshrink(input: Tensor, lambd: float = 0.5) -> Tensor:
    if lambd < 0:
        largest = float(ml_dtypes.finfo(input.dtype.numpy).max)
        raise RuntimeError(
            f"lambda must be in range [0, {largest:g}] for input dtype {scalar_type_name(input.dtype)}, but found "
            f"{lambd:g}"
        )
    return _activation("softshrink", "SoftshrinkBackward0", input, False, lambd=float(lambd))


def threshold(
    input: Tensor, threshold: float, value: float, inplace: bool = False, *, out: Tensor | None = None
) -> Tensor:
    """The input where it exceeds the threshold, else the value."""
    return finish(_threshold(input, threshold, value, inplace), out, "threshold")


def _threshold(input: Tensor, threshold: Any, value: Any, inplace: bool) -> Tensor:
    if not input.dtype.is_integral:
        attrs = {"threshold": float(threshold), "value": float(value)}
        return _activation("threshold", "ThresholdBackward0", input, inplace, **attrs)
    least, other = (as_operand(number_in(n, input.dtype), input.dtype) for n in (threshold, value))

    def compute() -> Tensor:
        return pointwise.where(input > least, input, other)

    return overwrite(input, compute) if inplace else compute()


def softsign(input: Tensor) -> Tensor:
    return input / (input.abs() + 1)


def tanhshrink(input: Tensor) -> Tensor:
    return input - input.tanh()


def glu(input: Tensor, dim: int = -1) -> Tensor:
    """The first half times the sigmoid of the second. Y. Dauphin et al., 2016."""
    if input.ndim == 0:
        raise RuntimeError("glu does not support scalars because halving size must be even")
    size = input.shape[dim]
    if size % 2:
        raise RuntimeError(f"Halving dimension must be even, but dimension {dim % input.ndim} is size {size}")
    half = size // 2
    return input.narrow(dim, 0, half) * input.narrow(dim, half, half).sigmoid()


@lower_precision
def prelu(input: Tensor, weight: Tensor) -> Tensor:
    """weight * x where x is negative: one weight, or one per channel. K. He et al., 2015."""
    if input.dtype is not weight.dtype:
        have, want = scalar_type_name(weight.dtype), scalar_type_name(input.dtype)
        raise RuntimeError(f"prelu: Type promoting not supported. Got {want} and {have}")
    if weight.numel() != 1:
        if input.ndim == 0:
            raise RuntimeError("Not allow zero-dim input tensor.")
        channels = input.shape[1] if input.ndim > 1 else 1
        if weight.numel() != channels:
            raise RuntimeError(
                "Mismatch of parameter numbers and input channel size. Found parameter numbers = "
                f"{weight.numel()} and channel size = {channels}."
            )
    shape = [-1 if i == 1 or input.ndim == 1 else 1 for i in range(input.ndim)]
    result: Tensor = apply(op_named("prelu"), (input, weight.reshape(shape)))
    return result


def _slopes(input: Tensor, lower: float, upper: float) -> Tensor:
    """1 where the input is positive, elsewhere PyTorch's numbers from [lower, upper): one for each such element."""
    with no_grad():
        below = input.detach() <= 0
        draws = uniform_(empty(int(below.sum()), dtype=dtypes.f64), lower, upper)
        return masked_scatter(ones_like(input), below, draws.to(input.dtype))


def rrelu(
    input: Tensor,
    lower: float = 1.0 / 8,
    upper: float = 1.0 / 3,
    training: bool = False,
    inplace: bool = False,
) -> Tensor:
    """Negative elements times a factor: uniform in [lower, upper) in training (a compiled function has a stream of its
    own, as for `dropout`), the middle otherwise. B. Xu et al., 2015."""
    if not training:
        return leaky_relu(input, (lower + upper) / 2, inplace)
    if not input.dtype.is_floating_point:
        raise not_implemented("rrelu_with_noise_out_cpu", input)

    def compute() -> Tensor:
        if not counter_based() and not is_on_device(input):
            return input * _slopes(input, lower, upper)
        state, stream = random_call(like=input)
        attrs = {"shape": tuple(input.shape), "dtype": input.dtype, "stream": stream}
        draw: Tensor = apply(op_named("random_uniform"), (state,), attrs)
        return pointwise.where(input > 0, input, input * (draw * (upper - lower) + lower))

    return overwrite(input, compute) if inplace else compute()


def elu_(input: Tensor, alpha: float = 1.0) -> Tensor:
    return elu(input, alpha, inplace=True)


def selu_(input: Tensor) -> Tensor:
    return selu(input, inplace=True)


def celu_(input: Tensor, alpha: float = 1.0) -> Tensor:
    return celu(input, alpha, inplace=True)


def leaky_relu_(input: Tensor, negative_slope: float = 0.01) -> Tensor:
    return leaky_relu(input, negative_slope, inplace=True)


def hardtanh_(input: Tensor, min_val: float = -1.0, max_val: float = 1.0) -> Tensor:
    return hardtanh(input, min_val, max_val, inplace=True)


def threshold_(input: Tensor, threshold: float, value: float) -> Tensor:
    return _threshold(input, threshold, value, True)


def rrelu_(input: Tensor, lower: float = 1.0 / 8, upper: float = 1.0 / 3, training: bool = False) -> Tensor:
    return rrelu(input, lower, upper, training, inplace=True)


def gumbel_softmax(
    logits: Tensor, tau: float = 1, hard: bool = False, eps: float = 1e-10, dim: int = -1
) -> Tensor:
    """softmax((logits + Gumbel noise) / tau); `hard`: its largest element as 1, with the gradient of the softmax.

    The noise comes from PyTorch's CPU generator, so not inside a compiled function. E. Jang et al., 2016.
    """
    noise = -zeros_like(logits.detach()).exponential_().log()
    soft = reductions.softmax((logits + noise) / tau, dim)
    if not hard:
        return soft
    index = soft.detach().argmax(dim, keepdim=True)
    chosen = zeros_like(soft.detach()).scatter(dim, index, value=1.0)
    return chosen - soft.detach() + soft
