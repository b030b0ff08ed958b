"""Machine code in this process: object files linked and made callable."""

from __future__ import annotations

import ctypes
import hashlib
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING

from ..codegen.llvm.compile import compile_module, target_machine
from ..codegen.llvm.program import ENTRY, HOST_SLOT
from ..codegen.llvm.thread_pool import POOL_RUN, POOL_WORKERS, pool_module
from ..codegen.target import Target
from . import disk_cache
from .host_calls import HostCalls

if TYPE_CHECKING:
    from llvmlite import binding


class LoadedCode:
    """Linked object files. Their code stays in memory as long as this object lives."""

    def __init__(self, engine: binding.ExecutionEngine):
        self._engine = engine

    def address(self, name: str) -> int:
        """The address of a function; KeyError if the objects do not define it."""
        found = int(self._engine.get_function_address(name))
        if not found:
            raise KeyError(f"the object code has no function {name!r}")
        return found

    def variable(self, name: str) -> int:
        """The address of a global variable; KeyError if the objects do not define it."""
        found = int(self._engine.get_global_value_address(name))
        if not found:
            raise KeyError(f"the object code has no variable {name!r}")
        return found

    def keep_forever(self) -> None:
        """Never unload the code; this object can give no more addresses."""
        self._engine.detach()


def load_objects(objects: Sequence[bytes]) -> LoadedCode:
    """Link a program's object files against each other, the thread pool and this process."""
    _pool()
    return LoadedCode(_link(objects))


def load_llvm_text(text: str) -> LoadedCode:
    """Compile a module for this machine, or take its object code from the disk cache, and load it."""
    import llvmlite

    target = Target.host()
    parts = ("module", text, repr(target), llvmlite.__version__)
    key = hashlib.sha256("\0".join(parts).encode()).hexdigest()
    found = disk_cache.load(key)
    if found is not None:
        return LoadedCode(_link(found[1]))
    data = compile_module(text, target)
    disk_cache.store(key, {}, [data])
    return LoadedCode(_link([data]))


def _link(objects: Sequence[bytes]) -> binding.ExecutionEngine:
    from llvmlite import binding

    machine = target_machine(Target.host())
    empty = binding.parse_assembly("", binding.create_context())
    engine = binding.create_mcjit_compiler(empty, machine)
    for data in objects:
        engine.add_object_file(binding.ObjectFileRef.from_data(data))
    engine.finalize_object()
    return engine


@cache
def _pool() -> dict[str, int]:
    """Load the thread pool, once; the addresses of its functions. Its code is never unloaded: its workers run in it
    until the process ends."""
    from llvmlite import binding

    code = load_llvm_text(pool_module(Target.host()))
    addresses = {name: code.address(name) for name in (POOL_RUN, POOL_WORKERS)}
    binding.add_symbol(POOL_RUN, addresses[POOL_RUN])
    code.keep_forever()
    return addresses


def pool_workers() -> int:
    """How many worker threads the pool has started in this process."""
    return int(ctypes.CFUNCTYPE(ctypes.c_int64)(_pool()[POOL_WORKERS])())


class LoadedProgram:
    """A program's native entry, callable. `host_calls` is what it calls back, where it does."""

    def __init__(self, objects: Sequence[bytes], host_calls: HostCalls | None = None):
        self.code = load_objects(objects)
        self.host_calls = host_calls
        if host_calls is not None:
            ctypes.c_void_p.from_address(self.code.variable(HOST_SLOT)).value = host_calls.address
        self.address = self.code.address(ENTRY)
        pointer = ctypes.c_void_p
        prototype = ctypes.CFUNCTYPE(ctypes.c_int32, pointer, pointer, pointer, pointer, ctypes.c_int64)
        self._entry = prototype(self.address)

    def run(self, inputs: object, outputs: object, arena: int, dims: object, threads: int) -> int:
        """Run it on pointer arrays, arena and dims; the result is 0, the code of a failed check, or
        `host_calls.FAILED`."""
        return int(self._entry(inputs, outputs, arena, dims, threads))
