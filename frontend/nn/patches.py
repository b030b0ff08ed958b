"""Sliding patches of images as columns, and columns added up to images."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..creation import zeros
from ..half_precision import in_float32
from ..ir.ops.common import shape_text
from ..tensor import Tensor, wrap
from .padding import pad
from .windows import Ints, spread


def _positions(size: int, k: int, s: int, p: int, d: int) -> np.ndarray[Any, Any]:
    """[k, windows]: where in a padded dim each window's elements are."""
    windows = (size + 2 * p - d * (k - 1) - 1) // s + 1
    return np.arange(k)[:, None] * d + np.arange(windows)[None, :] * s


def _options(kernel_size: Ints, dilation: Ints, padding: Ints, stride: Ints) -> tuple[tuple[int, ...], ...]:
    given = {"kernel_size": kernel_size, "stride": stride, "padding": padding, "dilation": dilation}
    return tuple(spread(value, 2, name) for name, value in given.items())


def _grid(height: int, width: int, options: tuple[tuple[int, ...], ...]) -> list[np.ndarray[Any, Any]]:
    found = [_positions(n, *each) for n, *each in zip((height, width), *options)]
    if any(rows.shape[1] < 1 for rows in found):
        raise RuntimeError(
            f"Given input with spatial size ({height}, {width}), kernel_size={options[0]}, dilation={options[3]}, "
            f"padding={options[2]}, calculated shape of the array of sliding blocks as "
            f"({found[0].shape[1]}, {found[1].shape[1]}), but its components must be at least one."
        )
    return found


def assert_int_or_pair(arg: Any, arg_name: str, message: str) -> None:
    """AssertionError unless the argument is one number or two."""
    if not isinstance(arg, int) and len(arg) != 2:
        raise AssertionError(message.format(arg_name))


def unfold(
    input: Tensor, kernel_size: Ints, dilation: Ints = 1, padding: Ints = 0, stride: Ints = 1
) -> Tensor:
    """input[n, c, h, w] -> [n, c * kh * kw, windows]."""
    if input.ndim not in (3, 4) or 0 in input.shape[1:]:
        raise RuntimeError(
            "Expected 3D or 4D (batch mode) tensor with possibly 0 batch size and other non-zero dimensions for "
            f"input, but got: {shape_text(input.shape)}"
        )
    if input.ndim == 3:
        return unfold(input.unsqueeze(0), kernel_size, dilation, padding, stride).squeeze(0)
    options = _options(kernel_size, dilation, padding, stride)
    batch, channels, height, width = input.shape
    rows, columns = _grid(int(height), int(width), options)
    (up, left) = options[2]
    x = pad(input, (left, left, up, up)) if up or left else input
    x = x.index_select(2, wrap(rows.reshape(-1))).index_select(3, wrap(columns.reshape(-1)))
    patches = x.reshape(batch, channels, *rows.shape, *columns.shape).permute(0, 1, 2, 4, 3, 5)
    return patches.reshape(
        batch, channels * rows.shape[0] * columns.shape[0], rows.shape[1] * columns.shape[1]
    )


@in_float32
def fold(
    input: Tensor,
    output_size: Ints,
    kernel_size: Ints,
    dilation: Ints = 1,
    padding: Ints = 0,
    stride: Ints = 1,
) -> Tensor:
    """input[n, c * kh * kw, windows] -> [n, c, *output_size], each element the sum of those at its place."""
    if input.ndim == 2:
        return fold(input.unsqueeze(0), output_size, kernel_size, dilation, padding, stride).squeeze(0)
    options = _options(kernel_size, dilation, padding, stride)
    height, width = spread(output_size, 2, "output_size")
    kernel, (up, left) = options[0], options[2]
    rows, columns = _grid(height, width, options)
    batch, packed, windows = input.shape
    if packed % math.prod(kernel):
        raise RuntimeError(
            "Expected size of input's dimension 1 to be divisible by the product of kernel_size, but got "
            f"input.size(1)={packed} and kernel_size={kernel}."
        )
    if windows != rows.shape[1] * columns.shape[1]:
        raise RuntimeError(
            f"Given output_size={(height, width)}, kernel_size={kernel}, dilation={options[3]}, "
            f"padding={options[2]}, stride={options[1]}, expected size of input's dimension 2 to match the "
            f"calculated number of sliding blocks {rows.shape[1]} * {columns.shape[1]} = "
            f"{rows.shape[1] * columns.shape[1]}, but got input.size(2)={windows}."
        )
    channels = packed // math.prod(kernel)
    patches = input.reshape(batch, channels, kernel[0], kernel[1], rows.shape[1], columns.shape[1])
    flat = patches.permute(0, 1, 2, 4, 3, 5).reshape(batch, channels, rows.size, columns.size)
    wide = zeros((batch, channels, rows.size, width + 2 * left), dtype=input.dtype)
    wide = wide.index_add(3, wrap(columns.reshape(-1)), flat)
    image = zeros((batch, channels, height + 2 * up, width + 2 * left), dtype=input.dtype)
    image = image.index_add(2, wrap(rows.reshape(-1)), wide)
    return image[:, :, up : up + height, left : left + width]
