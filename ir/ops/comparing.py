"""Comparing whole tensors: near elements, all elements, how many are not zero. No gradients."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import dtypes
from ..op import Attr, Op, declare
from ..types import TensorType
from .common import (
    ANY,
    Array,
    broadcast,
    check_same_dtype,
    integers,
    pointwise,
    uniform,
    values,
)
from .reduce import reduced_shape

TOLERANCES = {
    "rtol": Attr("float", 1e-5),
    "atol": Attr("float", 1e-8),
    "equal_nan": Attr("bool", False),
}


def _isclose_numpy(a: Array, b: Array, rtol: float, atol: float, equal_nan: bool) -> Array:
    close = np.equal(a, b)
    if equal_nan:
        close = close | (np.not_equal(a, a) & np.not_equal(b, b))
    if rtol == 0 and atol == 0:
        return close
    if a.dtype.kind not in "fcV":
        a, b = a.astype(np.float32), b.astype(np.float32)
    error = np.abs(a - b)
    # The difference is finite: an infinity is near to nothing but itself.
    allowed = np.abs(b * b.dtype.type(rtol)) + error.dtype.type(atol)
    return close | ((error <= allowed) & (error < error.dtype.type(np.inf)))


def _isclose_decompose(F: Any, a: Any, b: Any, rtol: float, atol: float, equal_nan: bool) -> Any:
    close = F.eq(a, b)
    if equal_nan:
        close = F.logical_or(close, F.logical_and(F.ne(a, a), F.ne(b, b)))
    if rtol == 0 and atol == 0:
        return close
    if F.type_of(a).dtype.kind not in ("float", "complex"):
        a, b = F.convert(a, dtype=dtypes.f32), F.convert(b, dtype=dtypes.f32)
    error = F.abs(F.sub(a, b))
    within = F.le(error, F.add(F.abs(F.mul(b, rtol)), atol))
    return F.logical_or(close, F.logical_and(within, F.lt(error, math.inf)))


declare(
    Op(
        "isclose",
        "Where |a - b| <= atol + rtol |b|, or a equals b (with `equal_nan` NaN equals NaN). "
        "https://docs.pytorch.org/docs/stable/generated/torch.isclose.html",
        infer=pointwise("isclose", ANY, dtypes.bool_),
        numpy=_isclose_numpy,
        attrs=TOLERANCES,
        arity=(2, 2),
        level="composite",
        decompose=_isclose_decompose,
        samples=(
            uniform((3, 4), (4,), between=(0.0, 1.0), gradient=False, rtol=0.3, atol=0.1),
            values(
                [1.0, np.nan, np.inf, -np.inf, np.inf], [1.0, np.nan, np.inf, np.inf, 3.0], equal_nan=True
            ),
            values([1.0, np.nan, np.inf], [1.0, np.nan, 1.0], rtol=0.0, atol=0.0),
            integers((5, 3), (5, 3), rtol=0.5),
        ),
    )
)


def _all_equal_infer(a: TensorType, b: TensorType) -> TensorType:
    check_same_dtype("all_equal", a, b)
    broadcast(a.shape, b.shape)
    return TensorType((), dtypes.bool_)


declare(
    Op(
        "all_equal",
        "Whether a and b are equal everywhere; NaN equals nothing.",
        infer=_all_equal_infer,
        numpy=lambda a, b: np.asarray(np.equal(a, b).all()),
        arity=(2, 2),
        level="composite",
        decompose=lambda F, a, b: F.all(
            F.eq(a, b), dims=tuple(range(max(F.type_of(a).rank, F.type_of(b).rank))), keepdim=False
        ),
        samples=(
            integers((2, 3), (2, 3), low=0, high=1),
            integers((2, 3), (2, 3)),
            values([1.0, np.nan], [1.0, np.nan]),
            values([], []),
        ),
    )
)


def _count_decompose(F: Any, x: Any, dims: tuple[int, ...]) -> Any:
    hits = x if F.type_of(x).dtype is dtypes.bool_ else F.ne(x, F.zeros_like(x))
    return F.sum(F.convert(hits, dtype=dtypes.i64), dims=dims, keepdim=False)


declare(
    Op(
        "count_nonzero",
        "How many elements along `dims` are not zero. "
        "https://docs.pytorch.org/docs/stable/generated/torch.count_nonzero.html",
        infer=lambda x, dims: TensorType(reduced_shape(x.shape, dims, False), dtypes.i64),
        numpy=lambda x, dims: np.asarray(np.count_nonzero(x, dims if x.ndim else None), np.int64),
        attrs={"dims": Attr("ints")},
        level="composite",
        decompose=_count_decompose,
        samples=(
            integers((3, 4), low=0, high=2, dims=(1,)),
            integers((2, 3, 4), low=0, high=2, dims=(0, 2)),
            values([0.0, np.nan, -0.0, 2.0], dims=(0,)),
            integers((), dims=()),
            integers((0, 3), dims=(0,)),
        ),
    )
)
