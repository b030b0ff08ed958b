"""The Python side of a program's host calls: NumPy where the native program has no kernel.

The program calls back with a number, the addresses of the buffers and the values of its dims; a ctypes callback takes
the GIL, sees the buffers as arrays (nothing is copied but the results, into their places), and runs the call's graph
under the reference interpreter. What is raised there must not pass through native code: it is kept for the thread that
called the program, which gets `FAILED` as the status and raises it (`take_error`).

A call that tells dims also allocates what they give the size of: memory for the launches that follow, and the program's
outputs. Whoever runs such a program does so inside `late_memory`, which keeps both until the run is over.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import prod
from typing import Any

import numpy as np

from ..codegen.loops.nodes import Buffer, Program
from ..ir import dims
from ..ir.dtypes import dtype_named
from ..ir.graph import Graph, told_symbols
from ..ir.interpreter import run_bound
from ..ir.parser import parse_region
from ..ir.printer import to_text
from ..ir.types import TensorType
from . import allocator

Array = np.ndarray[Any, Any]

# The status of a run that a host call ended. Checks have positive codes, -1 is the call shim's.
FAILED = -2
# That of a run that ended because the sizes it told are not those it was meant for (`LateMemory.accepts`).
UNWANTED = -3

_WORDS = ctypes.POINTER(ctypes.c_int64)
_PROTOTYPE = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_int64, _WORDS, _WORDS)


def host_calls_data(program: Program) -> list[dict[str, Any]]:
    """What a fresh process needs to run the program's host calls, as data for JSON. Of each:

    graph    its text
    bytes    how much memory it allocates for the arena buffers whose size it tells
    outputs  the program's outputs that it allocates: number, dtype, shape
    places   of each result: null, or the output it is, or its offset in that memory
    """
    stored = []
    for number, call in enumerate(program.host_calls):
        launch = next(x for x in program.launches if x.kernel is call)
        outputs = [
            [i, b.dtype.name, [dims.to_data(d) for d in b.shape]]
            for i, b in enumerate(program.outputs)
            if program.late.get(b) == number
        ]
        results = launch.args[len(call.graph.inputs) :]
        stored.append(
            {
                "graph": to_text(call.graph, locations=False),
                "bytes": dims.to_data(program.late_bytes.get(number, 0)),
                "outputs": outputs,
                "places": [_place(program, number, buffer) for buffer in results],
            }
        )
    return stored


def _place(program: Program, number: int, buffer: Buffer) -> list[Any] | None:
    if program.late.get(buffer) != number:
        return None
    if buffer in program.outputs:
        return ["output", program.outputs.index(buffer)]
    return ["memory", dims.to_data(program.offsets[buffer.name])]


class LateMemory:
    """What the host calls of one run allocated: results by output number, other memory, and the dims that were told.

    `accepts` is asked when more of these are known, before anything of their size is made; where it says no the run
    ends.
    """

    def __init__(self, accepts: Callable[[Mapping[str, int]], bool] | None = None) -> None:
        self.accepts = accepts
        self.outputs: dict[int, Array] = {}
        self.memory: list[Array] = []
        self.sizes: dict[str, int] = {}


class HostCalls:
    """A program's host calls; `address` is what the program calls.

    `stored`: what `host_calls_data` gave; `symbols`: the program's dims in order.
    """

    def __init__(self, stored: Sequence[Mapping[str, Any]], symbols: Sequence[str]):
        self._calls = [_Call(data, symbols) for data in stored]
        self._local = threading.local()
        self._callback = _PROTOTYPE(self._call)
        self.address = ctypes.cast(self._callback, ctypes.c_void_p).value or 0

    def _call(self, which: int, args: Any, values: Any) -> int:
        try:
            if not self._calls[which].run(args, values, getattr(self._local, "late", None)):
                return UNWANTED
        except BaseException as error:  # an interrupt must not pass through native code either
            self._local.failed = (which, error)
            return FAILED
        return 0

    @contextmanager
    def late_memory(self, accepts: Callable[[Mapping[str, int]], bool] | None = None) -> Iterator[LateMemory]:
        """A run on this thread, whose host calls may allocate."""
        before = getattr(self._local, "late", None)
        self._local.late = late = LateMemory(accepts)
        try:
            yield late
        finally:
            self._local.late = before

    def take_error(self) -> tuple[int, BaseException]:
        """Which call ended this thread's latest run, and what it raised."""
        which, error = self._local.failed
        del self._local.failed
        # Its frames hold arrays over the program's memory, which may be gone by the time someone looks.
        return which, error.with_traceback(None)


