"""`torch.profiler.profile`: when to record, and what to make of it."""

from __future__ import annotations

import enum
import functools
import gzip
import json
import os
import socket
import time
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from ..runtime.kernel_times import LaunchTime, Session
from ..runtime.peaks import peaks
from .averages import EventList, averages, kernel_table
from .chrome import chrome_trace
from .records import Record, Recorder, Recording, active


class ProfilerActivity(enum.Enum):
    """What can be profiled; here the CPU alone."""

    CPU = 0
    XPU = 1
    MTIA = 2
    CUDA = 3
    HPU = 4
    PrivateUse1 = 5


class ProfilerAction(enum.Enum):
    """What a schedule has the profiler do in a step."""

    NONE = 0
    WARMUP = 1
    RECORD = 2
    RECORD_AND_SAVE = 3


_RECORDING = (ProfilerAction.RECORD, ProfilerAction.RECORD_AND_SAVE)


def supported_activities() -> set[ProfilerActivity]:
    """The CPU."""
    return {ProfilerActivity.CPU}


def schedule(
    *, wait: int, warmup: int, active: int, repeat: int = 0, skip_first: int = 0, skip_first_wait: int = 0
) -> Callable[[int], ProfilerAction]:
    """A function from the step's number to what to do in it: after `skip_first` steps, cycles of `wait` steps without
    profiling, `warmup` steps, `active` recorded ones; `repeat` cycles, or without end for 0."""
    if wait < 0 or warmup < 0 or active <= 0 or repeat < 0 or skip_first < 0:
        raise AssertionError(
            f"Invalid profiler schedule arguments. Got wait={wait} (need >= 0), warmup={warmup} (need >= 0), "
            f"active={active} (need > 0), repeat={repeat} (need >= 0), skip_first={skip_first} (need >= 0)."
        )
    if warmup == 0:
        warnings.warn("Profiler won't be using warmup, this can skew profiler results", stacklevel=2)
    length = wait + warmup + active

    def action(step: int) -> ProfilerAction:
        if step < 0:
            raise AssertionError(f"Step must be non-negative. Got {step}.")
        if step < skip_first:
            return ProfilerAction.NONE
        at = step - skip_first + (wait if skip_first_wait else 0)
        if repeat and at >= repeat * length:
            return ProfilerAction.NONE
        at %= length
        if at < wait:
            return ProfilerAction.NONE
        if at < wait + warmup:
            return ProfilerAction.WARMUP
        return ProfilerAction.RECORD if at < length - 1 else ProfilerAction.RECORD_AND_SAVE

    return action


def tensorboard_trace_handler(
    dir_name: str, worker_name: str | None = None, use_gzip: bool = False, use_python_export: bool = False
) -> Callable[[profile], None]:
    """An `on_trace_ready` that writes each trace to a file of its own in a folder."""

    def handler(prof: profile) -> None:
        os.makedirs(dir_name, exist_ok=True)
        worker = worker_name or f"{socket.gethostname()}_{os.getpid()}"
        ending = ".gz" if use_gzip else ""
        prof.export_chrome_trace(os.path.join(dir_name, f"{worker}.{time.time_ns()}.pt.trace.json{ending}"))

    return handler


