"""`torch.multiprocessing`: Python's own multiprocessing, and `spawn`. Tensors are copied between processes."""

# ruff: noqa: F403

from __future__ import annotations

import multiprocessing
import traceback
from collections.abc import Callable
from multiprocessing import *
from multiprocessing import __all__ as _names
from multiprocessing.connection import wait
from typing import Any


class ProcessException(Exception):
    """A process of `spawn` failed."""

    def __init__(self, msg: str, error_index: int, pid: int):
        super().__init__(msg)
        self.msg, self.error_index, self.pid = msg, error_index, pid


class ProcessRaisedException(ProcessException):
    """By an exception; the message holds its traceback."""


class ProcessExitedException(ProcessException):
    """By its exit."""

    def __init__(
        self, msg: str, error_index: int, error_pid: int, exit_code: int, signal_name: str | None = None
    ):
        super().__init__(msg, error_index, error_pid)
        self.exit_code, self.signal_name = exit_code, signal_name


def _run(function: Callable[..., Any], index: int, args: tuple[Any, ...], errors: Any) -> None:
    try:
        function(index, *args)
    except KeyboardInterrupt:
        pass
    except Exception:
        errors.put(traceback.format_exc())
        raise SystemExit(1) from None


class ProcessContext:
    """The processes of `spawn`."""

    def __init__(self, processes: list[Any], errors: list[Any]):
        self.processes, self.error_queues = processes, errors
        self._running = {process.sentinel: index for index, process in enumerate(processes)}

    def pids(self) -> list[int]:
        return [int(process.pid) for process in self.processes]

    def join(self, timeout: float | None = None, grace_period: float | None = None) -> bool:
        """Wait for one of the processes to end; whether all have. Where one failed, the others are ended and its failure
        is raised: ProcessRaisedException, ProcessExitedException."""
        for sentinel in wait(list(self._running), timeout) if self._running else ():
            index = self._running.pop(sentinel)
            process = self.processes[index]
            process.join()
            if process.exitcode == 0:
                continue
            for other in self.processes:
                if other.is_alive():
                    other.terminate()
                other.join()
            self._raise(index, process)
        return not self._running

    def _raise(self, index: int, process: Any) -> None:
        if not self.error_queues[index].empty():
            text = self.error_queues[index].get()
            message = f"\n\n-- Process {index} terminated with the following error:\n{text}"
            raise ProcessRaisedException(message, index, process.pid)
        code = process.exitcode
        message = f"process {index} terminated with exit code {code}"
        if code < 0:
            message = f"process {index} terminated with signal {-code}"
        raise ProcessExitedException(message, index, process.pid, code)


def start_processes(
    fn: Callable[..., Any],
    args: tuple[Any, ...] = (),
    nprocs: int = 1,
    join: bool = True,
    daemon: bool = False,
    start_method: str = "spawn",
) -> ProcessContext | None:
    """`fn(i, *args)` in `nprocs` processes, i from 0; the context of them, or None when they have been joined."""
    context: Any = multiprocessing.get_context(start_method)
    processes, errors = [], []
    for index in range(nprocs):
        queue = context.SimpleQueue()
        process = context.Process(target=_run, args=(fn, index, args, queue), daemon=daemon)
        process.start()
        processes.append(process)
        errors.append(queue)
    found = ProcessContext(processes, errors)
    if not join:
        return found
    while not found.join():
        pass
    return None


def spawn(
    fn: Callable[..., Any],
    args: tuple[Any, ...] = (),
    nprocs: int = 1,
    join: bool = True,
    daemon: bool = False,
    start_method: str = "spawn",
) -> ProcessContext | None:
    """`start_processes` of new interpreters."""
    return start_processes(fn, args, nprocs, join, daemon, start_method)


SpawnContext = ProcessContext


def get_all_sharing_strategies() -> set[str]:
    """The strategies that `set_sharing_strategy` takes."""
    return {"file_system"}


def get_sharing_strategy() -> str:
    """How tensors reach other processes."""
    return "file_system"


def set_sharing_strategy(new_strategy: str) -> None:
    """Accepted: tensors are copied whatever it is."""


__all__ = [
    *_names, "ProcessContext", "ProcessExitedException", "ProcessRaisedException", "SpawnContext",
    "get_all_sharing_strategies", "get_sharing_strategy", "set_sharing_strategy", "spawn", "start_processes",
]  # fmt: skip
