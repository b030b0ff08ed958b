"""The Python side of a program's host calls: NumPy where the native program has no kernel.

The program calls back with a number, the addresses of the buffers and the values of its dims; a ctypes callback takes
the GIL, sees the buffers as arrays (nothing is copied but the results, into their places), and runs the call's graph
under the reference interpreter. What is raised there must not pass through native code: it is kept for the thread that
called the program, which gets `FAILED` as the status and raises it (`take_error`).
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any

import numpy as np

from ..codegen.loops.nodes import HostCall
from ..ir.graph import Graph, Value
from ..ir.interpreter import run
from ..ir.parser import parse_region
from ..ir.printer import to_text

Array = np.ndarray[Any, Any]

# The status of a run that a host call ended. Checks have positive codes, -1 is the call shim's.
FAILED = -2

_WORDS = ctypes.POINTER(ctypes.c_int64)
_PROTOTYPE = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_int64, _WORDS, _WORDS)


def host_call_data(call: HostCall) -> str:
    """What a fresh process needs to run the call: its graph as text."""
    return to_text(call.graph, locations=False)


class HostCalls:
    """A program's host calls; `address` is what the program calls.

    `stored`: what `host_call_data` gave, in the order of the program; `symbols`: the program's dims in order.
    """

    def __init__(self, stored: Sequence[str], symbols: Sequence[str]):
        self.graphs = [parse_region(text) for text in stored]
        self._runs = [_runner(graph, symbols) for graph in self.graphs]
        self._local = threading.local()
        self._callback = _PROTOTYPE(self._call)
        self.address = ctypes.cast(self._callback, ctypes.c_void_p).value or 0

    def _call(self, which: int, args: Any, dims: Any) -> int:
        try:
            self._runs[which](args, dims)
        except BaseException as error:  # an interrupt must not pass through native code either
            self._local.failed = (which, error)
            return FAILED
        return 0

    def take_error(self) -> tuple[int, BaseException]:
        """Which call ended this thread's latest run, and what it raised."""
        which, error = self._local.failed
        del self._local.failed
        # Its frames hold arrays over the program's memory, which may be gone by the time someone looks.
        return which, error.with_traceback(None)


def _runner(graph: Graph, symbols: Sequence[str]) -> Callable[[Any, Any], None]:
    """The function that runs a host call's graph on buffers at `args`, for `dims`."""
    inputs, outputs = graph.inputs, graph.outputs
    count = len(inputs)

    def call(args: Any, dims: Any) -> None:
        bindings = {name: dims[i] for i, name in enumerate(symbols)}
        operands = [_seen(value, args[i], bindings, False) for i, value in enumerate(inputs)]
        for i, (value, found) in enumerate(zip(outputs, run(graph, operands, bindings))):
            np.copyto(_seen(value, args[count + i], bindings, True), found)

    return call


def _seen(value: Value, address: int, bindings: Mapping[str, int], writeable: bool) -> Array:
    """The memory at the address as an array of the value's type."""
    shape, dtype = value.type.bind(bindings).sizes, value.type.dtype.numpy
    size = prod(shape) * dtype.itemsize
    if not size:
        return np.empty(shape, dtype)
    array: Array = np.ndarray(shape, dtype, (ctypes.c_char * size).from_address(address))
    array.flags.writeable = writeable
    return array
