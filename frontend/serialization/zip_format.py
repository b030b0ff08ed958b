"""PyTorch's zip format: a pickle, and beside it one uncompressed record per storage.

    archive/data.pkl            the object; a storage is ("storage", type, key, location, number of elements)
    archive/byteorder           "little" or "big"
    archive/data/<key>          the bytes of a storage, at a multiple of 64 in the file
    archive/version             "3"

(`caffe2/serialize/inline_container.cc` in PyTorch.) Records are read straight from their place in the file, which
an uncompressed record allows; nothing is ever extracted.
"""

from __future__ import annotations

import io
import mmap
import os
import struct
import sys
import zlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from ..runtime import lasting
from ..tensor import Array
from .locations import Restore
from .pickler import StoragePickler
from .storages import LoadedStorage, StorageType

if TYPE_CHECKING:
    import zipfile

_ALIGNMENT = 64
_LOCAL_HEADER = struct.Struct("<4s5H3I2H")
_SMALL_RECORD = 1 << 16
_STORED = 0
_ZIP32_LIMIT = (1 << 31) - 1


class Archive:
    """The records of one file. RuntimeError wherever they are not as PyTorch writes them."""

    def __init__(self, file: BinaryIO, name: str, mapped: bool):
        import zipfile

        self.file, self.name = file, name
        self.size = file.seek(0, io.SEEK_END)
        try:
            with zipfile.ZipFile(file) as directory:
                entries = directory.infolist()
        except (zipfile.BadZipFile, NotImplementedError, ValueError, struct.error, OverflowError) as error:
            raise RuntimeError(
                f"PytorchStreamReader failed reading zip archive: {error} ({name} is damaged or incomplete)"
            ) from error
        roots = [e.filename[: -len("data.pkl")] for e in entries if e.filename.endswith("/data.pkl")]
        roots = [root for root in roots if root.count("/") == 1]
        if len(roots) != 1:
            raise RuntimeError(
                f"PytorchStreamReader failed locating file data.pkl: file not found; {name} is a zip file, but not "
                "one that torch.save wrote"
            )
        self.root = roots[0]
        self.entries: dict[str, zipfile.ZipInfo] = {}
        for entry in entries:
            if entry.filename in self.entries:
                raise RuntimeError(f"{name} holds two records named {entry.filename!r}")
            self.entries[entry.filename] = entry
        # Many records over the same bytes would take more memory than the file has.
        if sum(entry.file_size for entry in entries if entry.compress_type == _STORED) > self.size:
            raise RuntimeError(f"{name} is damaged: its records say they are longer than the file")
        self.mapped: Array | None = None
        if mapped:
            # Copy on write: changes stay in this process.
            self.mapped = np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY), np.uint8)

    def has(self, record: str) -> bool:
        """Whether there is such a record."""
        return self.root + record in self.entries

    def text(self, record: str) -> str:
        """A small record."""
        entry = self._entry(record)
        if entry.file_size > _SMALL_RECORD:
            raise RuntimeError(f"{self.name} is damaged: {entry.filename} holds {entry.file_size} bytes")
        return bytes(self.read(record, entry.file_size)).decode("ascii", "replace").strip()

    def length(self, record: str) -> int:
        """The number of bytes in a record."""
        return self._entry(record).file_size

    def read(self, record: str, nbytes: int) -> Array:
        """The first bytes of a record, as uint8: read, or mapped where the file is."""
        entry = self._entry(record)
        if nbytes > entry.file_size:
            raise RuntimeError(
                f"{self.name} is damaged: {entry.filename} holds {entry.file_size} bytes, and {nbytes} are asked for"
            )
        start = self._start(entry)
        if self.mapped is not None and start % 16 == 0:
            return self.mapped[start : start + nbytes]
        memory = lasting.empty((entry.file_size,), np.dtype(np.uint8))
        self.file.seek(start)
        if memory.size and read_into(self.file, memory) != memory.size:
            raise RuntimeError(f"{self.name} is damaged: it ends inside {entry.filename}")
        # 0: written with `set_crc32_options(False)`.
        if entry.CRC and zlib.crc32(as_bytes(memory)) != entry.CRC:
            raise RuntimeError(f"{self.name} is damaged: the checksum of {entry.filename} is wrong")
        return memory[:nbytes]

    def _entry(self, record: str) -> zipfile.ZipInfo:
        found = self.entries.get(self.root + record)
        if found is None:
            raise RuntimeError(
                f"PytorchStreamReader failed locating file {record}: file not found in {self.name}"
            )
        if found.flag_bits & 1:
            raise RuntimeError(f"{self.name}: {found.filename} is encrypted")
        if found.compress_type != _STORED:
            raise RuntimeError(
                f"{self.name}: {found.filename} is compressed, which torch.save never does. Pack the file again "
                "without compression (zip -0)."
            )
        return found

    def _start(self, entry: zipfile.ZipInfo) -> int:
        header = b""
        if 0 <= entry.header_offset < self.size:
            self.file.seek(entry.header_offset)
            header = self.file.read(_LOCAL_HEADER.size)
        if len(header) == _LOCAL_HEADER.size:
            magic, *_, name_length, extra_length = _LOCAL_HEADER.unpack(header)
            start = entry.header_offset + _LOCAL_HEADER.size + name_length + extra_length
            if magic == b"PK\3\4" and start + entry.file_size <= self.size:
                return start
        raise RuntimeError(f"{self.name} is damaged: {entry.filename} is not where the directory says")


