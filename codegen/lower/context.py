"""What a lowering works with: the program under construction.

`LowerContext` holds the program's buffers and launches. A lowering of a fused group is a function
`lower_<kind>(ctx, node, body, args)`: `node` is the `fused` node, `body` its region, `args` the program's
buffer of each body input and body output (by body value). It asks `ctx` for scratch memory, builds statements
over buffers, and hands each kernel to `ctx.launch`, which finds out which buffers and dims those use.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, TypeVar

from ...ir import dims
from ...ir.dims import DimLike, Symbol
from ...ir.dtypes import DType
from ...ir.graph import Graph, IRError, Location, Value
from ..loops.nodes import (
    Apply,
    Buffer,
    Check,
    ClearTile,
    CopyAsync,
    CopyCommit,
    CopyWait,
    Expr,
    FiniteCheck,
    For,
    Held,
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
    Pipeline,
    Prefetch,
    Repeat,
    Shuffle,
    Stmt,
    Store,
    StoreTile,
    TensorMap,
)
from ..loops.walk import statement_expressions
from ..target import GpuTarget, Target
from .choices import CANDIDATES, Candidate, Choices, Group, Question
from .names import Names
from .template import share_between_stores

if TYPE_CHECKING:
    from .borders import BorderCopy
    from .reuse import Lowered
    from .schedules import Schedules

Args = Mapping[Value, Buffer]
T = TypeVar("T")


@dataclass(frozen=True)
class LowerOptions:
    """serial_below: element operations under which a kernel is not worth sharing among threads.
    stash_limit: longest row, in elements, that a reduction keeps on the stack between its passes.
    reduce_chunks: into how many partial results a full reduction is split, whatever the thread count.
    steady_inputs: names of inputs whose contents change less often than programs run: what depends on them alone is
    computed once and kept (`preparing.py`).
    check_finite: "nan" or "finite" has every group's floating results tested, and the program stop where one is NaN, or
    infinite too (`finite.py`).
    tf32: of "matmul" and "conv", those whose float32 operands a GPU's tensor cores may round to tf32.
    strict: roundings between operations on sixteen-bit numbers are kept (`wide_chains.py`).
    lend: values may lie in results that nothing has written yet (`lending.py`).
    choices: what measurements say where the model would choose; None leaves every choice to the model."""

    serial_below: int = 16384
    stash_limit: int = 32768
    reduce_chunks: int = 16
    check_finite: Literal["", "nan", "finite"] = ""
    steady_inputs: tuple[str, ...] = ()
    tf32: tuple[str, ...] = ()
    strict: bool = False
    lend: bool = True
    choices: Choices | None = None


class LowerContext:
    """The program so far. A kernel may see a buffer in another shape, through `view`."""

    def __init__(self, target: Target | GpuTarget, schedules: Schedules, options: LowerOptions | None = None):
        self.target = target
        self.schedules = schedules
        self.options = options or LowerOptions()
        self.launches: list[Launch] = []
        # With the stem of its name.
        self.scratches: list[tuple[str, Buffer]] = []
        self.messages: dict[int, str] = {}
        self.repeats: list[Repeat] = []
        self.finite_checks: dict[int, FiniteCheck] = {}
        self.scans: list[Held] = []
        self.fixed: set[Buffer] = set()
        self.borders: dict[Buffer, BorderCopy] = {}
        self.lowered: dict[Hashable, Lowered] = {}
        # The group being lowered, where its lowering may be chosen by measurements; what it asked so far.
        self.group: Group | None = None
        self.questions: list[Question] = []
        self._names = Names()
        self._viewed: dict[Buffer, Buffer] = {}
        self._flat: dict[Buffer, Buffer] = {}

    @contextmanager
    def repeated(self, fixed: Iterable[Buffer]) -> Iterator[None]:
        """What is launched inside will run many times, with the same contents of the buffers in `fixed`."""
        before, self.fixed = self.fixed, set(fixed)
        yield
        self.fixed = before

    def choose(self, subject: str, ranked: Callable[[int], Sequence[Candidate[T]]]) -> T:
        """The way to compute `subject` (an op, a kernel), as `LowerOptions.choices` says: one of those that
        `ranked(count)` gives, the model's best first."""
        choices, group = self.options.choices, self.group
        if choices is None or group is None:
            return ranked(1)[0].plan
        candidates = ranked(CANDIDATES)
        number = sum(q.group is group for q in self.questions)
        asked = Question(group, number, subject, candidates)
        name = choices.names.get(asked.key, candidates[0].name)
        chosen = next((n for n, c in enumerate(candidates) if c.name == name), None)
        if chosen is None:
            raise IRError(
                f"{subject}: {name!r} is none of the ways there are: {[c.name for c in candidates]}"
            )
        self.questions.append(replace(asked, chosen=chosen))
        return candidates[chosen].plan

    def fresh(self, stem: str) -> str:
        """A name for a program buffer or kernel that no other has."""
        return self._names(stem)

    def scratch(self, stem: str, dtype: DType, shape: Sequence[DimLike]) -> Buffer:
        """Arena memory that lives from the first launch that uses it to the last."""
        buffer = Buffer(self.fresh(stem), dtype, tuple(shape))
        self.scratches.append((stem, buffer))
        return buffer

    def view(self, buffer: Buffer, shape: Sequence[DimLike]) -> Buffer:
        """The same memory under another shape of as many elements."""
        if tuple(shape) == buffer.shape:
            return buffer
        alias = Buffer(buffer.name, buffer.dtype, tuple(shape), buffer.space)
        if alias.numel != buffer.numel:
            raise IRError(f"{buffer} cannot be seen as {list(shape)}: {alias.numel} elements")
        self._viewed[alias] = self.storage(buffer)
        return alias

    def flat(self, buffer: Buffer) -> Buffer:
        """The buffer as one row, for linear offsets; one object per buffer."""
        if buffer not in self._flat:
            self._flat[buffer] = self.view(buffer, (buffer.numel,))
        return self._flat[buffer]

    def storage(self, buffer: Buffer) -> Buffer:
        """The program buffer behind a view."""
        return self._viewed.get(buffer, buffer)

    def check_code(self, message: str) -> int:
        """The code of a `Check` whose failure is reported as `message`; equal messages share one."""
        for code, text in self.messages.items():
            if text == message:
                return code
        code = len(self.messages) + 1
        self.messages[code] = message
        return code

    def label_launches(self, start: int, source: str) -> None:
        """Say of the launches from number `start` on what they compute, where that is not said yet."""
        for i in range(start, len(self.launches)):
            self.launches[i] = replace(self.launches[i], source=self.launches[i].source or source)

    def launch(
        self,
        name: str,
        body: Sequence[Stmt],
        *,
        cost: DimLike = 1,
        flops: DimLike = 0,
        bytes: DimLike | None = None,
        source: str = "",
        comment: str = "",
    ) -> Kernel:
        """Append a kernel and its launch. Params, writes, locals and dims are those that the statements use.

        `cost` is work per iteration of the parallel loop; `bytes` defaults to every global buffer once.
        """
        body = share_between_stores(body, Names(Usage.of(body).names))
        used = Usage.of(body)
        params = tuple(b for b in used.buffers if b.space == "global")
        # Views of one buffer have its name; parameters need one each.
        seen = Names()
        renamed = {b: Buffer(seen(b.name), b.dtype, b.shape) for b in params}
        kernel = Kernel(
            name=self.fresh(name),
            params=tuple(renamed.values()),
            writes=frozenset(renamed[b].name for b in params if b in used.written),
            body=tuple(rename_buffers(s, renamed) for s in body),
            dims=used.dims,
            locals=tuple(b for b in used.buffers if b.space != "global"),
            cost=_of_first_iteration(cost, used.dims),
            comment=comment,
        )
        args = tuple(self.storage(b) for b in params)
        if bytes is None:
            bytes = 0
            for buffer in dict.fromkeys(args):
                bytes = bytes + buffer.nbytes
        self.launches.append(Launch(kernel, args, source, flops, bytes))
        return kernel

    def launch_host(self, name: str, graph: Graph, args: Args, location: Location | None) -> None:
        """Append a host call: the graph run on the buffers of its inputs and outputs."""
        params = tuple(args[v] for v in (*graph.inputs, *graph.outputs))
        given = tuple(map(self.storage, params))
        bytes: DimLike = 0
        for buffer in params:
            bytes = bytes + buffer.nbytes
        self.launches.append(Launch(HostCall(self.fresh(name), graph, params, location), given, bytes=bytes))


