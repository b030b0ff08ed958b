"""Which chains of names a function's code reads: `scale`, `self.opts["decay"]`, `config.Train.rate`.

Bytecode is read, since functions need not have source. A chain begins at a global, a variable of an enclosing function
or a parameter that the code does not assign, and goes on by attributes and constant keys.
"""

from __future__ import annotations

import dis
import inspect
import types
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

Root = Literal["global", "local"]


@dataclass(frozen=True)
class Step:
    """`.key` of an attribute, or `[key]` of an item."""

    kind: Literal["attribute", "item"]
    key: Any

    def __str__(self) -> str:
        return f".{self.key}" if self.kind == "attribute" else f"[{self.key!r}]"


@dataclass(frozen=True)
class Chain:
    """`root`: "global", or "local" for parameters and variables of enclosing functions."""

    root: Root
    name: str
    steps: tuple[Step, ...] = ()


# What stands between the parts of one chain: `self.n += 1` copies `self` before it reads `n`.
_BETWEEN = {"COPY", "DUP_TOP", "EXTENDED_ARG", "NOP", "CACHE"}


@lru_cache(maxsize=4096)
def chains(code: types.CodeType) -> tuple[Chain, ...]:
    """The chains of the code and of the functions, lambdas and comprehensions inside it, each once, in order."""
    return tuple(dict.fromkeys(_chains(code)))


def _chains(code: types.CodeType) -> Iterator[Chain]:
    instructions = list(dis.get_instructions(code))
    assigned = {
        name for at in instructions if at.opname.startswith("STORE_FAST") for name in _names(at.argval)
    }
    chain: Chain | None = None
    key: Any = None
    waiting = False  # for the subscript that a constant may be the key of
    for at in instructions:
        if at.opname in _BETWEEN:
            continue
        step = _step(at, key, waiting)
        if chain is not None and step is not None:
            chain = Chain(chain.root, chain.name, (*chain.steps, step))
            waiting = False
            continue
        if at.opname.startswith(("LOAD_CONST", "LOAD_SMALL_INT")):
            waiting, key = True, at.argval
            continue
        if chain is not None:
            yield chain
        waiting, chain = False, None
        for found in _begun(at, assigned):
            if chain is not None:
                yield chain
            chain = found
    if chain is not None:
        yield chain
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            own = set(inspect.getargs(constant).args) | set(constant.co_varnames)
            yield from (c for c in _chains(constant) if c.root == "global" or c.name not in own)


def _step(at: dis.Instruction, key: Any, waiting: bool) -> Step | None:
    if at.opname in ("LOAD_ATTR", "LOAD_METHOD", "STORE_ATTR"):
        return None if waiting else Step("attribute", at.argval)
    if waiting and (at.opname in ("BINARY_SUBSCR", "STORE_SUBSCR") or at.argrepr == "[]"):
        return Step("item", key)
    return None


def _begun(at: dis.Instruction, assigned: set[str]) -> Iterator[Chain]:
    if at.opname in ("LOAD_GLOBAL", "LOAD_NAME", "STORE_GLOBAL"):
        yield Chain("global", at.argval)
    elif at.opname in ("LOAD_DEREF", "LOAD_CLASSDEREF", "STORE_DEREF"):
        yield Chain("local", at.argval)
    elif at.opname.startswith("LOAD_FAST"):
        yield from (Chain("local", name) for name in _names(at.argval) if name not in assigned)


def _names(value: Any) -> tuple[str, ...]:
    """Of an instruction that may load or store two variables at once (Python 3.13)."""
    return value if isinstance(value, tuple) else (value,)
