"""A loop program run through the whole way to a device: emitted as PTX, loaded, launched."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ...codegen.loops.nodes import Program
from ...codegen.ptx import emit_ptx
from ...ir import dims
from ..execute import CheckError
from ..finite_checks import Memory
from . import arrays
from .arrays import Gpu
from .loaded import LoadedGpuProgram
from .plan import plan_data
from .runner import Runner

Array = np.ndarray[Any, Any]


def run_program(
    program: Program, inputs: Sequence[Array], bindings: Mapping[str, int], gpu: Gpu
) -> list[Array]:
    """The program's outputs for these inputs, which stay as they are. CheckError where a check fails."""

    def error(code: int, memory: Memory) -> Exception:
        return CheckError(code, program.messages.get(code, f"{program.name}: check {code} failed"))

    emitted = emit_ptx(program, gpu.target)
    loaded = LoadedGpuProgram(gpu, emitted.text, plan_data(emitted), error, program.name)
    given = [arrays.from_host(gpu, array) for array in inputs]
    where = dict(zip(program.inputs, given))
    made = []
    for number, buffer in enumerate(program.outputs):
        if buffer not in where and number not in loaded.late_outputs:
            shape = tuple(dims.evaluate(d, bindings) for d in buffer.shape)
            where[buffer] = arrays.empty(gpu, shape, buffer.dtype.numpy)
        made.append(where.get(buffer))
    addresses = [a.address if a is not None else 0 for a in (*given, *made)]
    run = Runner(loaded, bindings).run(addresses, (gpu.stream, *addresses))
    return [(run.outputs[i] if array is None else array).to_host() for i, array in enumerate(made)]
