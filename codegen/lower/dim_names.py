"""Dims named like loop variables.

A kernel's indices are polynomials over its loop variables and the program's dims, which are told apart by name. A user
may call a dim `w` or `i`, as lowerings call their loops. Such a graph is lowered with names for its dims that no loop
has, and the program then gets the dims' own names back, its loops of the same name others.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any

from ...ir import dims
from ...ir.dims import Expr, Symbol
from ...ir.graph import Graph, Value
from ...ir.op import Op
from ...ir.types import TensorType
from ..loops.nodes import For, LaneReduce, Let, Program, Repeat, Var

# Loops are called by a letter or two, by a word of these, or by another name and what is counted: `x_b`, `m_t`.
_LOOP = re.compile(r"([a-z]{1,2}|acc|at|part|row|settled|task|tile|total)\d*(_\w*)?")
# Sorts before all that may stand in a name, so that the dims keep their order.
_MARK = "'"


def hidden(graph: Graph) -> tuple[Graph, dict[str, str]]:
    """The graph with names for its dims that loops do not have, and the dims' own names by these; the graph itself and
    nothing, where no dim is called like a loop."""
    names = [s.name for s in graph.symbols]
    if not any(_LOOP.fullmatch(name) for name in names):
        return graph, {}
    renamed: Graph = _Renamer({name: name + _MARK for name in names}, {})(graph)
    return renamed, {name + _MARK: name for name in names}


def shown(program: Program, names: Mapping[str, str]) -> Program:
    """The program with its dims' own names."""
    if not names:
        return program
    renamed: Program = _Renamer(names, {name: f"loop_{name}" for name in names.values()})(program)
    return renamed


class _Renamer:
    """Renames dims, and the variables of loops and lets, in all that programs and graphs are made of. What two things
    share, theirs share too."""

    def __init__(self, names: Mapping[str, str], variables: Mapping[str, str]):
        self.names = {**names, **variables}
        self.variables = variables
        self.done: dict[int, Any] = {}
        self.kept: list[Any] = []  # so that no other object gets the id of one that was renamed

    def __call__(self, thing: Any) -> Any:
        if isinstance(thing, Expr):
            found = {s.name: self._symbol(s) for s in dims.symbols(thing)}
            return dims.substitute(thing, found)
        if isinstance(thing, Symbol):
            return self._plain(thing)
        if isinstance(thing, TensorType):
            return thing.with_shape(self(thing.shape))
        if isinstance(thing, tuple):
            parts = tuple(map(self, thing))
            return thing if all(a is b for a, b in zip(parts, thing)) else parts
        if isinstance(thing, Mapping):
            return {self(key): self(value) for key, value in thing.items()}
        if isinstance(thing, Value) or (is_dataclass(thing) and not isinstance(thing, type | Op)):
            if id(thing) not in self.done:
                self.kept.append(thing)
                self.done[id(thing)] = self._object(thing)
            return self.done[id(thing)]
        return thing

    def _object(self, thing: Any) -> Any:
        if isinstance(thing, Value):
            return Value(thing.name, self(thing.type))
        values = {f.name: getattr(thing, f.name) for f in fields(thing) if f.init}
        changed = {name: new for name, old in values.items() if (new := self(old)) is not old}
        if isinstance(thing, For | LaneReduce | Repeat) and thing.var in self.variables:
            changed["var"] = self.variables[thing.var]
        if isinstance(thing, Let | Var) and thing.name in self.variables:
            changed["name"] = self.variables[thing.name]
        return replace(thing, **changed) if changed else thing

    def _plain(self, symbol: Symbol) -> Symbol:
        return Symbol(self.names.get(symbol.name, symbol.name), symbol.low, symbol.high)

    def _symbol(self, symbol: Symbol) -> Expr:
        return dims.symbol(self.names.get(symbol.name, symbol.name), symbol.low, symbol.high)
