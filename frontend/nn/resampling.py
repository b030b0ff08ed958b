"""Images of another size: interpolation, and channels traded for space."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..half_precision import in_float32
from ..ir import dtypes
from ..tensor import Tensor, scalar_type_name, wrap
from ..user_warnings import warn_user
from .pooling import adaptive_avg_pool1d, adaptive_avg_pool2d, adaptive_avg_pool3d

Array = np.ndarray[Any, Any]
_RANKS = {"linear": 1, "bilinear": 2, "trilinear": 3, "bicubic": 2, "lanczos": 2}
# How far the filters of antialiasing reach.
_REACH = {"bilinear": 1.0, "bicubic": 2.0, "lanczos": 3.0}
_AREA = {1: adaptive_avg_pool1d, 2: adaptive_avg_pool2d, 3: adaptive_avg_pool3d}
# The cubic convolution coefficient that PyTorch takes: R. Keys, 1981.
_CUBIC = -0.75


def interpolate(
    input: Tensor,
    size: int | Sequence[int] | None = None,
    scale_factor: float | Sequence[float] | None = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
    antialias: bool = False,
) -> Tensor:
    """input[n, c, ...] sampled to `size`, or to its size times `scale_factor`."""
    if mode in ("nearest", "area", "nearest-exact"):
        if align_corners is not None:
            raise ValueError(
                "align_corners option can only be set with the interpolating modes: linear | bilinear | bicubic | "
                "trilinear"
            )
    elif align_corners is None:
        align_corners = False
    if antialias and not (mode in _REACH and input.ndim == 4):
        raise ValueError(
            "Anti-alias option is restricted to bilinear, bicubic, and lanczos modes and requires a 4-D tensor as input"
        )
    if mode == "lanczos" and not antialias:
        raise ValueError("lanczos mode requires antialias=True")
    rank = input.ndim - 2
    have = tuple(int(n) for n in input.shape[2:])
    want, factors = _sizes(have, size, scale_factor)
    if mode == "area" or recompute_scale_factor:
        if recompute_scale_factor and size is not None:
            raise ValueError("recompute_scale_factor is not meaningful with an explicit size.")
        factors = None
    if not 1 <= rank <= 3 or mode not in ("nearest", "nearest-exact", "area", *_RANKS):
        raise NotImplementedError(
            f"Input Error: Only 3D, 4D and 5D input Tensors supported (got {input.ndim}D) for the modes: nearest | "
            f"linear | bilinear | bicubic | trilinear | lanczos | area | nearest-exact (got {mode})"
        )
    if mode == "area":
        return _AREA[rank](input, want)
    if mode in _RANKS and _RANKS[mode] != rank:
        raise NotImplementedError(f"Got {input.ndim}D input, but {mode} mode needs {_RANKS[mode] + 2}D input")
    steps = [h / w for h, w in zip(have, want)] if factors is None else [1.0 / f for f in factors]
    if mode in _RANKS:
        if input.dtype is dtypes.u8 and rank == 2:
            return _by_dim(_of_bytes, input, want, steps, mode, bool(align_corners), antialias)
        if not input.dtype.is_floating_point:
            raise NotImplementedError(f"\"{mode}\" not implemented for '{scalar_type_name(input.dtype)}'")
        return _weighted(input, want, steps, mode, bool(align_corners), antialias)
    return _by_dim(_along, input, want, steps, mode, False)


def _by_dim(
    sample: Callable[..., Tensor], x: Tensor, want: Sequence[int], steps: Sequence[float], *options: Any
) -> Tensor:
    """The spatial dims, last to first, each sampled by itself."""
    for dim in reversed(range(2, x.ndim)):
        x = sample(x, dim, int(x.shape[dim]), want[dim - 2], steps[dim - 2], *options)
    return x


@in_float32
def _weighted(
    x: Tensor, want: Sequence[int], steps: Sequence[float], mode: str, align_corners: bool, antialias: bool
) -> Tensor:
    return _by_dim(_filtered if antialias else _along, x, want, steps, mode, align_corners)


def _filtered(
    x: Tensor, dim: int, have: int, want: int, step: float, mode: str, align_corners: bool
) -> Tensor:
    """One spatial dim sampled through a filter as wide as the new pixels, as in Pillow."""
    if align_corners:
        step = _between_corners(have, want)
    weight = wrap(_filters(have, want, step, mode).astype(x.dtype.numpy))
    return x.transpose(dim, -1).matmul(weight).transpose(dim, -1)


def _filters(have: int, want: int, step: float, mode: str) -> Array:
    """weights[have, want]: how much of each old pixel is in each new one."""
    width = max(step, 1.0)
    reach = _REACH[mode] * width
    matrix = np.zeros((have, want))
    for column in range(want):
        centre = step * (column + 0.5)
        start, stop = max(int(centre - reach + 0.5), 0), min(int(centre + reach + 0.5), have)
        weights = _filter(mode, (np.arange(start, stop) - centre + 0.5) / width)
        matrix[start:stop, column] = weights / weights.sum()
    return matrix


def _filter(mode: str, x: Array) -> Array:
    d = np.abs(x)
    if mode == "bilinear":
        return np.maximum(1.0 - d, 0.0)
    if mode == "lanczos":
        return np.where(d < 3.0, np.sinc(d) * np.sinc(d / 3.0), 0.0)
    # Pillow's coefficient is -1/2.
    near, far = (1.5 * d - 2.5) * d * d + 1.0, -0.5 * (((d - 5.0) * d + 8.0) * d - 4.0)
    return np.where(d < 1.0, near, np.where(d < 2.0, far, 0.0))


def _sizes(
    have: tuple[int, ...], size: int | Sequence[int] | None, factor: float | Sequence[float] | None
) -> tuple[tuple[int, ...], tuple[float, ...] | None]:
    """The result's spatial sizes, and the factors if they were given."""
    if size is not None and factor is not None:
        raise ValueError("only one of size or scale_factor should be defined")
    shape = list(have)
    if size is not None:
        want = (size,) * len(have) if isinstance(size, int) else tuple(size)
        if len(want) != len(have):
            raise ValueError(
                "Input and output must have the same number of spatial dimensions, but got input with spatial "
                f"dimensions of {shape} and output size of {size}. Please provide input tensor in (N, C, d1, d2, "
                "...,dK) format and output size in (o1, o2, ...,oK) format."
            )
        return want, None
    if factor is None:
        raise ValueError("either size or scale_factor should be defined")
    factors = (factor,) * len(have) if isinstance(factor, int | float) else tuple(factor)
    if len(factors) != len(have):
        raise ValueError(
            "Input and scale_factor must have the same number of spatial dimensions, but got input with spatial "
            f"dimensions of {shape} and scale_factor of shape {factor}. Please provide input tensor in (N, C, d1, "
            "d2, ...,dK) format and scale_factor in (s1, s2, ...,sK) format."
        )
    return tuple(math.floor(n * f) for n, f in zip(have, factors)), factors


