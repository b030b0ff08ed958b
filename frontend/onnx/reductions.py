"""Rules of reductions, scans along a dim, and normalizing functions over dims."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import vitrify as torch
import vitrify.nn.functional as F

from ..ir.dtypes import DType
from ..tensor import Tensor
from .table import Call, ONNXError, rule


def _sum(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    return torch.sum(x, dim=axes, keepdim=keep, dtype=x.dtype)


def _prod(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    for axis in sorted((a % x.ndim for a in axes), reverse=True):
        x = torch.prod(x, dim=axis, keepdim=keep, dtype=x.dtype)
    return x


def _as_float(
    function: Callable[[Tensor, list[int], bool], Tensor],
) -> Callable[[Tensor, list[int], bool], Tensor]:
    """Computed on floats, the result of the input's dtype."""

    def run(x: Tensor, axes: list[int], keep: bool) -> Tensor:
        working: DType = x.dtype if x.is_floating_point() else torch.float64
        return function(x.to(working), axes, keep).to(x.dtype)

    return run


def _extreme(function: Callable[..., Tensor], lowest: bool) -> Callable[[Tensor, list[int], bool], Tensor]:
    """A reduction that has a value for no elements: the lowest or the highest there is."""

    def run(x: Tensor, axes: list[int], keep: bool) -> Tensor:
        if all(x.shape[a] != 0 for a in axes):
            return function(x, dim=axes, keepdim=keep)
        shape = [1 if i in {a % x.ndim for a in axes} else n for i, n in enumerate(x.shape)]
        if not keep:
            shape = [n for i, n in enumerate(x.shape) if i not in {a % x.ndim for a in axes}]
        if x.dtype is torch.bool:
            return torch.full(shape, not lowest, dtype=torch.bool)
        if x.is_floating_point():
            return torch.full(shape, float("-inf") if lowest else float("inf"), dtype=x.dtype)
        info = torch.iinfo(x.dtype)
        return torch.full(shape, info.min if lowest else info.max, dtype=x.dtype)

    return run


_REDUCTIONS: dict[str, Callable[[Tensor, list[int], bool], Tensor]] = {
    "ReduceL1": lambda x, axes, keep: _sum(torch.abs(x), axes, keep),
    "ReduceL2": _as_float(lambda x, axes, keep: torch.sqrt(_sum(x * x, axes, keep))),
    "ReduceLogSum": _as_float(lambda x, axes, keep: torch.log(_sum(x, axes, keep))),
    "ReduceLogSumExp": _as_float(_extreme(torch.logsumexp, True)),
    "ReduceMax": _extreme(torch.amax, True),
    "ReduceMean": _as_float(lambda x, axes, keep: torch.mean(x, dim=axes, keepdim=keep)),
    "ReduceMin": _extreme(torch.amin, False),
    "ReduceProd": _prod,
    "ReduceSum": _sum,
    "ReduceSumSquare": lambda x, axes, keep: _sum(x * x, axes, keep),
}


def _reduction(call: Call, function: Callable[[Tensor, list[int], bool], Tensor]) -> Tensor:
    """No axes, or none of them: all, unless `noop_with_empty_axes`."""
    x, axes = call.tensor(0), call.axes(1)
    if not axes:
        if call.attr("noop_with_empty_axes", 0):
            # A reduction over no dims still applies what it does to each element.
            return function(x.unsqueeze(0), [0], False)
        axes = list(range(x.ndim))
    if not axes:
        return function(x.unsqueeze(0), [0], False)
    return function(x, axes, bool(call.attr("keepdims", 1)))


for _name, _function in _REDUCTIONS.items():
    rule(_name, static=(1,))(lambda call, f=_function: _reduction(call, f))  # type: ignore[misc]


def _arg(call: Call, function: Callable[..., Tensor]) -> Tensor:
    x, axis, keep = call.tensor(0), call.attr("axis", 0), bool(call.attr("keepdims", 1))
    if not call.attr("select_last_index", 0):
        return function(x, dim=axis, keepdim=keep)
    return x.shape[axis] - 1 - function(torch.flip(x, [axis]), dim=axis, keepdim=keep)


