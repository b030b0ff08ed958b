"""Launches that are made again and again: graphs that the CUDA driver captures, launches on a stream that become one
piece; and single launches whose parameters are kept."""

from __future__ import annotations

from ctypes import byref, c_void_p
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .driver import CudaDevice

_THREAD_LOCAL = 1  # other threads may go on calling the driver meanwhile
_ACTION = "capturing a graph"


class CapturedGraph:
    """What is launched on a stream until `end`, to be run as one piece (`CudaDevice.capture`)."""

    def __init__(self, device: CudaDevice, stream: int):
        self.device = device
        self._stream = stream
        self._exec = 0
        device.call(_ACTION, "cuStreamBeginCapture_v2", stream, _THREAD_LOCAL)

    def end(self) -> None:
        """Make what was launched ready to run."""
        graph = c_void_p()
        self.device.call(_ACTION, "cuStreamEndCapture", self._stream, byref(graph))
        try:
            action = "instantiating a captured graph"
            self._exec = int(self.device.get(action, c_void_p, "cuGraphInstantiateWithFlags", graph.value, 0))
        finally:
            self.device.drop("cuGraphDestroy", int(graph.value or 0))

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
