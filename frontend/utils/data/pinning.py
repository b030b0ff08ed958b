"""Batches in page-locked memory, from which a device copies by itself (`DataLoader(pin_memory=True)`)."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, MutableMapping, MutableSequence, Sequence
from typing import Any

from ...tensor import Tensor


def pinned(data: Any) -> Any:
    """The data, its tensors in page-locked memory; an object with a `pin_memory` method is asked for it."""
    if isinstance(data, Tensor):
        return data.pin_memory()
    if isinstance(data, str | bytes):
        return data
    if isinstance(data, Mapping):
        items = {key: pinned(value) for key, value in data.items()}
        if not isinstance(data, MutableMapping) or type(data) is dict:
            return items
        made = copy.copy(data)
        made.update(items)
        return made
    if isinstance(data, tuple) and hasattr(data, "_fields"):
        return type(data)(*map(pinned, data))
    if isinstance(data, Sequence):
        values = [pinned(value) for value in data]  # of a tuple too, as in PyTorch
        if not isinstance(data, MutableSequence) or type(data) is list:
            return values
        clone = copy.copy(data)
        for i, value in enumerate(values):
            clone[i] = value
        return clone
    return data.pin_memory() if hasattr(data, "pin_memory") else data


class Pinned:
    """An iterator over batches that pins each."""

    def __init__(self, batches: Iterator[Any]):
        self._batches = batches

    def __iter__(self) -> Pinned:
        return self

    def __next__(self) -> Any:
        return pinned(next(self._batches))
