"""Functions whose result cannot be stated as ops: its size or order depends on the data.

They read the elements on the host, so they do not run inside a compiled function (the tracer's tensors have
none). Where PyTorch differentiates them, the order is found here and the values are then gathered by an op.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .dispatch import apply
from .ir.dtypes import DType, bool_
from .ir.op import op_named
from .tensor import Array, Tensor, wrap


def host_array(tensor: Tensor, what: str) -> Array:
    """The tensor's elements; RuntimeError inside a compiled function, where there are none yet."""
    if tensor._array is None:
        raise RuntimeError(
            f"{what} depends on the elements of a tensor, which are not known inside a compiled function: compute "
            "it outside, or write it with torch.where"
        )
    return tensor._array


def nonzero(input: Tensor, *, as_tuple: bool = False) -> Any:
    """The indices of the nonzero elements: one row per element, or with `as_tuple` one tensor per dim."""
    array = host_array(input, "nonzero")
    if as_tuple:
        return tuple(wrap(index.astype(np.int64)) for index in np.atleast_1d(array).nonzero())
    if array.ndim == 0:
        return wrap(np.zeros((int(bool(array)), 0), np.int64))
    return wrap(np.argwhere(array).astype(np.int64))


def count_nonzero(input: Tensor, dim: Any = None) -> Tensor:
    """How many elements are nonzero, along `dim` or in all."""
    axis = tuple(dim) if isinstance(dim, list) else dim
    return wrap(np.asarray(np.count_nonzero(host_array(input, "count_nonzero"), axis), np.int64))


def sort_order(input: Tensor, dim: int, descending: bool) -> Tensor:
    """The indices that sort along `dim`, stably; NaN counts as larger than any number."""
    return apply(op_named("argsort"), (input,), {"dim": dim, "descending": descending})


def unique(
    input: Tensor,
    sorted: bool = True,
    return_inverse: bool = False,
    return_counts: bool = False,
    dim: int | None = None,
) -> Any:
    """The distinct elements, in ascending order; on request where each element went, and how often each
    occurs.
    """
    array = host_array(input, "unique")
    values, inverse, counts = np.unique(array, return_inverse=True, return_counts=True, axis=dim)
    if dim is None:
        inverse = inverse.reshape(array.shape)
    results = [wrap(values)]
    if return_inverse:
        results.append(wrap(inverse.astype(np.int64)))
    if return_counts:
        results.append(wrap(counts.astype(np.int64)))
    return results[0] if len(results) == 1 else tuple(results)


def bincount(input: Tensor, weights: Tensor | None = None, minlength: int = 0) -> Tensor:
    """How often each non-negative integer occurs, or the sum of its weights."""
    array = host_array(input, "bincount")
    if array.size and (array.ndim != 1 or array.min() < 0):
        raise RuntimeError("bincount only supports 1-d non-negative integral inputs.")
    found = np.bincount(array, None if weights is None else host_array(weights, "bincount"), minlength)
    return wrap(found if weights is None else found.astype(np.float64))


def equal(input: Tensor, other: Tensor) -> bool:
    """Whether both have the same shape and the same elements."""
    a, b = host_array(input, "equal"), host_array(other, "equal")
    return a.shape == b.shape and bool(np.array_equal(a, b))


def isclose(
    input: Tensor, other: Tensor, rtol: float = 1e-05, atol: float = 1e-08, equal_nan: bool = False
) -> Tensor:
    """Where |input - other| <= atol + rtol * |other|."""
    if input.dtype is not other.dtype:
        raise RuntimeError(f"{_name(input.dtype)} did not match {_name(other.dtype)}")
    a, b = host_array(input, "isclose"), host_array(other, "isclose")
    if a.dtype.kind == "V":
        a, b = a.astype(np.float32), b.astype(np.float32)
    with np.errstate(all="ignore"):
        return wrap(np.asarray(np.isclose(a, b, rtol, atol, equal_nan), bool_.numpy))


def _name(dtype: DType) -> str:
    return dtype.torch_name


def allclose(
    input: Tensor, other: Tensor, rtol: float = 1e-05, atol: float = 1e-08, equal_nan: bool = False
) -> bool:
    """Whether `isclose` holds everywhere."""
    return bool(host_array(isclose(input, other, rtol, atol, equal_nan), "allclose").all())


# The names of `torch` that are defined here.
__all__ = [
    "allclose", "bincount", "count_nonzero", "equal", "isclose", "nonzero", "unique",
]  # fmt: skip
