"""Lowering of groups that hold a matmul or a convolution, with the pointwise work on its result."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...ir import dims
from ...ir.dims import DimLike
from ...ir.graph import Graph, Node, Value
from ..loops.nodes import Buffer, Expr, Let, Load, Stmt, Store, Var
from ..scalar import SCALAR
from .context import Args, LowerContext
from .contraction import Axis, Contraction, contraction_node
from .contraction_nest import contraction_loops
from .contraction_operands import Operands, along_lanes, repeated, shared_loops
from .contraction_pack import panels
from .contraction_plan import choose_plans
from .contraction_tile import Finish
from .conv import conv_contractions
from .gemm import matmul_contraction
from .indexing import BodyEvaluator, IndexTuple
from .tiling import Plan


def lower_contraction(ctx: LowerContext, node: Node, body: Graph, args: Args) -> None:
    """Launches the contraction of a group's body and what stands around it. `args` holds the program's buffer
    of each body input and output. Raises IRError where the body is not one contraction with a pointwise
    epilogue."""
    core = contraction_node(body)
    if any(size == 0 for size in core.outputs[0].type.shape):
        return
    operands = Operands(ctx, body, args)
    problems = (
        [matmul_contraction(core, operands)]
        if core.op.name == "matmul"
        else conv_contractions(core, operands)
    )
    lowering = _Lowering(ctx, body, args, core.outputs[0], str(node.attrs.get("name", core.op.name)))
    for problem in problems:
        lanes = ctx.target.lanes(problem.accumulator)
        for choice in choose_plans(problem, lanes, ctx.target.registers):
            lowering.launch(problem, choice.plan, choice.times)


@dataclass(frozen=True)
class _Lowering:
    ctx: LowerContext
    body: Graph
    args: Args
    result: Value
    source: str

    def launch(self, problem: Contraction, plan: Plan, times: DimLike) -> None:
        """The kernels of one contraction; none of them does anything where `times` is 0."""
        ctx = self.ctx
        packed = list(problem.operands)
        for operand, axis in plan.packed.items():
            packed[operand] = panels(ctx, problem, packed[operand], axis, plan.tile(axis), times)
        problem = problem.with_operands(*packed)
        finish: Finish = self.epilogue
        if plan.parts > 1:
            partial = ctx.scratch("partial", problem.accumulator, (plan.parts, *problem.shape))
            finish = lambda index, value: [Store(partial, index, value)]
        ctx.launch(
            problem.name,
            repeated(contraction_loops(problem, plan, finish), times),
            cost=task_cost(problem, plan),
            flops=problem.flops,
            source=self.source,
            comment=str(plan),
        )
        if plan.parts > 1:
            cost = plan.parts * problem.shape[-1]
            added = repeated(self._add_parts(partial), times)
            ctx.launch(f"{problem.name}_parts", added, cost=cost, source=self.source)

    def epilogue(self, index: IndexTuple, value: Expr) -> Sequence[Stmt]:
        """Stores what the body makes of an element of the contraction's result."""
        value = SCALAR.cast(value, self.result.type.dtype)
        evaluator = BodyEvaluator(self.body, self.args, {self.result: lambda _: value})
        outputs = list(dict.fromkeys(self.body.outputs))
        results = [evaluator.at(out, index) for out in outputs]
        if len(outputs) == 1:
            return [Store(self.args[outputs[0]], index, results[0])]
        # All is read before anything is written: a result may lie where an operand lies.
        names = [f"result_{i}" for i in range(len(outputs))]
        lets = [Let(name, result) for name, result in zip(names, results, strict=True)]
        stores = [
            Store(self.args[out], index, Var(name, out.type.dtype))
            for name, out in zip(names, outputs, strict=True)
        ]
        return [*lets, *stores]

    def _add_parts(self, partial: Buffer) -> tuple[Stmt, ...]:
        """Adds the parts of each element, in their order."""
        ctx = self.ctx
        parts, *shape = partial.shape
        assert isinstance(parts, int)
        plain = None
        if self.body.outputs == (self.result,):
            # Nothing else is to be done: the result is walked as one row.
            plain = self.args[self.result]
            partial, plain = ctx.view(partial, (parts, plain.numel)), ctx.view(plain, (plain.numel,))
            shape = [plain.numel]
        *lead, last = (Axis(f"i{d}", size) for d, size in enumerate(shape))

        def total(position: DimLike) -> Sequence[Stmt]:
            index = (*(a.var for a in lead), position)
            value: Expr = Load(partial, (0, *index))
            for part in range(1, parts):
                value = SCALAR.add(value, Load(partial, (part, *index)))
            if plain is None:
                return self.epilogue(index, value)
            return [Store(plain, index, SCALAR.cast(value, plain.dtype))]

        lanes = ctx.target.lanes(partial.dtype)
        return shared_loops(lead, along_lanes(last.name, last.extent, lanes, total))


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
