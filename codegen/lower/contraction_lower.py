"""Lowering of groups that hold a matmul or a convolution, with the pointwise work on its result."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from ...ir import dims, dtypes
from ...ir.dims import DimLike
from ...ir.graph import Graph, Node, Value
from ..loops.nodes import Buffer, Const, Expr, Index, Load, Prefetch, Stmt, Store, Var
from ..scalar import SCALAR
from ..target import Target
from .borders import drop_unread, in_tasks
from .context import Args, LowerContext, Names
from .contraction import Access, Contraction, contraction_node
from .contraction_ahead import fetched_ahead, next_panel
from .contraction_forms import launch_copies, ranked_forms, sums_way
from .contraction_nest import contraction_loops
from .contraction_operands import repeated
from .contraction_pack import panels
from .contraction_plan import Choice
from .contraction_rows import packed_rows
from .contraction_tile import PART, Bindings, Soon, loop_var
from .contraction_words import Sums
from .conv import conv_contractions
from .elementwise import Nest, launch_nests
from .gemm import matmul_contraction
from .indexing import BodyEvaluator, IndexTuple
from .spaces import linear, reindex
from .template import Element, make_axes, store_all, walk
from .tiling import Plan

# The name that stands for a sum in the epilogue's elements.
SUM = "sum"
# Smaller arrays than this stay near the core. Sums of fewer steps are done before anything comes from memory; what a
# tile reads must leave room in the cache for what is fetched meanwhile.
NEAR, FEWEST_STEPS, ROOM = 1 << 18, 32, 1 << 19
# Than vectors are tile registers, about.
FASTER = 8


def lower_contraction(ctx: LowerContext, node: Node, body: Graph, args: Args) -> None:
    """Launches the contraction of a group's body and what stands around it. `args` holds the program's buffer
    of each body input and output. Raises IRError where the body is not one contraction with a pointwise
    epilogue."""
    core = contraction_node(body)
    if any(size == 0 for size in core.outputs[0].type.shape):
        return
    operands = ctx.schedules.operands(ctx, body, args)
    epilogue = Epilogue(ctx, body, args, core.outputs[0])
    if core.op.name != "matmul" and ctx.schedules.convolution(ctx, core, operands, epilogue):
        return
    found = (
        [matmul_contraction(core, operands)]
        if core.op.name == "matmul"
        else conv_contractions(core, operands)
    )
    for problem in found:
        ctx.schedules.contraction(ctx, problem, epilogue)
    drop_unread(ctx)


@dataclass(frozen=True)
class Epilogue:
    """What a body makes of its contraction's result."""

    ctx: LowerContext
    body: Graph
    args: Args
    result: Value

    def evaluator(self) -> BodyEvaluator:
        """Of the body's values, a name standing for the sum."""
        held = {self.result: lambda _: Var(SUM, self.result.type.dtype)}
        return BodyEvaluator(self.body, self.args, held, self.ctx.flat)

    def elements(self, index: IndexTuple) -> list[Element]:
        """What is stored for an element of the contraction's result, a name standing for the sum."""
        shape, evaluator = self.result.type.shape, self.evaluator()
        return [
            Element(
                self.ctx.flat(self.args[out]),
                linear(index, shape),
                evaluator.at(
                    out, index if out.type.shape == shape else reindex(index, shape, out.type.shape)
                ),
            )
            for out in dict.fromkeys(self.body.outputs)
        ]

    def known(self, value: Expr) -> dict[str, Expr]:
        return {SUM: SCALAR.cast(value, self.result.type.dtype)}


def contraction_on_cpu(ctx: LowerContext, problem: Contraction[Access], epilogue: Epilogue) -> None:
    """Launches a contraction in register tiles, walked as the cheapest plans say."""
    steady = (n for n, x in enumerate(problem.operands) if ctx.storage(x.buffer) in ctx.fixed)
    problem = replace(problem, resident=frozenset(steady))
    target, elements = ctx.target, epilogue.elements(problem.result)
    assert isinstance(target, Target)
    chosen = ctx.choose(problem.name, lambda count: ranked_forms(ctx, problem, elements, target, count))
    launch_copies(ctx, chosen.copies)
    for copy in chosen.copies:
        if isinstance(copy, Sums):
            _launch_sums(ctx, copy, target)
    for choice in chosen.choices:
        _launch(ctx, chosen.problem, choice, problem.flops, epilogue, chosen.elements)


@dataclass(frozen=True)
class _Multiple:
    """An epilogue that stores `factor` times the sum in `place`."""

    ctx: LowerContext
    place: Buffer
    factor: int

    def elements(self, index: IndexTuple) -> list[Element]:
        value = SCALAR.mul(Var(SUM, self.place.dtype), self.factor)
        return [Element(self.ctx.flat(self.place), linear(index, self.place.shape), value)]

    def known(self, value: Expr) -> dict[str, Expr]:
        return {SUM: value}


def _launch_sums(ctx: LowerContext, sums: Sums, target: Target) -> None:
    ctx.scratches.append((sums.stem, sums.place))
    epilogue = _Multiple(ctx, sums.place, sums.factor)
    for choice in sums_way(sums, target):
        _launch(ctx, sums.problem, choice, 0, epilogue, epilogue.elements(sums.problem.result))


