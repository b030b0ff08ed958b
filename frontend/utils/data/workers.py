"""Worker processes of a DataLoader: they fetch and collate, the batches come back in order.

Each worker has a copy of the dataset, and random numbers of its own: torch, `random` and NumPy are seeded from the
loader's base seed and the worker's number, as PyTorch seeds them. Tensors travel by pickle. With the start method `fork`
(the default where there is one) nothing has to be picklable but the batches.
"""

from __future__ import annotations

import multiprocessing
import queue
import random
import traceback
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...random import manual_seed

_ALIVE_CHECK = 5.0  # seconds between looks whether the workers still live
_JOIN = 5.0  # seconds that a worker has to end by itself


@dataclass(frozen=True)
class WorkerInfo:
    """What `get_worker_info` tells code that runs in a worker process."""

    id: int
    num_workers: int
    seed: int
    dataset: Any


_current: WorkerInfo | None = None


def get_worker_info() -> WorkerInfo | None:
    """The worker process this code runs in; None in the main process."""
    return _current


@dataclass(frozen=True)
class Failure:
    """An exception in a worker."""

    kind: type[BaseException]
    text: str
    worker: int

    @classmethod
    def now(cls, error: BaseException, worker: int) -> Failure:
        return cls(type(error), traceback.format_exc(), worker)

    def reraise(self) -> None:
        """The exception of the same class, with the worker's traceback as its message."""
        message = (
            f"Caught {self.kind.__name__} in DataLoader worker process {self.worker}.\nOriginal {self.text}"
        )
        if self.kind is KeyError:
            raise KeyError(_Lines(message))  # prints its argument's repr
        try:
            error = self.kind(message)
        except Exception:  # a class with a constructor of its own
            raise RuntimeError(message) from None
        raise error


class _Lines(str):
    def __repr__(self) -> str:
        return str(self)


@dataclass(frozen=True)
class Work:
    """What all workers of a loader do."""

    dataset: Any
    # Makes the function from a batch of indices to a batch, for one pass over the dataset.
    fetcher: Callable[[], Callable[[Any], Any]]
    init: Callable[[int], None] | None
    base_seed: int
    count: int


END = "end of this worker's stream"


def _serve(work: Work, number: int, tasks: Any, results: Any) -> None:
    """A worker: answers (pass, task, indices) by (pass, task, batch or Failure or END) until it gets None."""
    global _current
    seed = work.base_seed + number
    random.seed(seed)
    manual_seed(seed)
    words = [number, work.base_seed & 0xFFFFFFFF, work.base_seed >> 32, 0]
    np.random.seed(np.random.SeedSequence(words).generate_state(4))
    _current = WorkerInfo(number, work.count, seed, work.dataset)
    fetch: Callable[[Any], Any] | None = None
    failed: Failure | None = None
    pass_number, ended = -1, False
    try:
        if work.init is not None:
            work.init(number)
    except Exception as error:
        failed = Failure.now(error, number)
    while (message := tasks.get()) is not None:
        this_pass, task, indices = message
        try:
            if this_pass != pass_number:
                pass_number, ended = this_pass, False
                fetch = None if failed else work.fetcher()
            if failed or ended:
                found: Any = failed or END
            else:
                assert fetch is not None
                found = fetch(indices)
        except StopIteration:
            ended, found = True, END
        except KeyboardInterrupt:
            return
        except Exception as error:
            found = Failure.now(error, number)
        results.put((this_pass, task, found))


