"""The simulated device's memory: allocations under any order of calls, copies, and what fresh memory holds."""

from __future__ import annotations

import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ptx_texts import kernel, run

from vitrify.runtime.gpu.errors import AcceleratorError, OutOfMemoryError
from vitrify.runtime.ptx_simulator import device as simulator_device
from vitrify.runtime.ptx_simulator.device import SimulatorDevice
from vitrify.runtime.ptx_simulator.memory import GAP, DeviceMemory

TOTAL = 1 << 16


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 9000)), max_size=120))
def test_allocations_stay_apart_and_keep_their_bytes(calls: list[tuple[bool, int]]) -> None:
    memory = DeviceMemory(TOTAL)
    live: dict[int, tuple[int, int]] = {}
    for number, (frees, size) in enumerate(calls):
        if frees and live:
            address = sorted(live)[size % len(live)]
            length, mark = live.pop(address)
            assert (memory.span(address, length, "look") == mark).all()
            memory.free(address)
            assert memory.was_freed(address)
            continue
        try:
            address = memory.alloc(size)
        except OutOfMemoryError:
            assert sum(-(-max(n, 1) // 256) * 256 + 2 * GAP for n, _ in live.values()) + size > TOTAL // 8
            continue
        assert address % 256 == 0 and not memory.was_freed(address)
        for other, (length, _) in live.items():
            assert address + size + GAP <= other or other + length + GAP <= address
        mark = number % 250
        memory.span(address, size, "fill")[:] = mark
        live[address] = (size, mark)
        assert memory.find(address, address + size) is not None
        assert memory.find(address, address + size + 1) is None
    assert memory.used == sum(n for n, _ in live.values())
    for address, (length, mark) in live.items():
        assert (memory.span(address, length, "look") == mark).all()


def test_what_is_freed_while_a_kernel_runs_goes_when_it_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """Finalizers free memory whenever Python collects its garbage."""
    device = SimulatorDevice(1 << 20)
    module = device.load(".version 8.0\n.target sm_80\n.address_size 64\n.visible .entry nothing() { ret; }")
    address, seen = device.alloc(64), []

    def free_it(launch: object, barriers: object) -> None:
        device.free(address)
        seen.append(device.memory.find(address, address + 64))

    monkeypatch.setattr(simulator_device, "run_launch", free_it)
    device.launch(module.function("nothing"), 1, 32, 0, [])
    assert seen == [0] and device.memory.find(address, address + 64) is None
    with pytest.raises(AcceleratorError, match="no live allocation"):
        device.free(address)


def test_threads_may_read_different_parameters() -> None:
    code = "and.b32 %r1, %r0, 1;\nmad.wide.u32 %d2, %r1, 8, 0;\nld.param.u32 %r2, [%d2+8];"
    (found,) = run(
        kernel(f"{code}\nmad.wide.u32 %d3, %r0, 4, %d0;\nst.global.b32 [%d3], %r2;", 3),
        [np.zeros(64, np.uint32)], 64, extra=[5, 7],
    )  # fmt: skip
    assert found.tolist() == [5, 7] * 32


def test_copies_and_fills() -> None:
    device = SimulatorDevice(1 << 20)
    a, b = device.alloc(400), device.alloc(400)
    x = np.arange(100, dtype=np.float32)
    device.to_device(a, x)
    device.copy(b, a, 400)
    device.fill(b, 0x1FF, 8)
    found = np.empty(100, np.float32)
    device.to_host(found, b)
    np.testing.assert_array_equal(found[2:], x[2:])
    assert np.isnan(found[:2]).all()
    with pytest.raises(AcceleratorError, match="396 bytes into an allocation of 400 bytes"):
        device.copy(b + 396, a, 8)
    with pytest.raises(ValueError, match="C-contiguous"):
        device.to_host(np.empty((4, 4))[:, :2], a)


def test_fresh_memory_is_not_a_number() -> None:
    device = SimulatorDevice(1 << 20)
    address = device.alloc(64)
    device.to_device(address, np.zeros(16, np.float32))
    device.free(address)
    for _ in range(40):
        address = device.alloc(1 << 16)
        found = np.empty(1 << 14, np.float32)
        device.to_host(found, address)
        assert np.isnan(found).all()
        device.free(address)


def test_a_device_of_more_memory_than_the_machine_has() -> None:
    """What is reserved counts for nothing: a process could not fork otherwise."""
    memory = DeviceMemory(1 << 42)
    assert (memory.span(memory.alloc(100), 100, "look") == 0xFF).all()
    child = os.fork()
    if not child:
        os._exit(0)
    assert os.waitpid(child, 0) == (child, 0)
