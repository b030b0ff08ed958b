"""PyTorch's format before 1.6: pickles one after the other, then the storages.

    magic number, protocol version, facts about the machine, the object, the storages' keys:   five pickles
    for each key: the number of elements (int64), the elements

(`_legacy_save` in PyTorch's `serialization.py`.)
"""

from __future__ import annotations

import io
import pickle
import struct
import sys
from typing import Any, BinaryIO

import numpy as np

from ..runtime import lasting
from .locations import Restore
from .pickler import StoragePickler
from .storages import LoadedStorage
from .zip_format import Unpickle, as_bytes, checked_storage, read_into

MAGIC_NUMBER = 0x1950A86A20F9469CFC6C
PROTOCOL_VERSION = 1001


def load_legacy(file: BinaryIO, name: str, restore: Restore, unpickle: Unpickle) -> Any:
    """The object in the file. RuntimeError for a file of another kind, or one whose data is incomplete."""
    here = file.tell()
    size = file.seek(0, io.SEEK_END)
    file.seek(here)
    if size == here:
        raise EOFError(f"Ran out of input: {name} is empty")

    def refuse(saved_id: Any) -> Any:
        raise RuntimeError(f"{name} is damaged: a storage before the object")

    def read(persistent_load: Any = refuse) -> Any:
        return unpickle(file, persistent_load, name)

    try:
        magic = read()
    except pickle.UnpicklingError as error:
        raise pickle.UnpicklingError(f"{name} is no file that torch.save wrote: {error}") from error
    if magic != MAGIC_NUMBER:
        raise RuntimeError(f"Invalid magic number; corrupt file? {name} was not written by torch.save")
    version = read()
    if version != PROTOCOL_VERSION:
        raise RuntimeError(f"Invalid protocol version: {version!r:.40}")
    machine = read()
    little = machine.get("little_endian", True) if isinstance(machine, dict) else None
    if little is not (sys.byteorder == "little"):
        raise RuntimeError(
            f"{name} was saved on a machine of the other byte order, or does not say; such files are not supported. "
            "Load and save it again on a machine like this one."
        )
    roots: dict[str, LoadedStorage] = {}
    views: dict[str, LoadedStorage] = {}
    promised = 0

    def persistent_load(saved_id: Any) -> Any:
        nonlocal promised
        if saved_id and saved_id[0] in ("module", b"module"):
            return saved_id[1]
        if len(saved_id) != 6:
            raise RuntimeError(f"the file describes a storage by {len(saved_id)} values instead of 6")
        _, kind, root_key, location, count, view = saved_id
        kind, key, location, count = checked_storage(kind, root_key, location, count)
        if key not in roots:
            promised += count * kind.dtype.itemsize
            if promised > size - file.tell():
                raise RuntimeError(
                    f"{name} is damaged: its storages say they hold {promised} bytes, and the file has "
                    f"{size - file.tell()} left"
                )
            memory = lasting.empty((count * kind.dtype.itemsize,), np.dtype(np.uint8))
            roots[key] = restore(LoadedStorage(memory, kind), location)
        if view is None:
            return roots[key]
        if not isinstance(view, tuple) or len(view) != 3 or any(type(n) is not int for n in view[1:]):
            raise RuntimeError(
                "the file describes a part of a storage by something other than key, offset, size"
            )
        view_key = str(view[0])
        if view_key not in views:
            views[view_key] = roots[key].part(view[1], view[2])
        return views[view_key]

    result = read(persistent_load)
    keys = read()
    if not isinstance(keys, list) or sorted(map(str, keys)) != sorted(roots):
        raise RuntimeError(f"{name} is damaged: the storages that follow are not those of the object")
    for key in keys:
        storage = roots[str(key)]
        header = file.read(8)
        if len(header) < 8:
            raise RuntimeError(f"{name} is damaged: unexpected EOF before storage {key}")
        (count,) = struct.unpack("=q", header)
        if count != storage.size():
            raise RuntimeError(
                f"storage has wrong byte size: expected {storage.nbytes()} got {count * storage.dtype.itemsize}"
            )
        if storage.memory.size and read_into(file, storage.memory) != storage.memory.size:
            raise RuntimeError(f"{name} is damaged: unexpected EOF inside storage {key}")
    return result


def save_legacy(obj: Any, file: BinaryIO, protocol: int) -> None:
    """Write the object in the old format, `_use_new_zipfile_serialization=False`."""
    machine = {
        "protocol_version": PROTOCOL_VERSION,
        "little_endian": sys.byteorder == "little",
        "type_sizes": {"short": 2, "int": 4, "long": 4},
    }
    for value in (MAGIC_NUMBER, PROTOCOL_VERSION, machine):
        pickle.dump(value, file, protocol=protocol)
    pickler = StoragePickler(file, protocol, legacy=True)
    pickler.dump(obj)
    storages = sorted(pickler.storages.values(), key=lambda storage: storage.key)
    pickle.dump([storage.key for storage in storages], file, protocol=protocol)
    for storage in storages:
        file.write(struct.pack("=q", storage.count))
        file.write(as_bytes(storage.memory))
