"""Graphs as PTX, checked without a GPU: the loop interpreter, `ptxas`, and the PTX itself in the simulator."""

from __future__ import annotations

import importlib.metadata
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lowering import close, fused

from vitrify.codegen import gpu
from vitrify.codegen.loops import interpreter as loops
from vitrify.codegen.loops.nodes import Buffer, HostCall, Part
from vitrify.codegen.loops.repeats import Block, Step, program_steps
from vitrify.codegen.loops.verify import verify_program
from vitrify.codegen.lower import LowerOptions
from vitrify.codegen.ptx import PtxLaunch, PtxProgram, emit_ptx
from vitrify.codegen.target import GpuTarget
from vitrify.ir import dims, interpreter
from vitrify.ir.graph import Graph
from vitrify.runtime.gpu.tensor_maps import BoundMap, map_data, map_plan
from vitrify.runtime.ptx_simulator.device import SimulatorDevice

Array = np.ndarray[Any, Any]


def emitted(
    graph: Graph, arch: str = "sm_90a", fuse: bool = True, options: LowerOptions = LowerOptions()
) -> PtxProgram:
    """The graph's program and its PTX, both as they would run."""
    target = GpuTarget.named(arch)
    program = gpu.lower_graph(fused(graph, fuse), target, options)
    verify_program(program)
    return emit_ptx(program, target)


def check(
    graph: Graph, *inputs: Sequence[Array], interpret: bool = True, scale: float = 1.0, fuse: bool = True
) -> PtxProgram:
    """The program under the loop interpreter, and its PTX in the simulator, give what the graph's interpreter gives."""
    made = emitted(graph, fuse=fuse)
    for arrays in inputs:
        bindings = interpreter.bind_symbols(graph, arrays)
        want = interpreter.run(graph, arrays)
        if interpret:
            got, code = loops.run_program(made.program, arrays, bindings)
            assert code == 0, made.program.messages[code]
            for a, b in zip(got, want, strict=True):
                close(a, b, scale)
        for at_once in (True, False) if made.at_once else (False,):
            simulated, code = simulate(made, arrays, bindings, at_once)
            assert code == 0, made.program.messages[code]
            for a, b in zip(simulated, want, strict=True):
                close(a, b, scale)
    return made


def simulate(
    made: PtxProgram, arrays: Sequence[Array], bindings: Mapping[str, int], at_once: bool = True
) -> tuple[list[Array], int]:
    """The outputs of the PTX in the simulator, and the status it left. `at_once`: scans by resident kernels."""
    return _Run(made, dict(bindings), at_once).outputs(arrays)


class _Run:
    def __init__(self, made: PtxProgram, bound: dict[str, int], at_once: bool):
        self.made = made
        self.at_once = at_once
        self.device = SimulatorDevice()
        self.module = self.device.load(made.text) if made.text else None
        self.bound = bound
        self.addresses: dict[Buffer, int] = {}

    def put(self, array: Array) -> int:
        address = self.device.alloc(max(array.nbytes, 1))
        self.device.to_device(address, np.ascontiguousarray(array))
        return address

    def outputs(self, arrays: Sequence[Array]) -> tuple[list[Array], int]:
        program, bound = self.made.program, self.bound
        for buffer, array in zip(program.inputs, arrays, strict=True):
            self.addresses[buffer] = self.put(array)
        results = []
        for buffer in program.outputs:
            shape = tuple(dims.evaluate(d, bound) for d in buffer.shape)
            results.append(np.zeros(shape, buffer.dtype.numpy))
            if buffer not in self.addresses:
                self.addresses[buffer] = self.put(results[-1])
        arena = self.device.alloc(max(dims.evaluate(program.arena_bytes, bound), 16))
        for buffer in program.arena:
            self.addresses[buffer] = arena + dims.evaluate(program.offsets[buffer.name], bound)
        self.status = self.put(np.zeros(1, np.int32))
        self.meeting = self.put(np.zeros(1, np.int32))
        self.steps(program_steps(program), bound)
        self.device.synchronize()
        status = np.zeros(1, np.int32)
        self.device.to_host(status, self.status)
        for buffer, result in zip(program.outputs, results, strict=True):
            self.device.to_host(result, self.addresses[buffer])
        return results, int(status[0])

    def steps(self, steps: Sequence[Step], bound: dict[str, int]) -> None:
        for step in steps:
            if isinstance(step, Block) and self.at_once and step.repeat in self.made.at_once:
                self.launch(self.made.at_once[step.repeat], bound)
            elif isinstance(step, Block):
                for i in range(dims.evaluate(step.repeat.count, bound)):
                    self.steps(step.steps, {**bound, step.repeat.var: i})
            else:
                self.launch(self.made.launches[step[0]], bound)

    def launch(self, launch: PtxLaunch | HostCall, bound: dict[str, int]) -> None:
        if isinstance(launch, HostCall):
            pytest.skip(f"{launch.name} runs on the host")
        grid = dims.evaluate(launch.grid, bound)
        if grid:
            assert self.module is not None
            args: list[int | BoundMap] = [self.address(a, bound) for a in launch.launch.args]
            kernel = launch.launch.kernel
            for seen in kernel.maps:
                number, found = map_plan(map_data(seen, kernel.params.index(seen.buffer))).bound(bound)
                args.append(replace(found, address=args[number] + found.address))
            args += [bound[s.name] for s in launch.launch.kernel.dims]
            function = self.module.function(launch.function)
            run, words = self.device.launch, [self.status]
            if launch.resident:
                run, words = self.device.launch_together, [self.meeting, self.status]
            run(function, grid, launch.threads, launch.shared_bytes, [*args, *words])

    def address(self, buffer: Buffer, bound: dict[str, int]) -> int:
        if isinstance(buffer, Part):
            start = dims.evaluate(buffer.index, bound) * dims.evaluate(buffer.nbytes, bound)
            return self.address(buffer.of, bound) + start
        return self.addresses[buffer]


@cache
def ptxas() -> Path | None:
    """The assembler of the package nvidia-cuda-nvcc, or of a CUDA toolkit on this machine."""
    try:
        files = importlib.metadata.files("nvidia-cuda-nvcc") or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    found = [str(f.locate()) for f in files if f.name == "ptxas"]
    toolkit = shutil.which("ptxas") or shutil.which("ptxas", path="/usr/local/cuda/bin")
    return Path(found[0]) if found else Path(toolkit) if toolkit else None


@dataclass(frozen=True)
class Assembled:
    """What `ptxas -v` says of a kernel."""

    registers: int
    spilled: int
    stack: int


def assemble(text: str, arch: str, folder: Path) -> dict[str, Assembled]:
    """The kernels of a PTX module by name, assembled; what ptxas says is the failure's message."""
    program = ptxas()
    if program is None:
        pytest.skip("no ptxas: pip install nvidia-cuda-nvcc")
    source = folder / f"{arch}.ptx"
    source.write_text(text)
    command = [str(program), "-v", f"-arch={arch}", str(source), "-o", str(folder / f"{arch}.cubin")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = re.findall(
        r"Compiling entry function '(\w+)'.*?(\d+) bytes stack frame, (\d+) bytes spill stores.*?Used (\d+) registers",
        done.stderr,
        re.DOTALL,
    )
    return {name: Assembled(int(used), int(spilled), int(stack)) for name, stack, spilled, used in found}
