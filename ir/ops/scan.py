"""`scan`: a loop whose body is a graph, over the first dim of its sequences.

    state, results = initial, []
    for t in range(length):                    # backwards with reverse=true
        state, result = body(state, sequence[t], invariant)
        results[t] = result
    return state, results

`carries` operands are the initial states, the next `sequences` operands are scanned, the rest are invariant. The body
takes states, an element of each sequence and the invariants, and gives the next states, then an element of each
stacked result. The node gives the final states, then the stacked results.

`OpBuilder.scan` (`ir/builder.py`) is how decompositions and gradient rules write one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ..graph import IRError
from ..op import VARIADIC, Attr, Op, RegionRule, declare
from ..types import TensorType
from .common import Array

Types = tuple[TensorType, ...]


def _types(operands: Types, results: Types, attrs: Mapping[str, Any]) -> tuple[Types, Types]:
    carries, sequences, length = attrs["carries"], attrs["sequences"], attrs["length"]
    if carries < 0 or sequences < 0 or carries + sequences > len(operands):
        raise RuntimeError(f"{carries} carries and {sequences} sequences among {len(operands)} operands")
    for type_ in operands[carries : carries + sequences]:
        if type_.rank == 0 or type_.shape[0] != length:
            raise RuntimeError(f"expected a sequence of length {length}, got {type_}")
    initial = operands[:carries]
    elements = tuple(t.with_shape(t.shape[1:]) for t in operands[carries : carries + sequences])
    if results[:carries] != initial:
        have, want = (", ".join(map(str, types)) for types in (results[:carries], initial))
        raise RuntimeError(f"the body turns states ({want}) into ({have})")
    stacked = tuple(t.with_shape((length, *t.shape)) for t in results[carries:])
    return (*initial, *elements, *operands[carries + sequences :]), (*initial, *stacked)


def _numpy(
    body: Callable[..., tuple[Array, ...]], arrays: Sequence[Array], attrs: Mapping[str, Any]
) -> tuple[Array, ...]:
    carries, sequences, length = attrs["carries"], attrs["sequences"], attrs["length"]
    if length == 0:
        raise IRError("a scan of no steps: what its body gives is not known")
    state, scanned = tuple(arrays[:carries]), arrays[carries : carries + sequences]
    invariants = arrays[carries + sequences :]
    stacked: list[Array] = []
    for t in reversed(range(length)) if attrs["reverse"] else range(length):
        found = body(*state, *(s[t] for s in scanned), *invariants)
        state, results = found[:carries], found[carries:]
        if not stacked:
            stacked = [np.empty((length, *r.shape), r.dtype) for r in results]
        for place, result in zip(stacked, results, strict=True):
            place[t] = result
    return *state, *stacked


def _not_here(*operands: Any, **attrs: Any) -> Any:
    raise IRError("scan: it has no meaning without its region; build it with OpBuilder.scan")


declare(
    Op(
        "scan",
        "A loop of `length` steps over the first dim of its sequences: scan(initial states, sequences, invariants) -> "
        "(final states, stacked results). Its region is a step.",
        infer=_not_here,
        numpy=_not_here,
        attrs={
            "carries": Attr("int"),
            "sequences": Attr("int"),
            "length": Attr("dim"),
            "reverse": Attr("bool", False),
        },
        arity=(0, VARIADIC),
        lowering="region",
        region=RegionRule(_types, _numpy),
    )
)
