"""What each access means for races and uninitialised memory: the rules over `shadow`'s tags, and their faults."""

from __future__ import annotations

import numpy as np

from .errors import KernelFault, Race, UninitializedRead
from .executor import Frame
from .shadow import BLOCK_SHIFT, MANY_BLOCKS, MANY_BLOCKS_TAG, Shadow, tag_thread
from .syntax import Instruction
from .types import Array

# The shadow of a piece of memory that is accessed, positions in it, and which threads these are of (None: all).
Piece = tuple[Shadow, Array, Array | None]


def _pieces(f: Frame, space: str, addresses: Array, positions: Array, nbytes: int) -> list[Piece]:
    if space == "shared":
        return [(f.batch.shared_shadow, positions, None)]
    memory = f.batch.launch.memory
    at = memory.find(int(addresses.min()), int(addresses.max()) + nbytes)
    if at is not None:
        return [(_global_shadow(f, at), addresses - np.uint64(memory.starts[at]), None)]
    found: list[Piece] = []
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
    f: Frame,
    item: Instruction,
    space: str,
    addresses: Array,
    positions: Array,
    nbytes: int,
    constant: bool,
    relaxed: bool,
) -> None:
    """Check and note reads of `nbytes` bytes."""
    checks = f.batch.launch.check_races
    if not checks and space != "shared":
        return
    meetings = f.batch.launch.meetings
    if meetings is not None and space == "global" and not relaxed:
        meetings.check(f, item)
    for shadow, places, chosen in _pieces(f, space, addresses, positions, nbytes):
        shadow.prepare(nbytes)
        tags = f.tags() if chosen is None else f.tags()[chosen]
        for cells in shadow.granules(places, nbytes):
            if space == "shared":
                _check_copying(f, item, shadow, cells, addresses)
                _check_written(f, item, shadow, cells, addresses)
            if not checks or relaxed:
                continue
            if constant:
                shadow.readers[cells] = MANY_BLOCKS_TAG
            writers, racing = shadow.read(cells, tags)
            if racing is None or writers is None:
                continue
            racing = _not_fenced(f, racing, writers, chosen)
            if racing.any():
                lane = int(np.flatnonzero(racing)[0])
                who = tag_thread(int(writers[lane if writers.size > 1 else 0]))
                raise _race(
                    f, item, space, chosen, lane, addresses, f"{who} wrote it, with no barrier between"
                )


def note_written(f: Frame, positions: Array, nbytes: int) -> None:
    """Shared memory has been written; races are not looked for."""
    shadow = f.batch.shared_shadow
    shadow.prepare(nbytes)
    shadow.has_writes = True
    for cells in shadow.granules(positions, nbytes):
        shadow.written[cells] = True


def note_write(
    f: Frame, item: Instruction, space: str, addresses: Array, positions: Array, nbytes: int, changed: Array
) -> None:
    """Check and note writes of `nbytes` bytes that have been made; `changed` is where they were not there before: a
    write of what was there already races with nothing."""
    meetings = f.batch.launch.meetings
    if meetings is not None and space == "global":
        meetings.check(f, item)
        meetings.wrote(f)
    for shadow, places, chosen in _pieces(f, space, addresses, positions, nbytes):
        shadow.prepare(nbytes)
        shadow.settle_reads()
        tags = f.tags() if chosen is None else f.tags()[chosen]
        matters = changed if chosen is None else changed[chosen]
        if space == "shared":
            _check_multiplied(f, item, places, addresses)
        for cells in shadow.granules(places, nbytes):
            _check_copying(f, item, shadow, cells, addresses)
            writers = shadow.writers.take(cells)
            readers = shadow.readers.take(cells)
            racing_writes, racing_reads = shadow.write(cells, tags)
            for racing, tag_of, did in (
                (racing_writes, writers, "wrote another value"),
                (racing_reads, readers, "read it"),
            ):
                if racing is None:
                    continue
                racing = _not_fenced(f, racing & matters, tag_of, chosen)
                if racing.any():
                    lane = int(np.flatnonzero(racing)[0])
                    how = f"{tag_thread(int(tag_of[lane]))} {did}, with no barrier between"
                    raise _race(f, item, space, chosen, lane, addresses, how)


def note_atomic(
    f: Frame, item: Instruction, space: str, addresses: Array, positions: Array, nbytes: int
) -> None:
    """Check and note atomic updates."""
    checks = f.batch.launch.check_races
    if not checks and space != "shared":
        return
    for shadow, places, chosen in _pieces(f, space, addresses, positions, nbytes):
        shadow.prepare(nbytes)
        tags = f.tags() if chosen is None else f.tags()[chosen]
        for cells in shadow.granules(places, nbytes):
            if space == "shared":
                _check_copying(f, item, shadow, cells, addresses)
                _check_written(f, item, shadow, cells, addresses)
            if not checks:
                continue
            racing = shadow.atomic(cells, tags)
            if racing.any():
                lane = int(np.flatnonzero(racing)[0])
                how = "another thread uses it without an atomic operation, with no barrier between"
                raise _race(f, item, space, chosen, lane, addresses, how)


