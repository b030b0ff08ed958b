"""What a compiled function reads of Python objects outside it: the values that guards compare.

A number that running code reads from a global, an attribute or a dictionary is baked into the graph, and nothing tells
when it is read. So the code is read instead: each chain of names (`read_chains.py`) is followed to the object it means
now, in the function itself and in the user's functions that chains lead to: helpers, methods, properties, the `forward`
of modules. Attributes are looked up without calling anything of the user's.

Guards are on numbers, strings and tuples of them by value; on tensors, modules and optimizers by identity; on lists and
dictionaries by their items. Attributes of modules stand behind the modules' own counter (`nn/modules/structure.py`),
state of vitrify's optimizers behind theirs; of other optimizers all hyper-parameters and all numbers in their state are
guarded.

Not seen: what code reaches through variables that it assigns itself or through parameters of helpers, and items of
containers with more than `ITEMS` of them, of which the number is compared.
"""

from __future__ import annotations

import functools
import inspect
import sysconfig
import types
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ..autograd.function import Function
from ..nn.modules.module import Module
from ..optim.optimizer import Optimizer
from ..tensor import Tensor
from .locations import is_own_file
from .read_chains import Step, chains
from .sources import is_plain

ITEMS = 64

Get = Callable[[], Any]
Read = tuple[str, Get]


class _Mark:
    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text


ABSENT, UNKNOWN, ITEM = _Mark("absent"), _Mark("unknown"), _Mark("item")
_CONTAINERS = (list, tuple, dict, OrderedDict, defaultdict)
_LIBRARY = tuple(
    path for name in ("stdlib", "platstdlib") if (path := sysconfig.get_paths().get(name)) is not None
)


def outside_reads(fn: Any, arguments: Mapping[str, Any]) -> list[Read]:
    """(what, getter) for each value outside that the function's code reads; `arguments`: those of the traced call, by
    name."""
    reader = _Reader()
    reader.called("", fn, {name: value for name, value in arguments.items() if not _is_compared(value)})
    return list(reader.found.values())


def _is_compared(argument: Any) -> bool:
    """Whether calls compare such an argument themselves, with all that is in it."""
    return is_plain(argument) or isinstance(argument, Tensor) or type(argument) in _CONTAINERS


def _is_users(path: str | None) -> bool:
    if path is None or (path.startswith(_LIBRARY) and "site-packages" not in path):
        return False
    return not is_own_file(path)


def is_users_optimizer(value: Any) -> bool:
    """Whether it is an optimizer whose `step` is the user's code."""
    return isinstance(value, Optimizer) and _is_users(inspect.unwrap(type(value).step).__code__.co_filename)


