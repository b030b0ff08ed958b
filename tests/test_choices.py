"""The cheapest plan is found without reckoning all of them."""

from __future__ import annotations

import pytest
from contractions import lowered
from test_lower_conv import geometry, three
from test_lower_gemm import matrices
from test_lower_words import integers

from vitrify.codegen.lower import contraction_plan, winograd_plan
from vitrify.codegen.lower.choices import cheapest
from vitrify.ir.dims import Dim

GRAPHS = [
    *(matrices(m, k, n, left=left) for m, k, n in ((1, 200, 70), (33, 127, 65)) for left in (False, True)),
    matrices(Dim("n", 1, 400), 96, 160),
    integers(33, 70, 50),
    *three(2, (16, 20, 22), (24, 16, 3, 3), **geometry(2, padding=1)),
    *three(1, (8, 15, 15), (16, 8, 3, 3), **geometry(2, stride=2, padding=1)),
    *three(2, (12, 14, 14), (12, 1, 3, 3), **geometry(2, padding=1, groups=12)),
]
TARGETS = ("x86-64-amx", "x86-64-avx512", "x86-64-avx2-dot", "x86-64-sse2", "aarch64-neon")


def test_the_first_of_equals_is_taken_and_the_rest_is_not_reckoned():
    reckoned = []

    def cycles(plan: str) -> float:
        reckoned.append(plan)
        return {"a": 7.0, "b": 5.0, "c": 5.0, "d": 9.0}[plan]

    assert cheapest([(6.0, "a"), (5.0, "b"), (1.0, "c"), (8.0, "d")], cycles) == [("b", 5.0)]
    assert reckoned == ["c", "b"]
    assert cheapest([], cycles) == []


@pytest.mark.parametrize("target", TARGETS)
def test_no_plan_takes_less_than_its_bound(monkeypatch, target):
    asked = []

    def checked(bounded, cycles):
        bounded = list(bounded)
        taken = [cycles(plan) for _, plan in bounded]
        assert all(least <= each for (least, _), each in zip(bounded, taken, strict=True))
        asked.append(len(bounded))
        found = cheapest(bounded, cycles)
        assert [each for _, each in found] == ([min(taken)] if taken else [])
        return found

    for module in (contraction_plan, winograd_plan):
        monkeypatch.setattr(module, "cheapest", checked)
    monkeypatch.setattr(contraction_plan, "_ranked", {})
    for graph in GRAPHS:
        lowered(graph, target)
    assert len(asked) >= len(GRAPHS) and max(asked) > 100
