"""Arguments that are one tensor, or share memory.

A trace is good for calls whose arguments are the same tensors as each other where those of its own call were, as in
PyTorch. Of memory that is written, a graph has one input: what else shares it are views of that (`Sharing`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ..tensor import Tensor, wrap


@dataclass(frozen=True)
class Sharing:
    """By position among the flattened arguments.

    `whole`: groups over one memory each, which is given to the graph as a whole; `pinned`: those over the memory of a
    captured tensor, which stand for themselves.
    """

    whole: tuple[tuple[int, ...], ...] = ()
    pinned: tuple[int, ...] = ()

    def members(self) -> frozenset[int]:
        """The positions with which a trace deals."""
        return frozenset(self.pinned).union(*self.whole)

    def memories(self, leaves: Sequence[Any]) -> list[Tensor]:
        """A tensor over all of each group's memory."""
        return [_whole(leaves[group[0]]) for group in self.whole]


NOTHING_SHARED = Sharing()


class SharedMemory(Exception):
    """Raised where a trace has written to memory that it did not know to be shared: it starts anew with this."""

    def __init__(self, sharing: Sharing):
        super().__init__(sharing)
        self.sharing = sharing


def _whole(tensor: Tensor) -> Tensor:
    if not tensor._views:
        return tensor
    base = tensor._storage.base_array
    assert base is not None
    whole = wrap(base)
    whole._storage = tensor._storage
    return whole


def first_positions(leaves: Sequence[Any]) -> dict[int, int]:
    """For each tensor's position the first one at which the same tensor is."""
    first: dict[int, int] = {}
    return {
        position: first.setdefault(id(leaf), position)
        for position, leaf in enumerate(leaves)
        if isinstance(leaf, Tensor)
    }


class SharingFit:
    """Whether arguments share with each other and with captured tensors what those of a traced call did.

    `written`: positions of the arguments that are written to; `captured`: the tensors from outside; `changed`: those
    that are written to or receive gradients.
    """

    def __init__(
        self,
        leaves: Sequence[Any],
        sharing: Sharing,
        written: Collection[int],
        captured: Sequence[Tensor],
        changed: Sequence[Tensor],
    ):
        self._first = first_positions(leaves)
        self._positions = tuple(self._first)
        self._others = tuple((i, first) for i, first in self._first.items() if i != first)
        self._count = len(self._first) - len(self._others)
        self._pair = self._positions if len(self._positions) == self._count == 2 else None
        self._pinned = tuple((i, leaves[i], leaves[i]._storage) for i in sharing.pinned)
        self._views = tuple((group, tuple(leaves[i]._views for i in group)) for group in sharing.whole)
        inside = sharing.members()
        self._written = tuple(i for i in self._first if i in written and i not in inside)
        owned = {self._first[i] for i in self._written}
        self._apart = tuple(i for i in self._first if i not in inside and self._first[i] not in owned)
        self._captured, self._changed = captured, changed
        self._writes = bool(written or changed or inside)
        self._own = bool(written or inside)  # not only memory from outside
        # Whether there is anything to ask. The most common cases, in the shortest way (`plain_call.py`): these two must
        # not be one, and none may be captured memory, of which some is written.
        self.asks = len(self._positions) > 1 or bool(self._positions and self._writes)
        self.is_simple = not self._own and (self._pair is not None or len(self._positions) < 2)
        self.apart = self._pair if self.is_simple else None
        self.none_captured = self.is_simple and self._writes

    def __call__(self, leaves: Sequence[Any]) -> bool:
        """Whether they do. Each of the positions holds a tensor."""
        pair = self._pair
        if pair is not None:
            if leaves[pair[0]] is leaves[pair[1]]:
                return False
        elif len({id(leaves[i]) for i in self._positions}) != self._count:
            return False
        for i, first in self._others:
            if leaves[i] is not leaves[first]:
                return False
        if not self._writes:
            return True
        any_captured = False
        for i in self._positions:
            if leaves[i]._storage.captured:
                any_captured = True
        return not (self._own or any_captured) or all(self._of_memory(leaves, any_captured))

    def _of_memory(self, leaves: Sequence[Any], any_captured: bool) -> Iterator[bool]:
        for position, tensor, storage in self._pinned:
            leaf = leaves[position]
            yield leaf is tensor or (
                not leaf._requires_grad and leaf._storage is storage and leaf._views == tensor._views
            )
        captured = {t._storage for t in self._captured} if any_captured else ()
        taken = {t._storage for t in self._changed} if any_captured else set()
        for group, views in self._views:
            storages = {leaves[i]._storage for i in group}
            yield len(storages) == 1 and tuple(leaves[i]._views for i in group) == views
            yield storages.isdisjoint(captured) and storages.isdisjoint(taken)
            taken |= storages
        for i in self._written:
            storage = leaves[i]._storage
            yield storage not in captured and storage not in taken
            taken.add(storage)
        for i in self._apart:
            yield leaves[i]._storage not in taken
