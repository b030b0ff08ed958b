"""Memory for weights: aligned, side by side in large blocks, freed with the last array."""

from __future__ import annotations

import gc
import itertools
import threading
import weakref

import numpy as np
import pytest

import vitrify as torch
from vitrify.runtime import lasting

F32 = np.dtype(np.float32)


@pytest.mark.parametrize("shape", [(), (0, 5), (3,), (200, 100), (576, 1536), (3 << 20,)])
def test_arrays_are_whole_and_large_ones_aligned(shape: tuple[int, ...]) -> None:
    array = lasting.empty(shape, F32)
    array[...] = 1
    assert array.shape == shape and array.dtype == F32 and array.flags.c_contiguous and array.flags.writeable
    if array.nbytes >= lasting.SMALL:
        assert array.ctypes.data % lasting.ALIGNMENT == 0


def test_what_is_larger_than_a_block_begins_at_a_page() -> None:
    assert lasting.empty((lasting.BLOCK,), np.dtype(np.uint8)).ctypes.data % lasting.PAGE == 0


def test_threads_get_memory_of_their_own() -> None:
    found: list[np.ndarray] = []

    def take() -> None:
        for _ in range(40):
            found.append(lasting.empty((70_001,), np.dtype(np.uint8)))

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    places = sorted((a.ctypes.data, a.nbytes) for a in found)
    assert len(places) == 160
    assert all(start + size <= after for (start, size), (after, _) in itertools.pairwise(places))


def test_a_block_goes_with_its_last_array() -> None:
    arrays = [lasting.empty((lasting.BLOCK // 8,), np.dtype(np.uint8)) for _ in range(9)]
    bases = {id(a.base): weakref.ref(a.base) for a in arrays}
    assert len(bases) >= 2
    first = bases[id(arrays[0].base)]
    del arrays
    gc.collect()
    lasting.empty((lasting.BLOCK // 4,), np.dtype(np.uint8))  # the last block may still be in use
    assert first() is None


def test_copies() -> None:
    array = np.arange(60_000, dtype=np.int64).reshape(200, 300)[:, ::2]
    found = lasting.copy(array)
    assert (found == array).all() and found.flags.c_contiguous and not np.shares_memory(found, array)
    words = np.array(["a", None] * 9000, dtype=object)
    assert (lasting.copy(words) == words).all()


def test_weights_of_modules_and_files_begin_at_a_line(tmp_path) -> None:
    net = torch.nn.Linear(300, 200)
    torch.save(net.state_dict(), tmp_path / "net.pt")
    short = torch.optimize_for_inference(net, (torch.ones(1, 300),), precision="bf16")
    tall = torch.optimize_for_inference(torch.nn.Linear(400, 300), (torch.ones(1, 400),), precision="int8")
    loaded = torch.load(tmp_path / "net.pt")
    for weight in (net.weight, loaded["weight"], short[0].weight, tall[0].weight):
        assert weight.data_ptr() % 64 == 0
    assert torch.equal(loaded["weight"], net.weight)
