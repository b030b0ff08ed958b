"""Being told of each attribute that running code reads or writes.

While a function is traced, the classes of the objects it reads get an `__getattribute__` and a `__setattr__` that tell
before they do what they did. So everything is seen that a program can do to get at an attribute: through variables,
parameters, loops, `getattr`, properties. Other threads notice nothing.
"""

from __future__ import annotations

import enum
import sys
import threading
import types
from collections.abc import Callable
from typing import Any

Told = Callable[[Any, str, types.FrameType, bool], None]
_READ, _WRITTEN = "__getattribute__", ("__setattr__", "__delattr__")
REPLACED = (_READ, *_WRITTEN)


class WatchedClasses:
    """Tells of accesses to attributes of instances of these classes in this thread, until `close`: the object, the
    attribute's name, the frame, and whether it is about to be written."""

    def __init__(self, told: Told):
        self._told = told
        self._thread = threading.get_ident()
        self._before: list[tuple[type, str, Any]] = []
        self._watched: dict[type, bool] = {}

    def add(self, cls: type, writes: bool = True) -> bool:
        """Watch the class, if it is not yet; False for one that cannot be: it is written in C."""
        if cls not in self._watched:
            self._watched[cls] = self._add(cls, writes)
        return self._watched[cls]

    def _add(self, cls: type, writes: bool) -> bool:
        if not cls.__flags__ & _ON_THE_HEAP or issubclass(cls, enum.Enum | type):
            return False
        if any(self._watched.get(base) for base in cls.__mro__) and _READ not in cls.__dict__:
            return True
        try:
            self._replace(cls, _READ, self._reading(getattr(cls, _READ)))
        except TypeError:
            return False
        for name in _WRITTEN if writes else ():
            self._replace(cls, name, self._writing(getattr(cls, name)))
        return True

    def _replace(self, cls: type, name: str, new: Any) -> None:
        before = cls.__dict__.get(name)
        type.__setattr__(cls, name, new)
        self._before.append((cls, name, before))

    def close(self) -> None:
        """Give the classes back what they had."""
        for cls, name, before in reversed(self._before):
            if before is None:
                type.__delattr__(cls, name)
            else:
                type.__setattr__(cls, name, before)
        self._before.clear()

    def _reading(self, read: Any) -> Any:
        told, thread, here, frame = self._told, self._thread, threading.get_ident, sys._getframe

        def __getattribute__(self: Any, name: str) -> Any:
            if here() == thread:
                told(self, name, frame(1), False)
            return read(self, name)

        __getattribute__.__wrapped__ = read  # type: ignore[attr-defined]
        return __getattribute__

    def _writing(self, write: Any) -> Any:
        told, thread, here, frame = self._told, self._thread, threading.get_ident, sys._getframe

        def __setattr__(self: Any, name: str, *value: Any) -> None:
            if here() == thread:
                told(self, name, frame(1), True)
            write(self, name, *value)

        return __setattr__


# Py_TPFLAGS_HEAPTYPE: made by a class statement, or by C code that is no different for our purposes.
_ON_THE_HEAP = 1 << 9
