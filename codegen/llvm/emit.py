"""A kernel of the loop IR as an LLVM function, with explicit vectors.

    void kernel(ptr args, ptr dims, i64 begin, i64 end, ptr status)

`args` points to the buffers' addresses, in the order of the kernel's params; `dims` to the values of the
program's symbolic dims; a kernel whose body is one parallel loop runs iterations begin to end of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...ir import dims, dtypes
from ...ir.dims import DimLike, Symbol
from ..loops.nodes import (
    Buffer,
    Check,
    ClearTile,
    For,
    If,
    Kernel,
    LaneReduce,
    Let,
    Load,
    LoadTile,
    MultiplyWords,
    Prefetch,
    Stmt,
    Store,
    StoreTile,
)
from ..loops.walk import statement_expressions, subexpressions
from ..target import GpuTarget, Target
from .expressions import ExpressionEmitter
from .index import IndexEmitter, VectorLoop
from .memory import MemoryEmitter
from .metadata import INVARIANT, MAX_ALIAS_CLASSES
from .repeat import counted_loop
from .scalar_ops import ScalarOps
from .text import Value, Writer, const, literal, memory_type, splat, vector_const
from .tiles import TileEmitter

# The most stores that may fill adjacent elements together: the largest stride that is shuffled.
MAX_TOGETHER = 4


@dataclass(frozen=True)
class EmitOptions:
    """`contract` lets LLVM fuse a multiplication and an addition that the IR wrote apart. `measure` has the program
    read the clock around every launch (`measure.py`)."""

    contract: bool = False
    measure: bool = False


@dataclass(frozen=True)
class KernelText:
    """A kernel's LLVM function, with `@KERNEL` for its name, and what the module must hold for it."""

    text: str
    declarations: tuple[tuple[str, str], ...]
    alias_classes: int
    uses_zeros: bool
    instructions: int


def emit_kernel(
    kernel: Kernel,
    target: Target,
    dim_order: Sequence[Symbol] | None = None,
    alias_class: Sequence[int] | None = None,
    options: EmitOptions = EmitOptions(),
) -> KernelText:
    """The kernel's function. `dim_order` is the order of the values behind `dims` (default: the kernel's
    own); `alias_class[i]` numbers the groups of params that may overlap (default: none overlap)."""
    return KernelEmitter(kernel, target, dim_order, alias_class, options).emit()


