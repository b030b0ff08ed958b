"""What is bound where a statement of the loop IR stands, and the error of a broken rule."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from ...ir.dtypes import DType
from .nodes import Buffer, For


class LoopError(Exception):
    """Loop IR breaks one of its rules."""


@dataclass
class Scope:
    """What is bound at a statement. `symbols` may stand in indices; `varying` names differ from lane to lane."""

    symbols: dict[str, str] = field(default_factory=dict)  # name: "dim", "loop", "unroll", "vector" or "let"
    variables: dict[str, DType] = field(default_factory=dict)
    varying: set[str] = field(default_factory=set)
    vector: str | None = None
    lanes: int = 0
    # Inside a thread loop: its variable, the names that differ from thread to thread, whether some threads may be
    # elsewhere, and the buffers that the loop stores to.
    thread: str | None = None
    private: set[str] = field(default_factory=set)
    diverged: bool = False
    stored: frozenset[Buffer] = frozenset()
    # Inside a block loop of a resident kernel: which.
    block_loop: For | None = None

    def inner(self) -> Scope:
        return replace(
            self,
            symbols=dict(self.symbols),
            variables=dict(self.variables),
            varying=set(self.varying),
            private=set(self.private),
        )
