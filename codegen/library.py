"""An exported program, before it is written as code: what the C interface shows of it, where its weights lie.

`llvm/library.py` writes the code, `runtime/export.py` the files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..ir import dims
from ..ir.dims import DimLike, Symbol
from ..ir.types import TensorType
from .loops.nodes import Program
from .target import Target


@dataclass(frozen=True)
class Slot:
    """An input or an output as the C interface shows it."""

    name: str
    type: TensorType


@dataclass(frozen=True)
class Weights:
    """Constants of the program. `offsets`: of each, by the number of the program's input that it is; `total`: bytes of
    all; `file`: the name of the file beside the library, None where they are inside; `fingerprint` tells a file that
    belongs to the library."""

    offsets: dict[int, int]
    total: int
    file: str | None = None
    fingerprint: int = 0


@dataclass(frozen=True)
class Library:
    """What is exported: `inputs` are the caller's, in the order of the program's inputs that are no weights; `variants`
    come in the order in which they are preferred."""

    name: str
    inputs: tuple[Slot, ...]
    outputs: tuple[Slot, ...]
    dims: tuple[Symbol, ...]
    weights: Weights
    variants: tuple[tuple[Target, Program], ...]
    messages: dict[int, str]


def functions(library: Library) -> list[str]:
    """The names of the functions the library gives, without its own name before them."""
    names = [
        "abi_version",
        "input_count",
        "output_count",
        "dim_count",
        "input_info",
        "output_info",
        "dim_info",
    ]
    names += ["arena_bytes", "input_shape", "output_shape", "run", "error", "weights_file"]
    return [*names, "set_weights"] if library.weights.file else names


def bounded_dims(
    symbols: Sequence[Symbol], sizes: Sequence[DimLike], largest: int = 1 << 60
) -> tuple[Symbol, ...]:
    """The symbols, their upper bounds low enough that none of the sizes exceeds `largest`: native arithmetic on them
    cannot overflow."""
    for bits in range(62, -1, -1):
        capped = {s.name: dims.symbol(s.name, s.low, max(s.low, min(s.high, 1 << bits))) for s in symbols}
        if all(dims.bounds(dims.substitute(size, capped))[1] <= largest for size in sizes):
            break
    else:
        raise OverflowError("the program needs more memory than there are addresses, at its smallest dims")
    return tuple(dims.symbols(capped[s.name])[0] for s in symbols)
