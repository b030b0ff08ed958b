"""How to walk a convolution by Winograd's filtering, and whether to."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from math import ceil
from operator import attrgetter, itemgetter

from ...ir import dims, dtypes
from ...ir.dims import DimLike
from ..target import Target
from .choices import Candidate, cheapest, varied
from .contraction_cycles import LAUNCH, LOAD, LOAD_TIE, STEP, TILE, TURN, TYPICAL, Core
from .winograd_matrices import POINTS, TAPS

FLOAT = 4
MOST_STRIPS = 32
# Bytes of products on a thread's stack.
MOST_STACK = 512 << 10
THREADS = 4

# Cycles, measured on AMD Zen 4 by the kernels' own clocks.
IMAGE_STRIP = 1000.0  # a strip of the image, one vector of channels: what does not depend on its size
IMAGE_COLUMN = 7.5  # an element of it, transformed both ways
RESULT_PLACE = 3.0  # a place of a tile of products, transformed both ways
RESULT_ROW = 3.0  # a vector of the result, with its epilogue
WEIGHT_PLACE = 5.0  # a vector of transformed weights
OWN_PLACE = 5.0  # the same, where they stay in the second-level cache
ADDED_PLACE = 2.0  # a vector of products added to what is there
# A byte to the core, from where other cores read too.
L3_BYTE = 0.06
MEMORY_BYTE = 0.12


@dataclass(frozen=True)
class Sizes:
    """Of a 3x3 convolution with stride 1: `padding` zeros above and on the left, `out_height` and `out_width` the size
    of the result. Only the batch may be a symbol."""

    batch: DimLike
    channels: int
    outputs: int
    height: int
    width: int
    padding: tuple[int, int]
    out_height: int
    out_width: int


@dataclass(frozen=True)
class WinogradPlan:
    """m: a tile of the result is m x m.
    strips: rows of tiles in a block.
    rows, vectors: a register tile holds `rows` tiles by `vectors` vectors of outputs.
    outputs_first: a task's neighbours have the same outputs, not the same tiles.
    chunk: each task transforms its weights, so many vectors of channels at a time; 0: they are transformed before.
    cycles: the model's estimate."""

    m: int
    lanes: int
    strips: int
    rows: int
    vectors: int
    unroll: int = 4
    outputs_first: bool = False
    chunk: int = 0
    cycles: float = 0.0

    @property
    def width(self) -> int:
        """Outputs in a register tile."""
        return self.vectors * self.lanes

    @property
    def places(self) -> int:
        """Products for each tile, channel and output."""
        return (self.m + 2) ** 2

    def across(self, sizes: Sizes) -> int:
        """Tiles in a strip."""
        return -(-sizes.out_width // self.m)

    def down(self, sizes: Sizes) -> int:
        """Strips of an image."""
        return -(-sizes.out_height // self.m)

    def strip_count(self, sizes: Sizes) -> DimLike:
        return sizes.batch * self.down(sizes)

    def exact(self, sizes: Sizes) -> bool:
        """Whether no block has fewer strips than others."""
        return dims.mod(self.strip_count(sizes), self.strips) == 0

    def blocks(self, sizes: Sizes) -> DimLike:
        return dims.floordiv(self.strip_count(sizes) + (self.strips - 1), self.strips)

    def tiles(self, sizes: Sizes) -> int:
        """Of a block."""
        return self.strips * self.across(sizes)

    def output_blocks(self, sizes: Sizes) -> int:
        return -(-sizes.outputs // self.width)

    def __str__(self) -> str:
        return f"{self.text()}; about {self.cycles:.0f} cycles"

    def text(self) -> str:
        """The plan without the estimate."""
        order = "outputs, blocks" if self.outputs_first else "blocks, outputs"
        weights = f"; weights transformed {self.chunk}x{self.lanes} channels at a time" if self.chunk else ""
        return (
            f"Winograd F({self.m}x{self.m}, 3x3), {self.places} products; blocks of {self.strips} strips; "
            f"tile {self.rows} x {self.vectors}x{self.lanes}; tasks of {order}{weights}"
        )


def ranked_winograd(
    sizes: Sizes, target: Target, direct: float, steady: bool, count: int = 1
) -> list[Candidate[WinogradPlan | None]]:
    """The cheapest plans by the model, the best first, `count` at most; None for the direct way, whose `direct` cycles
    are known. Of several, the direct way is one. `steady`: the weights are transformed once for many runs."""
    model = _Model(sizes, target, steady)
    if count == 1:
        several = cheapest(model.plans(), model.cycles)
    else:
        plans = [(plan, model.cycles(plan)) for _, plan in model.plans()]
        plans.sort(key=itemgetter(1))
        several = varied(plans, lambda p: (p.m, p.vectors, p.chunk > 0), count - 1)
    found: list[Candidate[WinogradPlan | None]] = [Candidate("the sum itself", direct, None)]
    for plan, cycles in several:
        found.append(Candidate(plan.text(), cycles, replace(plan, cycles=cycles)))
    return sorted(found, key=attrgetter("cycles"))[:count]


@dataclass(frozen=True)
class _Model:
    sizes: Sizes
    target: Target
    steady: bool

    @cached_property
    def core(self) -> Core:
        return Core.of(self.target, dtypes.f32)

    def plans(self) -> Iterator[tuple[float, WinogradPlan]]:
        """Plans, and cycles that they take at least."""
        lanes, registers = self.core.lanes, self.core.registers
        if min(self.sizes.channels, self.sizes.outputs) < lanes:
            return
        for m in sorted(POINTS):
            for vectors in (1, 2, 3, 4):
                if vectors * lanes >= self.sizes.outputs + lanes:
                    continue
                # What is multiplied with a row is broadcast to a register, or by the instruction itself.
                most = (registers - vectors - (not self.core.folding)) // vectors
                for strips in range(1, MOST_STRIPS + 1):
                    tiles = strips * ceil(self.sizes.out_width / m)
                    plan = WinogradPlan(m, lanes, strips, ceil(tiles / ceil(tiles / most)), vectors)
                    if self._sums(plan) > min(self.target.l2 // 2, MOST_STACK):
                        break
                    least = self._products(plan) + self._transforms(plan)
                    static = isinstance(self.sizes.batch, int)
                    for outputs_first in (False, True) if static else (False,):
                        for chunk in self._chunks(plan):
                            rows, unroll = plan.rows, plan.unroll
                            yield (
                                least,
                                WinogradPlan(m, lanes, strips, rows, vectors, unroll, outputs_first, chunk),
                            )

    def _chunks(self, plan: WinogradPlan) -> Iterator[int]:
        yield 0
        if self.steady:
            return
        blocks = ceil(self.sizes.channels / plan.lanes)
        for chunk in (1, 2, 4):
            nbytes = plan.places * chunk * plan.lanes * plan.width * FLOAT
            if chunk <= blocks and self._sums(plan) + nbytes <= MOST_STACK:
                yield chunk

    def _sums(self, plan: WinogradPlan) -> int:
        """Bytes of the products of a block."""
        return plan.places * plan.tiles(self.sizes) * plan.width * FLOAT

    def cycles(self, plan: WinogradPlan) -> float:
        sizes, lanes = self.sizes, plan.lanes
        blocks = self._blocks(plan)
        channel_blocks, outputs = ceil(sizes.channels / lanes), plan.output_blocks(sizes)
        # The products, against what it takes to bring their operands to the core.
        products = self._products(plan)
        tiles = plan.tiles(sizes)
        if plan.chunk:  # M is added up
            vectors = plan.places * tiles * plan.vectors * outputs * blocks
            products += vectors * ceil(channel_blocks / plan.chunk) * ADDED_PLACE
        weights = plan.places * channel_blocks * lanes * outputs * plan.width * FLOAT
        kernels = weights * TAPS**2 / plan.places
        image = blocks * plan.places * channel_blocks * lanes * tiles * FLOAT
        if plan.chunk:
            moved = self._moved(image, image / blocks, outputs) + self._moved(kernels, kernels, blocks)
        elif plan.outputs_first:
            moved = self._moved(weights, weights / outputs, blocks) + self._moved(image, image, outputs)
        else:
            moved = self._moved(image, image / blocks, outputs) + self._moved(weights, weights, blocks)
        found = max(products, moved) + moved / 4
        # Half of the loss where a few threads share the tasks, all the same size, unevenly.
        tasks = blocks * outputs
        found *= (1 + ceil(tasks / THREADS) * THREADS / tasks) / 2
        found += self._transforms(plan)
        if plan.chunk:
            found += blocks * weights / FLOAT / lanes * OWN_PLACE
        elif not self.steady:
            found += weights / FLOAT / lanes * WEIGHT_PLACE + self._moved(2 * weights, 2 * weights, 1)
        return found + 3 * LAUNCH

    def _blocks(self, plan: WinogradPlan) -> int:
        return ceil(typical(self.sizes.batch) * plan.down(self.sizes) / plan.strips)

    def _products(self, plan: WinogradPlan) -> float:
        steps = ceil(self.sizes.channels / plan.lanes) * plan.lanes
        whole, rest = divmod(plan.tiles(self.sizes), plan.rows)
        tile = whole * self._tile_cycles(plan, plan.rows, steps) + (
            self._tile_cycles(plan, rest, steps) if rest else 0.0
        )
        return self._blocks(plan) * plan.output_blocks(self.sizes) * plan.places * tile

    def _transforms(self, plan: WinogradPlan) -> float:
        """Of the image, turned and transformed, and of the result."""
        sizes, lanes = self.sizes, plan.lanes
        strips = typical(sizes.batch) * plan.down(sizes)
        columns, pieces = plan.across(sizes) * plan.m + 2, ceil(sizes.width / lanes)
        strip = IMAGE_STRIP + (plan.m + 2) * (pieces * TURN + columns * IMAGE_COLUMN)
        found = strips * ceil(sizes.channels / lanes) * strip
        row = ceil(sizes.out_width / lanes) * (TURN + lanes * RESULT_ROW)
        strip = plan.across(sizes) * plan.places * RESULT_PLACE + plan.m * row
        return found + strips * ceil(sizes.outputs / lanes) * strip

    def _moved(self, total: float, again: float, times: int) -> float:
        """Cycles to bring `total` bytes to the core, `again` of them at a time, each for `times` uses in a row: once if
        they stay in the second-level cache meanwhile."""
        first = MEMORY_BYTE if total > self.target.l3 / 8 else L3_BYTE if total > self.target.l2 / 2 else 0.0
        if again <= self.target.l2 / 2:
            return total * first
        return total * (first + (times - 1) * (L3_BYTE if again <= self.target.l3 / 2 else MEMORY_BYTE))

    def _tile_cycles(self, plan: WinogradPlan, rows: int, steps: int) -> float:
        work, loads = rows * plan.vectors, rows + plan.vectors
        step = max(work / self.core.per_cycle, self.core.latency(), loads * LOAD)
        step += loads * LOAD_TIE + STEP / plan.unroll
        return steps * step + work + TILE


def typical(batch: DimLike) -> int:
    return dims.evaluate(batch, {s.name: min(TYPICAL, s.high) for s in dims.symbols(batch)})
