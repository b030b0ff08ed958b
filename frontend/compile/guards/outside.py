"""What a compiled function reads of Python objects outside it: the values that guards compare.

A number that running code reads from a global, an attribute or a dictionary is baked into the graph. So while a function
is traced, each read from outside is found, and what was read is guarded:

- of *functions* that may run, the bytecode says which globals and variables of enclosing functions they read, before
  they do (`functions.py`, `chains.py`);
- of *objects* that are reached from there, attributes are guarded when running code reads or writes them, whatever way
  it got to the object (`watching.py`);
- of *containers* all items are guarded, or those with constant keys where the code asks for no others (`contents.py`);
- of classes, modules of Python and objects written in C, what the code names (`named.py`).

Objects are told from each other by identity, numbers, strings and containers by value. Attributes of `nn.Module`s stand
behind the modules' own counter (`nn/modules/structure.py`), state of vitrify's optimizers behind theirs. Objects that
are made while tracing are the trace's own.

Not seen: files, clocks, other processes; what C code keeps; the contents of NumPy arrays of more than `ARRAY` bytes.
"""

from __future__ import annotations

import contextvars
import functools
import io
import os
import types
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from ...autograd.function import Function
from ...nn.modules.module import Module
from ...optim.optimizer import Optimizer
from ...tensor import Tensor
from ..changes import Tables, difference, is_object, made_in_trace, put_back, tables_of
from ..contents import Content, content_of, fill, same_content
from .chains import UNKNOWN, Step, Steps, steps_at
from .contents import CONTAINERS, ITEMS, Contents, members
from .functions import Functions
from .guard import Guard
from .lookup import (
    ABSENT,
    Attribute,
    AttributeOf,
    Get,
    ItemOf,
    attribute,
    author,
    author_of,
    getter,
    in_class,
    own_attributes,
    plain_function,
)
from .named import NamedAttributes
from .optimizers import is_users_optimizer, numbers_of
from .random_state import RandomStates
from .reads import item, itself
from .values import is_plain
from .watching import REPLACED, WatchedClasses

ARRAY = 16384
_EXACT = frozenset(CONTAINERS)
_MAKING = ("__init__", "__new__", "__post_init__")
_UNHEARD = ("__repr__", "__str__", "__del__", "__reduce__", "__reduce_ex__", "__init_subclass__")
_OF_FUNCTIONS = ("forward", "backward", "setup_context", "jvp", "vmap")
_COMPILER = __package__.removesuffix(".guards") + "."
_COUNTED = Module | Optimizer  # what they hold is behind counters


