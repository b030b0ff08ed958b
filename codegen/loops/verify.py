"""The rules of the loop IR, checked. A broken one raises LoopError with the kernel, the statement and the rule."""

from __future__ import annotations

from collections.abc import Sequence
from operator import itemgetter

from ...ir import dims, dtypes
from ...ir.dims import DimLike
from ...ir.special_functions import FORMULAS
from ..packed import PACKED
from ..scalar import GPU_OPERATIONS, OPERATIONS
from .nodes import (
    PREPARED_HEADER,
    Apply,
    Buffer,
    Check,
    ClearTile,
    Const,
    CopyAsync,
    CopyCommit,
    CopyWait,
    Expr,
    For,
    HostCall,
    If,
    Index,
    Kernel,
    LaneReduce,
    Launch,
    Let,
    Load,
    LoadFragment,
    LoadTile,
    MultiplyGroup,
    MultiplyTile,
    MultiplyWords,
    Part,
    Pipeline,
    Prefetch,
    Program,
    Shuffle,
    Stmt,
    Store,
    StoreTile,
    Var,
    whole,
)
from .printer import print_expr, print_stmt
from .repeats import Block, Step, program_steps
from .scope import LoopError, Scope
from .verify_gpu import GpuRules, stored_in
from .verify_tiles import TileRules
from .walk import statements

COMBINES = ("add", "mul", "max", "min", "and", "or")
# A guarded vector load reads from a block of zeros of 1024 bytes instead (`codegen/llvm/memory.py`).
MAX_LANES = 128
_INTEGER_ONLY = {"shl", "shr", "umulhi"}
_FLOAT_ONLY = {
    *("ldexp", "sqrt", "exp", "expm1", "log", "log1p", "sin", "cos", "tan", "tanh", "sigmoid", "erf"),
    *("asin", "acos", "atan", "atan2", "asinh", "acosh", "atanh"),
    *FORMULAS,
}
_FLOAT32_ONLY = {"exp_below", "exp_below_short", "exp_short", "sigmoid_short"}
_BITWISE = {"and", "or", "xor", "not"}
_NOT_BOOL = {"sub", "neg", "abs", "div", "floordiv", "mod", "fma", "pow", "floor", "ceil", "trunc", "round"}


def verify_program(program: Program) -> None:
    """Check the program's buffers and launches, and every kernel."""
    known = {*program.inputs, *program.outputs, *program.arena, *program.prepared}
    where = f"program {program.name}"
    names: dict[str, Buffer] = {}
    for buffer in known:
        if names.setdefault(buffer.name, buffer) is not buffer:
            raise LoopError(f"{where}: two buffers are called {buffer.name!r}")
        if buffer.space != "global":
            raise LoopError(f"{where}: {buffer} is not in global memory")
    for buffer in program.arena:
        if buffer.name not in program.offsets:
            raise LoopError(f"{where}: {buffer} has no offset in the arena")
        room = program.late_bytes[program.late[buffer]] if buffer in program.late else program.arena_bytes
        if buffer in program.lenders:
            room = program.lenders[buffer].nbytes
        spare = room - (program.offsets[buffer.name] + buffer.nbytes)
        if dims.bounds(spare)[1] < 0:
            raise LoopError(
                f"{where}: {buffer} at {program.offsets[buffer.name]} reaches past the arena's end"
            )
    _verify_lent(program)
    _verify_prepared(program)
    free = {s.name for s in program.dims}
    _verify_steps(program, program_steps(program), known, free)
    for host in program.host_calls:
        _verify_host(host)
    for kernel in dict.fromkeys(x.kernel for x in program.launches if isinstance(x.kernel, Kernel)):
        verify_kernel(kernel)
        for stmt in statements(kernel.body):
            if isinstance(stmt, Check) and stmt.code not in program.messages:
                raise LoopError(f"kernel {kernel.name}: check code {stmt.code} has no message in the program")


