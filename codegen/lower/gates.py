"""Gates: a product and what is made of one unit of each gate, in one kernel.

The columns of the product are split in two axes, gates and units, and a register tile holds the same units of all
gates: 6 rows of 4 vectors for an LSTM, as many as the tile of another product. What follows reads its sums from
registers. Units run along the lanes, so the weights are packed, one panel a gate for each vector of units: worth it
where that is done once for many steps or calls, and elsewhere the two are launched one after the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ...ir import dims
from ...ir.graph import Graph, Node, Value
from ...passes.fusion_gates import gate_count, split_gates
from ..loops.nodes import Const, Expr, Load, Prefetch, Stmt, Var, whole
from ..scalar import SCALAR
from ..target import Target
from .context import Args, LowerContext, Names
from .contraction import Access, Axis, Contraction, contraction_node
from .contraction_cycles import Core, live_operands
from .contraction_lower import lower_contraction, task_cost
from .contraction_nest import contraction_loops
from .contraction_tile import Bindings, Together
from .elementwise import Nest, launch_nests
from .gemm import matmul_contraction
from .indexing import BodyEvaluator, IndexTuple
from .pointwise import lower_loop
from .spaces import linear
from .template import Element, make_axes, operations, store_all, walk
from .tiling import Plan

UNITS, GATES = "u", "g"
# Rows of a register tile at most: with four gates its sums take 24 of 32 registers.
MAX_ROWS = 6
# Sequences of fewer bytes stay near the core from the kernel that wrote them.
NEAR = 1 << 20
# Multiply-adds in the text of the innermost loop, where several steps are written out: of 24 sums, two steps were
# slower by a tenth than one.
MOST_UNROLLED = 32


def lower_gates(ctx: LowerContext, node: Node, body: Graph, args: Args) -> None:
    """Launches a group of kind `gates`."""
    if ctx.schedules.gates(ctx, body, args):
        return
    core = contraction_node(body)
    product, rest = split_gates(body, core)
    (result,) = core.outputs
    place = ctx.scratch(result.name, result.type.dtype, result.type.shape)
    args = {**args, result: place}
    lower_contraction(ctx, node, product, args)
    lower_loop(ctx, node, rest, args)


def gates_on_cpu(ctx: LowerContext, body: Graph, args: Args) -> bool:
    """Launches the group as one kernel, where its weights are packed once for many runs of it; whether it did."""
    core = contraction_node(body)
    (result,) = core.outputs
    count = gate_count([n for n in body.nodes if n is not core], result)
    weights = _source(body, core.inputs[1])
    alike = {v.type.dtype for v in (*core.inputs, result)}
    if count is None or weights is None or len(alike) != 1 or not result.type.dtype.is_floating_point:
        return False
    if result.type.dtype.itemsize < 4 or ctx.storage(args[weights]) not in ctx.fixed:
        return False
    problem = _in_gates(matmul_contraction(core, ctx.schedules.operands(ctx, body, args)), count)
    elements = _elements(ctx, body, args, problem, result, count)
    assert isinstance(ctx.target, Target)
    plan = _plan(ctx.target, problem, count)
    problem = problem.with_operands(problem.left, _side_by_side(ctx, problem, plan.lanes))

    def finish(bindings: Bindings, sums: Sequence[Expr]) -> Sequence[Stmt]:
        known = {_sum(gate): SCALAR.cast(value, result.type.dtype) for gate, value in enumerate(sums)}
        return store_all(elements, bindings, known)

    reads = [x for x in walk(e.value for e in elements) if isinstance(x, Load)]
    far = [x for x in reads if dims.bounds(whole(ctx.storage(x.buffer)).nbytes)[1] > NEAR]

    def soon(bindings: Bindings) -> list[Prefetch]:
        """Of a long sequence's element, rows lie far apart: lines that nothing foresees, from memory."""
        return [Prefetch(Load(x.buffer, tuple(dims.substitute(i, bindings) for i in x.index))) for x in far]

    rows = problem.axes["m"].extent
    work = operations([e.value for e in elements]) * plan.lanes * rows
    flops = problem.flops + operations([e.value for e in elements]) * rows * problem.axes[UNITS].extent
    ctx.launch(
        "gates",
        contraction_loops(problem, plan, Together(GATES, finish), soon=soon),
        cost=task_cost(problem, plan) + work,
        flops=flops,
        comment=str(plan),
    )
    return True


def _source(body: Graph, value: Value) -> Value | None:
    """The input that an operand is, through views."""
    producers = body.producers()
    while value in producers:
        node = producers[value]
        if node.op.lowering != "view" or len(node.inputs) != 1:
            return None
        (value,) = node.inputs
    return value


def _sum(gate: int) -> str:
    return f"sum{gate}"


def _in_gates(product: Contraction[Access], count: int) -> Contraction[Access]:
    """The product with its columns as gates and units."""
    rows, columns = product.parallel
    gates, units = Axis(GATES, count), Axis(UNITS, dims.exact_div(columns.extent, count))
    column = {columns.name: gates.var * units.extent + units.var}
    return replace(
        product,
        parallel=(rows, gates, units),
        right=product.right.over(column),
        result=tuple(dims.substitute(i, column) for i in product.result),
    )


