"""The caching allocator: memory comes back when the last array over it is gone, and not before."""

from __future__ import annotations

import gc
import threading

import numpy as np
import pytest

from vitrify.runtime import allocator

F32 = np.dtype(np.float32)
LARGE = (allocator.SMALL // 4 + 1000,)


@pytest.fixture(autouse=True)
def fresh() -> None:
    gc.collect()
    allocator.empty_cache()


def address(array: np.ndarray) -> int:
    return int(array.__array_interface__["data"][0])


@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 5), (7,), LARGE, (3, allocator.SMALL // 8, 1)])
def test_arrays_are_like_those_of_numpy(shape: tuple[int, ...]) -> None:
    array = allocator.empty(shape, F32)
    assert type(array) is np.ndarray
    assert (array.shape, array.dtype) == (shape, F32)
    assert array.flags.c_contiguous and array.flags.writeable and array.flags.aligned
    array.fill(2)
    assert (array == 2).all()


def test_a_large_array_is_aligned_and_its_memory_is_used_again() -> None:
    array = allocator.empty(LARGE, F32)
    first = address(array)
    assert first % allocator.ALIGNMENT == 0
    del array
    assert allocator.kept_bytes() > 0
    again = allocator.empty(LARGE, F32)
    assert address(again) == first
    assert allocator.kept_bytes() == 0


def test_a_view_keeps_the_memory() -> None:
    array = allocator.empty(LARGE, F32)
    array[10] = 7
    view = array[10:20].reshape(2, 5)
    first = address(array)
    del array
    assert allocator.kept_bytes() == 0
    other = allocator.empty(LARGE, F32)
    other.fill(1)
    assert address(other) != first and view[0, 0] == 7
    del view
    assert allocator.kept_bytes() > 0


def test_near_sizes_share_blocks() -> None:
    first = allocator.empty(LARGE, F32)
    where = address(first)
    del first
    assert address(allocator.empty((LARGE[0] - 5,), F32)) == where


def test_blocks_are_at_most_an_eighth_larger() -> None:
    for size in (allocator.SMALL, 5_000_001, 123_456_789):
        assert size < allocator.block_bytes(size) <= size * 9 // 8 + 8192


def test_what_is_kept_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(allocator, "KEEP_LIMIT", 3 * allocator.SMALL)
    arrays = [allocator.empty(LARGE, F32) for _ in range(8)]
    del arrays
    assert 0 < allocator.kept_bytes() <= 3 * allocator.SMALL


def test_threads_never_share_memory() -> None:
    clashes: list[int] = []

    def body(mark: int) -> None:
        for _ in range(50):
            array = allocator.empty(LARGE, F32)
            array[:64] = mark
            array[-64:] = mark
            if (array[:64] != mark).any() or (array[-64:] != mark).any():
                clashes.append(mark)

    threads = [threading.Thread(target=body, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not clashes
