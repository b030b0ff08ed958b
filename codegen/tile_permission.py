"""Permission to use x86's tile registers (AMX).

Their 8 KiB would be saved at every switch of tasks and in every signal frame, so Linux gives them only to processes that
ask (arch_prctl(2), ARCH_REQ_XCOMP_PERM; Documentation/arch/x86/xstate.rst). Threads and forked children have it too.
"""

from __future__ import annotations

import ctypes
import os
import sys

_ARCH_PRCTL, _REQUEST, _TILE_DATA = 158, 0x1023, 18


def ask_for_tiles() -> str:
    """Ask for permission; why there is none, "" where it was given."""
    if not sys.platform.startswith("linux"):
        return f"permission for them is asked for on Linux only, not on {sys.platform}"
    failed = _system_call(_ARCH_PRCTL, _REQUEST, _TILE_DATA)
    return f"the system refuses them: {os.strerror(failed)}" if failed else ""


def _system_call(number: int, *arguments: int) -> int:
    """0, or the error's number."""
    library = ctypes.CDLL(None, use_errno=True)
    result = library.syscall(ctypes.c_long(number), *map(ctypes.c_long, arguments))
    return ctypes.get_errno() if result else 0
