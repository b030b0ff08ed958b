"""What the verifier's parts for single kinds of machine have of it."""

from __future__ import annotations

from ...ir.dims import DimLike
from .nodes import Buffer, Kernel
from .scope import LoopError, Scope


class Rules:
    """The kernel that is looked at, the error for a rule it breaks, and checks that stand inside others."""

    kernel: Kernel

    def fail(self, rule: str) -> LoopError:
        raise NotImplementedError

    def access(self, buffer: Buffer, index: tuple[DimLike, ...], scope: Scope) -> bool:
        raise NotImplementedError

    def index_symbols(self, value: DimLike, scope: Scope) -> bool:
        raise NotImplementedError
