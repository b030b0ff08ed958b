"""Rules of convolutions and pools."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import vitrify as torch
import vitrify.nn.functional as F

from ..tensor import Tensor
from .shapes import with_border
from .table import Call, ONNXError, rule

_CONV = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_TRANSPOSED = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}
_MAX = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
_MAX_WITH_INDEX = {
    1: F.max_pool1d_with_indices, 2: F.max_pool2d_with_indices, 3: F.max_pool3d_with_indices,
}  # fmt: skip


class Window:
    """The attributes that convolutions and pools share, for an input's spatial dims."""

    def __init__(self, call: Call, x: Tensor, kernel: Sequence[int]):
        rank = x.ndim - 2
        if rank not in _CONV or len(kernel) != rank:
            raise ONNXError(f"a window of {len(kernel)} dims over an input of shape {list(x.shape)}")
        self.rank = rank
        self.kernel = [int(k) for k in kernel]
        self.strides = call.attr("strides", [1] * rank)
        self.dilations = call.attr("dilations", [1] * rank)
        pads = call.attr("pads", [0] * 2 * rank)
        if not len(pads) == 2 * len(self.strides) == 2 * len(self.dilations) == 2 * rank:
            raise ONNXError(f"strides, dilations or pads do not fit {rank} spatial dims")
        self.low, self.high = list(pads[:rank]), list(pads[rank:])
        self.reach = [d * (k - 1) + 1 for k, d in zip(self.kernel, self.dilations)]
        mode = call.attr("auto_pad", "NOTSET")
        if mode == "VALID":
            self.low, self.high = [0] * rank, [0] * rank
        elif mode in ("SAME_UPPER", "SAME_LOWER"):
            for i, (n, s, reach) in enumerate(zip(x.shape[2:], self.strides, self.reach)):
                total = (-(-n // s) - 1) * s + reach - n
                total = max(total, 0) if isinstance(total, int) else total
                half = total // 2
                self.low[i], self.high[i] = (
                    (half, total - half) if mode == "SAME_UPPER" else (total - half, half)
                )
        elif mode != "NOTSET":
            raise ONNXError(f"auto_pad {mode!r} is not known")

    def padded(self, x: Tensor, value: float) -> tuple[Tensor, list[int]]:
        """The input with what of the padding the functions cannot do themselves, and the symmetric rest."""
        if self.low == self.high:
            return x, self.low
        return with_border(x, self.low, self.high, value), [0] * self.rank


@rule("Conv")
def conv(call: Call) -> Tensor:
    x, weight = call.tensor(0), call.tensor(1)
    window = Window(call, x, call.attr("kernel_shape", weight.shape[2:]))
    x, padding = window.padded(x, 0)
    return _CONV[window.rank](
        x, weight, call.optional(2), window.strides, padding, window.dilations, call.attr("group", 1)
    )


@rule("ConvTranspose")
def conv_transpose(call: Call) -> Tensor:
    """All that the kernel reaches is computed, and what `pads` or `output_shape` ask for cut from it."""
    x, weight = call.tensor(0), call.tensor(1)
    window = Window(call, x, call.attr("kernel_shape", weight.shape[2:]))
    rank = window.rank
    extra = call.attr("output_padding", [0] * rank)
    low, high = window.low, window.high
    shape = call.attr("output_shape")
    mode = call.attr("auto_pad", "NOTSET")
    if shape is None and mode in ("SAME_UPPER", "SAME_LOWER"):
        shape = [n * s for n, s in zip(x.shape[2:], window.strides)]
    if shape is not None:
        shape = list(shape)[-rank:]
        for i in range(rank):
            total = window.strides[i] * (x.shape[2 + i] - 1) + extra[i] + window.reach[i] - shape[i]
            half = total // 2
            low[i], high[i] = (total - half, half) if mode != "SAME_UPPER" else (half, total - half)
    if low == high and all(n >= 0 for n in low) and all(e < s for e, s in zip(extra, window.strides)):
        return _TRANSPOSED[rank](
            x, weight, call.optional(2), window.strides, low, extra, call.attr("group", 1), window.dilations
        )
    y = _TRANSPOSED[rank](x, weight, None, window.strides, 0, 0, call.attr("group", 1), window.dilations)
    cut = [-n for n in low], [e - n for e, n in zip(extra, high)]
    y = with_border(y, *cut, 0)
    bias = call.optional(2)
    return y if bias is None else y + bias.reshape([-1, *[1] * rank])


def _beyond(call: Call, window: Window, x: Tensor) -> list[int]:
    """How much further to the right than `high` the last window of each dim may reach (`ceil_mode`)."""
    found = [0] * window.rank
    if call.attr("ceil_mode", 0):
        for i, (n, s) in enumerate(zip(x.shape[2:], window.strides)):
            free = n + window.low[i] + window.high[i] - window.reach[i]
            last = -(-free // s) * s
            if last >= n + window.low[i]:
                last -= s  # a window that would begin in the padding is none
            found[i] = max(last - free, 0)
    return found


@rule("MaxPool")
def max_pool(call: Call) -> Any:
    x = call.tensor(0)
    if not x.is_floating_point():
        found = _max_pool(call, x.to(torch.float64))
        return (found[0].to(x.dtype), found[1]) if isinstance(found, tuple) else found.to(x.dtype)
    return _max_pool(call, x)


def _max_pool(call: Call, x: Tensor) -> Any:
    window = Window(call, x, call.required("kernel_shape"))
    shape = x.shape[2:]
    beyond = _beyond(call, window, x)
    simple = window.low == window.high and all(2 * p <= k for p, k in zip(window.low, window.kernel))
    ceil = bool(call.attr("ceil_mode", 0)) if simple else False
    padding, cut = window.low, [0] * window.rank
    if not simple:
        window.high = [h + b for h, b in zip(window.high, beyond)]
        x = with_border(x, window.low, window.high, -math.inf)
        padding, cut = [0] * window.rank, window.low
    if call.outputs == 1:
        return _MAX[window.rank](x, window.kernel, window.strides, padding, window.dilations, ceil_mode=ceil)
    y, index = _MAX_WITH_INDEX[window.rank](x, window.kernel, window.strides, padding, window.dilations, ceil)
    return y, _flat_index(call, index, x.shape, shape, cut)


def _flat_index(
    call: Call, index: Tensor, padded: Sequence[int], shape: Sequence[int], low: Sequence[int]
) -> Tensor:
    """From positions within a padded image to ONNX's, which count through the whole tensor."""
    places = []
    for n, before in zip(reversed(padded[2:]), reversed(low)):
        places.append(index % n - before)
        index = index // n
    places.reverse()  # the outermost spatial dim first
    order = list(range(len(shape)))
    flat = torch.zeros_like(index)
    count = 1
    for i in reversed(order) if not call.attr("storage_order", 0) else order:
        flat = flat + places[i] * count
        count *= shape[i]
    batch, channels = padded[:2]
    which = torch.arange(batch * channels).reshape([batch, channels, *[1] * len(shape)])
    return flat + which * count


@rule("AveragePool")
def average_pool(call: Call) -> Tensor:
    x = call.tensor(0)
    window = Window(call, x, call.required("kernel_shape"))
    beyond = _beyond(call, window, x)
    inside = bool(call.attr("count_include_pad", 0))
    total = _window_sum(x, window, beyond)
    ones = torch.ones([1, 1, *x.shape[2:]], dtype=x.dtype)
    if inside:
        ones = with_border(ones, window.low, window.high, 1)
        window.low, window.high = [0] * window.rank, [0] * window.rank
    return total / _window_sum(ones, window, beyond)


def _window_sum(x: Tensor, window: Window, beyond: Sequence[int]) -> Tensor:
    high = [h + b for h, b in zip(window.high, beyond)]
    x = with_border(x, window.low, high, 0)
    channels = x.shape[1]
    weight = torch.ones([1, 1, *window.kernel], dtype=x.dtype)
    flat = x.reshape([x.shape[0] * channels, 1, *x.shape[2:]])
    y = _CONV[window.rank](flat, weight, None, window.strides, 0, window.dilations)
    return y.reshape([x.shape[0], channels, *y.shape[2:]])


@rule("LpPool")
def lp_pool(call: Call) -> Tensor:
    x, power = call.tensor(0), call.attr("p", 2)
    window = Window(call, x, call.required("kernel_shape"))
    total = _window_sum(torch.abs(x) ** power, window, _beyond(call, window, x))
    return total ** (1.0 / power)


@rule("MaxUnpool", static=(2,))
def max_unpool(call: Call) -> Tensor:
    x, index = call.tensor(0), call.tensor(1)
    kernel = call.required("kernel_shape")
    rank = len(kernel)
    strides, pads = call.attr("strides", [1] * rank), call.attr("pads", [0] * 2 * rank)
    own = [
        (n - 1) * s - pads[i] - pads[i + rank] + k
        for i, (n, s, k) in enumerate(zip(x.shape[2:], strides, kernel))
    ]
    inner = math.prod(own)
    count = x.shape[0] * x.shape[1] * inner
    flat = torch.zeros(count, dtype=x.dtype).scatter(0, index.reshape(-1), x.reshape(-1))
    y = flat.reshape([*x.shape[:2], *own])
    if not call.has(2):
        return y
    beyond = [wanted - n for wanted, n in zip(call.ints(2)[2:], own)]
    if any(n < 0 for n in beyond):
        raise ONNXError(f"output_shape {call.ints(2)} is smaller than {list(y.shape)}")
    return with_border(y, [0] * len(beyond), beyond, 0)


@rule("GlobalAveragePool")
def global_average_pool(call: Call) -> Tensor:
    x = call.tensor(0)
    return torch.mean(x, dim=list(range(2, x.ndim)), keepdim=True)


@rule("GlobalMaxPool")
def global_max_pool(call: Call) -> Tensor:
    x = call.tensor(0)
    return torch.amax(x, dim=list(range(2, x.ndim)), keepdim=True)


@rule("GlobalLpPool")
def global_lp_pool(call: Call) -> Tensor:
    x, power = call.tensor(0), call.attr("p", 2)
    return torch.sum(torch.abs(x) ** power, dim=list(range(2, x.ndim)), keepdim=True) ** (1.0 / power)
