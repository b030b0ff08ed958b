"""Normalization functions: batch, layer, group, instance and root mean square norm, and norms of vectors."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..autocast import full_precision_on_cuda
from ..autograd.grad_mode import no_grad
from ..dispatch import apply, op_named
from ..functional_shape import broadcast_tensors
from ..half_precision import in_float32
from ..inplace import finish
from ..ir import dtypes
from ..ir.dtypes import promote
from ..ir.half_precision import HALF
from ..promotion import convert
from ..tape_folded import folded
from ..tensor import Tensor
from .padding import pad
from .windows import avg_pool2d, avg_pool3d

_STANDARDIZE, _RMS_NORM = op_named("standardize"), op_named("rms_norm")
_MEAN, _VAR = op_named("mean"), op_named("var")


def _in_float32(grad_name: str, compute: Callable[..., Tensor], *inputs: Tensor | None) -> Tensor:
    """What is computed of the inputs in float32, rounded once, its gradients too. Only the first input need be short."""
    first = inputs[0]
    assert first is not None

    def rounded() -> Tensor:
        return compute(*(None if t is None else t.to(dtypes.f32) for t in inputs)).to(first.dtype)

    return folded(grad_name, inputs, rounded)


def _standardize(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, dims: tuple[int, ...], eps: float, grad_name: str
) -> Tensor:
    if x.dtype in HALF:
        return _in_float32(
            grad_name, lambda a, w, b: _standardize(a, w, b, dims, eps, grad_name), x, weight, bias
        )
    attrs = {"dims": dims, "eps": float(eps)}
    if weight is None:
        result: Tensor = apply(_STANDARDIZE, (x,), attrs, grad_name)
        return result if bias is None else result + bias
    operands = (x, weight) if bias is None else (x, weight, bias)
    result = apply(_STANDARDIZE, operands, attrs, grad_name)
    return result


def _per_channel(value: Tensor | None, rank: int) -> Tensor | None:
    """A vector over channels, seen so that it broadcasts to [n, c, ...]."""
    return value if value is None or rank <= 2 else value.reshape(-1, *(1,) * (rank - 2))


def _check_channels(input: Tensor, **vectors: Tensor | None) -> None:
    for name, vector in vectors.items():
        if vector is not None and vector.numel() != input.shape[1]:
            raise RuntimeError(f"{name} should contain {input.shape[1]} elements not {vector.numel()}")


def _follow(running: Tensor, latest: Tensor, momentum: Any) -> None:
    running.copy_(running * (1.0 - momentum) + latest * momentum)


def _track(
    x: Tensor, dims: tuple[int, ...], running_mean: Tensor | None, running_var: Tensor | None, momentum: Any
) -> None:
    """Move the running statistics towards those of x over `dims`; per-instance ones are averaged."""
    fixed = x.detach().to(dtypes.f32) if x.dtype in HALF else x.detach()
    with no_grad():
        for running, op, attrs in ((running_mean, _MEAN, {}), (running_var, _VAR, {"correction": 1})):
            if running is not None:
                latest: Tensor = apply(op, (fixed,), {"dims": dims, "keepdim": True, **attrs})
                if 0 not in dims:
                    latest = latest.mean(0)
                _follow(running, latest.reshape(-1), momentum)


def batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: Any = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """input[n, c, ...] normalized per channel: in training by its own statistics, which the running ones follow
    in place; else by the running ones."""
    if training:
        _check_several(input)
        if eps <= 0.0:
            raise ValueError(f"batch_norm eps must be positive during training, but got {eps}")
    elif eps < 0.0:
        raise ValueError(f"batch_norm eps must be non-negative, but got {eps}")
    if not training and (running_mean is None or running_var is None):
        raise RuntimeError("running_mean and running_var must be defined in evaluation mode")
    _check_channels(input, running_mean=running_mean, running_var=running_var, weight=weight, bias=bias)
    if training:
        dims = (0, *range(2, input.ndim))
        _track(input, dims, running_mean, running_var, momentum)
        scale, shift = _per_channel(weight, input.ndim), _per_channel(bias, input.ndim)
        return _standardize(input, scale, shift, dims, eps, "NativeBatchNormBackward0")
    assert running_mean is not None and running_var is not None
    return _by_running(input, running_mean, running_var, weight, bias, eps)


def _by_running(
    x: Tensor, mean: Tensor, variance: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
) -> Tensor:
    """x * scale + shift by channels, as PyTorch has it: what makes these two does not depend on x."""
    if x.dtype in HALF:
        name = "NativeBatchNormBackward0"
        return _in_float32(
            name, lambda a, m, v, w, b: _by_running(a, m, v, w, b, eps), x, mean, variance, weight, bias
        )
    scale = (variance + float(eps)).rsqrt()
    if weight is not None:
        scale = scale * weight
    shift = -mean * scale if bias is None else bias - mean * scale
    factor, added = _per_channel(scale, x.ndim), _per_channel(shift, x.ndim)
    assert factor is not None and added is not None
    return x * factor + added


def _check_several(input: Tensor) -> None:
    count = input.shape[0]
    for size in input.shape[2:]:
        count = count * size
    if count == 1:
        raise ValueError(
            f"Expected more than 1 value per channel when training, got input size {input.shape}"
        )


def instance_norm(
    input: Tensor,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """input[n, c, ...] normalized per sample and channel, or by the running statistics."""
    if not use_input_stats:
        if running_mean is None or running_var is None:
            raise RuntimeError(
                "Expected running_mean and running_var to be defined when use_input_stats is false"
            )
        return _by_running(input, running_mean, running_var, weight, bias, eps)
    if math.prod(input.shape[2:]) == 1:
        raise ValueError(f"Expected more than 1 spatial element when training, got input size {input.shape}")
    dims = tuple(range(2, input.ndim))
    _track(input, dims, running_mean, running_var, momentum)
    scale, shift = _per_channel(weight, input.ndim), _per_channel(bias, input.ndim)
    return _standardize(input, scale, shift, dims, eps, "NativeBatchNormBackward0")


def _trailing(
    input: Tensor, normalized_shape: Sequence[int], any_dims: str, **vectors: Tensor | None
) -> tuple[int, ...]:
    """The dims that `normalized_shape` names, checked as PyTorch checks them; `any_dims` is how its message writes
    the others."""
    shape = tuple(normalized_shape)
    if not shape:
        raise RuntimeError(
            "Expected normalized_shape to be at least 1-dimensional, i.e., containing at least one element, but "
            "got normalized_shape = []"
        )
    for name, vector in vectors.items():
        if vector is not None and tuple(vector.shape) != shape:
            raise RuntimeError(
                f"Expected {name} to be of same shape as normalized_shape, but got {name} of shape "
                f"{list(vector.shape)} and normalized_shape = {list(shape)}"
            )
    if input.ndim < len(shape) or tuple(input.shape[input.ndim - len(shape) :]) != shape:
        raise RuntimeError(
            f"Given normalized_shape={list(shape)}, expected input with shape "
            f"[{any_dims}{', '.join(map(str, shape))}], but got input of size{list(input.shape)}"
        )
    return tuple(range(input.ndim - len(shape), input.ndim))


@full_precision_on_cuda
def layer_norm(
    input: Tensor,
    normalized_shape: Sequence[int],
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """input normalized over its last dims, those of `normalized_shape`."""
    dims = _trailing(input, normalized_shape, "*, ", weight=weight, bias=bias)
    return _standardize(input, weight, bias, dims, eps, "NativeLayerNormBackward0")


def rms_norm(
    input: Tensor, normalized_shape: Sequence[int], weight: Tensor | None = None, eps: float | None = None
) -> Tensor:
    """input over its root mean square along its last dims; `eps` is the epsilon of what
    it is computed in, float32 at least, unless given."""
    dims = _trailing(input, normalized_shape, "*", weight=weight)
    if eps is None:
        eps = np.finfo(np.float32 if input.dtype in HALF else input.dtype.numpy).eps
    attrs = {"dims": dims, "eps": float(eps)}
    if weight is None or weight.dtype is input.dtype:
        found: Tensor = apply(_RMS_NORM, (input,) if weight is None else (input, weight), attrs)
        return found
    wide = promote(input.dtype, weight.dtype)
    return convert(apply(_RMS_NORM, (convert(input, wide), convert(weight, wide)), attrs), input.dtype)


@full_precision_on_cuda
def group_norm(
    input: Tensor,
    num_groups: int,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """input[n, c, ...] normalized per sample and group of channels."""
    if input.ndim < 2:
        raise RuntimeError(f"Expected at least 2 dimensions for input tensor but received {input.ndim}")
    shape = tuple(input.shape)
    batch, channels, spatial = shape[0], shape[1], math.prod(shape[2:])
    if channels % num_groups:
        raise RuntimeError(
            f"Expected number of channels in input to be divisible by num_groups, but got input of shape "
            f"{list(shape)} and num_groups={num_groups}"
        )
    for name, vector in (("weight", weight), ("bias", bias)):
        if vector is not None and tuple(vector.shape) != (channels,):
            raise RuntimeError(
                f"Expected {name} to be a vector of size equal to the number of channels in input, but got "
                f"{name} of shape {list(vector.shape)} and input of shape {list(shape)}"
            )
    if batch == 1 and channels // num_groups * spatial == 1:
        raise ValueError(
            "Expected more than 1 value per channel when training, got input size "
            f"{[batch * channels // num_groups, num_groups, *shape[2:]]}"
        )
    grouped = (num_groups, channels // num_groups, 1)
    result = _standardize(
        input.reshape(batch, num_groups, channels // num_groups, spatial),
        None if weight is None else weight.reshape(grouped),
        None if bias is None else bias.reshape(grouped),
        (2, 3),
        eps,
        "NativeGroupNormBackward0",
    )
    return result.reshape(shape)


@in_float32
def local_response_norm(
    input: Tensor, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0
) -> Tensor:
    """input[n, c, ...] / (k + alpha * mean of the squares of `size` neighbouring channels)**beta: A. Krizhevsky et
    al., 2012."""
    if input.ndim < 3:
        raise ValueError(
            "Expected 3D or higher dimensionality                          "
            f"input (got {input.ndim} dimensions)"
        )
    squares = input * input
    if input.ndim == 3:
        padded = pad(squares.unsqueeze(1), (0, 0, size // 2, (size - 1) // 2))
        mean = avg_pool2d(padded, (size, 1), stride=1).squeeze(1)
    else:
        shape = tuple(input.shape)
        flat = squares.reshape(shape[0], 1, shape[1], shape[2], math.prod(shape[3:]))
        padded = pad(flat, (0, 0, 0, 0, size // 2, (size - 1) // 2))
        mean = avg_pool3d(padded, (size, 1, 1), stride=1).reshape(shape)
    return input / (mean * alpha + k) ** beta


def normalize(
    input: Tensor, p: float = 2.0, dim: Any = 1, eps: float = 1e-12, out: Tensor | None = None
) -> Tensor:
    """input divided by its p-norm along `dim`, the norm at least `eps`."""
    return finish(input / input.norm(p, dim, keepdim=True).clamp(min=eps), out, "normalize")


@full_precision_on_cuda
@in_float32
def cosine_similarity(x1: Tensor, x2: Tensor, dim: int = 1, eps: float = 1e-8) -> Tensor:
    """The cosine of the angle between the vectors along `dim`, their norms at least `eps`."""
    if tuple(x1.shape) != tuple(x2.shape):
        x1, x2 = broadcast_tensors(x1, x2)
    norms = [x.norm(2.0, dim, keepdim=True).clamp(min=eps) for x in (x1, x2)]
    return ((x1 / norms[0]) * (x2 / norms[1])).sum(dim)


@in_float32
def pairwise_distance(
    x1: Tensor, x2: Tensor, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False
) -> Tensor:
    """The p-norm of x1 - x2 + eps along the last dim."""
    return (x1 - x2 + eps).norm(p, -1, keepdim=keepdim)
