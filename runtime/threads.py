"""How many threads native code uses: a number per process, given to every call; and NumPy's matrix products."""

from __future__ import annotations

import math
import os
from functools import cache
from pathlib import Path

from . import settings
from .blas_threads import set_blas_threads

_CGROUP = Path("/sys/fs/cgroup")
_chosen: int | None = None


def get_num_threads() -> int:
    """The thread count: what `set_num_threads` chose, else OMP_NUM_THREADS, else the CPUs this process may use."""
    return _chosen if _chosen is not None else default_num_threads()


def set_num_threads(count: int) -> None:
    """Use `count` threads from now on; RuntimeError unless it is a positive integer. Results of native code do not
    depend on it. Eager code's matrix products are NumPy's: its BLAS library is told, too."""
    global _chosen
    if not isinstance(count, int) or isinstance(count, bool):
        raise TypeError(f"set_num_threads expects an int, but got {type(count).__name__}")
    if count <= 0:
        raise RuntimeError("set_num_threads expects a positive integer")
    _chosen = count
    set_blas_threads(count)


@cache
def default_num_threads() -> int:
    """OMP_NUM_THREADS, or the CPUs of the affinity mask, at most what the cgroup's quota pays for."""
    limit = settings.thread_limit()
    if limit is not None:
        return limit
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = cgroup_cpus(_CGROUP, Path("/proc/self/cgroup"))
    return max(1, cpus if quota is None else min(cpus, math.ceil(quota)))


def cgroup_cpus(root: Path, membership: Path) -> float | None:
    """The CPU quota of the cgroup that `membership` (/proc/self/cgroup) names, in CPUs; None without a quota.

    The tightest one of the group and its ancestors counts (version 2: cpu.max; version 1: cpu.cfs_quota_us).
    """
    quotas: list[float] = []
    for folder in _cgroup_folders(root, membership):
        try:
            if (folder / "cpu.max").is_file():
                quota, period = (folder / "cpu.max").read_text().split()
            else:
                quota = (folder / "cpu.cfs_quota_us").read_text().strip()
                period = (folder / "cpu.cfs_period_us").read_text().strip()
            if quota not in ("max", "-1") and int(period) > 0:
                quotas.append(int(quota) / int(period))
        except (OSError, ValueError):
            continue
    return min(quotas, default=None)


def _cgroup_folders(root: Path, membership: Path) -> list[Path]:
    folders = [root, root / "cpu", root / "cpu,cpuacct"]
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        return folders
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers and "cpu" not in controllers.split(","):
            continue
        base = root / controllers if controllers else root
        parts = [p for p in path.split("/") if p and p != ".."]
        folders += [base.joinpath(*parts[: n + 1]) for n in range(len(parts))]
    return folders
