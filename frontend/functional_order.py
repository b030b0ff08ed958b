"""Order along a dim: sorting, the largest, the middle, the most frequent."""

from __future__ import annotations

import math
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
from .inplace import finish
from .ir import dtypes
from .promotion import convert
from .result_types import RETURN_TYPES, ValuesAndIndices
from .tape_folded import folded
from .tensor import Tensor


def sort(
    input: Tensor, dim: int = -1, descending: bool = False, stable: bool = False, *, out: Any = None
) -> ValuesAndIndices:
    """(values, indices) in order along the dim."""
    at = wrap_dim(dim, input.ndim)
    order = sort_order(input, at, descending)
    return _pair("sort", gathered(input, at, order, True, "SortBackward0"), order, out)


def _pair(name: str, values: Tensor, indices: Tensor, out: Any) -> ValuesAndIndices:
    """What these functions return, in the tensors of `out` if given."""
    into = (None, None) if out is None else out
    return RETURN_TYPES[name](finish(values, into[0], name), finish(indices, into[1], name))


def argsort(
    input: Tensor, dim: int = -1, descending: bool = False, stable: bool = False, *, out: Tensor | None = None
) -> Tensor:
    """The indices that sort along the dim."""
    return finish(sort_order(input, wrap_dim(dim, input.ndim), descending), out, "argsort")


def topk(
    input: Tensor, k: int, dim: int = -1, largest: bool = True, sorted: bool = True, *, out: Any = None
) -> ValuesAndIndices:
    """(values, indices) of the k largest (or smallest) along the dim."""
    at = wrap_dim(dim, input.ndim)
    size = input.shape[at] if input.ndim else 1
    if not 0 <= k <= size:
        raise RuntimeError("selected index k out of range")
    order = sort_order(input, at, largest)
    chosen = narrow(order, at, 0, k).contiguous() if input.ndim else order
    return _pair("topk", gathered(input, at, chosen, True, "TopkBackward0"), chosen, out)


def kthvalue(
    input: Tensor, k: int, dim: int = -1, keepdim: bool = False, *, out: Any = None
) -> ValuesAndIndices:
    """(values, indices) of the k-th smallest along the dim, counted from 1."""
    at = wrap_dim(dim, input.ndim)
    if not 1 <= k <= (input.shape[at] if input.ndim else 1):
        raise RuntimeError("kthvalue(): selected number k out of range for dimension " + str(at))
    order = sort_order(input, at, False)
    indices = narrow(order, at, k - 1, 1).contiguous() if input.ndim else order
    return _at(input, at, indices, keepdim, "kthvalue", "KthvalueBackward0", out)


def median(input: Tensor, dim: int | None = None, keepdim: bool = False, *, out: Any = None) -> Any:
    """The lower median of all elements, or the (values, indices) along the dim; NaN where there is one."""
    return _median(input, dim, keepdim, "median", _middle, out)


def nanmedian(input: Tensor, dim: int | None = None, keepdim: bool = False, *, out: Any = None) -> Any:
    """`median` of the elements that are not NaN."""
    return _median(input, dim, keepdim, "nanmedian", _middle_number, out)


def _median(
    input: Tensor,
    dim: int | None,
    keepdim: bool,
    name: str,
    find: Callable[[Tensor, int], Tensor],
    out: Any,
) -> Any:
    title = name.capitalize()
    if dim is None and input._type.numel == 0:
        return finish(full((), math.nan, dtype=input.dtype), out, name)
    if dim is None:
        whole = folded(
            f"{title}Backward0",
            (input,),
            lambda: _at(flatten(input), 0, find(flatten(input.detach()), 0), False, name, "")[0],
        )
        return finish(whole, out, name)
    at = wrap_dim(dim, input.ndim)
    _check_not_empty(input, at, name)
    return _at(input, at, find(input.detach(), at), keepdim, name, f"{title}Backward1", out)


def _check_not_empty(input: Tensor, dim: int, name: str) -> None:
    if input.ndim and input.shape[dim] == 0:
        raise IndexError(f"{name}(): Expected reduction dim {dim} to have non-zero size.")


def _middle(input: Tensor, dim: int) -> Tensor:
    """Where the lower median is, or the first NaN; the dim is kept."""
    if not input.ndim:
        return sort_order(input, dim, False)
    middle = (as_int(input.shape[dim]) - 1) // 2
    found = narrow(sort_order(input, dim, False), dim, middle, 1)
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


def mode(input: Tensor, dim: int = -1, keepdim: bool = False, *, out: Any = None) -> ValuesAndIndices:
    """(values, indices) of the most frequent element along the dim, the smallest of these."""
    at = wrap_dim(dim, input.ndim)
    _check_not_empty(input, at, "mode")
    found = apply(op_named("mode_position"), (input.detach(),), {"dim": at})
    return _at(input, at, found, keepdim, "mode", "ModeBackward0", out)


def msort(input: Tensor, *, out: Tensor | None = None) -> Tensor:
    """The values in order along the first dim."""
    return finish(sort(input, 0)[0], out, "msort")


def _at(
    input: Tensor, dim: int, indices: Tensor, keepdim: bool, name: str, node: str, out: Any = None
) -> ValuesAndIndices:
    """The values at the indices, which have one place along the dim."""
    values = gathered(input, dim, indices, keepdim, node)
    return _pair(name, values, indices if keepdim or not input.ndim else dropped(indices, dim), out)


# The names of `torch` that are defined here.
__all__ = [
    "argsort", "kthvalue", "median", "mode", "msort", "nanmedian", "sort", "topk",
]  # fmt: skip
