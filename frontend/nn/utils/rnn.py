"""Sequences of different lengths: padded into one tensor, or packed without padding."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple, TypeVar

import numpy as np

from ...creation import full, tensor
from ...functional_shape import cat
from ...ir import dtypes
from ...tensor import Tensor

T = TypeVar("T")
V = TypeVar("V")


class PackedSequence_(NamedTuple):
    data: Tensor
    batch_sizes: Tensor
    sorted_indices: Tensor | None
    unsorted_indices: Tensor | None


class PackedSequence(PackedSequence_):
    """Sequences without padding: the elements of step 0 of all of them, then those of step 1, ..., the longest
    sequence first.

    data[sum of sizes, ...]; batch_sizes[T], how many sequences reach each step; sorted_indices[N], which of the given
    sequences lies at each place, and unsorted_indices, the inverse (None where they were given in order).
    """

    def __new__(
        cls,
        data: Any,
        batch_sizes: Tensor | None = None,
        sorted_indices: Tensor | None = None,
        unsorted_indices: Tensor | None = None,
    ) -> PackedSequence:
        if unsorted_indices is None:
            unsorted_indices = invert_permutation(sorted_indices)
        if batch_sizes is None:
            if not (isinstance(data, list | tuple) and len(data) == 2):
                raise AssertionError("Expected data to be a list or tuple of length 2")
            data, batch_sizes = data
        return super().__new__(cls, data, batch_sizes, sorted_indices, unsorted_indices)

    def counts(self) -> tuple[Any, ...]:
        """`batch_sizes` as numbers. Packed while a function is compiled, the sequence knows them without reading the
        tensor."""
        known: tuple[Any, ...] | None = self.__dict__.get("_counts")
        return tuple(self.batch_sizes.tolist()) if known is None else known

    @classmethod
    def of(
        cls, counts: Sequence[Any], data: Tensor, order: Tensor | None, back: Tensor | None
    ) -> PackedSequence:
        """With the batch sizes given as numbers."""
        made = cls(data, tensor(list(counts), dtype=dtypes.i64), order, back)
        made._counts = tuple(counts)  # type: ignore[attr-defined]
        return made

    def with_data(self, data: Tensor) -> PackedSequence:
        """The same sequences with other elements."""
        made = type(self)(data, *self[1:])
        made.__dict__.update(self.__dict__)
        return made

    def to(self, *args: Any, **kwargs: Any) -> PackedSequence:
        """With `data.to(...)`; the sizes and indices stay."""
        data = self.data.to(*args, **kwargs)
        return self if data is self.data else self.with_data(data)

    def cpu(self) -> PackedSequence:
        """The data on the CPU."""
        return self.to("cpu")

    def cuda(self, *args: Any, **kwargs: Any) -> PackedSequence:
        """The data on a CUDA device."""
        data = self.data.cuda(*args, **kwargs)
        return self if data is self.data else self.with_data(data)

    def pin_memory(self) -> PackedSequence:
        """The data in page-locked memory."""
        return self

    def is_pinned(self) -> bool:
        """Whether the data lies in page-locked memory."""
        return False

    @property
    def is_cuda(self) -> bool:
        """Whether the data lies on a CUDA device."""
        return bool(self.data.is_cuda)

    def double(self) -> PackedSequence:
        """The data as float64."""
        return self.to(dtypes.f64)

    def float(self) -> PackedSequence:
        """The data as float32."""
        return self.to(dtypes.f32)

    def half(self) -> PackedSequence:
        """The data as float16."""
        return self.to(dtypes.f16)

    def long(self) -> PackedSequence:
        """The data as int64."""
        return self.to(dtypes.i64)

    def int(self) -> PackedSequence:
        """The data as int32."""
        return self.to(dtypes.i32)

    def short(self) -> PackedSequence:
        """The data as int16."""
        return self.to(dtypes.i16)

    def char(self) -> PackedSequence:
        """The data as int8."""
        return self.to(dtypes.i8)

    def byte(self) -> PackedSequence:
        """The data as uint8."""
        return self.to(dtypes.u8)


def invert_permutation(permutation: Tensor | None) -> Tensor | None:
    """The permutation that undoes the given one."""
    return None if permutation is None else permutation.argsort()


def _lengths(lengths: Any) -> list[int]:
    found: list[int] = (
        lengths.tolist() if isinstance(lengths, Tensor) else [int(length) for length in lengths]
    )
    return found


def pack_padded_sequence(
    input: Tensor, lengths: Tensor | Sequence[int], batch_first: bool = False, enforce_sorted: bool = True
) -> PackedSequence:
    """Pack input[T, N, ...] ([N, T, ...] with `batch_first`), of which sequence i has `lengths[i]` elements.

    RuntimeError for lengths that are not in decreasing order, unless `enforce_sorted` is false, and for lengths that
    do not fit.
    """
    sizes = _lengths(lengths)
    batch_dim = 0 if batch_first else 1
    order = back = None
    if not enforce_sorted:
        places = sorted(range(len(sizes)), key=lambda i: -sizes[i])
        sizes = [sizes[i] for i in places]
        order = tensor(places, dtype=dtypes.i64)
        back = tensor(sorted(range(len(places)), key=places.__getitem__), dtype=dtypes.i64)
        input = input.index_select(batch_dim, order)
    if not int(np.prod(input.shape[:2])):
        raise RuntimeError("Cannot pack empty tensors.")
    x = input.transpose(0, 1) if batch_first else input
    if len(sizes) != x.shape[1]:
        raise RuntimeError(
            f"Expected `len(lengths)` to be equal to batch_size, but got {len(sizes)} (batch_size={x.shape[1]})"
        )
    if sizes[-1] <= 0:
        raise RuntimeError(
            "Length of all samples has to be greater than 0, but found an element in 'lengths' that is <= 0"
        )
    if any(a < b for a, b in pairwise(sizes)):
        raise RuntimeError(
            "`lengths` array must be sorted in decreasing order when `enforce_sorted` is True. You can pass "
            "`enforce_sorted=False` to pack_padded_sequence and/or pack_sequence to sidestep this requirement if you "
            "do not need ONNX exportability."
        )
    if sizes[0] > x.shape[0]:
        raise RuntimeError(
            f"Expected sequence length to be at most {x.shape[0]}, the input's, but got {sizes[0]}"
        )
    counts = [sum(size > t for size in sizes) for t in range(sizes[0])]
    parts, t = [], 0
    while t < len(counts):
        # Steps with as many sequences lie together.
        end = t + counts[t:].count(counts[t])
        block = x[t:end, : counts[t]]
        parts.append(block.reshape((end - t) * counts[t], *block.shape[2:]))
        t = end
    return PackedSequence.of(counts, cat(parts), order, back)


def pad_packed_sequence(
    sequence: PackedSequence,
    batch_first: bool = False,
    padding_value: float = 0.0,
    total_length: int | None = None,
) -> tuple[Tensor, Tensor]:
    """(padded[T, N, ...], lengths[N]): the inverse of `pack_padded_sequence`, in the order given to that."""
    counts = sequence.counts()
    length = len(counts)
    if total_length is not None:
        if total_length < length:
            raise ValueError(
                "Expected total_length to be at least the length of the longest sequence in input, but got "
                f"total_length={total_length} and max sequence length being {length}"
            )
        length = total_length
    data, batch = sequence.data, counts[0]
    rest = tuple(data.shape[1:])

    def padding(*shape: int) -> Tensor:
        return full((*shape, *rest), padding_value, dtype=data.dtype)

    parts, t, start = [], 0, 0
    while t < len(counts):
        steps, count = counts[t:].count(counts[t]), counts[t]
        block = data[start : start + steps * count].reshape(steps, count, *rest)
        parts.append(block if count == batch else cat([block, padding(steps, batch - count)], 1))
        t, start = t + steps, start + steps * count
    if length > len(counts):
        parts.append(padding(length - len(counts), batch))
    padded = cat(parts)
    lengths = tensor([sum(count > i for count in counts) for i in range(batch)], dtype=dtypes.i64)
    if batch_first:
        padded = padded.transpose(0, 1)
    back = sequence.unsorted_indices
    if back is None:
        return padded, lengths
    return padded.index_select(0 if batch_first else 1, back), lengths[back]


def pad_sequence(
    sequences: Any, batch_first: bool = False, padding_value: float = 0.0, padding_side: str = "right"
) -> Tensor:
    """Sequences [length, ...] as one tensor [longest, N, ...] ([N, longest, ...] with `batch_first`)."""
    if not isinstance(sequences, Iterable):
        raise RuntimeError(
            f"pad_sequence: Expected iterable for input sequences, but got arg of type: {type(sequences)}"
        )
    if padding_side not in ("left", "right"):
        raise RuntimeError(f"padding_side should be one of left or right, got {padding_side}")
    given = list(sequences)
    if not given:
        raise RuntimeError("received an empty list of sequences")
    rest = tuple(given[0].shape[1:])
    longest = max(int(s.shape[0]) for s in given)
    padded = []
    for s in given:
        parts = [s]
        if s.shape[0] < longest:
            parts.append(full((longest - int(s.shape[0]), *rest), padding_value, dtype=s.dtype))
        if padding_side == "left":
            parts.reverse()
        padded.append(cat(parts).unsqueeze(0 if batch_first else 1))
    return cat(padded, 0 if batch_first else 1)


def unpad_sequence(padded_sequences: Tensor, lengths: Tensor, batch_first: bool = False) -> list[Tensor]:
    """The sequences of a padded tensor, each of its length."""
    x = padded_sequences if batch_first else padded_sequences.transpose(0, 1)
    return [x[i, :length] for i, length in enumerate(_lengths(lengths))]


def pack_sequence(sequences: Sequence[Tensor], enforce_sorted: bool = True) -> PackedSequence:
    """Pack sequences [length, ...]."""
    lengths = [int(s.shape[0]) for s in sequences]
    return pack_padded_sequence(pad_sequence(sequences), lengths, enforce_sorted=enforce_sorted)


def unpack_sequence(packed_sequences: PackedSequence) -> list[Tensor]:
    """The sequences of a packed one."""
    padded, lengths = pad_packed_sequence(packed_sequences, batch_first=True)
    return unpad_sequence(padded, lengths, batch_first=True)


def bind(optional: T | None, fn: Callable[[T], V]) -> V | None:
    """fn(optional), or None for None."""
    return None if optional is None else fn(optional)


__all__ = [
    "PackedSequence", "invert_permutation", "pack_padded_sequence", "pack_sequence", "pad_packed_sequence",
    "pad_sequence", "unpack_sequence", "unpad_sequence",
]  # fmt: skip
