"""Finite checks: after each group, a kernel that reads the floating results and fails where one is NaN (or infinite).

The failure stops the program right there, with the values, and the operands they came from, still in memory: the host
finds the first bad index and the ranges by looking (`runtime/finite_checks.py`). The check's kernel holds the operands
as parameters that it does not read, so that the memory plan keeps them until then.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from ...ir import dims
from ...ir.dims import DimLike
from ...ir.graph import Node, Value
from ..loops.nodes import Buffer, Check, Expr, FiniteCheck, Held, Kernel, Load, Stmt
from ..scalar import SCALAR
from .context import LowerContext, Names
from .elementwise import Nest, launch_nests
from .template import Element, make_axes


def check_group(
    ctx: LowerContext, node: Node, buffers: Mapping[Value, Buffer], scans: Sequence[Held]
) -> None:
    """Append a check of every floating result of a fused group; `scans` are those whose bodies the group is in, with
    the places of their operands."""
    held = Held(node, tuple((buffers[v], 0) for v in node.inputs))
    for value in node.outputs:
        if value.type.dtype.is_floating_point and value.type.numel != 0:
            code = ctx.check_code(
                f"%{value.name} of {node.attrs['name']} is not finite ({len(ctx.finite_checks)})"
            )
            ctx.finite_checks[code] = FiniteCheck(held, value, buffers[value], tuple(scans))
            _launch(ctx, node.attrs["name"], ctx.finite_checks[code], code)


def _launch(ctx: LowerContext, name: str, check: FiniteCheck, code: int) -> None:
    names = Names()
    axes = make_axes(names, (check.buffer.numel,))
    flat = ctx.flat(check.buffer)
    load = Load(flat, (axes[0].index,))
    start = len(ctx.launches)
    test = _Test(names, axes, [Element(flat, axes[0].index, load)])
    test.nan_only, test.code = ctx.options.check_finite == "nan", code
    launch_nests(ctx, f"{name}_finite", [test])
    (launch,) = ctx.launches[start:]
    assert isinstance(launch.kernel, Kernel)
    wanted = dict.fromkeys(ctx.storage(b) for held in (check.group, *check.scans) for b, _ in held.operands)
    extra = [b for b in wanted if b not in launch.args]
    fresh = Names(p.name for p in launch.kernel.params)
    params = (*launch.kernel.params, *(Buffer(fresh(b.name), b.dtype, b.shape) for b in extra))
    known = {s.name: s for b in params for d in b.shape for s in dims.symbols(d)}
    kernel = replace(launch.kernel, params=params, dims=tuple(known[n] for n in sorted(known)))
    ctx.launches[start] = replace(launch, kernel=kernel, args=(*launch.args, *extra))


class _Test(Nest):
    """Tests its elements' values in place of storing them."""

    nan_only: bool
    code: int

    def point(
        self, bindings: dict[str, DimLike], known: Mapping[int, Expr] | None = None
    ) -> tuple[Stmt, ...]:
        memo = dict(known or {})
        (value,) = (e.at(bindings, memo).value for e in self.elements)
        good = SCALAR.eq(value, value) if self.nan_only else SCALAR.lt(SCALAR.abs(value), float("inf"))
        return (Check(good, self.code),)
