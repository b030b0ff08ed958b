"""The rules of GPU kernels: threads, their registers, and what warps do together."""

from __future__ import annotations

from collections.abc import Sequence

from ...ir import dims, dtypes
from ...ir.dims import DimLike
from .nodes import (
    LINE,
    WARP,
    WARPGROUP,
    Buffer,
    CopyAsync,
    Expr,
    For,
    LoadFragment,
    MultiplyGroup,
    MultiplyTile,
    Pipeline,
    Shuffle,
    Stmt,
    Store,
    TileSlice,
    threads_of,
)
from .rules import Rules
from .scope import Scope
from .walk import statements

MAX_THREADS = 1024


class GpuRules(Rules):
    """Part of the verifier, which has what the first names stand for."""

    on_gpu: bool
    # Of the block loop that is looked at.
    block_threads: int
    written_here: frozenset[Buffer]

    def bind(self, scope: Scope, name: str, kind: str) -> None:
        raise NotImplementedError

    def condition(self, condition: Expr, scope: Scope) -> None:
        raise NotImplementedError

    def resident_blocks(self, loop: For, scope: Scope) -> None:
        if scope.block_loop is not None or scope.thread is not None:
            raise self.fail("block loops do not stand inside each other")
        scope.block_loop = loop
        self.block_threads, self.written_here = threads_of(loop), stored_in(loop.body)

    def threads(self, loop: For, scope: Scope) -> None:
        if not self.on_gpu or (self.kernel.resident and scope.block_loop is None):
            raise self.fail("a thread loop stands inside the block loop of a kernel")
        if scope.thread is not None:
            raise self.fail(f"it is inside the thread loop {scope.thread}")
        if not isinstance(loop.extent, int) or not 1 <= loop.extent <= MAX_THREADS:
            raise self.fail(f"a block has 1 to {MAX_THREADS} threads, a known number, not {loop.extent}")
        if loop.extent != self.block_threads:
            raise self.fail(
                f"all thread loops of a kernel have one extent: {loop.extent}, {self.block_threads}"
            )

    def own_block(self, buffer: Buffer, index: tuple[DimLike, ...], scope: Scope) -> None:
        loop = scope.block_loop
        if loop is None or scope.thread is None or buffer.shape[0] != loop.extent:
            raise self.fail(f"{buffer} is used in thread loops of as many blocks as it has rows")
        number = dims.symbol(loop.var, 0, max(0, dims.bounds(loop.extent)[1] - 1))
        if index[0] != number and not (loop.extent == 1 and index[0] == 0):
            raise self.fail(f"the first index of {buffer.name} must be the block's number, not {index[0]}")

    def own_register(self, buffer: Buffer, index: tuple[DimLike, ...], scope: Scope) -> None:
        if scope.thread is None or index[0] != dims.symbol(scope.thread, 0, self.block_threads - 1):
            raise self.fail(f"the first index of {buffer.name} must be the thread's number, not {index[0]}")
        if buffer.shape[0] != self.block_threads:
            raise self.fail(f"{buffer} has not one row for each of {self.block_threads} threads")
        for i in index[1:]:
            for symbol in dims.symbols(i):
                if scope.symbols.get(symbol.name) != "unroll":
                    raise self.fail(
                        f"{buffer.name} is in registers: its index {i} must be a constant once unrolled"
                    )

    def shuffle(self, expr: Shuffle, scope: Scope) -> None:
        buffer = expr.load.buffer
        if buffer.space != "thread":
            raise self.fail(f"a shuffle reads registers of other threads, not {buffer}")
        if not 0 < expr.mask < WARP or self.block_threads % WARP:
            raise self.fail(f"a shuffle by {expr.mask} among {self.block_threads} threads: warps have {WARP}")
        if scope.diverged:
            raise self.fail("a shuffle where not all threads need be")
        if buffer in scope.stored:
            raise self.fail(f"a shuffle of {buffer.name}, which the same thread loop stores to")

    def multiply(self, stmt: MultiplyTile, scope: Scope) -> None:
        narrow = stmt.left.dtype
        pair = 4 // max(narrow.itemsize, 1)
        wanted = ((stmt.total, dtypes.f32, 4), (stmt.left, narrow, 4 * pair), (stmt.right, narrow, 2 * pair))
        for load, dtype, count in wanted:
            self.access(load.buffer, load.index, scope)
            if load.buffer.space != "thread" or load.dtype is not dtype or load.buffer.shape[-1] != count:
                raise self.fail(f"{load.buffer} is no fragment of {count} {dtype.name} in registers")
            if load.index[-1] != 0:
                raise self.fail(f"a fragment is given by its first element, not {load.index[-1]}")
        if narrow not in (dtypes.f16, dtypes.bf16, dtypes.f32):
            raise self.fail(f"tensor cores multiply f16, bf16 and f32 here, not {narrow.name}")
        if scope.diverged or self.block_threads % WARP:
            raise self.fail("a product by a warp where not all its threads need be")
        if {stmt.left.buffer, stmt.right.buffer} & scope.stored:
            raise self.fail("a product of fragments that the same thread loop stores to")

    def multiply_group(self, stmt: MultiplyGroup, scope: Scope) -> None:
        total, left, right = stmt.total, stmt.left, stmt.right
        for load in (total, left, right):
            self.access(load.buffer, load.index, scope)
        if right.dtype not in (dtypes.f16, dtypes.bf16) or left.dtype is not right.dtype:
            raise self.fail(
                f"warpgroups multiply f16 and bf16 here, not {left.dtype.name} by {right.dtype.name}"
            )
        if stmt.columns % 8 or not 8 <= stmt.columns <= 256 or stmt.depth % 16:
            raise self.fail(f"a warpgroup multiplies no 64x{stmt.depth} by {stmt.columns}")
        kept = [(total, dtypes.f32, (stmt.columns // 8, 4))]
        if left.buffer.space == "thread":
            kept.append((left, left.dtype, (stmt.depth // 16, 8)))
        for load, dtype, shape in kept:
            fits = load.buffer.space == "thread" and load.dtype is dtype and load.buffer.shape[-2:] == shape
            if not fits or load.index[-2:] != (0, 0):
                raise self.fail(f"{load.buffer} is not {shape} {dtype.name} in registers")
        for load in (left, right):
            if load.buffer.space != "thread" and not (
                load.buffer.space == "shared" and len(load.buffer.shape) >= 3 and load.buffer.shape[-1] == 64
            ):
                raise self.fail(f"{load.buffer} is not boxes of 64 in shared memory")
        if scope.diverged or self.block_threads % WARPGROUP:
            raise self.fail("a product by a warpgroup where not all its threads need be")
        if left.buffer in scope.stored:
            raise self.fail("a product of fragments that the same thread loop stores to")

    def copy(self, stmt: CopyAsync, scope: Scope) -> None:
        if scope.thread is None:
            raise self.fail("a GPU kernel copies inside thread loops only")
        for load in (stmt.target, stmt.source):
            self.access(load.buffer, load.index, scope)
        if stmt.condition is not None:
            self.condition(stmt.condition, scope)
        if stmt.target.buffer.space != "shared" or stmt.source.buffer.space != "global":
            raise self.fail("a copy goes from global to shared memory")
        if stmt.source.buffer in self.written_here:
            raise self.fail(f"a copy of {stmt.source.buffer.name}, which the kernel writes")
        if stmt.target.dtype is not stmt.source.dtype or stmt.count * stmt.source.dtype.itemsize != 16:
            raise self.fail(f"a copy moves 16 bytes, not {stmt.count} of {stmt.source.dtype.name}")

    def load_fragment(self, stmt: LoadFragment, scope: Scope) -> None:
        for load in (stmt.fragment, stmt.source):
            self.access(load.buffer, load.index, scope)
        fragment, source = stmt.fragment, stmt.source
        if fragment.buffer.space != "thread" or stmt.rows not in (8, 16) or fragment.index[-1] != 0:
            raise self.fail(f"{fragment.buffer} is no fragment of {stmt.rows} rows in registers")
        count = stmt.rows // fragment.dtype.itemsize
        *_, outer, inner = fragment.buffer.shape
        fits = inner == count
        if stmt.pair:
            fits = stmt.rows == 16 and (outer, inner) == (2, count // 2) and fragment.index[-2] == 0
        if not fits:
            raise self.fail(f"a thread has {count} elements of {stmt.rows} rows, not {fragment.buffer}")
        if source.buffer.space != "shared" or len(source.index) < 2 or source.dtype is not fragment.dtype:
            raise self.fail(
                f"a fragment of {fragment.buffer} is read from shared memory, not {source.buffer}"
            )
        if scope.diverged or self.block_threads % WARP:
            raise self.fail("a fragment is read by a warp where not all its threads need be")

    def pipeline(self, stmt: Pipeline, scope: Scope) -> None:
        if scope.thread is not None or not self.on_gpu:
            raise self.fail("a pipeline stands between the thread loops of a block")
        self.index_symbols(stmt.extent, scope)
        inner = scope.inner()
        self.bind(inner, stmt.var, "loop")
        for side in (stmt.left, stmt.right):
            self._slice(side, inner)
        left, right = stmt.left, stmt.right
        stages = left.stages.shape[0]
        if left.stages.dtype is not right.stages.dtype or (left.depth, stages) != (
            right.depth,
            right.stages.shape[0],
        ):
            raise self.fail(f"slices {left.stages} and {right.stages} of one product")
        total, threads = stmt.total, self.block_threads
        high = left.rows // (WARPGROUP // 2 * max(stmt.groups, 1))
        wanted = (threads, high, right.rows // 8, 4)
        if total.space != "thread" or total.dtype is not dtypes.f32 or total.shape != wanted:
            raise self.fail(f"{total} is no sum of {left.rows}x{right.rows} by {threads} threads")
        if threads != stmt.groups * WARPGROUP + WARP or left.rows % (64 * stmt.groups) or right.rows % 8:
            raise self.fail(
                f"{threads} threads for a pipeline: groups of {WARPGROUP}, and a warp for the copies"
            )
        if (
            stmt.marks.space != "shared"
            or stmt.marks.dtype is not dtypes.u64
            or stmt.marks.shape != (2, stages)
        ):
            raise self.fail(f"{stmt.marks} is not two words in shared memory for each of {stages} stages")

    def _slice(self, side: TileSlice, scope: Scope) -> None:
        seen, stages = side.map, side.stages
        if seen.buffer not in self.kernel.params or seen.buffer.name in self.kernel.writes:
            raise self.fail(f"{seen.buffer} is no param that the kernel only reads")
        rank = len(seen.sizes)
        if not 2 <= rank <= 5 or {len(seen.strides), len(seen.box), len(side.start)} != {rank}:
            raise self.fail(
                f"a tensor map has 2 to 5 dims, each with a size, a stride, a box and a start: {seen}"
            )
        for value in (seen.offset, *seen.sizes, *seen.strides):
            if any(scope.symbols.get(s.name) != "dim" for s in dims.symbols(value)):
                raise self.fail(f"{value} in a tensor map is not known when the kernel is launched")
        for value in side.start:
            self.index_symbols(value, scope)
        size = seen.buffer.dtype.itemsize
        if seen.strides[-1] != 1 or any(
            dims.mod(x * size, 16) != 0 for x in (seen.offset, *seen.strides[:-1])
        ):
            raise self.fail(f"a tensor map's strides and its beginning are multiples of 16 bytes: {seen}")
        if stages.dtype not in (dtypes.f16, dtypes.bf16, dtypes.f32) or stages.dtype is not seen.buffer.dtype:
            raise self.fail(f"warpgroups multiply f16, bf16 and f32 here, not {stages}")
        if side.turned and size != 2:
            raise self.fail(f"{stages}: only 16-bit elements may lie along the rows")
        if stages.space != "shared" or len(stages.shape) != 3:
            raise self.fail(f"{stages} is not stages of shared memory")
        line = LINE // size
        *outer, high, wide = seen.box
        wanted = (side.depth, line) if side.turned else (side.rows, line)
        if any(x != 1 for x in outer) or (high, wide) != wanted or (side.depth != line and not side.turned):
            raise self.fail(f"boxes of {seen.box} for {stages}: lines of {LINE} bytes")
        if high > 256 or side.rows % (line if side.turned else 8):
            raise self.fail(f"a box of {seen.box} for {stages}")


def stored_in(body: Sequence[Stmt]) -> frozenset[Buffer]:
    """The buffers that the statements store to."""
    stores = {s.buffer for s in statements(body) if isinstance(s, Store)}
    return frozenset(stores | {s.fragment.buffer for s in statements(body) if isinstance(s, LoadFragment)})
