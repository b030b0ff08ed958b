"""Ops without operands: a value everywhere, or each element's position."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from .. import aligned
from ..dtypes import DType, f32, i32, i64
from ..op import Attr, Op, Sample, declare
from ..types import TensorType
from .common import Array, Shape, check_dim, check_shape


def _full_infer(shape: Shape, value: float, dtype: DType) -> TensorType:
    check_shape(shape)
    return TensorType(shape, dtype)


def _full_numpy(shape: Sequence[int], value: Any, dtype: DType) -> Array:
    """Weights are made of them: all but small ones begin at a line of the cache."""
    found = aligned.empty(shape, dtype.numpy)
    found.fill(value)
    return found


def _constant(**attrs: Any) -> Sample:
    return Sample(lambda rng: [], attrs, gradient=False, label=str(list(attrs["shape"])))


declare(
    Op(
        "full",
        "Every element `value`. https://docs.pytorch.org/docs/stable/generated/torch.full.html",
        infer=_full_infer,
        numpy=_full_numpy,
        attrs={"shape": Attr("dims"), "value": Attr("scalar"), "dtype": Attr("dtype")},
        arity=(0, 0),
        lowering="constant",
        samples=(
            _constant(shape=(2, 3), value=1.5, dtype=f32),
            _constant(shape=(), value=-7, dtype=i64),
            _constant(shape=(0, 3), value=True, dtype=f32),
            _constant(shape=(2,), value=float("nan"), dtype=f32),
        ),
    )
)


def _iota_infer(shape: Shape, dim: int, dtype: DType) -> TensorType:
    check_shape(shape)
    if not shape:
        raise IndexError("iota: a 0-d shape has no dim to count along; use full")
    check_dim(dim, len(shape))
    return TensorType(shape, dtype)


def _iota_numpy(shape: tuple[int, ...], dim: int, dtype: DType) -> Array:
    along = np.arange(shape[dim]).reshape([-1 if i == dim else 1 for i in range(len(shape))])
    return np.broadcast_to(along, shape).astype(dtype.numpy)


declare(
    Op(
        "iota",
        "Each element's index along `dim`.",
        infer=_iota_infer,
        numpy=_iota_numpy,
        attrs={"shape": Attr("dims"), "dim": Attr("int"), "dtype": Attr("dtype", i64)},
        arity=(0, 0),
        lowering="constant",
        samples=(
            _constant(shape=(5,), dim=0, dtype=i64),
            _constant(shape=(2, 3, 4), dim=1, dtype=f32),
            _constant(shape=(1, 3), dim=1, dtype=i32),
            _constant(shape=(0, 3), dim=1, dtype=i64),
        ),
    )
)