class profile:
    """Records what runs inside the block, in all threads: eager ops, calls of compiled functions and each of their
    kernels, ranges named with `record_function`, memory allocated for results and arenas.

    https://docs.pytorch.org/docs/stable/profiler.html

    Compiled functions run variants of their programs that read the clock around each launch; each variant is compiled
    when its function is first called under a profiler (and kept, also on disk), so profile the second run. Only one
    profiler can be active; a second one raises a RuntimeError.

    activities, profile_memory, with_stack, with_flops, with_modules: accepted; lines, modules and memory are always
    recorded. record_shapes: keep the shapes of eager ops' operands. schedule, on_trace_ready: see `schedule`, `step`.
    """

    def __init__(
        self,
        *,
        activities: Iterable[ProfilerActivity] | None = None,
        schedule: Callable[[int], ProfilerAction] | None = None,
        on_trace_ready: Callable[..., Any] | None = None,
        record_shapes: bool = False,
        profile_memory: bool = False,
        with_stack: bool = False,
        with_flops: bool = False,
        with_modules: bool = False,
        experimental_config: Any = None,
        execution_trace_observer: Any = None,
        acc_events: bool = False,
        use_cuda: bool | None = None,
        custom_trace_id_callback: Callable[[], str] | None = None,
    ):
        self.activities = set(activities) if activities is not None else supported_activities()
        if not self.activities:
            raise AssertionError("No valid profiler activities found")
        if experimental_config is not None or execution_trace_observer is not None:
            raise NotImplementedError(
                "torch.profiler.profile: experimental_config and execution_trace_observer are not supported"
            )
        self.schedule = schedule or (lambda step: ProfilerAction.RECORD)
        self.on_trace_ready = on_trace_ready
        self.record_shapes = record_shapes
        self.step_num = 0
        self.current_action = ProfilerAction.NONE
        self._record_steps = schedule is not None
        self._recorder: Recorder | None = None
        self._recording: Recording | None = None
        self._session: Session | None = None
        self._step_began = 0.0
        self._metadata: dict[str, Any] = {}

    def __enter__(self) -> profile:
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def start(self) -> None:
        """Begin with step 0."""
        self.current_action = self.schedule(self.step_num)
        if self.current_action in _RECORDING:
            self._begin()
        self._step_began = time.perf_counter()

    def stop(self) -> None:
        """The end; a trace that is being recorded is ready."""
        if self._recorder is not None:
            self._end_step()
            self._end()
            self._ready()
        self.current_action = ProfilerAction.NONE

    def step(self) -> None:
        """The next step begins: the schedule says what to do in it. After RECORD_AND_SAVE the trace is ready."""
        before = self.current_action
        self._end_step()
        self.step_num += 1
        self.current_action = self.schedule(self.step_num)
        if before is ProfilerAction.RECORD and self.current_action not in _RECORDING:
            warnings.warn("Incorrect schedule: RECORD followed by NONE", stacklevel=2)
        if before is ProfilerAction.RECORD_AND_SAVE or (
            before is ProfilerAction.RECORD and self.current_action not in _RECORDING
        ):
            self._end()
            self._ready()
        if self.current_action in _RECORDING and self._recorder is None:
            self._begin()
        self._step_began = time.perf_counter()

    def _begin(self) -> None:
        recorder = Recorder(self.record_shapes)
        recorder.start()
        self._recorder, self._recording = recorder, None
        self._session = recorder.session

    def _end(self) -> None:
        assert self._recorder is not None
        recorder, self._recorder = self._recorder, None
        self._recording = recorder.stop()

    def _ready(self) -> None:
        if self.on_trace_ready is not None:
            self.on_trace_ready(self)

    def _end_step(self) -> None:
        if self._record_steps and self._recorder is not None:
            self._recorder.range(f"ProfilerStep#{self.step_num}", self._step_began)

    # -- results ------------------------------------------------------------------------------------------------------

    @property
    def recording(self) -> Recording:
        """What was recorded last; RuntimeError before the end."""
        if self._recording is None:
            raise RuntimeError("the profile is not ready: it is read after the with block, or after stop()")
        return self._recording

    @property
    def session(self) -> Session:
        """What was measured of compiled functions: `compiled.report(measure=p.session)` shows it."""
        if self._session is None:
            raise RuntimeError("the profile has no measurements: it has not begun to record")
        return self._session

    def key_averages(
        self,
        group_by_input_shape: bool = False,
        group_by_stack_n: int = 0,
        group_by_overload_name: bool = False,
    ) -> EventList:
        """Sums by the name of the op, range, call or kernel. `group_by_stack_n` > 0: by the user's line instead."""
        return averages(self.recording, "line" if group_by_stack_n > 0 else "op", group_by_input_shape)

    def table(
        self, by: str = "op", sort_by: str = "self_cpu_time_total", row_limit: int = 20, **options: Any
    ) -> str:
        """A table by "op", "module", "line", or of the compiled kernels with their work and percent of roofline
        ("kernel"). The options are those of `EventList.table`."""
        if by == "kernel":
            return kernel_table(self.recording, peaks(), row_limit)
        return averages(self.recording, by).table(sort_by=sort_by, row_limit=row_limit, **options)

    def kernels(self) -> list[LaunchTime]:
        """The kernels of compiled functions that ran, with time, FLOPs and bytes summed over their runs."""
        return self.recording.launches

    def events(self) -> list[Record]:
        """All records, in the order they ended; kernels by run, as many as were kept (the first of each program)."""
        found = self.recording
        return sorted((*found.records, *found.runs), key=lambda r: r.end)

    def export_chrome_trace(self, path: str | os.PathLike[str], use_python_export: bool = False) -> None:
        """Write the trace for chrome://tracing or Perfetto; a path that ends in .gz is compressed."""
        data = json.dumps(chrome_trace(self.recording, self._metadata)).encode()
        file = Path(path)
        file.write_bytes(gzip.compress(data) if file.suffix == ".gz" else data)

    def add_metadata(self, key: str, value: str) -> None:
        """A string to put into the trace."""
        self._metadata[key] = str(value)

    def add_metadata_json(self, key: str, value: str) -> None:
        """JSON text to put into the trace."""
        self._metadata[key] = json.loads(value)

    preset_metadata_json = add_metadata_json

    def __str__(self) -> str:
        return self.table()


class record_function:
    """Name what runs inside the block, or inside each call of the decorated function, in profiles. Where no profiler is
    active it does nothing."""

    def __init__(self, name: str, args: str | None = None):
        self.name = name
        self.args = args
        self._begin = 0.0
        self._recorder: Recorder | None = None

    def __enter__(self) -> record_function:
        self._recorder = active()
        self._begin = time.perf_counter()
        return self

    def __exit__(self, *error: object) -> None:
        recorder, self._recorder = self._recorder, None
        if recorder is not None:
            recorder.range(self.name, self._begin)

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            with record_function(self.name, self.args):
                return function(*args, **kwargs)

        return wrapper
