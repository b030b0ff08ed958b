"""Tensors by name in files, in the safetensors format: plain data, nothing in a file is ever executed.

    save_file(model.state_dict(), "model.safetensors")
    model.load_state_dict(load_file("model.safetensors"))

https://github.com/huggingface/safetensors describes the format; files of PyTorch's own loaders and savers
fit.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from .functional_host import host_array
from .functional_tensor import typename
from .tensor import Tensor, wrap

Path = str | os.PathLike[str]


def save_file(tensors: Mapping[str, Tensor], path: Path, metadata: Mapping[str, str] | None = None) -> None:
    """Write the tensors, each with its own data; `metadata` is text about the whole file.

    TypeError for a value that is no tensor (an optimizer's state holds numbers as well).
    """
    arrays: dict[str, Any] = {}
    for name, tensor in tensors.items():
        if not isinstance(name, str):
            raise TypeError(f"save_file: names must be strings, got {name!r}")
        if not isinstance(tensor, Tensor):
            raise TypeError(f"save_file: {name!r} is a {typename(tensor)}; only tensors can be saved")
        arrays[name] = np.array(host_array(tensor, "save_file"), order="C")
    safetensors.numpy.save_file(arrays, path, None if metadata is None else dict(metadata))


def load_file(path: Path) -> dict[str, Tensor]:
    """The tensors of a file, by name. RuntimeError for a file that is damaged or of another format."""
    try:
        arrays = safetensors.numpy.load_file(path)
    except safetensors.SafetensorError as error:
        raise RuntimeError(f"{os.fspath(path)} is not a readable safetensors file: {error}") from error
    return {name: wrap(array) for name, array in arrays.items()}


def read_metadata(path: Path) -> dict[str, str]:
    """The text that was saved about the whole file; empty if none was."""
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            return dict(file.metadata() or {})
    except safetensors.SafetensorError as error:
        raise RuntimeError(f"{os.fspath(path)} is not a readable safetensors file: {error}") from error
