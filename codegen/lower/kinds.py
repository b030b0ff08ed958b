"""Which lowering a kind of group has."""

from __future__ import annotations

from collections.abc import Callable

from ...ir.graph import Graph, IRError, Node
from .attention_lower import lower_attention
from .context import Args, LowerContext
from .contraction_lower import lower_contraction
from .expansion import lower_expansion
from .gates import lower_gates
from .host import lower_host
from .pointwise import lower_loop
from .reduce import lower_reduce
from .single import lower_single
from .window import lower_window

GroupLowering = Callable[[LowerContext, Node, Graph, Args], None]

LOWERINGS: dict[str, GroupLowering] = {
    "loop": lower_loop,
    "reduce": lower_reduce,
    "contraction": lower_contraction,
    "gates": lower_gates,
    "expansion": lower_expansion,
    "window": lower_window,
    "attention": lower_attention,
    "single": lower_single,
    "host": lower_host,
}


def lowering_of(kind: str) -> GroupLowering:
    """IRError lists the kinds there are."""
    found = LOWERINGS.get(kind)
    if found is None:
        raise IRError(f"no lowering for groups of kind {kind!r}; there are {', '.join(LOWERINGS)}")
    return found
