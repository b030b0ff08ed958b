"""A kernel of the loop IR as an LLVM function for NVPTX.

    kernel(ptr p0, ..., ptr p{n-1}, map m0, ..., i64 d0, ..., ptr status)

The addresses of the kernel's params in order, its tensor maps, the values of its dims in order, the status word. The
block loop is the grid, a thread loop is the code of every thread; barriers stand where `loops/barriers.py` says.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from ...ir import dims, dtypes
from ..llvm.emit import EmitOptions, KernelEmitter
from ..llvm.metadata import MAX_ALIAS_CLASSES
from ..llvm.repeat import loop as repeated
from ..llvm.text import Value, const, memory_type
from ..loops.barriers import barriers
from ..loops.nodes import (
    STAGE_ALIGNMENT,
    Buffer,
    Check,
    CopyAsync,
    CopyCommit,
    CopyWait,
    For,
    Kernel,
    Load,
    LoadFragment,
    MultiplyGroup,
    MultiplyTile,
    Pipeline,
    Stmt,
)
from ..loops.walk import statements
from ..target import TENSOR_MAP_ALIGNMENT, TENSOR_MAP_BYTES, GpuTarget
from .copies import commit_copies, copy_async, wait_for_copies
from .expressions import PtxExpressions
from .pipeline import emit_pipeline
from .resident import by_turns, turn_name, turn_of
from .tensor_core import load_fragment, multiply_tile
from .warpgroup import emit_multiply_group, swizzled

ZEROS = "@zeros"
ZEROS_BYTES = 16
# Bytes that every buffer's address is a multiple of, unless it is a part that begins elsewhere.
ALIGNMENT = 16


_STOP = (
    "%failed = load i32, ptr %status, align 4",
    "%stops = icmp ne i32 %failed, 0",
    "br i1 %stops, label %stopped, label %running",
    "stopped:",
    "ret void",
    "running:",
)


@dataclass(frozen=True)
class KernelText:
    """A kernel's function, with `@KERNEL` for its name, its shared memory, and what the module must hold for it.
    `shared_bytes` is what a launch must ask for."""

    text: str
    shared: tuple[tuple[str, str], ...]
    declarations: tuple[tuple[str, str], ...]
    alias_classes: int
    uses_zeros: bool
    shared_bytes: int


def emit_kernel(
    kernel: Kernel,
    target: GpuTarget,
    alias_class: Sequence[int],
    aligned: Sequence[int],
    may_stop: bool = False,
) -> KernelText:
    """The kernel's function. `alias_class[i]` numbers the groups of params that may overlap; `aligned[i]` is what the
    address of a param is a multiple of. `may_stop`: where a check has failed in an earlier launch, it does nothing, so
    that what it would overwrite stays as it was."""
    return PtxEmitter(kernel, target, alias_class, aligned).kernel_text(may_stop)


class PtxEmitter(KernelEmitter):
    def __init__(self, kernel: Kernel, target: GpuTarget, alias_class: Sequence[int], aligned: Sequence[int]):
        if not kernel.on_gpu:
            raise ValueError(f"kernel {kernel.name} has no block loop: it was not lowered for a GPU")
        self.aligned = aligned
        self.shared: dict[str, str] = {}
        self.shared_bytes = 0
        # Of shared buffers: the pointer in their own space.
        self.places: dict[Buffer, str] = {}
        kernel = by_turns(kernel)
        self.waits = barriers(kernel)
        self.swizzled = swizzled(kernel.body)
        super().__init__(kernel, target, None, alias_class, EmitOptions())
        self.expressions: PtxExpressions = PtxExpressions(
            kernel.name, self.w, self.ops, self.index, self.memory
        )
        self.memory.zeros = f"addrspacecast (ptr addrspace(1) {ZEROS} to ptr)"
        self.index.narrow_quotients = True
        self.thread = self._register("tid.x")

    def _register(self, name: str) -> Value:
        """A special register, as i64."""
        full = f"@llvm.nvvm.read.ptx.sreg.{name}"
        self.w.declare(full, f"declare i32 {full}()")
        narrow = self.w.pure(f"call i32 {full}()", 0, dtypes.u32)
        return self.ops.convert(narrow, dtypes.i64)

    def _bind_params(self, classes: list[int]) -> None:
        memory = self.memory
        count = len(set(classes))
        memory.classes = count if count <= MAX_ALIAS_CLASSES else 0
        written = {c for buffer, c in zip(self.kernel.params, classes) if buffer.name in self.kernel.writes}
        for position, (buffer, number) in enumerate(zip(self.kernel.params, classes)):
            memory.pointers[buffer] = Value(f"%p{position}", dtypes.i64)
            memory.alias_class[buffer] = number
            memory.aligned[buffer] = self.aligned[position]
            if number not in written:
                memory.read_only.add(buffer)

    def _bind_dims(self) -> None:
        for position, dim in enumerate(self.kernel.dims):
            self.index.env[dim.name] = Value(f"%d{position}", dtypes.i64)

    def _bind_locals(self) -> None:
        """Shared memory: variables of the kernel; if they are large, places in one array whose size the launch tells."""
        offsets: dict[Buffer, int] = {}
        aligned: dict[Buffer, int] = {}
        for stmt in statements(self.kernel.body):
            if isinstance(stmt, Pipeline):
                aligned |= dict.fromkeys((stmt.left.stages, stmt.right.stages), STAGE_ALIGNMENT)
        aligned |= dict.fromkeys(self.swizzled, STAGE_ALIGNMENT)
        total = 0
        for buffer in self.kernel.locals:
            if buffer.space == "shared":
                size, begin = buffer.nbytes, aligned.setdefault(buffer, ALIGNMENT)
                assert isinstance(size, int)
                offsets[buffer] = -(-total // begin) * begin
                total = offsets[buffer] + -(-size // ALIGNMENT) * ALIGNMENT
        assert isinstance(self.target, GpuTarget)
        if total > self.target.most_shared_bytes:
            raise ValueError(
                f"kernel {self.kernel.name}: {total} bytes of shared memory, {self.target.name} has less"
            )
        asked = total > self.target.shared_bytes
        if asked:
            self.shared_bytes = total
            whole = "@KERNEL_shared"
            self.shared[whole] = (
                f"{whole} = external addrspace(3) global [0 x i8], align {max(aligned.values())}"
            )
        for number, (buffer, offset) in enumerate(offsets.items()):
            name = f"@KERNEL_shared_{number}"
            if not asked:
                array = f"[{buffer.numel} x {memory_type(buffer.dtype)}]"
                self.shared[name] = (
                    f"{name} = internal addrspace(3) global {array} undef, align {aligned[buffer]}"
                )
                place = f"ptr addrspace(3) {name}"
            else:
                place = f"ptr addrspace(3) getelementptr (i8, ptr addrspace(3) {whole}, i64 {offset})"
            self.places[buffer] = place
            self.memory.aligned[buffer] = ALIGNMENT
            self.memory.pointers[buffer] = Value(f"addrspacecast ({place} to ptr)", dtypes.i64)

    def kernel_text(self, may_stop: bool) -> KernelText:
        grid = self.kernel.grid
        if self.kernel.resident:
            self.block_number = self._register("ctaid.x")
            self._block(self.kernel.body)
        else:
            assert grid is not None
            self.index.env[grid.var] = 0 if grid.extent == 1 else self._register("ctaid.x")
            self._block(grid.body)
        lines = self.w.lines()
        params = [f"ptr align {a} %p{i}" for i, a in enumerate(self.aligned)]
        seen = f'ptr byval([{TENSOR_MAP_BYTES} x i8]) align {TENSOR_MAP_ALIGNMENT} "nvvm.grid_constant"'
        params += [f"{seen} %m{i}" for i in range(len(self.kernel.maps))]
        params += [f"i64 %d{i}" for i in range(len(self.kernel.dims))]
        params += ["ptr align 4 %meeting"] if self.kernel.resident else []
        params.append("ptr align 4 %status")
        if may_stop and not self._checks():  # its own checks may change the word meanwhile
            allocas = [line for line in lines if " = alloca " in line]
            lines = [*allocas, *_STOP, *(line for line in lines if " = alloca " not in line)]
        body = "\n".join(lines)
        threads = max(self.kernel.threads, 1)
        text = (
            f'define ptx_kernel void @KERNEL({", ".join(params)}) nounwind "nvvm.maxntid"="{threads}" {{\n'
            f"entry:\n{body}\nret void\n}}\n"
        )
        return KernelText(
            text,
            tuple(sorted(self.shared.items())),
            tuple(sorted(self.w.declarations.items())),
            self.memory.classes,
            self.memory.uses_zeros,
            self.shared_bytes,
        )

    def _checks(self) -> bool:
        return any(isinstance(stmt, Check) for stmt in statements(self.kernel.body))

    def _for(self, loop: For) -> None:
        if loop.kind == "block":
            self._resident_blocks(loop)
            return
        if loop.kind != "thread":
            super()._for(loop)
            return
        assert isinstance(loop.extent, int)
        some = loop.extent < self.kernel.threads
        mine = self.ops.compare("slt", self.thread, const(loop.extent, dtypes.i64)) if some else None
        with self.known({loop.var: self.thread}), self.w.branch_if(mine):
            self._block(loop.body)

    def _resident_blocks(self, loop: For) -> None:
        """The iterations number block, block + resident, ...; then all blocks meet."""
        count = self.kernel.resident
        turn, turns = turn_of(loop, count)
        block = dims.symbol("block", 0, count - 1)
        with self.known({"block": self.block_number}), repeated(self.w, self.index, turn_name(loop), turns):
            number = self.index.value(turn * count + block)
            every = isinstance(loop.extent, int) and loop.extent % count == 0
            there = None if every else self.ops.compare("slt", number, self.index.value(loop.extent))
            with self.w.branch_if(there), self.known({loop.var: number}):
                self._block(loop.body)
        self._meet()

    def _meet(self) -> None:
        """All blocks wait for each other. Each adds to a word, the first one as much as turns the highest bit over when
        all have come, so that the others are what they were; then it waits for that bit (as cooperative groups do)."""
        self.barrier()
        count, w = self.kernel.resident, self.w
        if count == 1:
            return
        is_first = self.ops.compare("eq", self.block_number, const(0, dtypes.i64))
        with w.branch_if(self.ops.compare("eq", self.thread, const(0, dtypes.i64))):
            number, add = w.fresh(""), w.fresh("%add")
            w.line(f"{add} = select {is_first}, i32 {(1 << 31) - (count - 1)}, i32 1")
            before, now = w.fresh("%before"), w.fresh("%now")
            atom = 'asm sideeffect "atom.add.acq_rel.gpu.u32 $0, [$1], $2;", "=r,l,r,~{memory}"'
            w.line(f"{before} = call i32 {atom}(ptr %meeting, i32 {add})")
            w.line(f"br label %meet{number}")
            w.line(f"meet{number}:")
            load = 'asm sideeffect "ld.acquire.gpu.u32 $0, [$1];", "=r,l,~{memory}"'
            w.line(f"{now} = call i32 {load}(ptr %meeting)")
            changed, waits = w.fresh("%changed"), w.fresh("%waits")
            w.line(f"{changed} = xor i32 {now}, {before}")
            w.line(f"{waits} = icmp sge i32 {changed}, 0")
            w.line(f"br i1 {waits}, label %meet{number}, label %met{number}")
            w.line(f"met{number}:")
        self.barrier()

    def _statement(self, stmt: Stmt) -> None:
        self.expressions.forget()
        if id(stmt) in self.waits:
            self.barrier()
        match stmt:
            case MultiplyTile():
                multiply_tile(self, stmt)
            case MultiplyGroup():
                emit_multiply_group(self, stmt)
            case LoadFragment():
                load_fragment(self, stmt)
            case CopyAsync():
                copy_async(self, stmt)
            case CopyCommit():
                commit_copies(self)
            case CopyWait():
                wait_for_copies(self, stmt)
            case Pipeline():
                emit_pipeline(self, stmt)
            case _:
                super()._statement(stmt)

    def call(self, name: str, argument: str = "") -> None:
        """Of an intrinsic without a result."""
        self.w.declare(name, f"declare void {name}({argument.split()[0] if argument else ''})")
        self.w.line(f"call void {name}({argument})")

    def address(self, load: Load) -> Value:
        """Of an element."""
        return self.memory.address(load.buffer, self.index.decompose(load.buffer.offset(load.index)))

    def in_space(self, pointer: Value, space: int) -> str:
        """A generic pointer as one of an address space: 1 is global memory, 3 shared."""
        cast = f"addrspacecast ptr {pointer.text} to ptr addrspace({space})"
        return self.w.pure(cast, pointer.level, dtypes.i64, cheap=True).text

    @contextmanager
    def known(self, values: Mapping[str, Value | int]) -> Iterator[None]:
        """Inside the block, indices know these variables."""
        saved = self.index.env
        self.index.env = {**saved, **values}
        yield
        self.index.env = saved

    def barrier(self) -> None:
        self.call("@llvm.nvvm.barrier0")

    def _check(self, stmt: Check) -> None:
        condition = self.expressions.value(stmt.condition)
        failed = self.ops.apply("not", [condition], dtypes.bool_)
        with self.w.branch_if(failed):
            self.w.line(f"cmpxchg ptr %status, i32 0, i32 {stmt.code} monotonic monotonic")