def report_overwritten(f: Frame, item: Instruction, space: str, lane: int, addresses: Array) -> None:
    """One instruction wrote different values to one place."""
    raise _race(
        f, item, space, None, lane, addresses, "another thread writes another value with this instruction"
    )


def _not_fenced(f: Frame, racing: Array, old: Array, chosen: Array | None) -> Array:
    """The races without those between blocks that both executed a fence for the device, which may order them."""
    fenced = f.batch.launch.fenced
    if f.batch.launch.meetings is not None:  # which says more exactly what is in order
        return racing
    if not fenced or not racing.any():
        return racing
    known = np.array(sorted(fenced))
    mine = f.slots + f.batch.first
    others = (old >> BLOCK_SHIFT).astype(np.int64) - 1
    both = np.isin(mine if chosen is None else mine[chosen], known)
    both &= np.isin(others, known) | (others + 1 == int(MANY_BLOCKS))
    return racing & ~both


# Asynchronous copies.


def begin_copy(f: Frame, item: Instruction, addresses: Array, positions: Array, nbytes: int) -> None:
    """A copy into shared memory begins: from now on until `end_copy` nobody may use these bytes."""
    shadow = f.batch.shared_shadow
    shadow.prepare(nbytes)
    if shadow.copying is None:
        shadow.copying = np.zeros(shadow.writers.shape, np.bool_)
    for cells in shadow.granules(positions, nbytes):
        _check_copying(f, item, shadow, cells, addresses)
        _check_multiplied(f, item, positions, addresses)
        writers = shadow.writers.take(cells)
        racing_writes, racing_reads = shadow.write(cells, f.tags())
        if not f.batch.launch.check_races:
            continue
        for racing, tag_of, did in (
            (racing_writes, writers, "wrote"),
            (racing_reads, shadow.readers.take(cells), "read"),
        ):
            if racing is not None and racing.any():
                lane = int(np.flatnonzero(racing)[0])
                how = f"{tag_thread(int(tag_of[lane]))} {did} it, with no barrier between"
                raise _race(f, item, "shared", None, lane, addresses, how)
    for cells in shadow.granules(positions, nbytes):
        shadow.copying[cells] = True


def end_copy(f: Frame, positions: Array, nbytes: int) -> None:
    """The copy's thread has waited for it."""
    shadow = f.batch.shared_shadow
    shadow.prepare(nbytes)
    assert shadow.copying is not None
    for cells in shadow.granules(positions, nbytes):
        shadow.copying[cells] = False


# Faults.


def _check_copying(f: Frame, item: Instruction, shadow: Shadow, cells: Array, addresses: Array) -> None:
    if shadow.copying is not None and shadow.copying[cells].any():
        lane = int(np.flatnonzero(shadow.copying[cells])[0])
        who = tag_thread(int(shadow.writers[cells[lane : lane + 1]][0]))
        how = f"{who} copies into it asynchronously and has not waited for the copy"
        raise _race(f, item, "shared", None, lane, addresses, how)


def _check_multiplied(f: Frame, item: Instruction, positions: Array, addresses: Array) -> None:
    flight = f.batch.states.get("wgmma")
    if flight is not None and flight.reads(positions).any():
        lane = int(np.flatnonzero(flight.reads(positions))[0])
        how = "a wgmma reads it that has not been waited for"
        raise _race(f, item, "shared", None, lane, addresses, how)


def _check_written(f: Frame, item: Instruction, shadow: Shadow, cells: Array, addresses: Array) -> None:
    if shadow.is_all_written:
        return
    written = shadow.written.take(cells)
    if not written.all():
        lane = int(np.flatnonzero(~written)[0])
        offset = int(addresses[lane if addresses.size > 1 else 0])
        message = f"uninitialized read: nothing has been written to shared memory at offset {offset}"
        raise f.fault(UninitializedRead, lane, item, message)


def _race(
    f: Frame, item: Instruction, space: str, chosen: Array | None, lane: int, addresses: Array, how: str
) -> KernelFault:
    lane = lane if chosen is None else int(chosen[lane])
    address = int(addresses[lane if addresses.size > 1 else 0])
    return f.fault(Race, lane, item, f"race on {space} memory at 0x{address:x}: {how}")
