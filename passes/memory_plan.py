"""The memory plan: lifetimes in, offsets in one arena out.

A pure planner: it knows intervals, not graphs or kernels. Placing intervals so that the arena is smallest
is NP-hard (dynamic storage allocation; Garey and Johnson SR2). The plan tries greedy orders in the manner
of Pisarchyk and Lee, "Efficient Memory Management for Deep Neural Net Inference" (2020), keeps the best,
and stops where the arena reaches the lower bound, the largest sum of bytes that are alive at once.

Sizes may depend on symbolic dims. Offsets stay closed forms: intervals whose sizes are multiples of the
same polynomial (`batch`, say) are planned together in units of 64 bytes times that polynomial, each such
class in a region of its own, so that every offset is `constant + coefficient*batch` and every order of two
offsets holds for every batch.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from ..ir.dims import DimLike, evaluate, exact_div

ALIGNMENT = 64  # bytes: a cache line, and the widest vector load


@dataclass(frozen=True)
class Interval:
    """A piece of memory that is alive from launch `first` to launch `last`, both included.

    `may_share` names intervals whose place this one may take over in the launch where they die and it is
    born: same offset, because the kernel reads each element before it writes the one at the same place.
    """

    name: str
    nbytes: DimLike
    first: int
    last: int
    may_share: tuple[str, ...] = ()


@dataclass(frozen=True)
class Plan:
    """Byte offsets by name, all multiples of 64, and the arena's size; `lower_bound` says how far from the
    best it may be."""

    offsets: Mapping[str, DimLike]
    arena_bytes: DimLike
    intervals: tuple[Interval, ...] = field(repr=False, default=())

    def lower_bound(self, bindings: Mapping[str, int] | None = None) -> int:
        """The largest sum of bytes alive in one launch, for these values of the symbolic dims. No plan is
        smaller."""
        return lower_bound(self.intervals, bindings)


def plan_memory(intervals: Sequence[Interval]) -> Plan:
    """Offsets for the intervals. ValueError for a lifetime that ends before it starts, or a name used
    twice."""
    for name, count in Counter(interval.name for interval in intervals).items():
        if count > 1:
            raise ValueError(f"two intervals have the name {name!r}")
    for interval in intervals:
        if interval.last < interval.first:
            raise ValueError(f"interval {interval.name!r} ends at {interval.last}, before it starts")
    offsets: dict[str, DimLike] = {interval.name: 0 for interval in intervals}
    classes: dict[DimLike, list[tuple[Interval, int]]] = defaultdict(list)
    for interval in intervals:
        unit, count = _units(interval.nbytes)
        if count:
            classes[unit].append((interval, count))
    base: DimLike = 0
    for unit in sorted(classes, key=str):
        members = classes[unit]
        places, height = _place([m for m, _ in members], [count for _, count in members])
        for (interval, _), place in zip(members, places):
            offsets[interval.name] = base + unit * (place * ALIGNMENT)
        base = base + unit * (height * ALIGNMENT)
    return Plan(offsets, base, tuple(intervals))


def _units(nbytes: DimLike) -> tuple[DimLike, int]:
    """The size as `(unit, count)`: at most `count * 64 * unit` bytes, the unit a polynomial without a
    common factor."""
    if isinstance(nbytes, int):
        return 1, -(-nbytes // ALIGNMENT)
    factor = math.gcd(*(c for _, c in nbytes.terms))
    return exact_div(nbytes, factor), -(-factor // ALIGNMENT)


def lower_bound(intervals: Sequence[Interval], bindings: Mapping[str, int] | None = None) -> int:
    """The largest sum of bytes alive in one launch; where an interval may take over another's place, the
    two count as the larger of them. Bytes as given, not rounded up to the alignment."""
    sizes = {i.name: evaluate(i.nbytes, bindings or {}) for i in intervals}
    by_name = {i.name: i for i in intervals}
    change: dict[int, int] = defaultdict(int)
    saved: dict[int, int] = defaultdict(int)
    handed_over: dict[int, list[tuple[str, str]]] = defaultdict(list)
    for interval in intervals:
        change[interval.first] += sizes[interval.name]
        change[interval.last + 1] -= sizes[interval.name]
        for other in interval.may_share:
            if other in by_name and by_name[other].last == interval.first:
                handed_over[interval.first].append((interval.name, other))
    for launch, pairs in handed_over.items():
        saved[launch] = _most_saved(pairs, sizes)
    best = alive = 0
    for launch in sorted(change):
        alive += change[launch]
        best = max(best, alive - saved[launch])
    # What stays alive between two launches has no one to share with.
    between: dict[int, int] = defaultdict(int)
    for interval in intervals:
        if interval.last > interval.first:
            between[interval.first] += sizes[interval.name]
            between[interval.last] -= sizes[interval.name]
    alive = 0
    for launch in sorted(between):
        alive += between[launch]
        best = max(best, alive)
    return best


def _most_saved(pairs: Iterable[tuple[str, str]], sizes: Mapping[str, int]) -> int:
    """At least what the best pairing saves: each newcomer takes one place, and each place has one taker."""
    by_new: dict[str, int] = defaultdict(int)
    by_old: dict[str, int] = defaultdict(int)
    for new, old in pairs:
        size = min(sizes[new], sizes[old])
        by_new[new] = max(by_new[new], size)
        by_old[old] = max(by_old[old], size)
    return min(sum(by_new.values()), sum(by_old.values()))


@dataclass(frozen=True)
class _Problem:
    """Intervals by number: sizes, lifetimes, who is alive together with whom, and which of those may
    share."""

    sizes: Sequence[int]
    first: Sequence[int]
    last: Sequence[int]
    conflicts: Sequence[Sequence[int]]
    partners: Sequence[frozenset[int]]


def _place(intervals: Sequence[Interval], sizes: Sequence[int]) -> tuple[list[int], int]:
    """Places and total height, both in units."""
    problem = _problem(intervals, sizes)
    bound = lower_bound(
        [Interval(i.name, size, i.first, i.last, i.may_share) for i, size in zip(intervals, sizes)]
    )
    numbers = range(len(sizes))
    length = [problem.last[i] - problem.first[i] + 1 for i in numbers]
    orders: tuple[Callable[[int], tuple[int, ...]], ...] = (
        lambda i: (-sizes[i], problem.first[i], i),
        lambda i: (-sizes[i] * length[i], problem.first[i], i),
        lambda i: (problem.first[i], -sizes[i], i),
        lambda i: (-length[i], -sizes[i], i),
    )
    best: list[int] = []
    height = -1
    best_order: list[int] = []
    for key in orders:
        order = sorted(numbers, key=key)
        places = _place_in_order(problem, order)
        top = max(places[i] + sizes[i] for i in numbers)
        if height < 0 or top < height:
            best, height, best_order = places, top, order
        if height == bound:
            return best, height
    # What sticks out at the top was placed too late: give it the first choice, and try again.
    order = best_order
    for _ in range(IMPROVEMENTS):
        places = _place_in_order(problem, order)
        top = max(places[i] + sizes[i] for i in numbers)
        if top < height:
            best, height = places, top
            if height == bound:
                break
        sticking_out = {i for i in numbers if places[i] + sizes[i] == top}
        order = [i for i in order if i in sticking_out] + [i for i in order if i not in sticking_out]
    return best, height


IMPROVEMENTS = 6


def _problem(intervals: Sequence[Interval], sizes: Sequence[int]) -> _Problem:
    number = {interval.name: i for i, interval in enumerate(intervals)}
    conflicts: list[list[int]] = [[] for _ in intervals]
    partners: list[set[int]] = [set() for _ in intervals]
    alive: list[int] = []
    for i in sorted(range(len(intervals)), key=lambda i: intervals[i].first):
        first = intervals[i].first
        alive = [j for j in alive if intervals[j].last >= first]
        for j in alive:
            conflicts[i].append(j)
            conflicts[j].append(i)
        alive.append(i)
        for name in intervals[i].may_share:
            j = number.get(name, -1)
            if j >= 0 and j != i and intervals[j].last == first:
                partners[i].add(j)
                partners[j].add(i)
    return _Problem(
        sizes,
        [i.first for i in intervals],
        [i.last for i in intervals],
        conflicts,
        [frozenset(p) for p in partners],
    )


def _place_in_order(problem: _Problem, order: Sequence[int]) -> list[int]:
    """Each interval in turn at a partner's place if it fits there, else in the smallest gap that holds it."""
    places = [-1] * len(order)
    sizes = problem.sizes
    for i in order:
        size = sizes[i]
        taken = sorted((places[j], places[j] + sizes[j]) for j in problem.conflicts[i] if places[j] >= 0)
        shared = _shared_place(problem, places, i)
        places[i] = best_gap(taken, size) if shared is None else shared
    return places


