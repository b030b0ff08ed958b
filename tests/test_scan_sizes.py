"""A loop whose body would tell a size at each turn is refused, saying what, where and what to do."""

from __future__ import annotations

import pytest

from vitrify.ir import dtypes
from vitrify.ir.builder import GraphBuilder
from vitrify.ir.dims import symbol
from vitrify.ir.graph import IRError, Location
from vitrify.ir.types import TensorType


def test_a_size_that_a_run_tells_in_a_loop():
    F = GraphBuilder("g")
    F.location = Location("user.py", 7)
    x = F.input("x", TensorType((5, 4), dtypes.f32))
    start = F.input("h", TensorType((), dtypes.f32))

    def body(F, state, elements, constant):
        places = F.nonzero(elements[0], size=(symbol("u0", 0, 4),))
        count = F.sum(F.convert(places, dtype=dtypes.f32), dims=(0, 1), keepdim=False)
        return [F.add(state[0], count)], []

    with pytest.raises(IRError, match=r"user\.py:7: nonzero in the body of a loop.*\(u0\).*where"):
        F.scan(body, [start], [x], length=5)
