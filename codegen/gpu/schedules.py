"""How a GPU walks what the lowerings describe."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ...ir.graph import Graph, Node
from ..lower.context import Args, LowerContext, Names
from ..lower.contraction import Contraction
from ..lower.contraction_lower import Epilogue
from ..lower.elementwise import Nest
from ..lower.rows import Rows
from ..lower.scatter import Scatter
from .attention_backward import backward_on_gpu
from .attention_forward import forward_on_gpu
from .contraction import contraction_on_gpu
from .nests import nests_on_gpu
from .operands import GuardedOperands
from .rows import rows_on_gpu
from .scatter import scatter_on_gpu


@dataclass(frozen=True)
class GpuSchedules:
    """Blocks of threads. Spaces are not cut where guards are decided: a test costs a thread less than a launch."""

    max_parts: int = 1

    def nests(self, ctx: LowerContext, name: str, nests: Sequence[Nest]) -> None:
        nests_on_gpu(ctx, name, nests)

    def rows(self, ctx: LowerContext, name: str, names: Names, rows: Rows) -> None:
        rows_on_gpu(ctx, name, names, rows)

    def scatter(self, ctx: LowerContext, name: str, scatter: Scatter) -> None:
        scatter_on_gpu(ctx, name, scatter)

    def operands(self, ctx: LowerContext, body: Graph, args: Args) -> GuardedOperands:
        return GuardedOperands(ctx, body, args)

    def convolution(self, ctx: LowerContext, node: Node, operands: Any, epilogue: Epilogue) -> bool:
        return False

    def contraction(self, ctx: LowerContext, problem: Contraction[Any], epilogue: Epilogue) -> None:
        contraction_on_gpu(ctx, problem, epilogue)

    def gates(self, ctx: LowerContext, body: Graph, args: Args) -> bool:
        return False

    def expansion(self, ctx: LowerContext, body: Graph, args: Args) -> bool:
        return False

    def attention(self, ctx: LowerContext, name: str, body: Graph, args: Args, node: Node) -> None:
        lower = forward_on_gpu if node.op.name == "attention" else backward_on_gpu
        lower(ctx, name, body, args, node)