def _along(x: Tensor, dim: int, have: int, want: int, step: float, mode: str, align_corners: bool) -> Tensor:
    """One spatial dim sampled anew. Positions are computed in float32, for float64 in float64, as in PyTorch."""
    number: Any = np.float64 if x.dtype is dtypes.f64 else np.float32
    scale = number(step)
    places = np.arange(want, dtype=number)
    if mode.startswith("nearest"):
        if mode == "nearest" and want % have == 0 and scale == number(have / want):
            return _repeated(x, dim, want // have)
        shift = number(0.5 if mode == "nearest-exact" else 0.0)
        return _taken(x, dim, np.minimum(np.floor((places + shift) * scale), have - 1))
    if align_corners:
        source = places * number(_between_corners(have, want))
    else:
        source = (places + number(0.5)) * scale - number(0.5)
    taps, weights = _taps(source, have, mode)
    shape = [-1 if i == dim else 1 for i in range(x.ndim)]
    total: Tensor | None = None
    for tap, weight in zip(taps, weights):
        term = _taken(x, dim, tap) * wrap(weight.astype(x.dtype.numpy).reshape(shape))
        total = term if total is None else total + term
    assert total is not None
    return total


def _taps(source: Array, have: int, mode: str) -> tuple[list[Array], list[Array]]:
    """For pixels around these places of one dim: the old pixels that each takes, and how much of them."""
    if mode == "bicubic":
        low = np.floor(source)
        return [np.clip(low + offset, 0, have - 1) for offset in range(-1, 3)], _cubic_weights(source - low)
    source = np.maximum(source, source.dtype.type(0.0))
    low = np.minimum(np.floor(source), have - 1)
    part = np.clip(source - low, 0, 1)
    return [low, np.minimum(low + 1, have - 1)], [1 - part, part]


def _between_corners(have: int, want: int) -> float:
    return (have - 1) / (want - 1) if want > 1 else 0.0


def _of_bytes(
    x: Tensor, dim: int, have: int, want: int, step: float, mode: str, align_corners: bool, antialias: bool
) -> Tensor:
    """One spatial dim of a uint8 image, rounded to bytes: weights are fixed-point numbers of 16 bits, as in Pillow and
    PyTorch (`_compute_index_ranges_int16_weights`)."""
    if have == want:
        return x
    if align_corners:
        step = _between_corners(have, want)
    if antialias:
        weights = _filters(have, want, step, mode)
    else:
        weights, places = np.zeros((have, want)), np.arange(want)
        source = places * step if align_corners else (places + 0.5) * step - 0.5
        for tap, part in zip(*_taps(source, have, mode)):
            np.add.at(weights, (tap.astype(np.int64), places), part)
    precision = 0
    while precision < 22 and int(0.5 + weights.max() * 2 ** (precision + 1)) < 1 << 15:
        precision += 1
    fixed = np.trunc(weights * 2**precision + np.copysign(0.5, weights)).astype(np.int32)
    half = 1 << (precision - 1)
    wide = x.to(dtypes.i32).transpose(dim, -1).matmul(wrap(fixed)).transpose(dim, -1)
    return ((wide + half) >> precision).clamp(0, 255).to(dtypes.u8)


def _taken(x: Tensor, dim: int, positions: Array) -> Tensor:
    return x.index_select(dim, wrap(positions.astype(np.int64)))


def _repeated(x: Tensor, dim: int, times: int) -> Tensor:
    """Each element `times` times along the dim: a view of broadcasting."""
    shape = tuple(x.shape)
    wide = x.unsqueeze(dim + 1).expand(*shape[: dim + 1], times, *shape[dim + 1 :])
    return wide.reshape(*shape[:dim], shape[dim] * times, *shape[dim + 1 :])


def _cubic_weights(t: Array) -> list[Array]:
    def near(d: Array) -> Array:
        return ((_CUBIC + 2) * d - (_CUBIC + 3)) * d * d + 1

    def far(d: Array) -> Array:
        return ((_CUBIC * d - 5 * _CUBIC) * d + 8 * _CUBIC) * d - 4 * _CUBIC

    return [far(t + 1), near(t), near(1 - t), far(2 - t)]


def _deprecated(name: str) -> None:
    warn_user(f"`nn.functional.{name}` is deprecated. Use `nn.functional.interpolate` instead.")


def upsample(
    input: Tensor,
    size: Any = None,
    scale_factor: Any = None,
    mode: str = "nearest",
    align_corners: Any = None,
) -> Tensor:
    """Deprecated: `interpolate`."""
    _deprecated("upsample")
    return interpolate(input, size, scale_factor, mode, align_corners)


def upsample_nearest(input: Tensor, size: Any = None, scale_factor: Any = None) -> Tensor:
    """Deprecated: `interpolate`."""
    _deprecated("upsample_nearest")
    return interpolate(input, size, scale_factor, mode="nearest")


def upsample_bilinear(input: Tensor, size: Any = None, scale_factor: Any = None) -> Tensor:
    """Deprecated: `interpolate` with `align_corners=True`."""
    _deprecated("upsample_bilinear")
    return interpolate(input, size, scale_factor, mode="bilinear", align_corners=True)


def pixel_shuffle(input: Tensor, upscale_factor: int) -> Tensor:
    """[..., c * r * r, h, w] -> [..., c, h * r, w * r]. W. Shi et al., 2016."""
    r = upscale_factor
    if input.ndim < 3:
        raise RuntimeError(
            "pixel_shuffle expects input to have at least 3 dimensions, but got input with "
            f"{input.ndim} dimension(s)"
        )
    if r <= 0:
        raise RuntimeError(f"pixel_shuffle expects a positive upscale_factor, but got {r}")
    *lead, channels, height, width = input.shape
    if channels % (r * r):
        raise RuntimeError(
            "pixel_shuffle expects its input's 'channel' dimension to be divisible by the square of "
            f"upscale_factor, but input.size(-3)={channels} is not divisible by {r * r}"
        )
    n = len(lead)
    split = input.reshape(*lead, channels // (r * r), r, r, height, width)
    turned = split.permute(*range(n), n, n + 3, n + 1, n + 4, n + 2)
    return turned.reshape(*lead, channels // (r * r), height * r, width * r)


def pixel_unshuffle(input: Tensor, downscale_factor: int) -> Tensor:
    """[..., c, h * r, w * r] -> [..., c * r * r, h, w]."""
    r = downscale_factor
    if input.ndim < 3:
        raise RuntimeError(
            "pixel_unshuffle expects input to have at least 3 dimensions, but got input with "
            f"{input.ndim} dimension(s)"
        )
    if r <= 0:
        raise RuntimeError(f"pixel_unshuffle expects a positive downscale_factor, but got {r}")
    *lead, channels, height, width = input.shape
    for name, dim, size in (("height", -2, height), ("width", -1, width)):
        if size % r:
            raise RuntimeError(
                f"pixel_unshuffle expects {name} to be divisible by downscale_factor, but input.size({dim})={size} "
                f"is not divisible by {r}"
            )
    n = len(lead)
    split = input.reshape(*lead, channels, height // r, r, width // r, r)
    turned = split.permute(*range(n), n, n + 2, n + 4, n + 1, n + 3)
    return turned.reshape(*lead, channels * r * r, height // r, width // r)


def channel_shuffle(input: Tensor, groups: int) -> Tensor:
    """[n, g * c, ...] -> [n, c * g, ...], transposed within the channels. X. Zhang et al., "ShuffleNet", 2018."""
    if input.ndim < 3:
        raise RuntimeError(
            f"channel_shuffle expects input with > 2 dims, but got input with sizes {list(input.shape)}"
        )
    if groups <= 0:
        raise RuntimeError(
            f"Number of groups to divide channels in must be positive. Value of groups:{groups}"
        )
    batch, channels, *rest = input.shape
    if channels % groups:
        raise RuntimeError(
            f"Number of channels must be divisible by groups. Got {channels} channels and {groups} groups."
        )
    split = input.reshape(batch, groups, channels // groups, *rest)
    return split.transpose(1, 2).reshape(batch, channels, *rest)


def native_channel_shuffle(input: Tensor, groups: int) -> Tensor:
    """`channel_shuffle`."""
    return channel_shuffle(input, groups)
