"""What a profiler writes down while it is active: eager ops, ranges, calls of compiled functions and their kernels.

Eager ops are seen by standing in for `EagerBackend.apply` and `write` while a recorder is open: an attribute of the one
backend object that hides the class's method, in all threads. Without a recorder nothing is in the way.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field

from ..compile.compiled import measuring
from ..eager import ALIASING, EAGER
from ..nn.modules.paths import tracked_module_paths
from ..runtime.kernel_times import LaunchTime, Session
from .notes import Lines, Notebook, Shapes
from .places import known_places


@dataclass(slots=True)
class Record:
    """Something that took time. `kind`: "op" (eager), "range" (`record_function`), "call" (of a compiled graph) or
    "kernel".

    begin, end: nanoseconds of `time.perf_counter_ns`; bytes: memory allocated for results and arenas; `children`:
    nanoseconds of the records inside this one, known when the recorder has stopped.
    """

    kind: str
    name: str
    begin: int
    end: int
    thread: int
    file: str = ""
    line: int = 0
    module: str = ""
    bytes: int = 0
    shapes: Shapes = ()
    children: int = 0

    @property
    def nanoseconds(self) -> int:
        """From begin to end."""
        return self.end - self.begin


@dataclass
class Recording:
    """What a recorder saw. `launches`: the totals of the kernels; `runs`: kernels one by one, as records; `allocated`:
    bytes that calls of a compiled graph allocated; `dropped`: kernel runs that are in the totals only."""

    records: list[Record] = field(default_factory=list)
    launches: list[LaunchTime] = field(default_factory=list)
    runs: list[Record] = field(default_factory=list)
    allocated: dict[str, int] = field(default_factory=dict)
    dropped: int = 0
    begin: int = 0
    end: int = 0


class Recorder:
    """Records from `start` to `stop`, in all threads; module names only on the thread that started it."""

    def __init__(self, shapes: bool = False):
        self.recording = Recording()
        self.session: Session | None = None
        self._notebook = Notebook(shapes)
        self._open = ExitStack()

    def start(self) -> None:
        """RuntimeError where another recorder is active."""
        global _active
        self.session = self._open.enter_context(measuring())
        self._open.enter_context(tracked_module_paths())
        self._open.enter_context(known_places(self._notebook))
        apply, write = self._notebook.hooks()
        setattr(EAGER, "apply", apply)  # noqa: B010  (mypy would see a method assigned)
        setattr(EAGER, "write", write)  # noqa: B010
        _active = self
        self.recording.begin = time.perf_counter_ns()

    def stop(self) -> Recording:
        """What was recorded. Call it on the thread that called `start`."""
        global _active
        found = self.recording
        found.end = time.perf_counter_ns()
        _active = None
        del EAGER.apply, EAGER.write
        self._open.close()
        assert self.session is not None, "start comes first"
        session = self.session
        found.records = sorted(_records(self._notebook), key=lambda r: r.end)
        found.launches = [line for line in session.launch_times() if line.calls]
        found.records += [
            Record("call", f"compiled {c.graph}", c.begin, c.end, c.thread) for c in session.calls
        ]
        found.runs = _kernel_runs(session)
        found.allocated = session.allocated
        found.dropped = session.dropped
        _count_children(found)
        return found

    def range(self, name: str, begin: float) -> None:
        """A range that ends now and began at `begin`, in seconds of `time.perf_counter`."""
        self._notebook.range(name, begin, sys._getframe(1))


def _records(notebook: Notebook) -> Iterator[Record]:
    """Records of what the threads noted."""
    line = Lines()
    for note in notebook:
        what = note.what
        kind, name = ("range", what) if isinstance(what, str) else ("op", what.name if what else "write")
        begin, end = round(note.begin * 1e9), round(note.end * 1e9)
        file, number = line(note.code, note.at)
        size = 0 if name in ALIASING else note.bytes
        yield Record(kind, name, begin, end, note.thread, file, number, note.module, size, note.shapes)


_active: Recorder | None = None


def active() -> Recorder | None:
    """The recorder that is open."""
    return _active


def _kernel_runs(session: Session) -> list[Record]:
    """The kernel runs one by one, on the threads of the calls they are part of."""
    lines = {(t.graph, t.index): t for t in session.launch_times()}
    calls = sorted(session.calls, key=lambda c: c.begin)
    found = []
    at = 0
    for run in sorted(session.runs, key=lambda r: r.begin):
        while at + 1 < len(calls) and calls[at + 1].begin <= run.begin:
            at += 1
        line = lines[run.graph, run.index]
        place = line.location
        found.append(
            Record(
                "kernel",
                f"{run.graph}/{line.name}",
                run.begin,
                run.end,
                calls[at].thread if calls else 0,
                place.file if place else "",
                place.line if place else 0,
                place.module if place else "",
            )
        )
    return found


def _count_children(recording: Recording) -> None:
    """Sets `children`: on each thread, records lie inside one another or apart. Kernels are children of calls."""
    seconds: dict[str, float] = {}
    runs: dict[str, int] = {}
    for line in recording.launches:
        name = f"compiled {line.graph}"
        seconds[name] = seconds.get(name, 0.0) + line.seconds
    for record in recording.records:
        if record.kind == "call":
            runs[record.name] = runs.get(record.name, 0) + 1
    stacks: dict[int, list[Record]] = {}
    for record in sorted(recording.records, key=lambda r: (r.begin, -r.end)):
        if record.kind == "call":
            # The kernels' time is known exactly over all calls of a graph, and shared evenly among them here.
            share = int(seconds.get(record.name, 0.0) * 1e9 / runs[record.name])
            record.children += min(share, record.nanoseconds)
        stack = stacks.setdefault(record.thread, [])
        while stack and stack[-1].end <= record.begin:
            stack.pop()
        if stack:
            stack[-1].children += record.nanoseconds
        stack.append(record)
