"""Sizes of arguments that keep changing: symbols in the program, not numbers.

The first sizes get programs of their own, which are the fastest for them: a batch, and the last one of an epoch, which
is smaller. At the third size of an axis it becomes a symbol, and one program serves all sizes from then on, as PyTorch's
compiler does from the second on (https://docs.pytorch.org/docs/stable/torch.compiler_dynamic_shapes.html). A symbol is
never 0 or 1, which broadcast. Axes that had the same size in every call share one. What the function asks of a symbol is
answered by the call that is traced, and guarded; where it needs the number itself, or cannot be compiled for all sizes,
the axis keeps its numbers.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from ..ir import dims
from ..ir.types import TensorType
from ..tensor import Tensor
from . import pytree
from .sizes import SizeOutcome

# By the position of an argument leaf and an axis.
Symbols = Mapping[int, Mapping[int, dims.Expr]]
NONE: Symbols = {}
# The types of a trace's arguments, by position.
Types = Mapping[int, TensorType]
# Sizes of an axis that get programs of their own; and the least size that a symbol stands for.
OWN_PROGRAMS, LEAST = 2, 2


class ChangingSizes:
    """What one compiled function knows about the sizes of its arguments. `dynamic`: as in `torch.compile`: all axes are
    symbols, none are, or those that keep changing (None)."""

    def __init__(self, dynamic: bool | None, taken: Iterable[str] = ()):
        self.dynamic = dynamic
        self._taken = frozenset(taken)  # names of declared dims
        self._numbers: set[tuple[pytree.Structure, int, int]] = set()  # the axes that keep their numbers

    def symbols(self, known: Sequence[Types], leaves: Sequence[Any], structure: pytree.Structure) -> Symbols:
        """The axes that are symbols in the next trace; `known`: what was traced of calls with this structure."""
        if self.dynamic is False:
            return {}
        found: dict[int, dict[int, dims.Expr]] = {}
        named: dict[Any, dims.Expr] = {}
        names = (name for n in range(1 << 30) if (name := f"s{n}") not in self._taken)
        for position, leaf in enumerate(leaves):
            for axis, size in enumerate(leaf.shape) if isinstance(leaf, Tensor) else ():
                before = [_size(types.get(position), len(leaf.shape), axis) for types in known]
                if (structure, position, axis) in self._numbers or not self._changes(size, before):
                    continue
                key = (size, *map(str, before))
                if key not in named:
                    named[key] = dims.symbol(next(names), LEAST)
                found.setdefault(position, {})[axis] = named[key]
        return found

    def _changes(self, size: Any, before: Sequence[dims.DimLike | None]) -> bool:
        if not isinstance(size, int) or size < LEAST:
            return False
        known = {other for other in before if other is not None}
        if self.dynamic or any(_is_automatic(other, self._taken) for other in known):
            return True
        return len(known) >= OWN_PROGRAMS and size not in known

    def keep_numbers(
        self, symbols: Symbols, structure: pytree.Structure, names: Collection[str] | None = None
    ) -> None:
        """From now on these axes keep their numbers: those of symbols with these names, or all."""
        for position, axes in symbols.items():
            for axis, symbol in axes.items():
                if names is None or str(symbol) in names:
                    self._numbers.add((structure, position, axis))


def is_for_one_size(outcomes: Sequence[SizeOutcome]) -> bool:
    """Whether a trace is good for one size of some axis, which had better be a number in it."""
    return any(question.how == "eq" and answer for question, answer in outcomes)


def _size(type_: TensorType | None, rank: int, axis: int) -> dims.DimLike | None:
    """What an axis was in a trace; None where the argument had another rank."""
    return type_.shape[axis] if type_ is not None and type_.rank == rank else None


def _is_automatic(size: dims.DimLike, declared: frozenset[str]) -> bool:
    return any(symbol.name not in declared for symbol in dims.symbols(size))


def names_of(symbols: Symbols) -> Iterator[str]:
    """The symbols' names."""
    for axes in symbols.values():
        yield from map(str, axes.values())
