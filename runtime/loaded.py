"""Machine code in this process: object files linked and made callable."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING

from ..codegen.llvm.compile import compile_module, target_machine
from ..codegen.llvm.program import ENTRY
from ..codegen.llvm.thread_pool import POOL_RUN, POOL_WORKERS, pool_module
from ..codegen.target import Target

if TYPE_CHECKING:
    from llvmlite import binding


def _link(objects: Sequence[bytes]) -> binding.ExecutionEngine:
    from llvmlite import binding

    empty = binding.parse_assembly("", binding.create_context())
    engine = binding.create_mcjit_compiler(empty, target_machine(Target.host()))
    for data in objects:
        engine.add_object_file(binding.ObjectFileRef.from_data(data))
    engine.finalize_object()
    return engine


@cache
def _pool() -> binding.ExecutionEngine:
    """The thread pool's code, loaded once. It is never unloaded: its workers run in it until the process ends."""
    from llvmlite import binding

    engine = _link([compile_module(pool_module(Target.host()), Target.host())])
    binding.add_symbol(POOL_RUN, engine.get_function_address(POOL_RUN))
    engine.detach()
    return engine


def pool_workers() -> int:
    """How many worker threads the pool has started in this process."""
    address = _pool().get_function_address(POOL_WORKERS)
    return ctypes.CFUNCTYPE(ctypes.c_int64)(address)()


class LoadedProgram:
    """A program's entry, callable. `address` is the entry's; the code lives as long as this object."""

    def __init__(self, objects: Sequence[bytes]):
        _pool()
        self._engine = _link(objects)
        self.address: int = self._engine.get_function_address(ENTRY)
        if not self.address:
            raise RuntimeError(f"the object code has no entry {ENTRY!r}")
        pointer = ctypes.c_void_p
        prototype = ctypes.CFUNCTYPE(ctypes.c_int32, pointer, pointer, pointer, pointer, ctypes.c_int64)
        self._entry = prototype(self.address)

    def run(self, inputs: int, outputs: int, arena: int, dims: int, threads: int) -> int:
        """Run it on addresses of pointer arrays, arena and dims; the result is 0 or the code of a failed check."""
        return self._entry(inputs, outputs, arena, dims, threads)
