"""What a profiler writes down while it is active: eager ops, ranges, calls of compiled functions and their kernels.

Eager ops are seen by standing in for `EagerBackend.apply` and `write` while a recorder is open: an attribute of the one
backend object that hides the class's method, in all threads. Without a recorder nothing is in the way.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from types import CodeType
from typing import Any

from ..compile.compiled import measuring
from ..compile.locations import is_own_file
from ..eager import ALIASING, EAGER
from ..ir.op import Op
from ..nn.modules.paths import module_stack, tracked_module_paths
from ..runtime.kernel_times import LaunchTime, Session
from ..tensor import Tensor

Shapes = tuple[tuple[int, ...], ...]


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
        self.shapes = shapes
        self.recording = Recording()
        self.session: Session | None = None
        self._noted: list[Any] = []
        self._open = ExitStack()

    def start(self) -> None:
        """RuntimeError where another recorder is active."""
        global _active
        self.session = self._open.enter_context(measuring())
        self._open.enter_context(tracked_module_paths())
        apply, write = self._hooks()
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
        found.records += _records(self._noted)
        found.records.sort(key=lambda r: r.end)
        found.launches = [line for line in session.launch_times() if line.calls]
        found.records += [
            Record("call", f"compiled {c.graph}", c.begin, c.end, c.thread) for c in session.calls
        ]
        found.runs = _kernel_runs(session)
        found.allocated = session.allocated
        found.dropped = session.dropped
        _count_children(found)
        return found

    def range(self, name: str, begin: int) -> None:
        """A range that ends now."""
        file, line = user_place()
        self.recording.records.append(
            Record("range", name, begin, time.perf_counter_ns(), threading.get_ident(), file, line)
        )

    def _hooks(self) -> tuple[Callable[..., Any], Callable[..., Any]]:
        """What stands in for `EAGER.apply` and `EAGER.write`. An op takes some microseconds, so a hook looks up as
        little as it can (the user's line is left as code and instruction) and leaves its fields in one flat list, which
        gives the garbage collector nothing to look at; `_records` makes `Record`s of them in the end."""
        compute, copy = EAGER.apply, EAGER.write
        note, clock, thread = self._noted.extend, time.perf_counter_ns, threading.get_ident
        shapes, own, is_own, frame_at = self.shapes, _files.own, _files.is_own, sys._getframe
        mine, paths = threading.get_ident(), module_stack.paths

        def apply(op: Op, operands: Sequence[Tensor], attrs: Mapping[str, Any]) -> tuple[Tensor, ...]:
            begin = clock()
            results = compute(op, operands, attrs)
            end = clock()
            if len(results) == 1:
                size = results[0]._array.nbytes  # type: ignore[union-attr]
            else:
                size = 0
                for result in results:
                    size += result._array.nbytes  # type: ignore[union-attr]
            frame: Any = frame_at(3)  # who called the library's function that called `dispatch.apply`
            code = frame.f_code
            while code.co_filename in own or is_own(code.co_filename):
                frame = frame.f_back
                if frame is None:
                    break
                code = frame.f_code
            at = -1 if frame is None else frame.f_lasti
            me = thread()
            path = paths[-1] if paths and me == mine else ""
            note((op, begin, end, me, code, at, path, size, _shapes(operands) if shapes else ()))
            return results

        def write(target: Tensor, new: Tensor) -> None:
            begin = clock()
            copy(target, new)
            end = clock()
            frame: Any = frame_at(3)
            code = frame.f_code
            while code.co_filename in own or is_own(code.co_filename):
                frame = frame.f_back
                if frame is None:
                    break
                code = frame.f_code
            at = -1 if frame is None else frame.f_lasti
            me = thread()
            path = paths[-1] if paths and me == mine else ""
            note((None, begin, end, me, code, at, path, 0, _shapes((target, new)) if shapes else ()))

        return apply, write


class _Files:
    """Which files are vitrify's own, found out once for each."""

    def __init__(self) -> None:
        self.own: set[str] = set()
        self._others: set[str] = set()

    def is_own(self, file: str) -> bool:
        """Look into `own` first."""
        if file in self._others:
            return False
        found = file in self.own or is_own_file(file)
        (self.own if found else self._others).add(file)
        return found


_files = _Files()


def _shapes(tensors: Sequence[Tensor]) -> Shapes:
    return tuple(tuple(map(int, t.shape)) for t in tensors)


def _records(noted: list[Any]) -> Iterator[Record]:
    """Records of what the hooks noted: nine fields of each, one after the other."""
    lines: dict[CodeType, list[int | None]] = {}
    fields = iter(noted)
    for op, begin, end, thread, code, at, module, size, shapes in zip(*[fields] * 9, strict=True):
        place = ("", 0)
        if at >= 0:
            known = lines.get(code)
            if known is None:
                # Each instruction is two bytes long.
                known = lines[code] = [start for start, *_ in code.co_positions()]
            place = (code.co_filename, known[at // 2] or 0)
        name = "write" if op is None else op.name
        yield Record("op", name, begin, end, thread, *place, module, 0 if name in ALIASING else size, shapes)


_active: Recorder | None = None


def active() -> Recorder | None:
    """The recorder that is open."""
    return _active


def user_place() -> tuple[str, int]:
    """File and line of the innermost frame that is the user's, ("", 0) where none is. As `locations.user_location`, for
    the price of a look-up for each frame."""
    frame: Any = sys._getframe(1)
    while frame is not None and _files.is_own(frame.f_code.co_filename):
        frame = frame.f_back
    return ("", 0) if frame is None else (frame.f_code.co_filename, frame.f_lineno)


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