def _of_first_iteration(cost: DimLike, known: Sequence[Symbol]) -> DimLike:
    """The cost with loop variables at their first value: later iterations of a split loop may be shorter."""
    names = {s.name for s in known}
    return dims.substitute(cost, {s.name: s.low for s in dims.symbols(cost) if s.name not in names})


class Usage:
    """What a list of statements uses: buffers in order of first use, those stored to, free symbols."""

    def __init__(self) -> None:
        self.buffers: dict[Buffer, None] = {}
        self.written: set[Buffer] = set()
        self._symbols: dict[str, Symbol] = {}
        self._bound: set[str] = set()
        self._seen: set[int] = set()

    @classmethod
    def of(cls, body: Iterable[Stmt]) -> Usage:
        usage = cls()
        usage._block(body)
        for buffer in usage.buffers:
            usage._dims(buffer.shape)
        return usage

    @property
    def dims(self) -> tuple[Symbol, ...]:
        return tuple(self._symbols[n] for n in sorted(self._symbols) if n not in self._bound)

    @property
    def names(self) -> set[str]:
        return {*self._bound, *self._symbols}

    def _dims(self, values: Iterable[DimLike]) -> None:
        for value in values:
            for symbol in dims.symbols(value):
                self._symbols[symbol.name] = symbol

    def _block(self, body: Iterable[Stmt]) -> None:
        for stmt in body:
            match stmt:
                case For():
                    self._bound.add(stmt.var)
                    self._dims([stmt.extent])
                    self._block(stmt.body)
                case Let():
                    self._bound.add(stmt.name)
                    self._expr(stmt.value)
                case Store():
                    self._expr(stmt.value)
                    self.buffers[stmt.buffer] = None
                    self.written.add(stmt.buffer)
                    self._dims(stmt.index)
                case If():
                    self._expr(stmt.condition)
                    self._block(stmt.body)
                    self._block(stmt.orelse)
                case Check():
                    self._expr(stmt.condition)
                case Prefetch():
                    self._expr(stmt.source)
                case ClearTile():
                    self._expr(stmt.tile)
                case LoadTile() | StoreTile():
                    self._expr(stmt.tile)
                    self._expr(stmt.source if isinstance(stmt, LoadTile) else stmt.target)
                    self._dims([stmt.step])
                case MultiplyTile() | MultiplyGroup() | MultiplyWords():
                    for load in (stmt.total, stmt.left, stmt.right):
                        self._expr(load)
                case LoadFragment():
                    self._expr(stmt.fragment)
                    self._expr(stmt.source)
                case Pipeline():
                    self._pipeline(stmt)
                case CopyAsync():
                    self._expr(stmt.target)
                    for expr in statement_expressions(stmt):
                        self._expr(expr)

    def _pipeline(self, stmt: Pipeline) -> None:
        self._bound.add(stmt.var)
        self._dims([stmt.extent])
        for side in (stmt.left, stmt.right):
            self.buffers.update(dict.fromkeys((side.map.buffer, side.stages)))
            self._dims([side.map.offset, *side.map.sizes, *side.map.strides, *side.start])
        self.buffers.update(dict.fromkeys((stmt.total, stmt.marks)))

    def _expr(self, expr: Expr) -> None:
        if id(expr) in self._seen:
            return
        self._seen.add(id(expr))
        match expr:
            case Load():
                self.buffers[expr.buffer] = None
                self._dims(expr.index)
            case Index():
                self._dims([expr.value])
            case Apply():
                for arg in expr.args:
                    self._expr(arg)
            case LaneReduce():
                self._bound.add(expr.var)
                self._expr(expr.value)
            case Shuffle():
                self._expr(expr.load)


