"""`torch.Size`: the shape of a tensor, a tuple that prints as PyTorch's."""

from __future__ import annotations

from typing import Any

from .ir import dims


class Size(tuple[Any, ...]):
    """A tuple of dims. Dims are ints, or symbolic inside a compiled function with dynamic shapes."""

    __slots__ = ()

    def numel(self) -> Any:
        """The number of elements of a tensor of this size."""
        return dims.product(self)

    def __repr__(self) -> str:
        return f"torch.Size([{', '.join(map(str, self))}])"

    __str__ = __repr__

    def __getitem__(self, index: Any) -> Any:
        found = tuple.__getitem__(self, index)
        return Size(found) if isinstance(index, slice) else found

    def __add__(self, other: Any) -> Any:
        if not isinstance(other, tuple):
            raise TypeError(f"can only concatenate tuple (not {type(other).__name__}) to torch.Size")
        return Size(tuple.__add__(self, other))

    def __radd__(self, other: Any) -> Any:
        return Size(tuple.__add__(tuple(other), self))

    def __mul__(self, count: Any) -> Any:
        return Size(tuple.__mul__(self, count))

    __rmul__ = __mul__

    def __reduce__(self) -> Any:
        return Size, (tuple(self),)
