"""What the traced code does to real tensors, apart from writing to their storages: recorded, and undone."""

from __future__ import annotations

from typing import Any

from ..tensor import Storage, Tensor
from .storages import TracedStorages
from .trace_error import TraceError

# What makes up a tensor's memory: what an assignment to `.data` replaces.
_MEMORY = ("_array", "_value", "_known_type", "_storage", "_views", "_base")
# And its history.
HISTORY = ("_grad_fn", "_output_nr", "_requires_grad", "_view_version")


class Effects:
    """Gradients, history and memory that real tensors had before the trace, and the versions of their storages."""

    def __init__(self) -> None:
        self.histories_before: dict[Tensor, tuple[Any, ...]] = {}
        self.grads_before: dict[Tensor, Tensor | None] = {}
        self.versions_before: dict[Storage, int] = {}
        self._memory_before: dict[Tensor, tuple[Any, ...]] = {}

    def has_memory(self, tensor: Tensor) -> bool:
        """Whether what its memory was before is on record."""
        return tensor in self._memory_before

    def is_outside(self, tensor: Tensor) -> bool:
        """Whether it is a real tensor."""
        return tensor._array is not None or self.has_memory(tensor)

    def note_memory(self, tensor: Tensor) -> None:
        """Its memory is going to be replaced."""
        self._memory_before[tensor] = tuple(getattr(tensor, name) for name in _MEMORY)

    def note_history(self, tensor: Tensor) -> None:
        """Its history is going to be another."""
        if tensor not in self.histories_before:
            self.histories_before[tensor] = tuple(getattr(tensor, name) for name in HISTORY)

    def settle_data(self, storages: TracedStorages) -> None:
        """Turn assignments to `.data` into writes to the memory that the tensors had before."""
        for tensor, before in self._memory_before.items():
            if all(getattr(tensor, name) is before[_MEMORY.index(name)] for name in ("_storage", "_views")):
                continue  # `t.data -= u`: the write itself is on record
            if tensor._array is not None:
                raise TraceError(
                    "a compiled function gave a tensor other existing memory (t.data = u); use t.copy_(u) under no_grad"
                )
            value = storages.read(tensor)
            storage, views = before[_MEMORY.index("_storage")], before[_MEMORY.index("_views")]
            traced = storages[storage]
            if views or value.type != traced.value.type:
                raise TraceError(
                    f"a compiled function assigned a {value.type} to the .data of a tensor over {traced.value.type}; "
                    "the type must stay, and the tensor must not be a view"
                )
            traced.value = value
            traced.writes += 1

    def undo(self) -> None:
        """Give every real tensor back what it had before the trace."""
        for tensor, history in self.histories_before.items():
            for name, value in zip(HISTORY, history):
                setattr(tensor, name, value)
        for tensor, grad in self.grads_before.items():
            tensor._grad = grad
        for storage, version in self.versions_before.items():
            storage.version = version
        for tensor, memory in self._memory_before.items():
            for name, value in zip(_MEMORY, memory):
                setattr(tensor, name, value)
