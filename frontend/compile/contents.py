"""What is in a list, a dict or an object of a Python class: taken out, put in, made from nothing.

Objects are those whose state is in their attributes (`__dict__`, slots) and, of subclasses of list, dict and deque, in
their items. What else C code keeps of an object cannot be seen.
"""

from __future__ import annotations

import contextlib
import struct
import types
from collections import OrderedDict, defaultdict, deque
from functools import lru_cache
from operator import is_
from typing import Any, Generic, NamedTuple, Protocol

_ITEMS = (list, dict, deque)
# Classes in C that keep nothing else, or only what making an object of them repeats.
_KNOWN = (*_ITEMS, OrderedDict, defaultdict, types.SimpleNamespace, object, Generic, Protocol)
# Py_TPFLAGS_HEAPTYPE: made by a class statement.
_ON_THE_HEAP = 1 << 9
_POINTER = struct.calcsize("P")


class Content(NamedTuple):
    """The items, () of what has none, and the attributes."""

    items: list[Any] | tuple[()] | dict[Any, Any]
    attributes: dict[str, Any]


@lru_cache(maxsize=4096)
def has_content(cls: type) -> bool:
    """Whether objects of the class can be taken apart and made again."""
    if not cls.__flags__ & _ON_THE_HEAP or issubclass(cls, type):
        return cls in _KNOWN and cls is not object
    return all(
        base in _KNOWN or (base.__flags__ & _ON_THE_HEAP and not _is_native(base)) for base in cls.__mro__
    )


def _is_native(cls: type) -> bool:
    """Whether objects of this class on the heap have room for more than its base's, its slots and a `__dict__`: C code
    made it, and keeps there what nobody sees."""
    pointers = sum(
        isinstance(raw, types.MemberDescriptorType) or name in ("__dict__", "__weakref__")
        for name, raw in cls.__dict__.items()
    )
    base = cls.__base__
    return base is not None and cls.__basicsize__ - base.__basicsize__ > _POINTER * pointers


@lru_cache(maxsize=4096)
def slots_of(cls: type) -> tuple[str, ...]:
    """The names of the attributes that are not in `__dict__`."""
    return tuple(
        name
        for base in cls.__mro__
        if base.__flags__ & _ON_THE_HEAP or base is defaultdict
        for name, raw in base.__dict__.items()
        if isinstance(raw, types.MemberDescriptorType)
    )


def _own(one: Any) -> dict[str, Any]:
    try:
        found: dict[str, Any] = object.__getattribute__(one, "__dict__")
    except AttributeError:
        return {}
    return found


def content_of(one: Any) -> Content:
    """What is in it now."""
    cls: Any = type(one)
    if cls is list:
        return Content(one.copy(), {})
    if cls is dict:
        return Content(one.copy(), {})
    attributes = dict(_own(one))
    for name in slots_of(cls):
        with contextlib.suppress(AttributeError):
            attributes[name] = object.__getattribute__(one, name)
    if isinstance(one, dict):
        return Content(dict(zip(dict.keys(one), dict.values(one))), attributes)
    if isinstance(one, list):
        return Content(list.copy(one), attributes)
    return Content(list(deque.__iter__(one)) if isinstance(one, deque) else (), attributes)


def fill(one: Any, content: Content) -> None:
    """Have it hold this, and nothing else."""
    items, attributes = content
    if isinstance(one, list):
        list.__setitem__(one, slice(None), items)
    elif isinstance(one, deque):
        deque.clear(one)
        deque.extend(one, items)
    elif isinstance(one, OrderedDict):
        OrderedDict.clear(one)
        for key, value in dict(items).items():
            OrderedDict.__setitem__(one, key, value)
    elif isinstance(one, dict):
        dict.clear(one)
        dict.update(one, items)
    cls: Any = type(one)
    if cls in _ITEMS:
        return
    slots = slots_of(cls)
    for name in slots:
        if name in attributes:
            object.__setattr__(one, name, attributes[name])
        elif hasattr(one, name):
            object.__delattr__(one, name)
    own = _own(one)
    own.clear()
    own.update((name, value) for name, value in attributes.items() if name not in slots)


def empty(cls: Any) -> Any:
    """An object of the class, before `__init__`."""
    return cls.__new__(cls)


def same_content(a: Content, b: Content) -> bool:
    """Whether both are the same objects in the same places."""
    return (
        len(a.items) == len(b.items)
        and list(a.attributes) == list(b.attributes)
        and all(map(is_, a.attributes.values(), b.attributes.values()))
        and (
            list(a.items) == list(b.items) and all(map(is_, a.items.values(), b.items.values()))
            if isinstance(a.items, dict) and isinstance(b.items, dict)
            else all(map(is_, a.items, b.items))
        )
    )
