"""Rules of ops that read images at places which tensors tell: RoiAlign, DeformConv."""

from __future__ import annotations

from typing import Any

import numpy as np

import vitrify as torch

from ..tensor import Tensor
from .convolutions import Window
from .table import Call, ONNXError, rule


@rule("DeformConv")
def deform_conv(call: Call) -> Tensor:
    """Each tap of the kernel reads the image moved by its own offset, bilinearly and 0 outside; then the weight is a
    matrix. Dai et al. 2017, "Deformable convolutional networks"."""
    x, weight, offset = call.tensor(0), call.tensor(1), call.tensor(2)
    window = Window(call, x, call.attr("kernel_shape", weight.shape[2:]))
    if window.rank != 2:
        raise ONNXError(f"over {window.rank} spatial dims; over 2 it can be computed")
    batch, channels, height, width = x.shape
    groups, parts = call.attr("group", 1), call.attr("offset_group", 1)
    taps, rows, columns = window.kernel[0] * window.kernel[1], offset.shape[2], offset.shape[3]
    moved = offset.reshape(batch * parts, taps, 2, rows, columns)
    places = []
    for axis, count in enumerate((rows, columns)):
        steps = torch.arange(count) * window.strides[axis] - window.low[axis]
        tap = torch.arange(taps) // window.kernel[1] if axis == 0 else torch.arange(taps) % window.kernel[1]
        along = steps.reshape([-1, 1] if axis == 0 else [1, -1])
        place = moved[:, :, axis] + along + (tap * window.dilations[axis]).reshape(-1, 1, 1)
        places.append(place.reshape(batch * parts, 1, -1))
    images = x.reshape(batch * parts, channels // parts, height, width)
    read = _bilinear(images, *places).reshape(batch, channels, taps, rows * columns)
    if call.has(4):
        mask = call.tensor(4).reshape(batch, parts, 1, taps, rows * columns)
        spread = read.reshape(batch, parts, channels // parts, taps, rows * columns) * mask
        read = spread.reshape(batch, channels, taps, rows * columns)
    read = read.reshape(batch, groups, channels // groups * taps, rows * columns)
    matrices = weight.reshape(groups, weight.shape[0] // groups, channels // groups * taps)
    y = torch.matmul(matrices, read).reshape(batch, weight.shape[0], rows, columns)
    return y + call.tensor(3).reshape(-1, 1, 1) if call.has(3) else y


def _bilinear(images: Tensor, down: Tensor, across: Tensor) -> Tensor:
    """[image, channel, place]: the images at the places [image, 1, place], what is outside of them being 0."""
    _, channels, height, width = images.shape
    flat = images.flatten(2)
    found = None
    for y, down_weight in _two(down, height):
        for x, across_weight in _two(across, width):
            index = (y * width + x).expand(-1, channels, -1)
            part = torch.gather(flat, 2, index) * (down_weight * across_weight)
            found = part if found is None else found + part
    assert found is not None
    return found


def _two(places: Tensor, size: int) -> list[tuple[Tensor, Tensor]]:
    """The positions before and after each place, and their weights: 0 for one that is outside."""
    low = torch.floor(places)
    found = []
    for position, weight in ((low, low + 1 - places), (low + 1, places - low)):
        inside = (position >= 0) & (position <= size - 1)
        index = torch.clamp(position, 0, size - 1).to(torch.int64)
        found.append((index, weight * inside.to(weight.dtype)))
    return found


@rule("RoiAlign")
def roi_align(call: Call) -> Tensor:
    """Means of bilinear samples in the cells of each region: along each axis a matrix of weights, as for a resize. The
    maximum (`mode`) is that of the samples' four parts."""
    x, rois, batch = call.tensor(0), call.tensor(1), call.tensor(2)
    mode = call.attr("mode", "avg")
    if mode not in ("avg", "max"):
        raise ONNXError(f"mode {mode!r} is not known")
    rows, columns = call.attr("output_height", 1), call.attr("output_width", 1)
    samples = call.attr("sampling_ratio", 0)
    if samples <= 0:
        raise ONNXError("a sampling_ratio that depends on the size of the regions is not supported")
    half = call.version >= 16 and call.attr("coordinate_transformation_mode", "half_pixel") == "half_pixel"
    corners = rois * call.attr("spatial_scale", 1.0) - (0.5 if half else 0.0)
    vertical = _places(corners[:, 1], corners[:, 3], rows * samples, half)
    horizontal = _places(corners[:, 0], corners[:, 2], columns * samples, half)
    images = torch.index_select(x, 0, batch.to(torch.int64))
    if mode == "max":
        return _maxima(images, vertical, horizontal, samples)
    down = _means(vertical, samples, x.shape[2]).unsqueeze(1)
    across = _means(horizontal, samples, x.shape[3]).unsqueeze(1)
    return torch.matmul(torch.matmul(down, images), across.transpose(-1, -2))


def _places(start: Tensor, end: Tensor, count: int, half: bool) -> Tensor:
    """[region, sample]: where the samples of each region are along an axis."""
    length = end - start if half else torch.clamp(end - start, min=1)
    fractions = torch.from_numpy((np.arange(count) + 0.5) / count).to(start.dtype)
    return start.unsqueeze(1) + length.unsqueeze(1) * fractions


def _means(places: Tensor, samples: int, size: Any) -> Tensor:
    """[region, cell, position]: the weight of each position in each cell's mean."""
    inside = (places >= -1) & (places <= size)
    distance = torch.clamp(places, 0, size - 1).unsqueeze(-1) - torch.arange(size)
    weights = torch.clamp(1 - torch.abs(distance), min=0) * inside.unsqueeze(-1).to(places.dtype)
    return torch.mean(weights.reshape(places.shape[0], -1, samples, size), dim=2)


def _maxima(images: Tensor, vertical: Tensor, horizontal: Tensor, samples: int) -> Tensor:
    """[region, channel, row, column]: over a cell's samples the largest of their four neighbours times their weights."""
    regions, channels, height, width = images.shape
    flat = images.flatten(2)
    found = None
    for y, down in _neighbours(vertical, height):
        for x, across in _neighbours(horizontal, width):
            index = (y.unsqueeze(2) * width + x.unsqueeze(1)).reshape(regions, 1, -1)
            weight = (down.unsqueeze(2) * across.unsqueeze(1)).reshape(regions, 1, -1)
            part = torch.gather(flat, 2, index.expand(-1, channels, -1)) * weight
            found = part if found is None else torch.maximum(found, part)
    assert found is not None
    shape = regions, channels, vertical.shape[1] // samples, samples, horizontal.shape[1] // samples, samples
    return torch.amax(found.reshape(shape), dim=(3, 5))


def _neighbours(places: Tensor, size: int) -> list[tuple[Tensor, Tensor]]:
    """The positions below and above each place, and their weights, which are 0 outside."""
    inside = ((places >= -1) & (places <= size)).to(places.dtype)
    clamped = torch.clamp(places, 0, size - 1)
    low = torch.floor(clamped)
    above = clamped - low
    high = torch.clamp(low + 1, max=size - 1)
    return [(low.to(torch.int64), (1 - above) * inside), (high.to(torch.int64), above * inside)]
