"""Batching rules of ops that read or write at computed indices."""

from __future__ import annotations

from typing import Any

from ..dispatch import TENSORS as F
from ..dispatch import apply, op_named
from ..ir import dtypes
from ..ir.dims import product
from ..tensor import Tensor
from .batching import Call, rule
from .batching_rules import with_a_dim

_CHECK = op_named("check_index")


@rule("gather", "scatter_add", "scatter_combine", "scatter_reduce", "scatter_update")
def _elements(call: Call) -> Any:
    """An index per element: the batch is one dim more in which an element stays where it is."""
    values = [with_a_dim(call, v) for v in call.all_full()]
    found = call.apply(values, dim=call.attrs["dim"] + 1)
    shape = call.shape(1 if call.op.name == "gather" else 0)
    return found if shape else F.reshape(found, shape=(call.size,))


def _flat_index(call: Call, index: Tensor, count: Any) -> Tensor:
    """Indices into a dim of `count` as indices into that of all samples, one after the other."""
    checked = apply(_CHECK, (index,), {"size": (count,), "what": "index"})
    starts = F.iota(shape=(call.size,), dim=0, dtype=dtypes.i64)
    offset = F.mul(starts, F.constant(count, dtypes.i64) if isinstance(count, int) else count)
    if index.dtype is not dtypes.i64:
        offset = F.convert(offset, dtype=index.dtype)
    found: Tensor = F.add(checked, F.reshape(offset, shape=(call.size, *(1,) * (index.ndim - 1))))
    return found


def _dim_first(value: Tensor, dim: int) -> Tensor:
    """[B, ..., n, ...] as [B*n, ...], n being dim `dim` of a sample."""
    others = [d for d in range(1, value.ndim) if d != dim + 1]
    moved = F.permute(value, dims=(0, dim + 1, *others))
    shape: tuple[Any, ...] = tuple(moved.shape)
    found: Tensor = F.reshape(moved, shape=(shape[0] * shape[1], *shape[2:]))
    return found


@rule("searchsorted")
def _searchsorted(call: Call) -> Any:
    """Boundaries, of one dim or with the leading dims of what is searched."""
    if call.rank(0) > 1:
        return call.apply(call.all_full())
    if not call.batched[0]:
        return call.apply(call.values)
    boundaries, x = call.all_full()
    shape = tuple(x.shape)
    rows = F.reshape(x, shape=(call.size, product(shape[1:])))
    return F.reshape(call.apply((boundaries, rows)), shape=shape)


@rule("isin")
def _isin(call: Call) -> Any:
    return call.sample_by_sample() if call.batched[1] else call.apply(call.values)


@rule("index_select")
def _index_select(call: Call) -> Any:
    (x, index), dim = call.values, call.attrs["dim"]
    if not call.batched[1]:
        return call.apply((x, index), dim=dim + 1)
    if not call.batched[0]:
        found = call.apply((x, index))
        return F.permute(found, dims=(dim, *(d for d in range(found.ndim) if d != dim)))
    rank = index.ndim - 1
    rows = _dim_first(x, dim)
    found = call.apply((rows, _flat_index(call, index, x.shape[dim + 1])), dim=0)
    # [B, index dims, the other dims of x] -> the index's dims to the place of `dim`
    order = (0, *range(rank + 1, rank + 1 + dim), *range(1, rank + 1), *range(rank + 1 + dim, found.ndim))
    return F.permute(found, dims=order)


@rule("index_add", "index_update")
def _index_write(call: Call) -> Any:
    dim = call.attrs["dim"]
    base, index, src = call.full(0), call.values[1], call.full(2)
    if not call.batched[1]:
        return call.apply((base, index, src), dim=dim + 1)
    rank = index.ndim - 1
    count = base.shape[dim + 1]
    rows = _dim_first(base, dim)
    places = tuple(range(dim + 1, dim + 1 + rank))
    others = [d for d in range(1, src.ndim) if d not in places]
    added = call.apply(
        (rows, _flat_index(call, index, count), F.permute(src, dims=(0, *places, *others))), dim=0
    )
    back = F.reshape(added, shape=(call.size, count, *tuple(added.shape)[1:]))
    order = [0, *range(2, 2 + dim), 1, *range(2 + dim, back.ndim)]
    return F.permute(back, dims=tuple(order))
