"""Matrix multiplication by four warps, from shared memory (PTX ISA, "Asynchronous Warpgroup Level Matrix Instructions":
wgmma.mma_async, "Shared Memory Matrix Layout", "Matrix Descriptor Format").

Operands in shared memory are K-major: rows of 16-byte pieces, 8 rows to a core matrix. Without swizzling a core matrix
is contiguous, core matrices are `leading` bytes apart along K and `stride` bytes along M or N. With 32, 64 or 128 bytes
of swizzling a row of that many bytes is contiguous, 8 rows are followed by the next 8 `stride` bytes later, and bits 4-6
of an address are XORed with bits 7-9. A transposed operand of 16-bit elements has 8 neighbouring rows in a piece, places
along K below each other; 64 rows are followed by the next 64 `leading` bytes later, 8 places along K by the next 8
`stride` bytes later (128 bytes of swizzling only).

A product takes place at once, but its accumulator is full of NaN until `wgmma.wait_group` waits for it, but for products
that add to it; and who writes to its operands in shared memory before that gets a `Race`.
"""

from __future__ import annotations

import re

import numpy as np

from . import access
from .decode import Decoder, Modifiers, instruction, unknown
from .errors import DivergentBarrier
from .executor import Frame, Registers
from .products import in_flight
from .rounding import bf16_to_f32, canonical
from .syntax import Immediate, Instruction, Vector
from .tensor_core import fragment_a, stacked
from .types import BF16, F16, F32, F64, KINDS, U32, U64, Array

_THREADS = 128
_ROWS = 64
_SWIZZLED = {1: 128, 2: 64, 3: 32}  # bytes of a row, by the descriptor's mode


def _warpgroups(f: Frame, item: Instruction) -> int:
    whole = f.size % _THREADS == 0
    if whole:
        rows = f.lanes.reshape(-1, _THREADS)
        whole = bool(
            (rows[:, -1] - rows[:, 0] == _THREADS - 1).all() and (f.threads[::_THREADS] % _THREADS == 0).all()
        )
    if not whole:
        raise f.fault(
            DivergentBarrier,
            0,
            item,
            f"divergent {item.name}: not all 128 threads of the warpgroup take part",
        )
    return f.size // _THREADS


def _piece_addresses(descriptor: int, rows: int) -> Array:
    """The addresses of the 2 pieces of 16 bytes of each row."""
    start = (descriptor & 0x3FFF) << 4
    leading, stride = (descriptor >> 16 & 0x3FFF) << 4, (descriptor >> 32 & 0x3FFF) << 4
    row, piece = np.divmod(np.arange(2 * rows), 2)
    mode = descriptor >> 62
    if mode == 0:
        return start + row % 8 * 16 + row // 8 * stride + piece * leading
    width = _SWIZZLED[mode]
    place = start + row % 8 * width + row // 8 * stride + piece * 16
    mask = width // 16 - 1
    return place ^ ((place >> 7 & mask) << 4)


