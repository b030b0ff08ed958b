"""Shape arithmetic on symbolic dims: arrays of dtype object, whose elements are numbers or `Dim`s.

These rules take the place of the ordinary ones where an input is such an array, so that a graph which computes its
shapes can be compiled once for all sizes.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from functools import reduce
from typing import Any

import numpy as np

from .table import Call, ONNXError

Array = np.ndarray[Any, Any]


def sizes_array(values: Any) -> Array:
    """int64 where all are numbers, else dtype object."""
    array = np.array(values, dtype=object)
    if all(isinstance(v, int | np.integer | bool) for v in array.reshape(-1).tolist()):
        return array.astype(np.int64)
    return array


def _array(call: Call, position: int) -> Array:
    value = call.value(position)
    if not isinstance(value, np.ndarray):
        raise ONNXError("sizes that are not known yet and a tensor cannot be combined")
    return value


def _shape(call: Call) -> Array:
    dims = tuple(call.value(0).shape)
    end = call.attr("end")
    return sizes_array(list(dims[call.attr("start", 0) : end]))


def _size(call: Call) -> Array:
    return sizes_array(reduce(operator.mul, call.value(0).shape, 1))


def _binary(function: Callable[[Any, Any], Any]) -> Callable[[Call], Array]:
    def run(call: Call) -> Array:
        a, b = np.broadcast_arrays(_array(call, 0), _array(call, 1))
        pairs = zip(a.reshape(-1).tolist(), b.reshape(-1).tolist())
        flat = np.empty(a.size, dtype=object)
        flat[:] = [function(x, y) for x, y in pairs]
        return sizes_array(flat.reshape(a.shape))

    return run


def _gather(call: Call) -> Array:
    return sizes_array(np.take(_array(call, 0), _array(call, 1).astype(np.int64), axis=call.attr("axis", 0)))


def _concat(call: Call) -> Array:
    return sizes_array(
        np.concatenate([_array(call, i) for i in range(len(call.inputs))], axis=call.attr("axis", 0))
    )


def _slice(call: Call) -> Array:
    starts, ends = (
        (call.attr("starts"), call.attr("ends")) if call.version < 10 else (call.ints(1), call.ints(2))
    )
    steps = call.ints(4) if call.has(4) else [1] * len(starts)
    axes = call.axes(3) or range(len(starts))
    index = [slice(None)] * _array(call, 0).ndim
    for start, end, step, axis in zip(starts, ends, steps, axes):
        index[axis] = slice(start, end if end > -(1 << 62) else None, step)
    return sizes_array(_array(call, 0)[tuple(index)])


def _unsqueeze(call: Call) -> Array:
    return np.expand_dims(_array(call, 0), tuple(call.axes(1) or ()))


def _squeeze(call: Call) -> Array:
    axes = call.axes(1)
    return np.squeeze(_array(call, 0), None if axes is None else tuple(axes))


def _reduce(function: Callable[[Any, Any], Any]) -> Callable[[Call], Array]:
    def run(call: Call) -> Array:
        values = _array(call, 0)
        if values.ndim != 1:
            raise ONNXError("sizes that are not known yet are reduced in one dim only")
        result = sizes_array(reduce(function, values.tolist()))
        return result.reshape(1) if call.attr("keepdims", 1) else result

    return run


def _split_off(call: Call) -> Array:
    return _array(call, 0).reshape([int(n) for n in call.ints(1)])


SIZE_RULES: dict[str, Callable[[Call], Array]] = {
    "Shape": _shape,
    "Size": _size,
    "Add": _binary(operator.add),
    "Sub": _binary(operator.sub),
    "Mul": _binary(operator.mul),
    "Div": _binary(operator.floordiv),
    "Mod": _binary(operator.mod),
    "Max": _binary(max),
    "Min": _binary(min),
    "Equal": _binary(operator.eq),
    "Gather": _gather,
    "Concat": _concat,
    "Slice": _slice,
    "Unsqueeze": _unsqueeze,
    "Squeeze": _squeeze,
    "Reshape": _split_off,
    "ReduceProd": _reduce(operator.mul),
    "ReduceSum": _reduce(operator.add),
    "Cast": lambda call: _array(call, 0),
    "Identity": lambda call: _array(call, 0),
    "Where": lambda call: sizes_array(
        np.where(_array(call, 0).astype(bool), _array(call, 1), _array(call, 2))
    ),
}
