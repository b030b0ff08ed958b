"""Tensor maps: how the copy engine of a GPU sees an array, a kernel parameter of 128 bytes (CUDA Driver API, "Tensor Map
Object Management"; PTX ISA, "Tensors")."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ...codegen.target import TENSOR_MAP_ALIGNMENT, TENSOR_MAP_BYTES
from ...ir import dims
from ...ir.dims import DimLike
from .cuda_library import CudaLibrary

if TYPE_CHECKING:  # `import vitrify` reads this file, and needs no loops
    from ...codegen.loops.nodes import TensorMap

# CUtensorMapDataType. Float32 is rounded to tf32 on its way: nothing else multiplies it.
DATA_TYPES = {"f16": 6, "bf16": 9, "f32": 11}
_SWIZZLE_128, _L2_256, _NO_INTERLEAVE, _ZEROS = 3, 3, 0, 0


@dataclass(frozen=True)
class BoundMap:
    """An array at `address`, sizes and box outermost first; `strides` in bytes, of all dims but the last. Boxes are
    lines of 128 bytes, swizzled; what lies outside of the array is zeros."""

    address: int
    dtype: str
    sizes: tuple[int, ...]
    strides: tuple[int, ...]
    box: tuple[int, ...]


@dataclass(frozen=True)
class MapPlan:
    """A map of a launch: of its argument number `argument`, in elements."""

    argument: int
    dtype: str
    itemsize: int
    offset: DimLike
    sizes: tuple[DimLike, ...]
    strides: tuple[DimLike, ...]
    box: tuple[int, ...]

    def bound(self, bindings: Mapping[str, int]) -> tuple[int, BoundMap]:
        """For these values of the dims: the argument's number, and the map with the offset for its address."""
        size = self.itemsize
        sizes = tuple(dims.evaluate(x, bindings) for x in self.sizes)
        strides = tuple(dims.evaluate(x, bindings) * size for x in self.strides[:-1])
        return self.argument, BoundMap(
            dims.evaluate(self.offset, bindings) * size, self.dtype, sizes, strides, self.box
        )


def map_data(seen: TensorMap, argument: int) -> list[Any]:
    """A map as data for JSON."""
    sizes, strides = ([dims.to_data(x) for x in values] for values in (seen.sizes, seen.strides))
    dtype = seen.buffer.dtype
    return [argument, dtype.name, dtype.itemsize, dims.to_data(seen.offset), sizes, strides, list(seen.box)]


def map_plan(data: Sequence[Any]) -> MapPlan:
    """What `map_data` made."""
    argument, dtype, itemsize, offset, sizes, strides, box = data
    return MapPlan(
        argument,
        dtype,
        itemsize,
        dims.from_data(offset),
        tuple(map(dims.from_data, sizes)),
        tuple(map(dims.from_data, strides)),
        tuple(box),
    )


def encoded(library: CudaLibrary, seen: BoundMap) -> ctypes.Array[ctypes.c_uint64]:
    """The 128 bytes that a kernel takes, at an address that is a multiple of 64."""
    memory = (ctypes.c_uint64 * ((TENSOR_MAP_BYTES + TENSOR_MAP_ALIGNMENT) // 8))()
    first = -ctypes.addressof(memory) % TENSOR_MAP_ALIGNMENT
    result = (ctypes.c_uint64 * (TENSOR_MAP_BYTES // 8)).from_buffer(memory, first)
    rank = len(seen.sizes)
    sizes = (ctypes.c_uint64 * rank)(*reversed(seen.sizes))
    strides = (ctypes.c_uint64 * (rank - 1))(*reversed(seen.strides))
    box = (ctypes.c_uint32 * rank)(*reversed(seen.box))
    ones = (ctypes.c_uint32 * rank)(*[1] * rank)
    library.call(
        f"making a tensor map of {list(seen.sizes)}", "cuTensorMapEncodeTiled", ctypes.addressof(result),
        DATA_TYPES[seen.dtype], rank, seen.address, sizes, strides, box, ones,
        _NO_INTERLEAVE, _SWIZZLE_128, _L2_256, _ZEROS,
    )  # fmt: skip
    return result