class Workers:
    """The processes of one loader. They end with `close`, or when nobody holds them any more."""

    def __init__(self, work: Work, context: Any):
        if isinstance(context, str) or context is None:
            context = multiprocessing.get_context(context)
        self.results = context.Queue()
        self.tasks = [context.SimpleQueue() for _ in range(work.count)]
        self.processes = [
            context.Process(target=_serve, args=(work, i, tasks, self.results), daemon=True)
            for i, tasks in enumerate(self.tasks)
        ]
        for process in self.processes:
            process.start()
        self.passes = 0
        self.close = weakref.finalize(self, _end, self.processes, self.tasks, self.results)

    def receive(self, timeout: float) -> Any:
        """The next answer; RuntimeError after `timeout` seconds (0: never), or if a worker has died."""
        waited = 0.0
        while True:
            step = min(_ALIVE_CHECK, timeout - waited) if timeout else _ALIVE_CHECK
            try:
                return self.results.get(timeout=step)
            except queue.Empty:
                waited += step
            dead = [str(p.pid) for p in self.processes if not p.is_alive()]
            if dead:
                raise RuntimeError(f"DataLoader worker (pid(s) {', '.join(dead)}) exited unexpectedly")
            if timeout and waited >= timeout:
                raise RuntimeError(f"DataLoader timed out after {timeout} seconds")


def _end(processes: list[Any], tasks: list[Any], results: Any) -> None:
    for process, queue_ in zip(processes, tasks):
        if process.is_alive():
            queue_.put(None)
    results.cancel_join_thread()
    for process in processes:
        process.join(0.1)
    # A worker may wait for its batches to be taken.
    for process in processes:
        if process.is_alive():
            process.terminate()
        process.join(_JOIN)
    results.close()


class WorkersPass:
    """The batches of one pass over the dataset, in the order of the indices.

    Tasks go to the workers in turn, `ahead` each before the first batch is asked for. A worker whose stream has ended
    gets no more; what it had been given is left out.
    """

    def __init__(
        self,
        workers: Workers,
        indices: Iterator[Any],
        ahead: int,
        timeout: float,
        persistent: bool,
        in_order: bool = True,
    ):
        self._workers, self._indices = workers, indices
        self._timeout, self._persistent, self._in_order = timeout, persistent, in_order
        workers.passes += 1
        self._pass = workers.passes
        self._turn = 0
        self._active = [True] * len(workers.tasks)
        self._sent = self._next = 0
        self._given: dict[int, int] = {}  # task -> worker, for what has not come back
        self._ready: dict[int, Any] = {}
        self._left_out: set[int] = set()
        for _ in range(ahead * len(workers.tasks)):
            self._give()

    def _give(self) -> None:
        """The next indices to the next worker that still has something."""
        count = len(self._active)
        worker = next(
            (w % count for w in range(self._turn, self._turn + count) if self._active[w % count]), None
        )
        if worker is None:
            return
        try:
            batch = next(self._indices)
        except StopIteration:
            return
        self._turn = worker + 1
        self._given[self._sent] = worker
        self._workers.tasks[worker].put((self._pass, self._sent, batch))
        self._sent += 1

    def __iter__(self) -> WorkersPass:
        return self

    def __next__(self) -> Any:
        while True:
            while self._next in self._left_out:
                self._left_out.discard(self._next)
                self._next += 1
            task = self._next if self._in_order else next(iter(self._ready), self._next)
            if task in self._ready:
                return self._taken(task)
            if not self._given:
                self.close()
                raise StopIteration
            this_pass, task, found = self._workers.receive(self._timeout)
            if this_pass != self._pass:
                continue  # of a pass that was left early
            worker = self._given.pop(task)
            if isinstance(found, str) and found == END:
                self._active[worker] = False
                self._left_out.add(task)
                self._give()
            else:
                self._ready[task] = found

    def _taken(self, task: int) -> Any:
        found = self._ready.pop(task)
        if task == self._next:
            self._next += 1
        else:
            self._left_out.add(task)
        self._give()
        if isinstance(found, Failure):
            self.close()
            found.reraise()
        return found

    def close(self) -> None:
        """No more batches of this pass; the workers end, unless they are to stay."""
        self._given.clear()
        if not self._persistent:
            self._workers.close()

    def __del__(self) -> None:
        self.close()


__all__ = ["WorkerInfo", "Workers", "WorkersPass", "get_worker_info"]