def _elements(
    ctx: LowerContext, body: Graph, args: Args, problem: Contraction[Access], result: Value, count: int
) -> list[Element]:
    """What is stored for a unit of a row; of results side by side, a unit of each."""
    row, unit = problem.axes["m"].var, problem.axes[UNITS].var
    width = problem.axes[UNITS].extent

    def held(index: IndexTuple) -> Expr:
        gate = dims.exact_div(index[1] - unit, width)
        assert index[0] == row and isinstance(gate, int) and 0 <= gate < count
        return Var(_sum(gate), result.type.dtype)

    extents = {axis.name: axis.extent for axis in problem.parallel}
    evaluator = BodyEvaluator(body, args, {result: held}, ctx.flat, extents)
    found: list[Element] = []
    for out in dict.fromkeys(body.outputs):
        parts = dims.exact_div(out.type.shape[1], width)
        assert isinstance(parts, int)
        for part in range(parts):
            index = (row, unit + part * width)
            value = evaluator.at(out, index)
            found.append(Element(ctx.flat(args[out]), linear(index, out.type.shape), value))
    return found


def _side_by_side(ctx: LowerContext, problem: Contraction[Access], lanes: int) -> Access:
    """Launches the packing of the weights to [vectors of units, k, gates, lanes], zeros past the last unit: what a tile
    reads is one stream (a panel for each gate, 256 KiB apart, was slower by a tenth at 16 rows)."""
    gates, units, steps = (problem.axes[name] for name in (GATES, UNITS, "k"))
    assert isinstance(units.extent, int)
    full, rest = divmod(units.extent, lanes)
    shape = (full + (rest > 0), steps.extent, gates.extent, lanes)
    target = ctx.scratch("panels", problem.accumulator, shape)
    source, flat, names = ctx.flat(problem.right.buffer), ctx.flat(target), Names()

    def nest(first: int, tiles: int, low: int, high: int) -> Nest:
        """Lanes `low` to `high` of some tiles."""
        axes = make_axes(names, (tiles, steps.extent, gates.extent, high - low))
        tile, step, gate, lane = (a.index for a in axes)
        place = (first + tile, step, gate, low + lane)
        unit = place[0] * lanes + place[3]
        inside = low < (rest if first == full else lanes)
        at = dims.substitute(problem.right.position, {UNITS: unit, "k": step, GATES: gate})
        value = Load(source, (at,)) if inside else Const(0, target.dtype)
        return Nest(names, axes, [Element(flat, linear(place, shape), value)])

    nests = [nest(0, full, 0, lanes)] if full else []
    if rest:
        nests += [nest(full, 1, 0, rest), nest(full, 1, rest, lanes)]
    launch_nests(ctx, "pack", nests)
    vector = dims.floordiv(units.var, lanes)
    return Access(target, (vector, steps.var, gates.var, dims.mod(units.var, lanes)))


def _plan(target: Target, problem: Contraction[Access], count: int) -> Plan:
    """Tiles of all gates, as many rows as registers allow, and as many in each; a task for each vector of units."""
    lanes = target.lanes(problem.accumulator)
    width = problem.axes[UNITS].extent
    assert isinstance(width, int)
    while lanes > 1 and lanes // 2 >= width:
        lanes //= 2
    most = max(1, min(MAX_ROWS, (target.registers - 4) // count))
    rows = dims.bounds(problem.axes["m"].extent)[1]
    tiles = -(-rows // most)
    tile = {"m": -(-rows // tiles)} if isinstance(problem.axes["m"].extent, int) else {"m": min(4, most)}
    steps = min(4, MOST_UNROLLED // (tile["m"] * count))
    unroll = {"k": steps} if steps > 1 and dims.bounds(problem.axes["k"].extent)[0] >= 4 * steps else {}
    return Plan(
        UNITS,
        lanes,
        tiles={**tile, GATES: count},
        even="m" if isinstance(problem.axes["m"].extent, int) else "",
        order=(UNITS, *_within(Core.of(target, problem.accumulator), tile["m"], count)),
        blocks={UNITS: 1},
        unroll=unroll,
        packed={1: UNITS},
        padded=True,
        cycles=dims.bounds(problem.flops)[1] / (2 * lanes),
    )


def _within(core: Core, rows: int, count: int) -> tuple[str, str]:
    """The order of a tile's products that has fewer operands in registers at once: all rows of a gate, or all gates of
    a row. With 16 registers three rows of a gate take 0.62 of the time that four gates of a row do, whose weights do
    not fit beside the sums (AMD Zen 3, 16 rows of 256 units)."""
    of_rows = live_operands((count, rows), (True, False), (False, True), 1, core.folding)
    of_gates = live_operands((rows, count), (False, True), (True, False), 1, core.folding)
    return (GATES, "m") if of_rows < of_gates else ("m", GATES)