def _verify_lent(program: Program) -> None:
    """Who lies in an output's memory is needed no more when something uses the output."""
    uses: dict[Buffer, list[int]] = {}
    for number, launch in enumerate(program.launches):
        for buffer in {*map(whole, launch.args)}:
            uses.setdefault(buffer, []).append(number)
    for repeat in program.repeats:
        for numbers in uses.values():
            if any(repeat.first <= n < repeat.end for n in numbers):
                numbers += [repeat.first, repeat.end - 1]
    for buffer, lender in program.lenders.items():
        if lender not in program.outputs or lender in program.inputs or lender in program.late:
            raise LoopError(
                f"program {program.name}: {buffer} lies in {lender}, which is no output of its own"
            )
        if max(uses.get(buffer, [-1])) >= min(uses.get(lender, [len(program.launches)])):
            raise LoopError(f"program {program.name}: {buffer} lies in {lender} when that is written")


def _verify_prepared(program: Program) -> None:
    """What is prepared has a place of its own, and only the leading launches write it, from nothing that changes."""
    where = f"program {program.name}"
    end = PREPARED_HEADER
    for buffer, offset in sorted(program.prepared.items(), key=itemgetter(1)):
        if not isinstance(buffer.nbytes, int) or not end <= offset <= program.prepared_bytes - buffer.nbytes:
            raise LoopError(
                f"{where}: {buffer} at {offset} of the prepared block overlaps another or the end"
            )
        end = offset + buffer.nbytes
    written: set[Buffer] = set()
    for number, launch in enumerate(program.launches):
        early = number < program.preparing
        stored = {
            whole(b) for p, b in zip(launch.kernel.params, launch.args) if p.name in launch.kernel.writes
        }
        if early and (
            isinstance(launch.kernel, HostCall) or launch.kernel.dims or stored & {*program.outputs}
        ):
            raise LoopError(f"{where}, launch of {launch.kernel.name}: it cannot be prepared")
        if early and not {*map(whole, launch.args)} - stored <= {*program.inputs, *written}:
            raise LoopError(f"{where}, launch of {launch.kernel.name}: what it reads is not there yet")
        if not early and stored & {*program.prepared}:
            raise LoopError(f"{where}, launch of {launch.kernel.name}: it writes what was prepared")
        written |= stored
    if any(repeat.first < program.preparing for repeat in program.repeats):
        raise LoopError(f"{where}: a repeat begins among the launches that prepare")


def _verify_host(host: HostCall) -> None:
    values = (*host.graph.inputs, *host.graph.outputs)
    if [(b.dtype, b.shape) for b in host.params] != [(v.type.dtype, v.type.shape) for v in values]:
        raise LoopError(f"host call {host.name}: its params are not what its graph takes and gives")
    for buffer in host.params:
        if buffer.space != "global":
            raise LoopError(f"host call {host.name}: the param {buffer} must be in global memory")


def _verify_steps(program: Program, steps: Sequence[Step], known: set[Buffer], bound: set[str]) -> None:
    """`bound`: the program's dims and the variables of the repeats around the steps."""
    for step in steps:
        if not isinstance(step, Block):
            _verify_launch(program, step[1], known, bound)
            continue
        repeat = step.repeat
        where = f"program {program.name}, repeat of launches {repeat.first} to {repeat.end}"
        if repeat.var in bound:
            raise LoopError(f"{where}: the name {repeat.var!r} is already bound here")
        for symbol in dims.symbols(repeat.count):
            if symbol.name not in bound:
                raise LoopError(
                    f"{where}: {symbol.name!r} in the count {repeat.count} is no dim of the program"
                )
        if repeat.at_once is not None:
            _verify_launch(program, repeat.at_once, known, bound)
            assert isinstance(repeat.at_once.kernel, Kernel)
            verify_kernel(repeat.at_once.kernel)
        _verify_steps(program, step.steps, known, bound | {repeat.var})


