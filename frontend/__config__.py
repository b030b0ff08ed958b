"""`torch.__config__`: what this package was built with."""

from __future__ import annotations

import llvmlite
import numpy as np

from .runtime.threads import get_num_threads
from .version import __version__


def show() -> str:
    """The parts and their versions, for people to read."""
    llvm = f"llvmlite {llvmlite.__version__}"
    return f"vitrify {__version__} built with:\n  - NumPy {np.__version__}\n  - {llvm}\n"


def parallel_info() -> str:
    """How many threads compiled code uses, for people to read."""
    return f"vitrify's own thread pool:\n  threads: {get_num_threads()}\n"


__all__ = ["parallel_info", "show"]
