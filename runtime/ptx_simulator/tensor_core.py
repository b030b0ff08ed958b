"""Matrix multiplication by a warp, and its loads from shared memory (PTX ISA, "Matrix Multiply-Accumulate Operation
using mma Instruction", "ldmatrix", "stmatrix").

Which thread holds which element is given by the sections "Matrix Fragments for mma.m16n8k..."; here once, as index
tables. The products are exact in float64; their sum with the accumulator is rounded once (the device's own order and
rounding are left open).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from . import access
from .decode import Decoder, Modifiers, instruction, unknown
from .errors import DivergentBarrier
from .executor import Frame, Registers
from .loads import address_value, read_address
from .rounding import bf16_to_f32, canonical
from .syntax import Instruction, Operand, Vector
from .types import BF16, F16, F32, F64, KINDS, U16, U32, Array

_B32 = KINDS["b32"]
_LANE = np.arange(32)
_GROUP, _MEMBER = _LANE >> 2, _LANE & 3


@dataclass(frozen=True)
class Fragment:
    """How a matrix lies in a warp's registers: element i of lane l is at [rows[l, i], columns[l, i]]."""

    shape: tuple[int, int]
    rows: Array
    columns: Array

    @property
    def places(self) -> Array:
        """The place of each lane's elements in the matrix, flat."""
        return (self.rows * self.shape[1] + self.columns).reshape(-1)


def _fragment(shape: tuple[int, int], places: Sequence[tuple[Array, Array]]) -> Fragment:
    return Fragment(shape, np.stack([r for r, _ in places], 1), np.stack([c for _, c in places], 1))


