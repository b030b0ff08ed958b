"""The CUDA device of these tests: the simulator, unless VITRIFY_CUDA=driver asks for a real one."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from vitrify.eager import EAGER, EagerBackend
from vitrify.runtime.gpu import device as gpu_device
from vitrify.runtime.ptx_simulator.device import SimulatorDevice
from vitrify.tensor import new_storages_float


@pytest.fixture(scope="module")
def cuda() -> Iterator[gpu_device.Device]:
    """A device for the tests of the module; afterwards there is none, as before."""
    if os.environ.get("VITRIFY_CUDA") == "driver":
        yield gpu_device.devices()[0]
        return
    device = SimulatorDevice()
    before = gpu_device.install([device])
    yield device
    gpu_device.install(before)
    EAGER.__class__ = EagerBackend
    new_storages_float[0] = False