class _Reader:
    def __init__(self) -> None:
        self.found: dict[Any, Read] = {}
        self._visited: set[Any] = set()
        self._kept: list[Any] = []  # objects whose ids are in `_visited` must stay alive

    def called(self, what: str, fn: Any, bound: Mapping[str, Any]) -> None:
        """The function is called, with these objects as its parameters of these names."""
        if isinstance(fn, functools.partial):
            self.called(what, fn.func, bound)
        elif isinstance(fn, types.MethodType):
            self.called(what, fn.__func__, {**bound, _first_parameter(fn.__func__): fn.__self__})
        elif isinstance(fn, Module):
            self.module(fn)
        elif not isinstance(fn, types.FunctionType):
            inner = vars(fn).get("module", vars(fn).get("__wrapped__")) if hasattr(fn, "__dict__") else None
            if isinstance(inner, Module | types.FunctionType):
                self.called(what, inner, bound)
        elif self._first_visit(fn, *bound.values()):
            if hasattr(fn, "__wrapped__"):
                self.called(what, fn.__wrapped__, bound)
            if _is_users(fn.__code__.co_filename):
                self._read(fn, bound)

    def _first_visit(self, *objects: Any) -> bool:
        key = tuple(map(id, objects))
        first = key not in self._visited
        self._visited.add(key)
        self._kept.append(objects)
        return first

    def _read(self, fn: types.FunctionType, bound: Mapping[str, Any]) -> None:
        local: dict[str, Get] = {name: functools.partial(_itself, value) for name, value in bound.items()}
        local.update(
            (name, functools.partial(_cell_value, cell))
            for name, cell in zip(fn.__code__.co_freevars, fn.__closure__ or ())
        )
        space = fn.__globals__
        for chain in chains(fn.__code__):
            get = local.get(chain.name) if chain.root == "local" else None
            if chain.root == "global" and chain.name in space:
                get = functools.partial(space.get, chain.name, ABSENT)
            if get is not None:
                origin = id(space) if chain.root == "global" else id(get())
                self._follow(
                    chain.name, get, chain.steps, origin, chain.root == "local" and chain.name in bound
                )

    def _follow(self, what: str, get: Get, steps: tuple[Step, ...], origin: int, guarded: bool) -> None:
        """Guard what the chain means. `guarded`: what it begins with is compared anyway."""
        value, path = get(), what
        for step in steps:
            if step.kind == "item":
                if type(value) not in _CONTAINERS:
                    return
                get, guarded = functools.partial(_item, get, step.key), False
            else:
                if isinstance(value, Optimizer):
                    self.optimizer(what, value)
                found = _attribute(value, step.key)
                of_object = isinstance(found, _Code) and bool(found.bound)
                # Another object there is another meaning.
                if not guarded and (of_object or isinstance(value, Module | Optimizer | Tensor)):
                    self.found.setdefault((path, origin), (what, get))
                if isinstance(found, _Code):
                    self.called(f"{what}{step}", found.fn, found.bound)
                    return
                if found is UNKNOWN:
                    break
                if is_users_optimizer(value) and step.key in ("param_groups", "state"):
                    return  # `optimizer` has all of it
                guarded = isinstance(value, Module | Optimizer | Tensor)
                get = functools.partial(_item if found is ITEM else _attribute_of, get, step.key)
            what, path = f"{what}{step}", f"{path}{step}"
            if isinstance(value, Module):  # what it holds is the same until the modules' counter moves
                get, origin, path = functools.partial(_itself, found), id(found), ""
            value = get()
        self._value(what, get, value, (path, origin), guarded)

    def _value(self, what: str, get: Get, value: Any, key: Any, guarded: bool) -> None:
        if is_plain(value) or value is ABSENT or isinstance(value, Tensor | Module | Optimizer):
            if not guarded:
                self.found.setdefault(key, (what, get))
            if isinstance(value, Module):
                self.module(value)
            elif isinstance(value, Optimizer):
                self.optimizer(what, value)
        elif type(value) in _CONTAINERS:
            self.found.setdefault(key, (what, lambda: _contents(get())))
        elif isinstance(value, type) and issubclass(value, Function):
            for method in (value.forward, value.backward, value.setup_context):
                self.called(what, method, {})
        elif not isinstance(value, type | types.ModuleType):
            call = inspect.getattr_static(type(value), "__call__", None)
            self.called(what, value, {})
            if isinstance(call, types.FunctionType):
                self.called(what, call, {_first_parameter(call): value})

    def module(self, root: Module) -> None:
        """Any of the module's parts may run."""
        if self._first_visit(root):
            for part in root.modules():
                self.called(
                    type(part).__name__, type(part).forward, {_first_parameter(type(part).forward): part}
                )
                for hook in (*part._forward_pre_hooks.values(), *part._forward_hooks.values()):
                    self.called("hook", hook, {})

    def optimizer(self, what: str, optimizer: Optimizer) -> None:
        """One whose `step` is the user's may read any of its numbers."""
        if not is_users_optimizer(optimizer) or not self._first_visit(optimizer):
            return
        step = inspect.unwrap(type(optimizer).step)
        self.called(what, step, {_first_parameter(step): optimizer})
        changes = f"{what}: number of changes of its state"
        self.found.setdefault((changes, id(optimizer)), (changes, optimizer._read_version))
        tables = [(f"{what}.param_groups[{i}]", group) for i, group in enumerate(optimizer.param_groups)]
        tables += [(f"{what}.state[{i}]", entries) for i, entries in enumerate(optimizer.state.values())]
        for where, table in tables:
            for key in (k for k, entry in table.items() if is_plain(entry)):
                read = f"{where}[{key!r}]", functools.partial(table.get, key, ABSENT)
                self.found.setdefault((read[0], id(optimizer)), read)


@dataclass(frozen=True)
class _Code:
    """An attribute that is code: a method, or a property."""

    fn: Any
    bound: Mapping[str, Any]


def _attribute(value: Any, name: str) -> Any:
    """What the attribute is, found without running anything of the user's: a `_Code`; ITEM, if attributes are a
    dictionary's items; UNKNOWN, if code would have to run; else its value, or ABSENT."""
    if isinstance(value, Module):
        for table in (value.__dict__, value._parameters, value._buffers, value._modules):
            if name in table:
                return table[name]
    if isinstance(value, types.ModuleType):
        found = value.__dict__.get(name, ABSENT)
        if isinstance(found, types.FunctionType):
            return _Code(found, {})
        return found if _is_users(getattr(value, "__file__", None)) else UNKNOWN
    found = inspect.getattr_static(value, name, ABSENT)
    if isinstance(found, property):
        return _Code(found.fget, {_first_parameter(found.fget): value})
    if isinstance(found, staticmethod | classmethod):
        return _Code(found.__func__, {})
    if isinstance(found, types.FunctionType):
        own = isinstance(value, type) or name in getattr(value, "__dict__", {})
        return _Code(found, {} if own else {_first_parameter(found): value})
    if found is ABSENT and isinstance(value, dict) and name in value:
        return ITEM
    if found is ABSENT and (not hasattr(value, "__dict__") or hasattr(type(value), "__getattr__")):
        return UNKNOWN
    if hasattr(type(found), "__get__") and not isinstance(found, types.MemberDescriptorType):
        return UNKNOWN
    return found


def _first_parameter(fn: Any) -> str:
    code = getattr(inspect.unwrap(fn), "__code__", None)
    return code.co_varnames[0] if code is not None and code.co_argcount else ""


def _contents(value: Any, depth: int = 2) -> Any:
    """What a guard compares of a container: its items, or the identities of what is neither plain nor a container."""
    if type(value) not in _CONTAINERS or is_plain(value):
        return value if is_plain(value) else id(value)
    if len(value) > ITEMS or not depth:
        return len(value)
    if isinstance(value, dict):
        return tuple((_contents(k, 0), _contents(v, depth - 1)) for k, v in value.items())
    return tuple(_contents(item, depth - 1) for item in value)


def _itself(value: Any) -> Any:
    return value


def _cell_value(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:
        return ABSENT


def _attribute_of(get: Get, name: str) -> Any:
    return getattr(get(), name, ABSENT)


def _item(get: Get, key: Any) -> Any:
    try:
        return get()[key]
    except (LookupError, TypeError):
        return ABSENT