def _turned_addresses(descriptor: int, rows: int) -> Array:
    """The addresses of the pieces of 8 rows, for each of 16 places along K."""
    start = (descriptor & 0x3FFF) << 4
    leading, stride = (descriptor >> 16 & 0x3FFF) << 4, (descriptor >> 32 & 0x3FFF) << 4
    depth, piece = np.divmod(np.arange(16 * rows // 8), rows // 8)
    place = start + piece // 8 * leading + piece % 8 * 16 + depth // 8 * stride + depth % 8 * 128
    return place ^ ((place >> 7 & 7) << 4)


def _load(
    f: Frame, item: Instruction, descriptors: Array, rows: int, turned: bool, used: list[Array]
) -> Array:
    """The words of an operand of each warpgroup, [warpgroups, rows, 8]; `used` learns where they were."""
    groups = len(descriptors)
    if turned and any(int(x) >> 62 != 1 for x in descriptors):
        raise unknown(item, "transposed operands are swizzled by 128 bytes")
    where = _turned_addresses if turned else _piece_addresses
    addresses = np.stack([where(int(x), rows) for x in descriptors])
    used.append((addresses + (f.slots[::_THREADS] * f.batch.shared_stride)[:, None]).reshape(-1))
    found = np.empty((groups, 2 * rows, 4), U32)
    lanes = np.arange(groups)[:, None] * _THREADS
    for first in range(0, 2 * rows, _THREADS):
        count = min(_THREADS, 2 * rows - first)
        chosen = (lanes + np.arange(count)).reshape(-1)
        readers = Frame(f.batch, [], f.lanes[chosen], f.block, f.stop, None, None)
        here = addresses[:, first : first + count].reshape(-1).astype(np.uint64)
        words = np.stack(access.read(readers, item, "shared", here, 4, 4), 1)
        found[:, first : first + count] = words.reshape(groups, count, 4)
    if turned:
        halves = np.ascontiguousarray(found).view(np.uint16).reshape(groups, 16, rows)
        return np.ascontiguousarray(halves.transpose(0, 2, 1)).view(U32)
    return found.reshape(groups, rows, 8)


def _numbers(words: Array, name: str) -> Array:
    """Words as float64, along the last axis."""
    words = np.ascontiguousarray(words)
    if name == "tf32":
        return (words & np.uint32(0xFFFFE000)).view(F32).astype(F64)
    halves = words.view(F16 if name == "f16" else BF16)
    return (bf16_to_f32(halves) if name == "bf16" else halves).astype(F64)


@instruction("wgmma.mma_async")
def wgmma(d: Decoder, item: Instruction) -> None:
    """`d, a, b, scale_d, scale_a, scale_b{, transpose_a, transpose_b}`: d = a b + (scale_d ? d : 0)."""
    words = Modifiers(item, 2)
    words.need("sync")
    words.need("aligned")
    shape = re.fullmatch(r"m64n(\d+)k(\d+)", words.words.pop(0))
    if shape is None or len(words.words) != 3:
        raise unknown(item)
    to_name, name, other = words.words
    columns, depth = int(shape[1]), int(shape[2])
    depths = {"f16": 16, "bf16": 16, "tf32": 8}
    if (
        name != other
        or depths.get(name) != depth
        or to_name not in ("f32", "f16")
        or columns % 8
        or columns > 256
    ):
        raise unknown(item)
    if to_name == "f16" and name != "f16":
        raise unknown(item)
    result, left, right, scale, *rest = item.operands
    if not isinstance(result, Vector) or not all(isinstance(x, Immediate) for x in rest):
        raise unknown(item)
    signs = [int(x.value) for x in rest if isinstance(x, Immediate)]
    turned = [bool(x) for x in signs[2:]]
    if isinstance(left, Vector):
        turned.insert(0, False)
    turned += [False] * (2 - len(turned))
    if any(turned) and name == "tf32":
        raise unknown(item, "transposed operands have 16 bits")
    per_register = 1 if to_name == "f32" else 2
    if len(result.elements) != columns // 2 // per_register:
        raise unknown(item, f"the accumulator has {columns // 2 // per_register} registers")
    b32 = KINDS["b32"]
    sources = [d.source(x, b32) for x in result.elements]
    a = (
        [d.source(x, b32) for x in left.elements]
        if isinstance(left, Vector)
        else d.source(left, KINDS["b64"])
    )
    b = d.source(right, KINDS["b64"])
    keeps, keeps_negated = d.predicate(scale)
    to = [d.target(x, b32) for x in result.elements]
    i = np.arange(columns // 2)
    lane = np.arange(_THREADS)[:, None]
    row = lane // 32 * 16 + lane % 32 // 4 + 8 * (i // 2 % 2)
    column = 8 * (i // 4) + lane % 4 * 2 + i % 2
    view = KINDS[to_name].view
    fragment = fragment_a(16, depth, 2 if depth == 16 else 1)

    def descriptors(r: Registers, f: Frame, number: int) -> Array:
        return np.broadcast_to(r[number].view(U64), f.size)[::_THREADS]

    def matrix_a(r: Registers, f: Frame, groups: int, used: list[Array]) -> Array:
        if isinstance(a, int):
            return _numbers(_load(f, item, descriptors(r, f, a), _ROWS, turned[0], used), name)
        held = _numbers(stacked(r, f, a, U32, 4 * groups), name).reshape(4 * groups, -1)
        matrix = np.empty((4 * groups, 16 * depth))
        matrix[:, fragment.places] = held
        return matrix.reshape(groups, _ROWS, depth)

    def step(r: Registers, f: Frame) -> None:
        groups = _warpgroups(f, item)
        used: list[Array] = []
        flight = in_flight(f)
        right = _numbers(_load(f, item, descriptors(r, f, b), columns, turned[1], used), name) * signs[1]
        product = matrix_a(r, f, groups, used) * signs[0] @ right.transpose(0, 2, 1)
        found = product[:, row, column].reshape(f.size, -1)
        start = [flight.accumulator(f, item, r, n) for n in sources]
        held = np.stack([np.broadcast_to(x.view(U32), f.size) for x in start], 1).view(view).astype(F64)
        kept = np.broadcast_to(r[keeps] ^ keeps_negated, f.size)[:, None]
        total = canonical((found + np.where(kept, held, 0.0)).astype(view))
        packed = np.ascontiguousarray(total).view(U32)
        values = {target: np.ascontiguousarray(packed[:, n]) for n, target in enumerate(to)}
        flight.begin(f, r, values, np.unique(np.concatenate(used)))

    d.emit(step)


@instruction("wgmma.fence", "wgmma.commit_group", "wgmma.wait_group")
def wgmma_order(d: Decoder, item: Instruction) -> None:
    name = item.opcode[1]
    left = 0
    if name == "wait_group":
        operand = item.operands[0]
        if not isinstance(operand, Immediate):
            raise unknown(item, "the number of groups must be a constant")
        left = int(operand.value)

    def step(r: Registers, f: Frame) -> None:
        flight = in_flight(f)
        if name == "fence":
            flight.fenced = (r, list(r))
        elif name == "commit_group":
            flight.commit(r)
        else:
            flight.wait(r, left)

    d.emit(step)
