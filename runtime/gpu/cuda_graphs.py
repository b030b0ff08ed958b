"""Launches that are made again and again: graphs that the CUDA driver captures, launches on a stream that become one
piece; and single launches whose parameters are kept."""

from __future__ import annotations

from collections.abc import Sequence
from ctypes import addressof, byref, c_int, c_size_t, c_uint64, c_void_p
from typing import TYPE_CHECKING, Any

from .cuda_library import KernelNodeParams
from .cuda_modules import CudaFunction
from .device import Function
from .tensor_maps import BoundMap

if TYPE_CHECKING:
    from .driver import CudaDevice

_THREAD_LOCAL = 1  # other threads may go on calling the driver meanwhile
_ACTION = "capturing a graph"


class CapturedGraph:
    """What is launched on a stream until `end`, to be run as one piece (`CudaDevice.capture`)."""

    def __init__(self, device: CudaDevice, stream: int):
        self.device = device
        self._stream = stream
        self._exec = self._graph = 0
        self._nodes: list[int] = []
        self._kept: dict[int, tuple[KernelNodeParams, tuple[Any, Any]]] = {}
        device.call(_ACTION, "cuStreamBeginCapture_v2", stream, _THREAD_LOCAL)

    def mark(self) -> None:
        """The latest launch may be asked to change, by the number of marks before."""
        status, latest, count = c_int(), c_void_p(), c_size_t()
        places = (byref(status), None, None, byref(latest), byref(count))
        self.device.call(_ACTION, "cuStreamGetCaptureInfo_v2", self._stream, *places)
        assert count.value == 1 and latest.value, "launches on one stream come one after another"
        self._nodes.append(int(c_void_p.from_address(latest.value).value or 0))

    def end(self) -> None:
        """Make what was launched ready to run."""
        graph = c_void_p()
        self.device.call(_ACTION, "cuStreamEndCapture", self._stream, byref(graph))
        self._graph = int(graph.value or 0)
        try:
            action = "instantiating a captured graph"
            self._exec = int(self.device.get(action, c_void_p, "cuGraphInstantiateWithFlags", self._graph, 0))
        finally:
            if not self._nodes or not self._exec:  # else the nodes are the graph's
                self.device.drop("cuGraphDestroy", self._graph)
                self._graph = 0

    def change(
        self,
        number: int,
        function: Function,
        grid: int,
        threads: int,
        shared_bytes: int,
        args: Sequence[int | BoundMap],
    ) -> None:
        """Have a marked launch take other arguments from the next run on; it is a launch of the same kernel."""
        assert isinstance(function, CudaFunction)
        kept = self._kept.get(number)
        if kept is None:
            params = KernelNodeParams(function.handle, (grid, 1, 1), (threads, 1, 1), shared_bytes)
            kept = self._kept[number] = params, parameters(len(args))
        params, memory = kept
        given, _maps = self.device.place_arguments(memory, args)
        params.params = addressof(given)
        action, name = "changing a captured graph", "cuGraphExecKernelNodeSetParams_v2"
        self.device.call(action, name, self._exec, self._nodes[number], addressof(params))

    def abandon(self) -> None:
        """End the capture after an error, which says more than what the driver calls a broken capture."""
        graph = c_void_p()
        self.device.library.result("cuStreamEndCapture", self._stream, byref(graph))
        if graph.value:
            self.device.drop("cuGraphDestroy", graph.value)

    def launch(self) -> None:
        """Run it on the current stream."""
        self.device.call("launching a captured graph", "cuGraphLaunch", self._exec, self.device.stream)

    def __del__(self) -> None:
        if self._exec:
            self.device.drop("cuGraphExecDestroy", self._exec)
        if self._graph:
            self.device.drop("cuGraphDestroy", self._graph)


class ReadyLaunch:
    """One launch on one stream (`CudaDevice.ready`). `args` are those of `cuLaunchKernel`; `held` is what they refer
    to."""

    def __init__(self, device: CudaDevice, action: str, args: tuple[Any, ...], held: Any):
        self._call = device.call
        self._action = action
        self._args = args
        self._held = held

    def launch(self) -> None:
        """Run it on its stream."""
        self._call(self._action, "cuLaunchKernel", *self._args)


def parameters(count: int) -> tuple[Any, Any]:
    """Memory for a launch's parameters: values, and their addresses."""
    values = (c_uint64 * max(1, count))()
    first = addressof(values)
    return values, (c_void_p * max(1, count))(*range(first, first + 8 * count, 8))
