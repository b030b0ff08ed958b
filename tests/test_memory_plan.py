"""The memory plan: intervals alive together never overlap, and the arena stays near the lower bound."""

from __future__ import annotations

import random
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vitrify.ir.dims import Dim
from vitrify.passes.memory_plan import ALIGNMENT, Interval, check_plan, lower_bound, plan_memory

# The bytes and lifetimes of the intermediate results of a LeNet training step, batch 64, float32: forward
# values live until their gradient is made, gradients until the update.
LENET_SHAPES = [
    64 * 6 * 28 * 28,
    64 * 6 * 14 * 14,
    64 * 16 * 10 * 10,
    64 * 16 * 5 * 5,
    64 * 120,
    64 * 84,
    64 * 10,
]


def lenet_intervals(scale=1):
    n = len(LENET_SHAPES)
    found = []
    for i, size in enumerate(LENET_SHAPES):
        found.append(Interval(f"y{i}", 4 * size * scale, i, 2 * n - i))
        found.append(Interval(f"dy{i}", 4 * size * scale, 2 * n - 1 - i, 2 * n - i))
    return found


def test_lenet_step_is_within_a_fifth_of_the_lower_bound():
    plan = plan_memory(lenet_intervals())
    check_plan(plan)
    assert plan.arena_bytes <= 1.2 * plan.lower_bound()


def test_disjoint_lifetimes_share_one_place():
    plan = plan_memory([Interval("a", 100, 0, 1), Interval("b", 60, 2, 3), Interval("c", 128, 4, 4)])
    assert plan.offsets == {"a": 0, "b": 0, "c": 0}
    assert plan.arena_bytes == 128


def test_lifetimes_that_touch_do_not_share_unless_allowed():
    apart = plan_memory([Interval("x", 256, 0, 1), Interval("y", 256, 1, 2)])
    assert apart.arena_bytes == 512
    shared = plan_memory([Interval("x", 256, 0, 1), Interval("y", 256, 1, 2, may_share=("x",))])
    assert shared.arena_bytes == 256
    assert shared.offsets["x"] == shared.offsets["y"]
    assert shared.lower_bound() == 256


def test_a_chain_of_in_place_updates_uses_one_place():
    chain = [Interval(f"v{i}", 640, i, i + 1, may_share=(f"v{i - 1}",)) for i in range(10)]
    assert plan_memory(chain).arena_bytes == 640


def test_only_one_newcomer_takes_a_place():
    plan = plan_memory(
        [Interval("x", 64, 0, 1), Interval("y", 64, 1, 2, ("x",)), Interval("z", 64, 1, 2, ("x",))]
    )
    check_plan(plan)
    assert plan.arena_bytes == plan.lower_bound() == 128


def test_offsets_are_closed_forms_of_the_batch():
    batch = Dim("batch", 1, 256)
    plan = plan_memory(
        [
            Interval("a", 4 * batch * 10, 0, 2),
            Interval("b", 4 * batch * 100, 1, 2),
            Interval("c", 4 * batch * 100, 3, 4),
            Interval("w", 4 * 25, 0, 4),
        ]
    )
    # 40 and 400 bytes a sample round to 64 and 448; `b` and `c` are not alive together.
    assert plan.arena_bytes == 128 + batch * (64 + 448)
    for size in (1, 7, 64, 256):
        check_plan(plan, {"batch": size})


def test_zero_bytes_need_no_place():
    plan = plan_memory([Interval("empty", 0, 0, 3), Interval("x", 4, 0, 3)])
    assert plan.offsets == {"empty": 0, "x": 0}
    assert plan.arena_bytes == ALIGNMENT
    assert plan_memory([]).arena_bytes == 0


def test_bad_intervals_are_refused():
    with pytest.raises(ValueError, match="two intervals have the name 'a'"):
        plan_memory([Interval("a", 4, 0, 1), Interval("a", 4, 0, 1)])
    with pytest.raises(ValueError, match="'a' ends at 1, before it starts"):
        plan_memory([Interval("a", 4, 2, 1)])


@st.composite
def interval_sets(draw):
    count = draw(st.integers(1, 25))
    found: list[Interval] = []
    for i in range(count):
        first = draw(st.integers(0, 20))
        last = first + draw(st.integers(0, 10))
        dying = [other.name for other in found if other.last == first]
        share = tuple(dying[:2]) if dying and draw(st.booleans()) else ()
        found.append(Interval(f"i{i}", draw(st.integers(0, 5000)), first, last, share))
    return found


@settings(max_examples=150, deadline=None)
@given(interval_sets())
def test_random_plans_are_legal_and_not_below_the_bound(intervals):
    plan = plan_memory(intervals)
    check_plan(plan)
    assert plan.arena_bytes >= lower_bound(intervals)


def random_intervals(seed, count):
    rng = random.Random(seed)
    found = []
    for i in range(count):
        first = rng.randrange(count)
        last = min(count, first + int(rng.expovariate(0.1)))
        found.append(Interval(f"i{i}", 64 * int(2 ** rng.uniform(0, 12)), first, last))
    return found


def test_random_plans_are_near_the_lower_bound():
    ratios = []
    for seed in range(10):
        plan = plan_memory(random_intervals(seed, 200))
        check_plan(plan)
        ratios.append(plan.arena_bytes / plan.lower_bound())
    mean = sum(ratios) / len(ratios)
    print(f"arena / lower bound over 10 random sets of 200: worst {max(ratios):.3f}, mean {mean:.3f}")
    assert max(ratios) <= 1.15


def test_planning_is_fast():
    intervals = random_intervals(1, 200)
    fastest = min(_seconds(intervals) for _ in range(5))
    assert fastest < 0.1  # 20 ms on an idle machine; the bound leaves room for a busy one


def _seconds(intervals):
    start = time.perf_counter()
    plan_memory(intervals)
    return time.perf_counter() - start
