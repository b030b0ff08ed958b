"""What a failed finite check found: the op, the user's line, the first bad index, the ranges of the operands.

The program stopped right after the group that made the value, with its operands still in memory
(`codegen/lower/finite.py`). That one group is computed again by the interpreter to find which of its ops began it; a
group in the body of a scan, in the step where it happened.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..codegen.loops.nodes import Buffer, FiniteCheck, Held, Program, whole
from ..ir import dims
from ..ir.graph import Node, Value
from ..ir.interpreter import bound_attrs, evaluate_node
from ..ir.types import TensorType
from ..passes.autodiff import BACKWARD

Array = np.ndarray[Any, Any]


class NotFiniteError(RuntimeError):
    """A compiled function computed NaN, or an infinite number where these are looked for."""


@dataclass(frozen=True)
class Memory:
    """A run's memory: the tables of data pointers, the arena's address, the values of the dims, and how bytes at an
    address are read."""

    inputs: Sequence[int] | ctypes.Array[ctypes.c_int64]
    outputs: Sequence[int] | ctypes.Array[ctypes.c_int64]
    arena: int
    bindings: Mapping[str, int]
    read: Callable[[int, int], bytes] = ctypes.string_at

    def array(self, program: Program, buffer: Buffer, start: dims.DimLike, type_: TensorType) -> Array | None:
        """A copy of the value of this type that begins at an element of the buffer; None where that cannot be told."""
        if buffer is not whole(buffer) or buffer in program.late:
            return None
        if buffer in program.outputs:
            address = self.outputs[program.outputs.index(buffer)]
        elif buffer in program.inputs:
            address = self.inputs[program.inputs.index(buffer)]
        elif buffer in program.lenders:
            lender = program.lenders[buffer]
            offset = dims.evaluate(program.offsets[buffer.name], self.bindings)
            address = self.outputs[program.outputs.index(lender)] + offset
        else:
            address = self.arena + dims.evaluate(program.offsets[buffer.name], self.bindings)
        bound = type_.bind(self.bindings)
        dtype = bound.dtype.numpy
        size = int(np.prod(bound.sizes, dtype=np.int64)) * dtype.itemsize
        first = address + dims.evaluate(start, self.bindings) * dtype.itemsize
        return np.frombuffer(self.read(first, size), dtype).reshape(bound.sizes)


@dataclass(frozen=True)
class _Origin:
    """The node that began it, its operands and result, and the step of the scan it was in."""

    node: Node
    value: Value
    operands: Sequence[tuple[Value, Array]]
    result: Array | None
    step: int | None = None


def finite_error(
    program: Program, check: FiniteCheck, name: str, nan_only: bool, memory: Memory | None
) -> NotFiniteError:
    """The error of a check that failed in a run of the compiled graph called `name`."""
    origin = _find(program, check, nan_only, memory) if memory is not None else None
    if origin is None:
        origin = _Origin(_producer(check.group.node, check.value), check.value, (), None)
    return NotFiniteError(_message(origin, check.group.node.attrs["name"], name, nan_only))


def _find(program: Program, check: FiniteCheck, nan_only: bool, memory: Memory) -> _Origin | None:
    bindings = dict(memory.bindings)

    def operands(held: Held) -> list[Array] | None:
        places = zip(held.node.inputs, held.operands)
        found = [memory.array(program, buffer, start, v.type) for v, (buffer, start) in places]
        return None if any(a is None for a in found) else [a for a in found if a is not None]

    if check.scans:
        arrays = operands(check.scans[0])
        return _in_scan(check.scans[0].node, arrays, bindings, nan_only) if arrays is not None else None
    arrays = operands(check.group)
    if arrays is None:
        return None
    origin = _in_group(check.group.node, arrays, bindings, nan_only)
    if origin is not None:
        return origin
    # The interpreter rounds otherwise than the kernel and stays finite: what is in memory has to do.
    result = memory.array(program, check.buffer, 0, check.value.type)
    node = _producer(check.group.node, check.value)
    return _Origin(node, check.value, list(zip(check.group.node.inputs, arrays)), result)


def _producer(group: Node, value: Value) -> Node:
    """The node of the group's body that makes the value."""
    (body,) = group.regions
    return body.producers()[body.outputs[group.outputs.index(value)]]