class OutsideReads:
    """Finds what one trace reads from outside. `guard(get, what, key)` is called once for each value."""

    def __init__(self, guard: Callable[[Get, str, Any], Guard | None]):
        self._guard = guard
        self._watched = WatchedClasses(self._accessed)
        self._named = NamedAttributes(self)
        self._functions = Functions(self, self._named.add_names, self._asked_for_types)
        self._random = RandomStates()
        # What is outside, by id, and what to call it; alive, so that no other object gets its id.
        self._reached: dict[int, tuple[Any, str]] = {}
        self._known: set[tuple[type, str]] = set()  # code in classes
        # Which instruction read which attribute of what; the code is kept alive with it.
        self._sites: dict[tuple[int, str, int, int], types.CodeType] = {}
        self._written: set[tuple[int, str]] = set()  # attributes that the code being traced has set
        self._given: dict[int, Any] = {}
        # What was in lists, dicts and objects, and in modules, before running code could change it.
        self._before: dict[int, tuple[str, Any, Content]] = {}
        self._modules_before: dict[int, tuple[str, Module, Tables]] = {}
        self._module_reads: set[tuple[int, str]] = set()
        self._waiting: list[tuple[str, Any, bool]] = []  # that have been reached, and not yet looked into
        self._busy = True
        self._asked = False
        # Guards on what only code of libraries read: loggers keep caches.
        self._incidental: list[Guard] = []
        self._incidentally = False

    # -- the trace -------------------------------------------------------------------------------------------

    @contextmanager
    def watching(
        self, fn: Any, arguments: Iterable[tuple[str, Any]], given: Sequence[Any] = ()
    ) -> Iterator[None]:
        """Inside the block, where the function is called with these argument leaves, by name, what it reads is found.
        What lists, dicts and objects hold that are `given` with them, calls compare themselves."""
        try:
            for one in given:
                self._given[id(one)] = one
                if type(one) not in _EXACT:
                    self._watch(one)
                    self._class(type(one))
            for name, leaf in arguments:
                if not is_plain(leaf):  # that it is the same object, calls compare themselves
                    self._settled(name, leaf)
            self.reach("", fn)
            self._busy = False
            yield
        finally:
            self._busy = True
            self._watched.close()

    def settled(self, guards: Sequence[Guard]) -> list[Guard]:
        """After the trace: the guards without those on what library code keeps for itself and changed, and with one that
        no call fulfils for each generator from which random numbers were drawn."""
        self._busy = True
        changed = {id(guard) for guard in self._incidental if not guard.holds()}
        drawn = [Guard(f"the state of {what}", object, None) for what in self._random.drawn()]
        return [*(guard for guard in guards if id(guard) not in changed), *drawn]

    def changed(self) -> Iterator[tuple[str, Any]]:
        """After the trace: the lists, dicts and objects from outside that do not hold what they held, and what to call
        them."""
        self._busy = True
        for what, one, before in self._before.values():
            if id(one) not in self._given and not same_content(before, content_of(one)):
                yield what, one

    def changed_modules(self) -> Iterator[tuple[str, Module, Tables]]:
        """The modules that do not hold what they held, with that."""
        for what, module, before in self._modules_before.values():
            if difference(before, tables_of(module))[0]:
                yield what, module, before

    def is_outside(self, one: Any) -> bool:
        """Whether the object was there before the trace, as far as running code got at it."""
        return self._reached.get(id(one), (None,))[0] is one

    def has_read(self, module: Module, names: Iterable[str]) -> bool:
        """Whether code has read one of these attributes of the module, or, for all that is known, all of them."""
        return any((id(module), name) in self._module_reads for name in (*names, "__dict__"))

    def undo(self) -> None:
        """Have lists, dicts and objects hold what they held."""
        for _, one, before in self._before.values():
            fill(one, before)

    def keep(self, modules: Iterable[Module]) -> None:
        """What these hold now is what they held."""
        for module in modules:
            self._modules_before.pop(id(module), None)

    def undo_modules(self) -> None:
        """Have modules hold what they held."""
        for _, module, before in list(self.changed_modules()):
            put_back(module, before)

    def _note(self, what: str, one: Any) -> None:
        """Running code may change what is in it, or in a list or dict in there."""
        waiting = [one]
        while waiting:
            inner = waiting.pop()
            if id(inner) not in self._before and is_object(inner):
                content = content_of(inner)
                self._before[id(inner)] = what, inner, content
                if isinstance(inner, CONTAINERS) and len(inner) <= ITEMS:
                    items = content.items
                    waiting += [
                        i
                        for i in (items.values() if isinstance(items, dict) else items)
                        if isinstance(i, list | dict)
                    ]

    def _relies(self, what: str, get: Get, *key: Any) -> None:
        found = self._guard(get, what, ("outside", *key))
        if self._incidentally and found is not None:
            self._incidental.append(found)

    # -- attributes of objects, when they are read -----------------------------------------------------------

    def _accessed(self, obj: Any, name: str, frame: types.FrameType, writes: bool) -> None:
        """Running code reads or writes `obj.name`, which is still what it was. What it has written itself before is no
        fact from outside: from what it read until then it would write the same again."""
        if self._busy or (name.startswith("__") and name not in ("__dict__", "__class__")):
            return
        if (id(obj), name) in self._written:
            return
        cls, code = type(obj), frame.f_code
        reader = author(code.co_filename)
        known = self._reached.get(id(obj))
        self._busy, self._incidentally = True, reader != "user"
        try:
            if isinstance(obj, Module):
                if id(obj) not in self._modules_before and not made_in_trace(obj):
                    self._modules_before[id(obj)] = cls.__name__, obj, tables_of(obj)
                if self._is_new(obj, name):
                    return
                if not writes and (name != "__dict__" or reader != "vitrify"):
                    self._module_reads.add((id(obj), name))
            if id(obj) in self._given:
                if (cls, name) not in self._known and attribute(obj, name).kind in ("code", "default"):
                    self._known.add((cls, name))
                    self._read(obj, name, name, ())
                return
            if known is None or known[0] is not obj or (reader == "vitrify" and issubclass(cls, _COUNTED)):
                if (cls, name) not in self._known:
                    self._known.add((cls, name))
                    found = attribute(obj, name)
                    if found.kind == "code" or callable(found.value):
                        self.reach(name, found.value)
                return
            if writes:
                self._note(known[1], obj)
                self._written.add((id(obj), name))
            site = id(obj), name, id(code), frame.f_lasti
            if site not in self._sites:
                self._sites[site] = code
                unknown = () if name == "__class__" else UNKNOWN  # `isinstance` reads `__class__`
                for steps in steps_at(code, frame.f_lasti, name) or unknown:
                    self._read(obj, f"{known[1]}.{name}" if known[1] else name, name, steps)
        finally:
            self._busy = self._incidentally = False

    def _is_new(self, module: Module, name: str) -> bool:
        """Whether the code that is traced has set the module's attribute to what it is now."""
        before, own = self._modules_before.get(id(module)), vars(module)
        return before is not None and name in own and before[2][""].get(name, ABSENT) is not own[name]

    def _read(self, obj: Any, what: str, name: str, steps: Steps) -> None:
        found = attribute(obj, name)
        if name == "__class__":
            self._settled(what, type(obj), steps)
        elif found.kind == "code":
            self._code(what, found, name)
            own = own_attributes(obj)
            if own is not None and not isinstance(obj, _COUNTED) and id(obj) not in self._given:
                self._relies(what, ItemOf(own, name), id(obj), name)
        elif isinstance(obj, Module):
            self._of_module(obj, what, name, found, steps)
        elif not (is_users_optimizer(obj) and name in ("param_groups", "state")):
            self.follow(what, getter(obj, name, found), (id(obj), name), steps)
            if found.kind == "absent" and isinstance(obj, dict):  # `__getattr__` may give its items
                self._relies(what, Contents(what, functools.partial(itself, obj)), id(obj), "contents")

    def _of_module(self, module: Module, what: str, name: str, found: Attribute, steps: Steps) -> None:
        if found.kind == "absent":
            self.reach(what, module._modules.get(name))
        elif found.kind == "value":
            self._settled(what, found.value, steps)
        elif found.owner is not None and author_of(found.owner) != "vitrify":
            self.in_class(what, type(module), name, steps)

    def _code(self, what: str, found: Attribute, name: str) -> None:
        """A method or property: that it stays this code, and what it reads."""
        assert found.owner is not None
        if author_of(found.owner) == "user" and name not in REPLACED:
            self._relies(what, ItemOf(found.owner.__dict__, name, found.owner), id(found.owner), name)
        self.reach(what, found.value)
        if isinstance(found.value, classmethod):
            self._named.add(found.owner.__name__, found.owner)

    # -- values ----------------------------------------------------------------------------------------------

    def follow(
        self, what: str, get: Get, key: tuple[Any, ...], steps: Steps = (), settled: bool = False
    ) -> None:
        """What `get` gives is read, and used by these steps; `settled`: calls will find the same object."""
        value = get()
        if isinstance(value, CONTAINERS) and not is_plain(value):
            self._container(what, get, value, key, steps, settled)
            return
        if not settled:
            self._relies(what, get, *key)
        if is_plain(value) or value is ABSENT:
            return
        step = steps[0] if steps else None
        if step is not None and step.kind == "get":
            step = Step("attribute", "get")
        if step is None or step.kind == "item" or self._watch(value):
            self.reach(what, value)
        elif isinstance(value, type):
            self._class(value)
            if in_class(value, step.key)[0] is None:
                self._named.add(what, value)  # of the metaclass
            else:
                self.in_class(f"{what}{step}", value, step.key, steps[1:])
        elif isinstance(value, types.ModuleType):
            self._of_python_module(f"{what}{step}", value, step.key, steps[1:])
        elif step.key in (own_attributes(value) or {}):
            self._note(what, value)
            inner = AttributeOf(value, step.key)
            self.follow(f"{what}{step}", inner, (id(value), step.key), steps[1:])
        else:
            self.reach(what, value)

    def _settled(self, what: str, value: Any, steps: Steps = ()) -> None:
        self.follow(what, functools.partial(itself, value), (id(value),), steps, settled=True)

    def _container(
        self, what: str, get: Get, value: Any, key: tuple[Any, ...], steps: Steps, settled: bool
    ) -> None:
        if id(value) in self._given:
            if not settled:
                self._relies(what, functools.partial(_identity, get), *key, "given")
            for member in members(value):
                self.reach(what, member)
            return
        self._note(what, value)
        step = steps[0] if steps else None
        if type(value) not in _EXACT:  # its attributes are read of this very object
            if not settled:
                self._relies(what, get, *key)
            get = functools.partial(itself, value)
            self.reach(what, value)
        elif step is not None and (step.kind == "item" or (step.kind == "get" and isinstance(value, dict))):
            inner = functools.partial(item, get, step.key)
            self.follow(f"{what}[{step.key!r}]", inner, (*key, "item", step.key), steps[1:])
            return
        self._relies(what, Contents(what, get), *key, "contents")
        for member in members(value):
            self.reach(what, member)

    def in_class(self, what: str, cls: type, name: str, steps: Steps = ()) -> None:
        """`cls.name` is read, and used by these steps."""
        owner, raw = in_class(cls, name)
        if owner is None or author_of(owner) == "vitrify":
            return
        if hasattr(type(raw), "__get__"):
            self._code(what, Attribute("code", raw, owner), name)
        else:
            self.follow(what, AttributeOf(cls, name), (id(cls), name), steps)

    def _of_python_module(self, what: str, module: types.ModuleType, name: str, steps: Steps) -> None:
        if module is os and name in ("environ", "getenv"):
            self._settled("os.environ", os.environ._data)  # type: ignore[attr-defined]
        elif author_of(module) == "user":
            self.follow(what, ItemOf(vars(module), name), (id(module), name), steps)

    # -- what can be reached ---------------------------------------------------------------------------------

    def reach(self, what: str, value: Any) -> None:
        """Code may do anything with this object, which calls find again."""
        if is_plain(value) or value is ABSENT or id(value) in self._reached:
            return
        self._reached[id(value)] = value, what
        before = self._incidentally
        self._waiting.append((what, value, before))
        if len(self._waiting) > 1:
            return  # one by one: a chain of functions may be longer than Python's stack
        try:
            for name, one, incidentally in self._waiting:
                self._incidentally = incidentally
                self._look_into(name, one)
        finally:
            self._waiting.clear()
            self._incidentally = before

    def _look_into(self, what: str, value: Any) -> None:
        if isinstance(value, types.FunctionType):
            self._function(value)
        elif isinstance(value, types.MethodType | types.BuiltinMethodType):
            self.reach(what, getattr(value, "__func__", None))
            self._settled(f"{what}.__self__" if what else "self", value.__self__)
        elif isinstance(value, functools.partial):
            for part in (value.func, *value.args, *value.keywords.values()):
                self._settled(what, part)
        elif isinstance(value, Tensor):
            if own_attributes(value):
                self._named.add(what, value)
            if author_of(type(value)) == "user":
                self._class(type(value))
                self._named.add(type(value).__name__, type(value))
        elif isinstance(value, type):
            self._class(value, makes=True)
            self._named.add(what, value)
        elif isinstance(value, types.ModuleType):
            self._named.add(what, value)
        elif isinstance(value, weakref.ref):
            self.follow(f"{what}()", value, (id(value),))
        elif isinstance(value, contextvars.ContextVar):
            self.follow(f"{what}.get()", functools.partial(value.get, ABSENT), (id(value),))
        elif isinstance(value, np.ndarray):
            if value.nbytes <= ARRAY:
                self._relies(what, value.tobytes, id(value))
        elif plain_function(value) is not None:
            self._function(plain_function(value))
        elif not self._random.add(what, value):
            self._object(what, value)

    def _function(self, fn: types.FunctionType | None) -> None:
        """It may run: what the user's code reads is not incidental, whoever calls it."""
        if fn is not None:
            before = self._incidentally
            self._incidentally = before and author(fn.__code__.co_filename) != "user"
            self._functions.add(fn)
            self._incidentally = before

    def _object(self, what: str, value: Any) -> None:
        cls = type(value)
        own = own_attributes(value) or {}
        watched = self._watch(value)
        if watched:
            self._class(cls)
        else:  # a compiled function, a module's forward, `functools.lru_cache`
            self._note(what, value)
            self.reach(what, own.get("module", own.get("__wrapped__")))
            self._named.add(what, value)
        if not watched and hasattr(cls, "__next__") and not isinstance(value, io.IOBase):
            self._guard(object, f"the position of {what}", ("position", id(value)))
        if isinstance(value, Module):
            self._parts(what, value)
        elif is_users_optimizer(value):
            for number, (where, get) in enumerate(numbers_of(what, value)):
                self._relies(where, get, id(value), number)

    def _watch(self, value: Any) -> bool:
        """Whether reads of the object's attributes are told."""
        cls = type(value)
        if isinstance(value, Module):
            self._watched.add(Module, writes=False)
        elif issubclass(cls, Tensor | types.ModuleType) or (
            author_of(cls) == "vitrify" and not _has_state(value)
        ):
            return False
        return self._watched.add(cls, writes=not issubclass(cls, _COUNTED))

    def _parts(self, what: str, root: Module) -> None:
        """Any part of the module may run, and its hooks."""
        for path, part in root.named_modules():
            where = ".".join(filter(None, (what, path))) or type(part).__name__
            self._reached.setdefault(id(part), (part, where))
            self._watch(part)
            self._class(type(part))
            self._modules_before.setdefault(id(part), (where, part, tables_of(part)))
            for table, hooks in vars(part).items():
                if table.endswith("_hooks") and isinstance(hooks, dict):
                    for hook in hooks.values():
                        self.reach(f"{where}.{table}", hook)

    def _class(self, cls: type, makes: bool = False) -> None:
        """Objects of the class may be used, and made: what its special methods read, which no attribute tells."""
        if (cls, f"made: {makes}") in self._known:
            return
        self._known.add((cls, f"made: {makes}"))
        metaclass: type = type(cls)
        users = [base for base in (*cls.__mro__, *metaclass.__mro__) if author_of(base) == "user"]
        if users and not issubclass(cls, Tensor):
            self._watched.add(cls, writes=not issubclass(cls, _COUNTED))
        for base in users:
            for name, raw in list(vars(base).items()):  # watching a class writes to it
                special = name.startswith("__") and name not in _UNHEARD and (makes or name not in _MAKING)
                if special or (issubclass(cls, Function) and name in _OF_FUNCTIONS):
                    self._function(plain_function(raw))
        if self._asked:
            self._named.add(cls.__name__, cls)

    def _asked_for_types(self) -> None:
        """Code asks objects for their types: it may read any attribute of those by name."""
        if not self._asked:
            self._asked = True
            for value, _ in list(self._reached.values()):
                cls = value if isinstance(value, type) else type(value)
                self._named.add(cls.__name__, cls)


def _identity(get: Get) -> int:
    return id(get())


def _has_state(value: Any) -> bool:
    """Whether attributes of an object of vitrify's are the user's to set: of a distribution, not of a dtype."""
    frozen = getattr(getattr(type(value), "__dataclass_params__", None), "frozen", False)
    return (
        not frozen and own_attributes(value) is not None and not type(value).__module__.startswith(_COMPILER)
    )
