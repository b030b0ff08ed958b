"""Arrays from Python data: nested sequences of numbers, and what may stand among them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np

from . import promotion
from .ir import dtypes
from .ir.dtypes import DType
from .runtime.allocator import empty
from .tensor import Array, Tensor

PYTHON_TYPES: dict[Any, DType] = {
    float: dtypes.f64,
    int: dtypes.i64,
    bool: dtypes.bool_,
    complex: dtypes.c128,
}


def dtype_or(dtype: Any, default: DType) -> DType:
    if dtype is None:
        return default
    return dtype if isinstance(dtype, DType) else PYTHON_TYPES[dtype]


def array_of(data: Any, dtype: DType | None, copy: bool) -> Array:
    """The data as an array of the dtype, or of the one that PyTorch infers."""
    wanted = None if dtype is None else dtype_or(dtype, dtypes.f32)
    if isinstance(data, np.ndarray | np.generic):
        source = np.asarray(data)
        found = dtypes.from_numpy(source.dtype)
        target = (wanted or found).numpy
        if not copy and source.dtype == target:
            return source
        with np.errstate(all="ignore"):
            made = empty(source.shape, target)
            np.copyto(made, source, casting="unsafe")
            return made
    return _from_nested(data, wanted)


def _from_numbers(data: Any, wanted: DType | None) -> Array | None:
    """The usual case, at C speed: lists of equal length of Python numbers; None if the data is anything else."""
    rows, shape = [data], []
    while type(rows[0]) is list or type(rows[0]) is tuple:
        count = len(rows[0])
        if not count or any(type(row) not in (list, tuple) or len(row) != count for row in rows):
            return None
        shape.append(count)
        rows = list(chain.from_iterable(rows))
    kinds = set(map(type, rows))
    if not kinds <= {bool, int, float}:
        return None
    inferred = wanted
    if inferred is None:
        widest = float if float in kinds else int if int in kinds else bool
        inferred = promotion.number_dtype(widest())
    elif inferred.kind in ("int", "uint") and float in kinds:
        return None
    wide = np.int64 if inferred.kind in ("int", "uint") else np.float64
    try:
        with np.errstate(all="ignore"):
            return np.array(rows, wide).astype(inferred.numpy).reshape(shape)
    except OverflowError:
        return None


def _from_nested(data: Any, wanted: DType | None) -> Array:
    quick = _from_numbers(data, wanted)
    if quick is not None:
        return quick
    shape: list[int] = []
    probe = data
    while _is_sequence(probe):
        shape.append(len(probe))
        if len(shape) > 64:
            raise ValueError("too many dimensions")
        if not len(probe):
            break
        probe = probe[0]
    if isinstance(probe, str) and shape:
        raise ValueError("too many dimensions 'str'")
    flat: list[Any] = []
    _collect(data, tuple(shape), 0, flat)
    inferred = wanted
    if inferred is None:
        for value in flat:
            found = _scalar_dtype(value)
            inferred = found if inferred is None else dtypes.promote(inferred, found)
        inferred = inferred or promotion.get_default_dtype()
    numbers = [_number(v, inferred) for v in flat]
    try:
        with np.errstate(all="ignore"):
            if inferred.kind in ("int", "uint"):
                return _integers(numbers, inferred).reshape(shape)
            return (
                np.array(numbers, np.float64 if inferred.kind == "float" else inferred.numpy)
                .astype(inferred.numpy)
                .reshape(shape)
            )
    except OverflowError as error:
        raise RuntimeError(
            f"value cannot be converted to type {inferred.torch_name} without overflow"
        ) from error


def _integers(numbers: list[Any], dtype: DType) -> Array:
    try:
        return np.array(numbers, np.int64).astype(dtype.numpy)
    except OverflowError:
        if dtype is dtypes.u64:
            return np.array(numbers, np.uint64)
        raise RuntimeError("Overflow when unpacking long long") from None


def _is_sequence(value: Any) -> bool:
    if isinstance(value, Tensor | np.ndarray):
        return value.ndim > 0
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)


def _collect(data: Any, shape: tuple[int, ...], depth: int, flat: list[Any]) -> None:
    """The elements in order; ValueError where a row has another length than the first."""
    if depth == len(shape):
        if _is_sequence(data):
            if isinstance(flat[0] if flat else None, float):
                raise TypeError(f"must be real number, not {type(data).__name__}")
            raise TypeError(f"'{type(data).__name__}' object cannot be interpreted as an integer")
        flat.append(data)
        return
    if not _is_sequence(data):
        raise TypeError(
            f"not a sequence: {type(data).__name__} at dim {depth}, where others have {shape[depth]} items"
        )
    if len(data) != shape[depth]:
        raise ValueError(f"expected sequence of length {shape[depth]} at dim {depth} (got {len(data)})")
    if isinstance(data, np.ndarray) and depth == len(shape) - 1:
        flat.extend(data)
        return
    for item in data:
        _collect(item, shape, depth + 1, flat)


def _scalar_dtype(value: Any) -> DType:
    if isinstance(value, Tensor):
        return value.dtype
    if isinstance(value, np.generic | np.ndarray):
        return dtypes.from_numpy(value.dtype)
    if isinstance(value, bool | int | float | complex):
        return promotion.number_dtype(value)
    if isinstance(value, str):
        raise TypeError("new(): invalid data type 'str'")
    raise RuntimeError(f"Could not infer dtype of {type(value).__name__}")


def _number(value: Any, dtype: DType) -> Any:
    if isinstance(value, Tensor | np.generic | np.ndarray):
        value = value.item()
    if not isinstance(value, bool | int | float | complex):
        if isinstance(value, str):
            raise TypeError("new(): invalid data type 'str'")
        raise TypeError(f"must be real number, not {type(value).__name__}")
    if isinstance(value, complex) and not dtype.is_complex and dtype is not dtypes.bool_:
        raise TypeError("must be real number, not complex")
    if dtype.kind in ("int", "uint") and isinstance(value, float):
        if math.isnan(value) or math.isinf(value):
            raise ValueError(f"cannot convert float {value} to integer")
        return int(value)
    return value
