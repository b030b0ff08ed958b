"""The driver layer asks libcuda for the right things, and says what went wrong. Nothing here needs a GPU."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest
from fake_cuda import FakeCuda, fake_device

from vitrify.ir import dtypes
from vitrify.ir.builder import GraphBuilder
from vitrify.ir.types import TensorType
from vitrify.runtime.gpu import arrays, errors
from vitrify.runtime.gpu import device as gpu_device
from vitrify.runtime.gpu.compiled import compile_gpu_graph
from vitrify.runtime.gpu.cuda_library import CudaLibrary
from vitrify.runtime.gpu.driver import find_devices

PTX = ".version 8.0\n.target sm_90a\n.address_size 64\n"


def test_a_device_tells_what_it_is():
    raw, device = fake_device()
    assert (device.name, device.capability, device.multiprocessors) == ("Fake GPU", (9, 0), 132)
    assert device.total_memory == 80 << 30 and device.driver_version == (12, 4)
    assert "cuDevicePrimaryCtxRetain" not in raw.names()  # no context before anything is done


def test_no_driver_and_no_device_are_no_devices(monkeypatch):
    raw = FakeCuda()
    raw.results["cuInit"] = errors.NO_DEVICE
    assert list(find_devices(CudaLibrary(raw))) == []
    monkeypatch.setattr(ctypes, "CDLL", lambda name: (_ for _ in ()).throw(OSError(name)))
    assert list(find_devices()) == []


def test_memory_and_copies_go_to_the_current_stream():
    raw, device = fake_device()
    address = device.alloc(512)
    host = np.arange(4.0)
    device.to_device(address, host)
    stream = device.create_stream()
    with device.on_stream(stream):
        device.copy(address, address, 8)
        device.fill(address, 1, 8)
    assert device.stream == 0
    calls = dict(raw.calls)
    assert calls["cuMemcpyHtoDAsync_v2"] == (address, host.ctypes.data, 32, 0)
    assert calls["cuMemcpyDtoDAsync_v2"] == (address, address, 8, stream)
    assert calls["cuMemsetD8Async"] == (address, 1, 8, stream)
    assert raw.names().count("cuDevicePrimaryCtxRetain") == 1 == raw.names().count("cuCtxSetCurrent")


def test_a_launch_passes_every_argument_by_its_address():
    raw, device = fake_device()
    function = device.load(PTX).function("kernel")
    device.launch(function, 7, 128, 0, [1 << 40, 2, 3])
    device.launch(function, 7, 128, 100 << 10, [])
    assert raw.params[0] == [1 << 40, 2, 3]
    launch = next(args for name, args in raw.calls if name == "cuLaunchKernel")
    assert launch[:9] == (function.handle, 7, 1, 1, 128, 1, 1, 0, 0)
    asked = [args for name, args in raw.calls if name == "cuFuncSetAttribute"]
    assert asked == [(function.handle, 8, 100 << 10)]


def test_an_error_has_the_results_name_and_what_was_being_done():
    raw, device = fake_device()
    raw.results["cuStreamSynchronize"] = 400
    with pytest.raises(
        errors.CudaError, match=r"invalid resource handle .CUDA_ERROR_INVALID_HANDLE, 400. while"
    ) as e:
        device.to_device(256, np.zeros(3))
    assert e.value.name == "CUDA_ERROR_INVALID_HANDLE"
    assert "unknown CUresult 12345" in str(errors.CudaError(12345, "testing"))


def test_a_fault_stays():
    raw, device = fake_device()
    raw.results["cuCtxSynchronize"] = 700
    with pytest.raises(errors.AcceleratorError, match="illegal memory access"):
        device.synchronize()
    raw.results.clear()
    count = len(raw.calls)
    with pytest.raises(
        errors.CudaError, match=r"while allocating 8 bytes\n.*unusable since .* waiting for the device"
    ):
        device.alloc(8)
    assert len(raw.calls) == count


def test_out_of_memory_has_its_own_class():
    raw, device = fake_device()
    raw.results["cuMemAlloc_v2"] = errors.OUT_OF_MEMORY
    with pytest.raises(errors.OutOfMemoryError):
        device.alloc(1 << 40)


def test_what_the_assembler_says_is_in_the_error():
    raw, device = fake_device()
    raw.log, raw.results["cuModuleLoadDataEx"] = b"ptxas fatal: line 3", 218
    with pytest.raises(errors.CudaError, match=r"a PTX JIT compilation failed.*\nptxas fatal: line 3"):
        device.load(PTX)
    raw.results["cuModuleLoadDataEx"] = 222
    with pytest.raises(errors.UnsupportedDeviceError, match="driver on your system is too old"):
        device.load(PTX)


def test_a_driver_too_old_for_the_ptx_is_told_before_it_fails():
    raw, device = fake_device()
    device.driver_version = (11, 8)
    with pytest.raises(
        errors.UnsupportedDeviceError, match=r"CUDA 11.8\): PTX 8.0 needs a driver for CUDA 12.0"
    ):
        device.load(PTX)
    assert "cuModuleLoadDataEx" not in raw.names()
    device.driver_version = (14, 0)  # newer than what is known here
    device.load(PTX.replace("8.0", "9.9"))


def test_a_missing_kernel_is_a_key_error():
    raw, device = fake_device()
    module = device.load(PTX)
    raw.results["cuModuleGetFunction"] = 500
    with pytest.raises(KeyError, match="no kernel 'absent'"):
        module.function("absent")


def test_events_and_streams():
    raw, device = fake_device()
    event = device.create_event(timing=True)
    raw.results["cuEventQuery"] = errors.NOT_READY
    assert not device.event_is_done(event)
    raw.results.clear()
    assert device.event_is_done(event)
    device.wait_event(5, event)
    assert raw.calls[-1] == ("cuStreamWaitEvent", (5, event, 0))


def test_a_captured_graph_is_one_launch():
    raw, device = fake_device()
    function = device.load(PTX).function("kernel")
    with device.capture() as graph:
        device.launch(function, 1, 32, 0, [])
        captured = device.stream
    assert captured != 0 and device.stream == 0
    graph.launch()
    names = raw.names()
    order = ["cuStreamBeginCapture_v2", "cuLaunchKernel", "cuStreamEndCapture", "cuGraphInstantiateWithFlags",
             "cuGraphLaunch"]  # fmt: skip
    assert [n for n in names if n in order] == order


def test_an_error_ends_a_capture_and_nothing_is_left_of_it():
    raw, device = fake_device()
    raw.results["cuStreamEndCapture"] = 901  # what the driver says of it then, which is not what happened
    with pytest.raises(ValueError, match="in between"), device.capture():
        raise ValueError("in between")
    assert raw.names()[-2:] == ["cuStreamEndCapture", "cuStreamDestroy_v2"]
    raw.results = {"cuGraphInstantiateWithFlags": 2}
    with pytest.raises(errors.CudaError, match="instantiating a captured graph"), device.capture():
        pass
    assert raw.names()[-2:] == ["cuGraphDestroy", "cuStreamDestroy_v2"]


def test_targets_by_capability():
    assert gpu_device.target_name((9, 0)) == "sm_90a"
    assert gpu_device.target_name((8, 6)) == "sm_86"
    assert gpu_device.target_name((12, 0)) == "sm_90"
    with pytest.raises(errors.UnsupportedDeviceError, match=r"capability 6\.1 is not supported"):
        gpu_device.target_name((6, 1))


def compiled(gpu, make, *shape):
    builder = GraphBuilder("program")
    x = builder.input("x", TensorType(shape, dtypes.f32))
    return compile_gpu_graph(builder.finish([make(builder, x)], {}, made_by="test"), gpu)


def two_kernels(gpu):
    return compiled(gpu, lambda F, x: F.sum(F.matmul(x, x), dims=(0,), keepdim=False), 8, 8)


def test_the_third_run_with_the_same_addresses_is_one_launch():
    raw, device = fake_device()
    program = two_kernels(arrays.Gpu(0, device))
    for run in range(1, 5):
        raw.calls.clear()
        program.run([1 << 20], [2 << 20])
        names = raw.names()
        launches = names.count("cuLaunchKernel")
        assert names.count("cuGraphLaunch") == (run >= 3) and launches == (2 if run <= 3 else 0)
    raw.calls.clear()
    program.run([1 << 20], [3 << 20])
    assert "cuGraphLaunch" not in raw.names()


def test_a_program_of_one_kernel_is_launched_without_a_capture():
    raw, device = fake_device()
    program = compiled(arrays.Gpu(0, device), lambda F, x: F.exp(x), 8)
    for run in range(1, 40):
        raw.calls.clear()
        at = run % 12 << 20
        program.run([1 << 20], [at])
        assert [n for n in raw.names() if "Module" not in n][-1:] == ["cuLaunchKernel"]
        assert raw.params[-1][:2] == [1 << 20, at] and "cuGraphLaunch" not in raw.names()


def test_addresses_that_change_all_the_time_are_not_captured_over_and_over():
    raw, device = fake_device()
    program = two_kernels(arrays.Gpu(0, device))
    for run in range(100 * 40):
        program.run([1 << 20], [(2 + run % 40) << 20])
    assert raw.names().count("cuStreamBeginCapture_v2") < 40
    for _ in range(1 << 10):  # at last they are the same
        program.run([1 << 20], [1 << 30])
    raw.calls.clear()
    program.run([1 << 20], [1 << 30])
    assert raw.names() == ["cuGraphLaunch"]


CHANGE = "cuGraphExecKernelNodeSetParams_v2"


def test_kernels_of_a_captured_run_are_told_the_addresses_that_moved():
    raw, device = fake_device()
    runner = two_kernels(arrays.Gpu(0, device)).runner({})
    names = []
    for run in range(40):
        raw.calls.clear()
        runner.run([1 << 20, (2 + run) << 20], (0, run))
        names = raw.names()
    assert names == [CHANGE, "cuGraphLaunch"]  # the second kernel writes the result
    raw.calls.clear()
    runner.run([3 << 20, 2 << 20], (0, 50))
    assert raw.names() == [CHANGE, CHANGE, "cuGraphLaunch"]
    raw.results[CHANGE] = 1
    with pytest.raises(errors.CudaError, match="changing a captured graph"):
        runner.run([1 << 20, 2 << 20], (0, 51))
    raw.results.clear()
    raw.calls.clear()
    runner.run([1 << 20, 2 << 20], (0, 52))
    assert CHANGE not in raw.names() and raw.names()[-1] == "cuGraphLaunch"  # captured anew


def test_a_driver_that_changes_no_captured_graphs_launches_kernels_one_by_one():
    class Older(FakeCuda):
        def __init__(self):
            super().__init__()
            delattr(self, CHANGE)

    raw = Older()
    (device,) = find_devices(CudaLibrary(raw))
    runner = two_kernels(arrays.Gpu(0, device)).runner({})
    for run in range(40):
        raw.calls.clear()
        runner.run([1 << 20, (2 + run) << 20], (0, run))
    assert raw.names() == ["cuLaunchKernel"] * 2


def test_runs_one_after_another_have_one_arena():
    _, device = fake_device()
    gpu = arrays.Gpu(0, device)
    runner = two_kernels(gpu).runner({})
    runner.run([1 << 20, 2 << 20], (0, 0))
    assert (
        not gpu.allocator.stats()["allocated_bytes.all.current"] > 512
    )  # the word for no status; it ran once
    for run in range(24):
        runner.run([1 << 20, (2 + run % 6) << 20], (0, run % 6))
    assert gpu.allocator.stats()["allocation.all.current"] == 2
