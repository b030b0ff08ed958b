"""What a compiled function changes of lists, dicts, objects and modules: the trace puts it back, calls do it.

Lists, dicts and objects into which a function puts what it computes are arguments of it (`State`), named or not: their
tensors are inputs of the graph, and what they hold in the end are results.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..argument_numbers import Number
from ..nn.modules.module import Module
from ..nn.modules.structure import changed
from ..optim.optimizer import Optimizer
from ..state import local
from ..tensor import Tensor
from . import pytree
from .contents import Content, content_of, fill, has_content
from .pytree import Mutables, Structure

_APART = (Tensor, Module, Optimizer, Number)
_COMPILER = __package__ + "."


def is_object(one: Any) -> bool:
    """Whether what is in it can be followed."""
    cls: Any = type(one)
    return has_content(cls) and not issubclass(cls, _APART) and not cls.__module__.startswith(_COMPILER)


@dataclass
class State:
    """What one function has been seen to change: objects of these classes among its arguments, and these objects, with
    what to call them, that it finds elsewhere."""

    classes: set[type] = field(default_factory=set)
    objects: list[tuple[str, Any]] = field(default_factory=list)

    def flatten(self, args: Any, kwargs: Mapping[str, Any]) -> tuple[list[Any], Structure, list[Any]]:
        """The leaves of a call's arguments, their structure, and the lists, dicts and objects among them, in order."""
        mutables = Mutables(self.classes)
        tree = (args, dict(kwargs), *[one for _, one in self.objects])
        leaves, structure = pytree.flatten(tree, mutables)
        return leaves, structure, mutables.found

    def add(self, what: str, one: Any, leaves: Sequence[Any]) -> None:
        """The function has put something into this, which the arguments may lead to."""
        trail = _trail(one, leaves)
        if trail is None:
            self.objects.append((what, one))
            trail = {type(one)}
        self.classes |= {cls for cls in trail if cls not in (list, dict)}


class StateFound(Exception):
    """Raised where a trace has found more state: the call starts anew."""


def _trail(target: Any, leaves: Sequence[Any]) -> set[type] | None:
    """The classes of the objects by which one gets from a leaf to the target; None where no leaf leads there."""
    seen: set[int] = set()
    waiting: list[tuple[Any, frozenset[type]]] = [(leaf, frozenset()) for leaf in leaves]
    while waiting:
        one, above = waiting.pop()
        if id(one) in seen or not (isinstance(one, tuple) or is_object(one)):
            continue
        seen.add(id(one))
        trail = above if isinstance(one, tuple) else above | {type(one)}
        if one is target:
            return set(trail)
        waiting += [(inner, trail) for inner in _inside(one)]
    return None


def _inside(one: Any) -> Iterator[Any]:
    if isinstance(one, tuple):
        yield from one
        return
    items, attributes = content_of(one)
    yield from items.values() if isinstance(items, dict) else items
    yield from attributes.values()


class AfterTrace(Mutables):
    """What a trace leaves: objects are structure where they hold what it has computed or was given, but for those from
    outside, which calls give back themselves."""

    def __init__(self, given: Sequence[Any], is_outside: Callable[[Any], bool] = lambda one: False):
        super().__init__((), given)
        self._is_outside = is_outside

    def takes_apart(self, one: Any) -> bool:
        if id(one) in self.numbers:
            return True
        return (
            is_object(one)
            and not self._is_outside(one)
            and not (isinstance(one, deque) and one.maxlen is not None)
            and self.holds_traced(one)
        )

    def holds_traced(self, one: Any) -> bool:
        """Whether there is anything of the trace in it."""
        seen: set[int] = set()
        waiting = [one]
        while waiting:
            value = waiting.pop()
            if (isinstance(value, Tensor) and value._array is None) or type(value) is Number:
                return True
            if id(value) in seen or not (isinstance(value, tuple) or is_object(value)):
                continue
            seen.add(id(value))
            if id(value) in self.numbers and value is not one:
                return True
            if value is one or not self._is_outside(value):
                waiting += _inside(value)
        return False


@dataclass(frozen=True)
class Given:
    """A change of the list, dict or object of this number among those of the arguments: what it holds after."""

    number: int

    def make(self, content: Any, given: Sequence[Any]) -> None:
        """Change it."""
        fill(given[self.number], Content(*content))


@dataclass(frozen=True, eq=False)
class OfModule:
    """A change of a module's attributes: by table (`_buffers`; "" for its `__dict__`) those that are new, and the names
    that are gone. `relied_on`: whether the trace has read one of them, so that after the change another is due."""

    module: Module
    what: str
    gone: Mapping[str, tuple[Any, ...]]
    relied_on: bool

    def make(self, content: Mapping[str, Mapping[Any, Any]], given: Sequence[Any]) -> None:
        """Change it, and let compiled functions know."""
        for table, new in content.items():
            place = vars(self.module)[table] if table else vars(self.module)
            for key in self.gone.get(table, ()):
                dict.pop(place, key, None)
            dict.update(place, new)
        changed()


Change = Given | OfModule
Tables = dict[str, dict[Any, Any]]


def tables_of(module: Module) -> Tables:
    """What a module holds, by table: the module's own dicts in its `__dict__`, and that itself as \"\"."""
    own = vars(module)
    inner = {name: dict(value) for name, value in own.items() if name in _TABLES}
    return {"": dict(own), **inner}


def made_in_trace(module: Module) -> bool:
    """Whether the function that is being compiled has made the module, or is making it."""
    parameters = vars(module).get("_parameters")
    birth = getattr(parameters, "birth", None)
    return birth is None or (birth.compiling is not None and birth.compiling() is local.backend.capture)


_TABLES = frozenset(name for name, value in vars(Module()).items() if isinstance(value, dict))


def put_back(module: Module, before: Tables) -> None:
    """Have the module hold what it held."""
    for table, content in before.items():
        place = vars(module)[table] if table else vars(module)
        dict.clear(place)
        dict.update(place, content)


def difference(before: Tables, after: Tables) -> tuple[Tables, dict[str, tuple[Any, ...]]]:
    """What is new by table, and what is gone."""
    new = {
        table: {k: v for k, v in now.items() if k not in before[table] or before[table][k] is not v}
        for table, now in after.items()
    }
    gone = {table: tuple(k for k in was if k not in after[table]) for table, was in before.items()}
    return {table: found for table, found in new.items() if found or gone[table]}, gone
