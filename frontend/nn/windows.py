"""Convolution and pooling functions: the spatial rank from the name, unbatched input allowed, padding by
name."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from ..arguments import as_int
from ..autocast import full_precision, lower_precision
from ..creation import counted
from ..dispatch import apply, op_named
from ..ir import dtypes
from ..tensor import Tensor, scalar_type_name, wrap
from .padding import pad

Ints = int | Sequence[int]

_C_NAMES = {
    dtypes.bool_: "bool",
    dtypes.u8: "unsigned char",
    dtypes.i8: "signed char",
    dtypes.i16: "short",
    dtypes.i32: "int",
    dtypes.i64: "long int",
    dtypes.f16: "c10::Half",
    dtypes.bf16: "c10::BFloat16",
    dtypes.f32: "float",
    dtypes.f64: "double",
    dtypes.c64: "c10::complex<float>",
    dtypes.c128: "c10::complex<double>",
}


def spread(value: Any, rank: int, name: str) -> tuple[int, ...]:
    """One number for every spatial dim, or one per dim; RuntimeError for another count."""
    if isinstance(value, int):
        return (value,) * rank
    if isinstance(value, Tensor) and not value.ndim:
        return (as_int(value),) * rank
    found = tuple(int(v) for v in value)
    if len(found) == 1:
        return found * rank
    if len(found) != rank:
        raise RuntimeError(
            f"expected {name} to be a single integer value or a list of {rank} values, but got "
            f"{name}={list(found)}"
        )
    return found


def batched(input: Tensor, rank: int, name: str) -> tuple[Tensor, bool]:
    """The input with a batch dim, and whether it had none."""
    if input.ndim == rank + 2:
        return input, False
    if input.ndim == rank + 1:
        return input.unsqueeze(0), True
    raise RuntimeError(
        f"Expected {rank + 1}D (unbatched) or {rank + 2}D (batched) input to {name}, but got input of size: "
        f"{list(input.shape)}"
    )


def _convolve(
    rank: int,
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Ints,
    padding: Ints | str,
    dilation: Ints,
    groups: int,
) -> Tensor:
    name = f"conv{rank}d"
    if weight.ndim != rank + 2:
        raise RuntimeError(f"{name}: expected weight to be at least {rank + 2}D, got a {weight.ndim}D weight")
    x, lone = batched(input, rank, name)
    if bias is not None and bias.dtype is not x.dtype:
        raise RuntimeError(
            f"Input type ({_C_NAMES[x.dtype]}) and bias type ({_C_NAMES[bias.dtype]}) should be the same"
        )
    if x.dtype is not weight.dtype:
        raise RuntimeError(
            f"expected scalar type {scalar_type_name(x.dtype)} but found {scalar_type_name(weight.dtype)}"
        )
    strides, dilations = spread(stride, rank, "stride"), spread(dilation, rank, "dilation")
    if isinstance(padding, str):
        x, paddings = _named_padding(x, weight, padding, strides, dilations)
    else:
        paddings = spread(padding, rank, "padding")
    if min(strides) <= 0:
        raise RuntimeError("non-positive stride is not supported")
    if min(paddings) < 0:
        raise RuntimeError("negative padding is not supported")
    if min(dilations) <= 0:
        raise RuntimeError("dilation should be greater than zero")
    if x.dtype.is_integral:
        result = _convolve_integers(x, weight, strides, paddings, dilations, int(groups))
        if bias is not None:
            result = result + bias.reshape(-1, *(1,) * rank)
        return result.squeeze(0) if lone else result
    attrs = {"stride": strides, "padding": paddings, "dilation": dilations, "groups": int(groups)}
    operands = (x, weight) if bias is None else (x, weight, bias)
    result = apply(op_named("convolution"), operands, attrs, "ConvolutionBackward0")
    return result.squeeze(0) if lone else result


def _convolve_integers(
    x: Tensor,
    weight: Tensor,
    strides: Sequence[int],
    paddings: Sequence[int],
    dilations: Sequence[int],
    groups: int,
) -> Tensor:
    """Each place of the kernel by itself, as a product of matrices: exact, modulo 2**bits."""
    count, channels = x.shape[0], weight.shape[1]
    if x.shape[1] != channels * groups or weight.shape[0] % groups:
        raise RuntimeError(
            f"Given groups={groups}, weight of size {list(weight.shape)}, expected input{list(x.shape)} to have "
            f"{channels * groups} channels, but got {x.shape[1]} channels instead"
        )
    x = pad(x, [p for p in reversed(paddings) for _ in range(2)])
    kernel = tuple(weight.shape)[2:]
    reaches = [d * (k - 1) + 1 for k, d in zip(kernel, dilations)]
    sizes = [(n - r) // s + 1 for n, r, s in zip(tuple(x.shape)[2:], reaches, strides)]
    if min(sizes) <= 0:
        raise RuntimeError(
            f"Calculated padded input size per channel: ({_sizes(tuple(x.shape)[2:])}). Kernel size: "
            f"({_sizes(kernel)}). Kernel size can't be greater than actual input size"
        )
    total: Tensor | None = None
    for place in np.ndindex(*kernel):
        spans = [
            slice(p * d, p * d + (n - 1) * s + 1, s) for p, d, n, s in zip(place, dilations, sizes, strides)
        ]
        taken = x[(slice(None), slice(None), *spans)].reshape(count, groups, channels, -1)
        factors = weight[(slice(None), slice(None), *place)].reshape(groups, -1, channels)
        term = factors.matmul(taken)
        total = term if total is None else total + term
    assert total is not None
    return total.reshape(count, weight.shape[0], *sizes)


def _named_padding(
    x: Tensor, weight: Tensor, padding: str, strides: Sequence[int], dilations: Sequence[int]
) -> tuple[Tensor, tuple[int, ...]]:
    """ "valid" is none; "same" keeps the size, an odd total padding having its extra element at the end."""
    if padding == "valid":
        return x, (0,) * len(strides)
    if padding != "same":
        raise RuntimeError(f"Invalid padding string: '{padding}'")
    if any(s != 1 for s in strides):
        raise RuntimeError("padding='same' is not supported for strided convolutions")
    totals = [d * (int(k) - 1) for d, k in zip(dilations, weight.shape[2:])]
    if any(total % 2 for total in totals):
        extra: list[int] = []
        for total in reversed(totals):
            extra += [0, total % 2]
        x = pad(x, extra)
    return x, tuple(total // 2 for total in totals)


@lower_precision
def conv1d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Ints = 1,
    padding: Ints | str = 0,
    dilation: Ints = 1,
    groups: int = 1,
) -> Tensor:
    """input[n, c, l], weight[o, c / groups, k] -> [n, o, l']."""
    return _convolve(1, input, weight, bias, stride, padding, dilation, groups)


@lower_precision
def conv2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Ints = 1,
    padding: Ints | str = 0,
    dilation: Ints = 1,
    groups: int = 1,
) -> Tensor:
    """input[n, c, h, w], weight[o, c / groups, kh, kw] -> [n, o, h', w']."""
    return _convolve(2, input, weight, bias, stride, padding, dilation, groups)


