"""How many threads NumPy's matrix products use: those of the BLAS library that it was built with.

Eager code multiplies matrices by it. It takes all CPUs unless told otherwise, and its threads wait for each other
spinning: on CPUs that others are using a small product then takes milliseconds.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache

import numpy.linalg._umath_linalg as linked  # the module of NumPy that is linked with the library

# OpenBLAS as in NumPy's wheels, as distributions build it, and MKL.
_SETTERS = (
    "scipy_openblas_set_num_threads64_",
    "scipy_openblas_set_num_threads",
    "openblas_set_num_threads64_",
    "openblas_set_num_threads",
    "MKL_Set_Num_Threads",
)


def set_blas_threads(count: int) -> bool:
    """Use `count` threads from now on; False if the library has no such setting that is known here."""
    setter = _setter()
    if setter is None:
        return False
    setter(count)
    return True


@cache
def _setter() -> Callable[[int], None] | None:
    try:
        # A name is looked for in the libraries, too, that this one was linked with.
        library = ctypes.CDLL(linked.__file__)
    except OSError:
        return None
    for name in _SETTERS:
        function = getattr(library, name, None)
        if function is not None:
            function.argtypes, function.restype = [ctypes.c_int], None
            return function
    return None
