"""LLVM as a part of this process: set up once, used by several threads, left alone while the process forks.

LLVM's rule is one thread at a time for each context (its programmer's manual, "Threads and LLVM"). Here every module has
a context and a target machine of its own, so modules are compiled side by side, without the lock that llvmlite holds
in every call. What they share is LLVM's own: the pass registry (behind a read-write lock), statistics (atomic), timer
groups (behind a lock), tables in local static variables (made once, behind the compiler's guards).
`python tests/llvm_threads.py` looks at that: the same bytes from any number of threads, and no race that valgrind sees.

A fork copies all that as it stands and none of the other threads, so a lock that one of them holds is held forever in
the child. Therefore a fork waits until no thread is inside LLVM.
"""

from __future__ import annotations

import atexit
import contextlib
import mmap
import os
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from ..forks import once


@once
def set_up() -> None:
    """Register LLVM's targets."""
    from llvmlite import binding

    binding.initialize_all_targets()
    binding.initialize_all_asmprinters()
    binding.initialize_native_asmparser()


def unlocked(function: str) -> Callable[..., Any]:
    """A function of llvmlite's library without llvmlite's lock, with which threads would compile one after another.
    Where llvmlite keeps its functions in another way, they do."""
    from llvmlite.binding import ffi

    locked = getattr(ffi.lib, function)
    found: Callable[..., Any] = getattr(locked, "_cfn", locked)
    return found


def need_room(nbytes: int) -> None:
    """MemoryError unless the process may have so much more memory. LLVM asks before it begins, since where it gets none
    half-way it ends the process."""
    try:
        mmap.mmap(-1, nbytes).close()
    except (OSError, MemoryError):
        raise MemoryError(
            f"compiling needs {nbytes >> 20} MiB of memory, which this process cannot have: there is a limit on its "
            "address space (ulimit -v), or the machine has no more"
        ) from None


class Door:
    """Counts the threads that are inside, and can be shut: then others wait outside until it is opened again."""

    def __init__(self) -> None:
        self._changed = threading.Condition(threading.Lock())
        self._inside: Counter[int] = Counter()
        self._shut_by: int | None = None

    @contextlib.contextmanager
    def passed(self) -> Iterator[None]:
        """Inside, as soon as the door is open. A thread that is inside already, or has shut it, need not wait."""
        me = threading.get_ident()
        with self._changed:
            self._changed.wait_for(lambda: self._shut_by in (None, me) or self._inside[me])
            self._inside[me] += 1
        try:
            yield
        finally:
            with self._changed:
                self._inside[me] -= 1
                if not self._inside[me]:
                    del self._inside[me]
                self._changed.notify_all()

    def shut(self, patience: float = 60.0) -> None:
        """Wait until no other thread is inside, for `patience` seconds at most, and let none in."""
        me = threading.get_ident()
        with self._changed:
            self._changed.wait_for(lambda: self._shut_by in (None, me), patience)
            self._shut_by = me
            self._changed.wait_for(lambda: all(thread == me for thread in self._inside), patience)

    def open(self) -> None:
        """Let threads in again, if this one has shut the door."""
        with self._changed:
            if self._shut_by == threading.get_ident():
                self._shut_by = None
                self._changed.notify_all()

    def renew(self) -> None:
        """In a forked child, which has this thread alone."""
        me = threading.get_ident()
        self._changed = threading.Condition(threading.Lock())
        self._inside = Counter({me: self._inside[me]} if self._inside[me] else {})
        self._shut_by = None


_door = Door()
inside_llvm = _door.passed


def _llvmlites_lock() -> contextlib.AbstractContextManager[Any]:
    """What every call of llvmlite holds, those that free something included."""
    ffi = sys.modules.get("llvmlite.binding.ffi")
    found: contextlib.AbstractContextManager[Any] = getattr(getattr(ffi, "lib", None), "_lock", _NO_LOCK)
    return found


_NO_LOCK: contextlib.AbstractContextManager[Any] = contextlib.nullcontext()


def _before_fork() -> None:
    _door.shut()
    _llvmlites_lock().__enter__()


def _after_fork(door: Callable[[], None]) -> None:
    _llvmlites_lock().__exit__(None, None, None)
    door()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=lambda: _after_fork(_door.open),
        after_in_child=lambda: _after_fork(_door.renew),
    )
# Threads that are no longer waited for must not compile while LLVM's own variables are taken apart.
atexit.register(_door.shut)
