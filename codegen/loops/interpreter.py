"""What a kernel means, one scalar at a time. Slow; it checks what native code trusts.

Reads and writes outside a buffer, reads of registers or stack elements that nothing wrote, index symbols outside the
bounds they declare, and vector extents outside 0..lanes raise LoopError.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ...ir import dims, dtypes
from ...ir.dims import DimLike, Quotient, Remainder, Symbol
from ...ir.interpreter import run_bound
from .interpret_tiles import TileSteps
from .nodes import (
    WARP,
    WARPGROUP,
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
    TileSlice,
    Var,
)
from .printer import print_stmt
from .repeats import Block, Step, program_steps
from .scalar_values import rounded_to_tf32, scalar_function
from .verify import LoopError
from .walk import shared_applications, tests_indices

Array = np.ndarray[Any, Any]
Frame = dict[str, Any]  # what is bound: loop variables, dims and lets
_VALUES = (
    " values"  # the frame's entry for the subexpressions already evaluated; not a name that lowerings use
)
Evaluate = Callable[[Frame], Any]


def run_program(
    program: Program, inputs: Sequence[Array], bindings: Mapping[str, int] | None = None
) -> tuple[list[Array], int]:
    """The program's outputs, and 0 or the code of the first check that failed.

    Arena buffers lie in one block of memory at the program's offsets, or in the outputs that lend theirs, as they do in
    native code.
    """
    bound = dict(bindings or {})
    memory = np.full(dims.evaluate(program.arena_bytes, bound), 0xA5, np.uint8)
    arrays: dict[Buffer, Array] = _LateArrays(bound)
    for buffer, array in zip(program.inputs, inputs, strict=True):
        shape = _shape(buffer, bound)
        if array.shape != shape or array.dtype != buffer.dtype.numpy:
            raise LoopError(f"input {buffer} got {array.dtype}{list(array.shape)}")
        arrays[buffer] = array.copy() if buffer in program.outputs else array
    for buffer in program.outputs:
        if buffer not in arrays and buffer not in program.late:
            arrays[buffer] = np.full(
                int(np.prod(_shape(buffer, bound))) * buffer.dtype.itemsize, 0xA5, np.uint8
            ).view(buffer.dtype.numpy).reshape(_shape(buffer, bound))  # fmt: skip
    for buffer in program.arena:
        if buffer in program.late:
            continue
        start = dims.evaluate(program.offsets[buffer.name], bound)
        stop = start + dims.evaluate(buffer.nbytes, bound)
        lender = program.lenders.get(buffer)
        room = memory if lender is None else arrays[lender].reshape(-1).view(np.uint8)
        arrays[buffer] = room[start:stop].view(buffer.dtype.numpy).reshape(_shape(buffer, bound))
    for buffer in program.prepared:
        arrays[buffer] = np.full(_shape(buffer, bound), 0xA5, np.uint8).astype(buffer.dtype.numpy)
    status = _run_steps(program_steps(program), arrays, bound)
    return [arrays[b] for b in program.outputs], status


def _run_steps(steps: Sequence[Step], arrays: Mapping[Buffer, Array], bound: dict[str, int]) -> int:
    for step in steps:
        if isinstance(step, Block) and step.repeat.at_once is not None:
            status = _run_launch(step.repeat.at_once, arrays, bound)
        elif isinstance(step, Block):
            turns = range(dims.evaluate(step.repeat.count, bound))
            status = next(
                (s for i in turns if (s := _run_steps(step.steps, arrays, {**bound, step.repeat.var: i}))), 0
            )
        else:
            status = _run_launch(step[1], arrays, bound)
        if status:
            return status
    return 0


def _run_launch(launch: Launch, arrays: Mapping[Buffer, Array], bound: dict[str, int]) -> int:
    pairs = list(zip(launch.kernel.params, launch.args, strict=True))
    if isinstance(launch.kernel, HostCall):
        count = len(launch.kernel.graph.inputs)
        operands = [_memory(arg, arrays, bound).reshape(_shape(param, bound)) for param, arg in pairs[:count]]
        for (_, arg), found in zip(pairs[count:], run_bound(launch.kernel.graph, operands, bound)):
            np.copyto(_memory(arg, arrays, bound).reshape(found.shape), found)
        return 0
    given = [_memory(arg, arrays, bound).reshape(_shape(param, bound)) for param, arg in pairs]
    return run_kernel(launch.kernel, given, bound)


def _memory(buffer: Buffer, arrays: Mapping[Buffer, Array], bound: Mapping[str, int]) -> Array:
    """The elements of a program's buffer, or of a part of one, which share its memory."""
    if not isinstance(buffer, Part):
        return arrays[buffer]
    row = _memory(buffer.of, arrays, bound).reshape(-1)
    size, index = dims.evaluate(buffer.numel, bound), dims.evaluate(buffer.index, bound)
    if not 0 <= (index + 1) * size <= row.size:
        raise LoopError(f"{buffer} is not part {index} of {buffer.of}")
    return row[index * size : (index + 1) * size]


