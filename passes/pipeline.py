"""The visible list of passes, and how a graph goes through it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from ..ir import ops as _ops  # noqa: F401  (fills the registry)
from ..ir.graph import Graph, IRError
from ..ir.op import all_ops
from ..ir.verifier import verify as verify_graph
from .attention import ChooseAttention
from .attention_match import FindAttention
from .base import Pass
from .constant_folding import ConstantFolding
from .cse import CommonSubexpressions
from .dce import DeadCodeElimination
from .decompose import Decompose
from .fusion import Fusion
from .precision import RoundMatmulOperands
from .recompute import Recompute
from .reduce_before_reshape import ReduceBeforeReshape
from .reroll import Reroll
from .scan_motion import ScanMotion
from .simplify import Simplify
from .split_rows import SplitRows

# Composites with kernels of their own.
ATTENTION, RUNNING = (
    tuple(op.name for op in all_ops() if op.lowering == lowering) for lowering in ("attention", "running")
)


@dataclass(frozen=True)
class PipelineOptions:
    """What a compile may choose. `keep_composites`: ops that codegen takes whole; `fuse=False` leaves every
    node a kernel of its own, to find out whether a fault lies in fusion; `reroll=False` leaves Python's loops as
    they were traced. `bf16_products`: matmuls of float32 round their operands to bfloat16. `strict`: results are to the
    bit those of the same ops as programs of their own, one after the other: no pass changes what is computed or in what
    order. `memory_budget`: how much memory a graph's values may take before some are computed twice (`Recompute`); None:
    as much as they do."""

    keep_composites: tuple[str, ...] = (*ATTENTION, *RUNNING)
    fuse: bool = True
    reroll: bool = True
    strict: bool = False
    bf16_products: bool = False
    memory_budget: float | int | None = None

    @property
    def attention(self) -> tuple[str, ...]:
        """The ops of attention that are kept: none in strict numerics, since an op alone is taken apart."""
        return () if self.strict else tuple(n for n in self.keep_composites if n in ATTENTION)

    @property
    def whole(self) -> tuple[str, ...]:
        """All that is kept."""
        return tuple(n for n in self.keep_composites if n not in ATTENTION or not self.strict)


def default_pipeline(options: PipelineOptions = PipelineOptions()) -> tuple[Pass, ...]:
    """The passes between a traced graph and code generation, in order.

    Differentiation comes before all of them (`autodiff.py`, `partition.py`): it wants composites whole, for
    their own gradient rules, and `detach` nodes in place, which `Simplify` removes.
    """
    passes: list[Pass] = [
        # Tracing leaves dead gradients, repeated transposes and converts; less to decompose is less to do.
        DeadCodeElimination(),
        # Before anything that makes one turn of a loop different from the next, as CSE does; after dead code, which
        # does too.
        *([Reroll()] if options.reroll and not options.strict else []),
        Simplify(options.strict),
        CommonSubexpressions(),
        # While softmax and dropout are whole, and written the same everywhere.
        *([FindAttention()] if options.attention else []),
        # Which of the kept attentions are worth their kernel. A gradient taken apart reads its forward's weights, which
        # an op alone does not have, so strict numerics leaves this to decomposition.
        *([] if options.strict else [ChooseAttention(options.attention)]),
        # Everything below here knows primitives only.
        Decompose(options.whole),
        # On the matmuls that composites were made of; what it leaves behind is simplified and dies below.
        *([] if options.strict else [ScanMotion()]),
        # A decomposition is written for every case and leaves constants and no-ops in the case at hand.
        # Folding goes first: simplify's rules look for constants. It computes by NumPy, whose exp is not ours.
        *([] if options.strict else [ConstantFolding()]),
        # On the matmuls that are left; what rounds a weight and its transpose is one by CSE.
        *([RoundMatmulOperands()] if options.bf16_products and not options.strict else []),
        Simplify(options.strict),
        # Forward and backward decompose into the same statistics (softmax's maximum and sum): one copy
        # each. After simplify, which makes equal what was written differently.
        CommonSubexpressions(),
        # After simplify, which takes apart matmuls of transposes; what it leaves behind dies below.
        *([] if options.strict else [SplitRows()]),
        # After the last CSE, which may leave a matrix that only products read. Adds up in another order.
        *([] if options.strict else [ReduceBeforeReshape()]),
        # What simplify and CSE left unused must be gone before fusion counts uses.
        DeadCodeElimination(),
        # On the very nodes that fusion will see, since it asks fusion what their launches keep in memory; and after the
        # last CSE.
        *(
            [Recompute(options.memory_budget, strict=options.strict, fuse=options.fuse)]
            if options.memory_budget is not None
            else []
        ),
        # Last: code generation takes what it gives. A pass after it would have to look into regions.
        Fusion(enabled=options.fuse, strict=options.strict),
    ]
    return tuple(passes)


# Told after every pass: the pass's position in the list (from 1), the pass, the graph it made.
Observer = Callable[[int, Pass, Graph], None]


def run_pipeline(
    graph: Graph, passes: Iterable[Pass], verify: bool = True, observer: Observer | None = None
) -> list[Graph]:
    """The graph and what each pass made of it: `[graph, after pass 1, ...]`. Each stage's provenance says
    which pass made it, from how many nodes, in how many seconds (the pass alone, without verification).

    Raises IRError, naming the pass, where a pass breaks a rule of the IR (`verify=False` skips the check).
    """
    stages = [verify_graph(graph) if verify else graph]
    for position, step in enumerate(passes, 1):
        before = stages[-1]
        start = time.perf_counter()
        after = step.run(before).made_by(step.name, before, time.perf_counter() - start)
        if verify:
            try:
                verify_graph(after)
            except IRError as error:
                raise IRError(f"pass {step.name} made a graph that breaks a rule: {error}") from error
        stages.append(after)
        if observer is not None:
            observer(position, step, after)
    return stages
