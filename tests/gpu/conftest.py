"""The CUDA device of these tests.

VITRIFY_CUDA unset or `simulator`: the simulator. `driver`: the first GPU of the driver; where there is none, tests that
take a device are skipped. `VITRIFY_TEST_DRIVER=simulated` puts the driver layer over the simulator.

`VITRIFY_TEST_LOG`: a file that has each outcome, and what failed how, as soon as it is known: a run that is killed has
not been for nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from simulated_cuda import simulated_device

from vitrify.backends import cudnn
from vitrify.eager import EAGER, EagerBackend
from vitrify.runtime.gpu import device as gpu_device
from vitrify.runtime.ptx_simulator.device import SimulatorDevice
from vitrify.tensor import new_storages_float


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    path = os.environ.get("VITRIFY_TEST_LOG")
    if path and "PYTEST_XDIST_WORKER" not in os.environ and (report.when == "call" or not report.passed):
        with open(path, "a", encoding="utf-8") as log:
            failure = f"{report.longreprtext}\n" if report.failed else ""
            log.write(f"{report.outcome} {report.nodeid} {report.duration:.1f} s\n{failure}")


@pytest.fixture(autouse=True)
def convolutions_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """What they are compared with is not rounded to tf32."""
    monkeypatch.setattr(cudnn, "allow_tf32", False)


@pytest.fixture(scope="module")
def cuda() -> Iterator[gpu_device.Device]:
    """A device for the tests of the module; afterwards there is none, as before."""
    if os.environ.get("VITRIFY_TEST_DRIVER") == "simulated":
        yield from _installed(simulated_device()[1])
    elif os.environ.get("VITRIFY_CUDA") != "driver":
        yield from _installed(SimulatorDevice())
    elif gpu_device.devices():
        yield gpu_device.devices()[0]
    else:
        pytest.skip("VITRIFY_CUDA=driver, and there is no CUDA driver here, or no GPU")


@pytest.fixture(scope="module")
def driver() -> Iterator[gpu_device.Device]:
    """The driver layer over the simulator; `device.raw` is the library under it."""
    raw, device = simulated_device()
    device.raw = raw
    yield from _installed(device)


def _installed(device: gpu_device.Device) -> Iterator[gpu_device.Device]:
    before = gpu_device.install([device])
    yield device
    gpu_device.install(before)
    EAGER.__class__ = EagerBackend
    new_storages_float[0] = False
