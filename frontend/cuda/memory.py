"""`torch.cuda.memory`: what the caching allocator has given out, and what it keeps (`runtime/gpu/allocator.py`)."""

from __future__ import annotations

import warnings
from typing import Any

from ..runtime.gpu import arrays
from ..runtime.gpu.allocator import size_text
from .devices import Device, gpu_for, is_available, is_initialized


def empty_cache() -> None:
    """Give memory that is kept for reuse back to the device."""
    for gpu in arrays.known_gpus():
        gpu.allocator.empty_cache()


def memory_stats(device: Device = None) -> dict[str, Any]:
    """Statistics by name: `allocated_bytes.all.peak`, `segment.small_pool.current`, ...; empty before the first use."""
    if not is_initialized():
        return {}
    return dict(gpu_for(device).allocator.stats())


def memory_stats_as_nested_dict(device: Device = None) -> dict[str, Any]:
    """`memory_stats` as dictionaries in dictionaries."""
    found: dict[str, Any] = {}
    for name, value in memory_stats(device).items():
        *path, last = name.split(".")
        place = found
        for part in path:
            place = place.setdefault(part, {})
        place[last] = value
    return found


def _stat(name: str, device: Device) -> int:
    return int(memory_stats(device).get(name, 0))


def memory_allocated(device: Device = None) -> int:
    """Bytes that tensors occupy."""
    return _stat("allocated_bytes.all.current", device)


def max_memory_allocated(device: Device = None) -> int:
    """The most bytes that tensors have occupied."""
    return _stat("allocated_bytes.all.peak", device)


def memory_reserved(device: Device = None) -> int:
    """Bytes that the allocator holds."""
    return _stat("reserved_bytes.all.current", device)


def max_memory_reserved(device: Device = None) -> int:
    """The most bytes that the allocator has held."""
    return _stat("reserved_bytes.all.peak", device)


def memory_cached(device: Device = None) -> int:
    """`memory_reserved`, under an old name."""
    warnings.warn(
        "`torch.cuda.memory_cached` has been renamed to `torch.cuda.memory_reserved`",
        FutureWarning,
        stacklevel=2,
    )
    return memory_reserved(device)


def max_memory_cached(device: Device = None) -> int:
    """`max_memory_reserved`, under an old name."""
    warnings.warn(
        "`torch.cuda.max_memory_cached` has been renamed to `torch.cuda.max_memory_reserved`",
        FutureWarning,
        stacklevel=2,
    )
    return max_memory_reserved(device)


def reset_peak_memory_stats(device: Device = None) -> None:
    """Begin the peaks anew at what is in use."""
    gpu_for(device).allocator.reset_peak()


def reset_max_memory_allocated(device: Device = None) -> None:
    """`reset_peak_memory_stats`, under an old name."""
    reset_peak_memory_stats(device)


def reset_max_memory_cached(device: Device = None) -> None:
    """`reset_peak_memory_stats`, under an old name."""
    reset_peak_memory_stats(device)


def reset_accumulated_memory_stats(device: Device = None) -> None:
    """Begin the sums of allocations and frees anew."""
    gpu_for(device).allocator.reset_accumulated()


def mem_get_info(device: Device = None) -> tuple[int, int]:
    """(free, total) bytes of the device."""
    return gpu_for(device).device.memory_info()


def set_per_process_memory_fraction(fraction: float, device: Device = None) -> None:
    """Reserve at most this part of the device's memory; what would need more is out of memory."""
    if not isinstance(fraction, float):
        raise TypeError("Invalid type for fraction argument, must be `float`")
    if not 0.0 <= fraction <= 1.0:
        raise ValueError(f"Invalid fraction value: {fraction}. Allowed range: 0.0~1.0")
    gpu = gpu_for(device)
    gpu.allocator.limit = int(gpu.device.total_memory * fraction)


def get_per_process_memory_fraction(device: Device = None) -> float:
    """The part of the device's memory that may be reserved."""
    gpu = gpu_for(device)
    limit = gpu.allocator.limit
    return 1.0 if limit is None else limit / gpu.device.total_memory


def get_allocator_backend() -> str:
    """ "native": the caching allocator."""
    return "native"


_ROWS = (
    ("Allocated memory", "allocated_bytes", True), ("Active memory", "active_bytes", True),
    ("Requested memory", "requested_bytes", True), ("GPU reserved memory", "reserved_bytes", True),
    ("Non-releasable memory", "inactive_split_bytes", True), ("Allocations", "allocation", False),
    ("Active allocs", "active", False), ("GPU reserved segments", "segment", False),
    ("Non-releasable allocs", "inactive_split", False),
)  # fmt: skip


def memory_summary(device: Device = None, abbreviated: bool = False) -> str:
    """The statistics as a table. `abbreviated`: without the lines of the two pools."""
    stats = memory_stats(device)
    number = gpu_for(device).index if is_available() else 0
    failures, retries = stats.get("num_ooms", 0), stats.get("num_alloc_retries", 0)
    line = "|" + "=" * 75 + "|"
    rows = [
        line,
        f"|{f'CUDA memory summary, device ID {number}':^75}|",
        "|" + "-" * 75 + "|",
        f"|{f'CUDA OOMs: {failures}':^37}|{f'cudaMalloc retries: {retries}':^37}|",
        line,
        f"| {'Metric':<21} | {'Cur Usage':>10} | {'Peak Usage':>10} | {'Tot Alloc':>10} | {'Tot Freed':>10} |",
    ]
    pools = ("all",) if abbreviated else ("all", "large_pool", "small_pool")
    for title, name, is_size in _ROWS:
        rows.append("|" + "-" * 75 + "|")
        for pool in pools:
            label = title if pool == "all" else f"      from {pool.replace('_', ' ')}"
            values = [
                int(stats.get(f"{name}.{pool}.{kind}", 0))
                for kind in ("current", "peak", "allocated", "freed")
            ]
            cells = [size_text(v) if is_size else str(v) for v in values]
            rows.append(f"| {label:<21} | " + " | ".join(f"{cell:>10}" for cell in cells) + " |")
    return "\n".join([*rows, line, ""])


# The names of `torch.cuda` that are defined here.
__all__ = [
    "empty_cache", "get_allocator_backend", "get_per_process_memory_fraction", "max_memory_allocated",
    "max_memory_cached", "max_memory_reserved", "mem_get_info", "memory_allocated", "memory_cached", "memory_reserved",
    "memory_stats", "memory_stats_as_nested_dict", "memory_summary", "reset_accumulated_memory_stats",
    "reset_max_memory_allocated", "reset_max_memory_cached", "reset_peak_memory_stats",
    "set_per_process_memory_fraction",
]  # fmt: skip