@cache
def fragment_a(rows: int, depth: int, per_register: int) -> Fragment:
    """A of m16n8k`depth` (and m8n8k4): registers alternate between the upper and the lower 8 rows, then go on to the
    right; `per_register` elements lie side by side in one."""
    halves = rows // 8
    width = 4 * per_register
    return _fragment(
        (rows, depth),
        [
            (_GROUP + 8 * half, _MEMBER * per_register + part * width + i)
            for part in range(depth // width)
            for half in range(halves)
            for i in range(per_register)
        ],
    )


@cache
def fragment_b(depth: int, per_register: int) -> Fragment:
    """B, `depth` by 8: a column for each group of four lanes."""
    width = 4 * per_register
    return _fragment(
        (depth, 8),
        [
            (_MEMBER * per_register + part * width + i, _GROUP)
            for part in range(depth // width)
            for i in range(per_register)
        ],
    )


@cache
def fragment_c(rows: int) -> Fragment:
    """C and D: pairs of columns, the upper 8 rows first."""
    return _fragment(
        (rows, 8), [(_GROUP + 8 * half, _MEMBER * 2 + i) for half in range(rows // 8) for i in range(2)]
    )


# Shapes that there are for each element type of A and B.
_SHAPES = {
    "f16": ((16, 8), (16, 16)),
    "bf16": ((16, 8), (16, 16)),
    "tf32": ((16, 4), (16, 8)),
    "s8": ((16, 16), (16, 32)),
    "u8": ((16, 16), (16, 32)),
    "f64": ((8, 4), (16, 4), (16, 8), (16, 16)),
}


def warps(f: Frame, item: Instruction) -> int:
    """How many warps the frame has; DivergentBarrier unless all are whole."""
    lanes = f.lanes
    whole = f.size % 32 == 0
    if whole and not f.is_whole:
        first = lanes.reshape(-1, 32)[:, 0]
        whole = bool(
            ((lanes.reshape(-1, 32)[:, 31] - first == 31) & (first % f.batch.threads % 32 == 0)).all()
        )
    if not whole or f.batch.threads % 32:
        raise f.fault(
            DivergentBarrier, 0, item, f"divergent {item.name}: not all threads of the warp take part"
        )
    return f.size // 32


def _elements(words: Array, name: str) -> Array:
    """Registers of a fragment, [warps, 32, registers] bits, as float64 (int64) numbers [warps, 32 * elements]."""
    count = len(words)
    if name == "f64":
        return words.view(F64).reshape(count, -1)
    if name == "tf32":
        return (words & np.uint32(0xFFFFE000)).view(F32).astype(F64).reshape(count, -1)
    if name in ("s8", "u8"):
        return words.view(np.int8 if name == "s8" else np.uint8).astype(np.int64).reshape(count, -1)
    halves = words.view(F16 if name == "f16" else BF16)
    return (bf16_to_f32(halves) if name == "bf16" else halves).astype(F64).reshape(count, -1)


def _matrix(elements: Array, fragment: Fragment) -> Array:
    matrix = np.empty((len(elements), fragment.shape[0] * fragment.shape[1]), elements.dtype)
    matrix[:, fragment.places] = elements
    return matrix.reshape(-1, *fragment.shape)


def stacked(r: Registers, f: Frame, numbers: Sequence[int], storage: np.dtype, count: int) -> Array:
    """Registers of whole warps as [warps, 32, registers]."""
    columns = [np.broadcast_to(r[n].view(storage), f.size) for n in numbers]
    return np.stack(columns, 1).reshape(count, 32, len(numbers))


@instruction("mma")
def mma(d: Decoder, item: Instruction) -> None:
    """`mma.sync.aligned.m16n8kK.row.col.d.a.b.c d, a, b, c`: d = a b + c."""
    words = Modifiers(item)
    words.need("sync")
    words.need("aligned")
    shape = words.words.pop(0)
    words.need("row")
    words.need("col")
    saturates = words.flag("satfinite")
    if len(words.words) != 4:
        raise unknown(item)
    to_name, a_name, b_name, c_name = words.words
    sizes = {f"m{m}n8k{k}": (m, k) for m, k in _SHAPES.get(a_name, ())}
    mixed = {a_name, b_name} == {"s8", "u8"}
    if shape not in sizes or (a_name != b_name and not mixed) or saturates or to_name != c_name:
        raise unknown(item)
    rows, depth = sizes[shape]
    accumulators = {"f16": ("f16", "f32"), "s8": ("s32",), "u8": ("s32",), "f64": ("f64",)}.get(
        a_name, ("f32",)
    )
    if to_name not in accumulators:
        raise unknown(item)
    a_bits, b_bits, c_bits = KINDS[a_name].bits, KINDS[b_name].bits, KINDS[to_name].bits
    register = KINDS["b64" if a_name == "f64" else "b32"]
    width = register.bits
    a_map, b_map = fragment_a(rows, depth, width // a_bits), fragment_b(depth, width // b_bits)
    c_map = fragment_c(rows)
    vectors = [x.elements for x in item.operands if isinstance(x, Vector)]
    wanted = [c_map.rows.shape[1] * c_bits // width] + [
        m.rows.shape[1] * bits // width for m, bits in ((a_map, a_bits), (b_map, b_bits), (c_map, c_bits))
    ]
    if [len(v) for v in vectors] != wanted:
        raise unknown(item, f"the fragments have {wanted} registers")
    a, b, c = ([d.source(x, register) for x in v] for v in vectors[1:])
    to = [d.target(x, register) for x in vectors[0]]
    result = KINDS[to_name].view

    def step(r: Registers, f: Frame) -> None:
        count = warps(f, item)
        left, right, start = (stacked(r, f, numbers, register.storage, count) for numbers in (a, b, c))
        left_matrix = _matrix(_elements(left, a_name), a_map)
        right_matrix = _matrix(_elements(right, b_name), b_map)
        begin = start.view(result).reshape(count, -1)
        product = np.matmul(left_matrix, right_matrix).reshape(count, -1)[:, c_map.places]
        total = product + begin.astype(product.dtype)
        finished = canonical(total.astype(result)) if result.kind == "f" else total.astype(result)
        packed = np.ascontiguousarray(finished).reshape(f.size, -1).view(register.storage)
        for number, target in enumerate(to):
            r[target] = np.ascontiguousarray(packed[:, number])

    d.emit(step)


# Loads and stores of 8 by 8 matrices of 16-bit elements.


def _matrix_operands(d: Decoder, item: Instruction) -> tuple[int, bool]:
    words = Modifiers(item)
    words.need("sync")
    words.need("aligned")
    words.need("m8n8")
    count = int(words.need("x1", "x2", "x4")[1])
    transposed = words.flag("trans")
    if not words.flag("shared", "shared::cta") or words.kind().name != "b16":
        raise unknown(item)
    words.done()
    return count, transposed


def _registers(operand: Operand, count: int, item: Instruction) -> tuple[Operand, ...]:
    found = operand.elements if isinstance(operand, Vector) else (operand,)
    if len(found) != count:
        raise unknown(item, f"takes {count} registers")
    return found


def _row_threads(f: Frame, count: int, matrix: int) -> tuple[Frame, Array]:
    """The threads that give the addresses of a matrix's rows, and their places in the frame."""
    places = (np.arange(count)[:, None] * 32 + np.arange(8 * matrix, 8 * matrix + 8)).reshape(-1)
    return Frame(f.batch, [], f.lanes[places], f.block, f.stop, None, None), places


@instruction("ldmatrix")
def ldmatrix(d: Decoder, item: Instruction) -> None:
    """Each of 8 threads gives the address of a row of 16 bytes; lane l gets elements 2(l % 4) and the next of row
    l / 4, or of column l / 4 with `.trans`."""
    matrices, transposed = _matrix_operands(d, item)
    results = _registers(item.operands[0], matrices, item)
    number, offset = read_address(d, item.operands[1], "shared")
    to = [d.target(x, _B32) for x in results]

    def step(r: Registers, f: Frame) -> None:
        count = warps(f, item)
        addresses = np.broadcast_to(address_value(r, number, offset), f.size)
        for matrix, target in enumerate(to):
            givers, places = _row_threads(f, count, matrix)
            rows = np.stack(access.read(givers, item, "shared", addresses[places], 4, 4), 1).reshape(
                count, 8, 4
            )
            if transposed:
                halves = np.ascontiguousarray(rows).view(U16).reshape(count, 8, 8)
                low = halves[:, 2 * _MEMBER, _GROUP].astype(U32)
                high = halves[:, 2 * _MEMBER + 1, _GROUP].astype(U32)
                r[target] = (low | high << np.uint32(16)).reshape(-1)
            else:
                r[target] = rows[:, _GROUP, _MEMBER].reshape(-1)

    d.emit(step)


@instruction("stmatrix")
def stmatrix(d: Decoder, item: Instruction) -> None:
    """`ldmatrix` the other way."""
    matrices, transposed = _matrix_operands(d, item)
    number, offset = read_address(d, item.operands[0], "shared")
    sources = [d.source(x, _B32) for x in _registers(item.operands[1], matrices, item)]

    def step(r: Registers, f: Frame) -> None:
        count = warps(f, item)
        addresses = np.broadcast_to(address_value(r, number, offset), f.size)
        for matrix, source in enumerate(sources):
            givers, places = _row_threads(f, count, matrix)
            pieces = np.broadcast_to(r[source].view(U32), f.size).reshape(count, 32)
            halves = np.empty((count, 8, 8), U16)
            low, high = (pieces & np.uint32(0xFFFF)).astype(U16), (pieces >> np.uint32(16)).astype(U16)
            if transposed:
                halves[:, 2 * _MEMBER, _GROUP] = low
                halves[:, 2 * _MEMBER + 1, _GROUP] = high
            else:
                halves[:, _GROUP, 2 * _MEMBER] = low
                halves[:, _GROUP, 2 * _MEMBER + 1] = high
            words = halves.view(U32).reshape(-1, 4)
            values = [np.ascontiguousarray(words[:, k]) for k in range(4)]
            access.write(givers, item, "shared", addresses[places], 4, values)

    d.emit(step)