def _launch(
    ctx: LowerContext,
    problem: Contraction,
    choice: Choice,
    flops: DimLike,
    epilogue: Epilogue | _Multiple,
    elements: Sequence[Element],
) -> None:
    """The kernels of one contraction; none of them does anything where the choice's `times` is 0."""
    plan, times = choice.plan, choice.times
    operands = list(problem.operands)
    for operand, axis in plan.packed.items():
        often = 1 if operand in problem.resident else times
        if axis == plan.rows:
            operands[operand] = packed_rows(ctx, problem, operands[operand], axis, often)
        else:
            operands[operand] = panels(ctx, problem, operands[operand], axis, plan.tile(axis), often)
    problem = problem.with_operands(*operands)
    before = None
    local = in_tasks(ctx, problem, plan) if times == 1 and not plan.rows else None
    if local is not None:
        problem, plan, before = local
    row = dims.product(problem.shape)
    parts = ctx.scratch("parts", problem.accumulator, (plan.parts, row)) if plan.parts > 1 else None

    def finish(bindings: Bindings, value: Expr) -> Sequence[Stmt]:
        if problem.added is not None:
            value = SCALAR.add(value, _once(problem.added.at(bindings), plan))
        if parts is not None:
            return [
                Store(parts, (loop_var(PART, plan.parts), dims.substitute(problem.position, bindings)), value)
            ]
        return store_all(elements, bindings, epilogue.known(value))

    soon = None if parts is not None or plan.rows else _fetches(problem, plan, elements)
    if before is None and soon is None and isinstance(ctx.target, Target):
        before = fetched_ahead(problem, plan, ctx.target) or next_panel(ctx, problem, plan)
    ctx.launch(
        problem.name,
        repeated(contraction_loops(problem, plan, finish, before=before, soon=soon), times),
        cost=task_cost(problem, plan),
        flops=flops,
        comment=f"{plan}; in words by {problem.dot}" if problem.dot else str(plan),
    )
    if parts is not None:
        add_parts(ctx, problem, epilogue, parts, plan.parts)


def _once(added: Expr, plan: Plan) -> Expr:
    """What is added to a sum, in the first of its parts."""
    if plan.parts == 1:
        return added
    first = SCALAR.eq(Index(loop_var(PART, plan.parts)), Const(0, dtypes.i64))
    return SCALAR.select(first, added, Const(0, added.dtype))


def _fetches(problem: Contraction, plan: Plan, elements: Sequence[Element]) -> Soon | None:
    """Fetches the arrays that the epilogue reads, such as a residual or an optimizer's moments, where the tile's sums
    take long enough for them to come and leave them room in the cache. None where there are none, or where lanes are
    not neighbours in them."""
    rows = [a for a in problem.parallel if a.name != plan.lane]
    if len(rows) == len(problem.parallel):
        return None
    steps = dims.bounds(dims.product(a.extent for a in problem.reduction))[1]
    across = sum(plan.tile(a.name) for a in problem.parallel)
    if not FEWEST_STEPS <= steps <= ROOM // (across * problem.accumulator.itemsize):
        return None
    far: dict[tuple[Buffer, DimLike], None] = {}
    for load in (x for x in walk(e.value for e in elements) if isinstance(x, Load)):
        (position,) = load.index
        strides = [dims.coefficient(position, a.name) for a in (problem.axes[plan.lane], *rows)]
        if strides[0] is None or strides[0][0] != 1 or dims.bounds(load.buffer.nbytes)[1] <= NEAR:
            continue
        if any(found is None or found[0] != 0 for found in strides[1:]):
            far[load.buffer, position] = None
    if not far:
        return None

    def soon(bindings: Bindings) -> list[Prefetch]:
        return [
            Prefetch(Load(buffer, (dims.substitute(position, bindings),)), level=2)
            for buffer, position in far
        ]

    return soon


def add_parts(
    ctx: LowerContext, problem: Contraction, epilogue: Epilogue | _Multiple, parts: Buffer, count: int
) -> None:
    """Adds the parts of each element of the result, in their order."""
    names = Names()
    axes = make_axes(names, problem.shape)
    index = tuple(a.index for a in axes)
    position = linear(index, problem.shape)
    total: Expr = Load(parts, (0, position))
    for part in range(1, count):
        total = SCALAR.add(total, Load(parts, (part, position)))
    elements = [e.at({}, None, epilogue.known(total)) for e in epilogue.elements(index)]
    launch_nests(ctx, f"{problem.name}_parts", [Nest(names, axes, elements)])


def task_cost(problem: Contraction, plan: Plan) -> DimLike:
    """Multiply-adds of one task, or as many as vectors would do in the time."""
    work: DimLike = 1
    for axis in problem.axes.values():
        if axis.name in plan.blocks:
            work = work * plan.tile(axis.name) * plan.blocks[axis.name]
        elif axis.name == plan.split:
            work = work * dims.floordiv(axis.extent + (plan.parts - 1), plan.parts)
        else:
            work = work * axis.extent
    return dims.floordiv(work + (FASTER - 1), FASTER) if plan.rows else work
