"""Competitors timed in one process, taking turns block by block."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping

# OpenMP's idle threads spin for up to 200 ms and would take a core from whoever comes next.
PAUSE = 0.25


def block(run: Callable[[], object], seconds: float) -> float:
    """Seconds per call, the median of calls for so long: five at least, if they take less than a second."""
    times: list[float] = []
    end = time.perf_counter() + seconds
    while (len(times) < 5 and sum(times) < 1) or time.perf_counter() < end:
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def interleaved(
    runs: Mapping[str, Callable[[], object]], rounds: int, seconds: float, pause: float = PAUSE
) -> dict[str, float]:
    """Seconds per call: the median over rounds of each block's median. A block lasts `seconds`, five calls at least if
    they take less than a second, and starts after a pause; a change in the machine's speed meets all competitors."""
    for run in runs.values():
        for _ in range(3):
            run()
    blocks: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            time.sleep(pause)
            run()
            blocks[name].append(block(run, seconds))
    return {name: statistics.median(found) for name, found in blocks.items()}
