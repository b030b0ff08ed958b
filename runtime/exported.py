"""Exported libraries, loaded and called from Python: no compiler, no llvmlite.

The C interface is that of docs/export.md, the same that a C program uses.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import re
import struct
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..codegen.c_interface import ABI_VERSION, ALIGNMENT, BAD_DIMS, DTYPES, NAME_SYMBOL
from ..ir import dtypes
from ..ir.dtypes import DType

Array = np.ndarray[Any, Any]

_MOST_CALLS = 256  # kinds of calls that are remembered

_LINEAR = re.compile(r"(?:(?P<factor>\d+)\*)?(?P<name>[A-Za-z_]\w*)(?P<plus>[+-]\d+)?")


class _TensorInfo(ctypes.Structure):
    _fields_ = [
        ("name", ctypes.c_char_p),
        ("dtype", ctypes.c_int32),
        ("rank", ctypes.c_int32),
        ("dims", ctypes.POINTER(ctypes.c_int64)),
        ("shape", ctypes.c_char_p),
    ]


class _DimInfo(ctypes.Structure):
    _fields_ = [("name", ctypes.c_char_p), ("low", ctypes.c_int64), ("high", ctypes.c_int64)]


@dataclass(frozen=True)
class TensorInfo:
    """An input or output: sizes are numbers, or names and expressions of dims as text."""

    name: str
    dtype: DType
    shape: tuple[int | str, ...]

    def __str__(self) -> str:
        return f"{self.name}: {self.dtype.name}[{', '.join(map(str, self.shape))}]"


@dataclass(frozen=True)
class DimInfo:
    """A dim and its inclusive bounds."""

    name: str
    low: int
    high: int


@dataclass(frozen=True)
class _Call:
    """What calls with the same shapes share: the dims, each output's shape and dtype, the arena's size."""

    dims: Any
    outputs: tuple[tuple[tuple[int, ...], np.dtype[Any]], ...]
    arena_bytes: int


@dataclass(frozen=True)
class _Arena:
    memory: Array
    address: int
    nbytes: int


class ExportedLibrary:
    """A library that `export_graph` wrote. May be called from several threads at once.

    name, inputs, outputs, dims: what the library says of itself. Raises OSError where the file is no such library, or
    its weights are not to be found.
    """

    def __init__(self, path: str | os.PathLike[str], weights: str | os.PathLike[str] | None = None):
        self.path = Path(path).resolve()
        if not self.path.is_file():
            raise FileNotFoundError(f"no library {os.fspath(path)}")
        _check_file(self.path)
        self._library = ctypes.CDLL(_name_to_load(self.path))
        self.name = self._own_name()
        version = self._function("abi_version", ctypes.c_int32)()
        if version != ABI_VERSION:
            raise OSError(
                f"{self.path} has version {version} of the interface; this vitrify knows {ABI_VERSION}"
            )
        self.inputs = self._tensors("input")
        self.outputs = self._tensors("output")
        self.dims = self._dims()
        self._positions = {d.name: i for i, d in enumerate(self.dims)}
        pointer, i32, i64 = ctypes.c_void_p, ctypes.c_int32, ctypes.c_int64
        self._run = self._function("run", i32, pointer, pointer, pointer, pointer, i64, i32)
        self._arena_bytes = self._function("arena_bytes", i64, pointer)
        self._output_shape = self._function("output_shape", i32, i32, pointer, pointer)
        self._error = self._function("error", ctypes.c_char_p, i32)
        self._arenas = threading.local()
        self._calls: dict[Any, _Call] = {}
        self._mapped: Array | None = None
        file_name = self._function("weights_file", ctypes.c_char_p)()
        if file_name is not None:
            self._set_weights(Path(weights) if weights is not None else self.path.parent / file_name.decode())
        elif weights is not None:
            raise ValueError(
                f"{self.path} holds its weights itself; weights={os.fspath(weights)!r} does not belong to it"
            )

    def _own_name(self) -> str:
        try:
            return ctypes.string_at(
                ctypes.addressof(ctypes.c_char.in_dll(self._library, NAME_SYMBOL))
            ).decode()
        except ValueError:
            raise OSError(f"{self.path} was not made by vitrify.export") from None

    def _function(self, name: str, result: Any, *arguments: Any) -> Any:
        return ctypes.CFUNCTYPE(result, *arguments)((f"{self.name}_{name}", self._library))

    def _tensors(self, kind: str) -> tuple[TensorInfo, ...]:
        count = self._function(f"{kind}_count", ctypes.c_int32)()
        info = self._function(f"{kind}_info", ctypes.POINTER(_TensorInfo), ctypes.c_int32)
        found = []
        for i in range(count):
            raw = info(i).contents
            texts = [t.strip() for t in raw.shape.decode()[1:-1].split(",")] if raw.rank else []
            shape = tuple(raw.dims[a] if raw.dims[a] >= 0 else texts[a] for a in range(raw.rank))
            found.append(TensorInfo(raw.name.decode(), getattr(dtypes, _OWN[raw.dtype]), shape))
        return tuple(found)

    def _dims(self) -> tuple[DimInfo, ...]:
        info = self._function("dim_info", ctypes.POINTER(_DimInfo), ctypes.c_int32)
        raw = [info(i).contents for i in range(self._function("dim_count", ctypes.c_int32)())]
        return tuple(DimInfo(r.name.decode(), r.low, r.high) for r in raw)

    def _set_weights(self, path: Path) -> None:
        try:
            with path.open("rb") as file:
                mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:
            raise OSError(f"the weights of {self.path} cannot be read from {path}: {error}") from error
        self._mapped = np.frombuffer(mapped, np.uint8)
        take = self._function("set_weights", ctypes.c_int32, ctypes.c_void_p, ctypes.c_int64)
        status = take(self._mapped.ctypes.data, self._mapped.nbytes)
        if status:
            raise OSError(f"{path}: {self.error(status)} {self.path}")
        # The library keeps the address, and the process keeps the library.
        _forever.append(self._mapped)

    def error(self, status: int) -> str:
        """What a status means."""
        return str(self._error(status).decode())

    def run(self, arrays: Sequence[Array], threads: int = 1) -> list[Array]:
        """The outputs for these inputs, as new arrays. TypeError or ValueError where an input does not fit, IndexError
        where a check of the program fails."""
        key = tuple([(a.shape, a.dtype) for a in arrays])
        call = self._calls.get(key)
        if call is None:
            if len(self._calls) >= _MOST_CALLS:
                self._calls.clear()
            call = self._calls[key] = self._prepared(arrays)
        given = [a if a.flags.c_contiguous else np.ascontiguousarray(a) for a in arrays]
        results = [np.empty(shape, dtype) for shape, dtype in call.outputs]
        arena = self._arena(call.arena_bytes)
        status = self._run(
            _addresses(given), _addresses(results), call.dims, arena.address, arena.nbytes, threads
        )
        if status:
            self._raise(status)
        return results

    def _prepared(self, arrays: Sequence[Array]) -> _Call:
        values = self._values(arrays)
        dims = (ctypes.c_int64 * max(1, len(values)))(*values)
        outputs = []
        for i, output in enumerate(self.outputs):
            shape = (ctypes.c_int64 * max(1, len(output.shape)))()
            self._raise(self._output_shape(i, dims, shape))
            outputs.append((tuple(shape[: len(output.shape)]), output.dtype.numpy))
        nbytes = self._arena_bytes(dims)
        if nbytes < 0:
            self._raise(nbytes)
        return _Call(dims, tuple(outputs), nbytes)

    def _values(self, arrays: Sequence[Array]) -> list[int]:
        """The dims of a call; TypeError or ValueError says which input does not fit."""
        if len(arrays) != len(self.inputs):
            raise TypeError(f"{self.name} takes {len(self.inputs)} inputs, got {len(arrays)}")
        bound: dict[str, int] = {}
        for info, array in zip(self.inputs, arrays):
            fits = array.ndim == len(info.shape) and array.dtype == info.dtype.numpy
            for size, declared in zip(array.shape, info.shape):
                fits = fits and _agrees(size, declared, bound)
            if not fits:
                known = f" with {', '.join(f'{n} = {v}' for n, v in bound.items())}" if bound else ""
                raise ValueError(
                    f"{self.name} takes {info}{known}; {info.name} is {array.dtype}[{', '.join(map(str, array.shape))}]"
                )
        for dim in self.dims:
            if not dim.low <= bound[dim.name] <= dim.high:
                raise ValueError(
                    f"{self.name}: {self.error(BAD_DIMS)}: {dim.name} = {bound[dim.name]}, not {dim.low} to {dim.high}"
                )
        return [bound[d.name] for d in self.dims]

    def _arena(self, nbytes: int) -> _Arena:
        """Scratch memory of this thread, kept from call to call."""
        kept: _Arena | None = getattr(self._arenas, "memory", None)
        if kept is None or kept.nbytes < nbytes:
            memory = np.empty(nbytes, np.uint8)
            kept = self._arenas.memory = _Arena(memory, memory.ctypes.data, nbytes)
        return kept

    def _raise(self, status: int) -> None:
        if status > 0:
            raise IndexError(self.error(status))
        if status < 0:
            raise RuntimeError(f"{self.name}: {self.error(status)}")

    def __repr__(self) -> str:
        return f"<exported {self.name}({', '.join(map(str, self.inputs))}) -> {', '.join(map(str, self.outputs))}>"


def _check_file(path: Path) -> None:
    """OSError unless the file is a whole ELF file of 64 bits: the system would map a part of one, and the process would
    end where the rest is missing."""
    with path.open("rb") as file:
        head = file.read(64)
        size = os.fstat(file.fileno()).st_size
    if len(head) < 64 or head[:5] != b"\x7fELF\x02":
        raise OSError(f"{path} is not a shared library")
    # The table of sections, which linkers write last: its place, the size of an entry, how many there are.
    (place,), (entry, count) = struct.unpack_from("<Q", head, 40), struct.unpack_from("<HH", head, 58)
    if place + entry * count > size:
        raise OSError(f"{path} is cut off: it has {size} bytes, and says {place + entry * count}")


def _name_to_load(path: Path) -> str:
    """A name for the file that the system has not loaded another file by. It knows libraries by the names they were
    opened by, and keeps ours for good; so one that was written anew gets `/.` in its name, once more each time."""
    about = path.stat()
    files = _loaded.setdefault(path, [])
    identity = about.st_dev, about.st_ino
    if identity not in files:
        files.append(identity)
    return os.path.join(path.parent, *["."] * files.index(identity), path.name)


# The files that were loaded by a path, by device and number; a loaded file's number is not given to another one.
_loaded: dict[Path, list[tuple[int, int]]] = {}
_OWN = [f"{name}_" if name == "bool" else name for name in DTYPES]
_forever: list[Array] = []


def _addresses(arrays: Sequence[Array]) -> Any:
    # An empty array's address may be null, which the library takes for a mistake; nothing is read there.
    return (ctypes.c_void_p * max(1, len(arrays)))(*[a.ctypes.data or ALIGNMENT for a in arrays])


def _agrees(size: int, declared: int | str, bound: dict[str, int]) -> bool:
    """Whether a size is what was declared: a number, or a dim (`batch`, `2*n`, `n+1`), which `bound` learns."""
    if isinstance(declared, int):
        return size == declared
    linear = _LINEAR.fullmatch(declared)
    if linear is None:
        return bound.setdefault(declared, size) == size
    factor, plus = int(linear["factor"] or 1), int(linear["plus"] or 0)
    value = bound.setdefault(linear["name"], (size - plus) // factor)
    return size == factor * value + plus
