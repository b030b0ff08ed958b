"""Machine code in this process: object files linked and made callable."""

from __future__ import annotations

import ctypes
import hashlib
import struct
from collections.abc import Sequence
from itertools import count
from typing import TYPE_CHECKING

from ..codegen.forks import once
from ..codegen.llvm.compile import compile_module, target_machine
from ..codegen.llvm.process import inside_llvm
from ..codegen.llvm.program import ENTRY, HOST_SLOT
from ..codegen.llvm.thread_pool import POOL_RUN, POOL_WORKERS, pool_module
from ..codegen.target import Target
from . import disk_cache
from .host_calls import HostCalls

if TYPE_CHECKING:
    from llvmlite import binding


_numbers = count()
# ELF: the type of a symbol table, the binding of a name that others may use, and the first fields of a symbol.
_SYMBOLS, _GLOBAL, _SYMBOL = 2, 1, struct.Struct("<IBBH16x")


class LoadedCode:
    """Linked object files. Their code stays in memory as long as this object lives."""

    def __init__(self, linked: binding.ResourceTracker):
        self._linked = linked

    def address(self, name: str) -> int:
        """The address of a function; KeyError if the objects do not define it."""
        return self._find("function", name)

    def variable(self, name: str) -> int:
        """The address of a global variable; KeyError if the objects do not define it."""
        return self._find("variable", name)

    def _find(self, what: str, name: str) -> int:
        try:
            return int(self._linked[name])
        except KeyError:
            raise KeyError(f"the object code has no {what} {name!r}") from None

    def keep_forever(self) -> None:
        """Never unload the code; this object can give no more addresses."""
        self._linked.detach()


def load_objects(objects: Sequence[bytes]) -> LoadedCode:
    """Link a program's object files against each other, the thread pool and this process."""
    return LoadedCode(_link(objects, **{POOL_RUN: _pool()[POOL_RUN]}))


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


@inside_llvm()
def _link(objects: Sequence[bytes], **known: int) -> binding.ResourceTracker:
    """Link object files against each other, this process, and what lies at the `known` addresses."""
    from llvmlite import binding

    library = binding.JITLibraryBuilder().add_current_process()
    for data in objects:
        library.add_object_img(data)
        for name in defined_symbols(data):
            library.export_symbol(name)
    for name, address in known.items():
        library.import_symbol(name, address)
    return library.link(_linker(), f"program {next(_numbers)}")


def defined_symbols(data: bytes) -> list[str]:
    """The names that an object file defines for others (ELF-64: System V ABI, "Symbol Table")."""
    (start,) = struct.unpack_from("<Q", data, 0x28)
    size, count = struct.unpack_from("<HH", data, 0x3A)
    sections = [struct.unpack_from("<IIQQQQII", data, start + size * i) for i in range(count)]
    found = []
    for _, kind, _, _, offset, length, link, _ in sections:
        if kind != _SYMBOLS:
            continue
        names = sections[link][4]
        for at in range(offset, offset + length, _SYMBOL.size):
            name, info, _, section = _SYMBOL.unpack_from(data, at)
            if info >> 4 == _GLOBAL and section:
                found.append(data[names + name : data.index(b"\0", names + name)].decode())
    return found


@once
def _linker() -> binding.LLJIT:
    """LLVM's JITLink. It keeps the sections of an object together: where big mappings fill the address space, those that
    lie apart are further from each other than machine code reaches, and the older MCJIT ends the process."""
    from llvmlite import binding

    machine = target_machine(Target.host())
    return binding.create_lljit_compiler(machine, use_jit_link=True, suppress_errors=True)


@once
def _pool() -> dict[str, int]:
    """Load the thread pool, once; the addresses of its functions. Its code is never unloaded: its workers run in it
    until the process ends."""
    code = load_llvm_text(pool_module(Target.host()))
    addresses = {name: code.address(name) for name in (POOL_RUN, POOL_WORKERS)}
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
