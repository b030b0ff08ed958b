"""Kernels of our own compiler for eager code, where NumPy's way through memory is too long.

Few graphs with symbolic sizes, so that few programs are ever compiled; the disk cache keeps them. The ops' NumPy rules
say what is meant, and compute what these do not.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from functools import cache
from threading import Lock
from typing import Any

import numpy as np

from .ir import dims
from .ir.graph import Graph
from .runtime.allocator import empty
from .runtime.compiled_graph import CompiledGraph, compile_graph
from .runtime.threads import get_num_threads
from .tensor import Array

_lock = Lock()


def compiled(graph: Graph) -> CompiledGraph:
    """Native code for the graph; threads that ask at the same time wait for one."""
    with _lock:
        return compile_graph(graph)


def call(
    kernel: CompiledGraph,
    operands: Sequence[Array],
    sizes: Mapping[str, int],
    results: Sequence[Array] | None = None,
) -> Sequence[Array]:
    """Run native code on arrays, for these sizes of its dims; `results`: contiguous arrays to write to."""
    arrays = [np.ascontiguousarray(a) for a in operands]
    if results is None:
        results = [
            empty([dims.evaluate(d, sizes) for d in type_.shape], type_.dtype.numpy)
            for type_ in kernel.output_types
        ]
    values = (ctypes.c_int64 * len(kernel.symbols))(*(sizes[name] for name in kernel.symbols))
    memory, arena = kernel.arena(sizes)  # noqa: RUF059  (the memory lives as long as the call)
    status = _native(kernel)(
        _addresses(arrays), _addresses(results), arena, ctypes.addressof(values), get_num_threads()
    )
    if status:
        kernel.raise_status(status)
    return results


_PROTOTYPE = ctypes.CFUNCTYPE(
    ctypes.c_int32, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64
)


@cache
def _native(kernel: CompiledGraph) -> Any:
    return _PROTOTYPE(kernel.entry)


def _addresses(arrays: Sequence[Array]) -> Any:
    return (ctypes.c_void_p * len(arrays))(*[a.__array_interface__["data"][0] for a in arrays])
