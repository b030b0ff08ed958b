"""Boxes (x1, y1, x2, y2) on images: which of them overlap, where the maxima in them are. NumPy computes both, in
compiled code too.

These are torchvision's `nms` and the indices of its `roi_pool`, for `frontend/torchvision_ops.py`. No gradients: what
chooses by them is differentiable (`index_select`).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import dtypes
from ..op import Attr, Op, declare
from ..types import TensorType
from .common import Array, Shape, made, shape_text
from .order import descending_order
from .sized import SIZE, TOLD, at_most, told_dim

# So many boxes are compared with all that are left at a time. Measured with 5000 boxes: 16 to 128 take about as long, 1
# three times as long.
AT_ONCE = 64


# nms


def _nms_infer(boxes: TensorType, scores: TensorType, threshold: float, size: Shape) -> TensorType:
    if boxes.rank != 2:
        raise RuntimeError(f"boxes should be a 2d tensor, got {boxes.rank}D")
    if boxes.shape[1] != 4:
        raise RuntimeError(f"boxes should have 4 elements in dimension 1, got {boxes.shape[1]}")
    if scores.rank != 1:
        raise RuntimeError(f"scores should be a 1d tensor, got {scores.rank}D")
    if boxes.shape[0] != scores.shape[0]:
        raise RuntimeError(
            "boxes and scores should have same number of elements in dimension 0, got "
            f"{boxes.shape[0]} and {scores.shape[0]}"
        )
    if boxes.dtype is not scores.dtype:
        raise RuntimeError("dets should have the same type as scores")
    if boxes.dtype not in (dtypes.f32, dtypes.f64):
        raise NotImplementedError(f"\"nms_kernel\" not implemented for '{boxes.dtype.scalar_type}'")
    return TensorType((told_dim(size),), dtypes.i64)


def _nms_numpy(boxes: Array, scores: Array, threshold: float, size: Shape) -> Array:
    order = descending_order(scores)
    x1, y1, x2, y2 = np.ascontiguousarray(boxes[order].T)
    # A float32 overlap is greater than a float64 threshold if it is greater than the next float32 below that.
    limit = boxes.dtype.type(threshold)
    if float(limit) > threshold:
        limit = np.nextafter(limit, boxes.dtype.type(-np.inf))
    with np.errstate(all="ignore"):
        sides = [x1, x2, y1, y2, (x2 - x1) * (y2 - y1)]
        kept = []
        while order.size:
            over = _common(*sides) > limit
            first = over[:, : len(over)]
            alive = np.ones(len(over), np.bool_)
            for i in range(len(over)):
                if alive[i]:
                    alive[i + 1 :] &= ~first[i, i + 1 :]
            kept.append(order[: len(over)][alive])
            left = ~over[alive].any(0)
            left[: len(over)] = False
            order, sides = order[left], [x[left] for x in sides]
    return np.concatenate(kept) if kept else order


def _common(x1: Array, x2: Array, y1: Array, y2: Array, areas: Array) -> Array:
    """Of the first boxes with each, the share of what both cover."""

    def along(low: Array, high: Array) -> Array:
        found = np.minimum(high[:AT_ONCE, None], high)
        found -= np.maximum(low[:AT_ONCE, None], low)
        return np.maximum(found, 0, out=found)

    both = along(x1, x2)
    both *= along(y1, y2)
    either = areas[:AT_ONCE, None] + areas
    either -= both
    return np.divide(both, either, out=both)


def _random_boxes(*lead: int, extent: float = 8.0) -> Any:
    def boxes(rng: Any) -> Array:
        low = rng.uniform(0, extent, (*lead, 2))
        return np.concatenate([low, low + rng.uniform(0.5, extent, (*lead, 2))], -1).astype(np.float32)

    return boxes


def _scored(count: int, threshold: float) -> Any:
    def make(rng: Any) -> list[Array]:
        return [_random_boxes(count)(rng), rng.permutation(count).astype(np.float32)]

    return made(make, gradient=False, threshold=threshold, size=TOLD)


declare(
    Op(
        "nms",
        "nms(boxes, scores): the indices of boxes, those of the highest scores first, that have no more than "
        "`threshold` of the common area in common with any box found before. "
        "https://docs.pytorch.org/vision/stable/generated/torchvision.ops.nms.html",
        infer=_nms_infer,
        numpy=_nms_numpy,
        attrs={"threshold": Attr("float"), **SIZE},
        arity=(2, 2),
        lowering="host",
        sizes="size",
        size_bounds=lambda boxes, scores, threshold, size: at_most(boxes.shape[0]),
        samples=(_scored(9, 0.3), _scored(12, 0.1), _scored(0, 0.5)),
    )
)


# places of maxima


def _max_infer(images: TensorType, rois: TensorType, scale: float, bins: tuple[int, int]) -> TensorType:
    if images.rank != 4 or rois.rank != 2 or rois.shape[1] != 5:
        raise RuntimeError(
            f"roi_max: images [n, c, h, w] and regions [k, 5] expected, got {shape_text(images.shape)} and "
            f"{shape_text(rois.shape)}"
        )
    if images.dtype not in (dtypes.f16, dtypes.f32, dtypes.f64):
        raise NotImplementedError(
            f"\"roi_pool_forward_kernel\" not implemented for '{images.dtype.scalar_type}'"
        )
    return TensorType((rois.shape[0], images.shape[1], *bins), dtypes.i64)


def rounded(x: Array) -> Array:
    """To the nearest integer, halves away from zero, as C rounds."""
    whole = np.trunc(x)
    return whole + np.copysign(abs(x - whole) >= 0.5, x)


def _edges(low: Array, high: Array, bins: int, size: int) -> tuple[Array, Array]:
    """Where the bins of regions [low, high) begin and end along an axis of so many pixels, [k, bins]."""
    step = np.maximum(high - low, 1) / low.dtype.type(bins)
    number = np.arange(bins + 1, dtype=low.dtype)
    begin = np.floor(number[:-1] * step[:, None]) + low[:, None]
    end = np.ceil(number[1:] * step[:, None]) + low[:, None]
    return np.clip(begin, 0, size).astype(np.int64), np.clip(end, 0, size).astype(np.int64)


def _max_numpy(images: Array, rois: Array, scale: float, bins: tuple[int, int]) -> Array:
    """Along rows first, then of what the rows gave: all channels, and then all columns of bins, at a time."""
    _, channels, height, width = images.shape
    pixels = np.ascontiguousarray(images.transpose(0, 2, 3, 1))
    lowest = np.finfo(images.dtype).min
    found = np.zeros((len(rois), *bins, channels), np.int32)
    x1, y1, x2, y2 = rounded(rois[:, 1:] * rois.dtype.type(scale)).T
    left, right = _edges(x1, x2 + 1, bins[1], width)
    top, bottom = _edges(y1, y2 + 1, bins[0], height)
    for k, image in enumerate(rois[:, 0].astype(np.int64)):
        rows = slice(top[k].min(), max(top[k].min(), bottom[k].max()))
        best = np.full((rows.stop - rows.start, bins[1], channels), lowest, images.dtype)
        column = np.zeros(best.shape, np.int32)
        for q in range(bins[1]):
            for x in range(left[k, q], right[k, q]):
                _take_greater(best[:, q], column[:, q], pixels[image, rows, x], np.int32(x + 1))
        for p in range(bins[0]):
            highest = np.full((bins[1], channels), lowest, images.dtype)
            for y in range(top[k, p], bottom[k, p]):
                _take_greater(
                    highest, found[k, p], best[y - rows.start], column[y - rows.start] + np.int32(y * width)
                )
    return np.ascontiguousarray(found.transpose(0, 3, 1, 2), np.int64) - 1


def _take_greater(best: Array, place: Array, value: Array, at: Any) -> None:
    """Where the value is greater than the best so far it is that, at this place, which is behind all before (0: none). A
    NaN is never greater."""
    np.maximum(place, (value > best) * at, out=place)
    np.fmax(best, value, out=best)


def _regions(images: int, count: int) -> Any:
    def make(rng: Any) -> list[Array]:
        boxes = _random_boxes(count, extent=7.0)(rng)
        rois = np.concatenate([rng.integers(0, images, (count, 1)), boxes], 1).astype(np.float32)
        return [rng.normal(size=(images, 3, 6, 7)).astype(np.float32), rois]

    return make


declare(
    Op(
        "roi_max",
        "roi_max(images, regions): of the bins that divide each region of an image (its number, x1, y1, x2, y2), in "
        "pixels after multiplication by `scale`, where in the image's channel the greatest element is: h * width + w, "
        "-1 where a bin has none. https://docs.pytorch.org/vision/stable/generated/torchvision.ops.roi_pool.html",
        infer=_max_infer,
        numpy=_max_numpy,
        attrs={"scale": Attr("float", 1.0), "bins": Attr("ints")},
        arity=(2, 2),
        lowering="host",
        samples=(
            made(_regions(2, 4), gradient=False, bins=(2, 3)),
            made(_regions(1, 3), gradient=False, bins=(3, 3), scale=0.5),
            made(_regions(1, 0), gradient=False, bins=(2, 2)),
        ),
    )
)
