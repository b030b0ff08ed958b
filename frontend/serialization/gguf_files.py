"""Weights in GGUF files, the format of llama.cpp: quantized blocks, which become float32 on the way in.

    tensors, metadata = load_gguf("model.gguf")

The file is mapped and its blocks are dequantized by the `gguf` package, an extra (`pip install 'vitrify[gguf]'`), which
is imported when a file is read. https://github.com/ggml-org/ggml/blob/master/docs/gguf.md describes the format.
"""

from __future__ import annotations

import os
import struct
from typing import Any

import numpy as np

from ..runtime import lasting
from ..tensor import Tensor, wrap

Path = str | os.PathLike[str]

_HEADER = struct.Struct("<4sIQQ")


def load_gguf(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors of a file by name, and what the file says about the model (sizes, the tokenizer's vocabulary) by key.

    Dims are in PyTorch's order: the weight of a linear layer is [outputs, inputs]. Half-precision numbers and quantized
    blocks, of all formats that the `gguf` package dequantizes, give float32 tensors; integers and float64 stay what they
    are. RuntimeError for a file that is damaged or of another format.
    """
    gguf = _library()
    _check_header(path)
    tensors: dict[str, Tensor] = {}
    try:
        reader = gguf.GGUFReader(path, "r")
        metadata = {key: field.contents() for key, field in reader.fields.items()}
        for entry in reader.tensors:
            if entry.name in tensors:
                raise ValueError(f"two tensors named {entry.name!r}")
            array = entry.data
            if array.dtype.kind != "i" and array.dtype != np.float64:
                array = gguf.quants.dequantize(array, entry.tensor_type)
            shape = tuple(int(n) for n in reversed(entry.shape))
            tensors[entry.name] = wrap(lasting.copy(array.reshape(shape)))
    except NotImplementedError as error:
        raise RuntimeError(
            f"{os.fspath(path)}: {entry.name}: blocks of {entry.tensor_type.name} cannot be read"
        ) from error
    except (
        ValueError,
        IndexError,
        KeyError,
        TypeError,
        OverflowError,
        MemoryError,
        UnicodeDecodeError,
    ) as error:
        raise RuntimeError(f"{os.fspath(path)}: damaged GGUF file ({error})") from error
    return tensors, metadata


def _check_header(path: Path) -> None:
    """The counts that the reader would loop over and allocate by cannot be larger than the file."""
    size = os.path.getsize(path)
    with open(path, "rb") as file:
        head = file.read(_HEADER.size)
    if len(head) < _HEADER.size or head[:4] != b"GGUF":
        raise RuntimeError(f"{os.fspath(path)}: not a GGUF file")
    _, version, tensors, entries = _HEADER.unpack(head)
    if version not in (2, 3):
        raise RuntimeError(f"{os.fspath(path)}: GGUF version {version}; 2 and 3 can be read")
    if tensors * 24 > size or entries * 13 > size:  # the least bytes that an entry takes
        raise RuntimeError(
            f"{os.fspath(path)}: damaged GGUF file ({tensors} tensors and {entries} keys in {size} bytes)"
        )


def _library() -> Any:
    try:
        import gguf
    except ImportError as error:
        raise ImportError("reading GGUF files needs the gguf package: pip install 'vitrify[gguf]'") from error
    return gguf