@lower_precision
def conv3d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Ints = 1,
    padding: Ints | str = 0,
    dilation: Ints = 1,
    groups: int = 1,
) -> Tensor:
    """input[n, c, d, h, w], weight[o, c / groups, kd, kh, kw] -> [n, o, d', h', w']."""
    return _convolve(3, input, weight, bias, stride, padding, dilation, groups)


_MAX_NAMES = {1: "SqueezeBackward1", 2: "MaxPool2DWithIndicesBackward0", 3: "MaxPool3DWithIndicesBackward0"}
_AVG_NAMES = {1: "SqueezeBackward1", 2: "AvgPool2DBackward0", 3: "AvgPool3DBackward0"}


def _window(rank: int, name: str, input: Tensor, kernel_size: Ints, stride: Any, padding: Ints) -> Any:
    x, lone = batched(input, rank, name)
    kernel = spread(kernel_size, rank, "kernel_size")
    strides = kernel if stride is None or stride == () or stride == [] else spread(stride, rank, "stride")
    paddings = spread(padding, rank, "padding")
    if min(kernel) <= 0:
        raise RuntimeError("kernel size should be greater than zero, but got " + _sizes(kernel))
    if min(strides) <= 0:
        raise RuntimeError("stride should be greater than zero, but got " + _sizes(strides))
    if any(2 * p > k for p, k in zip(paddings, kernel)):
        raise RuntimeError(
            "pad should be at most half of effective kernel size, but got "
            f"pad={max(paddings)}, kernel_size={min(kernel)} and dilation=1"
        )
    return x, lone, kernel, strides, paddings


def _sizes(values: Sequence[int]) -> str:
    names = ("kT", "kH", "kW")[-len(values) :]
    return " ".join(f"{n}: {v}" for n, v in zip(names, values))


def _max_pool(
    rank: int,
    input: Tensor,
    kernel_size: Ints,
    stride: Any,
    padding: Ints,
    dilation: Ints,
    ceil_mode: bool,
    return_indices: bool,
) -> Any:
    name = f"max_pool{rank}d"
    x, lone, kernel, strides, paddings = _window(rank, name, input, kernel_size, stride, padding)
    attrs = {
        "kernel": kernel,
        "stride": strides,
        "padding": paddings,
        "dilation": spread(dilation, rank, "dilation"),
        "ceil_mode": bool(ceil_mode),
    }
    result: Tensor = apply(op_named("max_pool"), (x,), attrs, _MAX_NAMES[rank])
    if not return_indices:
        return result.squeeze(0) if lone else result
    indices = _max_indices(x.detach(), rank, attrs)
    return (result.squeeze(0), indices.squeeze(0)) if lone else (result, indices)


