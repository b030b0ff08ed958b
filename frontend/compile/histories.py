"""How what a call is given came to be, and what it writes to: gradients flow on from tensors outside whose elements a
compiled function replaces as they do after eager code.

In a trace an argument that was computed has a node of the tape that stands for all before it. Where the trace ends, what
a tensor holds that got another history is a result of the graph to which gradients come back; a call then puts its own
node behind the tensor.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..ir.builder import OpBuilder
from ..ir.types import TensorType
from ..tape import Node
from ..tensor import Tensor
from .locations import user_location
from .sources import ArgumentSource
from .trace_error import TraceError


class GivenHistory(Node):
    """Stands for what made the argument of this name."""

    __slots__ = ("path",)

    def __init__(self, type_: TensorType, path: str):
        super().__init__((), (type_,))
        self.path = path

    def run(self, F: OpBuilder, grads: Sequence[Any], needs: tuple[bool, ...]) -> Sequence[Any]:
        raise TraceError(f"{user_location()}: {_FLOWS_ON.format(path=self.path)}")


_FLOWS_ON = (
    "backward() inside a compiled function reaches {path}, which code outside has computed: the gradient would have to "
    "flow on there. Pass its detach(), call backward() outside, or compile what computes it, too"
)


def owner_of(owner: Tensor | ArgumentSource, leaves: Sequence[Any]) -> Tensor:
    """The tensor that this is in a call."""
    found: Tensor = leaves[owner.position] if isinstance(owner, ArgumentSource) else owner
    return found


def leaf_of(owner: Tensor | ArgumentSource, leaves: Sequence[Any]) -> Tensor:
    """The tensor to whose `.grad` a call adds; RuntimeError where it is no leaf."""
    found = owner_of(owner, leaves)
    if isinstance(owner, ArgumentSource) and not found.is_leaf:
        raise RuntimeError(_FLOWS_ON.format(path=owner.path))
    return found
