"""Locks that a forked child finds free.

A child has one thread, the one that forked. What another thread of the parent held would be held in the child forever.
What a lock protects may be half done then; it must be written so that the next to come does it again.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable
from functools import wraps
from typing import TypeVar

T = TypeVar("T")


class Lock:
    """A lock that its thread may take again (`threading.RLock`); free in a forked child unless the thread that forked
    had it."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        _locks.add(self)

    def acquire(self) -> None:
        """Wait until no other thread has it."""
        self._lock.acquire()

    def release(self) -> None:
        """Give it back; RuntimeError if this thread has not got it."""
        self._lock.release()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(self, *error: object) -> None:
        self._lock.release()

    def renew(self) -> None:
        """In a forked child."""
        if not self._lock._is_owned():  # type: ignore[attr-defined]
            self._lock = threading.RLock()


_locks: weakref.WeakSet[Lock] = weakref.WeakSet()


def _renew_all() -> None:
    for lock in list(_locks):
        lock.renew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_all)


def once(function: Callable[[], T]) -> Callable[[], T]:
    """`functools.cache` for a function without arguments, which runs a single time also where threads ask at once."""
    lock, found = Lock(), list[T]()

    @wraps(function)
    def asked() -> T:
        if not found:
            with lock:
                if not found:
                    found.append(function())
        return found[0]

    return asked
