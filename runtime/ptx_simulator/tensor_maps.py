"""Copies of boxes of arrays that a tensor map describes (PTX ISA, "Tensors", "cp.async.bulk.tensor").

A tensor map's 128 bytes are the driver's secret; here they hold a `BoundMap`. Lines of 128 bytes are swizzled: bits 4-6
of the address in shared memory are XORed with bits 7-9. What of a box lies outside of the array is zeros.
"""

from __future__ import annotations

import struct

import numpy as np

from ...codegen.target import TENSOR_MAP_ALIGNMENT, TENSOR_MAP_BYTES
from ..gpu.tensor_maps import BoundMap
from . import access, mbarriers
from .convert import to_tf32
from .decode import PARAMETER_WINDOW, Decoder, Modifiers, instruction, unknown
from .errors import LaunchError, Misaligned, PtxError
from .executor import Frame, Registers
from .loads import address_value, read_address
from .syntax import Address, Instruction, Register
from .types import F32, KINDS, U32, Array

_TYPES = {"f16": 2, "bf16": 2, "f32": 4}
_LAYOUT = "<QII5Q4Q5I"
_MOST = 256  # elements of a box along a dim
_LINE = 128


def encoded(seen: BoundMap) -> Array:
    """The map as bytes; LaunchError for what cuTensorMapEncodeTiled refuses."""
    rank, size = len(seen.sizes), _TYPES[seen.dtype]
    wrong = (
        not 1 <= rank <= 5
        or seen.address % 16
        or any(s % 16 or not 0 <= s < 1 << 40 for s in seen.strides)
        or not all(0 < s <= 1 << 32 for s in seen.sizes)
        or not all(0 < b <= _MOST for b in seen.box)
        or seen.box[-1] * size > _LINE
        or seen.box[-1] * size % 16
    )
    if wrong:
        raise LaunchError(f"no tensor map: {seen}")
    number = list(_TYPES).index(seen.dtype)
    sizes, strides, box = ([*x, *[0] * n][:n] for x, n in ((seen.sizes, 5), (seen.strides, 4), (seen.box, 5)))
    packed = struct.pack(_LAYOUT, seen.address, rank, number, *sizes, *strides, *box)
    return np.frombuffer(packed.ljust(TENSOR_MAP_BYTES, b"\0"), np.uint8)


def _decoded(data: bytes) -> BoundMap:
    address, rank, number, *rest = struct.unpack(_LAYOUT, data[: struct.calcsize(_LAYOUT)])
    sizes, strides, box = rest[:5], rest[5:9], rest[9:]
    return BoundMap(
        address, list(_TYPES)[number], tuple(sizes[:rank]), tuple(strides[: rank - 1]), tuple(box[:rank])
    )


@instruction("cp.async.bulk.tensor")
def tensor_copy(d: Decoder, item: Instruction) -> None:
    """`cp.async.bulk.tensor.Nd.shared::cluster.global{.tile}.mbarrier::complete_tx::bytes [to], [map, {x, ...}],
    [mbarrier]`, coordinates innermost first. The bytes arrive as those of `cp.async.bulk` do."""
    words = Modifiers(item, 4)
    rank = int(words.need("1d", "2d", "3d", "4d", "5d")[0])
    if not (words.flag("shared::cluster", "shared::cta") and words.flag("global")):
        raise unknown(item)
    words.flag("tile")
    if not words.flag("mbarrier::complete_tx::bytes"):
        raise unknown(item)
    words.done()
    to, to_offset = read_address(d, item.operands[0], "shared")
    place, place_offset = read_address(d, item.operands[2], "shared")
    where = item.operands[1]
    if not isinstance(where, Address) or not isinstance(where.base, Register) or where.offset:
        raise PtxError(item.line, f"expected [map, {{coordinates}}]: {item}")
    mapped = d.source(where.base, KINDS["u64"])
    coordinates = [d.source(x, KINDS["s32"]) for x in where.coordinates]
    if len(coordinates) != rank:
        raise unknown(item, f"{rank} coordinates")

    def step(r: Registers, f: Frame) -> None:
        targets = np.broadcast_to(address_value(r, to, to_offset), f.size)
        marks = mbarriers.positions(f, item, address_value(r, place, place_offset))
        maps = np.broadcast_to(r[mapped].view(np.uint64), f.size)
        starts = [np.broadcast_to(r[n].view(np.int32), f.size) for n in reversed(coordinates)]
        for lane in range(f.size):
            seen = _map_at(f, item, int(maps[lane]), lane)
            if len(seen.sizes) != rank:
                raise unknown(item, f"the map has {len(seen.sizes)} dims")
            target = int(targets[lane])
            if target % _LINE:
                raise f.fault(Misaligned, lane, item, f"a box at 0x{target:x}, no multiple of {_LINE}")
            one = Frame(f.batch, [], f.lanes[lane : lane + 1], f.block, f.stop, None, None)
            data = _box(one, item, seen, [int(s[lane]) for s in starts])
            at = target + np.arange(0, len(data), 16)
            swizzled = (at ^ ((at >> 7 & 7) << 4)).astype(np.uint64)
            mbarriers.bring(f, item, int(marks[lane]), lane, swizzled, data)

    d.emit(step)


def _map_at(f: Frame, item: Instruction, address: int, lane: int) -> BoundMap:
    at = address - PARAMETER_WINDOW
    data = f.batch.launch.parameters
    if not 0 <= at <= len(data) - TENSOR_MAP_BYTES or at % TENSOR_MAP_ALIGNMENT:
        raise f.fault(Misaligned, lane, item, f"no tensor map among the parameters at 0x{address:x}")
    return _decoded(data[at : at + TENSOR_MAP_BYTES].tobytes())


def _box(f: Frame, item: Instruction, seen: BoundMap, starts: list[int]) -> Array:
    """The bytes of a box, outermost dim first."""
    size = _TYPES[seen.dtype]
    inside: Array = np.ones((), np.bool_)
    place: Array = np.zeros((), np.int64)
    for at, (start, length, count) in enumerate(zip(starts, seen.sizes, seen.box)):
        index = (start + np.arange(count)).reshape([-1] + [1] * (len(starts) - at - 1))
        inside = inside & (index >= 0) & (index < length)
        place = place + index * (seen.strides[at] if at < len(starts) - 1 else size)
    found = np.zeros(seen.box, f"u{size}")
    chosen = np.broadcast_to(inside, seen.box)
    if chosen.any():
        addresses = (seen.address + np.broadcast_to(place, seen.box)[chosen]).astype(np.uint64)
        lanes = np.repeat(f.lanes, len(addresses))
        readers = Frame(f.batch, [], lanes, f.block, f.stop, None, None)
        found[chosen] = access.read(readers, item, "global", addresses, size, 1)[0]
    if seen.dtype == "f32":
        found = to_tf32(found.reshape(-1).view(F32), "rna").view(U32)
    return found.reshape(-1).view(np.uint8)
