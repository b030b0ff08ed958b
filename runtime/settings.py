"""The environment variables that the runtime reads, all here.

VITRIFY_CACHE_DIR   folder of the disk cache of compiled programs (default ~/.cache/vitrify); empty: no cache
VITRIFY_CACHE_MB    its size bound in megabytes (default 512)
VITRIFY_DUMP        folder that receives a text file for every stage of all that is compiled (default: none)
VITRIFY_CUDA        the CUDA device: `simulator` for the PTX simulator, `off` for none, `driver` (the default) for what
                    the driver has
OMP_NUM_THREADS     the default thread count, as for other numerical libraries
"""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path | None:
    """Where compiled programs are kept; None when the cache is turned off."""
    given = os.environ.get("VITRIFY_CACHE_DIR")
    if given is not None:
        return Path(given).expanduser() if given else None
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path("~/.cache").expanduser()) / "vitrify"


def cache_bytes() -> int:
    """The disk cache's size bound in bytes."""
    text = os.environ.get("VITRIFY_CACHE_MB", "512")
    try:
        return int(float(text) * (1 << 20))
    except ValueError:
        raise ValueError(f"VITRIFY_CACHE_MB must be a number, got {text!r}") from None


def dump_folder() -> Path | None:
    """Where dumps of every stage go; None when nobody asked for them."""
    given = os.environ.get("VITRIFY_DUMP")
    return Path(given).expanduser() if given else None


def cuda() -> str:
    """Which kind of CUDA device there is: "driver", "simulator" or "off"; ValueError for anything else."""
    text = os.environ.get("VITRIFY_CUDA", "").strip().lower() or "driver"
    if text not in ("driver", "simulator", "off"):
        raise ValueError(f"VITRIFY_CUDA must be driver, simulator or off, got {text!r}")
    return text


def thread_limit() -> int | None:
    """OMP_NUM_THREADS, if it is set to a positive number."""
    text = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    return int(text) if text.isdigit() and int(text) > 0 else None