def as_bytes(memory: Array) -> memoryview:
    """The array as Python's functions for files take it."""
    return memoryview(memory)  # type: ignore[arg-type]


def read_into(file: BinaryIO, memory: Array) -> int:
    """Fill the memory from the file; how many bytes there were."""
    if hasattr(file, "readinto"):
        view, done = as_bytes(memory), 0
        while done < len(view):
            count = file.readinto(view[done:])
            if not count:
                break
            done += count
        return done
    data = file.read(memory.size)
    memory[: len(data)] = np.frombuffer(data, np.uint8)
    return len(data)


Unpickle = Callable[[BinaryIO, Callable[[Any], Any], str], Any]


def load_zip(archive: Archive, restore: Restore, unpickle: Unpickle) -> Any:
    """The object in the file. `unpickle(file, persistent_load, name)` reads the pickle."""
    if archive.has("constants.pkl"):
        raise RuntimeError(
            f"{archive.name} is a TorchScript archive, which holds code; torch.load does not read it here. Save the "
            "state_dict() of the module instead."
        )
    order = archive.text("byteorder") if archive.has("byteorder") else "little"
    if order not in ("little", "big"):
        raise ValueError(f"Unknown endianness type: {order}")
    if order != sys.byteorder:
        raise RuntimeError(
            f"{archive.name} was saved on a {order}-endian machine; such files are not supported. Load and save it "
            f"again on a {sys.byteorder}-endian one."
        )
    loaded: dict[str, LoadedStorage] = {}

    def persistent_load(saved_id: Any) -> LoadedStorage:
        kind, key, location, count = _checked_id(saved_id)
        if key not in loaded:
            memory = archive.read(f"data/{key}", count * kind.dtype.itemsize)
            loaded[key] = restore(LoadedStorage(memory, kind), location)
        return loaded[key]

    # The pickle is read, not mapped.
    mapped, archive.mapped = archive.mapped, None
    data = io.BytesIO(archive.read("data.pkl", archive.length("data.pkl")).tobytes())
    archive.mapped = mapped
    return unpickle(data, persistent_load, f"{archive.root}data.pkl in {archive.name}")


def _checked_id(saved_id: Any) -> tuple[StorageType, str, str, int]:
    if len(saved_id) != 5:
        raise RuntimeError(f"the file describes a storage by {len(saved_id)} values instead of 5")
    _, kind, key, location, count = saved_id
    return (*checked_storage(kind, key, location, count),)


def checked_storage(kind: Any, key: Any, location: Any, count: Any) -> tuple[StorageType, str, str, int]:
    """Type, key, location and number of elements of a storage, if they are what they should be."""
    if isinstance(location, bytes):
        location = location.decode("ascii", "replace")
    if isinstance(key, int | bytes):
        key = key.decode("ascii", "replace") if isinstance(key, bytes) else str(key)
    if not isinstance(kind, StorageType) or not isinstance(key, str) or not isinstance(location, str):
        raise RuntimeError("the file describes a storage without a type, key or location")
    if type(count) is not int or count < 0:
        raise RuntimeError(f"the file describes a storage of {count!r:.40} elements")
    return kind, key, location, count


def save_zip(obj: Any, file: BinaryIO, root: str, protocol: int, byteorder: bool = True) -> None:
    """Write the object. The same object gives the same bytes."""
    import zipfile

    data = io.BytesIO()
    pickler = StoragePickler(data, protocol)
    pickler.dump(obj)
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        _write(archive, f"{root}/data.pkl", data.getvalue())
        _write(archive, f"{root}/.format_version", b"1")
        _write(archive, f"{root}/.storage_alignment", str(_ALIGNMENT).encode())
        if byteorder:
            _write(archive, f"{root}/byteorder", sys.byteorder.encode())
        for storage in pickler.storages.values():
            _write(archive, f"{root}/data/{storage.key}", storage.memory)
        _write(archive, f"{root}/version", b"3\n")


def _write(archive: zipfile.ZipFile, name: str, data: bytes | Array) -> None:
    import zipfile

    entry = zipfile.ZipInfo(name)
    size = len(data)
    entry.file_size = size
    large = size * 1.05 > _ZIP32_LIMIT
    assert archive.fp is not None
    # zipfile adds its own field of 20 bytes to the header of a large record.
    start = archive.fp.tell() + _LOCAL_HEADER.size + len(name) + (20 if large else 0) + 4
    padding = -start % _ALIGNMENT
    entry.extra = struct.pack("<2sH", b"FB", padding) + b"Z" * padding
    with archive.open(entry, "w", force_zip64=large) as record:
        if size:
            record.write(as_bytes(data) if isinstance(data, np.ndarray) else data)


def root_name(path: str | os.PathLike[str] | None) -> str:
    """The folder inside the archive: PyTorch names it for the file."""
    if path is None:
        return "archive"
    stem = os.path.splitext(os.path.basename(os.fspath(path)))[0]
    return stem if stem.isascii() and stem else "archive"
