"""What code does with a value it has just read, as far as its bytecode shows: `.scale`, `["decay"]`, `.inner["a"].b`.

Bytecode is read, since functions need not have source. A chain begins where code reads a global or a variable of an
enclosing function, or at any attribute it reads (`steps_at`), and goes on by attributes and constant keys. A local
variable that is assigned in one place stands for what was assigned. A chain ends where the value goes anywhere else: as
an argument into a call, into a loop, a tuple, another variable.
"""

from __future__ import annotations

import dis
import types
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

Root = Literal["global", "free", "import"]


@dataclass(frozen=True)
class Step:
    """`.key` of an attribute, `[key]` of an item, or `.get(key)`, which is an item of a dictionary."""

    kind: Literal["attribute", "item", "get"]
    key: Any

    def __str__(self) -> str:
        return {"attribute": f".{self.key}", "item": f"[{self.key!r}]", "get": f".get({self.key!r})"}[
            self.kind
        ]


Steps = tuple[Step, ...]


@dataclass(frozen=True)
class Chain:
    """`root`: "global", "free" for variables of enclosing functions, "import" for a module imported in the code."""

    root: Root
    name: str
    steps: Steps = ()


@dataclass(frozen=True)
class CodeReads:
    """What the code, and the functions, lambdas and comprehensions inside it, read from outside. `names`: what may be
    names of attributes in it, strings included (`getattr(x, "scale")`)."""

    chains: tuple[Chain, ...]
    names: frozenset[str]


_ATTRIBUTES = ("LOAD_ATTR", "LOAD_METHOD", "STORE_ATTR", "DELETE_ATTR")
_SUBSCRIPTS = ("BINARY_SUBSCR", "STORE_SUBSCR", "DELETE_SUBSCR")
_ROOTS: dict[str, Root] = {
    **dict.fromkeys(("LOAD_GLOBAL", "LOAD_NAME", "STORE_GLOBAL", "DELETE_GLOBAL"), "global"),
    **dict.fromkeys(("LOAD_DEREF", "LOAD_CLASSDEREF", "LOAD_FROM_DICT_OR_DEREF", "STORE_DEREF"), "free"),
    "IMPORT_NAME": "import",
}  # fmt: skip
_SKIPPED = ("EXTENDED_ARG", "NOP", "CACHE", "RESUME", "PRECALL", "NOT_TAKEN")
UNKNOWN: tuple[Steps, ...] = ((),)
# What a value goes through is followed no further than this.
_LONGEST, _MOST = 8, 32


@lru_cache(maxsize=4096)
def code_reads(code: types.CodeType) -> CodeReads:
    """What the code reads from outside."""
    found = dict.fromkeys(_flow(code).chains())
    names = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            inner = code_reads(constant)
            names |= inner.names
            own = (c for c in inner.chains if c.root != "free" or c.name in code.co_freevars)
            found.update(dict.fromkeys(own))
        else:
            names.update(s for s in (constant if type(constant) is tuple else (constant,)) if type(s) is str)
    return CodeReads(tuple(found), frozenset(names))


def steps_at(code: types.CodeType, offset: int, name: str) -> tuple[Steps, ...]:
    """What the code goes on to do with the attribute `name` that its instruction at `offset` reads: each way it is
    used, () where that is unknown; nothing where something else reads it (`getattr`, C code)."""
    flow = _flow(code)
    index = flow.at_offset.get(offset)
    if index is None or flow.code[index].opname not in _ATTRIBUTES or flow.code[index].argval != name:
        return ()
    return flow.after(index)


@lru_cache(maxsize=4096)
def _flow(code: types.CodeType) -> _Flow:
    return _Flow(code)


class _Flow:
    """Where the values go that the code's instructions push."""

    def __init__(self, code: types.CodeType):
        self.code = [at for at in dis.get_instructions(code) if at.opname not in _SKIPPED]
        self.at_offset = {at.offset: index for index, at in enumerate(self.code)}
        # Parameters have a definition already.
        arguments = code.co_argcount + code.co_kwonlyargcount + sum(bool(code.co_flags & f) for f in (4, 8))
        self._stores = dict.fromkeys(code.co_varnames[:arguments], 1)
        self._loads: dict[str, list[tuple[int, bool]]] = {}
        for index, at in enumerate(self.code):
            if "_FAST" in at.opname and at.opname.startswith(("STORE", "LOAD", "DELETE")):
                names = at.argval if isinstance(at.argval, tuple) else (at.argval,)
                for position, name in enumerate(names):
                    if at.opname.startswith("LOAD"):
                        last = position == len(names) - 1 and "STORE" not in at.opname
                        self._loads.setdefault(name, []).append((index, last))
                    else:
                        self._stores[name] = self._stores.get(name, 0) + 1

    def chains(self) -> Iterator[Chain]:
        """The chains that begin at globals, variables of enclosing functions and imports."""
        for index, at in enumerate(self.code):
            root = _ROOTS.get(at.opname)
            if root is not None:
                loads = not at.opname.startswith(("STORE", "DELETE"))
                for steps in self.after(index) if loads else UNKNOWN:
                    yield Chain(root, at.argval, steps)

    def after(self, index: int, depth: int = 0) -> tuple[Steps, ...]:
        """The ways in which the value on top of the stack after this instruction is used."""
        if depth > _LONGEST:
            return UNKNOWN
        at, following = self._next(index)
        if at is None:
            return UNKNOWN
        if at.opname in _ATTRIBUTES:
            key = self._next(following)[0]
            if at.argval == "get" and at.opname != "STORE_ATTR" and key is not None and _is_key(key):
                return ((Step("get", key.argval),),)
            step = Step("attribute", at.argval)
            return self._going_on(step, following, depth, at.opname.startswith("LOAD"))
        if _is_key(at):
            subscript, then = self._next(following)
            if subscript is not None and _is_subscript(subscript):
                reads = not subscript.opname.startswith(("STORE", "DELETE"))
                return self._going_on(Step("item", at.argval), then, depth, reads)
        elif at.opname == "STORE_FAST" and self._stores[at.argval] == 1:
            found: dict[Steps, None] = {}
            for load, last in self._loads.get(at.argval, ()):
                found.update(dict.fromkeys(self.after(load, depth + 1) if last else UNKNOWN))
            return tuple(found) if 0 < len(found) <= _MOST else UNKNOWN
        return UNKNOWN

    def _going_on(self, step: Step, index: int, depth: int, reads: bool) -> tuple[Steps, ...]:
        return tuple((step, *more) for more in (self.after(index, depth + 1) if reads else UNKNOWN))

    def _next(self, index: int) -> tuple[dis.Instruction | None, int]:
        """The instruction that follows, but for copies that stand between an object and what is read of it before it is
        written (`self.n += 1`)."""
        index += 1
        copied = False
        while index < len(self.code) and self.code[index].opname == "COPY":
            index, copied = index + 1, True
        if index >= len(self.code) or (copied and "STORE" in self.code[index].opname):
            return None, index  # `(v := x)` is both stored and used
        return self.code[index], index


def _is_key(at: dis.Instruction) -> bool:
    return at.opname.startswith(("LOAD_CONST", "LOAD_SMALL_INT")) and isinstance(
        at.argval, str | int | float | bytes | None
    )


def _is_subscript(at: dis.Instruction) -> bool:
    return at.opname in _SUBSCRIPTS or at.argrepr == "[]"
