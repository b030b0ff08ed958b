"""The weights in a file, whichever of the usual formats it has."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from ..tensor import Tensor
from .files import load
from .safetensors_files import INDEX_SUFFIX, load_file, load_sharded

# Where training scripts put the weights among other things.
_INSIDE = ("state_dict", "model_state_dict", "model_state", "model", "module", "net", "weights")


def load_checkpoint(path: str | os.PathLike[str], *, mmap: bool = True) -> dict[str, Tensor]:
    """The state dict in `.pt`, `.pth`, `.bin`, `.ckpt`, `.safetensors` or `.safetensors.index.json`, on the CPU.

    Where the file holds a training run's dict (`{"state_dict": ..., "epoch": ...}`), the weights in it.
    ValueError for a file that holds no state dict, or more than one.
    """
    name = os.fspath(path)
    if name.endswith(INDEX_SUFFIX):
        return load_sharded(path, mmap=mmap)
    if name.endswith(".safetensors"):
        return load_file(path, mmap=mmap)
    with open(path, "rb") as file:
        mapped = mmap and file.read(4) == b"PK\3\4"
    found = load(path, map_location="cpu", mmap=mapped)
    if _is_state_dict(found):
        return dict(found)
    inside = [key for key in _INSIDE if isinstance(found, Mapping) and _is_state_dict(found.get(key))]
    if len(inside) != 1:
        what = (
            f"keys {', '.join(map(repr, list(found)[:8]))}"
            if isinstance(found, Mapping)
            else type(found).__name__
        )
        raise ValueError(
            f"{name} holds no single state dict ({what}); take what you need from torch.load({name!r})"
        )
    return dict(found[inside[0]])


def _is_state_dict(value: Any) -> bool:
    return (
        isinstance(value, Mapping)
        and len(value) > 0
        and all(isinstance(k, str) for k in value)
        and all(isinstance(v, Tensor) for v in value.values())
    )