class _LateArrays(dict[Buffer, Array]):
    """A program's arrays. Those whose sizes a host call tells are made when they are first used."""

    def __init__(self, bound: Mapping[str, int]):
        super().__init__()
        self.bound = bound

    def __missing__(self, buffer: Buffer) -> Array:
        self[buffer] = np.zeros(_shape(buffer, self.bound), buffer.dtype.numpy)
        return self[buffer]


def run_kernel(kernel: Kernel, arrays: Sequence[Array], bindings: Mapping[str, int] | None = None) -> int:
    """Run the kernel on arrays of its params' shapes, in place; 0 or the code of the first check that failed."""
    return _Interpreter(kernel, arrays, dict(bindings or {})).run()


def _shape(buffer: Buffer, bindings: Mapping[str, int]) -> tuple[int, ...]:
    return tuple(dims.evaluate(d, bindings) for d in buffer.shape)


class _Made(dict[int, Evaluate]):
    """Functions of an expression's parts, by id; `shared` are the parts that several others use."""

    def __init__(self, shared: set[int]):
        super().__init__()
        self.shared = shared


class _Interpreter(TileSteps):
    """Turns statements into closures once, then runs them."""

    def __init__(self, kernel: Kernel, arrays: Sequence[Array], bindings: dict[str, int]):
        self.kernel = kernel
        self.bindings = bindings
        self.status = 0
        self.arrays: dict[Buffer, Array] = {}
        self.written: dict[Buffer, Array] = {}
        for buffer, array in zip(kernel.params, arrays, strict=True):
            if array.shape != _shape(buffer, bindings) or array.dtype != buffer.dtype.numpy:
                raise LoopError(f"kernel {kernel.name}: {buffer} got {array.dtype}{list(array.shape)}")
            self.arrays[buffer] = array
        for buffer in kernel.locals:
            shape = _shape(buffer, bindings)
            self.arrays[buffer] = np.zeros(shape, buffer.dtype.numpy)
            self.written[buffer] = np.zeros(shape, np.bool_)
        self.stmt: Stmt | None = None

    def run(self) -> int:
        with np.errstate(all="ignore"):
            self.block(self.kernel.body)({s.name: self.bindings[s.name] for s in self.kernel.dims})
        return self.status

    def fail(self, rule: str, frame: Frame) -> LoopError:
        at = ", ".join(f"{k}={v}" for k, v in frame.items() if k != _VALUES)
        text = print_stmt(self.stmt).splitlines()[-1].strip() if self.stmt is not None else ""
        return LoopError(f"kernel {self.kernel.name}: {rule}\n  in: {text}\n  at: {at}")

    def outside(self, name: str, number: int, low: int, high: int, frame: Frame) -> LoopError:
        return self.fail(f"{name} is {number}, declared to be in {low}..={high}", frame)

    # Statements

    def block(self, body: Sequence[Stmt]) -> Callable[[Frame], None]:
        steps = [self.statement(stmt) for stmt in body]

        def run(frame: Frame) -> None:
            inner = dict(frame)
            for step in steps:
                step(inner)

        return run

    def statement(self, stmt: Stmt) -> Callable[[Frame], None]:
        self.stmt = stmt
        match stmt:
            case For():
                return self.loop(stmt)
            case Let():
                value, name = self.expr(stmt.value), stmt.name

                def let(frame: Frame) -> None:
                    self.stmt = stmt
                    frame[name] = value(frame)

                return let
            case Store():
                return self.store(stmt)
            case If():
                condition, then, orelse = (
                    self.expr(stmt.condition),
                    self.block(stmt.body),
                    self.block(stmt.orelse),
                )

                def branch(frame: Frame) -> None:
                    self.stmt = stmt
                    (then if condition(frame) else orelse)(frame)

                return branch
            case Check():
                holds = self.expr(stmt.condition)

                def check(frame: Frame) -> None:
                    self.stmt = stmt
                    if not holds(frame) and not self.status:
                        self.status = stmt.code

                return check
            case ClearTile() | LoadTile() | StoreTile() | MultiplyWords():
                return self.tile_statement(stmt)
            case MultiplyTile():
                return self.multiply(stmt)
            case MultiplyGroup():
                return self.multiply_group(stmt)
            case LoadFragment():
                return self.load_fragment(stmt)
            case CopyAsync():
                return self.copy(stmt)
            case Pipeline():
                return self.pipeline(stmt)
            case CopyCommit() | CopyWait() | Prefetch():
                return lambda frame: None
        raise LoopError(f"kernel {self.kernel.name}: unknown statement {stmt!r}")

    def loop(self, stmt: For) -> Callable[[Frame], None]:
        extent, body, var = self.index(stmt.extent), self.block(stmt.body), stmt.var
        is_vector, is_block = stmt.kind == "vector", stmt.kind == "block"

        def run(frame: Frame) -> None:
            self.stmt = stmt
            count = extent(frame)
            if is_vector and not 0 <= count <= stmt.lanes:
                raise self.fail(f"vector extent {count} is outside 0..{stmt.lanes}", frame)
            for i in range(count):
                frame[var] = i
                if is_block:  # its locals are its own
                    for buffer, written in self.written.items():
                        if buffer.space != "resident":
                            written[...] = False
                body(frame)
            frame.pop(var, None)

        return run

    def store(self, stmt: Store) -> Callable[[Frame], None]:
        buffer = stmt.buffer
        value, where = self.expr(stmt.value), self.position(buffer, stmt.index)
        array, written = self.arrays[buffer], self.written.get(buffer)

        def run(frame: Frame) -> None:
            self.stmt = stmt
            at = where(frame)
            array[at] = value(frame)
            if written is not None:
                written[at] = True

        return run

    def multiply(self, stmt: MultiplyTile) -> Callable[[Frame], None]:
        """The own thread's four elements of a warp's product, from the fragments of its whole warp."""
        parts = [
            (self.position(x.buffer, x.index), self.arrays[x.buffer])
            for x in (stmt.total, stmt.left, stmt.right)
        ]
        pair = 4 // stmt.left.dtype.itemsize  # in a register
        depth = np.arange(8 * pair)
        part, member, own = depth // (4 * pair), depth % (4 * pair) // pair, depth % pair

        def run(frame: Frame) -> None:
            self.stmt = stmt
            (at, total), (at_left, left), (at_right, right) = ((w(frame), a) for w, a in parts)
            lane = at[0] % WARP
            warp = at[0] - lane
            for c in range(4):
                half, column = c // 2, lane % 4 * 2 + c % 2
                row: tuple[Any, ...] = (
                    warp + lane // 4 * 4 + member,
                    *at_left[1:-1],
                    (2 * part + half) * pair + own,
                )
                line: tuple[Any, ...] = (warp + column * 4 + member, *at_right[1:-1], part * pair + own)
                product = left[row].astype(np.float64) @ right[line].astype(np.float64)
                where = (*at[:-1], c)
                total[where] = np.float64(total[where]) + product

        return run

    def multiply_group(self, stmt: MultiplyGroup) -> Callable[[Frame], None]:
        """The own thread's elements of a warpgroup's product."""
        parts = [
            (self.position(x.buffer, x.index), self.arrays[x.buffer])
            for x in (stmt.total, stmt.left, stmt.right)
        ]
        depth = np.arange(stmt.depth)
        eight, c = np.ogrid[: stmt.columns // 8, :4]

        def matrix(at: tuple[int, ...], array: Array, rows: Any, places: Any) -> Array:
            *lead, box, row, place = at
            found: Array = array[(*lead, box + (place + places) // 64, row + rows, (place + places) % 64)]
            return found.astype(np.float64)

        def run(frame: Frame) -> None:
            self.stmt = stmt
            (at, total), (at_left, left), (at_right, right) = ((w(frame), a) for w, a in parts)
            lane, warp = at[0] % WARP, at[0] // WARP * WARP
            halves = lane // 4 + 8 * np.arange(2)[:, None]
            if stmt.left.buffer.space == "thread":
                # Terms 0, 1 and 8, 9 are the first thread's of the four that share the row.
                member, part, own = depth % 8 // 2, depth % 16 // 8, depth % 2
                element = 4 * part + own + 2 * np.arange(2)[:, None]
                rows = left[(warp + lane // 4 * 4 + member, *at_left[1:-2], depth // 16, element)].astype(
                    np.float64
                )
            else:
                rows = matrix(at_left, left, warp % WARPGROUP // WARP * 16 + halves, depth[None, :])
            column = (eight * 8 + lane % 4 * 2 + c % 2).reshape(-1)
            if stmt.turned:
                columns = matrix(at_right, right, depth[:, None], column[None, :])
            else:
                columns = matrix(at_right, right, column[:, None], depth[None, :]).T
            found = (rows @ columns).reshape(2, -1, 4)
            product = np.where(c < 2, found[0], found[1])
            place = at[:-2]
            before = 0.0 if stmt.clear else total[place].astype(np.float64)
            total[place] = before + product
            self.written[stmt.total.buffer][place] = True

        return run

    def load_fragment(self, stmt: LoadFragment) -> Callable[[Frame], None]:
        own = stmt.fragment.index[0]
        lane = dims.mod(own, WARP)
        group, member = dims.floordiv(lane, 4), dims.mod(lane, 4)
        *lead, row, column = stmt.source.index
        steps = []
        pair, halves = 4 // stmt.source.dtype.itemsize, stmt.rows // 8
        for e in range(2 * halves * pair):
            part, half = e // (halves * pair), e // pair % halves
            where: tuple[DimLike, ...] = (*stmt.fragment.index[:-1], e)
            if stmt.pair:
                part, half = half, part
                where = (*stmt.fragment.index[:-2], half, e % (2 * pair))
            i, k = group + 8 * half, (member + 4 * part) * pair + e % pair
            place = (row + k, column + i) if stmt.turned else (row + i, column + k)
            source = Load(stmt.source.buffer, (*lead, *place))
            steps.append(self.store(Store(stmt.fragment.buffer, where, source)))

        rounds = stmt.source.dtype is dtypes.f32
        first, array = (
            self.position(stmt.fragment.buffer, stmt.fragment.index),
            self.arrays[stmt.fragment.buffer],
        )

        def run(frame: Frame) -> None:
            for step in steps:
                step(frame)
            if rounds:
                at = first(frame)[: -2 if stmt.pair else -1]
                array[at] = rounded_to_tf32(array[at])

        return run

    def copy(self, stmt: CopyAsync) -> Callable[[Frame], None]:
        steps = []
        for i in range(stmt.count):
            target, source = (
                Load(x.buffer, (*x.index[:-1], x.index[-1] + i)) for x in (stmt.target, stmt.source)
            )
            value: Expr = source
            if stmt.condition is not None:
                # The test is on indices: where it fails nothing is read.
                value = Apply("select", (stmt.condition, source, Const(0, source.dtype)), source.dtype)
            steps.append(self.store(Store(target.buffer, target.index, value)))

        def run(frame: Frame) -> None:
            for step in steps:
                step(frame)

        return run

    def pipeline(self, stmt: Pipeline) -> Callable[[Frame], None]:
        extent, left, right = self.index(stmt.extent), self.slice(stmt.left), self.slice(stmt.right)
        total, written = self.arrays[stmt.total], self.written[stmt.total]
        thread = np.arange(stmt.groups * WARPGROUP)[:, None, None, None]
        block, eight, c = np.ogrid[: total.shape[1], : total.shape[2], :4]
        lane = thread % WARP
        high = total.shape[1] * 64
        row = (
            thread // WARPGROUP * high + block * 64 + thread % WARPGROUP // WARP * 16 + lane // 4 + c // 2 * 8
        )
        column = eight * 8 + lane % 4 * 2 + c % 2

        def run(frame: Frame) -> None:
            self.stmt = stmt
            used = total[: len(thread)]
            if not written[: len(thread)].all():
                raise self.fail(f"{stmt.total.name} is read before it is written", frame)
            for k in range(extent(frame)):
                frame[stmt.var] = k
                product = left(frame) @ right(frame).T
                used[...] = used.astype(np.float64) + product[row, column]
            frame.pop(stmt.var, None)

        return run

    def slice(self, side: TileSlice) -> Callable[[Frame], Array]:
        """The slice's elements, [rows, depth], in float64."""
        seen = side.map
        start, sizes, strides = (
            [self.index(x) for x in values] for values in (side.start, seen.sizes, seen.strides)
        )
        offset, array = self.index(seen.offset), self.arrays[seen.buffer].reshape(-1)
        slice_shape = _shape(side.stages, {})[1:]
        shape = (*(1 for _ in start[2:]), *slice_shape)

        def read(frame: Frame) -> Array:
            inside: Any = True
            place: Any = offset(frame)
            for at, (first, size, step) in enumerate(zip(start, sizes, strides, strict=True)):
                index = first(frame) + np.arange(shape[at]).reshape([-1] + [1] * (len(shape) - at - 1))
                inside = inside & (index >= 0) & (index < size(frame))
                place = place + index * step(frame)
            found = np.zeros(shape, np.float64)
            chosen = np.broadcast_to(inside, shape)
            values = array[np.broadcast_to(place, shape)[chosen]]
            found[chosen] = rounded_to_tf32(values) if values.dtype == np.float32 else values
            matrix = found.reshape(slice_shape)
            return matrix.T if side.turned else matrix

        return read

    # Expressions

    def expr(self, expr: Expr) -> Evaluate:
        """The expression as a function of what is bound. Shared subexpressions are evaluated once each time."""
        shared = shared_applications(expr)
        evaluate = self._expr(expr, _Made(shared))
        if not shared:
            return evaluate

        def fresh(frame: Frame) -> Any:
            frame[_VALUES] = {}
            return evaluate(frame)

        return fresh

    def _expr(self, expr: Expr, made: _Made) -> Evaluate:
        key = id(expr)
        if key not in made:
            plain = self._build(expr, made)

            def remembered(frame: Frame) -> Any:
                values = frame[_VALUES]
                if key not in values:
                    values[key] = plain(frame)
                return values[key]

            made[key] = remembered if key in made.shared else plain
        return made[key]

    def _build(self, expr: Expr, made: _Made) -> Evaluate:
        match expr:
            case Const():
                with np.errstate(all="ignore"):
                    constant = np.array(expr.value).astype(expr.dtype.numpy)[()]
                return lambda frame: constant
            case Index():
                value = self.index(expr.value)
                return lambda frame: np.int64(value(frame))
            case Var():
                name = expr.name
                return lambda frame: frame[name]
            case Load():
                return self.load(expr)
            case LaneReduce():
                return self.lane_reduce(expr, made)
            case Shuffle():
                return self.load(expr.load, expr.mask)
            case Apply():
                return self.apply(expr, made)
        raise LoopError(f"kernel {self.kernel.name}: unknown expression {expr!r}")

    def load(self, expr: Load, mask: int = 0) -> Evaluate:
        where, array = self.position(expr.buffer, expr.index), self.arrays[expr.buffer]
        written = self.written.get(expr.buffer)

        def read(frame: Frame) -> Any:
            at = where(frame)
            if mask:
                at = (at[0] ^ mask, *at[1:])
            if written is not None and not written[at]:
                raise self.fail(f"{expr.buffer.name}{list(at)} is read before it is written", frame)
            return array[at]

        return read

    def apply(self, expr: Apply, made: _Made) -> Evaluate:
        args = [self._expr(arg, made) for arg in expr.args]
        if expr.op == "select":
            condition, a, b = args
            if tests_indices(expr.args[0]):
                return lambda frame: a(frame) if condition(frame) else b(frame)

            def select(frame: Frame) -> Any:
                # Native code reads both arms.
                x, y = a(frame), b(frame)
                return x if condition(frame) else y

            return select
        function = scalar_function(expr.op, expr.args[0].dtype, expr.dtype)
        if len(args) == 1:
            (only,) = args
            return lambda frame: function(only(frame))
        if len(args) == 2:
            first, second = args
            return lambda frame: function(first(frame), second(frame))
        if len(args) == 3:
            first, second, third = args
            return lambda frame: function(first(frame), second(frame), third(frame))
        return lambda frame: function(*(arg(frame) for arg in args))

    def lane_reduce(self, expr: LaneReduce, made: _Made) -> Evaluate:
        value = self._expr(expr.value, made)
        combine = scalar_function(expr.combine, expr.dtype, expr.dtype)

        def reduce(frame: Frame) -> Any:
            lanes = [value({**frame, expr.var: i, _VALUES: {}}) for i in range(expr.lanes)]
            while len(lanes) > 1:
                half = len(lanes) // 2
                lanes = [combine(lanes[i], lanes[i + half]) for i in range(half)]
            return lanes[0]

        return reduce

    # Indices

    def position(self, buffer: Buffer, index: Sequence[DimLike]) -> Callable[[Frame], tuple[int, ...]]:
        parts = [self.index(i) for i in index]
        shape = self.arrays[buffer].shape

        def where(frame: Frame) -> tuple[int, ...]:
            at = tuple([part(frame) for part in parts])
            for i, size in zip(at, shape):
                if not 0 <= i < size:
                    raise self.fail(f"{buffer.name}{list(at)} is outside its shape {list(shape)}", frame)
            return at

        return where

    def index(self, value: DimLike) -> Callable[[Frame], int]:
        """The index expression as a function of what is bound; symbols are checked against their bounds."""
        if isinstance(value, int):
            return lambda frame: value
        if all(
            len(monomial) == 1 and isinstance(monomial[0], Symbol) for monomial, _ in value.terms if monomial
        ):
            return self._linear(value)
        terms = [(factor, [self._atom(atom) for atom in monomial]) for monomial, factor in value.terms]

        def evaluate(frame: Frame) -> int:
            total = 0
            for factor, atoms in terms:
                for atom in atoms:
                    factor *= atom(frame)
                total += factor
            return total

        return evaluate

    def _linear(self, value: dims.Expr) -> Callable[[Frame], int]:
        """Most index expressions are sums of multiples of symbols, and most of a run is spent in them."""
        start = sum(factor for monomial, factor in value.terms if not monomial)
        symbols = [
            (atom.name, atom.low, atom.high, factor)
            for monomial, factor in value.terms
            for atom in monomial
            if isinstance(atom, Symbol)
        ]

        def evaluate(frame: Frame) -> int:
            total = start
            for name, low, high, factor in symbols:
                number = int(frame[name])
                if not low <= number <= high:
                    raise self.outside(name, number, low, high, frame)
                total += factor * number
            return total

        return evaluate

    def _atom(self, atom: dims.Atom) -> Callable[[Frame], int]:
        if isinstance(atom, Symbol):
            name, low, high = atom.name, atom.low, atom.high

            def symbol(frame: Frame) -> int:
                number = int(frame[name])
                if not low <= number <= high:
                    raise self.outside(name, number, low, high, frame)
                return number

            return symbol
        if isinstance(atom, Quotient | Remainder):
            inner, divisor = self.index(atom.expr), atom.divisor
            if isinstance(atom, Quotient):
                return lambda frame: inner(frame) // divisor
            return lambda frame: inner(frame) % divisor
        left, right = self.index(atom.left), self.index(atom.right)
        return lambda frame: min(left(frame), right(frame))
