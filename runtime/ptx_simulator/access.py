"""Every access to memory goes through here: which bytes an address means, and whether the thread may use them.

`read` and `write` check bounds against live allocations and alignment, have `races` check uninitialised shared memory
and races, and move words. Addresses are arrays with one element per thread of the frame, or one element for all.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from . import races
from .decode import LOCAL_WINDOW, SHARED_WINDOW
from .errors import KernelFault, Misaligned, OutOfBounds, UseAfterFree
from .executor import Frame
from .memory import BASE
from .syntax import Instruction
from .types import Array

_BASE = np.uint64(BASE)
_SHARED = np.uint64(SHARED_WINDOW)
_LOCAL = np.uint64(LOCAL_WINDOW)


Use = Callable[[Frame, str, Array, Array | None], list[Array]]


def read(
    f: Frame, item: Instruction, space: str, addresses: Array, size: int, count: int, *, constant: bool = False,
    relaxed: bool = False,
) -> list[Array]:  # fmt: skip
    """`count` words of `size` bytes at each address, as unsigned integers, one array per word. `constant` promises
    that nobody writes there during the launch (`ld.global.nc`); `relaxed` reads do not race with atomic operations."""

    def use(frame: Frame, where: str, a: Array, chosen: Array | None) -> list[Array]:
        return _read(frame, item, where, a, size, count, constant, relaxed)

    return in_space(f, space, addresses, use)


def in_space(f: Frame, space: str, addresses: Array, use: Use) -> list[Array]:
    """Use addresses in their space; generic ones (space "") in the space whose window they are in. `use` gets the
    threads whose addresses these are, and gives an array for each result."""
    if space:
        return use(f, space, addresses, None)
    low, high = addresses.min(), addresses.max()
    if high < _SHARED:
        return use(f, "global", addresses, None)
    if low >= _LOCAL:
        return use(f, "local", addresses - _LOCAL, None)
    if low >= _SHARED and high < _LOCAL:
        return use(f, "shared", addresses - _SHARED, None)
    results: list[Array] = []
    in_local, in_global = addresses >= _LOCAL, addresses < _SHARED
    for where, here, start in (
        ("global", in_global, 0), ("shared", ~in_local & ~in_global, SHARED_WINDOW), ("local", in_local, LOCAL_WINDOW),
    ):  # fmt: skip
        chosen = np.flatnonzero(here)
        if not len(chosen):
            continue
        part = Frame(f.batch, [], f.lanes[chosen], f.block, f.stop, None, None)
        found = use(part, where, addresses[chosen] - np.uint64(start), chosen)
        if not results:
            results = [np.zeros(f.size, x.dtype) for x in found]
        for result, piece in zip(results, found, strict=True):
            result[chosen] = piece
    return results


def locate(f: Frame, item: Instruction, space: str, addresses: Array, nbytes: int) -> Array:
    """The position in the space's memory of `nbytes` bytes at each address, after the checks of bounds and alignment."""
    if nbytes > 1 and np.bitwise_or.reduce(addresses) & np.uint64(nbytes - 1):
        lane = int(np.flatnonzero(addresses & np.uint64(nbytes - 1))[0])
        raise f.fault(
            Misaligned,
            lane,
            item,
            f"misaligned access of {nbytes} bytes at 0x{int(addresses[lane]):x} ({space} memory)",
        )
    if space == "global":
        low, high = int(addresses.min()), int(addresses.max())
        memory = f.batch.launch.memory
        if memory.find(low, high + nbytes) is None:
            _check_global(f, item, addresses, nbytes)
        return addresses - _BASE
    batch = f.batch
    limit = batch.shared_bytes if space == "shared" else batch.kernel.local_bytes
    if int(addresses.max()) + nbytes > limit:
        lane = int(np.flatnonzero(addresses > np.uint64(max(limit - nbytes, 0)))[0]) if limit >= nbytes else 0
        raise f.fault(
            OutOfBounds,
            lane,
            item,
            f"out of bounds: {nbytes} bytes at offset {int(addresses[lane])} of {limit} bytes of {space} memory",
        )
    if space == "shared":
        return addresses + (f.slots * batch.shared_stride).astype(np.uint64)
    return addresses + (f.lanes * batch.local_stride).astype(np.uint64)


def _check_global(f: Frame, item: Instruction, addresses: Array, nbytes: int) -> None:
    memory = f.batch.launch.memory
    outside = memory.outside(addresses, nbytes)
    if not outside.any():
        return
    lane = int(np.flatnonzero(outside)[0])
    address = int(addresses[lane])
    kind: type[KernelFault] = UseAfterFree if memory.was_freed(address) else OutOfBounds
    what = "use after free" if kind is UseAfterFree else "out of bounds"
    raise f.fault(
        kind,
        lane,
        item,
        f"{what}: {nbytes} bytes at 0x{address:x} of global memory, {memory.describe(address)}",
    )


def indices(positions: Array, size: int) -> Array:
    """Positions in bytes as numbers of words."""
    return positions.view(np.int64) >> (size.bit_length() - 1)


def words_of(f: Frame, space: str, size: int) -> Array:
    """The memory of a space as words."""
    batch = f.batch
    if space == "global":
        return batch.launch.memory.words[size]
    return batch.shared_words[size] if space == "shared" else batch.local_words[size]


def _read(
    f: Frame,
    item: Instruction,
    space: str,
    addresses: Array,
    size: int,
    count: int,
    constant: bool,
    relaxed: bool,
) -> list[Array]:
    positions = locate(f, item, space, addresses, size * count)
    if space != "local":
        races.note_read(f, item, space, addresses, positions, size * count, constant, relaxed)
    words = words_of(f, space, size)
    index = indices(positions, size)
    return [words.take(index + k if k else index) for k in range(count)]


def write(
    f: Frame,
    item: Instruction,
    space: str,
    addresses: Array,
    size: int,
    values: list[Array],
    *,
    relaxed: bool = False,
) -> None:
    """Store words of `size` bytes side by side at each address."""

    def use(frame: Frame, where: str, a: Array, chosen: Array | None) -> list[Array]:
        mine = values if chosen is None else [x if x.size == 1 else x[chosen] for x in values]
        _write(frame, item, where, a, size, mine, relaxed)
        return []

    in_space(f, space, addresses, use)


def _write(
    f: Frame, item: Instruction, space: str, addresses: Array, size: int, values: list[Array], relaxed: bool
) -> None:
    if addresses.size < f.size and f.size > 1:
        addresses = np.broadcast_to(addresses, f.size)
    positions = locate(f, item, space, addresses, size * len(values))
    words = words_of(f, space, size)
    index = indices(positions, size)
    if space == "local" or not f.batch.launch.check_races:
        for k, value in enumerate(values):
            words[index + k if k else index] = value
        if space == "shared":
            races.note_written(f, positions, size * len(values))
        return
    changed = np.zeros(addresses.shape, np.bool_)
    for k, value in enumerate(values):
        place = index + k if k else index
        changed |= words.take(place) != value
        words[place] = value
        kept = words.take(place) == value
        if not kept.all():
            races.report_overwritten(f, item, space, int(np.flatnonzero(~kept)[0]), addresses)
    races.note_write(f, item, space, addresses, positions, size * len(values), changed)


def atomic_words(f: Frame, item: Instruction, space: str, addresses: Array, size: int) -> tuple[Array, Array]:
    """The words that atomic operations work on, and the index of each thread's; the operations are noted."""
    positions = locate(f, item, space, addresses, size)
    if space != "local":
        races.note_atomic(f, item, space, addresses, positions, size)
    return words_of(f, space, size), indices(positions, size)