def _verify_launch(program: Program, launch: Launch, known: set[Buffer], free: set[str]) -> None:
    kernel = launch.kernel
    where = f"program {program.name}, launch of {kernel.name}"
    if len(launch.args) != len(kernel.params):
        raise LoopError(f"{where}: {len(launch.args)} arguments for {len(kernel.params)} params")
    for param, arg in zip(kernel.params, launch.args):
        root = whole(arg)
        if root not in known:
            raise LoopError(f"{where}: {arg} is no input, output or arena buffer of the program")
        if isinstance(arg, Part):
            _verify_part(where, arg, free)
        if arg.dtype is not param.dtype or arg.numel != param.numel:
            raise LoopError(f"{where}: {arg} for the param {param}")
        if param.name in kernel.writes and root in program.inputs and root not in program.outputs:
            raise LoopError(f"{where}: it writes the input {arg.name}, which is no output")
    missing = [s.name for s in kernel.dims if s.name not in free]
    if missing:
        raise LoopError(f"{where}: the kernel's dim {missing[0]} is none of the program's")


def _verify_part(where: str, part: Part, bound: set[str]) -> None:
    outer = part.of
    for symbol in dims.symbols(part.index):
        if symbol.name not in bound:
            raise LoopError(
                f"{where}: {symbol.name!r} in the index of {part} is no dim or variable of a repeat"
            )
    fits = part.dtype is outer.dtype
    if isinstance(outer.numel, int) and isinstance(part.numel, int):
        low, high = dims.bounds(part.index)
        fits = fits and low >= 0 and (high + 1) * part.numel <= outer.numel
    if not fits:
        raise LoopError(f"{where}: {part} is not part {part.index} of {outer}")
    if isinstance(outer, Part):
        _verify_part(where, outer, bound)


def verify_kernel(kernel: Kernel) -> None:
    """Check one kernel; LoopError names it, the statement and the rule."""
    _Verifier(kernel).verify()


