"""torchvision's compiled operators, written over tensors: gradients come from autograd, compiled functions contain them.

A library compiled for PyTorch cannot be loaded; where `torch.ops.load_library` is given torchvision's, these are
`torch.ops.torchvision.nms` and so on, with torchvision's arguments by place. What they compute is documented at
https://docs.pytorch.org/vision/stable/ops.html; the arithmetic is in the order of torchvision's kernels for CPUs, so
that results differ in their last digits only. As there, regions have no gradients.

Pixels are rows of channels: of images [n, c, h, w] a table [n * h * w, c] is made, of which bins take the rows around
their sample points, times weights. Where the number of points depends on the region (`sampling_ratio` 0), each point of
each region is taken by itself, in a number that only a run tells, and those of a region are added up.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from . import capture
from .autocast import full_precision, full_precision_on_cuda
from .creation import counted
from .dispatch import apply, op_named
from .functional_host import known_elements, repeated_positions
from .functional_matmul import matmul
from .functional_pointwise import where
from .functional_shape import cat, stack
from .functional_tensor import typename
from .half_precision import in_float32
from .ir import dtypes
from .tensor import Tensor

Pair = tuple[int, int]

_INDEX_SELECT, _NMS, _ROI_MAX = map(op_named, ("index_select", "nms", "roi_max"))
# About so many elements are taken out of a table at a time (64 MiB of float32): what is taken is written to memory, and
# in backward each time costs a gradient of the whole table.
TAKEN_ELEMENTS = 1 << 24
# In compiled functions in so many pieces at most.
MOST_TRACED = 16


@full_precision
def nms(dets: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """The indices of the boxes [n, 4] that are kept, by falling scores [n], int64: those of which no kept one before
    shares more than `iou_threshold` of what both cover. RuntimeError for other shapes."""
    return apply(_NMS, (dets.detach(), scores.detach()), {"threshold": float(iou_threshold)})


def roi_align(
    input: Tensor,
    rois: Tensor,
    spatial_scale: float,
    pooled_height: int,
    pooled_width: int,
    sampling_ratio: int,
    aligned: bool,
) -> Tensor:
    """Means of interpolated points in the bins of regions [k, 5] (image, x1, y1, x2, y2): [k, c, pooled_height,
    pooled_width]. K. He et al., "Mask R-CNN", 2017."""
    bins = pooled_height, pooled_width
    return _roi_align(input, rois, spatial_scale, bins, sampling_ratio, aligned).to(input.dtype)


@full_precision
@in_float32
def _roi_align(
    input: Tensor, rois: Tensor, scale: float, bins: Pair, sampling_ratio: int, aligned: bool
) -> Tensor:
    _check_regions(input, rois)
    low, extent = _extents(rois, scale, 0.5 if aligned else 0.0)
    if not aligned:
        extent = [length.clamp(min=1.0) for length in extent]
    table, plane = input.permute(0, 2, 3, 1).flatten(0, 2), _images(rois)[:, None, None]
    total, points = _sums_of_points(table, plane, input.shape[2:], low, extent, bins, sampling_ratio)
    least = points.clamp(min=1.0) if isinstance(points, Tensor) else points
    return (total / least).permute(0, 3, 1, 2).contiguous()


def ps_roi_align(
    input: Tensor,
    rois: Tensor,
    spatial_scale: float,
    pooled_height: int,
    pooled_width: int,
    sampling_ratio: int,
) -> tuple[Tensor, Tensor]:
    """`roi_align` where each bin reads channels of its own: [k, c / bins, pooled_height, pooled_width], and of each
    element which channel it is of, int32. Z. Li et al., "Light-Head R-CNN", 2017."""
    bins = pooled_height, pooled_width
    pooled = _ps_roi_align(input, rois, spatial_scale, bins, sampling_ratio)
    return pooled.to(input.dtype), _channels_of_bins(input, rois, bins)


@full_precision_on_cuda
@in_float32
def _ps_roi_align(input: Tensor, rois: Tensor, scale: float, bins: Pair, sampling_ratio: int) -> Tensor:
    _check_bins(input, rois, bins)
    low, extent = _extents(rois, scale, 0.5)
    table, plane = _table_of_bins(input, bins), _planes_of_bins(rois, bins)
    total, points = _sums_of_points(table, plane, input.shape[2:], low, extent, bins, sampling_ratio)
    return (total / points).permute(0, 3, 1, 2).contiguous()


def roi_pool(
    input: Tensor, rois: Tensor, spatial_scale: float, pooled_height: int, pooled_width: int
) -> tuple[Tensor, Tensor]:
    """Maxima of the pixels in the bins of regions [k, 5]: [k, c, pooled_height, pooled_width], 0 for a bin without
    pixels; and where in the image each is, y * width + x or -1, int32. R. Girshick, "Fast R-CNN", 2015."""
    _check_regions(input, rois)
    place = _roi_max(input, rois, spatial_scale, (pooled_height, pooled_width))
    _, channels, height, width = input.shape
    plane = _images(rois)[:, None] * channels + counted(channels, 0, 1, dtypes.i64)
    index = place.clamp(min=0) + (plane * (height * width))[:, :, None, None]
    pooled = where(place >= 0, apply(_INDEX_SELECT, (input.flatten(), index), {"dim": 0}), 0.0)
    return pooled, place.to(dtypes.i32)


@full_precision_on_cuda
def _roi_max(input: Tensor, rois: Tensor, scale: float, bins: Pair) -> Tensor:
    return apply(_ROI_MAX, (input.detach(), rois.detach()), {"scale": float(scale), "bins": bins})


def ps_roi_pool(
    input: Tensor, rois: Tensor, spatial_scale: float, pooled_height: int, pooled_width: int
) -> tuple[Tensor, Tensor]:
    """Means of the pixels in the bins of regions [k, 5], where each bin reads channels of its own, and these channels,
    as of `ps_roi_align`. J. Dai et al., "R-FCN", 2016.

    As in torchvision the last row and column of an image belong to no bin; they get no gradient, which torchvision,
    that puts them into bins in backward, gives them."""
    bins = pooled_height, pooled_width
    pooled = _ps_roi_pool(input, rois, spatial_scale, bins)
    return pooled.to(input.dtype), _channels_of_bins(input, rois, bins)


@full_precision_on_cuda
@in_float32
def _ps_roi_pool(input: Tensor, rois: Tensor, scale: float, bins: Pair) -> Tensor:
    _check_bins(input, rois, bins)
    height, width = input.shape[2:]
    corners = _rounded(rois.detach()[:, 1:] * scale)
    (top, heights), (left, widths) = (
        _pixels_of_bins(corners[:, at], corners[:, at + 2], count, size)
        for at, count, size in ((1, bins[0], height), (0, bins[1], width))
    )
    counts = heights[:, :, None] * widths[:, None, :]
    owner, number = _each_of(counts.flatten())

    def of_bin(value: Tensor) -> Tensor:
        return _chosen(value.expand(counts.shape).flatten(), owner)

    row = number // of_bin(widths[:, None, :]) + of_bin(top[:, :, None])
    column = number % of_bin(widths[:, None, :]) + of_bin(left[:, None, :])
    plane = _chosen(_planes_of_bins(rois, bins).flatten(), owner)
    taken = _chosen(_table_of_bins(input, bins), (plane * height + row) * width + column)
    total = _added_up(taken, owner, rois.shape[0] * bins[0] * bins[1])
    mean = total.reshape(*counts.shape, total.shape[1]) / counts.clamp(min=1)[..., None]
    return mean.permute(0, 3, 1, 2).contiguous()


@full_precision_on_cuda
@in_float32
def deform_conv2d(
    input: Tensor,
    weight: Tensor,
    offset: Tensor,
    mask: Tensor,
    bias: Tensor,
    stride_h: int,
    stride_w: int,
    pad_h: int,
    pad_w: int,
    dilation_h: int,
    dilation_w: int,
    groups: int,
    offset_groups: int,
    use_mask: bool,
) -> Tensor:
    """A convolution of images [n, c, h, w] with kernels [o, c / groups, kh, kw] whose pixels are interpolated where
    `offset` [n, 2 * offset_groups * kh * kw, oh, ow] (y, x of each) moves them to, 0 outside, times `mask` [n,
    offset_groups * kh * kw, oh, ow] if it is used; plus `bias` [o]. RuntimeError for other shapes.

    X. Zhu et al., "Deformable ConvNets v2", 2018."""
    kernel = weight.shape[2], weight.shape[3]
    out = [
        (size + 2 * pad - dilation * (k - 1) - 1) // stride + 1
        for size, pad, dilation, k, stride in (
            (input.shape[2], pad_h, dilation_h, kernel[0], stride_h),
            (input.shape[3], pad_w, dilation_w, kernel[1], stride_w),
        )
    ]
    _check_deformed(input, weight, offset, mask if use_mask else None, out, groups, offset_groups)
    batch, channels = input.shape[:2]
    points = kernel[0] * kernel[1]
    moved = offset.reshape(batch, offset_groups, points, 2, *out)
    dtype = input.dtype

    def grid(axis: int, stride: int, pad: int, dilation: int) -> Tensor:
        """Where the kernel's pixels lie along an axis without offsets, [points, oh, ow] or broadcast to it."""
        window = counted(out[axis], -pad, stride, dtypes.i64)
        tap = counted(points, 0, 1, dtypes.i64)
        tap = tap % kernel[1] if axis else tap // kernel[1]
        spread = window[None, None, :] if axis else window[None, :, None]
        return (spread + (tap * dilation)[:, None, None]).to(dtype)

    ys, y_weights = _neighbours(grid(0, stride_h, pad_h, dilation_h) + moved[:, :, :, 0], input.shape[2])
    xs, x_weights = _neighbours(grid(1, stride_w, pad_w, dilation_w) + moved[:, :, :, 1], input.shape[3])
    weights = (y_weights[..., :, None] * x_weights[..., None, :]).flatten(5)
    if use_mask:
        weights = weights * mask.reshape(batch, offset_groups, points, *out)[..., None]
    plane = counted(batch * offset_groups, 0, 1, dtypes.i64).reshape(batch, offset_groups, 1, 1, 1, 1, 1)
    rows = ((plane * input.shape[2] + ys[..., :, None]) * input.shape[3] + xs[..., None, :]).flatten(5)
    depth = channels // offset_groups
    table = input.reshape(batch * offset_groups, depth, *input.shape[2:]).permute(0, 2, 3, 1).flatten(0, 2)
    kernels = weight.reshape(groups, weight.shape[0] // groups, -1)
    results = []
    for part in _pieces(batch, 4 * points * channels * out[0] * out[1]):
        taken = _weighted_rows(table, rows[part], weights[part])  # [n, offset_groups, points, oh, ow, depth]
        columns = taken.permute(0, 1, 5, 2, 3, 4).reshape(
            taken.shape[0], groups, channels // groups * points, out[0] * out[1]
        )
        results.append(matmul(kernels, columns).reshape(taken.shape[0], weight.shape[0], *out))
    return _joined(results) + bias.reshape(1, -1, 1, 1)


def _neighbours(at: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """The two pixels around each place along an axis of so many, and what they count, [..., 2]: outside nothing."""
    below = at.detach().floor()
    part = at - below
    both = stack([below, below + 1], -1)
    inside = (both >= 0).logical_and(both <= size - 1)
    return where(inside, both, 0.0).to(dtypes.i64), where(inside, stack([1 - part, part], -1), 0.0)


def _extents(rois: Tensor, scale: float, shift: float) -> tuple[list[Tensor], list[Tensor]]:
    """Of each region where it begins, and how long it is, along y and x, [k] each."""
    corners = rois.detach()[:, 1:] * scale - shift
    x, y, x2, y2 = (corners[:, i] for i in range(4))
    return [y, x], [y2 - y, x2 - x]


def _sums_of_points(
    table: Tensor,
    plane: Tensor,
    sizes: Sequence[Any],
    low: list[Tensor],
    extent: list[Tensor],
    bins: Pair,
    sampling_ratio: int,
) -> tuple[Tensor, Any]:
    """The sums of a bin's points, [k, *bins, channels of the table], and how many points a bin has: an int, or of each
    region [k, 1, 1, 1]. `plane`: which block of the table, of so many rows and columns of pixels, a bin reads, [k,
    *bins] or broadcast to it."""
    step = [length / count for length, count in zip(extent, bins)]
    grid: Any = (sampling_ratio, sampling_ratio)
    points: Any = sampling_ratio * sampling_ratio
    count: Tensor | None = None
    if sampling_ratio <= 0:
        grid = [length.ceil() for length in step]
        points = (grid[0] * grid[1])[:, None, None, None]
        count = (grid[0].clamp(min=0.0) * grid[1].clamp(min=0.0)).to(dtypes.i64)
    of_point = 4 * bins[0] * bins[1] * table.shape[1]
    found = []
    for part in _pieces(plane.shape[0], of_point * points if count is None else of_point * count):
        here = [plane[part], *(x[part] for x in (*low, *step))]
        if count is None:
            numbers = [counted(sampling_ratio, 0, 1, dtypes.i64)[None, None, :]] * 2
            cells: Any = grid
        else:
            owner, number = _each_of(count[part])
            here = [_chosen(x, owner) for x in here]
            cells = [_chosen(x[part], owner) for x in grid]
            columns = cells[1].to(dtypes.i64)
            numbers = [(number // columns)[:, None, None], (number % columns)[:, None, None]]
            cells = [x[:, None, None] for x in cells]
        (ys, y_weights), (xs, x_weights) = (
            _around(here[1 + a], here[3 + a], bins[a], numbers[a], cells[a], sizes[a]) for a in (0, 1)
        )
        rows = here[0][..., None, None] * (sizes[0] * sizes[1])
        rows = rows + (ys * sizes[1])[:, :, None, :, None] + xs[:, None, :, None, :]
        weights = y_weights[:, :, None, :, None] * x_weights[:, None, :, None, :]
        total = _weighted_rows(table, rows.flatten(3), weights.flatten(3))
        if count is not None:
            total = _added_up(total, owner, count[part].shape[0])
        found.append(total)
    return _joined(found), points


def _around(
    low: Tensor, step: Tensor, bins: int, number: Tensor, cells: Any, size: int
) -> tuple[Tensor, Tensor]:
    """Along one axis, of the points of each bin the pixels around them and what these count: [k, bins, 2 * points]. The
    i-th of `cells` points of a bin lies in the middle of the i-th of as many cells; one more than a pixel outside counts
    nothing, one nearer is moved to the border."""
    start, length = low[:, None, None], step[:, None, None]
    first = start + counted(bins, 0, 1, dtypes.i64).to(low.dtype)[None, :, None] * length
    at = first + (number.to(low.dtype) + 0.5) * length / cells
    inside = (at >= -1.0).logical_and(at <= float(size))
    at = where(inside, at, 0.0).clamp(0.0, size - 1.0)
    below = at.to(dtypes.i64)
    part = at - below.to(at.dtype)
    weights = where(inside[..., None], stack([1.0 - part, part], -1), 0.0)
    return stack([below, (below + 1).clamp(max=size - 1)], -1).flatten(2), weights.flatten(2)


def _pixels_of_bins(low: Tensor, high: Tensor, bins: int, size: int) -> tuple[Tensor, Tensor]:
    """Along one axis, where the bins of each region begin and how many pixels they have, [k, bins]."""
    step = ((high - low).clamp(min=1.0) / bins)[:, None]
    number = counted(bins, 0, 1, dtypes.i64).to(low.dtype)
    first = ((number * step).floor() + low[:, None]).clamp(0.0, size - 1.0).to(dtypes.i64)
    end = (((number + 1) * step).ceil() + low[:, None]).clamp(0.0, size - 1.0).to(dtypes.i64)
    return first, (end - first).clamp(min=0)


def _rounded(x: Tensor) -> Tensor:
    """To the nearest integer, halves away from zero, as C rounds."""
    whole = x.trunc()
    return where((x - whole).abs() >= 0.5, whole + x.sign(), whole)


def _each_of(counts: Tensor) -> tuple[Tensor, Tensor]:
    """Each position of a vector of counts as often as the count there says, and which time it is."""
    owner = repeated_positions(counts)
    before = counts.cumsum(0) - counts
    return owner, counted(owner.shape[0], 0, 1, dtypes.i64) - _chosen(before, owner)


def _chosen(table: Tensor, index: Tensor) -> Tensor:
    return apply(_INDEX_SELECT, (table, index), {"dim": 0})


def _weighted_rows(table: Tensor, rows: Tensor, weights: Tensor) -> Tensor:
    """Sums of the table's rows, [..., t] of them times as many weights: [..., channels]."""
    return matmul(weights[..., None, :], _chosen(table, rows)).squeeze(-2)


def _added_up(parts: Tensor, owner: Tensor, count: Any) -> Tensor:
    """The sums of the parts along their first dim that have one owner, for so many owners."""
    return parts.new_zeros((count, *parts.shape[1:])).index_add(0, owner, parts)


def _pieces(count: Any, elements: Any) -> Iterator[slice]:
    """Slices of so many things, each of which takes so many elements (of all, or one number for each) out of a table.
    All at once where a compiled function does not know how many they are."""
    known = known_elements(elements) if isinstance(elements, Tensor) else elements
    if known is None or not isinstance(count, int) or not count:
        yield slice(None)
        return
    taken = np.cumsum(np.broadcast_to(known, (count,)))
    # Code for each piece: not for many of them.
    limit = TAKEN_ELEMENTS if capture.active() is None else max(TAKEN_ELEMENTS, int(taken[-1]) // MOST_TRACED)
    ends = [*(np.flatnonzero(np.diff(taken // limit)) + 1).tolist(), count]
    for start, end in zip([0, *ends], ends):
        yield slice(start, end)


def _joined(parts: list[Tensor]) -> Tensor:
    return cat(parts) if len(parts) > 1 else parts[0]


def _images(rois: Tensor) -> Tensor:
    """The number of each region's image."""
    return rois.detach()[:, 0].to(dtypes.i64)


def _planes_of_bins(rois: Tensor, bins: Pair) -> Tensor:
    """Which block of pixels in `_table_of_bins` each bin reads, [k, *bins]."""
    count = bins[0] * bins[1]
    return _images(rois)[:, None, None] * count + counted(count, 0, 1, dtypes.i64).reshape(bins)


def _table_of_bins(input: Tensor, bins: Pair) -> Tensor:
    """Pixels as rows of the channels of one bin, those of an image bin by bin."""
    images, channels, height, width = input.shape
    count = bins[0] * bins[1]
    depth = channels // count
    return input.reshape(images, depth, count, height, width).permute(0, 2, 3, 4, 1).flatten(0, 3)


def _channels_of_bins(input: Tensor, rois: Tensor, bins: Pair) -> Tensor:
    channels = input.shape[1]
    order = counted(channels, 0, 1, dtypes.i32).reshape(1, channels // (bins[0] * bins[1]), *bins)
    return order.expand(rois.shape[0], *order.shape[1:]).contiguous()


def _check_regions(input: Tensor, rois: Tensor) -> None:
    if rois.ndim != 2 or rois.shape[1] != 5:
        raise RuntimeError("rois must have shape as Tensor[K, 5]")
    if input.ndim != 4:
        raise RuntimeError(f"input must have shape as Tensor[N, C, H, W], got {input.ndim} dimensions")
    if input.dtype is not rois.dtype:
        raise RuntimeError(
            "Expected tensor for argument #1 'input' to have the same type as tensor for argument #2 'rois'; but type "
            f"{typename(input)} does not equal {typename(rois)}"
        )
    if not input.is_floating_point():
        raise NotImplementedError(f"\"roi_pool\" not implemented for '{input.dtype.scalar_type}'")


def _check_bins(input: Tensor, rois: Tensor, bins: Pair) -> None:
    _check_regions(input, rois)
    if input.shape[1] % (bins[0] * bins[1]):
        raise RuntimeError("input channels must be a multiple of pooling height * pooling width")


def _check_deformed(
    input: Tensor,
    weight: Tensor,
    offset: Tensor,
    mask: Tensor | None,
    out: list[int],
    groups: int,
    offset_groups: int,
) -> None:
    points = weight.shape[2] * weight.shape[3]
    for name, given, wanted in (
        ("offset", offset, 2 * offset_groups * points),
        ("mask", mask, offset_groups * points),
    ):
        if given is None:
            continue
        if given.shape[1] != wanted:
            raise RuntimeError(f"{name}.shape[1] is not valid: got: {given.shape[1]} expected: {wanted}")
        if given.shape[0] != input.shape[0]:
            raise RuntimeError(f"invalid batch size of {name}")
        if list(given.shape[2:]) != out:
            raise RuntimeError(
                f"{name} output dims: ({given.shape[2]}, {given.shape[3]}) - computed output dims: ({out[0]}, {out[1]})"
            )
    if weight.shape[1] * groups != input.shape[1] or weight.shape[0] % groups:
        raise RuntimeError(
            f"deform_conv2d: weight {list(weight.shape)} does not fit {input.shape[1]} channels in {groups} groups"
        )
    if min(out) <= 0:
        raise RuntimeError(f"Calculated output size too small - out_h: {out[0]} out_w: {out[1]}")
    if input.shape[1] % offset_groups:
        raise RuntimeError(
            f"deform_conv2d: {input.shape[1]} channels are no multiple of {offset_groups} offset groups"
        )


def _cuda_version() -> int:
    """-1: not compiled for CUDA."""
    return -1


OPERATORS = (
    nms, roi_align, roi_pool, ps_roi_align, ps_roi_pool, deform_conv2d, _cuda_version,
)  # fmt: skip
# What torchvision's library has besides: on quantized tensors, and gradients, which autograd has here.
ABSENT = (
    "qnms", "qroi_align", "_roi_align_backward", "_roi_pool_backward", "_ps_roi_align_backward",
    "_ps_roi_pool_backward", "_deform_conv2d_backward",
)  # fmt: skip
