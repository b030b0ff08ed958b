"""Where the code of a fused graph runs: the processor, or a GPU. What `bisect.py` holds against the interpreter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from ..codegen import gpu as gpu_lowering
from ..codegen import lower as cpu_lowering
from ..codegen.loops.nodes import Program
from ..codegen.lower import LowerOptions
from ..codegen.target import Target
from ..ir.graph import Graph
from . import execute
from .gpu import execute as gpu_execute
from .gpu.arrays import Gpu

Array = np.ndarray[Any, Any]


class Machine(Protocol):
    """`device`: "cuda" or ""; `ways`: how a program is run, by name, with how many threads."""

    @property
    def device(self) -> str: ...
    @property
    def ways(self) -> Mapping[str, int]: ...

    def lower(self, fused: Graph, options: LowerOptions) -> Program: ...

    def run(
        self, program: Program, inputs: Sequence[Array], bindings: Mapping[str, int], threads: int
    ) -> list[Array]: ...


@dataclass(frozen=True)
class Processor:
    """This machine's processor, with one thread and with several."""

    target: Target
    threads: int = 2
    device = ""

    @property
    def ways(self) -> Mapping[str, int]:
        several = {f"compiled, {self.threads} threads": self.threads} if self.threads > 1 else {}
        return {"compiled, 1 thread": 1, **several}

    def lower(self, fused: Graph, options: LowerOptions) -> Program:
        return cpu_lowering.lower_graph(fused, self.target, options)

    def run(
        self, program: Program, inputs: Sequence[Array], bindings: Mapping[str, int], threads: int
    ) -> list[Array]:
        return execute.run_program(program, inputs, bindings, threads, self.target)


@dataclass(frozen=True)
class Graphics:
    """A GPU of this process."""

    gpu: Gpu
    device = "cuda"

    @property
    def ways(self) -> Mapping[str, int]:
        return {f"compiled, {self.gpu}": 1}

    def lower(self, fused: Graph, options: LowerOptions) -> Program:
        return gpu_lowering.lower_graph(fused, self.gpu.target, options)

    def run(
        self, program: Program, inputs: Sequence[Array], bindings: Mapping[str, int], threads: int
    ) -> list[Array]:
        return gpu_execute.run_program(program, inputs, bindings, self.gpu)
