"""Convolution layers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from ...creation import empty
from ...ir.dtypes import DType
from ...tensor import Tensor
from .. import functional as F
from .. import init
from ..parameter import Parameter
from .module import Module

Ints = int | Sequence[int]
_PADDING_MODES = ("zeros", "reflect", "replicate", "circular")


def _tuple(value: Ints, rank: int) -> tuple[int, ...]:
    return (value,) * rank if isinstance(value, int) else tuple(value)


class _ConvNd(Module):
    """What the convolutions share; subclasses say the spatial rank and the function."""

    rank: int
    function: Callable[..., Tensor]
    weight: Tensor
    bias: Tensor | None

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Ints,
        stride: Ints = 1,
        padding: Ints | str = 0,
        dilation: Ints = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        device: Any = None,
        dtype: DType | None = None,
    ) -> None:
        super().__init__()
        if groups <= 0:
            raise ValueError("groups must be a positive integer")
        if in_channels % groups != 0:
            raise ValueError("in_channels must be divisible by groups")
        if out_channels % groups != 0:
            raise ValueError("out_channels must be divisible by groups")
        strides = _tuple(stride, self.rank)
        if isinstance(padding, str):
            if padding not in ("same", "valid"):
                raise ValueError(f"Invalid padding string {padding!r}, should be one of {{'same', 'valid'}}")
            if padding == "same" and any(s != 1 for s in strides):
                raise ValueError("padding='same' is not supported for strided convolutions")
        if padding_mode not in _PADDING_MODES:
            raise ValueError(
                f"padding_mode must be one of {set(_PADDING_MODES)}, but got padding_mode='{padding_mode}'"
            )
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.kernel_size = _tuple(kernel_size, self.rank)
        self.stride = strides
        self.padding = padding if isinstance(padding, str) else _tuple(padding, self.rank)
        self.dilation = _tuple(dilation, self.rank)
        self.groups = groups
        self.padding_mode = padding_mode
        shape = (out_channels, in_channels // groups, *self.kernel_size)
        self.weight = Parameter(empty(shape, device=device, dtype=dtype))
        if bias:
            self.bias = Parameter(empty(out_channels, device=device, dtype=dtype))
        else:
            self.register_parameter("bias", None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        if self.bias is not None:
            init.fan_in_uniform_(self.bias, self.weight)

    def _border(self) -> list[int]:
        """(before, after) per spatial dim, the last dim first, as `F.pad` takes them."""
        pairs = []
        for kernel, dilation, padding in zip(
            self.kernel_size,
            self.dilation,
            (None,) * self.rank if isinstance(self.padding, str) else self.padding,
        ):
            total = dilation * (kernel - 1) if self.padding == "same" else 0
            pairs.append((total // 2, total - total // 2) if padding is None else (padding, padding))
        return [size for pair in reversed(pairs) for size in pair]

    def forward(self, input: Tensor) -> Tensor:
        padding: Ints | str = self.padding
        if self.padding_mode != "zeros":
            input = F.pad(input, self._border(), mode=self.padding_mode)
            padding = 0
        return type(self).function(
            input, self.weight, self.bias, self.stride, padding, self.dilation, self.groups
        )

    def extra_repr(self) -> str:
        parts = [
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"
        ]
        if self.padding != (0,) * len(self.padding):
            parts.append(f"padding={self.padding}")
        if self.dilation != (1,) * len(self.dilation):
            parts.append(f"dilation={self.dilation}")
        if self.groups != 1:
            parts.append(f"groups={self.groups}")
        if self.bias is None:
            parts.append("bias=False")
        if self.padding_mode != "zeros":
            parts.append(f"padding_mode={self.padding_mode}")
        return ", ".join(parts)


class Conv1d(_ConvNd):
    """[n, c, l] -> [n, out, l']."""

    rank = 1
    function = staticmethod(F.conv1d)


class Conv2d(_ConvNd):
    """[n, c, h, w] -> [n, out, h', w']."""

    rank = 2
    function = staticmethod(F.conv2d)


class Conv3d(_ConvNd):
    """[n, c, d, h, w] -> [n, out, d', h', w']."""

    rank = 3
    function = staticmethod(F.conv3d)
