"""Lowering of groups that hold a matmul or a convolution, with the pointwise work on its result."""

from __future__ import annotations

from collections.abc import Sequence

from ...ir import dims
from ...ir.dims import DimLike
from ...ir.graph import Graph, Node
from ..loops.nodes import Buffer, Expr, Load, Stmt, Store
from ..scalar import SCALAR
from .context import Args, LowerContext
from .contraction import Axis, Contraction, contraction_node
from .contraction_nest import Finish, contraction_loops
from .contraction_operands import Operands, along_lanes, shared_loops
from .contraction_pack import panels
from .conv import conv_contraction
from .gemm import matmul_contraction
from .indexing import BodyEvaluator, IndexTuple
from .tiling import Plan, choose_plan


def lower_contraction(ctx: LowerContext, node: Node, body: Graph, args: Args) -> None:
    """Launches the contraction of a group's body and what stands around it. `args` holds the program's buffer of each
    body input and output. Raises IRError where the body is not one contraction with a pointwise epilogue."""
    core = contraction_node(body)
    if any(size == 0 for size in core.outputs[0].type.shape):
        return
    operands = Operands(ctx, body, args)
    problem = (matmul_contraction if core.op.name == "matmul" else conv_contraction)(core, operands)
    plan = choose_plan(problem, ctx.target.lanes(problem.accumulator), ctx.target.registers)
    packed = list(problem.operands)
    for operand, axis in plan.packed.items():
        packed[operand] = panels(ctx, problem, packed[operand], axis, plan.tile(axis))
    problem = problem.with_operands(*packed)

    def epilogue(index: IndexTuple, value: Expr) -> Sequence[Stmt]:
        result = SCALAR.cast(value, problem.dtype)
        evaluator = BodyEvaluator(body, args, {core.outputs[0]: lambda _: result})
        return [Store(args[out], index, evaluator.at(out, index)) for out in dict.fromkeys(body.outputs)]

    source = str(node.attrs.get("name", core.op.name))
    launch = {"flops": problem.flops, "source": source, "comment": str(plan)}
    if plan.parts == 1:
        ctx.launch(
            problem.name, contraction_loops(problem, plan, epilogue), cost=task_cost(problem, plan), **launch
        )
        return
    partial = ctx.scratch("partial", problem.accumulator, (plan.parts, *problem.result_shape))
    nest = contraction_loops(problem, plan, lambda index, value: [Store(partial, index, value)])
    ctx.launch(problem.name, nest, cost=task_cost(problem, plan), **launch)
    combined = _combine(
        ctx, partial, None if tuple(body.outputs) != core.outputs else args[core.outputs[0]], epilogue
    )
    ctx.launch(f"{problem.name}_parts", combined, cost=plan.parts * problem.result_shape[-1], source=source)


def task_cost(problem: Contraction, plan: Plan) -> DimLike:
    """Multiply-adds of one task."""
    work: DimLike = 1
    for axis in problem.axes.values():
        if axis.name in plan.blocks:
            work = work * plan.tile(axis.name) * plan.blocks[axis.name]
        elif axis.name == plan.split:
            work = work * dims.floordiv(axis.extent + (plan.parts - 1), plan.parts)
        else:
            work = work * axis.extent
    return work


def _combine(ctx: LowerContext, partial: Buffer, plain: Buffer | None, finish: Finish) -> tuple[Stmt, ...]:
    """Adds the parts of each element, in their order. `plain` is the result where nothing else is to be done."""
    parts, *shape = partial.shape
    assert isinstance(parts, int)
    if plain is not None:
        partial, plain = ctx.view(partial, (parts, plain.numel)), ctx.view(plain, (plain.numel,))
        shape = [plain.numel]
    *lead, last = (Axis(f"i{d}", size) for d, size in enumerate(shape))

    def total(position: DimLike) -> Sequence[Stmt]:
        index = (*(a.var for a in lead), position)
        value: Expr = Load(partial, (0, *index))
        for part in range(1, parts):
            value = SCALAR.add(value, Load(partial, (part, *index)))
        if plain is not None:
            return [Store(plain, index, SCALAR.cast(value, plain.dtype))]
        return finish(index, value)

    return shared_loops(lead, along_lanes(last.name, last.extent, ctx.target.lanes(partial.dtype), total))