def best_gap(taken: Sequence[tuple[int, int]], size: int) -> int:
    """Where to begin: the smallest gap between what is `taken`, in ascending order of beginnings, that holds `size`, or
    the end of all."""
    best, best_gap = -1, 0
    end = 0
    for low, high in taken:
        gap = low - end
        if gap >= size and (best < 0 or gap < best_gap):
            best, best_gap = end, gap
        if high > end:
            end = high
    return end if best < 0 else best


def _shared_place(problem: _Problem, places: Sequence[int], i: int) -> int | None:
    """The lowest place of a partner where this interval disturbs no third one."""
    found = sorted(places[j] for j in problem.partners[i] if places[j] >= 0)
    size = problem.sizes[i]
    for place in found:
        if all(
            places[j] < 0
            or places[j] >= place + size
            or places[j] + problem.sizes[j] <= place
            or (places[j] == place and j in problem.partners[i])
            for j in problem.conflicts[i]
        ):
            return place
    return None


def check_plan(plan: Plan, bindings: Mapping[str, int] | None = None) -> None:
    """ValueError if two intervals that are alive together overlap without leave to, for these values of the
    dims."""
    bound = bindings or {}
    placed = [(i, evaluate(plan.offsets[i.name], bound), evaluate(i.nbytes, bound)) for i in plan.intervals]
    arena = evaluate(plan.arena_bytes, bound)
    for n, (a, start, size) in enumerate(placed):
        if start % ALIGNMENT or start < 0 or (size and start + size > arena):
            raise ValueError(f"{a.name!r} at {start} with {size} bytes does not lie in the arena of {arena}")
        for b, other, other_size in placed[:n]:
            apart = a.last < b.first or b.last < a.first or not size or not other_size
            if apart or start + size <= other or other + other_size <= start:
                continue
            shares = (b.name in a.may_share and b.last == a.first) or (
                a.name in b.may_share and a.last == b.first
            )
            if not (shares and start == other):
                raise ValueError(f"{a.name!r} and {b.name!r} overlap and are alive at the same time")
