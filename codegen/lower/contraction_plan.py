"""The choice of a plan for a contraction.

`ranked_plans` tries the sensible plans and orders them by what a model reckons they take (`contraction_cycles.py`); the
cheapest is the one to take, unless measurements say otherwise (`choices.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from heapq import nsmallest
from itertools import combinations
from math import ceil, prod
from operator import itemgetter

from ...ir import dims
from ...ir.dims import DimLike
from ..target import MANY_REGISTERS
from .choices import cheapest, varied
from .contraction import Contraction
from .contraction_amx_plan import held_tiles, tile_cycles, tile_plans
from .contraction_cycles import FLOAT, TYPICAL, WIDE_STRIDES, Core, Model, live_operands
from .tiling import Plan

# Up to this extent another plan may be worth having, where it is this much faster.
SMALL = 3
GAIN = 1.5
MOST_TASKS = 64
LEAST_TASK = 3000.0
PARTS = 8
# Of the second-level cache, what rows of an image take that wait for the next panel.
HELD = 0.5
# So many of the cheapest plans are looked through for plans of different kinds.
POOL = 512


@dataclass(frozen=True)
class Choice:
    """A plan, and the number of times (0 or 1, depending on dims) that its kernels are to run."""

    plan: Plan
    times: DimLike = 1


# The plans that compute a contraction together: one, or one for few positions of an axis and one for many.
Way = tuple[Choice, ...]


def ranked_plans(problem: Contraction, core: Core, count: int = 1, tiles: bool = False) -> Sequence[Way]:
    """The cheapest ways by the model, `count` at most. Where an extent is a symbol that may be small and small ones want
    another plan (one row against a matrix), two plans, of which one runs. None where words end in the middle and nothing
    can be packed to fill them. `tiles`: the machine has tile registers for it. Equal problems are worked out once."""
    key = (
        problem.parallel,
        problem.reduction,
        *((x.index, x.buffer.shape, x.buffer.dtype) for x in problem.operands),
        (problem.result, problem.shape, problem.dtype, *sorted(problem.windows.items(), key=itemgetter(0))),
        (core, problem.resident, problem.dot, count, tiles),
    )
    if key not in _ranked:
        if len(_ranked) >= REMEMBERED:
            _ranked.clear()
        _ranked[key] = _ranked_plans(problem, core, count, tiles)
    return _ranked[key]


def unpacked_plan(problem: Contraction, core: Core) -> Plan:
    """The cheapest plan by the model for a contraction that is done by one task, inside of another kernel, where nothing
    can be packed: where lanes are neighbours only in a packed copy, they are loaded one by one."""
    plans = _Plans(problem, core, TYPICAL)
    candidates = list(plans.candidates())
    as_they_lie = [each for each in candidates if not each[1].packed]
    as_they_lie = as_they_lie or [(0.0, replace(plan, packed={})) for _, plan in candidates]
    ((plan, cycles),) = cheapest(as_they_lie, plans.cycles)
    return replace(plans.finished(replace(plan, cycles=cycles)), blocks={}, split="", parts=1)


_ranked: dict[tuple[object, ...], Sequence[Way]] = {}
REMEMBERED = 4096


def _ranked_plans(problem: Contraction, core: Core, count: int, tiles: bool) -> Sequence[Way]:
    plans = _Plans(problem, core, TYPICAL, tiles).best(count)
    if not plans:
        return ()
    for axis in problem.parallel:
        low, high = dims.bounds(axis.extent)
        if isinstance(axis.extent, int) or low > SMALL or high <= SMALL:
            continue
        few = _Plans(problem, core, SMALL)
        smallest = few.best(1)
        if not smallest:
            continue
        small = smallest[0]
        if few.cycles(plans[0]) > GAIN * small.cycles and plans[0].parts == small.parts == 1:
            large = dims.minimum(1, dims.floordiv(axis.extent, SMALL + 1))
            return [(Choice(small, 1 - large), Choice(p, large)) for p in plans if p.parts == 1]
    return [(Choice(plan),) for plan in plans]


# A chain of more sums than the first is taken apart where there are few registers (with many, lanes and parts are more),
# into chains of at least as many as the second: less than 3 percent of the time.
LONG_CHAIN, SHORT_CHAIN = 4096, 64


class _Plans(Model):
    """The plans for a problem; `tiles`: also those in tile registers."""

    def __init__(self, problem: Contraction, core: Core, typical: int, tiles: bool = False):
        super().__init__(problem, core, typical)
        self.tiles = tiles

    def cycles(self, plan: Plan) -> float:
        return tile_cycles(self, plan) if plan.rows else super().cycles(plan)

    def best(self, count: int) -> list[Plan]:
        """The cheapest plans, the best first, of several kinds; none where words end in the middle and nothing can be
        packed to fill them."""
        if count == 1:
            found = cheapest(self.candidates(), self.cycles)
        else:
            reckoned = ((plan, self.cycles(plan)) for _, plan in self.candidates())
            found = varied(nsmallest(POOL, reckoned, key=itemgetter(1)), _kind, count)
        return [self.finished(replace(plan, cycles=cycles)) for plan, cycles in found]

    def candidates(self) -> Iterator[tuple[float, Plan]]:
        """Plans, and cycles that they take at least."""
        for plan in tile_plans(self) if self.tiles else ():
            yield 0.0, plan
        for lane in (*self.parallel, *self.reduction):
            if self.problem.axes[lane].extent == 1 and (lane in self.parallel or self.has_lanes):
                continue
            along_result = lane in self.parallel
            needed = self._packing(lane)
            if needed is None or (not along_result and not self.exact):
                continue
            for tiles in self._tiles(lane):
                units = prod(tiles.values())
                most = self.size[lane] / self.lanes
                most = ceil(most) if along_result else max(1, int(most))
                for vectors in (1, 2, 3, 4) if tiles or not along_result else (1, 2, 3, 4, 8, 16):
                    if vectors > most or not self._fits(tiles, lane, units, vectors):
                        continue
                    turned = self._turned(lane, tiles)
                    least = self.least(Plan(lane, self.lanes, vectors, tiles))
                    for packed in self._packings(needed, lane, tiles):
                        plan = Plan(lane, self.lanes, vectors, tiles, packed=packed, turned=turned)
                        yield least + self.packing(plan), plan

    def _turned(self, lane: str, tiles: Mapping[str, int]) -> str:
        """The axis of a tile along which to store it, where elements of a vector would go to places far apart."""
        if lane in self.reduction or self.lanes < 4 or not self.stores_far(lane):
            return ""
        return next((n for n, count in tiles.items() if count > 1 and self.result_stride[n] == 1), "")

    def _packing(self, lane: str) -> Mapping[int, str] | None:
        """What must be packed for lanes along this axis to be neighbours; None where that cannot help."""
        strided = [
            i
            for i in (0, 1)
            if lane in self.reads[i] and self.strides[i][lane] != 1 and not self._shuffled(i, lane)
        ]
        if not strided:
            return {}
        if lane in self.reduction or len(strided) == 2:
            return {} if max(self.size.values()) == 1 else None if self._any_better(lane) else {}
        return {strided[0]: lane} if self.separable[strided[0]] else None if self._any_better(lane) else {}

    def _shuffled(self, operand: int, lane: str) -> bool:
        """Whether vectors along the axis are made of a few that lie side by side."""
        return self.strides[operand][lane] in WIDE_STRIDES and self.words[operand] is None

    def _packings(
        self, needed: Mapping[int, str], lane: str, tiles: Mapping[str, int]
    ) -> Iterator[Mapping[int, str]]:
        """What to pack: what must be, and besides what might gain by it."""
        if self.exact:
            yield needed
        useful: dict[int, str] = {}
        for operand in (0, 1):
            if operand in needed or lane in self.reduction or not self.separable[operand]:
                continue
            along = [lane] if lane in self.reads[operand] else [n for n in tiles if n in self.reads[operand]]
            if not self.exact:
                along = (along or [n for n in self.parallel if n in self.reads[operand]])[:1]
            gain = self._span(operand) > 0 or self.converted(operand) or not self.exact
            gain = gain or (lane in self.reads[operand] and self.in_rows[operand] > 0)
            gain = gain or self.lines(operand, lane, tiles) > 0
            gain = gain and (self._again(operand) or not self.exact)
            if len(along) == 1 and (gain or self._shuffled(operand, lane)):
                useful[operand] = along[0]
                if self.exact or len(needed) == 1:
                    yield {**needed, operand: along[0]}
        if len(useful) == 2:
            yield useful

    def _again(self, operand: int) -> bool:
        """Whether a packed element is read more than once."""
        others = (n for n in self.parallel if n not in self.reads[operand])
        return operand in self.problem.resident or any(self.size[n] > 1 for n in others)

    def _any_better(self, lane: str) -> bool:
        """Whether some other axis can run along lanes without gathers."""
        for other in (*self.parallel, *self.reduction):
            if other == lane or self.size[other] == 1:
                continue
            strided = [i for i in (0, 1) if other in self.reads[i] and self.strides[i][other] != 1]
            if not strided or (other in self.parallel and len(strided) == 1 and self.separable[strided[0]]):
                return True
        return False

    def _tiles(self, lane: str) -> Iterator[dict[str, int]]:
        others = [name for name in self.parallel if name != lane and self.size[name] > 1]
        yield {}
        for name in others:
            for n in self._counts(name, self.registers):
                yield {name: n}
        for first, second in combinations(others, 2):
            for n in self._counts(first, 8):
                for m in self._counts(second, 8):
                    yield {first: n, second: m}

    def _counts(self, name: str, most: int) -> list[int]:
        size, extent = self.size[name], self.problem.axes[name].extent
        few = [n for n in (2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 20, 24, 28) if n <= min(size, most)]
        return few if isinstance(extent, int) else [n for n in few if n in (2, 4, 8, 12)]

    def _fits(self, tiles: Mapping[str, int], lane: str, units: int, vectors: int) -> bool:
        """Whether accumulators and what is read of the operands fit."""
        if units * vectors >= self.registers:
            return False
        lanes, others = self.reads if lane in self.reads[0] else self.reads[::-1]
        reading = [tuple(name in reads for name in tiles) for reads in (lanes, others)]
        if lane in self.reduction:
            if self.registers >= MANY_REGISTERS:
                left, right = (self.loads(i, tiles, lane, vectors) for i in (0, 1))
                return units * vectors + (left + right) // vectors <= self.registers
            # Both operands are vectors, which come from memory where they are multiplied but once; and a mask.
            live = live_operands(tuple(tiles.values()), *reading, 1, True)
            return units * vectors + live + 1 <= self.registers
        live = live_operands(tuple(tiles.values()), *reading, vectors, self.core.folding)
        return units * vectors + live <= self.registers

    # What does not change the estimate much is settled once, for the best plan.

    def finished(self, plan: Plan) -> Plan:
        along_result = plan.lane in self.parallel
        if not plan.rows:
            plan = replace(
                plan, unroll=self.unroll(plan, plan.tiles, prod(plan.tiles.values()) * plan.vectors)
            )
        outer = [n for n in self.parallel if n != plan.lane and n not in plan.tiles]
        held = self._held(plan, outer)
        lane = [plan.lane] if along_result else []
        inner = [*plan.tiles, *lane] if self._slides(plan) else [*lane, *held, *plan.tiles]
        order = (*(n for n in outer if n not in held), *inner)
        if any(a.extent == 0 for a in self.problem.reduction):
            plan = replace(plan, packed={})  # nothing is read
        padded = bool(plan.rows) or (
            along_result and all(i in plan.packed for i in (0, 1) if plan.lane in self.reads[i])
        )
        windows = frozenset(() if plan.rows else self.used_windows(plan))
        plan = replace(
            plan, order=order, padded=padded, windows=windows, blocks=held, afresh=self._afresh(plan)
        )
        return self._with_tasks(plan)

    def _slides(self, plan: Plan) -> bool:
        """Whether tiles are pieces of one operand's rows, all with the same of the other, as in a depthwise convolution:
        they are walked row by row, for neighbours along the lanes share lines."""
        lanes, others = (0, 1) if plan.lane in self.reads[0] else (1, 0)
        return lanes not in plan.packed and not self.reads[others].intersection((plan.lane, *plan.tiles))

    def _held(self, plan: Plan, outer: Sequence[str]) -> dict[str, int]:
        """An axis to walk inside that of the lanes, and how many positions of it in one task: where the panels of all
        lanes do not fit in the second-level cache, several rows of an image read each panel in turn."""
        if not outer or plan.lane not in self.parallel or plan.rows or self.core.per_cycle == 1:
            return {}
        axis = outer[-1]
        lanes, others = (0, 1) if plan.lane in self.reads[0] else (1, 0)
        panels = self.size[plan.lane] * self.steps * FLOAT
        if lanes not in plan.packed or axis in self.reads[lanes] or axis not in self.reads[others]:
            return {}
        if panels <= self.core.l2 or not isinstance(self.problem.axes[axis].extent, int):
            return {}
        # Of the other operand, what positions along the axis read.
        apart = prod(
            self.size[n] for n in self.parallel if n != axis and n in self.reads[others] and n in outer
        )
        rows = self._bytes(others) / apart / self.size[axis]
        count = min(self.size[axis], int(self.core.l2 * HELD / rows))
        return {axis: count} if count > 1 else {}

    def _afresh(self, plan: Plan) -> tuple[str, ...]:
        """The outermost axes of a long sum, so that its error is near the least that two levels of chains have; none
        of an inner chain that is too short to add its sums to others' by the way."""
        if plan.lane in self.reduction or plan.rows or self.problem.dot or self.steps <= LONG_CHAIN:
            return ()
        if self.registers >= MANY_REGISTERS or not self.problem.accumulator.is_floating_point:
            return ()
        found: tuple[str, ...] = ()
        least = self.steps
        for n in range(1, len(self.reduction)):
            outer = prod(self.size[name] for name in self.reduction[:n])
            inner = self.steps // outer
            if inner >= SHORT_CHAIN and outer + inner < least:
                found, least = tuple(self.reduction[:n]), outer + inner
        return found

    def _with_tasks(self, plan: Plan) -> Plan:
        """Blocks and parts: enough tasks for many threads, none of them too small. They depend on the problem
        only, so that the result's bits do not depend on the number of threads."""
        split = None if plan.rows else self.parts(plan)
        most = min(MOST_TASKS, int(plan.cycles / LEAST_TASK) // (1 if split is None else split[1]))
        blocks = dict(plan.blocks) or held_tiles(self, plan)
        count = prod(ceil(self.size[name] / plan.tile(name) / block) for name, block in blocks.items())
        symbolic = False
        images = self._slides(plan)  # whole, which a task copies with their borders
        for name in plan.order:
            if name in blocks:
                continue
            extent = self.problem.axes[name].extent
            tiles = ceil(self.size[name] / plan.tile(name))
            if count * 2 + images > most or tiles == 1:
                continue
            if not isinstance(extent, int):
                if symbolic:
                    continue
                symbolic = True
            pieces = ceil(tiles / max(1, tiles * count // most))
            blocks[name] = ceil(tiles / pieces)
            count *= ceil(tiles / blocks[name])
        plan = replace(plan, blocks=blocks)
        if split is not None:
            return replace(plan, split=split[0], parts=split[1])
        outputs = prod(self.size[n] for n in self.parallel)
        first = self.problem.reduction[0].name
        long_enough = self.whole and self.size[first] >= 2 * PARTS and plan.cycles > 20 * LEAST_TASK
        if count < PARTS and long_enough and outputs * PARTS < plan.cycles / 4:
            return replace(plan, split=first, parts=PARTS, deep=0)
        return plan


def _kind(plan: Plan) -> tuple[object, ...]:
    return plan.lane, plan.vectors, tuple(plan.tiles), tuple(plan.packed), plan.rows
