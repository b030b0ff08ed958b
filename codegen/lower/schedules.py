"""Where descriptions of work become kernels: the interface between what a group computes and how a machine walks it.

The lowerings describe: elements over a space (`Nest`), rows that are reduced in stages (`Rows`), scatters, contractions.
A target's schedules choose loops for them and launch the kernels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from ...ir.graph import Graph, Node
from .attention_backward import lower_attention_backward
from .attention_forward import lower_attention_forward
from .context import Args, LowerContext, Names
from .contraction import Contraction, Reader
from .contraction_lower import Epilogue, contraction_on_cpu
from .contraction_operands import Operands
from .elementwise import Nest
from .expansion import expansion_on_cpu
from .gates import gates_on_cpu
from .nest_loops import nests_on_cpu
from .row_split import rows_on_cpu
from .rows import Rows
from .scatter import Scatter, scatter_on_cpu
from .winograd_lower import winograd_on_cpu


class Schedules(Protocol):
    """max_parts: into how many parts a space may be cut so that the guards of padding are decided in each."""

    @property
    def max_parts(self) -> int: ...

    def nests(self, ctx: LowerContext, name: str, nests: Sequence[Nest]) -> None: ...

    def rows(self, ctx: LowerContext, name: str, names: Names, rows: Rows) -> None: ...

    def scatter(self, ctx: LowerContext, name: str, scatter: Scatter) -> None: ...

    def operands(self, ctx: LowerContext, body: Graph, args: Args) -> Reader[Any]: ...

    def convolution(self, ctx: LowerContext, node: Node, operands: Any, epilogue: Epilogue) -> bool:
        """Launches a convolution in a way of its own, where that is better than as contractions; whether it did."""
        ...

    def contraction(self, ctx: LowerContext, problem: Contraction[Any], epilogue: Epilogue) -> None: ...

    def gates(self, ctx: LowerContext, body: Graph, args: Args) -> bool:
        """Launches a product and what is made of its gates as one kernel, where that is better than two; whether it
        did."""
        ...

    def expansion(self, ctx: LowerContext, body: Graph, args: Args) -> bool:
        """Launches a convolution and the depthwise one that filters its result as one kernel, where that is better than
        two; whether it did."""
        ...

    def attention(self, ctx: LowerContext, name: str, body: Graph, args: Args, node: Node) -> None:
        """`node` is the op, forward or backward."""
        ...


@dataclass(frozen=True)
class CpuSchedules:
    """Vectors and threads. More parts than `max_parts` are not worth their code."""

    max_parts: int = 27

    def nests(self, ctx: LowerContext, name: str, nests: Sequence[Nest]) -> None:
        nests_on_cpu(ctx, name, nests)

    def rows(self, ctx: LowerContext, name: str, names: Names, rows: Rows) -> None:
        rows_on_cpu(ctx, name, names, rows)

    def scatter(self, ctx: LowerContext, name: str, scatter: Scatter) -> None:
        scatter_on_cpu(ctx, name, scatter)

    def operands(self, ctx: LowerContext, body: Graph, args: Args) -> Operands:
        return Operands(ctx, body, args)

    def convolution(self, ctx: LowerContext, node: Node, operands: Any, epilogue: Epilogue) -> bool:
        return winograd_on_cpu(ctx, node, operands, epilogue)

    def contraction(self, ctx: LowerContext, problem: Contraction[Any], epilogue: Epilogue) -> None:
        contraction_on_cpu(ctx, problem, epilogue)

    def gates(self, ctx: LowerContext, body: Graph, args: Args) -> bool:
        return gates_on_cpu(ctx, body, args)

    def expansion(self, ctx: LowerContext, body: Graph, args: Args) -> bool:
        return expansion_on_cpu(ctx, body, args)

    def attention(self, ctx: LowerContext, name: str, body: Graph, args: Args, node: Node) -> None:
        lower = lower_attention_forward if node.op.name == "attention" else lower_attention_backward
        lower(ctx, name, body, args, node)
