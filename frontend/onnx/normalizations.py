"""Rules of normalizations over channels, samples and layers."""

from __future__ import annotations

import math
from typing import Any

import vitrify as torch
import vitrify.nn.functional as F

from ..tensor import Tensor
from .table import Call, ONNXError, rule


@rule("BatchNormalization", state=(3, 4))
def batch_normalization(call: Call) -> Any:
    """`training_mode=1` gives the batch's own normalization and the updated statistics; the file decides, not
    `Module.train`."""
    x, scale, bias, mean, var = (call.tensor(i) for i in range(5))
    epsilon, momentum = call.attr("epsilon", 1e-5), call.attr("momentum", 0.9)
    if call.version < 9 and not call.attr("spatial", 1):
        raise ONNXError("BatchNormalization with spatial=0 is not supported")
    if not call.attr("training_mode", 0):
        if x.ndim < 2 or not x.dtype is scale.dtype is mean.dtype:
            shape = [1, -1, *[1] * (x.ndim - 2)] if x.ndim > 1 else [-1]
            y = (x - mean.reshape(shape)) / torch.sqrt(var.reshape(shape) + epsilon)
            return (y * scale.reshape(shape) + bias.reshape(shape)).to(x.dtype)
        return F.batch_norm(x, mean, var, scale, bias, False, 0.0, epsilon)
    dims = [0, *range(2, x.ndim)]
    own_var, own_mean = torch.var_mean(x, dim=dims, correction=0)
    y = F.batch_norm(x, None, None, scale, bias, True, 0.0, epsilon)
    return y, mean * momentum + own_mean * (1 - momentum), var * momentum + own_var * (1 - momentum)


@rule("InstanceNormalization")
def instance_normalization(call: Call) -> Tensor:
    return F.instance_norm(
        call.tensor(0), None, None, call.tensor(1), call.tensor(2), eps=call.attr("epsilon", 1e-5)
    )


@rule("GroupNormalization")
def group_normalization(call: Call) -> Tensor:
    """Scale and bias are per group in operator set 18, per channel since 21."""
    x, scale, bias = (call.tensor(i) for i in range(3))
    groups = call.required("num_groups")
    if call.version < 21:
        each = x.shape[1] // groups
        scale, bias = scale.repeat_interleave(each), bias.repeat_interleave(each)
    return F.group_norm(x, groups, scale, bias, call.attr("epsilon", 1e-5))


def _from_axis(call: Call) -> list[int]:
    x = call.tensor(0)
    return list(range(call.attr("axis", -1) % x.ndim, x.ndim))


@rule("LayerNormalization")
def layer_normalization(call: Call) -> Any:
    x, dims, epsilon = call.tensor(0), _from_axis(call), call.attr("epsilon", 1e-5)
    scale, bias = call.tensor(1), call.optional(2)
    shape = [x.shape[d] for d in dims]
    if call.outputs == 1 and list(scale.shape) == shape and (bias is None or list(bias.shape) == shape):
        return F.layer_norm(x, shape, scale, bias, epsilon)
    var, mean = torch.var_mean(x, dim=dims, correction=0, keepdim=True)
    inverse = torch.rsqrt(var + epsilon)
    y = (x - mean) * inverse * scale
    return (y if bias is None else y + bias), mean, inverse


@rule("RMSNormalization")
def rms_normalization(call: Call) -> Tensor:
    x, dims, epsilon = call.tensor(0), _from_axis(call), call.attr("epsilon", 1e-5)
    wide = x.to(torch.float32) if x.dtype.itemsize < 4 else x
    normal = wide * torch.rsqrt(torch.mean(wide * wide, dim=dims, keepdim=True) + epsilon)
    return normal.to(x.dtype) * call.tensor(1)


@rule("LRN")
def lrn(call: Call) -> Tensor:
    """Each element over the sum of squares of `size` channels around it; the window is one longer to the right where
    `size` is even."""
    x, size = call.tensor(0), call.required("size")
    alpha, beta, bias = call.attr("alpha", 1e-4), call.attr("beta", 0.75), call.attr("bias", 1.0)
    channels = x.shape[1]
    low = (size - 1) // 2
    squares = torch.constant_pad_nd(x * x, [0, 0] * (x.ndim - 2) + [low, math.ceil((size - 1) / 2)], 0)
    total = torch.narrow(squares, 1, 0, channels)
    for i in range(1, size):
        total = total + torch.narrow(squares, 1, i, channels)
    return x / (bias + alpha / size * total) ** beta


@rule("MeanVarianceNormalization")
def mean_variance_normalization(call: Call) -> Tensor:
    x, axes = call.tensor(0), call.attr("axes", [0, 2, 3])
    var, mean = torch.var_mean(x, dim=axes, correction=0, keepdim=True)
    return (x - mean) / (torch.sqrt(var) + 1e-9)
