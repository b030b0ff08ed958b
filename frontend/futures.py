"""`torch.futures`: results that come later, within one process. Python's own futures hold them."""

from __future__ import annotations

import concurrent.futures
import threading
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypeVar

T = TypeVar("T")
S = TypeVar("S")


class Future(Generic[T]):
    """A result that some thread sets, once, and others wait for. Callbacks run in the thread that sets it, or at once
    where it is there. `devices` is accepted: nothing is to be synchronized."""

    def __init__(self, *, devices: Sequence[Any] | None = None):
        self._future: concurrent.futures.Future[T] = concurrent.futures.Future()

    def done(self) -> bool:
        """Whether there is a result, or an exception in its place."""
        return self._future.done()

    def wait(self) -> T:
        """The result, when it is there; raises what was set in its place."""
        return self._future.result()

    def value(self) -> T:
        """The result, which must be there."""
        if not self.done():
            raise RuntimeError("value() was called on a future that is not completed; wait() waits for it")
        return self._future.result()

    def set_result(self, result: T) -> None:
        """The future is done; RuntimeError where it was already."""
        self._once()
        self._future.set_result(result)

    def set_exception(self, result: BaseException) -> None:
        """The future is done, and waiting for it raises this."""
        if not isinstance(result, BaseException):
            raise AssertionError(f"{result} is of type {type(result)}, not an Exception.")
        self._once()
        self._future.set_exception(result)

    def _once(self) -> None:
        if self.done():
            raise RuntimeError("Future can only be marked completed once.")

    def then(self, callback: Callable[[Future[T]], S]) -> Future[S]:
        """A future of what the callback makes of this one when it is done."""
        following: Future[S] = Future()

        def follow(future: Future[T]) -> None:
            try:
                following.set_result(callback(future))
            except Exception as error:
                following.set_exception(error)

        self.add_done_callback(follow)
        return following

    def add_done_callback(self, callback: Callable[[Future[T]], Any]) -> None:
        """Have the callback run with this future when it is done."""
        self._future.add_done_callback(lambda _: callback(self))


def collect_all(futures: Sequence[Future[Any]]) -> Future[list[Future[Any]]]:
    """A future of the futures, done when all are."""
    gathered: Future[list[Future[Any]]] = Future()
    if not futures:
        gathered.set_result([])

    lock, waiting = threading.Lock(), len(futures)

    def count(_: Future[Any]) -> None:
        nonlocal waiting
        with lock:
            waiting -= 1
            last = not waiting
        if last:
            gathered.set_result(list(futures))

    for future in futures:
        future.add_done_callback(count)
    return gathered


def wait_all(futures: Sequence[Future[Any]]) -> list[Any]:
    """The results of all, when they are there."""
    return [future.wait() for future in futures]


__all__ = ["Future", "collect_all", "wait_all"]
