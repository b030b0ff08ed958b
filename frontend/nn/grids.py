"""Images sampled at the places of a grid: `affine_grid`, `grid_sample`. M. Jaderberg et al., "Spatial transformer
networks", 2015."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import numpy as np

from .. import functional_pointwise as pointwise
from ..autocast import full_precision
from ..functional_indexing import gather
from ..functional_shape import stack
from ..half_precision import in_float32
from ..ir import dtypes
from ..ir.dims import product
from ..tensor import Tensor, wrap
from ..user_warnings import warn_user

_MODES = ("bilinear", "nearest", "bicubic")
_PADDINGS = ("zeros", "border", "reflection")
# The cubic convolution coefficient that PyTorch takes: R. Keys, 1981.
_CUBIC = -0.75


def _default_corners(align_corners: bool | None) -> bool:
    if align_corners is None:
        warn_user(
            "Default grid_sample and affine_grid behavior has changed to align_corners=False since 1.3.0. Please "
            "specify align_corners=True if the old behavior is desired. See the documentation of grid_sample for "
            "details."
        )
    return bool(align_corners)


@in_float32
def affine_grid(theta: Tensor, size: Sequence[int], align_corners: bool | None = None) -> Tensor:
    """Where an affine map takes the pixels of an image [n, c, (d,) h, w]: theta[n, r, r + 1] -> [n, (d,) h, w, r],
    coordinates from -1 to 1, the last dim of the image first."""
    corners = _default_corners(align_corners)
    if not theta.is_floating_point():
        raise ValueError(f"Expected theta to have floating point type, but got {theta.dtype}")
    rank = len(size) - 2
    if rank not in (2, 3):
        raise NotImplementedError(
            "affine_grid only supports 4D and 5D sizes, for 2D and 3D affine transforms, respectively. "
            f"Got size {size}."
        )
    if theta.ndim != 3 or tuple(theta.shape[1:]) != (rank, rank + 1):
        raise ValueError(
            f"Expected a batch of {rank}D affine matrices of shape Nx{rank}x{rank + 1} for size {size}. "
            f"Got {theta.shape}."
        )
    spatial = [int(n) for n in size[2:]]
    if corners and min(spatial) == 1:
        warn_user(
            "Since version 1.3.0, affine_grid behavior has changed for unit-size grids when align_corners=True. "
            "This is not an intended use case of affine_grid. See the documentation of affine_grid for details."
        )
    elif min(spatial) <= 0:
        raise ValueError(f"Expected non-zero, positive output size. Got {size}")
    base = np.ones((*spatial, rank + 1))
    for axis, count in enumerate(spatial):
        places = np.linspace(-1.0, 1.0, count) if count > 1 else np.zeros(1)
        if not corners:
            places = places * (count - 1) / count
        shape = [-1 if i == axis else 1 for i in range(rank)]
        base[..., rank - 1 - axis] = places.reshape(shape)
    flat = wrap(base.reshape(-1, rank + 1).astype(theta.dtype.numpy))
    return flat.matmul(theta.transpose(1, 2)).reshape(theta.shape[0], *spatial, rank)


@full_precision
def grid_sample(
    input: Tensor,
    grid: Tensor,
    mode: str = "bilinear",
    padding_mode: str = "zeros",
    align_corners: bool | None = None,
) -> Tensor:
    """input[n, c, (d,) h, w] at grid[n, (d2,) h2, w2, r]. Coordinates go from -1 to 1, (x, y[, z]);
    `align_corners`: these are the centres of the outermost pixels rather than their edges."""
    if mode not in _MODES:
        raise ValueError(
            f"nn.functional.grid_sample(): expected mode to be 'bilinear', 'nearest' or 'bicubic', but got: '{mode}'"
        )
    if padding_mode not in _PADDINGS:
        raise ValueError(
            "nn.functional.grid_sample(): expected padding_mode to be 'zeros', 'border', or 'reflection', but got: "
            f"'{padding_mode}'"
        )
    return _sampled(input, grid, mode, padding_mode, _default_corners(align_corners))


@full_precision
def grid_sampler(
    input: Tensor, grid: Tensor, interpolation_mode: int, padding_mode: int, align_corners: bool
) -> Tensor:
    """`grid_sample` with the modes as numbers."""
    return _sampled(input, grid, _MODES[interpolation_mode], _PADDINGS[padding_mode], align_corners)


def grid_sampler_2d(
    input: Tensor, grid: Tensor, interpolation_mode: int, padding_mode: int, align_corners: bool
) -> Tensor:
    """`grid_sampler` of images."""
    return grid_sampler(input, grid, interpolation_mode, padding_mode, align_corners)


def grid_sampler_3d(
    input: Tensor, grid: Tensor, interpolation_mode: int, padding_mode: int, align_corners: bool
) -> Tensor:
    """`grid_sampler` of volumes."""
    return grid_sampler(input, grid, interpolation_mode, padding_mode, align_corners)


def affine_grid_generator(theta: Tensor, size: Sequence[int], align_corners: bool) -> Tensor:
    """`affine_grid`."""
    return affine_grid(theta, size, align_corners)


def _check(input: Tensor, grid: Tensor, mode: str) -> int:
    """The spatial rank; errors as PyTorch's."""
    if input.dtype is not grid.dtype:
        raise RuntimeError(
            f"grid_sampler(): expected input and grid to have same dtype, but input has {input.dtype} and grid has "
            f"{grid.dtype}"
        )
    if input.ndim not in (4, 5) or input.ndim != grid.ndim:
        raise RuntimeError(
            "grid_sampler(): expected 4D or 5D input and grid with same number of dimensions, but got input with "
            f"sizes {list(input.shape)} and grid with sizes {list(grid.shape)}"
        )
    if input.shape[0] != grid.shape[0]:
        raise RuntimeError(
            f"grid_sampler(): expected grid and input to have same batch size, but got input with sizes "
            f"{list(input.shape)} and grid with sizes {list(grid.shape)}"
        )
    rank = input.ndim - 2
    if grid.shape[-1] != rank:
        raise RuntimeError(
            f"grid_sampler(): expected grid to have size {rank} in last dimension, but got grid with sizes "
            f"{list(grid.shape)}"
        )
    for dim in range(2, input.ndim):
        if input.shape[dim] == 0:
            raise RuntimeError(
                f"grid_sampler(): expected input to have non-empty spatial dimensions, but input has sizes "
                f"{list(input.shape)} with dimension {dim} being empty"
            )
    if mode == "bicubic" and rank != 2:
        raise RuntimeError("grid_sampler(): bicubic interpolation only supports 4D input")
    return rank


