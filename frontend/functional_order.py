"""Order along a dim: sorting, the largest, the middle, running sums."""

from __future__ import annotations

from typing import Any

from .arguments import as_int, wrap_dim
from .functional_host import sort_order
from .functional_reductions import RETURN_TYPES, ValuesAndIndices, dropped, gathered
from .functional_shape import flatten
from .functional_slices import narrow
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
    values = gathered(input, at, indices, keepdim, node)
    return RETURN_TYPES[name](values, indices if keepdim or not input.ndim else dropped(indices, at))


def median(input: Tensor, dim: int | None = None, keepdim: bool = False) -> Any:
    """The lower median of all elements, or the (values, indices) along the dim."""
    if dim is None:
        flat = flatten(input)
        middle = (as_int(flat.shape[0]) - 1) // 2
        return folded(
            "MedianBackward0", (input,), lambda: _chosen(flatten(input), 0, middle, False, "median", "")[0]
        )
    at = wrap_dim(dim, input.ndim)
    middle = (as_int(input.shape[at] if input.ndim else 1) - 1) // 2
    return _chosen(input, at, middle, keepdim, "median", "MedianBackward1")


# The names of `torch` that are defined here.
__all__ = [
    "argsort", "kthvalue", "median", "sort", "topk",
]  # fmt: skip
