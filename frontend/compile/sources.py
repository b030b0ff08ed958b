"""Where the inputs of a compiled graph come from, each time it is called."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Union

from ..tensor import Tensor


@dataclass(frozen=True)
class ArgumentSource:
    """The tensor leaf at this position among the call's flattened arguments."""

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


Source = Union[ArgumentSource, TensorSource, NumberSource, RandomSource]


@dataclass(frozen=True)
class Guard:
    """A fact the trace relied on. `holds()` says whether it still does; `reason()` tells what changed."""

    description: str
    holds: Callable[[], bool]
    now: Callable[[], Any]

    def reason(self) -> str:
        return f"{self.description}, now {self.now()!r}"
