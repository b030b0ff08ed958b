"""What a plan for a contraction costs by an explicit model, in clock cycles of one core.

Vector multiply-adds against loads and the latency of a chain, partly filled lanes and tiles, packing, stores. Most
figures were measured with `benchmarks/kernels.py` on a core with one 512-bit multiply-add and two loads per cycle (AMD
Zen 4), what `Core` holds also on one with two multiply-adds and two loads of 256 bits (AMD Zen 3); only their ratios
matter to the choice.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product
from math import ceil, gcd, prod
from typing import NamedTuple

from ...ir import dims
from ...ir.dims import DimLike
from ...ir.dtypes import DType
from ..target import LINE, MANY_REGISTERS, Target
from .contraction import Contraction
from .contraction_words import Words
from .tiling import Plan

# Cycles.
FMA_LATENCY = 4.0
DOT_LATENCY = {"": FMA_LATENCY, "dot_bf16": 6.0, "dot_u8i8": 6.0, "dot_i16": 1.0}
SLOW_PAIRS = 2.0
LOAD = 0.5
LOAD_TIE = 0.1  # of two tiles as fast, the one with fewer loads
FOLDED_TIE = (
    0.05  # of broadcasts that are operands of the multiply-adds themselves, one vector times many of them
)
# More, for a load at least a FAR_STRIDE of bytes from the one before: another page, perhaps the same set.
FAR = 0.15
FAR_STRIDE = 1024
# More, for each row of a tile beyond those that a first-level cache holds, where rows lie so far apart that they share a
# few of its sets: a page apart all are in one, of so many ways. 32 rows times 1024 x 1024 weights: 0.60 ms eight rows of
# weights at a time, 0.65 twelve, 0.80 fourteen; 512 x 512 x 512 takes 1.8 times as long 28 rows at a time.
CONFLICT = 0.5
WAYS = 8
PAGE = 4096
# More, for a row of vectors, per MiB over which the sum strews the operand's rows: TLB and cache misses. A quarter of
# that for an element.
SPAN = 0.4
# A line of such an operand that comes from beyond the second-level cache, to a core with two multiply-adds a cycle, and
# where several lie side by side, fewer for each, but not below the second: 1x1, 256 channels of 56 x 56, took 6.0 ms
# with the image's rows along the lanes, which reads it once, 7.4 with the outputs', sixteen of 64 at a time; of 1024
# rows of weights, a page apart, lines took 6.5 cycles one by one, 3.3 four at a time (AMD Zen 3).
STREWN_LINE, STREWN_LINES = 8.0, 3.0
# More, for a vector of rows as they lie, to a core with two multiply-adds a cycle: it may straddle two lines, and where
# the rows of a panel share too few sets of the first-level cache, it comes from the second each time. 160^3 took 1.06 of
# the time in panels, 192^3 (rows of 768 bytes) 1.19 (AMD Zen 3).
STRADDLING, SHARED_SETS = 0.15, 0.3
# Sets do not matter where a vector is a line and the operand no more of the second-level cache: of 160^3, panels took
# 1.03 of the time on one thread and 1.4 on two, for the launch they take, of 256^3 0.89 and 0.91 (Granite Rapids, arrays
# that begin between lines; of such as begin with one 1.09 and 1.15).
WHOLE_ROWS = 0.075
# More, for a line that each step of the sum takes anew to broadcast from it, on such a core: 960 channels of 7x7, five
# places in a tile, took 1.43 of the time unpacked, 160 channels 1.26 (AMD Zen 3).
STEP_LINE = 2.0
SHUFFLE = 0.5  # a vector loaded beyond the first to shuffle a strided one together; other units do it
SCATTERED_ELEMENT = 1.5  # an element of a vector loaded from or stored to places that are not neighbours
WIDE_STRIDES = (
    2,
    3,
    4,
)  # between a vector's elements: so many whole vectors are loaded, and shuffled into one
FAR_STORE = 8.0  # such an element in another page than the one before
TURN = 90.0  # a square of vectors, turned on the stack
TURNED_ROW = 3.0  # a row of it, stored
LANE_SUM = 10.0  # adding the lanes of one vector
TILE = 12.0  # entering and leaving a tile's loops
STEP = 0.6  # one turn of the innermost loop
PACK_ROW = 0.2  # an element packed from neighbours
PACK_COLUMN = 1.3  # an element packed across rows
PACK_TURNED = 0.5  # the same, in whole squares of vectors
PACK_WORD = 0.4  # a word packed of elements of different rows
# More, where what is packed is more bytes than these: it leaves the second-level cache, the third. 12.8 MB of an image's
# rows took 1.5 ms; 3.2 MB 0.1.
PACK_FAR = ((256 << 10, 0.25), (8 << 20, 1.2))
# And where that is more than the second-level cache, with two multiply-adds a cycle: 1024 x 1024 weights took 0.74
# cycles each to be packed and fetched again (AMD Zen 3).
PACK_FAR_AGAIN = 0.25
CONVERT = 1.5  # a short number, or a vector of them, as one of the sum's dtype
GATHERED_WORD = 1.0  # an element of a word, or of a vector of words, that is loaded by itself
SHIFT = 0.5  # a vector of words, or one for all lanes, with their sign bits turned over
LAUNCH = 300.0
FLOAT = 4  # bytes of a packed element, or word
L2_LOAD = 2.0  # a line from the second-level cache
# A line of a panel that does not stay there; so much of it does, beside what else is read. Sums so long are added up
# in parts, each of which costs this for an element of the result. Weight gradients of 1x1, 256 to 64 channels on four
# images of 56x56: 84 GFLOP/s with a panel of 3.2 MB, 170 in four parts (Granite Rapids).
FAR_LOAD, KEPT, ADDED = 8.0, 0.5, 0.5
L1_BYTES = 32 << 10
FEW_LINES = 256
# More, for a vector of several rows that are read side by side and but once, where they come from beyond the
# second-level cache: processors fetch one long stream ahead, and not many short ones. A 49152 x 576 matrix times a
# vector: 29 GB/s row by row, as a sum reads it; 13 two rows at a time, 21 fourteen.
STREAM = 8.0
STREAM_BYTES = 256 << 10

# A symbolic extent is taken to be its upper bound, and no more than this.
TYPICAL = 64
# A tile's body is this many multiply-adds in the text of the code at most. Of one vector times many broadcasts that are
# loaded to registers, fewer: LLVM takes those of several steps together and has no registers left for sums (512 x 512 x
# 512 in tiles of 14 x 1 vectors of 256 bits: 48 GFLOP/s two steps at a time, 81 one).
MOST_UNROLLED, MOST_BROADCASTS = 32, 16
# With fewer registers the text is looked at more closely, so many steps ahead (3x3 with stride 2, six positions of a row
# times two vectors of 256 bits: 41 GFLOP/s with the kernel's rows repeated, 61 without).
NEAR_STEPS = 4
# Chains of sums on two units are not shared out evenly: eight take longer than the latency of four.
UNEVEN = 1.1


def typical(extent: DimLike, most: int = TYPICAL) -> int:
    """A number to reckon with in place of an extent: its symbols taken to be their bounds, but `most` at most."""
    return max(1, dims.evaluate(extent, {s.name: min(most, s.high) for s in dims.symbols(extent)}))


@dataclass(frozen=True)
class Core:
    """A machine's core: the `lanes` of a vector of sums, vector `registers`, the multiply-adds of vectors `per_cycle`,
    whether one may read a number for all lanes from memory itself, `folding` it, bytes of the second-level cache, `l2`,
    and whether pairs of bfloat16 are multiplied slowly, `slow_pairs`."""

    lanes: int
    registers: int
    per_cycle: int
    folding: bool
    l2: int
    slow_pairs: bool = False

    @staticmethod
    def of(target: Target, dtype: DType) -> Core:
        wide = target.isa == "avx512"
        adds, slow = target.multiply_adds, target.has_slow_pairs
        return Core(target.lanes(dtype), target.registers, adds, wide, target.l2, slow)

    def is_slow(self, dot: str) -> bool:
        """Whether a dot product of words takes longer than the products of its elements in vectors of sums."""
        return dot == "dot_bf16" and self.slow_pairs

    def multiplying(self, vectors: float, dot: str = "") -> float:
        """Cycles for multiply-adds of so many vectors, or dot products of words."""
        return vectors * SLOW_PAIRS if self.is_slow(dot) else vectors / self.per_cycle

    def latency(self, dot: str = "") -> float:
        """Cycles from a sum to the next, of multiply-adds or of a dot product of words."""
        return DOT_LATENCY[dot] * (UNEVEN if self.per_cycle > 1 else 1.0)


@cache
def live_operands(
    counts: tuple[int, ...],
    of_lanes: tuple[bool, ...],
    of_others: tuple[bool, ...],
    vectors: int,
    folding: bool,
) -> int:
    """How many vectors and broadcasts are in registers at once at most while a tile's products are added in the order of
    the text: along the tile's axes, of which each operand depends on some, and then along its vectors. What is read but
    once may come from memory as it is multiplied: vectors, and broadcasts where the core folds them."""
    uses: dict[tuple[object, ...], list[int]] = {}
    for time, (*unit, vector) in enumerate(product(*map(range, counts), range(vectors))):
        uses.setdefault((0, _some(unit, of_lanes), vector), []).append(time)
        uses.setdefault((1, _some(unit, of_others)), []).append(time)
    spans = [
        (times[0], times[-1])
        for (broadcast, *_), times in uses.items()
        if len(times) > 1 or (broadcast and not folding)
    ]
    return max((sum(a <= t <= b for a, b in spans) for t, _ in spans), default=1)


def _some(values: Sequence[int], chosen: Sequence[bool]) -> tuple[int, ...]:
    return tuple(v for v, c in zip(values, chosen, strict=True) if c)


class _Tiles(NamedTuple):
    """Tiles of one size, `number` of them: `positions` along axes of the result, and vectors."""

    positions: Mapping[str, int]
    vectors: int
    number: int

    @property
    def work(self) -> int:
        """Multiply-adds of vectors in a step of the sum."""
        return prod(self.positions.values()) * self.vectors


class Model:
    """What the model knows of a problem whose extents are numbers, or taken to be: `size` of each axis, `strides` of
    each operand along them, `reads`: the axes that each depends on."""

    def __init__(self, problem: Contraction, core: Core, typical: int):
        self.problem = problem
        self.core = core
        self.words = [x if isinstance(x, Words) else None for x in problem.operands]
        self.typical = typical
        self._shares: dict[tuple[str, int], float] = {}
        self.lanes = core.lanes
        self.registers = core.registers
        self.size = {name: self._number(a.extent) for name, a in problem.axes.items()}
        self.strides = [{name: operand.stride(name) for name in problem.axes} for operand in problem.operands]
        self.reads = [frozenset(n for n, s in strides.items() if s != 0) for strides in self.strides]
        self.parallel = [a.name for a in problem.parallel]
        self.reduction = [a.name for a in problem.reduction]
        self.result_stride = _result_strides(problem)
        self.far = [{name: self._is_far(i, name) for name in problem.axes} for i in (0, 1)]
        self.separable = [self.copies(i) <= 2 for i in (0, 1)]
        self._repeats: dict[tuple[object, ...], int] = {}
        self.span = [min(16.0, self._span(i)) for i in (0, 1)]
        self.crowded = [self._crowded(i) for i in (0, 1)]
        self.in_rows = [self._in_rows(i) for i in (0, 1)]
        self.run = [self._run(i) for i in (0, 1)]
        self.steps = prod(self.size[name] for name in self.reduction)
        # Parts of sums are added element by element over the whole result.
        self.whole = dims.product(a.extent for a in problem.parallel) == dims.product(problem.shape)
        self.latency = core.latency(problem.dot)

    def _number(self, extent: DimLike) -> int:
        """A number to reckon with in place of an extent."""
        return typical(extent, self.typical)

    def stores_far(self, lane: str) -> bool:
        stride = self.result_stride[lane]
        return not isinstance(stride, int) or abs(stride) * self.problem.dtype.itemsize >= FAR_STRIDE

    @property
    def has_lanes(self) -> bool:
        """Whether some axis is longer than 1."""
        return any(a.extent != 1 for a in self.problem.axes.values())

    @property
    def exact(self) -> bool:
        """Whether operands may be read as they lie: no word reaches past the end of the sum."""
        return all(words is None or words.exact for words in self.words)

    def converted(self, operand: int) -> float:
        """Cycles to make a factor of what is loaded, for each vector or broadcast."""
        words = self.words[operand]
        if words is not None:
            if words.stored:
                return SHIFT * words.shifted
            return CONVERT if words.near else GATHERED_WORD * words.size + SHIFT * words.shifted
        if self.problem.dot:  # woven, or a constant
            return 0.0
        return 0.0 if self.problem.operands[operand].buffer.dtype is self.problem.accumulator else CONVERT

    def _span(self, operand: int) -> float:
        """MiB of memory over which the reduction strews the operand's elements: less, the longer it runs through
        neighbours in between."""
        itemsize = self.problem.operands[operand].buffer.dtype.itemsize
        furthest, run = 0.0, itemsize
        for name in self.reduction:
            stride = self.strides[operand][name]
            apart = abs(stride) * itemsize if isinstance(stride, int) else FAR_STRIDE
            if apart >= FAR_STRIDE:
                furthest += apart * self.size[name]
            elif stride == 1:
                run = self.size[name] * itemsize
        return furthest / (1 << 20) * min(1.0, LINE / run)

    def copies(self, operand: int) -> float:
        """How many times as large as the operand a packed copy of it is; 1 where that is not known."""
        elements = self.problem.operands[operand].buffer.numel
        words = self.words[operand]
        copied = prod(self.size[name] for name in self.reads[operand]) * (words.size if words else 1)
        return copied / elements if isinstance(elements, int) and elements else 1.0

    def loads(self, operand: int, tiles: Mapping[str, int], lane: str, vectors: int) -> int:
        reads = self.reads[operand]
        count = vectors if lane in reads else 1
        for name, n in tiles.items():
            if name in reads:
                count *= n
        return count

    def _is_far(self, operand: int, axis: str) -> bool:
        stride, itemsize = self.strides[operand][axis], self.problem.operands[operand].buffer.dtype.itemsize
        return not isinstance(stride, int) or abs(stride) * itemsize >= FAR_STRIDE

    def _near(self, operand: int, tiles: Mapping[str, int]) -> bool:
        """Whether a tile's elements of the operand lie in a few lines."""
        itemsize = self.problem.operands[operand].buffer.dtype.itemsize
        steps = ((self.strides[operand][name], n) for name, n in tiles.items())
        return all(isinstance(s, int) and abs(s) * itemsize * n <= FEW_LINES for s, n in steps)

    def _ways(self, operand: int, axis: str, way: int = PAGE) -> int:
        """How many neighbours along an axis a cache holds at once, each of whose ways is so many bytes: a first-level
        cache's are a page."""
        stride, itemsize = self.strides[operand][axis], self.problem.operands[operand].buffer.dtype.itemsize
        if not isinstance(stride, int) or stride == 0:
            return way
        return WAYS * (way // gcd(abs(stride) * itemsize, way))

    def cycles(self, plan: Plan) -> float:
        """The model's estimate for the problem at its typical extents."""
        tiles, steps = self._kinds_of_tiles(plan)
        total = sum(tile.number * self._tile_cycles(plan, tile, steps) for tile in tiles)
        split = self.parts(plan)
        if split is not None:
            total += split[1] * prod(self.size[n] for n in self.parallel) * ADDED + LAUNCH
        return total + self.packing(plan) + self._strewn(plan)

    def parts(self, plan: Plan) -> tuple[str, int] | None:
        """The axis along which to add up a sum in parts, and how many, so that those of a panel stay in the second-level
        cache; None where all of it does, or parts of no axis would."""
        panel = self._panel(plan, plan.vectors, self.steps)
        count = ceil(panel / (self.core.l2 * KEPT))
        if count <= 1 or not self.whole or self.problem.windows:
            return None
        for axis in self.problem.reduction:
            if isinstance(axis.extent, int) and axis.extent >= count:
                return axis.name, count
        return None

    def _panel(self, plan: Plan, vectors: int, steps: float) -> float:
        """Bytes of what tiles read anew of a packed operand, so many vectors of it; 0 where no other tile reads it."""
        lanes = 0 if plan.lane in self.reads[0] else 1
        panels = lanes in plan.packed and self._turns(lanes, plan) > 1
        return steps * vectors * self.lanes * FLOAT if panels else 0.0

    def least(self, plan: Plan) -> float:
        """Cycles that the plan's tiles take at least, whatever is packed: multiply-adds, loads, stores."""
        tiles, steps = self._kinds_of_tiles(plan)
        stored = plan.lane in self.parallel
        return sum(
            tile.number * (steps * self._least_step(plan, tile) + tile.work * stored + TILE) for tile in tiles
        )

    def _kinds_of_tiles(self, plan: Plan) -> tuple[list[_Tiles], float]:
        """The sizes of tiles that there are, and the steps of the sum in each."""
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
            for name in self.used_windows(plan)
        )
        if along_result:
            whole, rest = divmod(ceil(self.size[lane] / self.lanes), plan.vectors)
            vector_parts = [(plan.vectors, whole)] + ([(rest, 1)] if rest else [])
            steps = float(self.steps)
        else:
            vector_parts = [(plan.vectors, 1)]
            steps = self.steps / self.size[lane] * ceil(self.size[lane] / self.lanes / plan.vectors)
        found = [
            _Tiles(tiles, vectors, count * times * rest_of)
            for tiles, count in _combined(choices)
            for vectors, times in vector_parts
        ]
        return found, steps * inside

    def packing(self, plan: Plan) -> float:
        """Cycles to pack what the plan wants packed."""
        total = 0.0
        for operand, axis in plan.packed.items():
            if operand in self.problem.resident:
                continue
            elements = prod(self.size[name] for name in self.reads[operand])
            far = sum(cycles for least, cycles in PACK_FAR if elements * FLOAT > least)
            far += PACK_FAR_AGAIN if elements * FLOAT > self.core.l2 and self.core.per_cycle > 1 else 0.0
            total += (
                elements
                * (self._pack_cycles(operand, axis, 1 if axis == plan.rows else plan.tile(axis)) + far)
                + LAUNCH
            )
        return total

    def _strewn(self, plan: Plan) -> float:
        """Cycles more to fetch what the sum reads in pieces far apart, on a core that is not kept busy meanwhile."""
        if self.core.per_cycle == 1:
            return 0.0
        found = 0.0
        for i in (0, 1):
            if i not in plan.packed and self.span[i] > 0:
                itemsize = self.problem.operands[i].buffer.dtype.itemsize
                share = min(1.0, LINE / self.run[i])
                row, line = plan.vectors * plan.lanes * itemsize, STREWN_LINE
                if plan.lane in self.parallel and self.strides[i][plan.lane] == 1:
                    share *= (row + -row % LINE) / row
                    line = max(STREWN_LINES, line / max(1, row // LINE))
                found += self._bytes(i) / LINE * self._passes(i, plan) * share * line
        return found

    def _run(self, operand: int) -> int:
        """Bytes that the sum reads without a gap, but for such as a border makes."""
        run = itemsize = self.problem.operands[operand].buffer.dtype.itemsize
        steps = [(s, self.size[n]) for n in self.reduction if isinstance(s := self.strides[operand][n], int)]
        for stride, size in sorted((abs(s) * itemsize, n) for s, n in steps if s):
            if stride <= run + LINE:
                run += stride * (size - 1)
        return run

    def _crowded(self, operand: int) -> float:
        """The share of what rows of an operand cost that lie far apart, by how few sets of a cache they share."""
        if self.core.per_cycle == 1:
            return 1.0
        itemsize = self.problem.operands[operand].buffer.dtype.itemsize
        far = [s * itemsize for s in (self.strides[operand][n] for n in self.reduction) if isinstance(s, int)]
        return max((gcd(s, PAGE) / PAGE for s in far if abs(s) >= FAR_STRIDE), default=1.0)

    def _in_rows(self, operand: int) -> float:
        """Cycles more for a vector of an operand that could be packed, where it lies."""
        if self.core.per_cycle == 1 or not self.separable[operand]:
            return 0.0
        if self.lanes * FLOAT >= LINE and self._bytes(operand) <= self.core.l2 * WHOLE_ROWS:
            return STRADDLING
        inner = self.reduction[-1]
        shared = self.size[inner] > self._ways(operand, inner)
        return STRADDLING + (SHARED_SETS if shared else 0.0)

    def lines(self, operand: int, lane: str, tiles: Mapping[str, int]) -> float:
        """Lines that each step of the sum takes anew to broadcast a tile's elements of an operand where it lies, on a
        core with two multiply-adds a cycle. None of what the first-level cache holds beside the other operand's panels;
        of what lies farther apart, `span` says more."""
        itemsize = self.problem.operands[operand].buffer.dtype.itemsize
        stride = self.strides[operand][self.reduction[-1]]
        if self.core.per_cycle == 1 or lane in self.reduction or lane in self.reads[operand]:
            return 0.0
        if not isinstance(stride, int) or not LINE <= abs(stride) * itemsize < FAR_STRIDE:
            return 0.0
        if self._bytes(operand) <= L1_BYTES // 2:
            return 0.0
        found = 1.0
        for name, n in tiles.items():
            apart = self.strides[operand][name]
            found *= 1 + (n - 1) * (min(1.0, abs(apart) * itemsize / LINE) if isinstance(apart, int) else 1.0)
        return found

    def _passes(self, operand: int, plan: Plan) -> int:
        """How often the operand comes to the second-level cache: anew in each turn of a loop within which more of it is
        read than fits."""
        lane = [plan.lane] if plan.lane in self.parallel else []
        outer = [n for n in self.parallel if n not in lane and n not in plan.tiles]
        order = [*outer, *lane, *plan.tiles]
        reads = self.reads[operand]
        cramped = self._is_cramped(operand)
        passes, within = 1, float(self._bytes(operand))
        for place, name in enumerate(order):
            if name in reads:
                within /= self.size[name]
            elif cramped or (within > self.core.l2 and reads.intersection(order[place + 1 :])):
                passes *= ceil(self.size[name] / plan.tile(name))
        return passes

    def _is_cramped(self, operand: int) -> bool:
        """Whether the rows of a panel share too few sets of the second-level cache to stay there."""
        inner = self.reduction[-1]
        return self.size[inner] > self._ways(operand, inner, self.core.l2 // WAYS)

    def _pack_cycles(self, operand: int, axis: str, width: int) -> float:
        """Cycles to pack an element, or a word, in panels of this width."""
        words = self.words[operand]
        if width == 1 and words is not None:
            if words.near:
                return PACK_ROW
            return PACK_WORD + PACK_TURNED if self.strides[operand][axis] == 1 else PACK_COLUMN * words.size
        if self.strides[operand][axis] == 1:
            return PACK_WORD if words is not None and not words.near else PACK_ROW
        turned = self.strides[operand][self.reduction[-1]] == 1 and width % self.lanes == 0
        return PACK_TURNED if turned else PACK_COLUMN

    def used_windows(self, plan: Plan) -> list[str]:
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

    def _least_step(self, plan: Plan, tile: _Tiles) -> float:
        """Cycles of a step of the sum at least."""
        loads = sum(self.loads(i, tile.positions, plan.lane, tile.vectors) for i in (0, 1))
        tie = FOLDED_TIE if self.core.folding else LOAD_TIE
        multiplying = self.core.multiplying(tile.work, self.problem.dot)
        return max(multiplying, self.latency, loads * LOAD) + loads * tie

    def _tile_cycles(self, plan: Plan, tile: _Tiles, steps: float) -> float:
        lane, tiles, vectors, work = plan.lane, tile.positions, tile.vectors, tile.work
        along_result = lane in self.parallel
        loads = far = folded = 0.0
        for i in (0, 1):
            count = self.loads(i, tiles, lane, vectors)
            if i not in plan.packed:
                far += self.in_rows[i] * count if self.strides[i][lane] == 1 and along_result else 0.0
                far += STEP_LINE * self.lines(i, lane, tiles)
                apart = any(n > 1 and self.far[i][name] for name, n in tiles.items())
                # A broadcast that runs along the innermost sum finds most of its elements in the same line.
                runs = lane not in self.reads[i] and self.strides[i][self.reduction[-1]] == 1
                far += FAR * count / (8 if runs else 1) if apart else 0.0
                far += CONFLICT * sum(max(0, n - self._ways(i, name)) for name, n in tiles.items())
                rows = count / vectors if lane in self.reads[i] else (count if apart else 1) / 4
                far += SPAN * self.span[i] * self.crowded[i] * rows + self.converted(i) * count
            number, shuffles = self._load(i, plan)
            loads += count * number
            far += count * shuffles
            alone = along_result and vectors == 1 and lane not in self.reads[i] and count == work
            if alone and self.core.folding:
                near = i in plan.packed or self.strides[i][self.reduction[-1]] == 1 or self._near(i, tiles)
                folded = count if near else 0.0
        stream = max((vectors * self._panel_load(plan, i, vectors, steps) for i in plan.packed), default=0.0)
        tie = (loads - folded) * LOAD_TIE + folded * FOLDED_TIE
        step = max(self.core.multiplying(work, self.problem.dot), self.latency, loads * LOAD)
        step = max(step, stream)
        step += max(max(0.0, self._first_load(i, plan, tile) - step) / self._turns(i, plan) for i in (0, 1))
        step += tie + far
        step += STEP / self._repeated(plan, tiles, work) + self._streams(plan, tiles, vectors)
        if along_result:
            if self.result_stride[lane] == 1:
                store = work * 1.0
            elif tiles.get(plan.turned, 1) > 1:
                squares = work / tiles[plan.turned] * ceil(tiles[plan.turned] / self.lanes)
                store = squares * (TURN + self.lanes * TURNED_ROW)
            else:
                store = work * self.lanes * (FAR_STORE if self.stores_far(lane) else SCATTERED_ELEMENT)
        else:
            units = work // vectors
            store = units * LANE_SUM + work - units
        return steps * step + store + TILE

    def _load(self, operand: int, plan: Plan) -> tuple[float, float]:
        """Loads that one vector or broadcast of the operand counts for, and cycles to make one of them."""
        stride = self.strides[operand][plan.lane]
        if stride in (0, 1) or operand in plan.packed:
            return 1.0, 0.0
        if stride in WIDE_STRIDES and self.words[operand] is None:
            return float(stride), SHUFFLE * (stride - 1) * self.core.per_cycle
        return self.lanes * SCATTERED_ELEMENT / LOAD, 0.0

    def _streams(self, plan: Plan, tiles: Mapping[str, int], vectors: int) -> float:
        """Cycles more for rows along the sum that a step reads side by side, and that nothing reads again."""
        if plan.lane in self.parallel:
            return 0.0
        found = 0.0
        for i in (0, 1):
            again = (self.size[n] > tiles.get(n, 1) for n in self.parallel if n not in self.reads[i])
            rows = prod(n for name, n in tiles.items() if name in self.reads[i])
            apart = rows > 1 and i not in plan.packed and self._apart(i, tiles)
            if apart and self._bytes(i) > STREAM_BYTES and not any(again):
                found += STREAM * rows * vectors
        return found

    def _apart(self, operand: int, tiles: Mapping[str, int]) -> bool:
        """Whether the tile's rows along the sum lie behind one another in memory. A window's overlap."""
        steps = {n: abs(s) if isinstance(s, int) else FAR_STRIDE for n, s in self.strides[operand].items()}
        span = sum((self.size[n] - 1) * steps[n] for n in self.reduction)
        return all(steps[n] > span for n, tile in tiles.items() if tile > 1 and n in self.reads[operand])

    def _bytes(self, operand: int) -> int:
        buffer = self.problem.operands[operand].buffer
        return typical(buffer.numel, self.typical) * buffer.dtype.itemsize

    def _panel_load(self, plan: Plan, operand: int, vectors: int, steps: float) -> float:
        """Cycles for a vector of a panel that each tile reads anew: more where the panel does not stay near the core."""
        if plan.lane not in self.reads[operand]:
            return 0.0
        nbytes = steps * vectors * self.lanes * FLOAT
        if self._panel(plan, vectors, steps) > self.core.l2 * KEPT and self.parts(plan) is None:
            return FAR_LOAD * self.lanes * FLOAT / LINE
        return L2_LOAD * self.lanes * FLOAT / LINE if nbytes > L1_BYTES else LOAD

    def _turns(self, operand: int, plan: Plan) -> int:
        """How many tiles read what one reads of an operand."""
        return prod(ceil(self.size[n] / plan.tile(n)) for n in self.parallel if n not in self.reads[operand])

    def _first_load(self, operand: int, plan: Plan, tile: _Tiles) -> float:
        """Cycles for what a step of the first tile reads in vectors of an operand beyond the second-level cache."""
        if plan.lane not in self.reads[operand] or self._bytes(operand) <= self.core.l2:
            return 0.0
        itemsize = FLOAT if operand in plan.packed else self.problem.operands[operand].buffer.dtype.itemsize
        count = self.loads(operand, tile.positions, plan.lane, tile.vectors)
        return count * self.lanes * itemsize / LINE * FAR_LOAD

    def _repeated(self, plan: Plan, tiles: Mapping[str, int], work: int) -> int:
        few = self.registers < MANY_REGISTERS
        key = plan.lane, work, plan.vectors == 1, tuple(tiles.items()) if few else ()
        if key not in self._repeats:
            self._repeats[key] = prod(self.unroll(plan, tiles, work).values())
        return self._repeats[key]

    def unroll(self, plan: Plan, tiles: Mapping[str, int], work: int) -> dict[str, int]:
        """The innermost reduction loops as repeated text, while the text stays short. Not, with few registers, where a
        tile's elements of one step are those of another: LLVM keeps them, and sums are spilled."""
        found: dict[str, int] = {}
        broadcasts = plan.vectors == 1 and plan.lane in self.parallel and not self.core.folding
        most = MOST_BROADCASTS if broadcasts else MOST_UNROLLED
        for axis in reversed(self.problem.reduction):
            if axis.name == plan.lane:
                continue
            extent = axis.extent
            if self.registers < MANY_REGISTERS and self._meets(axis.name, tiles):
                break
            if isinstance(extent, int) and extent * work <= most:
                found[axis.name] = max(1, extent)
                work *= max(1, extent)
                continue
            for n in (4, 2):
                if n * work <= most and self.size[axis.name] >= 4 * n:
                    found[axis.name] = n
                    break
            break
        return found

    def _meets(self, summed: str, tiles: Mapping[str, int]) -> bool:
        """Whether a window slides along a tile: a few steps along the sum lead to where another position of the tile
        begins."""
        for strides in self.strides:
            step = strides[summed]
            if not isinstance(step, int) or step == 0:
                continue
            for name, count in tiles.items():
                along = strides[name]
                if count == 1 or not isinstance(along, int) or along == 0 or along % step != 0:
                    continue
                if abs(along // step) < min(self.size[summed], NEAR_STEPS):
                    return True
        return False


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
