"""Results whose size depends on data: where elements are nonzero, distinct elements, counts.

NumPy computes them, in compiled code too. The `size` attribute names the dim that only a run tells (`Op.sizes`); eager
code needs no name and leaves it empty. No gradients: what chooses by them is differentiable (`index_select`).
"""

from __future__ import annotations

import numpy as np

from .. import dtypes
from ..dims import INFINITY, DimLike, bounds, symbol
from ..op import Attr, Op, declare
from ..types import TensorType
from .common import INTEGERS, Array, Shape, check_dim, check_dtype, comparable, integers, values

SIZE = {"size": Attr("dims", ())}
TOLD = (symbol("u0"),)  # in samples


def told_dim(size: Shape) -> DimLike:
    """The dim that a run tells; some dim where nobody gave it a name."""
    return size[0] if size else symbol("size")


def at_most(most: DimLike) -> tuple[tuple[int, int]]:
    """The bounds of a dim told by a run that chooses among so many."""
    return ((0, bounds(most)[1]),)


# nonzero


def _nonzero_infer(x: TensorType, size: Shape) -> TensorType:
    return TensorType((x.rank, told_dim(size)), dtypes.i64)


def _nonzero_numpy(x: Array, size: Shape) -> Array:
    if x.ndim == 0:
        return np.zeros((0, int(bool(x))), np.int64)
    if x.dtype.kind == "V":  # bfloat16
        x = x != 0
    places = x.nonzero()
    return np.stack(places) if len(places) > 1 else places[0].reshape(1, -1)


declare(
    Op(
        "nonzero",
        "Where the elements are not zero, in row-major order: one column for each, one row for each dim. "
        "https://docs.pytorch.org/docs/stable/generated/torch.nonzero.html",
        infer=_nonzero_infer,
        numpy=_nonzero_numpy,
        attrs=SIZE,
        lowering="host",
        sizes="size",
        size_bounds=lambda x, size: at_most(x.numel),
        samples=(
            integers((3, 4), low=0, high=2, size=TOLD),
            integers((7,), low=0, high=2, size=TOLD),
            integers((2, 0), size=TOLD),
            values(3.0, size=TOLD),
            values([0.0, np.nan, -0.0, 2.0], size=TOLD),
        ),
    )
)


# unique


def _distinct_types(x: TensorType, dim: int | None, size: Shape) -> tuple[TensorType, ...]:
    if x.dtype.is_complex:
        raise NotImplementedError(f"\"unique\" not implemented for '{x.dtype.scalar_type}'")
    told = told_dim(size)
    counts = TensorType((told,), dtypes.i64)
    if dim is None:
        return TensorType((told,), x.dtype), TensorType(x.shape, dtypes.i64), counts
    check_dim(dim, x.rank)
    kept = (*x.shape[:dim], told, *x.shape[dim + 1 :])
    return TensorType(kept, x.dtype), TensorType((x.shape[dim],), dtypes.i64), counts


def _distinct_bounds(x: TensorType, dim: int | None, size: Shape) -> tuple[tuple[int, int]]:
    return at_most(x.numel if dim is None else x.shape[dim])


def _narrowed(x: Array, like: Array) -> Array:
    return x.astype(like.dtype, copy=False)


def _unique_numpy(x: Array, dim: int | None, size: Shape) -> tuple[Array, ...]:
    found, inverse, counts = np.unique(
        comparable(x), return_inverse=True, return_counts=True, axis=dim, equal_nan=False
    )
    inverse = inverse.reshape(x.shape if dim is None else (x.shape[dim],))
    return _narrowed(found, x), inverse.astype(np.int64, copy=False), counts.astype(np.int64, copy=False)


def _runs_numpy(x: Array, dim: int | None, size: Shape) -> tuple[Array, ...]:
    """Runs of equal neighbours: the first of each, which run each element is in, how long each is."""
    rows = x.reshape(-1, 1) if dim is None else np.moveaxis(x, dim, 0).reshape(x.shape[dim], -1)
    count = rows.shape[0]
    starts = np.ones(count, np.bool_)
    starts[1:] = (rows[1:] != rows[:-1]).any(axis=1)
    first = starts.nonzero()[0]
    which = np.cumsum(starts, dtype=np.int64) - 1
    lengths = np.diff(first, append=count).astype(np.int64)
    if dim is None:
        return x.reshape(-1)[first], which.reshape(x.shape), lengths
    return np.ascontiguousarray(np.take(x, first, dim)), which, lengths


