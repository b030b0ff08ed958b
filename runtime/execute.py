"""A loop program run through the whole native path: emitted, compiled, loaded, called."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np

from ..codegen.llvm.compile import compile_modules
from ..codegen.llvm.emit import EmitOptions
from ..codegen.llvm.program import MODULE_INSTRUCTIONS, emit_program
from ..codegen.loops.nodes import Buffer, Program
from ..codegen.target import Target
from ..ir import dims
from .host_calls import FAILED, HostCalls, LateMemory, host_calls_data
from .loading import LoadedProgram

Array = np.ndarray[Any, Any]


class CheckError(RuntimeError):
    """A `Check` of the program failed; `code` is its number."""

    def __init__(self, code: int, message: str):
        super().__init__(message)
        self.code = code


def compile_program(
    program: Program,
    target: Target | None = None,
    options: EmitOptions = EmitOptions(),
    instructions: int = MODULE_INSTRUCTIONS,
) -> LoadedProgram:
    """The program compiled for the host and loaded."""
    target = target or Target.host()
    objects = compile_modules(emit_program(program, target, options, instructions), target, 2)
    stored = host_calls_data(program)
    return LoadedProgram(objects, HostCalls(stored, [d.name for d in program.dims]) if stored else None)


def run_program(
    program: Program,
    inputs: Sequence[Array],
    bindings: Mapping[str, int] | None = None,
    threads: int = 1,
    target: Target | None = None,
    loaded: LoadedProgram | None = None,
) -> list[Array]:
    """The program's outputs for these inputs; `bindings` gives the values of its symbolic dims.

    An output that is also an input (the same Buffer) starts as a copy of it. Raises ValueError where an input does
    not fit its buffer, CheckError where a check fails.
    """
    bound = dict(bindings or {})
    if len(inputs) != len(program.inputs):
        raise ValueError(f"{program.name} takes {len(program.inputs)} inputs, got {len(inputs)}")
    arrays: dict[Buffer, Array] = {}
    for buffer, array in zip(program.inputs, inputs):
        shape = _shape(buffer, bound)
        if array.shape != shape or array.dtype != buffer.dtype.numpy:
            raise ValueError(f"input {buffer} got {array.dtype}{list(array.shape)}, wanted {list(shape)}")
        arrays[buffer] = np.require(array, requirements="C")  # which leaves arrays without dims as they are
    for buffer in program.outputs:
        if buffer in arrays:
            arrays[buffer] = arrays[buffer].copy()
        elif buffer not in program.late:
            arrays[buffer] = np.empty(_shape(buffer, bound), buffer.dtype.numpy)
    arena = np.empty(dims.evaluate(program.arena_bytes, bound) + 64, np.uint8)
    start = -(-arena.ctypes.data // 64) * 64
    prepared = np.zeros(program.prepared_bytes + 64, np.uint8)
    values = (ctypes.c_int64 * max(1, len(program.dims)))(*[bound.get(d.name, 0) for d in program.dims])
    native = loaded or compile_program(program, target)
    missing = np.empty(0)
    with native.host_calls.late_memory() if native.host_calls else nullcontext(LateMemory()) as late:
        code = native.run(
            _addresses([*(arrays[b] for b in program.inputs), prepared[-prepared.ctypes.data % 64 :]]),
            _addresses([arrays.get(b, missing) for b in program.outputs]),
            start,
            ctypes.addressof(values),
            threads,
        )
    if code == FAILED and native.host_calls is not None:
        raise native.host_calls.take_error()[1]
    if code:
        raise CheckError(code, program.messages.get(code, f"{program.name}: check {code} failed"))
    return [late.outputs[i] if b in program.late else arrays[b] for i, b in enumerate(program.outputs)]


def _shape(buffer: Buffer, bindings: Mapping[str, int]) -> tuple[int, ...]:
    return tuple(dims.evaluate(d, bindings) for d in buffer.shape)


def _addresses(arrays: Sequence[Array]) -> Any:
    return (ctypes.c_void_p * max(1, len(arrays)))(*[a.ctypes.data for a in arrays])
