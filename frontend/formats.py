"""`torch.layout` and `torch.memory_format`: how a tensor's elements may be stored. Here always by strides."""

from __future__ import annotations

from typing import Any


class _Named:
    """An object known by its name, of which there is one for each name."""

    __slots__ = ("_name",)
    _name: str
    _known: dict[str, Any]

    def __init_subclass__(cls) -> None:
        cls._known = {}

    def __init__(self, *args: Any):
        raise TypeError(f"cannot create 'torch.{type(self).__name__}' instances")

    @classmethod
    def _named(cls, name: str) -> Any:
        found = cls._known.get(name)
        if found is None:
            found = cls._known[name] = object.__new__(cls)
            found._name = name
        return found

    def __repr__(self) -> str:
        return f"torch.{self._name}"

    def __reduce__(self) -> tuple[Any, tuple[type, str]]:
        return _of_name, (type(self), self._name)


def _of_name(cls: type[_Named], name: str) -> Any:
    return cls._named(name)


class layout(_Named):
    """How the elements are stored: `torch.strided`."""

    __slots__ = ()


class memory_format(_Named):
    """The order of the dims in memory that a function is asked for: `torch.channels_last`, ..."""

    __slots__ = ()


strided: layout = layout._named("strided")
# Tensors are in coordinates (`sparse_tensor.py`) or strided; functions that make tensors refuse the others.
sparse_coo, sparse_csr, sparse_csc, sparse_bsr, sparse_bsc = map(
    layout._named, ("sparse_coo", "sparse_csr", "sparse_csc", "sparse_bsr", "sparse_bsc")
)
contiguous_format: memory_format = memory_format._named("contiguous_format")
preserve_format: memory_format = memory_format._named("preserve_format")
channels_last: memory_format = memory_format._named("channels_last")
channels_last_3d: memory_format = memory_format._named("channels_last_3d")

# Where the channels come last: the order of the dims in memory.
ORDERS = {channels_last: (0, 2, 3, 1), channels_last_3d: (0, 2, 3, 4, 1)}


def dims_in_memory(wanted: Any, rank: int) -> tuple[int, ...] | None:
    """The order of the dims that the format asks for; None for one that keeps what there is. RuntimeError for a tensor
    of another rank than the format is for."""
    if wanted is None or wanted is preserve_format:
        return None
    if not isinstance(wanted, memory_format):
        raise TypeError(f"memory_format must be a torch.memory_format, not {type(wanted).__name__}")
    if wanted is contiguous_format:
        return tuple(range(rank))
    order = ORDERS[wanted]
    if rank != len(order):
        raise RuntimeError(f"required rank {len(order)} tensor to use {wanted._name} format")
    return order


# The names of `torch` that are defined here.
__all__ = [
    "channels_last", "channels_last_3d", "contiguous_format", "layout", "memory_format", "preserve_format", "sparse_bsc",
    "sparse_bsr", "sparse_coo", "sparse_csc", "sparse_csr", "strided",
]  # fmt: skip
