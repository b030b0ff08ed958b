"""Do two ways of computing a graph agree, but for rounding?

Two floating results agree where they differ by a few units in the last place, relative to the element and to the whole
array. Beyond that a third computation decides, the same graph with its floating numbers in float64: a result is good
that is about as near to that as the reference is. Integers and truth values are to be equal, unless the third says that
the reference is the one that is off (a comparison of numbers that are equal up to rounding). What cancels to nearly
nothing is rounding alone, and as large as luck has it: there a result is good, too, that is as near as the reference
moves when its inputs change in the last place.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from ..ir import dtypes
from ..ir.dtypes import DType
from ..ir.graph import Graph, IRError, Node, Value
from ..ir.interpreter import bound_attrs, evaluate_node, told_sizes

Array = np.ndarray[Any, Any]
Values = dict[Value, Array]
# Units in the last place, of the element and of the array's root mean square.
ULPS = 64
# By how much further than the reference from float64 a result may be, and a floor in units of the largest element.
FURTHER, FLOOR_ULPS = 16, 256
# How often inputs are changed in the last place.
TURNS = 3
# The errors of NumPy and of rules for operands that float64 takes them to.
ARITHMETIC_ERRORS = (IRError, TypeError, ValueError, IndexError, RuntimeError, ArithmeticError)


def values_of(graph: Graph, inputs: Sequence[Array], bindings: Mapping[str, int]) -> Values:
    """Every value of the graph by the reference interpreter."""
    bound = dict(bindings)
    env: Values = dict(zip(graph.inputs, inputs))
    for node in graph.nodes:
        results = evaluate_node(node, [env[v] for v in node.inputs], bound)
        bound.update(told_sizes(node, results))
        env.update(zip(node.outputs, results))
    return env


def wide_values(graph: Graph, inputs: Sequence[Array], bindings: Mapping[str, int]) -> Values | None:
    """Every value with floating numbers in float64; None where a rule does not take them."""
    try:
        return _wide(graph, [_widened(a) for a in inputs], dict(bindings))
    except ARITHMETIC_ERRORS:
        return None


def _wide(graph: Graph, inputs: Sequence[Array], bound: dict[str, int]) -> Values:
    env: Values = dict(zip(graph.inputs, inputs))
    for node in graph.nodes:
        operands = [env[v] for v in node.inputs]
        results = _wide_node(node, operands, bound)
        bound.update(told_sizes(node, results))
        env.update(zip(node.outputs, results))
    return env


def _wide_node(node: Node, operands: Sequence[Array], bound: dict[str, int]) -> Sequence[Array]:
    if node.op.region is not None:
        (body,) = node.regions

        def step(*values: Array) -> tuple[Array, ...]:
            env = _wide(body, values, bound)
            return tuple(env[v] for v in body.outputs)

        return node.op.region.numpy(step, operands, bound_attrs(node, bound))
    if node.op.lowering == "random" or "stream" in node.op.attrs:
        # Drawn as they are: float64 has other random numbers.
        narrow = [a.astype(v.type.dtype.numpy) for a, v in zip(operands, node.inputs)]
        return [_widened(a) for a in evaluate_node(node, narrow, bound)]
    attrs = {k: _wide_dtype(v) if isinstance(v, DType) else v for k, v in node.attrs.items()}
    return evaluate_node(replace(node, attrs=attrs), operands, bound)


def _wide_dtype(dtype: DType) -> DType:
    if dtype.is_floating_point:
        return dtypes.f64
    return dtypes.c128 if dtype.kind == "complex" else dtype


def _widened(array: Array) -> Array:
    return array.astype(_wide_dtype(dtypes.from_numpy(array.dtype)).numpy)


@dataclass
class Reference:
    """What a graph means for these inputs: every value, as it is and in float64 (None where that cannot be)."""

    graph: Graph
    inputs: Sequence[Array]
    bindings: Mapping[str, int]

    @cached_property
    def values(self) -> Values:
        return values_of(self.graph, self.inputs, self.bindings)

    @cached_property
    def wide(self) -> Values | None:
        return wide_values(self.graph, self.inputs, self.bindings)

    def apart(self, value: Value, found: Array) -> float | None:
        """How far `found` is from the value, one of the graph's outputs, beyond rounding; None where it is not."""
        far = difference(self.values[value], found, self.wide[value] if self.wide else None)
        if far is None or far <= FURTHER * self._moves.get(value, 0.0):
            return None
        return far

    @cached_property
    def _moves(self) -> dict[Value, float]:
        """How far outputs move when inputs change in the last place; without those that move by half of their digits,
        as where a comparison comes out another way."""
        floating = [a for a in self.inputs if dtypes.from_numpy(a.dtype).is_floating_point and a.size]
        if not floating:
            return {}
        with np.errstate(all="ignore"):
            size = max(
                float(np.abs(np.nan_to_num(a.astype(np.float64), posinf=0, neginf=0)).max()) for a in floating
            )
            moves: dict[Value, float] = {}
            for seed in range(TURNS):
                rng = np.random.default_rng(seed)
                try:
                    moved = values_of(self.graph, [_moved(a, rng) for a in self.inputs], self.bindings)
                except ARITHMETIC_ERRORS:
                    return {}
                for value in self.graph.outputs:
                    dtype = value.type.dtype
                    if dtype.is_floating_point and moved[value].shape == self.values[value].shape:
                        far = _distance(self.values[value], moved[value])
                        if far <= math.sqrt(_eps(dtype)) * size:
                            moves[value] = max(moves.get(value, 0.0), far)
        return moves


