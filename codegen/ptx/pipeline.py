"""A pipeline of the loop IR as Hopper runs it: the copy engine fills stages of shared memory, warpgroups multiply.

    thread 0: makes the barriers                              one that a stage has come, one that it may be overwritten
    last warp, one thread: for each slice
        wait until its stage is free; tell its barrier how many bytes will come; have the copy engine bring them
    the others, in groups of 128 threads: for each slice
        wait until it has come; start its products; wait for those of the slice before, whose stage is free now

Stages lie as boxes of lines of 128 bytes, swizzled (`wgmma.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING

from ...ir import dims, dtypes
from ...ir.dims import DimLike
from ..llvm.repeat import counted_loop
from ..llvm.text import Value, const
from ..loops.nodes import LINE, WARP, WARPGROUP, Pipeline, TensorMap, TileSlice
from .wgmma import ROWS, STEP, descriptor, multiply, shared_address, step_bytes

if TYPE_CHECKING:
    from .emit import PtxEmitter


def emit_pipeline(emitter: PtxEmitter, stmt: Pipeline) -> None:
    """The statement where the writer stands."""
    _Emission(emitter, stmt).emit()


class _Emission:
    def __init__(self, emitter: PtxEmitter, stmt: Pipeline):
        self.e = emitter
        self.w = emitter.w
        self.stmt = stmt
        stages = stmt.left.stages.shape[0]
        assert isinstance(stages, int)
        self.stages = stages
        self.consumers = stmt.groups * WARPGROUP
        low, high = dims.bounds(stmt.extent)
        self.k = dims.symbol(stmt.var, 0, max(high - 1, 0))
        self.may_be_empty = low < 1
        self.thread = dims.symbol("thread", 0, emitter.kernel.threads - 1)

    def emit(self) -> None:
        with self.e.known({"thread": self.e.thread}):
            self._roles()

    def _roles(self) -> None:
        e, w = self.e, self.w
        end = e.index.value(self.stmt.extent)
        with w.branch_if(self._is(self.thread, 0)):
            for stage in range(self.stages):
                for row, count in ((0, 1), (1, self.consumers // WARP)):
                    place = self._mark(row, stage)
                    self._asm(f"mbarrier.init.shared::cta.b64 [$0], {count};", "r", place)
            self._asm("fence.mbarrier_init.release.cluster;")
            self._asm("fence.proxy.async.shared::cta;")
        e.barrier()
        # An if with both arms: warps that multiply have nothing to wait for at the end of the one that copies.
        preheader, number = w.preheader(), w.fresh("")
        multiplies = self._below(self.thread, self.consumers)
        w.line(f"br i1 {multiplies.text}, label %multiply{number}, label %copy{number}")
        with self._arm(f"multiply{number}", f"done{number}", preheader):
            with self._slices(end):
                self._consume()
            self._products(["wgmma.wait_group.sync.aligned 0;"])
        with (
            self._arm(f"copy{number}", f"done{number}", preheader),
            w.branch_if(self._is(self.thread, self.consumers)),
            self._slices(end),
        ):
            self._produce()
        w.line(f"done{number}:")

    @contextmanager
    def _arm(self, label: str, end: str, preheader: list[object]) -> Iterator[None]:
        w = self.w
        w.open(is_loop=False, preheader=preheader)
        w.line(f"{label}:")
        yield
        w.line(f"br label %{end}")
        w.close()

    def _slices(self, end: Value) -> AbstractContextManager[None]:
        """The loop over them."""
        first = const(0, dtypes.i64)
        return counted_loop(self.w, self.e.index, self.stmt.var, first, end, self.may_be_empty)

    # The producer

    def _produce(self) -> None:
        stage, turn = dims.mod(self.k, self.stages), dims.floordiv(self.k, self.stages)
        # A barrier that is new counts as one whose odd phase is over.
        self._wait(self._mark(1, stage), dims.mod(turn + 1, 2))
        ready = self._mark(0, stage)
        both = (self.stmt.left, self.stmt.right)
        nbytes = sum(_stage_bytes(side) for side in both)
        self._asm(f"mbarrier.arrive.expect_tx.shared::cta.b64 _, [$0], {nbytes};", "r", ready)
        for side in both:
            for box in range(_boxes(side)):
                self._copy(side, stage, box, ready)

    def _copy(self, side: TileSlice, stage: DimLike, box: int, ready: Value) -> None:
        seen = side.map
        target = self._stage(side, stage, box * _box_bytes(side))
        *start, last = side.start
        where = [self._narrow(x) for x in (last + box * seen.box[-1], *reversed(start))]
        rank = len(where)
        places = ", ".join(f"${3 + i}" for i in range(rank))
        text = (
            f"cp.async.bulk.tensor.{rank}d.shared::cluster.global.tile.mbarrier::complete_tx::bytes "
            f"[$0], [$1, {{{places}}}], [$2];"
        )
        self._asm(text, "r,l,r" + ",r" * rank, target, self._map(seen), ready, *where)

    def _map(self, seen: TensorMap) -> str:
        return f"ptr %m{self.e.kernel.maps.index(seen)}"

    # The consumers

    def _consume(self) -> None:
        stmt = self.stmt
        self._wait(
            self._mark(0, dims.mod(self.k, self.stages)),
            dims.mod(dims.floordiv(self.k, self.stages), 2),
        )
        total = stmt.total
        high, eights = total.shape[1], total.shape[2]
        assert isinstance(high, int) and isinstance(eights, int)
        name = {dtypes.f16: "f16", dtypes.bf16: "bf16", dtypes.f32: "tf32"}[stmt.left.stages.dtype]
        shape = f"m64n{8 * eights}k{8 if name == 'tf32' else 16}"
        turned = "" if name == "tf32" else f", {int(stmt.left.turned)}, {int(stmt.right.turned)}"
        count = high * eights * 4
        lines = ["{", ".reg .pred p;", ".reg .b64 a, b;", "setp.eq.u32 p, 0, 0;", "wgmma.fence.sync.aligned;"]
        steps = stmt.left.depth * stmt.left.stages.dtype.itemsize // STEP
        for step in range(steps):
            for block in range(high):
                own = ", ".join(f"${block * eights * 4 + i}" for i in range(eights * 4))
                left = _step(stmt.left, step) + block * _row_bytes(stmt.left, ROWS)
                lines += [
                    f"add.s64 a, ${2 * count}, {left >> 4};",
                    f"add.s64 b, ${2 * count + 1}, {_step(stmt.right, step) >> 4};",
                    f"wgmma.mma_async.sync.aligned.{shape}.f32.{name}.{name} {{{own}}}, a, b, p, 1, 1{turned};",
                ]
        lines += ["wgmma.commit_group.sync.aligned;", "wgmma.wait_group.sync.aligned 1;", "}"]
        operands = [("l", str(self._descriptor(side))) for side in (stmt.left, stmt.right)]
        self._products(lines, operands)
        # The products of the slice before are done now.
        with (
            self.w.branch_if(self._below(0, self.k)),
            self.w.branch_if(self._is(dims.mod(self.thread, WARP), 0)),
        ):
            before = self._mark(1, dims.mod(self.k + (self.stages - 1), self.stages))
            self._asm("mbarrier.arrive.shared::cta.b64 _, [$0];", "r", before)

    def _descriptor(self, side: TileSlice) -> Value:
        """Of the own group's rows of a left operand, of all columns of a right one."""
        e = self.e
        own: DimLike = 0
        if side is self.stmt.left:
            rows = side.rows // self.stmt.groups
            own = dims.floordiv(self.thread, WARPGROUP) * _row_bytes(side, rows)
        start = self._stage(side, dims.mod(self.k, self.stages), own)
        return descriptor(e, start, _box_bytes(side), side.turned)

    def _products(self, lines: Sequence[str], operands: Sequence[tuple[str, str]] = ()) -> None:
        total = self.stmt.total
        _, high, eights, _ = total.shape
        assert isinstance(high, int) and isinstance(eights, int)
        places = [(0, i, j, c) for i in range(high) for j in range(eights) for c in range(4)]
        multiply(self.e, total, places, lines, operands)

    # Pieces

    def _wait(self, mark: Value, parity: DimLike) -> None:
        """Until the phase of that parity is over."""
        w = self.w
        odd = self._narrow(parity)
        number = w.fresh("")
        w.line(f"br label %wait{number}")
        w.line(f"wait{number}:")
        text = "{ .reg .pred p; mbarrier.try_wait.parity.shared::cta.b64 p, [$1], $2; selp.b32 $0, 1, 0, p; }"
        w.line(
            f'%over{number} = call i32 asm sideeffect "{text}", "=r,r,r,~{{memory}}"({mark}, {odd}) convergent'
        )
        w.line(f"%isover{number} = icmp ne i32 %over{number}, 0")
        w.line(f"br i1 %isover{number}, label %go{number}, label %wait{number}")
        w.line(f"go{number}:")

    def _mark(self, row: int, stage: DimLike) -> Value:
        """The address of a barrier: row 0 tells that a stage has come, row 1 that it may be overwritten."""
        return shared_address(self.e, self.stmt.marks, (stage + row * self.stages) * 8)

    def _stage(self, side: TileSlice, stage: DimLike, further: DimLike) -> Value:
        return shared_address(self.e, side.stages, stage * _stage_bytes(side) + further)

    def _narrow(self, value: DimLike) -> Value:
        return self.e.ops.convert(self.e.index.value(value), dtypes.i32)

    def _is(self, value: DimLike, number: int) -> Value:
        return self.e.ops.compare("eq", self.e.index.value(value), const(number, dtypes.i64))

    def _below(self, value: DimLike, limit: DimLike) -> Value:
        return self.e.ops.compare("slt", self.e.index.value(value), self.e.index.value(limit))

    def _asm(self, text: str, bounds: str = "", *arguments: object) -> None:
        bounds = f"{bounds},~{{memory}}" if bounds else "~{memory}"
        given = ", ".join(map(str, arguments))
        self.w.line(f'call void asm sideeffect "{text}", "{bounds}"({given}) convergent nounwind')


def _boxes(side: TileSlice) -> int:
    """Of a slice."""
    return side.rows // side.map.box[-1] if side.turned else 1


def _box_bytes(side: TileSlice) -> int:
    return side.map.box[-2] * LINE


def _stage_bytes(side: TileSlice) -> int:
    return _boxes(side) * _box_bytes(side)


def _row_bytes(side: TileSlice, rows: int) -> int:
    """From a row to the one so many further, of which there is a whole number of boxes or of lines."""
    return rows // side.map.box[-1] * _box_bytes(side) if side.turned else rows * LINE


def _step(side: TileSlice, number: int) -> int:
    """From the start of a slice to that of product number `number` along the sum."""
    return step_bytes(number, _box_bytes(side), side.turned)


__all__ = ["emit_pipeline"]
