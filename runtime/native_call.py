"""The call shim as a Python callable: compiled once per process."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache

from . import array_layout, call_shim
from .loading import load_llvm_text


@cache
def native_call() -> Callable[[int, int], int]:
    """`native_call()(record address, objects address) -> status`. The GIL is released while it runs."""
    layout = array_layout.probe()
    if layout is None:
        raise RuntimeError(
            "this NumPy keeps its array objects in an unknown layout; compiled functions need one of the CPython and "
            "NumPy builds named in docs/architecture.md"
        )
    code = load_llvm_text(call_shim.llvm_text(layout))
    prototype = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p, ctypes.c_void_p)
    function = prototype(code.address(call_shim.SYMBOL))
    function.code = code  # type: ignore[attr-defined]  # the code lives as long as the callable
    return function