def _moved(array: Array, rng: np.random.Generator) -> Array:
    """Floating numbers a unit in the last place larger or smaller."""
    dtype = dtypes.from_numpy(array.dtype)
    if not dtype.is_floating_point:
        return array
    signs = rng.choice((-1.0, 1.0), array.shape)
    return np.asarray(array.astype(np.float64) * (1 + signs * _eps(dtype))).astype(array.dtype)


def _distance(a: Array, b: Array) -> float:
    apart = np.abs(a.astype(np.float64) - b.astype(np.float64))
    return float(np.nan_to_num(apart, nan=0.0, posinf=np.inf).max(initial=0.0))


def difference(reference: Array, found: Array, exact: Array | None = None) -> float | None:
    """None where the arrays agree, else the largest difference (inf where only one is NaN, or the types differ)."""
    if found.shape != reference.shape or found.dtype != reference.dtype:
        return float("inf")
    if not reference.size:
        return None
    dtype = dtypes.from_numpy(reference.dtype)
    if exact is not None and exact.shape != reference.shape:
        exact = None
    if dtype.kind not in ("float", "complex"):
        wrong = found != reference
        if exact is not None:
            wrong &= reference == exact.astype(reference.dtype)
        return (
            float(np.abs(found[wrong].astype(float) - reference[wrong].astype(float)).max())
            if wrong.any()
            else None
        )
    wide = np.complex128 if dtype.kind == "complex" else np.float64
    a, b = reference.astype(wide), found.astype(wide)
    with np.errstate(all="ignore"):
        same = (a == b) | (np.isnan(a) & np.isnan(b))
        apart = np.where(same, 0.0, np.abs(a - b))
        apart[np.isnan(apart)] = np.inf
        size = np.where(np.isfinite(a), np.abs(a), 0.0)
        eps = _eps(dtype)
        most = ULPS * eps * (size + np.sqrt(np.mean(size**2)))
        if (apart <= most).all():
            return None
        if exact is not None:
            near, far = _error(a, exact), _error(b, exact)
            if far <= FURTHER * near + FLOOR_ULPS * eps * size.max():
                return None
    return float(apart.max())


def _error(array: Array, exact: Array) -> float:
    """The largest distance from the float64 result. What is NaN or infinite alike is no error; what float64 still holds
    but the type cannot, is."""
    same = (array == exact) | (np.isnan(array) & np.isnan(exact))
    apart = np.where(same, 0.0, np.abs(array - exact))
    return float(np.where(np.isnan(apart), np.inf, apart).max())


def _eps(dtype: DType) -> float:
    return {"f16": 2.0**-10, "bf16": 2.0**-7, "f32": 2.0**-23, "c64": 2.0**-23}.get(dtype.name, 2.0**-52)