@in_float32
def _sampled(input: Tensor, grid: Tensor, mode: str, padding: str, corners: bool) -> Tensor:
    rank = _check(input, grid, mode)
    sizes = [int(n) for n in input.shape[2:]]
    batch, channels, places = input.shape[0], input.shape[1], grid.shape[1:-1]
    count = product(places)
    flat = input.reshape(batch, channels, product(sizes))
    # Per spatial dim of the input, in its order: where, of [-1, 1] and in pixels, [n, places].
    given = [grid[..., rank - 1 - axis].reshape(batch, count) for axis in range(rank)]
    pixels = [
        (where + 1) * ((size - 1) / 2) if corners else ((where + 1) * size - 1) / 2
        for where, size in zip(given, sizes)
    ]

    def at(position: Sequence[Tensor]) -> Tensor:
        """The input's elements at whole positions, [n, c, places]; zeros outside."""
        index: Tensor | None = None
        inside: Tensor | None = None
        for where, size in zip(position, sizes):
            within = (where >= 0).logical_and(where <= size - 1)
            step = pointwise.where(within, where, 0.0).to(dtypes.i64)
            index = step if index is None else index * size + step
            inside = within if inside is None else inside.logical_and(within)
        assert index is not None and inside is not None
        taken = gather(flat, 2, index.unsqueeze(1).expand(batch, channels, count))
        return pointwise.where(inside.unsqueeze(1), taken, 0.0)

    def padded(where: Tensor, size: int) -> Tensor:
        return _padded(where, size, padding, corners)

    if mode == "nearest":
        nearest = [padded(where, size).round() for where, size in zip(pixels, sizes)]
        result = at([where.detach() for where in nearest])
        if grid.requires_grad:  # its gradient is zero, not absent
            for where in nearest:
                result = result + (where - where.detach()).unsqueeze(1)
    elif mode == "bilinear":
        result = _linear([padded(where, size) for where, size in zip(pixels, sizes)], at)
    else:
        low = [where.detach().floor() for where in pixels]
        # How far beyond: the pixel less its floor, but not rounded at the size of the pixel.
        beyond = [
            where * ((size - corners) / 2) - (floor - (size - 1) / 2)
            for where, size, floor in zip(given, sizes, low)
        ]
        result = _cubic(low, beyond, sizes, padded, at)
    return result.reshape(batch, channels, *places)


