"""A whole program as PTX: its kernels, each structure once, and the launches that run them.

    .visible .entry NAME(.param .u64 p0, ..., .param .u64 d0, ..., .param .u64 status)

p: addresses of the launch's args in order, multiples of 16; d: the values of the kernel's dims in order, as i64; status:
the address of a 32-bit word, in which the first check that fails puts its code. Grid and block have one dimension.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ...ir.dims import DimLike
from ..llvm.metadata import module_metadata
from ..llvm.program import alias_classes
from ..loops.nodes import Buffer, HostCall, Kernel, Launch, Part, Program, Repeat, whole
from ..target import GpuTarget
from .compile import compile_ptx
from .emit import ALIGNMENT, ZEROS, ZEROS_BYTES, KernelText, emit_kernel


@dataclass(frozen=True)
class PtxLaunch:
    """One launch: `grid` blocks of `threads` threads; none where the grid is 0. `shared_bytes` counts shared memory to
    ask for at the launch, beyond what the kernel declares itself. `resident`: all blocks must be on the machine at once,
    and the address of a word of zeros, at which they meet, stands before the status word's."""

    function: str
    grid: DimLike
    threads: int
    shared_bytes: int
    launch: Launch

    @property
    def resident(self) -> bool:
        assert isinstance(self.launch.kernel, Kernel)
        return self.launch.kernel.resident > 0


@dataclass(frozen=True)
class PtxProgram:
    """One PTX module, and the program's launches in order; repeats are run by the host (`loops/repeats.py`), or, where
    one is among `at_once` and the device allows it, by that launch. `llvm` is the text that the PTX was made of."""

    text: str
    launches: tuple[PtxLaunch | HostCall, ...]
    program: Program
    target: GpuTarget
    llvm: str = ""
    at_once: Mapping[Repeat, PtxLaunch] = field(default_factory=dict)


def emit_ptx(program: Program, target: GpuTarget) -> PtxProgram:
    """The program's PTX. A kernel that several launches share is emitted once."""
    names: dict[KernelText, str] = {}
    emitted: dict[tuple[int, tuple[int, ...], tuple[int, ...]], KernelText] = {}
    repeats = [(r, r.at_once) for r in program.repeats if r.at_once is not None]
    found: list[PtxLaunch | HostCall] = []
    for launch in (*program.launches, *(launch for _, launch in repeats)):
        if isinstance(launch.kernel, HostCall):
            found.append(launch.kernel)
            continue
        classes = alias_classes(program, launch)
        aligned = tuple(alignment(arg) for arg in launch.args)
        key = (id(launch.kernel), classes, aligned)
        if key not in emitted:
            kernel = emit_kernel(launch.kernel, target, classes, aligned, may_stop=bool(program.messages))
            names.setdefault(kernel, f"{_safe(launch.kernel.name)}_{len(names)}")
            emitted[key] = kernel
        kernel, grid = emitted[key], launch.kernel.grid
        extent = launch.kernel.resident or (grid.extent if grid is not None else 0)
        found.append(PtxLaunch(names[kernel], extent, launch.kernel.threads, kernel.shared_bytes, launch))
    llvm = module_text(names, target) if names else ""
    text = compile_ptx(llvm, target) if names else ""
    launches, rest = found[: len(program.launches)], found[len(program.launches) :]
    at_once = {r: x for (r, _), x in zip(repeats, rest) if isinstance(x, PtxLaunch)}
    return PtxProgram(text, tuple(launches), program, target, llvm, at_once)


def module_text(kernels: dict[KernelText, str], target: GpuTarget) -> str:
    """One LLVM module of these kernels, by name."""
    lines = [f'target triple = "{target.triple}"']
    if any(k.uses_zeros for k in kernels):
        lines.append(
            f"{ZEROS} = internal unnamed_addr addrspace(1) constant [{ZEROS_BYTES} x i8] zeroinitializer, align 16"
        )
    for kernel, name in kernels.items():
        lines += [text.replace("@KERNEL", f"@{name}") for _, text in kernel.shared]
        lines.append(kernel.text.replace("@KERNEL", f"@{name}"))
    declarations = dict(d for k in kernels for d in k.declarations)
    lines += [declarations[name] for name in sorted(declarations)]
    lines += module_metadata({k.alias_classes for k in kernels})
    return "\n".join(lines) + "\n"


def alignment(buffer: Buffer) -> int:
    """What the buffer's address is a multiple of, up to 16: inputs, outputs and the arena's buffers begin so, parts
    where their size lets them."""
    result = ALIGNMENT
    while isinstance(buffer, Part):
        size = buffer.nbytes
        step = size if isinstance(size, int) else buffer.dtype.itemsize
        while step % result:
            result //= 2
        buffer = buffer.of
    return result if whole(buffer).dtype.itemsize <= result else whole(buffer).dtype.itemsize


def _safe(name: str) -> str:
    return "".join(c if c.isalnum() else "_" for c in name)
