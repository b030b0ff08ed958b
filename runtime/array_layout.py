"""Where a NumPy array object keeps its fields, so that native code can check an argument without Python.

NumPy's C ABI fixes the order of the fields of `PyArrayObject` (numpy/core/include/numpy/ndarraytypes.h); the size of
the object header before them depends on the CPython build. `probe` checks the layout against live arrays once.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from functools import cache

import numpy as np

C_CONTIGUOUS = 0x1
ALIGNED = 0x100
WRITEABLE = 0x400


@dataclass(frozen=True)
class ArrayLayout:
    """Byte offsets from the address of an array object (`id(array)`)."""

    data: int
    nd: int
    dims: int
    descr: int
    flags: int


@cache
def probe() -> ArrayLayout | None:
    """The layout, or None where live arrays do not read back as expected (then arguments are checked in Python)."""
    header = object.__basicsize__
    layout = ArrayLayout(header, header + 8, header + 16, header + 40, header + 48)
    read_only = np.arange(4)
    read_only.flags.writeable = False
    for array in (np.zeros((3, 5), np.float32), read_only, np.zeros((2, 4, 6))[:, ::2], np.zeros(())):
        if not _reads_back(array, layout):
            return None
    return layout


def _reads_back(array: np.ndarray, layout: ArrayLayout) -> bool:
    address = id(array)

    def word(offset: int) -> int:
        return ctypes.c_int64.from_address(address + offset).value

    nd = ctypes.c_int32.from_address(address + layout.nd).value
    if nd != array.ndim or word(layout.data) != array.__array_interface__["data"][0]:
        return False
    if nd:
        dims = (ctypes.c_int64 * nd).from_address(word(layout.dims))
        if tuple(dims) != array.shape:
            return False
    flags = ctypes.c_int32.from_address(address + layout.flags).value
    return (
        word(layout.descr) == id(array.dtype)
        and bool(flags & C_CONTIGUOUS) == array.flags.c_contiguous
        and bool(flags & ALIGNED) == array.flags.aligned
        and bool(flags & WRITEABLE) == array.flags.writeable
    )
