"""Loads and stores: scalar, vector, masked, strided, gathered; and register buffers.

Where a load may not happen (`guard`, from a select that tests indices), its address is exchanged for that
of a block of zeros when the whole vector is off, and single lanes are masked.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from math import gcd

from ...ir import dtypes
from ...ir.dims import DimLike
from ...ir.dtypes import DType
from ..loops.nodes import Buffer
from .index import IndexEmitter, Position, fits_i32
from .metadata import NONTEMPORAL, alias_scope_id, noalias_id
from .scalar_ops import ScalarOps
from .text import Value, Writer, element_type, memory_type, splat, type_of, vector_const

ZEROS = "@zeros"
ZEROS_BYTES = 1024
_WIDE_STRIDES = (2, 3, 4)
_HALF_BYTES = 16  # of a vector of AVX2


@dataclass(frozen=True, slots=True)
class Guard:
    """The condition under which loads may be done: `uniform` for all lanes at once, `lanes` for each."""

    uniform: Value | None = None
    lanes: Value | None = None


class MemoryEmitter:
    """Reads and writes buffers. `alias_class` numbers groups of parameters that do not overlap each other."""

    def __init__(self, writer: Writer, ops: ScalarOps, index: IndexEmitter):
        self.w = writer
        self.ops = ops
        self.index = index
        self.guard = Guard()
        self.pointers: dict[Buffer, Value] = {}
        self.read_only: set[Buffer] = set()
        self.alias_class: dict[Buffer, int] = {}
        # What buffers' addresses are multiples of, in bytes, where that is worth saying.
        self.aligned: dict[Buffer, int] = {}
        # Whose whole vectors are stored past the caches.
        self.streams: set[Buffer] = set()
        self.classes = 0
        self.uses_zeros = False
        self.zeros = ZEROS
        self._offsets: dict[tuple[Buffer, tuple[DimLike, ...]], DimLike] = {}
        self._registers: dict[tuple[Buffer, tuple[int, ...]], tuple[str, DType, int]] = {}
        self.vector_registers: set[Buffer] = set()

    @contextmanager
    def guarded(self, condition: Value) -> Iterator[None]:
        """Loads inside happen only where the condition holds, and stores too when it is a vector."""
        before = self.guard
        known = before.lanes if condition.lanes else before.uniform
        both = condition if known is None else self.ops.instruction("and", [known, condition], dtypes.bool_)
        self.guard = replace(before, lanes=both) if condition.lanes else replace(before, uniform=both)
        yield
        self.guard = before

    def may_overlap(self, a: Buffer, b: Buffer) -> bool:
        """Whether the two may share memory."""
        classes = self.alias_class
        return a is b or (a in classes and classes.get(a) == classes.get(b))

    def load(self, buffer: Buffer, index: tuple[DimLike, ...]) -> Value:
        if buffer.space == "register":
            return self._load_register(buffer, index)
        if buffer.space == "thread":  # each thread has its own row
            return self._load_register(buffer, index[1:])
        position = self.index.decompose(self._offset(buffer, index))
        if position.is_uniform:
            return self._load_scalar(buffer, position)
        return self._load_vector(buffer, position, self._offset(buffer, index))

    def prefetch(self, buffer: Buffer, index: tuple[DimLike, ...], level: int) -> None:
        """Fetch the element's cache line into the cache of this level."""
        pointer = self.address(buffer, self.index.decompose(self._offset(buffer, index)))
        name = self.w.declare("@llvm.prefetch.p0", "declare void @llvm.prefetch.p0(ptr, i32, i32, i32)")
        self.w.line(f"call void {name}(ptr {pointer.text}, i32 0, i32 {4 - level}, i32 1)")

    def load_word(self, buffer: Buffer, indices: Sequence[tuple[DimLike, ...]]) -> Value | None:
        """Neighbouring elements as one word of 16 or 32 bits, in each lane; None where they are no neighbours, or the
        words of neighbouring lanes are not."""
        first, count = self._offset(buffer, indices[0]), len(indices)
        if any(self._offset(buffer, index) - first != k for k, index in enumerate(indices)):
            return None
        position = self.index.decompose(first)
        dtype = dtypes.u16 if count * buffer.dtype.itemsize == 2 else dtypes.u32
        if position.is_uniform:
            return self._load_scalar(buffer, position, dtype)
        assert self.index.vector is not None
        if position.fixed_stride != count:
            return None
        return self._load_block(buffer, position, 0, self.index.vector.lanes, self.lane_mask(), dtype)

    def store(self, buffer: Buffer, index: tuple[DimLike, ...], value: Value) -> None:
        if buffer.space == "register":
            self._store_register(buffer, index, value)
            return
        if buffer.space == "thread":
            self._store_register(buffer, index[1:], value)
            return
        position = self.index.decompose(self._offset(buffer, index))
        if not position.is_uniform:
            self._store_vector(buffer, position, self._offset(buffer, index), value)
            return
        if value.lanes:
            raise ValueError(f"store {buffer.name}: every lane would write the same element")
        mask = self.lane_mask()
        if mask is None or self.index.vector is None or mask is self.index.vector.mask:
            self._store_scalar(buffer, position, value)
            return
        # Under a varying condition the element is written when any lane is on.
        pointer = self.address(buffer, position)
        self.masked_store(buffer, pointer, splat(self.w, value, 1), self._as_lane(self.any_lane(mask)))

    def _as_lane(self, condition: Value) -> Value:
        return splat(self.w, condition, 1)

    def _offset(self, buffer: Buffer, index: tuple[DimLike, ...]) -> DimLike:
        key = (buffer, index)
        found = self._offsets.get(key)
        if found is None:
            found = self._offsets[key] = buffer.offset(index)
        return found

    def address(self, buffer: Buffer, position: Position, extra: int = 0) -> Value:
        """The address of the uniform part of the position, `extra` elements further."""
        element = memory_type(buffer.dtype)
        pointer = self.pointers[buffer]
        for term in self.index.by_level(position.uniform):
            pointer = self._advance(element, pointer, term.text, term.level)
        constant = position.constant + extra
        if constant:
            pointer = self._advance(element, pointer, str(constant), 0)
        return pointer

    def _alignment(self, buffer: Buffer, position: Position) -> int:
        """What the address of a position is known to be a multiple of, in bytes."""
        size = buffer.dtype.itemsize
        known = self.aligned.get(buffer, size)
        if known <= size:
            return size
        step = gcd(position.constant, *(factor for factor, _ in position.uniform)) * size
        return min(known, step & -step) if step else known

    def _advance(self, element: str, pointer: Value, by: str, level: int) -> Value:
        return self.w.pure(
            f"getelementptr {element}, ptr {pointer.text}, i64 {by}",
            max(level, pointer.level),
            dtypes.i64,
            cheap=True,
        )

    def lane_mask(self) -> Value | None:
        """Which lanes are on: inside the loop's extent and under the guard."""
        loop = self.index.vector.mask if self.index.vector else None
        guard = self.guard.lanes
        if loop is None or guard is None:
            return guard if loop is None else loop
        return self.ops.instruction("and", [loop, guard], dtypes.bool_)

    def any_lane(self, mask: Value) -> Value:
        name = f"@llvm.vector.reduce.or.v{mask.lanes}i1"
        self.w.declare(name, f"declare i1 {name}({mask.type})")
        return self.w.pure(f"call i1 {name}({mask})", mask.level, dtypes.bool_)

    def _alias(self, buffer: Buffer) -> str:
        number = self.alias_class.get(buffer)
        if number is None or self.classes < 2:
            return ""
        return f", !alias.scope !{alias_scope_id(number)}, !noalias !{noalias_id(number, self.classes)}"

    def _read(self, buffer: Buffer, rhs: str, lanes: int, level: int, dtype: DType | None = None) -> Value:
        """A load, from operands of at most `level`."""
        memory = dtypes.u8 if buffer.dtype is dtypes.bool_ else dtype or buffer.dtype
        if buffer in self.read_only:
            return self.w.read(rhs, level, memory, lanes)
        return self.w.effect(rhs, memory, lanes)

    def _from_memory(self, buffer: Buffer, value: Value) -> Value:
        if buffer.dtype is dtypes.bool_:
            return self.ops.compare(
                "ne", value, Value("0" if not value.lanes else "zeroinitializer", dtypes.u8, value.lanes)
            )
        return value

    def _to_memory(self, buffer: Buffer, value: Value) -> Value:
        return self.ops.convert(value, dtypes.u8) if buffer.dtype is dtypes.bool_ else value

    def guarded_pointer(self, pointer: Value, condition: Value | None) -> Value:
        """The pointer, or one to zeros where the condition does not hold."""
        if condition is None:
            return pointer
        self.uses_zeros = True
        return self.w.pure(
            f"select {condition}, ptr {pointer.text}, ptr {self.zeros}",
            max(condition.level, pointer.level),
            dtypes.i64,
            cheap=True,
        )

    def _load_scalar(self, buffer: Buffer, position: Position, word: DType | None = None) -> Value:
        condition = self.guard.uniform
        if self.guard.lanes is not None:
            some = self.any_lane(self.guard.lanes)
            condition = (
                some if condition is None else self.ops.instruction("and", [condition, some], dtypes.bool_)
            )
        pointer = self.guarded_pointer(self.address(buffer, position), condition)
        align = self._alignment(buffer, position)
        dtype = word or buffer.dtype
        rhs = f"load {memory_type(dtype)}, ptr {pointer.text}, align {align}{self._alias(buffer)}"
        return self._from_memory(buffer, self._read(buffer, rhs, 0, pointer.level, dtype))

    def _load_vector(self, buffer: Buffer, position: Position, offset: DimLike) -> Value:
        assert self.index.vector is not None
        lanes = self.index.vector.lanes
        mask = self.lane_mask()
        stride = position.fixed_stride
        if stride == 1:
            return self._load_block(buffer, position, 0, lanes, mask)
        if stride == -1:
            mask = None if mask is None else self._reverse(mask)
            return self._reverse(self._load_block(buffer, position, -(lanes - 1), lanes, mask))
        if stride in _WIDE_STRIDES:
            return self._load_strided(buffer, position, stride, lanes, mask)
        return self._gather(buffer, position, offset, lanes, mask)

    def _load_block(
        self,
        buffer: Buffer,
        position: Position,
        extra: int,
        lanes: int,
        mask: Value | None,
        word: DType | None = None,
    ) -> Value:
        """Adjacent elements (or words of several), the first one `extra` elements from the position's start."""
        pointer = self.guarded_pointer(self.address(buffer, position, extra), self.guard.uniform)
        dtype = word or buffer.dtype
        vector = f"<{lanes} x {memory_type(dtype)}>"
        align = buffer.dtype.itemsize
        if mask is None:
            rhs = f"load {vector}, ptr {pointer.text}, align {align}{self._alias(buffer)}"
            return self._from_memory(buffer, self._read(buffer, rhs, lanes, pointer.level, dtype))
        name = f"@llvm.masked.load.v{lanes}{_mangled(dtype)}.p0"
        self.w.declare(name, f"declare {vector} {name}(ptr, i32 immarg, <{lanes} x i1>, {vector})")
        arguments = f"ptr {pointer.text}, i32 {align}, {mask}, {vector} zeroinitializer"
        rhs = f"call {vector} {name}({arguments}){self._alias(buffer)}"
        level = max(pointer.level, mask.level)
        return self._from_memory(buffer, self._read(buffer, rhs, lanes, level, dtype))

    def _reverse(self, value: Value) -> Value:
        order = ", ".join(f"i32 {i}" for i in reversed(range(value.lanes)))
        return self.w.pure(
            f"shufflevector {value}, {value.type} poison, <{value.lanes} x i32> <{order}>",
            value.level,
            value.dtype,
            value.lanes,
        )

    def _load_strided(
        self, buffer: Buffer, position: Position, stride: int, lanes: int, mask: Value | None
    ) -> Value:
        """Every `stride`-th element: whole vectors that cover them, none beyond the last, then shuffles."""
        starts = [lanes * k for k in range(stride - 1)] + [stride * (lanes - 1) + 1 - lanes]
        blocks = [
            self._load_block(buffer, position, start, lanes, self._spread(mask, stride, start, lanes))
            for start in starts
        ]
        result = blocks[0]
        for k, start in enumerate(starts):
            if k == 0:
                picks = [stride * i if stride * i < lanes else 0 for i in range(lanes)]
                other = blocks[0]
            else:
                other = blocks[k]
                picks = []
                for i in range(lanes):
                    element = stride * i
                    here = start <= element < start + lanes and element >= lanes * k
                    last = k == len(starts) - 1 and element >= start and element >= lanes * k
                    picks.append(lanes + element - start if here or last else i)
            order = ", ".join(f"i32 {p}" for p in picks)
            result = self.w.pure(
                f"shufflevector {result}, {other}, <{lanes} x i32> <{order}>".replace(
                    f"{other}, <", f"{other.type} {other.text}, <"
                ),
                max(result.level, other.level),
                buffer.dtype,
                lanes,
            )
        return result

    def _spread(self, mask: Value | None, stride: int, start: int, lanes: int) -> Value | None:
        """A mask of every `stride`-th element as one of the `lanes` adjacent elements from `start` on."""
        if mask is None:
            return None
        picks = [e // stride if e % stride == 0 else mask.lanes for e in range(start, start + lanes)]
        order = ", ".join(f"i32 {p}" for p in picks)
        return self.w.pure(
            f"shufflevector {mask}, {mask.type} zeroinitializer, <{lanes} x i32> <{order}>",
            mask.level,
            mask.dtype,
            lanes,
        )

    def interleaved(self, stores: Sequence[tuple[Buffer, tuple[DimLike, ...]]]) -> int:
        """How many of these stores, from the first on, together fill adjacent elements: as many as their
        stride, each one element after the one before. 1 where they do not."""
        (first, index), *_ = stores
        if self.index.vector is None or first.space == "register":
            return 1
        stride = self.index.decompose(self._offset(first, index)).fixed_stride
        if stride not in _WIDE_STRIDES or len(stores) < stride:
            return 1
        start = self._offset(first, index)
        alike = all(
            buffer is first and self._offset(buffer, where) - start == k
            for k, (buffer, where) in enumerate(stores[:stride])
        )
        return stride if alike else 1

    def store_interleaved(self, buffer: Buffer, index: tuple[DimLike, ...], values: Sequence[Value]) -> None:
        """values[k] to every len(values)-th element from `index` + k on: shuffled together, then stored as
        one block."""
        assert self.index.vector is not None
        lanes, stride = self.index.vector.lanes, len(values)
        wide = [self._to_memory(buffer, splat(self.w, v, lanes)) for v in values]
        pointer = self.address(buffer, self.index.decompose(self._offset(buffer, index)))
        mask = self.lane_mask()
        if mask is None and stride in (2, 4) and lanes * buffer.dtype.itemsize == 2 * _HALF_BYTES:
            for number, part in enumerate(self._interleave_halves(wide)):
                place = self._advance(memory_type(buffer.dtype), pointer, str(number * lanes), 0)
                align = buffer.dtype.itemsize
                self.w.line(f"store {part}, ptr {place.text}, align {align}{self._alias(buffer)}")
            return
        block = self._interleave(wide)
        if mask is None:
            align = buffer.dtype.itemsize
            self.w.line(f"store {block}, ptr {pointer.text}, align {align}{self._alias(buffer)}")
            return
        picks = ", ".join(f"i32 {e // stride}" for e in range(lanes * stride))
        repeated = self.w.pure(
            f"shufflevector {mask}, {mask.type} poison, <{lanes * stride} x i32> <{picks}>",
            mask.level,
            mask.dtype,
            lanes * stride,
        )
        self.masked_store(buffer, pointer, block, repeated)

    def _interleave(self, values: Sequence[Value]) -> Value:
        """One vector that takes an element from each in turn."""
        if len(values) == 3:
            a, b, c = values
            n = a.lanes
            pair = self._shuffle(a, b, list(range(2 * n)))
            third = self._shuffle(c, c, [*range(n), *[0] * n])
            return self._shuffle(pair, third, [k * n + i for i in range(n) for k in range(3)])
        if len(values) == 4:
            a, b, c, d = values
            return self._interleave([self._interleave([a, c]), self._interleave([b, d])])
        a, b = values
        return self._shuffle(a, b, [k * a.lanes + i for i in range(a.lanes) for k in range(2)])

    def _interleave_halves(self, values: Sequence[Value]) -> list[Value]:
        """The same for two or four vectors of 256 bits, as as many: within their halves first, which AVX2 shuffles at
        little cost, then halves are joined. LLVM makes 80 instructions of four at once; these are 12."""
        lanes = values[0].lanes
        half = lanes // 2

        def within(a: Value, b: Value, size: int, second: bool) -> Value:
            """Pieces of `size` lanes of a and of b in turn, from the first or second part of each half."""
            first = half // 2 if second else 0
            picks = [
                start + first + piece + other + lane
                for start in (0, half)
                for piece in range(0, half // 2, size)
                for other in (0, lanes)
                for lane in range(size)
            ]
            return self._shuffle(a, b, picks)

        parts = [within(values[0], values[1], 1, second) for second in (False, True)]
        if len(values) == 4:
            others = [within(values[2], values[3], 1, second) for second in (False, True)]
            pairs = list(zip(parts, others, strict=True))
            if half == 2:
                parts = [part for pair in pairs for part in pair]
            else:
                parts = [within(*pair, 2, second) for pair in pairs for second in (False, True)]
        return [
            self._shuffle(a, b, [*range(start, start + half), *range(lanes + start, lanes + start + half)])
            for start in (0, half)
            for a, b in zip(parts[::2], parts[1::2], strict=True)
        ]

    def _shuffle(self, a: Value, b: Value, picks: Sequence[int]) -> Value:
        order = ", ".join(f"i32 {p}" for p in picks)
        level = max(a.level, b.level)
        return self.w.pure(
            f"shufflevector {a}, {b}, <{len(picks)} x i32> <{order}>", level, a.dtype, len(picks)
        )

    def _pointers(self, buffer: Buffer, position: Position, offset: DimLike, lanes: int) -> Value:
        dtype = dtypes.i32 if fits_i32(offset) else dtypes.i64
        # The uniform part goes into the base address, so that the vector holds only what differs between
        # lanes.
        base = self.address(buffer, position)
        varying = Position(0, [], position.stride, position.uniform_strides, position.varying)
        where = self.index.vector_offset(varying, dtype)
        return self.w.pure(
            f"getelementptr {memory_type(buffer.dtype)}, ptr {base.text}, {where}",
            max(base.level, where.level),
            dtypes.i64,
            lanes,
            cheap=True,
        )

    def _all_lanes(self, mask: Value | None, lanes: int) -> Value:
        condition = vector_const([True] * lanes, dtypes.bool_) if mask is None else mask
        if self.guard.uniform is not None:
            uniform = splat(self.w, self.guard.uniform, lanes)
            condition = (
                uniform if mask is None else self.ops.instruction("and", [mask, uniform], dtypes.bool_)
            )
        return condition

    def _gather(
        self, buffer: Buffer, position: Position, offset: DimLike, lanes: int, mask: Value | None
    ) -> Value:
        pointers = self._pointers(buffer, position, offset, lanes)
        condition = self._all_lanes(mask, lanes)
        vector = f"<{lanes} x {memory_type(buffer.dtype)}>"
        name = f"@llvm.masked.gather.v{lanes}{_mangled(buffer.dtype)}.v{lanes}p0"
        self.w.declare(
            name, f"declare {vector} {name}(<{lanes} x ptr>, i32 immarg, <{lanes} x i1>, {vector})"
        )
        rhs = (
            f"call {vector} {name}(<{lanes} x ptr> {pointers.text}, i32 {buffer.dtype.itemsize}, {condition}, "
            f"{vector} zeroinitializer){self._alias(buffer)}"
        )
        return self._from_memory(buffer, self._read(buffer, rhs, lanes, max(pointers.level, condition.level)))

    def _store_scalar(self, buffer: Buffer, position: Position, value: Value) -> None:
        pointer = self.address(buffer, position)
        stored = self._to_memory(buffer, value)
        align = self._alignment(buffer, position)
        self.w.line(f"store {stored}, ptr {pointer.text}, align {align}{self._alias(buffer)}")

    def _store_vector(self, buffer: Buffer, position: Position, offset: DimLike, value: Value) -> None:
        assert self.index.vector is not None
        lanes = self.index.vector.lanes
        value = splat(self.w, value, lanes)
        mask = self.lane_mask()
        stride = position.fixed_stride
        if stride in (1, -1):
            extra = 0
            if stride == -1:
                extra, value = -(lanes - 1), self._reverse(value)
                mask = None if mask is None else self._reverse(mask)
            pointer = self.address(buffer, position, extra)
            if mask is not None:
                self.masked_store(buffer, pointer, value, mask)
                return
            stored = self._to_memory(buffer, value)
            align = self._alignment(buffer, position)
            whole = min(self.aligned.get(buffer, 0), lanes * buffer.dtype.itemsize)
            past = buffer in self.streams and stride == 1 and align >= whole
            hint = f", {NONTEMPORAL}" if past else ""
            align = align if past else buffer.dtype.itemsize
            self.w.line(f"store {stored}, ptr {pointer.text}, align {align}{self._alias(buffer)}{hint}")
            return
        pointers = self._pointers(buffer, position, offset, lanes)
        stored = self._to_memory(buffer, value)
        name = f"@llvm.masked.scatter.v{lanes}{_mangled(buffer.dtype)}.v{lanes}p0"
        self.w.declare(
            name, f"declare void {name}({stored.type}, <{lanes} x ptr>, i32 immarg, <{lanes} x i1>)"
        )
        self.w.line(
            f"call void {name}({stored}, <{lanes} x ptr> {pointers.text}, i32 {buffer.dtype.itemsize}, "
            f"{self._all_lanes(mask, lanes)}){self._alias(buffer)}"
        )

    def masked_store(self, buffer: Buffer, pointer: Value, value: Value, mask: Value) -> None:
        stored = self._to_memory(buffer, value)
        lanes = _lanes_on(mask)
        if lanes is not None and len(lanes) == 1:
            # LLVM 22 makes of a truncation stored under such a mask a store of the wide number, past the element's end.
            self._store_piece(buffer, pointer, stored, lanes[0], 1)
            return
        if lanes is not None and self.ops.target.isa != "avx512" and lanes == list(range(len(lanes))):
            # Stores under masks are slow where there are no mask registers: AVX2's takes twelve cycles on AMD Zen 3.
            start = 0
            while start < len(lanes):
                size = 1 << ((len(lanes) - start).bit_length() - 1)
                self._store_piece(buffer, pointer, stored, start, size)
                start += size
            return
        name = f"@llvm.masked.store.v{value.lanes}{_mangled(buffer.dtype)}.p0"
        self.w.declare(name, f"declare void {name}({stored.type}, ptr, i32 immarg, {mask.type})")
        self.w.line(
            f"call void {name}({stored}, ptr {pointer.text}, i32 {buffer.dtype.itemsize}, {mask}){self._alias(buffer)}"
        )

    def _store_piece(self, buffer: Buffer, pointer: Value, stored: Value, first: int, count: int) -> None:
        """So many lanes of what is stored, from `first` on."""
        if count == 1:
            piece = self.w.pure(f"extractelement {stored}, i64 {first}", stored.level, stored.dtype)
        else:
            picks = ", ".join(f"i32 {i}" for i in range(first, first + count))
            piece = self.w.pure(
                f"shufflevector {stored}, {stored.type} poison, <{count} x i32> <{picks}>",
                stored.level,
                stored.dtype,
                count,
            )
        place = self._advance(memory_type(buffer.dtype), pointer, str(first), 0) if first else pointer
        align = buffer.dtype.itemsize
        self.w.line(f"store {piece}, ptr {place.text}, align {align}{self._alias(buffer)}")

    def _slot(self, buffer: Buffer, index: tuple[DimLike, ...]) -> tuple[str, DType, int, int | None]:
        """The variable that holds an element: its name, dtype, lanes, and the lane when a single one is
        meant."""
        lane: int | None = None
        whole = buffer in self.vector_registers
        numbers: list[int] = []
        for axis, i in enumerate(index):
            position = self.index.decompose(i)
            if whole and axis == len(index) - 1:
                if (
                    position.stride == 1
                    and position.fixed_stride == 1
                    and not position.uniform
                    and not position.constant
                ):
                    break
                lane = self._register_constant(buffer, i, position)
                break
            numbers.append(self._register_constant(buffer, i, position))
        key = (buffer, tuple(numbers))
        found = self._registers.get(key)
        if found is None:
            lanes = int(buffer.shape[-1]) if whole else 0
            name = f"%{self.w.fresh('r')}"
            self.w.entry.append(f"{name} = alloca {type_of(buffer.dtype, lanes)}")
            found = self._registers[key] = (name, buffer.dtype, lanes)
        return *found, lane

    def _register_constant(self, buffer: Buffer, i: DimLike, position: Position) -> int:
        if not position.is_uniform or position.uniform:
            raise ValueError(f"register buffer {buffer.name}: index {i} is not a constant after unrolling")
        return position.constant

    def _load_register(self, buffer: Buffer, index: tuple[DimLike, ...]) -> Value:
        name, dtype, lanes, lane = self._slot(buffer, index)
        value = self.w.effect(f"load {type_of(dtype, lanes)}, ptr {name}", dtype, lanes)
        if lane is None:
            return value
        return self.w.effect(f"extractelement {value}, i64 {lane}", dtype)

    def _store_register(self, buffer: Buffer, index: tuple[DimLike, ...], value: Value) -> None:
        name, dtype, lanes, lane = self._slot(buffer, index)
        if lane is not None:
            old = self.w.effect(f"load {type_of(dtype, lanes)}, ptr {name}", dtype, lanes)
            value = self.w.effect(f"insertelement {old}, {value}, i64 {lane}", dtype, lanes)
        elif lanes:
            value = splat(self.w, value, lanes)
        elif value.lanes:
            raise ValueError(f"store {buffer.name}: every lane would write the same register")
        mask = self.lane_mask()
        if mask is not None and lanes == mask.lanes and lane is None:
            old = self.w.effect(f"load {type_of(dtype, lanes)}, ptr {name}", dtype, lanes)
            value = self.ops.select(mask, value, old)
        elif mask is not None and self.index.vector is not None and mask is not self.index.vector.mask:
            old = self.w.effect(f"load {type_of(dtype, lanes)}, ptr {name}", dtype, lanes)
            value = self.ops.select(self.any_lane(mask), value, old)
        self.w.line(f"store {value}, ptr {name}")


def _lanes_on(mask: Value) -> list[int] | None:
    """The lanes that a constant mask has on; None for other masks."""
    if not mask.text.startswith("<"):
        return None
    return [number for number, lane in enumerate(mask.text[1:-1].split(", ")) if lane.endswith("true")]


def _mangled(dtype: DType) -> str:
    text = "i8" if dtype is dtypes.bool_ else element_type(dtype)
    return {"half": "f16", "float": "f32", "double": "f64"}.get(text, text)