def rename_buffers(stmt: Stmt, renamed: Mapping[Buffer, Buffer]) -> Stmt:
    """The statement over other buffers; shared expressions stay shared."""
    return _Rename(renamed).stmt(stmt)


class _Rename:
    def __init__(self, renamed: Mapping[Buffer, Buffer]):
        self.renamed = renamed
        self._done: dict[int, Expr] = {}
        self._kept: list[Expr] = []

    def stmt(self, stmt: Stmt) -> Stmt:
        match stmt:
            case For():
                return For(stmt.var, stmt.extent, tuple(map(self.stmt, stmt.body)), stmt.kind, stmt.lanes)
            case Let():
                return Let(stmt.name, self.expr(stmt.value))
            case Store():
                buffer = self.renamed.get(stmt.buffer, stmt.buffer)
                return Store(buffer, stmt.index, self.expr(stmt.value))
            case If():
                then, orelse = tuple(map(self.stmt, stmt.body)), tuple(map(self.stmt, stmt.orelse))
                return If(self.expr(stmt.condition), then, orelse)
            case Check():
                return Check(self.expr(stmt.condition), stmt.code)
            case Prefetch():
                source = stmt.source
                return replace(
                    stmt, source=Load(self.renamed.get(source.buffer, source.buffer), source.index)
                )
            case LoadTile():
                source = stmt.source
                return replace(
                    stmt, source=Load(self.renamed.get(source.buffer, source.buffer), source.index)
                )
            case CopyAsync():
                source = Load(self.renamed.get(stmt.source.buffer, stmt.source.buffer), stmt.source.index)
                condition = None if stmt.condition is None else self.expr(stmt.condition)
                return replace(stmt, source=source, condition=condition)
            case Pipeline():
                left, right = (replace(side, map=self.map(side.map)) for side in (stmt.left, stmt.right))
                return replace(stmt, left=left, right=right)
            case ClearTile() | StoreTile() | MultiplyWords():
                return stmt  # locals are never renamed
            case MultiplyTile() | MultiplyGroup() | LoadFragment() | CopyCommit() | CopyWait():
                return stmt  # locals are never renamed

    def map(self, seen: TensorMap) -> TensorMap:
        return replace(seen, buffer=self.renamed.get(seen.buffer, seen.buffer))

    def expr(self, expr: Expr) -> Expr:
        if id(expr) not in self._done:
            self._kept.append(expr)  # ids stay valid while this object lives
            self._done[id(expr)] = self._rebuild(expr)
        return self._done[id(expr)]

    def _rebuild(self, expr: Expr) -> Expr:
        match expr:
            case Load():
                return Load(self.renamed.get(expr.buffer, expr.buffer), expr.index)
            case Apply():
                return Apply(expr.op, tuple(map(self.expr, expr.args)), expr.dtype)
            case LaneReduce():
                return LaneReduce(expr.combine, expr.var, expr.lanes, self.expr(expr.value))
            case Shuffle():
                load = expr.load
                return Shuffle(Load(self.renamed.get(load.buffer, load.buffer), load.index), expr.mask)
        return expr


def nest(space: Sequence[tuple[str, DimLike]], body: Sequence[Stmt]) -> tuple[Stmt, ...]:
    """`body` inside serial loops over the (variable, extent) pairs, outermost first."""
    result = tuple(body)
    for var, extent in reversed(space):
        result = (For(var, extent, result),)
    return result


__all__ = ["Args", "LowerContext", "LowerOptions", "Names", "Usage", "nest"]