def _max_indices(x: Tensor, rank: int, attrs: dict[str, Any]) -> Tensor:
    """Where in its plane each window's maximum is, as a flat position. The positions are picked as floats of x's
    type, so x is first made wide enough to hold them."""
    plane = x.shape[x.ndim - rank :]
    count = math.prod(plane)
    if x.dtype not in (dtypes.f32, dtypes.f64):
        x = x.to(dtypes.f32)
    if x.dtype is dtypes.f32 and count > 1 << 24:
        x = x.to(dtypes.f64)
    positions = counted(count, 0, 1, dtypes.i64).reshape(plane).to(x.dtype).expand(x.shape)
    found: Tensor = apply(op_named("max_pool_gather"), (x, positions), attrs)
    return found.to(dtypes.i64)


def max_pool1d(
    input: Tensor,
    kernel_size: Ints,
    stride: Any = None,
    padding: Ints = 0,
    dilation: Ints = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """Maxima over the windows of [(n,) c, l]; with `return_indices` also where they were. A stride not given
    is the window."""
    return _max_pool(1, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


def max_pool2d(
    input: Tensor,
    kernel_size: Ints,
    stride: Any = None,
    padding: Ints = 0,
    dilation: Ints = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """Maxima over the windows of [(n,) c, h, w]; with `return_indices` also where they were. A stride not
    given is the window."""
    return _max_pool(2, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


@full_precision
def max_pool3d(
    input: Tensor,
    kernel_size: Ints,
    stride: Any = None,
    padding: Ints = 0,
    dilation: Ints = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    """Maxima over the windows of [(n,) c, d, h, w]; with `return_indices` also where they were. A stride not
    given is the window."""
    return _max_pool(3, input, kernel_size, stride, padding, dilation, ceil_mode, return_indices)


max_pool1d_with_indices = partial(max_pool1d, return_indices=True)
max_pool2d_with_indices = partial(max_pool2d, return_indices=True)
max_pool3d_with_indices = partial(max_pool3d, return_indices=True)


def _avg_pool(
    rank: int,
    input: Tensor,
    kernel_size: Ints,
    stride: Any,
    padding: Ints,
    ceil_mode: bool,
    count_include_pad: bool,
) -> Tensor:
    x, lone, kernel, strides, paddings = _window(
        rank, f"avg_pool{rank}d", input, kernel_size, stride, padding
    )
    attrs = {
        "kernel": kernel,
        "stride": strides,
        "padding": paddings,
        "ceil_mode": bool(ceil_mode),
        "count_include_pad": bool(count_include_pad),
    }
    result: Tensor = apply(op_named("avg_pool"), (x,), attrs, _AVG_NAMES[rank])
    return result.squeeze(0) if lone else result


def _divided(
    rank: int, input: Tensor, kernel_size: Ints, stride: Any, padding: Ints, ceil_mode: bool, divisor: int
) -> Tensor:
    """The windows' sums divided by a given number."""
    if divisor == 0:
        raise RuntimeError("divisor must be not zero")
    mean = _avg_pool(rank, input, kernel_size, stride, padding, ceil_mode, True)
    kernel, paddings = spread(kernel_size, rank, "kernel_size"), spread(padding, rank, "padding")
    if not ceil_mode:
        return mean * (math.prod(kernel) / divisor)
    # Windows that reach over the padded end were divided by what lies inside.
    strides = spread(stride, rank, "stride") if stride else kernel
    counts = np.ones((1,) * rank)
    sizes = zip(input.shape[-rank:], mean.shape[-rank:], kernel, strides, paddings)
    for axis, (size, windows, k, s, p) in enumerate(sizes):
        inside = np.minimum(k, int(size) + 2 * p - np.arange(int(windows)) * s)
        counts = counts * inside.reshape([-1 if i == axis else 1 for i in range(rank)])
    return mean * wrap((counts / divisor).astype(mean.dtype.numpy))


def avg_pool1d(
    input: Tensor,
    kernel_size: Ints,
    stride: Any = None,
    padding: Ints = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Tensor:
    """Means over the windows of [(n,) c, l]; a stride not given is the window."""
    return _avg_pool(1, input, kernel_size, stride, padding, ceil_mode, count_include_pad)


def avg_pool2d(
    input: Tensor,
    kernel_size: Ints,
    stride: Any = None,
    padding: Ints = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor:
    """Means over the windows of [(n,) c, h, w], or their sums over `divisor_override`; a stride not given is
    the window."""
    if divisor_override is None:
        return _avg_pool(2, input, kernel_size, stride, padding, ceil_mode, count_include_pad)
    return _divided(2, input, kernel_size, stride, padding, ceil_mode, divisor_override)


@full_precision
def avg_pool3d(
    input: Tensor,
    kernel_size: Ints,
    stride: Any = None,
    padding: Ints = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor:
    """Means over the windows of [(n,) c, d, h, w], or their sums over `divisor_override`; a stride not given
    is the window."""
    if divisor_override is None:
        return _avg_pool(3, input, kernel_size, stride, padding, ceil_mode, count_include_pad)
    return _divided(3, input, kernel_size, stride, padding, ceil_mode, divisor_override)
