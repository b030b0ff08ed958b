"""Every access to memory goes through here: which bytes an address means, and whether the thread may use them.

`read` and `write` check bounds against live allocations, alignment, uninitialised shared memory, and races, then move
words. Addresses are arrays with one element per thread of the frame, or one element for all.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .decode import LOCAL_WINDOW, SHARED_WINDOW
from .errors import KernelFault, Misaligned, OutOfBounds, Race, UninitializedRead, UseAfterFree
from .executor import Frame
from .memory import BASE
from .shadow import MANY_BLOCKS_TAG, Shadow, tag_thread
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


def _words(f: Frame, space: str, size: int) -> Array:
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
        note_read(f, item, space, addresses, positions, size * count, min(size, 4), constant, relaxed)
    words = _words(f, space, size)
    index = (
        (positions >> np.uint64(size.bit_length() - 1)).astype(np.int64)
        if size > 1
        else positions.astype(np.int64)
    )
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
    words = _words(f, space, size)
    index = (
        (positions >> np.uint64(size.bit_length() - 1)).astype(np.int64)
        if size > 1
        else positions.astype(np.int64)
    )
    for k, value in enumerate(values):
        place = index + k if k else index
        if space != "local" and f.batch.launch.check_races:
            note_write(
                f, item, space, addresses, positions + np.uint64(k * size), size, words, place, value, relaxed
            )
        else:
            words[place] = value


def atomic_words(f: Frame, item: Instruction, space: str, addresses: Array, size: int) -> tuple[Array, Array]:
    """The words that atomic operations work on, and the index of each thread's; the operations are noted."""
    positions = locate(f, item, space, addresses, size)
    words = _words(f, space, size)
    if space != "local" and f.batch.launch.check_races:
        for shadow, places, chosen in shadows(f, space, addresses, positions, size):
            shadow.prepare(min(size, 4))
            tags = f.tags() if chosen is None else f.tags()[chosen]
            for cells in shadow.granules(places.astype(np.int64), size):
                if space == "shared":
                    _check_written(f, item, shadow.writers[cells], addresses)
                racing = shadow.atomic(cells, tags)
                if racing.any():
                    lane = int(np.flatnonzero(racing)[0])
                    how = "another thread uses it without an atomic operation, with no barrier between"
                    raise _race(f, item, space, chosen, lane, addresses, how)
    return words, (positions >> np.uint64(size.bit_length() - 1)).astype(np.int64)


# Asynchronous copies.


def begin_copy(f: Frame, item: Instruction, addresses: Array, nbytes: int) -> None:
    """A copy into shared memory begins: from now on until `end_copy` nobody may use these bytes."""
    positions = locate(f, item, "shared", addresses, nbytes)
    shadow = f.batch.shared_shadow
    if shadow.copying is None:
        shadow.copying = np.zeros(shadow.writers.shape, np.bool_)
    for cells in shadow.granules(positions.astype(np.int64), nbytes):
        _check_copying(f, item, shadow, cells, addresses)
        writers = shadow.writers[cells]
        racing_writes, racing_reads = shadow.write(cells, f.tags())
        racing = racing_reads | racing_writes
        if f.batch.launch.check_races and racing.any():
            lane = int(np.flatnonzero(racing)[0])
            wrote = bool(racing_writes[lane])
            who = tag_thread(int((writers if wrote else shadow.readers[cells])[lane]))
            how = f"{who} {'wrote' if wrote else 'read'} it, with no barrier between"
            raise _race(f, item, "shared", None, lane, addresses, how)
    for cells in shadow.granules(positions.astype(np.int64), nbytes):
        shadow.copying[cells] = True


def end_copy(f: Frame, item: Instruction, addresses: Array, nbytes: int) -> None:
    """The copy's thread has waited for it."""
    positions = locate(f, item, "shared", addresses, nbytes)
    shadow = f.batch.shared_shadow
    assert shadow.copying is not None
    for cells in shadow.granules(positions.astype(np.int64), nbytes):
        shadow.copying[cells] = False


def _check_copying(f: Frame, item: Instruction, shadow: Shadow, cells: Array, addresses: Array) -> None:
    if shadow.copying is not None and shadow.copying[cells].any():
        lane = int(np.flatnonzero(shadow.copying[cells])[0])
        who = tag_thread(int(shadow.writers[cells[lane : lane + 1]][0]))
        how = f"{who} copies into it asynchronously and has not waited for the copy"
        raise _race(f, item, "shared", None, lane, addresses, how)


def _check_written(f: Frame, item: Instruction, writers: Array, addresses: Array) -> None:
    if not writers.all():
        lane = int(np.flatnonzero(writers == 0)[0])
        raise f.fault(
            UninitializedRead,
            lane,
            item,
            f"uninitialized read: nothing has been written to shared memory at offset {int(addresses[lane])}",
        )


