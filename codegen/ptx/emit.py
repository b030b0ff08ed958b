"""A kernel of the loop IR as an LLVM function for NVPTX.

    kernel(ptr p0, ..., ptr p{n-1}, map m0, ..., i64 d0, ..., ptr status)

The addresses of the kernel's params in order, its tensor maps, the values of its dims in order, the status word. The
block loop is the grid, a thread loop is the code of every thread; barriers stand where `loops/barriers.py` says.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...ir import dims, dtypes
from ...ir.dims import DimLike
from ..llvm.alias import MAX_ALIAS_CLASSES
from ..llvm.emit import EmitOptions, KernelEmitter
from ..llvm.expressions import ExpressionEmitter
from ..llvm.repeat import loop as repeated
from ..llvm.text import Value, const, memory_type
from ..loops.barriers import barriers
from ..loops.nodes import (
    Apply,
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
from ..target import GpuTarget
from .pipeline import MAP_ALIGNMENT, MAP_BYTES, STAGE_ALIGNMENT, emit_pipeline
from .resident import by_turns, turn_name, turn_of
from .warpgroup import emit_multiply_group, swizzled, swizzled_place

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


class _Expressions(ExpressionEmitter):
    """Expressions, among them shuffles and what only GPUs have an instruction for."""

    def _apply(self, expr: Apply) -> Value:
        if expr.op == "tf32":
            return self.rounded(self.value(expr.args[0]))
        if expr.op != "exp2_fast":
            return super()._apply(expr)
        name = "@llvm.nvvm.ex2.approx.ftz.f32"
        self.w.declare(name, f"declare float {name}(float)")
        x = self.value(expr.args[0])
        return self.w.pure(f"call float {name}({x})", x.level, dtypes.f32)

    def rounded(self, x: Value) -> Value:
        """As tf32."""
        name = "@llvm.nvvm.f2tf32.rna"
        self.w.declare(name, f"declare i32 {name}(float)")
        near = self.w.effect(f"call i32 {name}({x})", dtypes.u32)
        return self.ops.apply("bitcast", [near], dtypes.f32)

    def shuffle(self, value: Value, mask: int) -> Value:
        bits = value.dtype.itemsize * 8
        ops = self.ops
        if bits < 32:
            wide = ops.convert(value, dtypes.u32) if value.dtype is dtypes.bool_ else self._widened(value)
            moved = self._moved(wide, mask)
            if value.dtype is dtypes.bool_:
                return ops.compare("ne", moved, Value("0", dtypes.u32))
            return self._narrowed(moved, value)
        if bits == 32:
            return ops.apply(
                "bitcast", [self._moved(ops.apply("bitcast", [value], dtypes.u32), mask)], value.dtype
            )
        whole = ops.apply("bitcast", [value], dtypes.u64)
        low = ops.convert(whole, dtypes.u32)
        high = ops.convert(ops.apply("shr", [whole, Value("32", dtypes.u64)], dtypes.u64), dtypes.u32)
        halves = [ops.convert(self._moved(half, mask), dtypes.u64) for half in (low, high)]
        joined = ops.instruction(
            "or", [halves[0], ops.apply("shl", [halves[1], Value("32", dtypes.u64)], dtypes.u64)], dtypes.u64
        )
        return ops.apply("bitcast", [joined], value.dtype)

    def _widened(self, value: Value) -> Value:
        bits = self.ops.apply("bitcast", [value], dtypes.u16 if value.dtype.itemsize == 2 else dtypes.u8)
        return self.ops.convert(bits, dtypes.u32)

    def _narrowed(self, moved: Value, like: Value) -> Value:
        bits = self.ops.convert(moved, dtypes.u16 if like.dtype.itemsize == 2 else dtypes.u8)
        return self.ops.apply("bitcast", [bits], like.dtype)

    def _moved(self, value: Value, mask: int) -> Value:
        name = "@llvm.nvvm.shfl.sync.bfly.i32"
        self.w.declare(name, f"declare i32 {name}(i32, i32, i32, i32)")
        # Not `pure`: every thread of the warp must come to it together, so it stays where it is.
        return self.w.effect(f"call i32 {name}(i32 -1, i32 {value.text}, i32 {mask}, i32 31)", dtypes.u32)


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
        self.expressions: _Expressions = _Expressions(kernel.name, self.w, self.ops, self.index, self.memory)
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
        seen = f'ptr byval([{MAP_BYTES} x i8]) align {MAP_ALIGNMENT} "nvvm.grid_constant"'
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
        saved = self.index.env
        self.index.env = {**saved, loop.var: self.thread}
        assert isinstance(loop.extent, int)
        some = loop.extent < self.kernel.threads
        with self.w.branch_if(
            self.ops.compare("slt", self.thread, const(loop.extent, dtypes.i64)) if some else None
        ):
            self._block(loop.body)
        self.index.env = saved

    def _resident_blocks(self, loop: For) -> None:
        """The iterations number block, block + resident, ...; then all blocks meet."""
        count = self.kernel.resident
        turn, turns = turn_of(loop, count)
        block = dims.symbol("block", 0, count - 1)
        saved = self.index.env
        self.index.env = {**saved, "block": self.block_number}
        with repeated(self.w, self.index, turn_name(loop), turns):
            number = self.index.value(turn * count + block)
            every = isinstance(loop.extent, int) and loop.extent % count == 0
            with self.w.branch_if(
                None if every else self.ops.compare("slt", number, self.index.value(loop.extent))
            ):
                env = self.index.env
                self.index.env = {**env, loop.var: number}
                self._block(loop.body)
                self.index.env = env
        self.index.env = saved
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
                self._multiply(stmt)
            case MultiplyGroup():
                emit_multiply_group(self, stmt)
            case LoadFragment():
                self._load_fragment(stmt)
            case CopyAsync():
                self._copy(stmt)
            case Pipeline():
                emit_pipeline(self, stmt)
            case CopyCommit():
                self._call("@llvm.nvvm.cp.async.commit.group")
            case CopyWait():
                self._call("@llvm.nvvm.cp.async.wait.group", f"i32 {stmt.pending}")
                if self.swizzled:  # warpgroups read past what orders other accesses
                    self.w.line(
                        'call void asm sideeffect "fence.proxy.async.shared::cta;", "~{memory}"() convergent nounwind'
                    )
            case _:
                super()._statement(stmt)

    def _call(self, name: str, argument: str = "") -> None:
        self.w.declare(name, f"declare void {name}({argument.split()[0] if argument else ''})")
        self.w.line(f"call void {name}({argument})")

    def _load_fragment(self, stmt: LoadFragment) -> None:
        """ldmatrix: each lane gives the address of a row of 16 bytes, the matrices in the order of the fragment's
        registers."""
        w, narrow = self.w, stmt.source.dtype
        saved = self.index.env
        thread = dims.symbol("thread", 0, self.kernel.threads - 1)
        self.index.env = {**saved, "thread": self.thread}
        if narrow is dtypes.f32 and stmt.turned:
            self._load_turned(stmt, thread)
            self.index.env = saved
            return
        line, matrix = dims.mod(thread, 8), dims.floordiv(dims.mod(thread, 32), 8)
        wide = 16 // narrow.itemsize
        if stmt.rows == 16:
            row, depth = dims.mod(matrix, 2) * 8, dims.floordiv(matrix, 2) * wide
            if stmt.pair:
                row, depth = dims.floordiv(matrix, 2) * 8, dims.mod(matrix, 2) * wide
        else:
            row, depth = 0, dims.mod(matrix, 2) * wide
        *lead, first, second = stmt.source.index
        place = (first + depth + line, second + row) if stmt.turned else (first + row + line, second + depth)
        pointer = self._address(Load(stmt.source.buffer, (*lead, *place)))
        self.index.env = saved
        cast = f"addrspacecast ptr {pointer.text} to ptr addrspace(3)"
        shared = w.pure(cast, pointer.level, dtypes.i64, cheap=True)
        count = stmt.rows // 4
        made, words = w.fresh("%matrix"), "{ " + ", ".join(["i32"] * count) + " }"
        turned = ".trans" if stmt.turned else ""
        name = f"@llvm.nvvm.ldmatrix.sync.aligned.m8n8.x{count}{turned}.b16.p3"
        w.declare(name, f"declare {words} {name}(ptr addrspace(3))")
        w.line(f"{made} = call {words} {name}(ptr addrspace(3) {shared.text})")
        pair = "<2 x half>" if narrow is dtypes.f16 else "<2 x i16>"
        for i in range(count):
            word = w.effect(f"extractvalue {words} {made}, {i}", dtypes.u32)
            if narrow is dtypes.f32:
                self._put_rounded(stmt, i, self.ops.apply("bitcast", [word], dtypes.f32))
                continue
            both = w.fresh("%pair")
            w.line(f"{both} = bitcast {word} to {pair}")
            for e in range(2):
                element = w.effect(f"extractelement {pair} {both}, i64 {e}", narrow)
                self.memory.store(stmt.fragment.buffer, _element(stmt, 2 * i + e), element)

    def _load_turned(self, stmt: LoadFragment, thread: DimLike) -> None:
        """One by one: ldmatrix turns elements of 16 bits only."""
        *lead, depth, row = stmt.source.index
        lane = dims.mod(thread, 32)
        for e in range(stmt.rows // 4):
            i = dims.floordiv(lane, 4) + (e // 2 * 8 if stmt.pair else e * 8 % stmt.rows)
            k = dims.mod(lane, 4) + (e % 2 if stmt.pair else e * 8 // stmt.rows) * 4
            value = self.memory.load(stmt.source.buffer, (*lead, depth + k, row + i))
            self._put_rounded(stmt, e, value)

    def _put_rounded(self, stmt: LoadFragment, e: int, value: Value) -> None:
        """An element of a fragment, as tf32."""
        self.memory.store(stmt.fragment.buffer, _element(stmt, e), self.expressions.rounded(value))

    def _copy(self, stmt: CopyAsync) -> None:
        """cp.async of 16 bytes, of which none are read where the condition does not hold."""
        w = self.w
        size, source = "16", self._address(stmt.source)
        if stmt.condition is not None:
            holds = self.expressions.value(stmt.condition)
            if holds.text != "true":
                size = w.pure(f"select {holds}, i32 16, i32 0", holds.level, dtypes.i32).text
                source = self.memory.guarded_pointer(source, holds)
        if stmt.target.buffer in self.swizzled:
            place = swizzled_place(self, stmt.target)
            cast = f"inttoptr i32 {place.text} to ptr addrspace(3)"
        else:
            place = self._address(stmt.target)
            cast = f"addrspacecast ptr {place.text} to ptr addrspace(3)"
        spaces = [f"ptr addrspace(3) {w.pure(cast, place.level, dtypes.i64, cheap=True).text}"]
        cast = f"addrspacecast ptr {source.text} to ptr addrspace(1)"
        spaces.append(f"ptr addrspace(1) {w.pure(cast, source.level, dtypes.i64, cheap=True).text}")
        name = "@llvm.nvvm.cp.async.cg.shared.global.16.s"
        w.declare(name, f"declare void {name}(ptr addrspace(3), ptr addrspace(1), i32)")
        w.line(f"call void {name}({', '.join(spaces)}, i32 {size})")

    def _address(self, load: Load) -> Value:
        return self.memory.address(load.buffer, self.index.decompose(load.buffer.offset(load.index)))

    def _multiply(self, stmt: MultiplyTile) -> None:
        """mma.sync.m16n8k16, m16n8k8 of tf32."""
        w, narrow = self.w, stmt.left.dtype
        half = narrow is dtypes.f16
        pair = "<2 x half>" if half else "i32"
        places = [(load, i) for load, n in ((stmt.left, 4), (stmt.right, 2)) for i in range(n)]
        if narrow is dtypes.f32:
            operands = [self._word(load, i) for load, i in places]
        else:
            operands = [self.pair(load, 2 * i, half) for load, i in places]
        sums = [self.memory.load(stmt.total.buffer, (*stmt.total.index[:-1], c)) for c in range(4)]
        kind = {dtypes.f16: "m16n8k16.row.col.f32.f32", dtypes.bf16: "m16n8k16.row.col.bf16"}
        name = f"@llvm.nvvm.mma.{kind.get(narrow, 'm16n8k8.row.col.tf32')}"
        four = "{ float, float, float, float }"
        w.declare(name, f"declare {four} {name}({', '.join([pair] * 6 + ['float'] * 4)})")
        made = w.fresh("%mma")
        w.line(
            f"{made} = call {four} {name}({', '.join([f'{pair} {x}' for x in operands] + list(map(str, sums)))})"
        )
        for c in range(4):
            element = w.effect(f"extractvalue {four} {made}, {c}", dtypes.f32)
            self.memory.store(stmt.total.buffer, (*stmt.total.index[:-1], c), element)

    def _word(self, load: Load, i: int) -> str:
        value = self.memory.load(load.buffer, (*load.index[:-1], i))
        return self.ops.apply("bitcast", [value], dtypes.u32).text

    def pair(self, load: Load, first: int, half: bool) -> str:
        """Two elements of a fragment in one register."""
        vector = "<2 x half>" if half else "<2 x i16>"
        made = "poison"
        for i in range(2):
            element = self.memory.load(load.buffer, (*load.index[:-1], first + i))
            name = self.w.fresh("%pair")
            self.w.line(f"{name} = insertelement {vector} {made}, {element}, i64 {i}")
            made = name
        if half:
            return made
        name = self.w.fresh("%pair")
        self.w.line(f"{name} = bitcast <2 x i16> {made} to i32")
        return name

    def barrier(self) -> None:
        self._call("@llvm.nvvm.barrier0")

    def _check(self, stmt: Check) -> None:
        condition = self.expressions.value(stmt.condition)
        failed = self.ops.apply("not", [condition], dtypes.bool_)
        with self.w.branch_if(failed):
            self.w.line(f"cmpxchg ptr %status, i32 0, i32 {stmt.code} monotonic monotonic")


def _element(stmt: LoadFragment, e: int) -> tuple[DimLike, ...]:
    """Where the thread's element number `e` goes."""
    if not stmt.pair:
        return (*stmt.fragment.index[:-1], e)
    half = stmt.rows // stmt.fragment.dtype.itemsize // 2
    return (*stmt.fragment.index[:-2], e // half, e % half)
