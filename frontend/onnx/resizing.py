"""Rules of ops that sample images: Resize, Upsample, GridSample.

A resize is separable: along each axis an element of the result is a sum of a few elements of the input with weights that
depend on its place alone. https://onnx.ai/onnx/operators/onnx__Resize.html
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

import vitrify as torch
import vitrify.nn.functional as F

from ..tensor import Tensor
from .table import Call, ONNXError, rule

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Sampling:
    """The attributes of a Resize."""

    mode: str = "nearest"
    coordinates: str = "half_pixel"
    nearest: str = "round_prefer_floor"
    cubic: float = -0.75
    exclude_outside: bool = False
    extrapolation: float = 0.0
    antialias: bool = False


@rule("Upsample", static=(1,))
def upsample(call: Call) -> Tensor:
    scales = call.attr("scales") or call.ints(1)
    sampling = Sampling(_mode(call), "asymmetric", "floor")
    return _resized(call.tensor(0), list(scales), None, [None] * len(scales), sampling)


def _mode(call: Call) -> str:
    mode = call.attr("mode", "nearest")
    if mode not in ("nearest", "linear", "bilinear", "cubic"):
        raise ONNXError(f"mode {mode!r} is not known")
    return "linear" if mode == "bilinear" else str(mode)


@rule("Resize", static=(1, 2, 3))
def resize(call: Call) -> Tensor:
    x = call.tensor(0)
    if call.version < 11:
        sampling = Sampling(_mode(call), "asymmetric", "floor")
        return _resized(x, call.ints(1), None, [None] * x.ndim, sampling)
    sampling = Sampling(
        _mode(call),
        call.attr("coordinate_transformation_mode", "half_pixel"),
        call.attr("nearest_mode", "round_prefer_floor"),
        call.attr("cubic_coeff_a", -0.75),
        bool(call.attr("exclude_outside", 0)),
        call.attr("extrapolation_value", 0.0),
        bool(call.attr("antialias", 0)),
    )
    axes = [a % x.ndim for a in call.attr("axes", range(x.ndim))]
    scales = call.ints(2) if call.has(2) and call.array(2).size else None
    sizes = call.ints(3) if call.has(3) and call.array(3).size else None
    if (scales is None) == (sizes is None):
        raise ONNXError("either scales or sizes must be given")
    lengths: list[Any] | None = None
    if sizes is not None:
        policy = call.attr("keep_aspect_ratio_policy", "stretch")
        scales = [m / x.shape[a] if isinstance(m, int) else m for m, a in zip(sizes, axes)]
        if policy != "stretch":
            one = (min if policy == "not_larger" else max)(scales)
            scales, sizes = [one] * len(axes), [math.floor(one * x.shape[a] + 0.5) for a in axes]
        lengths = list(x.shape)
        for m, a in zip(sizes, axes):
            lengths[a] = m
    assert scales is not None
    whole: list[Any] = [1.0] * x.ndim
    roi: list[Any] = [None] * x.ndim
    given = call.ints(1) if call.has(1) else []
    for i, (s, a) in enumerate(zip(scales, axes)):
        whole[a] = s
        if given:
            roi[a] = (given[i], given[i + len(axes)])
    return _resized(x, whole, lengths, roi, sampling)


def _resized(
    x: Tensor, scales: list[Any], lengths: list[Any] | None, roi: list[Any], sampling: Sampling
) -> Tensor:
    if len(scales) != x.ndim:
        raise ONNXError(f"{len(scales)} scales for an input of {x.ndim} dims")
    if lengths is None and _repeats(x, scales, sampling):
        return F.interpolate(x, scale_factor=[float(s) for s in scales[2:]], mode="nearest")
    outside: Tensor | None = None
    for axis in range(x.ndim):
        size = x.shape[axis]
        scale = scales[axis]
        length = lengths[axis] if lengths is not None else None
        crop = sampling.coordinates == "tf_crop_and_resize" and roi[axis] not in (None, (0, 1))
        if not crop and ((length is None and scale == 1) or (length is not None and length is size)):
            continue
        if not isinstance(size, int):
            raise ONNXError(
                f"resizing dim {axis}, whose size is symbolic, is supported by whole scales of 'nearest' only"
            )
        length = math.floor(size * scale) if length is None else int(length)
        if length == size and scale == 1 and not crop:
            continue
        places = _places(size, length, float(scale), roi[axis], sampling)
        if crop:
            shape = [1] * x.ndim
            shape[axis] = length
            beyond = torch.from_numpy((places < 0) | (places > size - 1)).reshape(shape)
            outside = beyond if outside is None else outside | beyond
        x = _sampled(x, axis, *_taps(places, size, float(scale), sampling))
    return x if outside is None else torch.where(outside, torch.full_like(x, sampling.extrapolation), x)


def _repeats(x: Tensor, scales: list[Any], sampling: Sampling) -> bool:
    """Whether each element is repeated a whole number of times, in at most three spatial dims."""
    whole = all(s == int(s) and s >= 1 for s in scales) and list(scales[:2]) == [1, 1] and 3 <= x.ndim <= 5
    halves = sampling.coordinates == "half_pixel" and sampling.nearest.startswith("round")
    return whole and sampling.mode == "nearest" and (
        (sampling.coordinates == "asymmetric" and sampling.nearest == "floor") or halves
    )  # fmt: skip


def _places(size: int, length: int, scale: float, roi: Any, sampling: Sampling) -> Array:
    """Where each element of the result lies among the input's."""
    i = np.arange(length, dtype=np.float64)
    exact = scale * size  # not rounded, where scales were given
    match sampling.coordinates:
        case "half_pixel":
            return (i + 0.5) / scale - 0.5
        case "half_pixel_symmetric":
            return size / 2 * (1 - length / exact) + (i + 0.5) / scale - 0.5
        case "pytorch_half_pixel":
            return (i + 0.5) / scale - 0.5 if length > 1 else np.full(length, -0.5)
        case "align_corners":
            return i * (size - 1) / (exact - 1) if length > 1 else np.zeros(length)
        case "asymmetric":
            return i / scale
        case "tf_crop_and_resize":
            start, end = roi if roi is not None else (0.0, 1.0)
            if length == 1:
                return np.array([(start + end) * (size - 1) / 2])
            return start * (size - 1) + i * (end - start) * (size - 1) / (length - 1)
    raise ONNXError(f"coordinate_transformation_mode {sampling.coordinates!r} is not known")