for _name, _doc, _rule in (
    ("unique", "The distinct elements (or slices along `dim`) in ascending order", _unique_numpy),
    (
        "unique_consecutive",
        "The first of each run of equal neighbours (elements, or slices along `dim`)",
        _runs_numpy,
    ),
):
    declare(
        Op(
            _name,
            f"{_doc}; for each element which of them it is; how often each occurs. NaN equals nothing. "
            f"https://docs.pytorch.org/docs/stable/generated/torch.{_name}.html",
            infer=_distinct_types,
            numpy=_rule,
            attrs={"dim": Attr("optional_int", None), **SIZE},
            results=3,
            lowering="host",
            sizes="size",
            size_bounds=_distinct_bounds,
            samples=(
                integers((3, 4), low=0, high=4, size=TOLD),
                integers((5, 2), low=0, high=2, dim=0, size=TOLD),
                integers((2, 5), low=0, high=2, dim=1, size=TOLD),
                integers((0,), size=TOLD),
                values([1.0, np.nan, 1.0, 1.0, np.nan, np.nan], size=TOLD),
            ),
        )
    )


# bincount


def _bincount_infer(x: TensorType, *weights: TensorType, minlength: int, size: Shape) -> TensorType:
    check_dtype("bincount", x, INTEGERS)
    if x.rank != 1:
        raise RuntimeError("bincount only supports 1-d non-negative integral inputs.")
    if minlength < 0:
        raise RuntimeError("minlength should be >= 0")
    if weights and weights[0].shape != x.shape:
        raise RuntimeError("weights should be 1-d and have the same length as input")
    dtype = dtypes.i64
    if weights:
        dtype = dtypes.f32 if weights[0].dtype is dtypes.f32 else dtypes.f64
    return TensorType((told_dim(size),), dtype)


def _bincount_numpy(x: Array, *weights: Array, minlength: int, size: Shape) -> Array:
    if x.size and x.min() < 0:
        raise RuntimeError("bincount only supports 1-d non-negative integral inputs.")
    found = np.bincount(x.astype(np.int64, copy=False), weights[0] if weights else None, minlength)
    if not weights:
        return found.astype(np.int64, copy=False)
    return found.astype(weights[0].dtype if weights[0].dtype == np.float32 else np.float64, copy=False)


declare(
    Op(
        "bincount",
        "bincount(x[, weights]): how often each number from 0 to the largest occurs, or the sum of its weights; at "
        "least `minlength` of them. https://docs.pytorch.org/docs/stable/generated/torch.bincount.html",
        infer=_bincount_infer,
        numpy=_bincount_numpy,
        attrs={"minlength": Attr("int", 0), **SIZE},
        arity=(1, 2),
        lowering="host",
        sizes="size",
        size_bounds=lambda *types, minlength, size: ((minlength, INFINITY),),
        samples=(
            integers((9,), low=0, high=5, size=TOLD),
            integers((9,), low=0, high=5, minlength=8, size=TOLD),
            values([2, 0, 2], [0.5, 1.0, 0.25], size=TOLD),
            integers((0,), minlength=2, size=TOLD),
        ),
    )
)


# repeated positions


def _repeats_infer(repeats: TensorType, size: Shape) -> TensorType:
    if repeats.dtype not in (dtypes.i32, dtypes.i64):
        raise NotImplementedError(
            f"\"repeat_interleave_cpu\" not implemented for '{repeats.dtype.scalar_type}'"
        )
    if repeats.rank != 1:
        raise RuntimeError("repeat_interleave only accept 1D vector as repeat")
    return TensorType((told_dim(size),), dtypes.i64)


def _repeats_numpy(repeats: Array, size: Shape) -> Array:
    if (repeats < 0).any():
        raise RuntimeError("repeats can not be negative")
    return np.repeat(np.arange(repeats.shape[0]), repeats)


declare(
    Op(
        "repeated_positions",
        "Each position of a vector of counts as often as the count there says: [2, 0, 1] gives [0, 0, 2].",
        infer=_repeats_infer,
        numpy=_repeats_numpy,
        attrs=SIZE,
        lowering="host",
        sizes="size",
        size_bounds=lambda repeats, size: ((0, INFINITY),),
        samples=(integers((5,), low=0, high=4, size=TOLD), integers((0,), size=TOLD)),
    )
)
