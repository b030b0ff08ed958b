"""Where the inputs of a compiled graph come from, each time it is called."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..argument_numbers import Compute
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


@dataclass(frozen=True, eq=False)
class ComputedSource:
    """A number made of the call's flattened arguments (`frontend/argument_numbers.py`), passed as a 0-d float64."""

    compute: Compute
    path: str


@dataclass(frozen=True)
class RandomSource:
    """The state of the counter-based generator: (seed, number of the first random call of this run)."""

    path: str = "rng"


Source = ArgumentSource | TensorSource | NumberSource | ComputedSource | RandomSource


def array_of(source: Source, arguments: Sequence[Any], generator: Generator) -> Any:
    """What the graph is given for the source in a call with these arguments now; its random numbers are those of the
    generator."""
    if isinstance(source, ArgumentSource):
        return arguments[source.position]._array
    if isinstance(source, TensorSource):
        return source.tensor._storage.base_array
    if isinstance(source, NumberSource):
        return np.array(source.get(), np.float64)
    if isinstance(source, ComputedSource):
        return np.array(source.compute(arguments), np.float64)
    return np.array(generator.philox_state(0), np.uint64).view(np.int64)