class _Call:
    """One host call, ready to run."""

    def __init__(self, data: Mapping[str, Any], symbols: Sequence[str]):
        self.graph: Graph = parse_region(data["graph"])
        self.inputs = [_Seen(v.type) for v in self.graph.inputs]
        self.outputs = [_Seen(v.type) for v in self.graph.outputs]
        self.symbols = symbols
        told = {s.name for node in self.graph.nodes for s in told_symbols(node)}
        self.told = [(i, name) for i, name in enumerate(symbols) if name in told]
        self.memory = dims.from_data(data["bytes"])
        self.made = [
            (number, _Seen(TensorType(tuple(map(dims.from_data, shape)), dtype_named(dtype))))
            for number, dtype, shape in data["outputs"]
        ]
        places = list(enumerate(data["places"]))
        self.output_of = {i: int(place[1]) for i, place in places if place and place[0] == "output"}
        self.offset_of = {
            i: dims.from_data(place[1]) for i, place in places if place and place[0] == "memory"
        }

    def run(self, args: Any, values: Any, late: LateMemory | None) -> bool:
        """Compute from the buffers at `args` into those that follow them; False where the sizes told are not wanted."""
        bindings = {name: values[i] for i, name in enumerate(self.symbols)}
        operands = [seen.at(args[i], bindings, False) for i, seen in enumerate(self.inputs)]
        found = run_bound(self.graph, operands, bindings)
        base = 0
        count = len(self.inputs)
        if self.told:
            if late is None:
                raise RuntimeError(
                    f"{self.graph.name} tells sizes: its program must run inside `late_memory`"
                )
            for i, name in self.told:
                values[i] = late.sizes[name] = bindings[name]
            if late.accepts is not None and not late.accepts(late.sizes):
                return False
            base = self._allocate(args, bindings, late, found)
        for i, (seen, array) in enumerate(zip(self.outputs, found)):
            if i in self.offset_of:
                target = seen.at(base + dims.evaluate(self.offset_of[i], bindings), bindings, True)
            elif i in self.output_of:
                assert late is not None
                target = late.outputs[self.output_of[i]].reshape(array.shape)
            else:
                target = seen.at(args[count + i], bindings, True)
            if target is not array and target.base is not array:
                np.copyto(target, array)
        return True

    def _allocate(
        self, args: Any, bindings: Mapping[str, int], late: LateMemory, found: Sequence[Array]
    ) -> int:
        """Make what has the sizes that were told; the address of the memory that is no output. A result of the call that
        is an output need not be copied if it is an array of its own."""
        base = 0
        after = len(self.inputs) + len(self.outputs)
        if self.memory != 0:
            memory = np.empty(dims.evaluate(self.memory, bindings) + 64, np.uint8)
            late.memory.append(memory)
            base = memory.__array_interface__["data"][0]
            base += -base % 64
            ctypes.c_int64.from_address(args[after + 1]).value = base
        own = {number: found[i] for i, number in self.output_of.items()}
        for number, seen in self.made:
            array = own.get(number)
            if array is None or array.base is not None or not array.flags.carray:
                array = allocator.empty(seen.shape(bindings), seen.dtype)
            late.outputs[number] = array.reshape(seen.shape(bindings))
            address = array.__array_interface__["data"][0]
            ctypes.c_int64.from_address(args[after] + 8 * number).value = address
        return base


class _Seen:
    """Memory seen as arrays of a type."""

    def __init__(self, type_: TensorType):
        self.type = type_
        self.dtype = type_.dtype.numpy
        self._shape = type_.sizes if type_.is_static else None

    def shape(self, bindings: Mapping[str, int]) -> tuple[int, ...]:
        return self.type.bind(bindings).sizes if self._shape is None else self._shape

    def at(self, address: int, bindings: Mapping[str, int], writeable: bool) -> Array:
        """The memory at the address."""
        shape = self.shape(bindings)
        size = prod(shape) * self.dtype.itemsize
        if not size:
            return np.empty(shape, self.dtype)
        memory: Any = (ctypes.c_char * size).from_address(address)
        array: Array = np.ndarray(shape, self.dtype, memory)
        array.flags.writeable = writeable
        return array
