"""Membership, places in sorted rows, histograms, the most frequent element. NumPy computes them."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import dtypes
from ..dtypes import DType
from ..op import Attr, Op, declare
from ..types import TensorType
from .common import (
    FLOAT,
    REAL,
    Array,
    check_dim,
    check_dtype,
    comparable,
    integers,
    made,
    shape_text,
    uniform,
    values,
)

declare(
    Op(
        "isin",
        "isin(x, tests): which elements of x are equal to one of the tests. "
        "https://docs.pytorch.org/docs/stable/generated/torch.isin.html",
        infer=lambda x, tests, invert: x.with_dtype(dtypes.bool_),
        numpy=lambda x, tests, invert: np.isin(comparable(x), comparable(tests), invert=invert),
        attrs={"invert": Attr("bool", False)},
        arity=(2, 2),
        lowering="host",
        samples=(
            integers((3, 4), (5,), low=0, high=6),
            integers((3, 4), (2, 2), low=0, high=6, invert=True),
            values([1.0, np.nan, 2.0], [np.nan, 2.0]),
            integers((3,), (0,)),
        ),
    )
)


# searchsorted


def _searchsorted_infer(rows: TensorType, x: TensorType, right: bool, dtype: DType) -> TensorType:
    check_dtype("searchsorted", rows, REAL)
    if rows.rank != 1 and (x.rank != rows.rank or x.shape[:-1] != rows.shape[:-1]):
        raise RuntimeError(
            "torch.searchsorted(): boundaries tensor should be 1 dimension or the first N-1 dimensions of boundaries "
            "tensor and input value tensor must match, but we got boundaries tensor "
            f"{shape_text(rows.shape)} and input value tensor {shape_text(x.shape)}"
        )
    return x.with_dtype(dtype)


def _searchsorted_numpy(rows: Array, x: Array, right: bool, dtype: DType) -> Array:
    rows, x = comparable(rows), comparable(x)
    side: Any = "right" if right else "left"
    if rows.ndim == 1:
        return np.asarray(np.searchsorted(rows, x, side)).astype(dtype.numpy)
    found = np.empty(x.shape, dtype.numpy)
    for at in np.ndindex(*x.shape[:-1]):
        found[at] = np.searchsorted(rows[at], x[at], side)
    return found


def _sorted_rows(shape: tuple[int, ...], wanted: tuple[int, ...]) -> Any:
    return lambda rng: [np.sort(rng.integers(0, 6, shape)), rng.integers(-1, 8, wanted)]


declare(
    Op(
        "searchsorted",
        "searchsorted(rows, x): where in its sorted row each element of x would have to stand, before elements equal to "
        "it or with `right` after them; one row serves all, or each row its own. "
        "https://docs.pytorch.org/docs/stable/generated/torch.searchsorted.html",
        infer=_searchsorted_infer,
        numpy=_searchsorted_numpy,
        attrs={"right": Attr("bool", False), "dtype": Attr("dtype", dtypes.i64)},
        arity=(2, 2),
        lowering="host",
        samples=(
            made(_sorted_rows((5,), (3, 4)), gradient=False),
            made(_sorted_rows((2, 5), (2, 3)), gradient=False, right=True),
            made(_sorted_rows((5,), ()), gradient=False, dtype=dtypes.i32),
            made(_sorted_rows((0,), (3,)), gradient=False),
        ),
    )
)


# histogram


def _histogram_infer(
    x: TensorType,
    *others: TensorType,
    bins: int,
    low: float,
    high: float,
    density: bool,
    edges: bool,
    weighted: bool,
) -> tuple[TensorType, TensorType]:
    check_dtype("histogram", x, FLOAT)
    count = others[0].shape[0] - 1 if edges else bins
    return TensorType((count,), x.dtype), TensorType((count + 1,), x.dtype)


def _histogram_numpy(
    x: Array, *others: Array, bins: int, low: float, high: float, density: bool, edges: bool, weighted: bool
) -> tuple[Array, Array]:
    elements = comparable(x).reshape(-1)
    if edges:
        bounds = comparable(others[0])
    else:
        if low == high and elements.size:
            low, high = float(elements.min()), float(elements.max())
        if not (np.isfinite(low) and np.isfinite(high)):
            raise RuntimeError(f"torch.histc: range of [{low:g}, {high:g}] is not finite")
        if low == high:
            low, high = low - 1, high + 1
        bounds = np.linspace(low, high, bins + 1, dtype=elements.dtype)
    weights = comparable(others[-1]).reshape(-1) if weighted else None
    inside = (elements >= bounds[0]) & (elements <= bounds[-1])
    if edges:
        place = np.searchsorted(bounds, elements[inside], "right") - 1
    else:
        start, width = elements.dtype.type(low), elements.dtype.type(high) - elements.dtype.type(low)
        place = ((elements[inside] - start) * bins / width).astype(np.int64)
    place = np.minimum(place, len(bounds) - 2)
    counts = np.bincount(place, None if weights is None else weights[inside], len(bounds) - 1)
    if density:
        counts = counts / counts.sum() / np.diff(bounds)
    return counts.astype(x.dtype), bounds.astype(x.dtype)


declare(
    Op(
        "histogram",
        "histogram(x[, edges][, weights]): how many elements of x (or what sum of weights) are in each of `bins` equal "
        "parts of [low, high], of x's own range where these are equal, or between the given edges; and the edges. With "
        "`density` the density. https://docs.pytorch.org/docs/stable/generated/torch.histogram.html",
        infer=_histogram_infer,
        numpy=_histogram_numpy,
        attrs={
            "bins": Attr("int", 100),
            "low": Attr("float", 0.0),
            "high": Attr("float", 0.0),
            "density": Attr("bool", False),
            "edges": Attr("bool", False),
            "weighted": Attr("bool", False),
        },
        arity=(1, 3),
        results=2,
        lowering="host",
        samples=(
            uniform((5, 7), gradient=False, bins=4),
            uniform((20,), gradient=False, bins=5, low=-1.0, high=1.5),
            uniform((20,), (20,), gradient=False, bins=3, weighted=True),
            values([0.5, 1.0, 2.5, 9.0], [0.0, 1.0, 2.0, 4.0], edges=True, density=True),
        ),
    )
)


# mode


def _mode_infer(x: TensorType, dim: int) -> TensorType:
    check_dim(dim, x.rank)
    shape = x.shape if not x.rank else (*x.shape[:dim], 1, *x.shape[dim + 1 :])
    return TensorType(shape, dtypes.i64)


def _mode_numpy(x: Array, dim: int) -> Array:
    if not x.ndim:
        return np.zeros((), np.int64)
    rows = np.moveaxis(comparable(x), dim, -1)
    order = np.argsort(rows, -1, kind="stable")
    ordered = np.take_along_axis(rows, order, -1)
    place = np.arange(rows.shape[-1])
    starts = np.ones(rows.shape, np.bool_)
    starts[..., 1:] = ordered[..., 1:] != ordered[..., :-1]
    # How far into its run of equal elements each is; the first that is farthest ends the longest run.
    depth = place - np.maximum.accumulate(np.where(starts, place, 0), -1)
    last = depth.argmax(-1)[..., None]
    return np.ascontiguousarray(np.moveaxis(np.take_along_axis(order, last, -1), -1, dim), np.int64)


declare(
    Op(
        "mode_position",
        "Where along `dim` the last of the most frequent elements is, the smallest of these; the dim is kept. "
        "https://docs.pytorch.org/docs/stable/generated/torch.mode.html",
        infer=_mode_infer,
        numpy=_mode_numpy,
        attrs={"dim": Attr("int")},
        lowering="host",
        samples=(
            integers((4, 7), low=0, high=4, dim=1),
            integers((7, 3), low=0, high=3, dim=0),
            integers((), dim=0),
        ),
    )
)
