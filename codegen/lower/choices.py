"""Choices among ways to compute a group: by a model's estimates, or as a table says that measurements made.

A lowering that knows several ways asks `LowerContext.choose`, with the ways ranked by its model. Without a table the
first is taken. A table (`Choices`) is plain data; what it does not know is left to the model. Who wants to measure
collects the questions that a lowering asks (`Question`), and makes a table of the answers: `runtime/tuner.py`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Generic, TypeVar

from ...ir import dims
from ...ir.graph import Node, Value
from ...ir.types import TensorType
from ...passes.cse import attrs_key

# Ways that a question names, at most.
CANDIDATES = 6

# What is slower than the best by more than this, by the model, is no candidate for being of another kind alone.
FAR_BEHIND = 1.3

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


@dataclass(frozen=True)
class Candidate(Generic[T_co]):
    """A way to compute something: `name` says all that sets it apart from the others, `cycles` is the model's
    estimate."""

    name: str
    cycles: float
    plan: T_co


def varied(
    ranked: Sequence[tuple[T, float]], kind: Callable[[T], Hashable], count: int
) -> list[tuple[T, float]]:
    """At most `count` of (plan, cycles) pairs ranked by cycles: the best of each kind, then the best of the others. A
    model that is wrong is so about kinds: plans alike are about as fast."""
    first: dict[Hashable, int] = {}
    for number, (plan, cycles) in enumerate(ranked):
        if cycles <= FAR_BEHIND * ranked[0][1]:
            first.setdefault(kind(plan), number)
    chosen = list(first.values())[:count]
    taken = set(chosen)
    chosen += [n for n in range(len(ranked)) if n not in taken][: count - len(chosen)]
    return [ranked[n] for n in sorted(chosen)]


def cheapest(bounded: Iterable[tuple[float, T]], cycles: Callable[[T], float]) -> list[tuple[T, float]]:
    """The plan that takes the fewest `cycles`, the first of equals, and how many; none where there is none. Each comes
    with cycles that it takes at least, so that most need not be reckoned."""
    best: tuple[float, int, T] | None = None
    for number, (least, plan) in sorted(enumerate(bounded), key=lambda each: each[1][0]):
        if best is not None and least > best[0]:
            break
        found = cycles(plan), number, plan
        if best is None or found[:2] < best[:2]:
            best = found
    return [] if best is None else [(best[2], best[0])]


@dataclass(frozen=True)
class Choices:
    """Which candidate to take, by the question's key: (key, name) pairs, sorted."""

    answers: tuple[tuple[str, str], ...] = ()

    @cached_property
    def names(self) -> dict[str, str]:
        """The names by key."""
        return dict(self.answers)

    def __or__(self, other: dict[str, str]) -> Choices:
        """These and others, which count where both know an answer."""
        return Choices(tuple(sorted({**self.names, **other}.items())))


@dataclass(frozen=True)
class Group:
    """A fused group that is being lowered; `steady` says of each of its inputs whether it holds the same in many
    runs."""

    node: Node
    steady: tuple[bool, ...]

    @cached_property
    def structure(self) -> str:
        """Equal for groups that compute the same from inputs of the same types, whatever the names of values and the
        order of nodes."""
        (body,) = self.node.regions
        known: dict[Value, str] = {v: _digest(i, _type(v.type)) for i, v in enumerate(body.inputs)}
        for inner in body.nodes:
            reads = [known[v] for v in inner.inputs]
            for number, value in enumerate(inner.outputs):
                known[value] = _digest(
                    inner.op.name, attrs_key(inner.attrs), reads, number, _type(value.type)
                )
        inputs = [known[v] for v in body.inputs]
        return _digest(self.node.attrs["kind"], inputs, [known[v] for v in body.outputs])

    @cached_property
    def digest(self) -> str:
        """Equal for groups of one structure whose inputs are as steady."""
        return _digest(self.structure, self.steady)


def _type(type_: TensorType) -> tuple[Any, ...]:
    symbols = sorted({(s.name, s.low, s.high) for d in type_.shape for s in dims.symbols(d)})
    return str(type_), symbols


@dataclass(frozen=True)
class Question:
    """A choice that a lowering had to make: the `number`th of its group, among these candidates, the model's first;
    `chosen` is the number of the one it took."""

    group: Group
    number: int
    subject: str
    candidates: Sequence[Candidate[Any]] = field(repr=False)
    chosen: int = 0

    @cached_property
    def key(self) -> str:
        """Equal for equal questions about equal groups."""
        return _digest(self.group.digest, self.number, self.subject, [c.name for c in self.candidates])


def _digest(*facts: Any) -> str:
    return hashlib.sha256(repr(facts).encode()).hexdigest()