def _taps(places: Array, size: int, scale: float, sampling: Sampling) -> tuple[Array, Array | None]:
    """[taps, length]: positions in the input, and their weights (None: one tap of weight 1)."""
    if sampling.mode == "nearest":
        rounded = {
            "round_prefer_floor": np.ceil(places - 0.5),
            "round_prefer_ceil": np.floor(places + 0.5),
            "floor": np.floor(places),
            "ceil": np.ceil(places),
        }
        if sampling.nearest not in rounded:
            raise ONNXError(f"nearest_mode {sampling.nearest!r} is not known")
        return np.clip(rounded[sampling.nearest], 0, size - 1).astype(np.int64)[None], None
    base = np.floor(places)
    ratio = places - base
    shrink = min(scale, 1.0) if sampling.antialias else 1.0
    reach = 1 if sampling.mode == "linear" else 2
    start = math.floor(-reach / shrink) + 1
    steps = np.arange(
        start, reach + 1 - start if sampling.antialias and shrink < 1 else reach + 1, dtype=np.float64
    )
    distance = np.abs((steps[:, None] - ratio) * shrink)
    if sampling.mode == "linear":
        weights = np.clip(1 - distance, 0, 1)
    else:
        a = sampling.cubic
        near = ((a + 2) * distance - (a + 3)) * distance * distance + 1
        far = ((a * distance - 5 * a) * distance + 8 * a) * distance - 4 * a
        weights = np.where(distance <= 1, near, np.where(distance < 2, far, 0.0))
    index = base + steps[:, None]
    if sampling.exclude_outside:
        weights = np.where((index >= 0) & (index < size), weights, 0.0)
    if sampling.exclude_outside or sampling.antialias:
        weights = weights / weights.sum(axis=0)
    return np.clip(index, 0, size - 1).astype(np.int64), weights


def _sampled(x: Tensor, axis: int, index: Array, weights: Array | None) -> Tensor:
    picked = [torch.index_select(x, axis, torch.from_numpy(np.ascontiguousarray(row))) for row in index]
    if weights is None:
        return picked[0]
    shape = [1] * x.ndim
    shape[axis] = weights.shape[1]
    factors = [torch.from_numpy(row.copy()).to(x.dtype).reshape(shape) for row in weights]
    total = picked[0] * factors[0]
    for element, factor in zip(picked[1:], factors[1:]):
        total = total + element * factor
    return total


_GRID_MODES = {
    "linear": "bilinear",
    "bilinear": "bilinear",
    "nearest": "nearest",
    "cubic": "bicubic",
    "bicubic": "bicubic",
}


@rule("GridSample")
def grid_sample(call: Call) -> Tensor:
    mode = call.attr("mode", "linear")
    if mode not in _GRID_MODES:
        raise ONNXError(f"mode {mode!r} is not known")
    return F.grid_sample(
        call.tensor(0), call.tensor(1), _GRID_MODES[mode], call.attr("padding_mode", "zeros"),
        bool(call.attr("align_corners", 0)),
    )  # fmt: skip
