"""Order: which elements are smallest. NumPy sorts, in compiled code too (`lowering="host"`)."""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import dtypes
from ..op import Attr, Op, declare
from ..types import TensorType
from .common import Array, check_dim, comparable, distinct, integers, values


def _argsort_infer(x: TensorType, dim: int, descending: bool) -> TensorType:
    check_dim(dim, x.rank)
    if x.dtype.is_complex:
        raise RuntimeError("Sort does not support complex dtypes on CPU")
    return x.with_dtype(dtypes.i64)


def _argsort_numpy(x: Array, dim: int, descending: bool) -> Array:
    if x.ndim == 0:
        return np.zeros((), np.int64)
    x = comparable(x)
    if descending:
        return descending_order(x, dim)
    return np.argsort(x, dim, kind="stable").astype(np.int64, copy=False)


def descending_order(x: Array, dim: int = 0) -> Array:
    """The indices that sort from the largest to the smallest; equal elements stay in order, NaN comes first."""
    # Backwards and from behind.
    order = np.flip(x.shape[dim] - 1 - np.argsort(np.flip(x, dim), dim, kind="stable"), dim)
    return np.ascontiguousarray(order, np.int64)


def _ties(**attrs: Any) -> Any:
    return values(np.array([[2.0, np.nan, -1.0, 2.0, np.inf], [0.0, -0.0, 1.0, np.nan, -np.inf]]), **attrs)


declare(
    Op(
        "argsort",
        "The indices that sort along `dim`, stably; NaN counts as larger than any number. "
        "https://docs.pytorch.org/docs/stable/generated/torch.argsort.html",
        infer=_argsort_infer,
        numpy=_argsort_numpy,
        attrs={"dim": Attr("int"), "descending": Attr("bool", False)},
        lowering="host",
        samples=(
            distinct((7,), gradient=False, dim=0),
            distinct((3, 5), gradient=False, dim=0, descending=True),
            integers((4, 3, 5), low=0, high=3, dim=1),
            integers((6, 4), low=0, high=3, dim=1, descending=True),
            _ties(dim=1),
            _ties(dim=1, descending=True),
            distinct((), gradient=False, dim=0),
            distinct((0, 3), gradient=False, dim=0),
        ),
    )
)
