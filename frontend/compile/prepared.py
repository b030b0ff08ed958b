"""What compiled functions keep between calls: results of the launches that read nothing but parameters.

The first call computes them (packed weights, above all), later calls read them, as long as no parameter behind them has
changed. A change shows in a storage's version, in the count of writes through `.data`, or, where a tensor gets other
memory, in `data_changes`. What NumPy or others may write to unseen is never prepared (`Storage.exposed`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np

from ..codegen.forks import Lock
from ..runtime.compiled_graph import CompiledGraph, CompileOptions
from ..tensor import Storage, Tensor, untracked_writes
from .sources import TensorSource
from .trace import Trace

T = TypeVar("T")


def steady_inputs(trace: Trace) -> tuple[str, ...]:
    """The names of the graph's inputs that may be expected to hold the same in many calls: captured tensors that the
    trace does not write to, and that nobody writes to unseen."""
    written = set(trace.writes.values())
    return tuple(
        trace.graph.inputs[slot].name
        for slot, source in enumerate(trace.sources)
        if isinstance(source, TensorSource) and slot not in written and not source.tensor._storage.exposed
    )


def with_preparing(options: CompileOptions, trace: Trace) -> CompileOptions:
    """The options with which the trace's graph keeps what its steady inputs give. Strict numerics and tests of values
    want every launch in every call, in the order of its group."""
    if trace.gpu is not None or not options.prepare or options.pipeline.strict or options.lower.check_finite:
        return options
    return replace(options, lower=replace(options.lower, steady_inputs=steady_inputs(trace)))


class Prepared:
    """The block of memory that a program's leading launches fill (`loops.Program.prepared`), and from what."""

    def __init__(self, graph: CompiledGraph, tensors: Sequence[Tensor]):
        """`tensors`: those that the launches read."""
        self.nbytes = graph.prepared_bytes
        memory = np.zeros(self.nbytes + 64, np.uint8)
        block = memory[-memory.ctypes.data % 64 :]
        self.address = int(block.ctypes.data)
        self._filled = block[:8].view(np.int64)
        self._storages: tuple[Storage, ...] = ()
        self._seen: list[int] = []
        self._lock = Lock()
        self.follow(tensors)

    def follow(self, tensors: Sequence[Tensor]) -> None:
        """The tensors may have other memory than before."""
        storages = tuple(dict.fromkeys(t._storage for t in tensors))
        if storages != self._storages:
            self._storages, self._seen = storages, []
            for storage in storages:
                storage.prepared = True

    @property
    def exposed(self) -> bool:
        """Whether the memory behind it may now be written to unseen."""
        return any(storage.exposed for storage in self._storages)

    def is_current(self) -> bool:
        """Whether the block is what the present parameters give."""
        return self._seen == self._state()

    def filling(self, call: Callable[[], T | None]) -> T | None:
        """The result of a native call that fills the block first, unless another thread has done so meanwhile. After
        None, of a call that did not take place, the next one fills it."""
        with self._lock:
            state = self._state()
            if self._seen != state:
                self._filled[0], self._seen = 0, []
            result = call()
            if result is not None:
                self._filled[0], self._seen = 1, state
            return result

    def _state(self) -> list[int]:
        return [untracked_writes[0], *[storage.version for storage in self._storages]]
