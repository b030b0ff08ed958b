"""Histograms of points in several dims."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .creation import linspace, ones, zeros
from .functional_cumulative import diff
from .functional_elements import searchsorted
from .functional_pointwise import logical_and, where
from .functional_shape import flatten, reshape
from .ir.dims import product
from .result_types import HistogramDD
from .tensor import Tensor


def histogramdd(
    input: Tensor,
    bins: Any,
    *,
    range: Sequence[float] | None = None,
    weight: Tensor | None = None,
    density: bool = False,
) -> Any:
    """(counts, edges) of points [..., n] in boxes of an n-dimensional grid: as many bins along each dim as `bins`
    says, or between the edges it gives; in `range` (low, high of each dim in turn), or in the points' own.

    The last box along a dim holds its upper edge. `density` divides by the box's volume and the total weight.
    https://docs.pytorch.org/docs/stable/generated/torch.histogramdd.html
    """
    if input.ndim < 2:
        raise RuntimeError("torch.histogramdd: input tensor should have at least 2 dimensions")
    n = int(input.shape[-1])
    points = reshape(input.detach(), (-1, n))
    given = [bins] * n if isinstance(bins, int) else list(bins)
    if len(given) != n:
        raise RuntimeError(
            "histogramdd: The size of bins must be equal to the innermost dimension of the input."
        )
    if range is not None and len(range) != 2 * n:
        raise RuntimeError(
            f"torch.histogramdd: for a {n}-dimensional histogram range should have {2 * n} elements, but got "
            f"{len(range)}"
        )
    edges = [
        b.detach() if isinstance(b, Tensor) else _edges(points[:, d], int(b), range, d)
        for d, b in enumerate(given)
    ]
    inside, box = None, None
    for d, along in enumerate(edges):
        x, count = points[:, d].contiguous(), along.shape[0] - 1
        at = where(x == along[-1], count - 1, searchsorted(along, x, right=True) - 1)
        fits = logical_and(x >= along[0], x <= along[-1])
        inside = fits if inside is None else logical_and(inside, fits)
        box = at if box is None else box * count + at
    assert inside is not None and box is not None
    shape = [e.shape[0] - 1 for e in edges]
    amounts = ones(points.shape[:1], dtype=input.dtype) if weight is None else flatten(weight.detach())
    counts = zeros((product(shape),), dtype=input.dtype).scatter_add(
        0, where(inside, box, 0), where(inside, amounts, 0)
    )
    counts = reshape(counts, tuple(shape))
    if density:
        for d, along in enumerate(edges):
            counts = counts / reshape(diff(along), [-1 if i == d else 1 for i, _ in enumerate(shape)])
        counts = counts / where(inside, amounts, 0).sum()
    return HistogramDD(counts, tuple(edges))


def _edges(x: Tensor, count: int, range: Sequence[float] | None, dim: int) -> Tensor:
    if count <= 0:
        raise RuntimeError(f"torch.histogram(): bins must be > 0, but got {count} for dimension {dim}")
    low, high = (x.amin().item(), x.amax().item()) if range is None else range[2 * dim : 2 * dim + 2]
    if not low <= high:
        raise RuntimeError(
            f"torch.histogramdd: min should not exceed max, but got min {low} max {high} for dimension {dim}"
        )
    if low == high:
        low, high = low - 0.5, high + 0.5
    return linspace(low, high, count + 1, dtype=x.dtype)


# The names of `torch` that are defined here.
__all__ = ["histogramdd"]