def _bad(array: Array, nan_only: bool) -> Array:
    if array.dtype.kind not in "fV":  # the small float types are `V` to NumPy
        return np.zeros(array.shape, bool)
    return np.isnan(array) if nan_only else ~np.isfinite(array)


def _in_group(
    group: Node, arrays: Sequence[Array], bindings: dict[str, int], nan_only: bool
) -> _Origin | None:
    """Where it began within a group that has a bad result: from that back, through operands that are bad alike."""
    (body,) = group.regions
    env: dict[Value, Array] = dict(zip(body.inputs, arrays))
    for node in body.nodes:
        env.update(zip(node.outputs, evaluate_node(node, [env[v] for v in node.inputs], bindings)))
    at = next((v for v in body.outputs if _bad(env[v], nan_only).any()), None)
    if at is None:
        return None
    producers = body.producers()
    alike = nan_only or bool(
        _bad(env[at], True).any()
    )  # NaN comes from NaN; an infinite number may be the start of it
    while True:
        node = producers[at]
        before = [v for v in node.inputs if v in producers and _bad(env[v], alike).any()]
        if not before:
            return _Origin(node, at, [(v, env[v]) for v in node.inputs], env[at])
        at = before[0]


class _Found(Exception):
    def __init__(self, origin: _Origin):
        self.origin = origin


def _in_scan(scan: Node, arrays: Sequence[Array], bindings: dict[str, int], nan_only: bool) -> _Origin | None:
    """The first group of the first step that has a bad result."""
    assert scan.op.region is not None
    (body,) = scan.regions
    steps = 0

    def step(*values: Array) -> tuple[Array, ...]:
        nonlocal steps
        env = dict(zip(body.inputs, values))
        for node in body.nodes:
            given = [env[v] for v in node.inputs]
            inner = _in_group if node.op.name == "fused" else _in_scan
            origin = inner(node, given, bindings, nan_only)
            if origin is not None:
                raise _Found(_Origin(origin.node, origin.value, origin.operands, origin.result, steps))
            env.update(zip(node.outputs, evaluate_node(node, given, bindings)))
        steps += 1
        return tuple(env[v] for v in body.outputs)

    try:
        scan.op.region.numpy(step, arrays, bound_attrs(scan, bindings))
    except _Found as found:
        return found.origin
    return None


# -- words ------------------------------------------------------------------------------------------------------------


def _message(origin: _Origin, group: str, name: str, nan_only: bool) -> str:
    node, location = origin.node, origin.node.location
    what, where = "NaN" if nan_only else "NaN or an infinite number", ""
    if origin.result is not None:
        found = np.argwhere(_bad(origin.result, nan_only))
        if len(found):
            first = tuple(int(i) for i in found[0])
            what = "NaN" if np.isnan(origin.result[first]) else str(float(origin.result[first]))
            where = f" at {list(first)} of {_type(origin.result)}"
            if len(found) > 1:
                where += f" (and {len(found) - 1} more)"
    backward = location is not None and location.module.endswith(BACKWARD)
    backward = backward or name.endswith(".backward")
    lines = [
        f"{node.op.name} gave {what}{where}, in the {'backward' if backward else 'forward'} pass"
        + (f" of {location}" if location is not None else "")
        + f" (compiled {name}, kernel {group}"
        + (f", step {origin.step} of a loop)" if origin.step is not None else ")")
    ]
    lines += [f"  %{value.name}: {_type(array)}, {_range(array)}" for value, array in origin.operands]
    return "\n".join(lines)


def _type(array: Array) -> str:
    return f"{array.dtype.name}{list(array.shape)}"


def _range(array: Array) -> str:
    """The range of the finite elements, and how many are not."""
    if not array.size:
        return "empty"
    if array.dtype.kind not in "fV":
        return f"from {array.min()} to {array.max()}"
    wide = array.astype(np.float64)
    finite = wide[np.isfinite(wide)]
    parts = [f"from {finite.min():.6g} to {finite.max():.6g}"] if finite.size else []
    counts = (
        (np.isnan(wide), "NaN"),
        (np.isposinf(wide), "inf"),
        (np.isneginf(wide), "-inf"),
        (wide == 0, "zero"),
    )
    parts += [f"{int(where.sum())} times {what}" for where, what in counts if where.any()]
    return ", ".join(parts)


__all__ = ["Memory", "NotFiniteError", "finite_error"]