def _linear(pixels: Sequence[Tensor], at: Callable[[Sequence[Tensor]], Tensor]) -> Tensor:
    low = [where.detach().floor() for where in pixels]
    total: Tensor | None = None
    for corner in itertools.product((0, 1), repeat=len(pixels)):
        weight: Tensor | None = None
        for where, floor, upper in zip(pixels, low, corner):
            part = where - floor if upper else floor + 1 - where
            weight = part if weight is None else weight * part
        assert weight is not None
        term = at([floor + upper for floor, upper in zip(low, corner)]) * weight.unsqueeze(1)
        total = term if total is None else total + term
    assert total is not None
    return total


def _cubic(
    low: Sequence[Tensor],
    beyond: Sequence[Tensor],
    sizes: Sequence[int],
    padded: Callable[[Tensor, int], Tensor],
    at: Callable[[Sequence[Tensor]], Tensor],
) -> Tensor:
    weights = [cubic_weights(part) for part in beyond]
    rows = []
    for i in range(4):
        row: Tensor | None = None
        y = padded(low[0] + (i - 1), sizes[0])
        for j in range(4):
            term = at([y, padded(low[1] + (j - 1), sizes[1])]) * weights[1][j].unsqueeze(1)
            row = term if row is None else row + term
        assert row is not None
        rows.append(row * weights[0][i].unsqueeze(1))
    return stack(rows).sum(0)


def cubic_weights(t: Tensor) -> list[Tensor]:
    """What the four neighbours of a place count, `t` of the way from the second to the third."""

    def near(d: Tensor) -> Tensor:
        return ((_CUBIC + 2) * d - (_CUBIC + 3)) * d * d + 1

    # (d**3 - 5 d**2 + 8 d - 4) at the distance d = 1 + u, by its zeros: as a sum it loses three digits.
    rest = 1 - t
    return [t * rest * rest * _CUBIC, near(t), near(rest), rest * t * t * _CUBIC]


def _padded(where: Tensor, size: int, padding: str, corners: bool) -> Tensor:
    """The place inside the image that stands for `where`. The gradient is zero where the border is met, and turns its
    sign with each reflection."""
    if padding == "zeros":
        return where
    if padding == "reflection":
        where = _reflected(where, size, corners)
    fixed = where.detach()
    inside = (fixed > 0).logical_and(fixed < size - 1)
    return pointwise.where(inside, where, fixed.clamp(0, size - 1))


def _reflected(where: Tensor, size: int, corners: bool) -> Tensor:
    low, span = (0.0, float(size - 1)) if corners else (-0.5, float(size))
    if span == 0.0:
        return where.detach() * 0.0
    distance = where.detach() - low
    away = distance.abs()
    flips = (away / span).floor()
    rest = away - flips * span
    odd = flips.remainder(2.0) != 0
    value = pointwise.where(odd, span - rest, rest) + low
    slope = pointwise.where(odd.logical_xor(distance < 0), -1.0, 1.0).to(where.dtype)
    return value + (where - where.detach()) * slope


__all__ = [
    "affine_grid", "affine_grid_generator", "grid_sample", "grid_sampler", "grid_sampler_2d", "grid_sampler_3d",
]  # fmt: skip
