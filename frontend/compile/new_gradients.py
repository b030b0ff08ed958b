"""The gradients that a call gives its tensors, and the memory they lie in.

Gradients of one call are written over by the next, unless someone has looked at one, or holds it.
"""

from __future__ import annotations

from collections.abc import Sequence
from sys import getrefcount
from typing import Any

from ..tensor import Tensor, grad_accesses
from .call import Binding, CallRecord
from .histories import leaf_of
from .trace import Trace


class NewGradients:
    """Which outputs of a trace are whose gradients. `fresh`: (output slot, owner) of those that are new tensors each
    time, where branches decide whether a run counts; `kept`: of those whose memory is used again; `plain`: of those that
    are None, or tensors from outside."""

    def __init__(self, trace: Trace):
        new = tuple((g.value, g.tensor) for g in trace.grads if isinstance(g.value, int))
        self.fresh = new if trace.conditions else ()
        self.kept = () if trace.conditions else new
        # Of the kept ones those whose memory the graph may read as well: the gradient of the call before.
        read = {id(owner) for owner in trace.grad_owners}
        self.read_kept = tuple(i for i, (_, owner) in enumerate(self.kept) if id(owner) in read)
        captured = [owner for _, owner in self.kept if isinstance(owner, Tensor)]
        # The owners of the kept ones, where none is an argument.
        self.kept_tensors = captured if len(captured) == len(self.kept) else None
        self.plain = tuple(
            (g.tensor, g.value)
            for g in trace.grads
            if isinstance(g.tensor, Tensor) and not isinstance(g.value, int)
        )

    def owners(self, leaves: Sequence[Any]) -> Sequence[Tensor]:
        """The tensors that receive the new gradients."""
        if self.kept_tensors is not None:
            return self.kept_tensors
        return [leaf_of(owner, leaves) for _, owner in self.kept]

    def free(self, binding: Binding, record: CallRecord, owners: Sequence[Tensor]) -> None:
        """Gradients of the last call with this record are written over, unless someone besides their owner holds the
        tensor or its memory: those get new memory."""
        fresh = record.fresh_references
        if fresh is None:
            record.fresh_references = _references(record, owners)
            return
        now = _references(record, owners)
        if now != fresh:
            for position, (count, expected) in enumerate(zip(now, fresh)):
                if count != expected:
                    record.renew(binding, position)

    def lose(self, record: CallRecord, leaves: Sequence[Any]) -> None:
        """A run that failed may have left anything in the gradients' memory, which holds other values until they are
        written (`codegen/lower/lending.py`): gradients of the call before that lie there are gone."""
        for owner, kept in zip(self.owners(leaves), record.kept):
            if owner._grad is kept:
                owner._grad = None
                grad_accesses[0] += 1


def _references(record: CallRecord, owners: Sequence[Tensor]) -> list[int]:
    """For each kept gradient a count of the references to it and to its memory (views hold that), its owner's not
    counted. Only good for comparing with what the same function gave when nobody else held any."""
    return [
        getrefcount(grad) - (owner._grad is grad) + getrefcount(array) if grad._array is array else -1
        for grad, array, owner in zip(record.kept, record.kept_arrays, owners)
    ]