class _Verifier(TileRules, GpuRules):
    def __init__(self, kernel: Kernel):
        self.kernel = kernel
        self.buffers = {*kernel.params, *kernel.locals}
        self.stmt: Stmt | None = None
        self.on_gpu = kernel.on_gpu
        self.block_threads = kernel.threads
        self.written_here = frozenset(b for b in kernel.params if b.name in kernel.writes)
        self.steady = {(b.space, b.name) for b in kernel.params if b.name not in kernel.writes}

    def fail(self, rule: str) -> LoopError:
        text = f"\n  in: {print_stmt(self.stmt).splitlines()[0]}" if self.stmt is not None else ""
        return LoopError(f"kernel {self.kernel.name}: {rule}{text}")

    def verify(self) -> None:
        kernel = self.kernel
        names: set[str] = set()
        for buffer in (*kernel.params, *kernel.locals):
            if buffer.name in names:
                raise self.fail(f"two buffers are called {buffer.name!r}")
            names.add(buffer.name)
            if buffer.dtype.is_complex:
                raise self.fail(f"{buffer}: kernels do not compute with complex dtypes")
        for buffer in kernel.params:
            if buffer.space != "global":
                raise self.fail(f"the param {buffer} must be in global memory")
        spaces: tuple[str, ...] = ("shared", "thread") if self.on_gpu else ("stack", "register", "tile")
        spaces += ("resident",) if kernel.resident else ()
        for buffer in kernel.locals:
            if buffer.space not in spaces:
                raise self.fail(f"the local {buffer} must be in one of the spaces {', '.join(spaces)}")
            if not all(isinstance(d, int) for d in buffer.shape):
                raise self.fail(f"the local {buffer} must have a constant shape")
        self.tile_registers()
        unknown = kernel.writes - {b.name for b in kernel.params}
        if unknown:
            raise self.fail(f"it is said to write {sorted(unknown)[0]!r}, which is no param")
        if kernel.streams - kernel.writes:
            raise self.fail(f"{sorted(kernel.streams - kernel.writes)[0]!r} is streamed, but not written")
        scope = Scope(symbols={s.name: "dim" for s in kernel.dims})
        for buffer in kernel.params:
            for d in buffer.shape:
                self.index_symbols(d, scope)
        self.index_symbols(kernel.cost, scope)
        parallel = kernel.grid or kernel.parallel
        if parallel is not None and not kernel.resident:
            self.stmt = parallel
            self.index_symbols(parallel.extent, scope)
            inner = scope.inner()
            self.bind(inner, parallel.var, "loop")
            self.block(parallel.body, inner)
        else:
            self.block(kernel.body, scope)

    def bind(self, scope: Scope, name: str, kind: str) -> None:
        if name in scope.symbols or name in scope.variables:
            raise self.fail(f"the name {name!r} is already bound here")
        scope.symbols[name] = kind

    def block(self, body: Sequence[Stmt], scope: Scope) -> None:
        for stmt in body:
            self.stmt = stmt
            self.statement(stmt, scope)

    def statement(self, stmt: Stmt, scope: Scope) -> None:
        match stmt:
            case For():
                self.loop(stmt, scope)
            case Let():
                varying = self.expr(stmt.value, scope)
                if stmt.name in scope.symbols or stmt.name in scope.variables:
                    raise self.fail(f"the name {stmt.name!r} is already bound here")
                scope.variables[stmt.name] = stmt.value.dtype
                if stmt.value.dtype is dtypes.i64:
                    scope.symbols[stmt.name] = "let"
                if varying:
                    scope.varying.add(stmt.name)
                if scope.thread is not None:
                    scope.private.add(stmt.name)
            case Store():
                self.store(stmt, scope)
            case If():
                self.condition(stmt.condition, scope)
                for body in (stmt.body, stmt.orelse):
                    inner = scope.inner()
                    inner.diverged = scope.thread is not None
                    self.block(body, inner)
            case Check():
                self.condition(stmt.condition, scope)
                if stmt.code <= 0:
                    raise self.fail(f"check code {stmt.code}: codes are positive, 0 means success")
            case Prefetch():
                self.expr(stmt.source, scope)
            case ClearTile() | LoadTile() | StoreTile() | MultiplyWords():
                self.tile_statement(stmt, scope)
            case MultiplyTile():
                self.multiply(stmt, scope)
            case MultiplyGroup():
                self.multiply_group(stmt, scope)
            case LoadFragment():
                self.load_fragment(stmt, scope)
            case CopyAsync():
                self.copy(stmt, scope)
            case Pipeline():
                self.pipeline(stmt, scope)
            case CopyCommit() | CopyWait():
                if scope.thread is None:
                    raise self.fail("threads wait for their copies inside thread loops")

    def condition(self, condition: Expr, scope: Scope) -> None:
        self.expr(condition, scope)
        if condition.dtype is not dtypes.bool_:
            raise self.fail(f"the condition is {condition.dtype.name}, not bool")

    def loop(self, loop: For, scope: Scope) -> None:
        if self.index_symbols(loop.extent, scope):
            raise self.fail(f"the extent {loop.extent} differs between the lanes of {scope.vector}")
        inner = scope.inner()
        kind = "loop"
        if any(symbol.name in scope.private for symbol in dims.symbols(loop.extent)):
            inner.diverged = True
        if loop.kind == "block" and self.kernel.resident:
            self.resident_blocks(loop, inner)
        elif loop.kind in ("parallel", "block"):
            raise self.fail(f"a {loop.kind} loop must be the kernel's whole body")
        if loop.kind == "thread":
            self.threads(loop, scope)
            inner.thread, inner.private, inner.stored = loop.var, {loop.var}, stored_in(loop.body)
            kind = "thread"
        if loop.kind == "unroll":
            if not isinstance(loop.extent, int):
                raise self.fail(f"an unroll loop's extent must be a constant, not {loop.extent}")
            kind = "unroll"
        elif loop.kind == "vector":
            if self.on_gpu:
                raise self.fail("a GPU kernel has no vector loops: its threads are the lanes")
            if scope.vector is not None:
                raise self.fail(f"it is inside the vector loop {scope.vector}")
            if not 1 <= loop.lanes <= MAX_LANES:
                raise self.fail(f"a vector loop has 1 to {MAX_LANES} lanes, not {loop.lanes}")
            if dims.bounds(loop.extent)[1] > loop.lanes:
                raise self.fail(f"the extent {loop.extent} is not provably at most the {loop.lanes} lanes")
            inner.vector, inner.lanes, kind = loop.var, loop.lanes, "vector"
            inner.varying.add(loop.var)
        elif loop.kind not in ("serial", "thread", "block"):
            raise self.fail(f"unknown loop kind {loop.kind!r}")
        self.bind(inner, loop.var, kind)
        self.block(loop.body, inner)

    def store(self, stmt: Store, scope: Scope) -> None:
        buffer = stmt.buffer
        if self.on_gpu and scope.thread is None:
            raise self.fail("a GPU kernel stores inside thread loops only")
        varying = self.expr(stmt.value, scope)
        spread = self.access(buffer, stmt.index, scope)
        if buffer.space == "global" and buffer.name not in self.kernel.writes:
            raise self.fail(f"{buffer.name} is not among the params that the kernel says it writes")
        if stmt.value.dtype is not buffer.dtype:
            raise self.fail(f"a value of dtype {stmt.value.dtype.name} for {buffer}")
        if varying and not spread:
            raise self.fail(
                f"every lane of {scope.vector} writes its own value to one element of {buffer.name}"
            )

    def access(self, buffer: Buffer, index: tuple[DimLike, ...], scope: Scope) -> bool:
        """Whether the element differs from lane to lane."""
        if buffer not in self.buffers:
            raise self.fail(f"{buffer} is neither a param nor a local of the kernel")
        if len(index) != len(buffer.shape):
            raise self.fail(f"{len(index)} indices for {buffer}")
        varying = [self.index_symbols(i, scope) for i in index]
        for size, i in zip(buffer.shape, index):
            if isinstance(i, int) and isinstance(size, int) and not 0 <= i < size:
                raise self.fail(f"index {i} is outside {buffer}")
        if buffer.space == "register":
            self.register(buffer, index, scope)
        elif buffer.space == "tile":
            raise self.fail(f"{buffer.name} is in tile registers, which have no elements to read or store")
        elif buffer.space == "resident":
            self.own_block(buffer, index, scope)
        elif buffer.space == "thread":
            self.own_register(buffer, index, scope)
        elif self.on_gpu and scope.thread is None and (buffer.space, buffer.name) not in self.steady:
            raise self.fail(f"{buffer.name} may change, so it is read inside thread loops only")
        return any(varying)

    def register(self, buffer: Buffer, index: tuple[DimLike, ...], scope: Scope) -> None:
        for axis, i in enumerate(index):
            last = axis == len(index) - 1
            for symbol in dims.symbols(i):
                if scope.symbols.get(symbol.name) == "vector":
                    if not (last and i == dims.symbol(symbol.name, symbol.low, symbol.high)):
                        raise self.fail(
                            f"{buffer.name}: the vector loop's {symbol.name} must be the last index, alone, not {i}"
                        )
                    if buffer.shape[-1] != scope.lanes:
                        raise self.fail(
                            f"{buffer.name}: its last dim, {buffer.shape[-1]}, is not the {scope.lanes} lanes"
                        )
                elif scope.symbols.get(symbol.name) not in ("unroll", "let"):
                    raise self.fail(
                        f"{buffer.name} is in registers: its index {i} must be a constant once unrolled"
                    )

    def index_symbols(self, value: DimLike, scope: Scope) -> bool:
        """Check that every symbol is bound; whether the value differs from lane to lane."""
        varying = False
        for symbol in dims.symbols(value):
            if symbol.name not in scope.symbols:
                raise self.fail(
                    f"{symbol.name!r} in the index {value} is no loop variable, dim or i64 let in scope"
                )
            varying = varying or symbol.name in scope.varying
        return varying

    def expr(self, expr: Expr, scope: Scope) -> bool:
        """Check the expression; whether its value differs from lane to lane."""
        return self._expr(expr, scope, {})

    def _expr(self, expr: Expr, scope: Scope, seen: dict[int, bool]) -> bool:
        if id(expr) not in seen:
            seen[id(expr)] = self._check(expr, scope, seen)
        return seen[id(expr)]

    def _check(self, expr: Expr, scope: Scope, seen: dict[int, bool]) -> bool:
        match expr:
            case Const():
                return False
            case Index():
                return self.index_symbols(expr.value, scope)
            case Var():
                if scope.variables.get(expr.name) is not expr.dtype:
                    raise self.fail(f"no let of {expr.name!r} with dtype {expr.dtype.name} is in scope")
                return expr.name in scope.varying
            case Load():
                return self.access(expr.buffer, expr.index, scope)
            case LaneReduce():
                return self.lane_reduce(expr, scope)
            case Shuffle():
                self.shuffle(expr, scope)
                return self.access(expr.load.buffer, expr.load.index, scope)
            case Apply():
                varying = [self._expr(arg, scope, seen) for arg in expr.args]
                self.operation(expr)
                return any(varying)

    def lane_reduce(self, expr: LaneReduce, scope: Scope) -> bool:
        if self.on_gpu:
            raise self.fail("a GPU kernel has no lane reductions")
        if scope.vector is not None:
            raise self.fail(f"a lane reduction inside the vector loop {scope.vector}")
        if expr.combine not in COMBINES:
            raise self.fail(f"lanes cannot be combined by {expr.combine!r}, only by {', '.join(COMBINES)}")
        if expr.lanes < 1 or expr.lanes & (expr.lanes - 1):
            raise self.fail(f"a reduction over {expr.lanes} lanes: the number must be a power of two")
        inner = scope.inner()
        self.bind(inner, expr.var, "vector")
        inner.vector, inner.lanes = expr.var, expr.lanes
        inner.varying.add(expr.var)
        self.expr(expr.value, inner)
        return False

    def operation(self, expr: Apply) -> None:
        if expr.op in PACKED:
            types, given = PACKED[expr.op]
            if tuple(a.dtype for a in expr.args) != types or expr.dtype is not given:
                wanted = ", ".join(t.name for t in types)
                raise self.fail(f"{expr.op} takes {wanted} and gives {given.name}: {print_expr(expr)}")
            return
        if expr.op in GPU_OPERATIONS:
            types_ = [a.dtype for a in expr.args]
            if not self.on_gpu or types_ + [expr.dtype] != [dtypes.f32] * (GPU_OPERATIONS[expr.op] + 1):
                raise self.fail(f"{expr.op} is an operation of GPUs on f32: {print_expr(expr)}")
            return
        declared = OPERATIONS.get(expr.op)
        if declared is None:
            raise self.fail(f"unknown scalar operation {expr.op!r}")
        count, result = declared
        if len(expr.args) != count:
            raise self.fail(f"{expr.op} takes {count} arguments, got {len(expr.args)}: {print_expr(expr)}")
        operands = [a.dtype for a in expr.args]
        if expr.op == "select":
            if operands[0] is not dtypes.bool_:
                raise self.fail(f"select on a condition of dtype {operands[0].name}: {print_expr(expr)}")
            operands = operands[1:]
        first = operands[0]
        if any(d is not first for d in operands):
            raise self.fail(f"{expr.op} of {' and '.join(d.name for d in operands)}: {print_expr(expr)}")
        expected = {"bool": dtypes.bool_, "same": first, "given": expr.dtype}[result]
        if expr.dtype is not expected:
            raise self.fail(f"{expr.op} of {first.name} gives {expected.name}, not {expr.dtype.name}")
        allowed = (
            first.is_integral if expr.op in _INTEGER_ONLY
            else first.is_floating_point if expr.op in _FLOAT_ONLY
            else first is dtypes.f32 if expr.op in _FLOAT32_ONLY
            else not first.is_floating_point if expr.op in _BITWISE
            else first is not dtypes.bool_ if expr.op in _NOT_BOOL
            else True
        )  # fmt: skip
        if not allowed:
            raise self.fail(f"{expr.op} has no meaning on {first.name}: {print_expr(expr)}")
        if expr.op == "bitcast" and first.itemsize != expr.dtype.itemsize:
            raise self.fail(f"bitcast from {first.name} to {expr.dtype.name}: the sizes differ")