# Races.


def shadows(
    f: Frame, space: str, addresses: Array, positions: Array, nbytes: int
) -> list[tuple[Shadow, Array, Array | None]]:
    """The shadow of each piece of memory that is accessed, the positions in it, and which threads these are of (None:
    all)."""
    if space == "shared":
        return [(f.batch.shared_shadow, positions, None)]
    launch = f.batch.launch
    memory = launch.memory
    at = memory.find(int(addresses.min()), int(addresses.max()) + nbytes)
    if at is not None:
        return [(_global_shadow(f, at), addresses - np.uint64(memory.starts[at]), None)]
    found: list[tuple[Shadow, Array, Array | None]] = []
    numbers = np.searchsorted(np.array(memory.starts, np.uint64), addresses, "right") - 1
    for number in np.unique(numbers):
        chosen = np.flatnonzero(numbers == number)
        found.append(
            (_global_shadow(f, int(number)), addresses[chosen] - np.uint64(memory.starts[number]), chosen)
        )
    return found


def _global_shadow(f: Frame, number: int) -> Shadow:
    launch = f.batch.launch
    start = launch.memory.starts[number]
    if start not in launch.shadows:
        launch.shadows[start] = Shadow(launch.memory.ends[number] - start)
    return launch.shadows[start]


def note_read(
    f: Frame, item: Instruction, space: str, addresses: Array, positions: Array, nbytes: int, size: int,
    constant: bool, relaxed: bool,
) -> None:  # fmt: skip
    """Check and note reads of `nbytes` bytes made of words of `size`."""
    checks = f.batch.launch.check_races
    if not checks and space != "shared":
        return
    for shadow, places, chosen in shadows(f, space, addresses, positions, nbytes):
        shadow.prepare(size)
        tags = f.tags() if chosen is None else f.tags()[chosen]
        for cells in shadow.granules(places.astype(np.int64), nbytes):
            if relaxed:
                writers = shadow.writers[cells]
                racing = np.zeros(1, np.bool_)
            else:
                writers, racing = shadow.read(cells, tags)
            if space == "shared":
                _check_copying(f, item, shadow, cells, addresses)
                _check_written(f, item, writers, addresses)
            if checks and racing.any():
                lane = int(np.flatnonzero(racing)[0])
                who = tag_thread(int(writers[lane if writers.size > 1 else 0]))
                raise _race(
                    f, item, space, chosen, lane, addresses, f"{who} wrote it, with no barrier between"
                )
            if constant:
                shadow.readers[cells] = MANY_BLOCKS_TAG


def note_write(
    f: Frame, item: Instruction, space: str, addresses: Array, positions: Array, size: int, words: Array, place: Array,
    value: Array, relaxed: bool,
) -> None:  # fmt: skip
    """Check and note writes, and make them."""
    before = words[place]
    words[place] = value
    all_places = addresses if space == "global" else positions
    offset = positions - (addresses - _BASE) if space == "global" else np.zeros(1, np.uint64)
    for shadow, places, chosen in shadows(f, space, all_places + offset, positions, size):
        shadow.prepare(min(size, 4))
        tags = f.tags() if chosen is None else f.tags()[chosen]
        new = value if chosen is None or value.size == 1 else value[chosen]
        old = before if chosen is None else before[chosen]
        index = place if chosen is None else place[chosen]
        if (words[index] != new).any():
            lane = int(np.flatnonzero(words[index] != new)[0])
            raise _race(
                f,
                item,
                space,
                chosen,
                lane,
                addresses,
                "another thread writes another value with this instruction",
            )
        for cells in shadow.granules(places.astype(np.int64), size):
            writers = shadow.writers[cells]
            _check_copying(f, item, shadow, cells, addresses)
            racing_writes, racing_reads = shadow.write(cells, tags)
            if racing_reads.any():
                # A read that is followed by a write of what was there already changes nothing.
                racing_reads &= old != new
            racing_writes &= old != new
            if racing_writes.any():
                lane = int(np.flatnonzero(racing_writes)[0])
                raise _race(
                    f, item, space, chosen, lane, addresses,
                    f"{tag_thread(int(writers[lane]))} wrote another value, with no barrier between",
                )  # fmt: skip
            if racing_reads.any():
                lane = int(np.flatnonzero(racing_reads)[0])
                who = tag_thread(int(shadow.readers[cells][lane]))
                raise _race(
                    f, item, space, chosen, lane, addresses, f"{who} read it, with no barrier between"
                )


def _race(
    f: Frame, item: Instruction, space: str, chosen: Array | None, lane: int, addresses: Array, how: str
) -> KernelFault:
    lane = lane if chosen is None else int(chosen[lane])
    address = int(addresses[lane if addresses.size > 1 else 0])
    return f.fault(Race, lane, item, f"race on {space} memory at 0x{address:x}: {how}")
