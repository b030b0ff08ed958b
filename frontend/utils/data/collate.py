"""Making one batch out of a list of samples."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Mapping, MutableMapping, MutableSequence, Sequence
from typing import Any

import numpy as np

from ...creation import as_tensor, tensor
from ...functional_shape import stack
from ...ir import dtypes
from ...tensor import Tensor

_CANNOT = "default_collate: batch must contain tensors, numpy arrays, numbers, dicts or lists; found {}"


Collate = Callable[..., Any]


def collate(
    batch: Sequence[Any], *, collate_fn_map: Mapping[type | tuple[type, ...], Collate] | None = None
) -> Any:
    """One batch, in the samples' structure of dicts and lists: what is of a class of the map is made one by its function
    (`fn(items, collate_fn_map=...)`). TypeError for a class that is not there."""
    first, known = batch[0], collate_fn_map or {}
    function = known.get(type(first))
    if function is None:
        function = next((f for kind, f in known.items() if isinstance(first, kind)), None)
    if function is not None:
        return function(batch, collate_fn_map=collate_fn_map)
    inner = functools.partial(collate, collate_fn_map=collate_fn_map)
    if isinstance(first, Mapping):
        return _mapping(first, {key: inner([sample[key] for sample in batch]) for key in first})
    if isinstance(first, tuple) and hasattr(first, "_fields"):
        return type(first)(*map(inner, zip(*batch)))
    if isinstance(first, Sequence):
        if any(len(sample) != len(first) for sample in batch):
            raise RuntimeError("each element in list of batch should be of equal size")
        parts = list(map(inner, zip(*batch)))
        return parts if isinstance(first, tuple) else _sequence(first, parts)
    raise TypeError(_CANNOT.format(type(first)))


def collate_tensor_fn(batch: Sequence[Tensor], *, collate_fn_map: Any = None) -> Tensor:
    """Stacked along a new first dim."""
    return stack(list(batch), 0)


def collate_numpy_array_fn(batch: Sequence[Any], *, collate_fn_map: Any = None) -> Any:
    """Arrays of numbers as tensors, stacked along a new first dim."""
    if batch[0].dtype.kind in "SUO":
        raise TypeError(_CANNOT.format(batch[0].dtype))
    return collate([as_tensor(array) for array in batch], collate_fn_map=collate_fn_map)


def collate_numpy_scalar_fn(batch: Sequence[Any], *, collate_fn_map: Any = None) -> Tensor:
    """A tensor of them."""
    return as_tensor(np.asarray(batch))


def collate_float_fn(batch: Sequence[float], *, collate_fn_map: Any = None) -> Tensor:
    """A float64 tensor of them."""
    return tensor(batch, dtype=dtypes.f64)


def collate_int_fn(batch: Sequence[int], *, collate_fn_map: Any = None) -> Tensor:
    """An int64 tensor of them."""
    return tensor(batch)


def collate_str_fn(batch: Sequence[Any], *, collate_fn_map: Any = None) -> Any:
    """As they are."""
    return batch


# Programs add their own classes.
default_collate_fn_map: dict[type | tuple[type, ...], Collate] = {
    Tensor: collate_tensor_fn,
    np.ndarray: collate_numpy_array_fn,
    (np.bool_, np.number): collate_numpy_scalar_fn,
    float: collate_float_fn,
    int: collate_int_fn,
    str: collate_str_fn,
    bytes: collate_str_fn,
}


def default_collate(batch: Sequence[Any]) -> Any:
    """Tensors, arrays and numbers are stacked along a new first dim, inside the same structure of dicts and
    lists (`collate` with `default_collate_fn_map`)."""
    return collate(batch, collate_fn_map=default_collate_fn_map)


def default_convert(data: Any) -> Any:
    """NumPy arrays and scalars inside a structure become tensors; the rest stays."""
    if isinstance(data, Tensor | str | bytes):
        return data
    if isinstance(data, np.ndarray | np.generic):
        if isinstance(data, np.ndarray) and data.dtype.kind in "SUO":
            return data
        return as_tensor(data)
    if isinstance(data, Mapping):
        return _mapping(data, {key: default_convert(value) for key, value in data.items()})
    if isinstance(data, tuple) and hasattr(data, "_fields"):
        return type(data)(*map(default_convert, data))
    if isinstance(data, tuple):
        return [default_convert(value) for value in data]
    if isinstance(data, Sequence):
        return _sequence(data, [default_convert(value) for value in data])
    return data


def _mapping(like: Mapping[Any, Any], values: dict[Any, Any]) -> Any:
    """The values in a mapping of the same type, as far as that type allows it."""
    try:
        if isinstance(like, MutableMapping):
            made = copy.copy(like)
            made.update(values)
            return made
        return type(like)(values)  # type: ignore[call-arg]
    except TypeError:
        return values


def _sequence(like: Sequence[Any], values: list[Any]) -> Any:
    try:
        if isinstance(like, MutableSequence):
            made = copy.copy(like)
            for i, value in enumerate(values):
                made[i] = value
            return made
        return type(like)(values)  # type: ignore[call-arg]
    except TypeError:
        return values
