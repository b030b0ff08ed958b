"""What an attribute is, found without running anything of the user's, and who wrote the code there."""

from __future__ import annotations

import functools
import sys
import sysconfig
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np

from ..locations import is_own_file


class _Mark:
    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text


ABSENT = _Mark("absent")

_PATHS = sysconfig.get_paths()
_STANDARD = tuple({_PATHS["stdlib"], _PATHS["platstdlib"]})
_NUMPY = np.__path__[0]

Get = Callable[[], Any]


class ItemOf:
    """A getter: what `items` has under a name now, or ABSENT. `of`: whose items they are, where these are a view."""

    __slots__ = ("items", "name", "of")

    def __init__(self, items: Mapping[Any, Any], name: Any, of: Any = None):
        self.items, self.name = items, name
        self.of = items if of is None else of

    def __call__(self) -> Any:
        return self.items.get(self.name, ABSENT)


class AttributeOf:
    """A getter: what the object's attribute is now, or ABSENT."""

    __slots__ = ("name", "of")

    def __init__(self, of: Any, name: str):
        self.of, self.name = of, name

    def __call__(self) -> Any:
        return getattr(self.of, self.name, ABSENT)


Author = Literal["vitrify", "library", "user"]


@lru_cache(maxsize=4096)
def author(path: str) -> Author:
    """Who wrote a source file; "library": Python's own and NumPy. Other installed packages count as the user's."""
    if path.startswith((_NUMPY, "<frozen ")):
        return "library"
    if path.startswith(_STANDARD) and "site-packages" not in path and "dist-packages" not in path:
        return "library"
    return "vitrify" if is_own_file(path) else "user"


def author_of(thing: type | types.ModuleType) -> Author:
    """Who wrote a class or a module."""
    name = thing.__module__ if isinstance(thing, type) else thing.__name__
    module = sys.modules.get(name, thing)
    path = getattr(module, "__file__", None)
    if isinstance(path, str):
        return author(path)
    return "library" if name in sys.builtin_module_names else "user"


@dataclass(frozen=True)
class Attribute:
    """`kind`: "value" of the object itself, "default": a value in its class, "code": a method, property or other
    descriptor there, or "absent". `owner`: the class it was found in."""

    kind: Literal["value", "default", "code", "absent"]
    value: Any
    owner: type | None = None


_FIELDS = (types.MemberDescriptorType, types.GetSetDescriptorType)  # read by C code


def attribute(obj: Any, name: str) -> Attribute:
    """What `obj.name` is, but for what `__getattr__` makes of it."""
    cls = type(obj)
    owner, raw = in_class(cls, name)
    if isinstance(raw, _FIELDS):
        try:
            return Attribute("value", raw.__get__(obj, cls), owner)
        except AttributeError:
            return Attribute("absent", ABSENT)
    is_data = hasattr(type(raw), "__set__") or hasattr(type(raw), "__delete__")
    if owner is None or not is_data:
        own = own_attributes(obj)
        if own is not None and name in own:
            return Attribute("value", own[name])
    if owner is None:
        return Attribute("absent", ABSENT)
    return Attribute("code" if hasattr(type(raw), "__get__") else "default", raw, owner)


def in_class(cls: type, name: str) -> tuple[type | None, Any]:
    """Which class of the method resolution order has the name, and what it has there."""
    for base in cls.__mro__:
        if name in base.__dict__:
            return base, base.__dict__[name]
    return None, ABSENT


def own_attributes(obj: Any) -> dict[str, Any] | None:
    """The object's `__dict__`, None where it has none."""
    try:
        found = object.__getattribute__(obj, "__dict__")
    except AttributeError:
        found = None if _has_python_hook(type(obj)) else getattr(obj, "__dict__", None)  # `threading.local`
    return found if isinstance(found, dict) else None


def _has_python_hook(cls: type) -> bool:
    """Whether reading an attribute may run code of the class."""
    read = in_class(cls, "__getattribute__")[1]
    read = getattr(read, "__wrapped__", read)  # what is being watched
    return isinstance(read, types.FunctionType) or in_class(cls, "__getattr__")[0] is not None


def getter(obj: Any, name: str, found: Attribute) -> Get:
    """What gives the attribute later, or ABSENT, and runs no code of the user's."""
    own = own_attributes(obj)
    if own is not None and found.owner is None and _has_python_hook(type(obj)):
        return ItemOf(own, name)
    return AttributeOf(obj, name)


_AROUND_FUNCTIONS = (
    staticmethod, classmethod, types.MethodType, functools.cached_property, functools.partial,
    functools.partialmethod, functools.singledispatchmethod,
)  # fmt: skip


def plain_function(value: Any) -> types.FunctionType | None:
    """The function behind what a class has under a name: a method, a property, `functools.cached_property`."""
    if isinstance(value, property):
        value = value.fget
    while isinstance(value, _AROUND_FUNCTIONS):
        value = (
            value.__func__ if isinstance(value, staticmethod | classmethod | types.MethodType) else value.func
        )
    return value if isinstance(value, types.FunctionType) else None
