"""Tensors by name in files, in the safetensors format: plain data, nothing in a file is ever executed.

    save_file(model.state_dict(), "model.safetensors")
    model.load_state_dict(load_file("model.safetensors"))

https://github.com/huggingface/safetensors describes the format: the length of a header (uint64), the header (JSON:
name to dtype, shape and place), the bytes. The library writes it. It is read here, because the library's NumPy side
copies and knows no bfloat16: these arrays lie over the mapped file.
"""

from __future__ import annotations

import json
import math
import mmap
import os
from collections.abc import Mapping
from typing import Any, TypeGuard

import numpy as np

from ..functional_host import host_array
from ..functional_tensor import typename
from ..ir import dtypes
from ..ir.dtypes import DType
from ..placement import gpu_of, transferred
from ..tensor import Array, Tensor, wrap

Path = str | os.PathLike[str]

INDEX_SUFFIX = ".index.json"
_MAX_HEADER = 100_000_000  # the library's limit
_DTYPES: dict[str, DType] = {
    "BOOL": dtypes.bool_, "U8": dtypes.u8, "I8": dtypes.i8, "U16": dtypes.u16, "I16": dtypes.i16,
    "U32": dtypes.u32, "I32": dtypes.i32, "U64": dtypes.u64, "I64": dtypes.i64, "F16": dtypes.f16,
    "BF16": dtypes.bf16, "F32": dtypes.f32, "F64": dtypes.f64, "C64": dtypes.c64,
}  # fmt: skip
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}


def save_file(tensors: Mapping[str, Tensor], path: Path, metadata: Mapping[str, str] | None = None) -> None:
    """Write the tensors, each with its own data; `metadata` is text about the whole file.

    TypeError for a value that is no tensor (an optimizer's state holds numbers as well).
    """
    arrays: dict[str, Array] = {}
    for name, tensor in tensors.items():
        if not isinstance(name, str):
            raise TypeError(f"save_file: names must be strings, got {name!r}")
        if not isinstance(tensor, Tensor):
            raise TypeError(f"save_file: {name!r} is a {typename(tensor)}; only tensors can be saved")
        if tensor.dtype not in _NAMES:
            raise TypeError(f"save_file: {name!r} is {tensor.dtype}, which the format does not have")
        array = host_array(tensor, "save_file")
        arrays[name] = np.ascontiguousarray(array).reshape(array.shape)  # NumPy makes 0-d arrays 1-d
    from safetensors import numpy as library

    library.save_file(arrays, path, None if metadata is None else dict(metadata))


def load_file(path: Path, device: Any = "cpu", *, mmap: bool = True) -> dict[str, Tensor]:
    """The tensors of a file, by name. RuntimeError for a file that is damaged or of another format.

    They lie in the mapped file, and what is never used is never read; writes stay in this process. `mmap=False`
    reads the file instead.
    """
    gpu = gpu_of(device)
    header, data = _read(path, mmap)
    found: dict[str, Tensor] = {}
    taken: list[tuple[int, int]] = []
    for name, entry in header.items():
        if name != "__metadata__":
            array, place = _array(name, entry, data, path)
            found[name] = transferred(wrap(array), gpu)
            taken.append(place)
    end = 0
    for start, stop in sorted(taken):
        if start != end:
            raise _damaged(path, "its tensors overlap or leave gaps (InvalidOffset)")
        end = stop
    if end != data.size:
        raise _damaged(
            path, f"its tensors take {end} bytes, and it holds {data.size} (MetadataIncompleteBuffer)"
        )
    return found


def load_sharded(path: Path, *, mmap: bool = True) -> dict[str, Tensor]:
    """The tensors of all files that an index (`model.safetensors.index.json`) names.

    RuntimeError for an index that is damaged, that names files outside its folder, or names tensors that are not
    in the files; FileNotFoundError for a file that is missing.
    """
    try:
        with open(path, encoding="utf-8") as file:
            weight_map = json.load(file)["weight_map"]
        shards: dict[str, list[str]] = {}
        for name, shard in weight_map.items():
            shards.setdefault(shard, []).append(name)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise RuntimeError(f"{os.fspath(path)} is not an index of safetensors files: {error!r}") from error
    folder = os.path.dirname(os.fspath(path))
    found: dict[str, Tensor] = {}
    for shard, names in shards.items():
        plain = isinstance(shard, str) and os.path.basename(shard) == shard and "\\" not in shard
        if not plain or shard in ("", ".", ".."):
            raise RuntimeError(f"{os.fspath(path)} names a file outside its folder: {shard!r}")
        tensors = load_file(os.path.join(folder, shard), mmap=mmap)
        missing = [name for name in names if name not in tensors]
        if missing:
            raise RuntimeError(
                f"{os.fspath(path)} says that {shard} holds {', '.join(missing[:5])}, and it does not"
            )
        found.update({name: tensors[name] for name in names})
    return {name: found[name] for name in weight_map}


def read_metadata(path: Path) -> dict[str, str]:
    """The text that was saved about the whole file; empty if none was."""
    header, _ = _read(path, True)
    return dict(header.get("__metadata__") or {})


def _read(path: Path, mapped: bool) -> tuple[dict[str, Any], Array]:
    """The header, and the bytes after it."""
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > min(size - 8, _MAX_HEADER):
            raise _damaged(path, "the header is longer than the file (HeaderTooLarge)")
        try:
            header = json.loads(file.read(length), object_pairs_hook=_unique)
        except (ValueError, RecursionError) as error:
            raise _damaged(path, f"the header is no JSON: {error} (InvalidHeader)") from error
        if not isinstance(header, dict):
            raise _damaged(path, "the header is no table (InvalidHeader)")
        metadata = header.get("__metadata__", {})
        if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
            raise _damaged(path, "__metadata__ is no table of text (InvalidHeader)")
        if mapped:
            whole = np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY), np.uint8)
            return header, whole[8 + length :]
        data = np.fromfile(file, np.uint8)
    if data.size != size - 8 - length:
        raise _damaged(path, "it ends too early")
    return header, data


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands in it twice")
    return found


def _array(name: str, entry: Any, data: Array, path: Path) -> tuple[Array, tuple[int, int]]:
    if not isinstance(entry, dict):
        raise _damaged(path, f"{name!r} is not described")
    dtype = _DTYPES.get(entry["dtype"]) if isinstance(entry.get("dtype"), str) else None
    if dtype is None:
        raise _damaged(path, f"{name!r} has the dtype {entry.get('dtype')!r:.40}, which is not supported")
    shape, place = entry.get("shape"), entry.get("data_offsets")
    if not _naturals(shape) or not _naturals(place) or len(place) != 2 or len(shape) > 64:
        raise _damaged(path, f"{name!r} has no valid shape and place")
    start, end = place
    if end > data.size or end - start != math.prod(shape) * dtype.itemsize:
        raise _damaged(path, f"{name!r} does not lie inside the file (TensorInvalidInfo)")
    part = data[start:end]
    if part.size and part.ctypes.data % dtype.itemsize:
        part = part.copy()
    return part.view(dtype.numpy).reshape(shape), (start, end)


def _naturals(value: Any) -> TypeGuard[list[int]]:
    return isinstance(value, list) and all(type(n) is int and 0 <= n < 2**63 for n in value)


def _damaged(path: Path, why: str) -> RuntimeError:
    return RuntimeError(f"{os.fspath(path)} is not a readable safetensors file: {why}")