@rule("ArgMax")
def arg_max(call: Call) -> Tensor:
    return _arg(call, torch.argmax)


@rule("ArgMin")
def arg_min(call: Call) -> Tensor:
    return _arg(call, torch.argmin)


def _cumulative(call: Call, function: Callable[..., Tensor], neutral: int) -> Tensor:
    x, axis = call.tensor(0), int(call.number(1))
    if call.attr("reverse", 0):
        x = torch.flip(x, [axis])
    if call.attr("exclusive", 0):
        first = torch.full_like(torch.narrow(x, axis, 0, 1), neutral)
        x = torch.cat([first, torch.narrow(x, axis, 0, x.shape[axis] - 1)], dim=axis)
    y = function(x, dim=axis, dtype=x.dtype)
    return torch.flip(y, [axis]) if call.attr("reverse", 0) else y


@rule("CumSum", static=(1,))
def cumsum(call: Call) -> Tensor:
    return _cumulative(call, torch.cumsum, 0)


@rule("CumProd", static=(1,))
def cumprod(call: Call) -> Tensor:
    return _cumulative(call, torch.cumprod, 1)


def _over_rows(call: Call, function: Callable[[Tensor, int], Tensor]) -> Tensor:
    """Since operator set 13 along one axis; before over all dims from `axis` on, as one."""
    x = call.tensor(0)
    if call.version >= 13:
        return function(x, call.attr("axis", -1))
    axis = call.attr("axis", 1)
    return function(x.flatten(axis % x.ndim), -1).reshape(x.shape)


@rule("Softmax")
def softmax(call: Call) -> Tensor:
    return _over_rows(call, lambda x, axis: F.softmax(x, dim=axis))


@rule("LogSoftmax")
def log_softmax(call: Call) -> Tensor:
    return _over_rows(call, lambda x, axis: F.log_softmax(x, dim=axis))


def _hardmax(x: Tensor, axis: int) -> Tensor:
    first = torch.argmax(x, dim=axis, keepdim=True)
    shape = [1] * x.ndim
    shape[axis] = x.shape[axis]
    return (torch.arange(x.shape[axis]).reshape(shape) == first).to(x.dtype)


@rule("Hardmax")
def hardmax(call: Call) -> Tensor:
    return _over_rows(call, _hardmax)


@rule("TopK", static=(1,))
def topk(call: Call) -> tuple[Tensor, Tensor]:
    """Equal elements in the order of their indices, as the specification asks."""
    x, axis = call.tensor(0), call.attr("axis", -1)
    k = call.attr("k") if call.version < 10 else int(call.number(1))
    values, index = torch.sort(x, dim=axis, descending=bool(call.attr("largest", 1)), stable=True)
    if not 0 <= k <= x.shape[axis]:
        raise ONNXError(f"k is {k}, and the axis has {x.shape[axis]} elements")
    return torch.narrow(values, axis, 0, k), torch.narrow(index, axis, 0, k)


@rule("LpNormalization")
def lp_normalization(call: Call) -> Tensor:
    x, axis = call.tensor(0), call.attr("axis", -1)
    power = call.attr("p", 2)
    if power == 1:
        norm = torch.sum(torch.abs(x), dim=axis, keepdim=True)
    else:
        norm = torch.sqrt(torch.sum(x * x, dim=axis, keepdim=True))
    return torch.where(norm == 0, torch.zeros_like(x), x / norm)


@rule("Unique", folds=False)
def unique(call: Call) -> tuple[Any, ...]:
    """With `sorted=0` in the order of their first occurrence."""
    x, axis = call.tensor(0), call.attr("axis")
    if axis is None:
        x, axis = x.reshape(-1), 0
    values, inverse, counts = torch.unique(x, return_inverse=True, return_counts=True, dim=axis)
    count, length = counts.shape[0], inverse.shape[0]
    first = torch.full([count], length, dtype=torch.int64).scatter_reduce(
        0, inverse, torch.arange(length), "amin"
    )
    if not call.attr("sorted", 1):
        order = torch.argsort(first)
        place = torch.argsort(order)
        values, first, counts = torch.index_select(values, axis, order), first[order], counts[order]
        inverse = place[inverse]
    return values, first, inverse, counts
