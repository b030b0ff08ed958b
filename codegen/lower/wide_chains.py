"""Chains of sixteen-bit operations in a group's body: computed in float32, rounded where they are stored.

An operation on sixteen-bit numbers computes in float32 and rounds its result. Where the next one of the same kernel
reads that result, rounding it in between would be work that makes it worse. So inside a body such operations are done on
float32. What the program itself converts stays converted, and what jumps (comparisons, floor) reads rounded numbers, so
that it jumps where it does in eager code. Strict numerics keep every rounding.

Exponentials whose results are only multiplied, divided and added up before they are rounded need no more places than the
rounding leaves (`codegen/short_math.py`).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ...ir import dtypes
from ...ir.graph import Graph, Node, Value
from ...ir.half_precision import HALF
from ...ir.op import Op, op_named
from ...passes.base import Rewriter
from ...passes.dce import DeadCodeElimination

# Their relative error is that of an operand, or the sum of two.
_KEEP_RELATIVE = frozenset({"mul", "div", "reciprocal", "neg"})
_SHORT = ("exp", "sigmoid")
_JUMPS = frozenset({"lt", "le", "gt", "ge", "eq", "ne", "isnan", "isinf", "isfinite", "sign"})
_JUMPS |= {"floor", "ceil", "round", "trunc", "floor_divide", "remainder"}
_JUMPS |= {"logical_and", "logical_or", "logical_xor", "logical_not"}


def in_float32(body: Graph, short: bool) -> Graph:
    """The body with roundings between its operations left out; `short`: with exponentials no better than needed."""
    if all(v.type.dtype not in HALF for node in body.nodes for v in (*node.inputs, *node.outputs)):
        return body
    body = _widened(body)
    return _shortened(body) if short else body


def _widened(body: Graph) -> Graph:
    readers = body.uses()
    builder = Rewriter(body)
    # What stands unrounded for a value of the old body.
    wide: dict[Value, Value] = {}

    def unrounded(value: Value) -> Value:
        if value.type.dtype not in HALF:
            (found,) = builder.mapped((value,))
        elif value in wide:
            found = wide[value]
        else:
            found = builder.convert(*builder.mapped((value,)), dtype=dtypes.f32)
        return found

    for node in body.nodes:
        builder.location = node.location
        value = node.outputs[0]
        if node.op.name == "convert" and node.inputs[0] in wide and value.type.dtype is dtypes.f32:
            builder.substitute(node, (wide[node.inputs[0]],))
        elif _computes(node) and (
            any(v in wide for v in node.inputs) or any(map(_takes_wide, readers[value]))
        ):
            result = builder.apply(node.op, [unrounded(v) for v in node.inputs], node.attrs)
            if value.type.dtype in HALF:
                wide[value] = result
                result = builder.convert(result, dtype=value.type.dtype)
            builder.substitute(node, (result,))
        else:
            builder.keep(node)
            if node.op.lowering == "view" and len(node.inputs) == 1 and node.inputs[0] in wide:
                wide[value] = builder.apply(node.op, [wide[node.inputs[0]]], node.attrs)
    return DeadCodeElimination().run(builder.done()) if wide else body


def _computes(node: Node) -> bool:
    """Whether it is an operation on sixteen-bit numbers, which rounds what it gives."""
    short = any(v.type.dtype in HALF for v in node.inputs)
    plain = node.op.lowering == "pointwise" and "dtype" not in node.op.attrs
    return short and plain and node.op.name not in _JUMPS


def _takes_wide(node: Node) -> bool:
    return _computes(node) or (node.op.name == "convert" and node.attrs["dtype"] is dtypes.f32)


def _shortened(body: Graph) -> Graph:
    readers = body.uses()
    outputs = set(body.outputs)

    def only_relative(value: Value, summed: bool) -> bool:
        """Whether all that is made of a value is rounded in the end, and has its relative error until then."""
        if value in outputs:
            return False
        for node in readers[value]:
            if node.op.name == "convert" and node.attrs["dtype"] in HALF:
                continue
            adds = summed and node.op.name == "sum"
            if not adds and node.op.name not in _KEEP_RELATIVE and node.op.lowering != "view":
                return False
            if not only_relative(node.outputs[0], node.op.lowering == "view" and summed):
                return False
        return True

    found = {
        node
        for node in body.nodes
        if node.op.name in _SHORT
        and node.outputs[0].type.dtype is dtypes.f32
        and only_relative(node.outputs[0], True)
    }
    if not found:
        return body
    builder = Rewriter(body)
    for node in body.nodes:
        if node in found:
            builder.location = node.location
            result = builder.apply(_short(node.op), builder.mapped(node.inputs), node.attrs)
            builder.substitute(node, (result,))
        else:
            builder.keep(node)
    return builder.done()


def _short(op: Op) -> Op:
    name = f"{op.name}_short"

    def scalar(s: Any, x: Any) -> Any:
        return s.function(name, x)

    return replace(op_named(op.name), name=name, scalar=scalar)
