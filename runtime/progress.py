"""What the compiler is doing now: told to a callback, and shown on a terminal when it takes long.

While a function is compiled, two seconds after the beginning, one line on stderr says which stage it has come to and how
far; it is replaced as the work goes on and removed at the end. Nothing is written where stderr is no terminal.
"""

from __future__ import annotations

import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TextIO

# Seconds of compiling after which a terminal is told.
PATIENCE = 2.0


@dataclass(frozen=True)
class Progress:
    """`function`: what is compiled; `stage`: "trace", "passes", "tune" (a group at a time), "lower", "emit" (LLVM
    text, a launch at a time), "llvm" (machine code), or "run" where a compiled model is being timed; `done` of `total`
    steps of the stage, both 0 where they cannot be counted; `seconds` since the beginning."""

    function: str
    stage: str
    done: int
    total: int
    seconds: float

    def __str__(self) -> str:
        unit = {"emit": "kernel ", "passes": "pass ", "tune": "group "}.get(self.stage, "")
        how_far = f" {unit}{self.done} of {self.total}" if self.total else ""
        if self.stage == "run":
            return f"vitrify: running {self.function}:{how_far}, {self.seconds:.0f} s"
        return f"vitrify: compiling {self.function}: {self.stage}{how_far}, {self.seconds:.0f} s"


Callback = Callable[[Progress], None]


class Watch:
    """One compile's progress. `step` may be called from any thread."""

    def __init__(self, function: str, callback: Callback | None, stream: TextIO | None):
        """`stream`: the terminal to show it on, None for nowhere."""
        self.function = function
        self._callback = callback
        self._stream = stream
        self._began = time.perf_counter()
        self._lock = threading.Lock()
        self._latest = ("trace", 0, 0)
        self._shown = self._closed = False
        self._timer: threading.Timer | None = None
        if stream is not None:
            self._timer = threading.Timer(PATIENCE, self._show)
            self._timer.daemon = True
            self._timer.start()

    def step(self, stage: str, done: int = 0, total: int = 0) -> None:
        """The stage is that far."""
        with self._lock:
            self._latest = (stage, done, total)
        if self._callback is not None:
            self._callback(self._now())
        if self._shown:
            self._show()

    def close(self) -> None:
        """The compile is over; the line goes away."""
        if self._timer is not None:
            self._timer.cancel()
        with self._lock:
            self._closed = True
            if self._shown and self._stream is not None:
                self._stream.write("\r\x1b[K")
                self._stream.flush()

    def _now(self) -> Progress:
        return Progress(self.function, *self._latest, time.perf_counter() - self._began)

    def _show(self) -> None:
        width = shutil.get_terminal_size().columns - 1
        with self._lock:
            if self._closed or self._stream is None:
                return
            self._shown = True
            self._stream.write(f"\r\x1b[K{str(self._now())[:width]}")
            self._stream.flush()


class _Local(threading.local):
    watch: Watch | None = None


_local = _Local()


@contextmanager
def watched(function: str, callback: Callback | None = None) -> Iterator[Watch]:
    """Watch a compile in this thread; one that is part of another is shown as the other."""
    outer = _local.watch
    if outer is not None:
        yield outer
        return
    terminal = sys.stderr if sys.stderr is not None and sys.stderr.isatty() else None
    watch = _local.watch = Watch(function, callback, terminal)
    try:
        yield watch
    finally:
        _local.watch = None
        watch.close()