class KernelEmitter:
    """Writes one kernel's function; `codegen/ptx` has its own way of binding params and of loops."""

    def __init__(
        self,
        kernel: Kernel,
        target: Target | GpuTarget,
        dim_order: Sequence[Symbol] | None,
        alias_class: Sequence[int] | None,
        options: EmitOptions,
    ):
        self.kernel = kernel
        self.target = target
        self.w = Writer()
        self.ops = ScalarOps(self.w, target, options.contract)
        self.index = IndexEmitter(self.w, self.ops)
        self.memory = MemoryEmitter(self.w, self.ops, self.index)
        self.expressions = ExpressionEmitter(kernel.name, self.w, self.ops, self.index, self.memory)
        self.tiles = TileEmitter(kernel, self.w, self.index, self.memory)
        self.dim_order = list(kernel.dims if dim_order is None else dim_order)
        classes = list(range(len(kernel.params)) if alias_class is None else alias_class)
        self._bind_params(classes)
        self._bind_dims()
        self._bind_locals()

    def _bind_params(self, classes: list[int]) -> None:
        memory = self.memory
        count = len(set(classes))
        memory.classes = count if count <= MAX_ALIAS_CLASSES else 0
        written = {c for buffer, c in zip(self.kernel.params, classes) if buffer.name in self.kernel.writes}
        for position, (buffer, number) in enumerate(zip(self.kernel.params, classes)):
            slot = self.w.pure(f"getelementptr ptr, ptr %args, i64 {position}", 0, dtypes.i64)
            pointer = self.w.pure(f"load ptr, ptr {slot.text}, align 8, {INVARIANT}", 0, dtypes.i64)
            memory.pointers[buffer] = Value(pointer.text, dtypes.i64)
            memory.alias_class[buffer] = number
            if number not in written:
                memory.read_only.add(buffer)

    def _bind_dims(self) -> None:
        positions = {s.name: i for i, s in enumerate(self.dim_order)}
        for dim in self.kernel.dims:
            slot = self.w.pure(f"getelementptr i64, ptr %dims, i64 {positions[dim.name]}", 0, dtypes.i64)
            value = self.w.pure(f"load i64, ptr {slot.text}, align 8, {INVARIANT}", 0, dtypes.i64)
            self.index.env[dim.name] = value

    def _bind_locals(self) -> None:
        for number, buffer in enumerate(self.kernel.locals):
            if buffer.space == "stack":
                size = buffer.numel
                if not isinstance(size, int):
                    raise ValueError(f"kernel {self.kernel.name}: stack buffer {buffer} has a symbolic size")
                name = f"%s{number}"
                self.w.entry.append(
                    f"{name} = alloca [{max(size, 1)} x {memory_type(buffer.dtype)}], align 64"
                )
                self.memory.pointers[buffer] = Value(name, dtypes.i64)
        self.memory.vector_registers = _vector_registers(self.kernel)

    def emit(self) -> KernelText:
        self.tiles.configure()
        if self.kernel.streams:
            self._streaming()
        else:
            self._body()
        self.tiles.release()
        lines = self.w.lines()
        # An entry block of its own, so that loops have a block to come from.
        body = "\n".join(lines)
        text = (
            "define void @KERNEL(ptr noalias nocapture readonly %args, ptr noalias nocapture readonly %dims, "
            f"i64 %begin, i64 %end, ptr %status) nounwind {{\nentry:\n{body}\nret void\n}}\n"
        )
        return KernelText(
            text,
            tuple(sorted(self.w.declarations.items())),
            self.memory.classes,
            self.memory.uses_zeros,
            len(lines),
        )

    def _body(self) -> None:
        parallel = self.kernel.parallel
        if parallel is not None:
            begin, end = Value("%begin", dtypes.i64), Value("%end", dtypes.i64)
            self._loop(parallel.var, begin, end, parallel.body, may_be_empty=False)
        else:
            self._block(self.kernel.body)

    def _streaming(self) -> None:
        """The body twice: stores past the caches want whole vectors' addresses, and whose memory it is says the call."""
        assert isinstance(self.target, Target)
        memory, width = self.memory, self.target.vector_bytes
        streams = {b for b in self.kernel.params if b.name in self.kernel.streams}
        bits: Value | None = None
        for buffer in self.kernel.params:
            if buffer in streams:
                address = self.w.pure(f"ptrtoint ptr {memory.pointers[buffer].text} to i64", 0, dtypes.i64)
                bits = address if bits is None else self.ops.instruction("or", [bits, address], dtypes.i64)
        assert bits is not None
        low = self.ops.instruction("and", [bits, const(width - 1, dtypes.i64)], dtypes.i64)
        with self.w.branch_if(self.ops.compare("eq", low, const(0, dtypes.i64))):
            memory.streams, memory.aligned = streams, dict.fromkeys(streams, width)
            self._body()
            # Such stores are seen late; whoever waits for this kernel may read them.
            name = self.w.declare("@llvm.x86.sse.sfence", "declare void @llvm.x86.sse.sfence()")
            self.w.line(f"call void {name}()")
            memory.streams, memory.aligned = set(), {}
        with self.w.branch_if(self.ops.compare("ne", low, const(0, dtypes.i64))):
            self._body()

    # Statements

    def _block(self, body: Sequence[Stmt]) -> None:
        """Statements in order; names that they let are forgotten at the end."""
        env, variables = self.index.env, self.expressions.variables
        self.index.env, self.expressions.variables = dict(env), dict(variables)
        position = 0
        while position < len(body):
            position += self._store_together(body, position)
        self.index.env, self.expressions.variables = env, variables

    def _store_together(self, body: Sequence[Stmt], position: int) -> int:
        """Emit the statement, or several stores that fill adjacent elements as one; how many were emitted."""
        stmt = body[position]
        if isinstance(stmt, Store) and self.index.vector is not None:
            stores: list[Store] = []
            for following in body[position : position + MAX_TOGETHER]:
                if not isinstance(following, Store):
                    break
                stores.append(following)
            count = self.memory.interleaved([(s.buffer, s.index) for s in stores])
            # Values are computed before the first store, so they must not read what it writes.
            later = [e for s in stores[1:count] for e in subexpressions(s.value)]
            overlap = self.memory.may_overlap
            if count > 1 and not any(isinstance(e, Load) and overlap(e.buffer, stmt.buffer) for e in later):
                self.expressions.forget()
                values = [self.expressions.value(s.value) for s in stores[:count]]
                self.memory.store_interleaved(stmt.buffer, stmt.index, values)
                return count
        self._statement(stmt)
        return 1

    def _statement(self, stmt: Stmt) -> None:
        self.expressions.forget()
        match stmt:
            case For():
                self._for(stmt)
            case Let():
                value = self.expressions.value(stmt.value)
                self.expressions.variables[stmt.name] = value
                if value.dtype is dtypes.i64:
                    known = literal(value)
                    self.index.env[stmt.name] = value if known is None else known
            case Store():
                value = self.expressions.value(stmt.value)
                self.memory.store(stmt.buffer, stmt.index, value)
            case If():
                self._if(stmt)
            case Check():
                self._check(stmt)
            case Prefetch():
                self.memory.prefetch(stmt.source.buffer, stmt.source.index, stmt.level)
            case ClearTile() | LoadTile() | StoreTile() | MultiplyWords():
                self.tiles.statement(stmt)
            case _:
                raise NotImplementedError(f"kernel {self.kernel.name}: no emission for {type(stmt).__name__}")

    def _for(self, loop: For) -> None:
        if loop.kind == "vector":
            self._vector(loop)
        elif loop.kind == "unroll":
            if not isinstance(loop.extent, int):
                raise ValueError(
                    f"kernel {self.kernel.name}: unroll loop {loop.var} has extent {loop.extent}"
                )
            saved = self.index.env.get(loop.var)
            for i in range(loop.extent):
                self.index.env[loop.var] = i
                self._block(loop.body)
            if saved is None:
                self.index.env.pop(loop.var, None)
            else:
                self.index.env[loop.var] = saved
        elif loop.kind == "serial":
            end = self.index.value(loop.extent)
            if end.text == "0":
                return
            if end.text == "1":
                saved_env = self.index.env
                self.index.env = {**saved_env, loop.var: 0}
                self._block(loop.body)
                self.index.env = saved_env
                return
            self._loop(loop.var, const(0, dtypes.i64), end, loop.body, dims.bounds(loop.extent)[0] < 1)
        else:
            raise ValueError(f"kernel {self.kernel.name}: the parallel loop {loop.var} is not the whole body")

    def _loop(self, var: str, begin: Value, end: Value, body: Sequence[Stmt], may_be_empty: bool) -> None:
        with counted_loop(self.w, self.index, var, begin, end, may_be_empty):
            self._block(body)

    def _vector(self, loop: For) -> None:
        if self.index.vector is not None:
            raise ValueError(f"kernel {self.kernel.name}: vector loop {loop.var} is inside another")
        lanes = loop.lanes
        extent = self.index.value(loop.extent)
        if extent.text == "0":
            return
        low, _ = dims.bounds(loop.extent)
        if extent.text == str(lanes) or low >= lanes:
            mask = None
        elif extent.text.isdigit():
            mask = vector_const([i < int(extent.text) for i in range(lanes)], dtypes.bool_)
        else:
            # The extent is at most the lanes, so that narrow integers hold it.
            narrow = self.ops.convert(extent, dtypes.i32)
            iota = vector_const(list(range(lanes)), dtypes.i32)
            mask = self.ops.compare("slt", iota, splat(self.w, narrow, lanes))
        may_be_empty = mask is not None and low < 1 and not extent.text.isdigit()
        with self.w.branch_if(
            self.ops.compare("sgt", extent, const(0, dtypes.i64)) if may_be_empty else None
        ):
            self.index.vector = VectorLoop(loop.var, lanes, mask)
            self._block(loop.body)
            self.index.vector = None

    def _if(self, stmt: If) -> None:
        condition = self.expressions.value(stmt.condition)
        if condition.text in ("true", "false"):
            self._block(stmt.body if condition.text == "true" else stmt.orelse)
            return
        if condition.lanes:
            for side, body in ((condition, stmt.body), (None, stmt.orelse)):
                if body:
                    chosen = side if side is not None else self.ops.apply("not", [condition], dtypes.bool_)
                    with self.memory.guarded(chosen):
                        self._block(body)
            return
        with self.w.branch_if(condition):
            self._block(stmt.body)
        if stmt.orelse:
            with self.w.branch_if(self.ops.apply("not", [condition], dtypes.bool_)):
                self._block(stmt.orelse)

    def _check(self, stmt: Check) -> None:
        condition = self.expressions.value(stmt.condition)
        failed = self.ops.apply("not", [condition], dtypes.bool_)
        if failed.lanes:
            mask = self.memory.lane_mask()
            if mask is not None:
                failed = self.ops.instruction("and", [failed, mask], dtypes.bool_)
            failed = self.memory.any_lane(failed)
        with self.w.branch_if(failed):
            self.w.line(f"cmpxchg ptr %status, i32 0, i32 {stmt.code} monotonic monotonic")


def _vector_registers(kernel: Kernel) -> set[Buffer]:
    """Register buffers whose last dim is the lanes of a vector."""
    found: set[Buffer] = set()

    def access(buffer: Buffer, index: tuple[DimLike, ...], lane: str | None) -> None:
        if buffer.space == "register" and index and any(s.name == lane for s in dims.symbols(index[-1])):
            found.add(buffer)

    def visit(body: Sequence[Stmt], lane: str | None) -> None:
        for stmt in body:
            if isinstance(stmt, Store):
                access(stmt.buffer, stmt.index, lane)
            for root in statement_expressions(stmt):
                for expr in subexpressions(root):
                    if isinstance(expr, Load):
                        access(expr.buffer, expr.index, lane)
                    elif isinstance(expr, LaneReduce):
                        for inner in subexpressions(expr.value):
                            if isinstance(inner, Load):
                                access(inner.buffer, inner.index, expr.var)
            if isinstance(stmt, For):
                visit(stmt.body, stmt.var if stmt.kind == "vector" else lane)
            elif isinstance(stmt, If):
                visit(stmt.body, lane)
                visit(stmt.orelse, lane)

    if any(b.space == "register" for b in kernel.locals):
        visit(kernel.body, None)
    return found
