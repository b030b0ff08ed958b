"""The choice of a plan for a contraction.

`choose_plans` tries the sensible plans and takes the one that an explicit model finds cheapest, in clock
cycles of one core: vector multiply-adds against loads and the latency of a chain, partly filled lanes and
tiles, packing, stores. The model's figures are those of a core with one 512-bit multiply-add and two loads
per cycle (AMD Zen 4, measured with `benchmarks/kernels.py`); only their ratios matter to the choice.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import combinations
from math import ceil, prod
from operator import itemgetter

from ...ir import dims
from ...ir.dims import DimLike
from .contraction import Contraction
from .contraction_words import Words
from .tiling import Plan

# Cycles.
FMA_LATENCY = 4.0
DOT_LATENCY = 6.0  # of vdpbf16ps
LOAD = 0.5
LOAD_TIE = 0.1  # of two tiles as fast, the one with fewer loads
# More, for a load at least a FAR_STRIDE of bytes from the one before: another page, perhaps the same set.
FAR = 0.15
FAR_STRIDE = 1024
# More, for a row of vectors, per MiB over which the sum strews the operand's rows: TLB and cache misses. A quarter of
# that for an element.
SPAN = 0.4
SCATTERED_ELEMENT = 1.5  # an element of a vector loaded from or stored to places that are not neighbours
FAR_STORE = 8.0  # such an element in another page than the one before
TURN = 90.0  # a square of vectors, turned on the stack
TURNED_ROW = 2.0  # a row of it, stored
LANE_SUM = 10.0  # adding the lanes of one vector
TILE = 12.0  # entering and leaving a tile's loops
STEP = 0.6  # one turn of the innermost loop
PACK_ROW = 0.2  # an element packed from neighbours
PACK_COLUMN = 1.3  # an element packed across rows
PACK_TURNED = 0.5  # the same, in whole squares of vectors
PACK_WORD = 0.4  # a word packed of elements of different rows
CONVERT = 1.5  # a short number, or a vector of them, as one of the sum's dtype
GATHERED_WORD = 1.0  # an element of a word, or of a vector of words, that is loaded by itself
LAUNCH = 300.0
L2_LOAD = 2.0  # a vector from the second-level cache
L1_BYTES = 32 << 10
VECTOR_BYTES = 64

# A symbolic extent is taken to be its upper bound, and no more than this.
TYPICAL = 64
# Up to this extent another plan may be worth having, where it is this much faster.
SMALL = 3
GAIN = 1.5
# A tile's body is this many multiply-adds in the text of the code at most.
MOST_UNROLLED = 32
MOST_TASKS = 64
LEAST_TASK = 3000.0
PARTS = 8


@dataclass(frozen=True)
class Choice:
    """A plan, and the number of times (0 or 1, depending on dims) that its kernels are to run."""

    plan: Plan
    times: DimLike = 1


def choose_plans(problem: Contraction, lanes: int, registers: int) -> tuple[Choice, ...]:
    """The cheapest plan by the model. Where an extent is a symbol that may be small and small ones want
    another plan (one row against a matrix), two, of which one runs. None where words end in the middle and nothing can
    be packed to fill them. Equal problems are worked out once."""
    key = (
        problem.parallel,
        problem.reduction,
        *((x.index, x.buffer.shape, x.buffer.dtype) for x in problem.operands),
        (problem.result, problem.shape, problem.dtype, *sorted(problem.windows.items(), key=itemgetter(0))),
        (lanes, registers, problem.resident, problem.dot),
    )
    if key not in _chosen:
        if len(_chosen) >= REMEMBERED:
            _chosen.clear()
        _chosen[key] = _choose_plans(problem, lanes, registers)
    return _chosen[key]


_chosen: dict[tuple[object, ...], tuple[Choice, ...]] = {}
REMEMBERED = 4096


def _choose_plans(problem: Contraction, lanes: int, registers: int) -> tuple[Choice, ...]:
    usual = _Model(problem, lanes, registers, TYPICAL)
    plan = usual.best()
    if plan is None:
        return ()
    for axis in problem.parallel:
        low, high = dims.bounds(axis.extent)
        if isinstance(axis.extent, int) or low > SMALL or high <= SMALL:
            continue
        few = _Model(problem, lanes, registers, SMALL)
        small = few.best()
        if small is None:
            continue
        if few.cycles(plan) > GAIN * small.cycles and plan.parts == small.parts == 1:
            large = dims.minimum(1, dims.floordiv(axis.extent, SMALL + 1))
            return Choice(small, 1 - large), Choice(plan, large)
    return (Choice(plan),)


def typical(extent: DimLike, most: int = TYPICAL) -> int:
    """A number to reckon with in place of an extent: its symbols taken to be their bounds, but `most` at most."""
    return max(1, dims.evaluate(extent, {s.name: min(most, s.high) for s in dims.symbols(extent)}))


class _Model:
    def __init__(self, problem: Contraction, lanes: int, registers: int, typical: int):
        self.problem = problem
        self.words = [x if isinstance(x, Words) else None for x in problem.operands]
        self.typical = typical
        self._shares: dict[tuple[str, int], float] = {}
        self.lanes = lanes
        self.registers = registers
        self.size = {name: self._number(a.extent) for name, a in problem.axes.items()}
        self.strides = [{name: operand.stride(name) for name in problem.axes} for operand in problem.operands]
        self.reads = [frozenset(n for n, s in strides.items() if s != 0) for strides in self.strides]
        self.parallel = [a.name for a in problem.parallel]
        self.reduction = [a.name for a in problem.reduction]
        self.result_stride = _result_strides(problem)
        self.far = [{name: self._is_far(i, name) for name in problem.axes} for i in (0, 1)]
        self.separable = [self._separable(i) for i in (0, 1)]
        self._repeats: dict[tuple[str, int], int] = {}
        self.span = [min(16.0, self._span(i)) for i in (0, 1)]
        self.steps = prod(self.size[name] for name in self.reduction)
        self.latency = DOT_LATENCY if problem.dot else FMA_LATENCY

    def best(self) -> Plan | None:
        """The cheapest plan; None where words end in the middle and nothing can be packed to fill them."""
        plan, cycles = min(self.candidates(), key=itemgetter(1), default=(None, 0.0))
        return None if plan is None else self.finished(replace(plan, cycles=cycles))

    def _number(self, extent: DimLike) -> int:
        """A number to reckon with in place of an extent."""
        return typical(extent, self.typical)

    def candidates(self) -> Iterator[tuple[Plan, float]]:
        """Plans and their cycles."""
        for lane in (*self.parallel, *self.reduction):
            if self.problem.axes[lane].extent == 1 and (lane in self.parallel or self._has_lanes):
                continue
            along_result = lane in self.parallel
            needed = self._packing(lane)
            if needed is None or (not along_result and not self._exact):
                continue
            for tiles in self._tiles(lane):
                units = prod(tiles.values())
                most = ceil(self.size[lane] / self.lanes) if along_result else 1
                for vectors in (1, 2, 3, 4) if tiles else (1, 2, 3, 4, 8, 16):
                    if vectors > most or not self._fits(tiles, lane, units, vectors):
                        continue
                    for packed in self._packings(needed, lane, tiles):
                        turned = self._turned(lane, tiles)
                        plan = Plan(lane, self.lanes, vectors, tiles, packed=packed, turned=turned)
                        yield plan, self.cycles(plan)

    def _turned(self, lane: str, tiles: Mapping[str, int]) -> str:
        """The axis of a tile along which to store it, where elements of a vector would go to places far apart."""
        if lane in self.reduction or self.lanes < 4 or not self._stores_far(lane):
            return ""
        return next((n for n, count in tiles.items() if count > 1 and self.result_stride[n] == 1), "")

    def _stores_far(self, lane: str) -> bool:
        stride = self.result_stride[lane]
        return not isinstance(stride, int) or abs(stride) * self.problem.dtype.itemsize >= FAR_STRIDE

    @property
    def _has_lanes(self) -> bool:
        """Whether some axis is longer than 1."""
        return any(a.extent != 1 for a in self.problem.axes.values())

    def _packing(self, lane: str) -> Mapping[int, str] | None:
        """What must be packed for lanes along this axis to be neighbours; None where that cannot help."""
        strided = [i for i in (0, 1) if lane in self.reads[i] and self.strides[i][lane] != 1]
        if not strided:
            return {}
        if lane in self.reduction or len(strided) == 2:
            return {} if max(self.size.values()) == 1 else None if self._any_better(lane) else {}
        return {strided[0]: lane} if self.separable[strided[0]] else None if self._any_better(lane) else {}

    def _packings(
        self, needed: Mapping[int, str], lane: str, tiles: Mapping[str, int]
    ) -> Iterator[Mapping[int, str]]:
        """What to pack: what must be, and besides what might gain by it."""
        if self._exact:
            yield needed
        useful: dict[int, str] = {}
        for operand in (0, 1):
            if operand in needed or lane in self.reduction or not self.separable[operand]:
                continue
            along = [lane] if lane in self.reads[operand] else [n for n in tiles if n in self.reads[operand]]
            if not self._exact:
                along = (along or [n for n in self.parallel if n in self.reads[operand]])[:1]
            if len(along) == 1 and (self._span(operand) > 0 or self._converted(operand) or not self._exact):
                useful[operand] = along[0]
                if self._exact or len(needed) == 1:
                    yield {**needed, operand: along[0]}
        if len(useful) == 2:
            yield useful

    @property
    def _exact(self) -> bool:
        """Whether operands may be read as they lie: no word reaches past the end of the sum."""
        return all(words is None or words.exact for words in self.words)

    def _converted(self, operand: int) -> float:
        """Cycles to make a factor of what is loaded, for each vector or broadcast."""
        words = self.words[operand]
        if words is not None:
            return 0.0 if words.near else GATHERED_WORD * words.size
        return 0.0 if self.problem.operands[operand].buffer.dtype is self.problem.accumulator else CONVERT

    def _span(self, operand: int) -> float:
        """MiB of memory over which the reduction strews the operand's elements."""
        itemsize = self.problem.operands[operand].buffer.dtype.itemsize
        furthest = 0.0
        for name in self.reduction:
            stride = self.strides[operand][name]
            apart = abs(stride) * itemsize if isinstance(stride, int) else FAR_STRIDE
            if apart >= FAR_STRIDE:
                furthest += apart * self.size[name]
        return furthest / (1 << 20)

    def _any_better(self, lane: str) -> bool:
        """Whether some other axis can run along lanes without gathers."""
        for other in (*self.parallel, *self.reduction):
            if other == lane or self.size[other] == 1:
                continue
            strided = [i for i in (0, 1) if other in self.reads[i] and self.strides[i][other] != 1]
            if not strided or (other in self.parallel and len(strided) == 1 and self.separable[strided[0]]):
                return True
        return False

    def _separable(self, operand: int) -> bool:
        """Whether a packed copy of the operand is no larger than the original by much."""
        access = self.problem.operands[operand]
        elements = access.buffer.numel
        words = self.words[operand]
        copied = prod(self.size[name] for name in self.reads[operand]) * (words.size if words else 1)
        return not isinstance(elements, int) or copied <= 2 * elements

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
        """Whether accumulators and the operand that stays in registers fit; the other operand is read from
        memory by the multiply-add itself, or one register at a time."""
        left, right = (self._loads(i, tiles, lane, vectors) for i in (0, 1))
        if lane in self.reduction:
            return units + left + right <= self.registers
        return units * vectors + min(left, right, 4) + 1 <= self.registers

    def _loads(self, operand: int, tiles: Mapping[str, int], lane: str, vectors: int) -> int:
        reads = self.reads[operand]
        count = vectors if lane in reads else 1
        for name, n in tiles.items():
            if name in reads:
                count *= n
        return count

    def _is_far(self, operand: int, axis: str) -> bool:
        stride, itemsize = self.strides[operand][axis], self.problem.operands[operand].buffer.dtype.itemsize
        return not isinstance(stride, int) or abs(stride) * itemsize >= FAR_STRIDE

    def cycles(self, plan: Plan) -> float:
        """The model's estimate for the problem at its typical extents."""
        lane, along_result = plan.lane, plan.lane in self.parallel
        choices: list[list[tuple[dict[str, int], int]]] = []
        for name, n in plan.tiles.items():
            whole, rest = divmod(self.size[name], n)
            parts = [({name: n}, whole)]
            if rest:
                fixed = isinstance(self.problem.axes[name].extent, int)
                parts.append(({name: rest}, 1) if fixed else ({name: 1}, rest))
            choices.append(parts)
        rest_of = prod(self.size[n] for n in self.parallel if n != lane and n not in plan.tiles)
        inside = prod(
            self._inside(name, plan.tiles.get(self.problem.windows[name].along, 1))
            for name in self._windows(plan)
        )
        if along_result:
            whole, rest = divmod(ceil(self.size[lane] / self.lanes), plan.vectors)
            vector_parts = [(plan.vectors, whole)] + ([(rest, 1)] if rest else [])
            steps = float(self.steps)
        else:
            vector_parts = [(1, 1)]
            steps = self.steps / self.size[lane] * ceil(self.size[lane] / self.lanes)
        steps *= inside
        total = 0.0
        for tiles, count in _combined(choices):
            units = prod(tiles.values())
            for vectors, times in vector_parts:
                total += count * times * self._tile_cycles(plan, tiles, units, vectors, steps, along_result)
        total *= rest_of
        for operand, axis in plan.packed.items():
            if operand in self.problem.resident:
                continue
            elements = prod(self.size[name] for name in self.reads[operand])
            total += elements * self._pack_cycles(operand, axis, plan.tile(axis)) + LAUNCH
        return total

    def _pack_cycles(self, operand: int, axis: str, width: int) -> float:
        """Cycles to pack an element, or a word, in panels of this width."""
        words = self.words[operand]
        if self.strides[operand][axis] == 1:
            return PACK_WORD if words is not None and not words.near else PACK_ROW
        turned = self.strides[operand][self.reduction[-1]] == 1 and width % self.lanes == 0
        return PACK_TURNED if turned else PACK_COLUMN

    def _windows(self, plan: Plan) -> list[str]:
        """The reduction axes whose windows the plan can use: not the one whose loop is unrolled, and not
        where the parallel axis that moves the window runs along lanes."""
        innermost = [n for n in self.reduction if n != plan.lane][-1:]
        return [
            name
            for name, window in self.problem.windows.items()
            if name not in (plan.lane, *innermost) and window.along != plan.lane
        ]

    def _inside(self, name: str, size: int) -> float:
        """The share of a reduction axis inside its window, over all tiles of this size."""
        if (name, size) in self._shares:
            return self._shares[name, size]
        window = self.problem.windows[name]
        length = self.size[window.along]
        known = {
            s.name: self._number(dims.symbol(s.name, s.low, s.high))
            for bound in (window.first, window.last)
            for s in dims.symbols(bound)
        }
        known.pop(window.along, None)
        total = 0
        for start in range(0, length, size):
            _, extent = window.of(start, min(size, length - start))
            total += max(0, dims.evaluate(extent, known))
        share = total / (ceil(length / size) * self.size[name])
        self._shares[name, size] = share
        return share

    def _tile_cycles(
        self, plan: Plan, tiles: Mapping[str, int], units: int, vectors: int, steps: float, along_result: bool
    ) -> float:
        lane = plan.lane
        loads = far = 0.0
        for i in (0, 1):
            count = self._loads(i, tiles, lane, vectors)
            if i not in plan.packed:
                apart = any(n > 1 and self.far[i][name] for name, n in tiles.items())
                # A broadcast that runs along the innermost sum finds most of its elements in the same line.
                runs = lane not in self.reads[i] and self.strides[i][self.reduction[-1]] == 1
                far += FAR * count / (8 if runs else 1) if apart else 0.0
                rows = count / vectors if lane in self.reads[i] else (count if apart else 1) / 4
                far += SPAN * self.span[i] * rows + self._converted(i) * count
            gathered = lane in self.reads[i] and self.strides[i][lane] != 1 and i not in plan.packed
            loads += count * (self.lanes * SCATTERED_ELEMENT / LOAD if gathered else 1)
        work = units * vectors
        stream = max((vectors * self._panel_load(plan, i, vectors, steps) for i in plan.packed), default=0.0)
        step = max(work, self.latency, loads * LOAD, stream) + loads * LOAD_TIE + far
        step += STEP / self._unrolled(plan, work)
        if along_result:
            if self.result_stride[lane] == 1:
                store = work * 1.0
            elif tiles.get(plan.turned, 1) > 1:
                squares = work / tiles[plan.turned] * ceil(tiles[plan.turned] / self.lanes)
                store = squares * (TURN + self.lanes * TURNED_ROW)
            else:
                store = work * self.lanes * (FAR_STORE if self._stores_far(lane) else SCATTERED_ELEMENT)
        else:
            store = work * LANE_SUM
        return steps * step + store + TILE

    def _panel_load(self, plan: Plan, operand: int, vectors: int, steps: float) -> float:
        """Cycles for a vector of a panel that each tile reads anew: more where the panel does not stay near the core."""
        if plan.lane not in self.reads[operand]:
            return 0.0
        nbytes = steps * vectors * VECTOR_BYTES
        return L2_LOAD if nbytes > L1_BYTES else LOAD

    def _unrolled(self, plan: Plan, work: int) -> int:
        key = plan.lane, work
        if key not in self._repeats:
            self._repeats[key] = prod(self._unroll(plan, work).values())
        return self._repeats[key]

    def _unroll(self, plan: Plan, work: int) -> dict[str, int]:
        """The innermost reduction loops as repeated text, while the text stays short."""
        found: dict[str, int] = {}
        for axis in reversed(self.problem.reduction):
            if axis.name == plan.lane:
                continue
            extent = axis.extent
            if isinstance(extent, int) and extent * work <= MOST_UNROLLED:
                found[axis.name] = max(1, extent)
                work *= max(1, extent)
                continue
            for n in (4, 2):
                if n * work <= MOST_UNROLLED and self.size[axis.name] >= 4 * n:
                    found[axis.name] = n
                    break
            break
        return found

    # What does not change the estimate much is settled once, for the best plan.

    def finished(self, plan: Plan) -> Plan:
        along_result = plan.lane in self.parallel
        plan = replace(plan, unroll=self._unroll(plan, prod(plan.tiles.values()) * plan.vectors))
        outer = [n for n in self.parallel if n != plan.lane and n not in plan.tiles]
        order = (*outer, *([plan.lane] if along_result else []), *plan.tiles)
        if any(a.extent == 0 for a in self.problem.reduction):
            plan = replace(plan, packed={})  # nothing is read
        padded = along_result and all(i in plan.packed for i in (0, 1) if plan.lane in self.reads[i])
        plan = replace(plan, order=order, padded=padded, windows=frozenset(self._windows(plan)))
        return self._with_tasks(plan)

    def _with_tasks(self, plan: Plan) -> Plan:
        """Blocks and parts: enough tasks for many threads, none of them too small. They depend on the problem
        only, so that the result's bits do not depend on the number of threads."""
        most = min(MOST_TASKS, int(plan.cycles / LEAST_TASK))
        blocks: dict[str, int] = {}
        count = 1
        symbolic = False
        for name in plan.order:
            extent = self.problem.axes[name].extent
            tiles = ceil(self.size[name] / plan.tile(name))
            if count * 2 > most or tiles == 1:
                continue
            if not isinstance(extent, int):
                if symbolic:
                    continue
                symbolic = True
            pieces = ceil(tiles / max(1, tiles * count // most))
            blocks[name] = ceil(tiles / pieces)
            count *= ceil(tiles / blocks[name])
        plan = replace(plan, blocks=blocks)
        outputs = prod(self.size[n] for n in self.parallel)
        first = self.problem.reduction[0].name
        # Parts are added element by element over the whole result.
        whole = dims.product(a.extent for a in self.problem.parallel) == dims.product(self.problem.shape)
        long_enough = whole and self.size[first] >= 2 * PARTS and plan.cycles > 20 * LEAST_TASK
        if count < PARTS and long_enough and outputs * PARTS < plan.cycles / 4:
            return replace(plan, split=first, parts=PARTS)
        return plan


def _combined(choices: list[list[tuple[dict[str, int], int]]]) -> Iterator[tuple[dict[str, int], int]]:
    """Every combination of one part per axis, with how often it occurs."""
    if not choices:
        yield {}, 1
        return
    for tiles, count in choices[0]:
        for more, times in _combined(choices[1:]):
            yield {**tiles, **more}, count * times


def _result_strides(problem: Contraction) -> dict[str, DimLike]:
    """Elements of the result between neighbours along each parallel axis."""
    found = {axis.name: dims.coefficient(problem.position, axis.name) for axis in problem.parallel}
    return {name: parts[0] if parts else 0 for name, parts in found.items()}
