"""Order along a dim: sorting, the largest, the middle, running sums."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .arguments import as_int, wrap_dim
from .creation import full
from .dispatch import apply, op_named
from .functional_arithmetic import floor_divide, sub
from .functional_host import sort_order
from .functional_indexing import gather
from .functional_pointwise import clamp, isnan, logical_not, where
from .functional_reductions import any, argmax, dropped, gathered, sum
from .functional_shape import flatten
from .functional_slices import narrow
from .ir import dtypes
from .promotion import convert
from .result_types import RETURN_TYPES, ValuesAndIndices
from .tape_folded import folded
from .tensor import Tensor


def sort(input: Tensor, dim: int = -1, descending: bool = False, stable: bool = False) -> ValuesAndIndices:
    """(values, indices) in order along the dim."""
    at = wrap_dim(dim, input.ndim)
    order = sort_order(input, at, descending)
    return RETURN_TYPES["sort"](gathered(input, at, order, True, "SortBackward0"), order)


def argsort(input: Tensor, dim: int = -1, descending: bool = False, stable: bool = False) -> Tensor:
    """The indices that sort along the dim."""
    return sort_order(input, wrap_dim(dim, input.ndim), descending)


def topk(input: Tensor, k: int, dim: int = -1, largest: bool = True, sorted: bool = True) -> ValuesAndIndices:
    """(values, indices) of the k largest (or smallest) along the dim."""
    at = wrap_dim(dim, input.ndim)
    size = input.shape[at] if input.ndim else 1
    if not 0 <= k <= size:
        raise RuntimeError("selected index k out of range")
    order = sort_order(input, at, largest)
    chosen = narrow(order, at, 0, k).contiguous() if input.ndim else order
    return RETURN_TYPES["topk"](gathered(input, at, chosen, True, "TopkBackward0"), chosen)


def kthvalue(input: Tensor, k: int, dim: int = -1, keepdim: bool = False) -> ValuesAndIndices:
    """(values, indices) of the k-th smallest along the dim, counted from 1."""
    at = wrap_dim(dim, input.ndim)
    if not 1 <= k <= (input.shape[at] if input.ndim else 1):
        raise RuntimeError("kthvalue(): selected number k out of range for dimension " + str(at))
    return _chosen(input, at, k - 1, keepdim, "kthvalue", "KthvalueBackward0")


def _chosen(input: Tensor, at: int, rank: int, keepdim: bool, name: str, node: str) -> ValuesAndIndices:
    order = sort_order(input, at, False)
    indices = narrow(order, at, rank, 1).contiguous() if input.ndim else order
    return _at(input, at, indices, keepdim, name, node)


def median(input: Tensor, dim: int | None = None, keepdim: bool = False) -> Any:
    """The lower median of all elements, or the (values, indices) along the dim; NaN where there is one."""
    return _median(input, dim, keepdim, "median", _middle)


def nanmedian(input: Tensor, dim: int | None = None, keepdim: bool = False) -> Any:
    """`median` of the elements that are not NaN."""
    return _median(input, dim, keepdim, "nanmedian", _middle_number)


def _median(
    input: Tensor, dim: int | None, keepdim: bool, name: str, find: Callable[[Tensor, int], Tensor]
) -> Any:
    title = name.capitalize()
    if dim is None:
        return folded(
            f"{title}Backward0",
            (input,),
            lambda: _at(flatten(input), 0, find(flatten(input.detach()), 0), False, name, "")[0],
        )
    at = wrap_dim(dim, input.ndim)
    return _at(input, at, find(input.detach(), at), keepdim, name, f"{title}Backward1")


def _middle(input: Tensor, dim: int) -> Tensor:
    """Where the lower median is, or the first NaN; the dim is kept."""
    if not input.ndim:
        return sort_order(input, dim, False)
    count = as_int(input.shape[dim])
    if not count:
        return full((*input.shape[:dim], 1, *input.shape[dim + 1 :]), 0, dtype=dtypes.i64)
    found = narrow(sort_order(input, dim, False), dim, (count - 1) // 2, 1)
    if input.dtype.kind != "float":
        return found.contiguous()
    bad = isnan(input)
    return where(any(bad, dim, True), argmax(convert(bad, dtypes.i32), dim, True), found)


def _middle_number(input: Tensor, dim: int) -> Tensor:
    """Where the lower median of the numbers is; the dim is kept."""
    if not input.ndim or input.dtype.kind != "float":
        return _middle(input, dim)
    numbers = sum(logical_not(isnan(input)), dim, True)
    place = clamp(floor_divide(sub(numbers, 1), 2), min=0)
    return gather(sort_order(input, dim, False), dim, place)


def mode(input: Tensor, dim: int = -1, keepdim: bool = False) -> ValuesAndIndices:
    """(values, indices) of the most frequent element along the dim, the smallest of these."""
    at = wrap_dim(dim, input.ndim)
    found = apply(op_named("mode_position"), (input.detach(),), {"dim": at})
    return _at(input, at, found, keepdim, "mode", "ModeBackward0")


def msort(input: Tensor) -> Tensor:
    """The values in order along the first dim."""
    return sort(input, 0)[0]


def _at(input: Tensor, dim: int, indices: Tensor, keepdim: bool, name: str, node: str) -> ValuesAndIndices:
    values = gathered(input, dim, indices, keepdim, node)
    return RETURN_TYPES[name](values, indices if keepdim or not input.ndim else dropped(indices, dim))


# The names of `torch` that are defined here.
__all__ = [
    "argsort", "kthvalue", "median", "mode", "msort", "nanmedian", "sort", "topk",
]  # fmt: skip
