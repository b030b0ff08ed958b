"""Axes that one loop can walk, made one: the rows and columns of an image under a 1x1 convolution, a batch of
row blocks against one matrix. Longer axes fill lanes and tiles better.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ...ir import dims
from ...ir.dims import DimLike
from . import template
from .context import LowerContext
from .contraction import Access, Axis, Contraction
from .template import Element, collapse, index_values


def merge_axes(
    ctx: LowerContext, problem: Contraction, elements: Sequence[Element]
) -> tuple[Contraction, list[Element]]:
    """The contraction and what its epilogue stores, over fewer axes; operands are read as rows where axes merged."""
    positions = [problem.position, *(operand.position for operand in problem.operands)]
    if problem.added is not None:
        positions.append(problem.added.position)
    positions += [*index_values(e.value for e in elements), *(e.offset for e in elements)]
    # Axes with windows, and those along which these move, stay what they are.
    kept = {*problem.windows, *(window.along for window in problem.windows.values())}
    positions += [a.var for a in (*problem.parallel, *problem.reduction) if a.name in kept]
    parallel, bindings = _merged(problem.parallel, positions)
    reduction, more = _merged(problem.reduction, positions)
    if len(parallel) + len(reduction) == len(problem.axes):
        return problem, list(elements)
    windows = {name: problem.windows[name] for name in problem.windows if name in {a.name for a in reduction}}
    if not {window.along for window in windows.values()} <= {a.name for a in parallel}:
        return problem, list(elements)  # of length one, where a window says which few products there are
    bindings |= more

    def walked(operand: Access) -> Access:
        position = dims.substitute(operand.position, bindings)
        return replace(operand, buffer=ctx.flat(operand.buffer), index=(position,))

    memo: dict[int, template.Expr] = {}
    merged = replace(
        problem,
        parallel=parallel,
        reduction=reduction or problem.reduction[-1:],
        left=walked(problem.left),
        right=walked(problem.right),
        result=tuple(dims.substitute(i, bindings) for i in problem.result),
        windows=windows,
        added=None if problem.added is None else walked(problem.added),
    )
    return merged, [e.at(bindings, memo) for e in elements]


def _merged(
    axes: Sequence[Axis], positions: Sequence[DimLike]
) -> tuple[tuple[Axis, ...], dict[str, DimLike]]:
    found, bindings = collapse([template.Axis(a.name, a.extent) for a in axes], positions)
    return tuple(Axis(a.var, a.extent) for a in found), bindings
