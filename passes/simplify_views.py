"""Rules for what moves elements and computes none: views, and the transpose of a product."""

from __future__ import annotations

from collections.abc import Sequence

from ..ir.dims import DimLike, Expr, bounds
from ..ir.graph import Node, Value
from .simplifier import Call, Simplifier


def view_of_nothing(s: Simplifier, call: Call) -> Value | None:
    """A view that changes nothing."""
    value, attrs = call.inputs[0], call.attrs
    if value.type != call.type:
        return None
    rank = value.type.rank
    match call.op.name:
        case "reshape" | "expand":
            return value
        case "permute":
            return value if _axes(attrs["dims"], rank) == tuple(range(rank)) else None
        case "slice":
            return value if set(attrs["steps"]) <= {1} else None
        case "flip":
            turned = _axes(attrs["dims"], rank)
            return value if all(value.type.shape[d] == 1 for d in turned) else None
        case "pad":
            return value if set(attrs["low"]) | set(attrs["high"]) <= {0} else None
        case "concat":
            return value if len(call.inputs) == 1 else None
    return None


def _axes(given: Sequence[int], rank: int) -> tuple[int, ...]:
    return tuple(d % rank for d in given)


def same_view_twice(s: Simplifier, call: Call) -> Value | None:
    """Two views of one kind are one."""
    name = call.op.name
    inner = s.made_by(call.inputs[0], name)
    if inner is None:
        return None
    source = inner.inputs[0]
    result: Value | None = None
    match name:
        case "reshape" | "expand":
            result = s.apply(call.op, (source,), call.attrs)
        case "permute":
            rank = source.type.rank
            first, second = _axes(inner.attrs["dims"], rank), _axes(call.attrs["dims"], rank)
            result = s.permute(source, dims=tuple(first[d] for d in second))
        case "flip":
            rank = source.type.rank
            turned = set(_axes(inner.attrs["dims"], rank)) ^ set(_axes(call.attrs["dims"], rank))
            result = s.flip(source, dims=tuple(sorted(turned))) if turned else source
        case "slice" if set(inner.attrs["steps"]) <= {1} and _from_the_front(call) and _from_the_front(inner):
            starts = tuple(a + b for a, b in zip(inner.attrs["starts"], call.attrs["starts"]))
            stops = tuple(a + b for a, b in zip(inner.attrs["starts"], call.attrs["stops"]))
            result = s.slice(source, starts=starts, stops=stops, steps=call.attrs["steps"])
    return result


def slice_of_concat(s: Simplifier, call: Call) -> Value | None:
    """Elements of one of the joined parts are read from that part (the steps of an unrolled recurrent layer)."""
    joined = s.made_by(call.inputs[0], "concat")
    if joined is None or not _from_the_front(call):
        return None
    dim = joined.attrs["dim"] % call.type.rank
    starts, stops = call.attrs["starts"], call.attrs["stops"]
    before: DimLike = 0
    for part in joined.inputs:
        after = before + part.type.shape[dim]
        if bounds(starts[dim] - before)[0] >= 0 and bounds(after - stops[dim])[0] >= 0:
            return s.slice(
                part,
                starts=(*starts[:dim], starts[dim] - before, *starts[dim + 1 :]),
                stops=(*stops[:dim], stops[dim] - before, *stops[dim + 1 :]),
                steps=call.attrs["steps"],
            )
        before = after
    return None


def concat_of_slices(s: Simplifier, call: Call) -> Value | None:
    """Slices of one value that adjoin along the dim are one slice (the steps of a loop, stacked)."""
    dim = call.attrs["dim"] % call.type.rank
    slices = [s.made_by(v, "slice") for v in call.inputs]
    first, last = slices[0], slices[-1]
    if first is None or last is None or len(slices) < 2:
        return None
    end = first.attrs["starts"][dim]
    for part in slices:
        if part is None or part.inputs[0] is not first.inputs[0] or not _from_the_front(part):
            return None
        starts, stops, steps = (part.attrs[name] for name in ("starts", "stops", "steps"))
        same = all(
            part.attrs[name][:dim] == first.attrs[name][:dim]
            and part.attrs[name][dim + 1 :] == first.attrs[name][dim + 1 :]
            for name in ("starts", "stops", "steps")
        )
        if not same or starts[dim] != end or steps[dim] != 1:
            return None
        end = stops[dim]
    stops = (*first.attrs["stops"][:dim], end, *first.attrs["stops"][dim + 1 :])
    found: Value = s.slice(
        first.inputs[0], starts=first.attrs["starts"], stops=stops, steps=first.attrs["steps"]
    )
    return found


def _from_the_front(call: Call | Node) -> bool:
    bounds = (*call.attrs["starts"], *call.attrs["stops"], *call.attrs["steps"])
    return all(isinstance(b, Expr) or b >= 0 for b in bounds)


def whole_update(s: Simplifier, call: Call) -> Value | None:
    """update_slice that replaces every element."""
    base, new = call.inputs
    return new if new.type == base.type and set(call.attrs["steps"]) <= {1} else None


def detached(s: Simplifier, call: Call) -> Value | None:
    return call.inputs[0]


def transposed_product(s: Simplifier, call: Call) -> Value | None:
    """(A B)^T is B^T A^T: the same products added in the same order. A linear layer's weight gradient comes
    out transposed; so it is made the way round it is wanted, and what follows can be fused to the
    product."""
    inner = s.made_by(call.inputs[0], "matmul")
    rank = call.type.rank
    swapped = (*range(rank - 2), rank - 1, rank - 2)
    if inner is None or call.attrs["dims"] != swapped or not s.is_used_once(call.inputs[0]):
        return None
    a, b = inner.inputs
    if a.type.rank != rank or b.type.rank != rank:
        return None
    here, s.location = s.location, inner.location
    result: Value = s.matmul(s.permute(b, dims=swapped), s.permute(a, dims=swapped))
    s.location = here
    return result
