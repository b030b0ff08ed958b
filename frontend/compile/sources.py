"""Where the inputs of a compiled graph come from, each time it is called."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..generator import Generator
from ..tensor import Tensor


@dataclass(frozen=True)
class ArgumentSource:
    """The tensor leaf at this position among the call's flattened arguments, which the gradients that the graph reads
    follow (`Trace.given`)."""

    position: int
    path: str


@dataclass(frozen=True, eq=False)
class TensorSource:
    """A tensor that exists outside the call: a parameter, a buffer, optimizer state, a closed-over tensor.

    The graph reads the whole storage behind it, `tensor` being one view of it.
    """

    tensor: Tensor
    path: str


@dataclass(frozen=True, eq=False)
class NumberSource:
    """A Python number that is read again for every call (a learning rate), passed as a 0-d float64."""

    get: Callable[[], float]
    path: str


@dataclass(frozen=True)
class RandomSource:
    """The state of the counter-based generator: (seed, number of the first random call of this run)."""

    path: str = "rng"


Source = ArgumentSource | TensorSource | NumberSource | RandomSource


def array_of(source: Source, arguments: Sequence[Any], generator: Generator) -> Any:
    """What the graph is given for the source in a call with these arguments now; its random numbers are those of the
    generator."""
    if isinstance(source, ArgumentSource):
        return arguments[source.position]._array
    if isinstance(source, TensorSource):
        return source.tensor._storage.base_array
    if isinstance(source, NumberSource):
        return np.array(source.get(), np.float64)
    return np.array(generator.philox_state(0), np.uint64).view(np.int64)


@dataclass(frozen=True, eq=False)
class Guard:
    """A fact the trace relied on: `get()` gave `seen`. Numbers, strings and tuples of such are compared by value (and
    type), all else by identity."""

    name: str
    get: Callable[[], Any]
    seen: Any
    by_value: bool = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "by_value", is_plain(self.seen))

    def holds(self) -> bool:
        """Whether the fact still holds."""
        now = self.get()
        return now is self.seen or (self.by_value and type(now) is type(self.seen) and bool(now == self.seen))

    def reason(self) -> str:
        """What changed."""
        now = self.get()
        if self.by_value:
            was, now = _difference(self.seen, now)
            return f"{self.name} was {was!r}, now {now!r}"
        return f"{self.name} was another {type(self.seen).__name__}"


def _difference(was: Any, now: Any) -> tuple[Any, Any]:
    """The innermost tuples that differ, where one item of each does."""
    while isinstance(was, tuple) and isinstance(now, tuple) and len(was) == len(now):
        differing = [pair for pair in zip(was, now) if pair[0] != pair[1]]
        if len(differing) != 1 or not isinstance(differing[0][0], tuple):
            break
        was, now = differing[0]
    return was, now


_PLAIN = (int, float, complex, bool, str, bytes, type(None))


def is_plain(value: Any) -> bool:
    """Whether a guard compares the value by equality."""
    return isinstance(value, _PLAIN) or (type(value) is tuple and all(map(is_plain, value)))
