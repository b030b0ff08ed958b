"""Statements over other buffers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace
from typing import Any

from ...ir import dims
from ...ir.dims import DimLike
from .nodes import Buffer, Load, Stmt, Store

# The buffer and index that an element of a buffer has from now on.
Place = Callable[[Buffer, tuple[DimLike, ...]], tuple[Buffer, tuple[DimLike, ...]]]


def moved(body: tuple[Stmt, ...], place: Place) -> tuple[Stmt, ...]:
    """The statements with every element at its new place; shared expressions stay shared."""
    memo: dict[int, tuple[Any, Any]] = {}  # with the node, so that its id stays its own

    def of(node: Any) -> Any:
        if isinstance(node, tuple):
            return tuple(map(of, node))
        if not is_dataclass(node) or isinstance(node, Buffer | dims.Expr):
            return node
        key = id(node)
        if key not in memo:
            memo[key] = node, again(node)
        return memo[key][1]

    def again(node: Any) -> Any:
        if isinstance(node, Load):
            return Load(*place(node.buffer, node.index))
        if isinstance(node, Store):
            return Store(*place(node.buffer, node.index), of(node.value))
        values = {f.name: getattr(node, f.name) for f in fields(node)}
        new = {name: of(value) for name, value in values.items()}
        same = all(new[name] is value for name, value in values.items())
        return node if same else replace(node, **new)

    found: tuple[Stmt, ...] = of(body)
    return found


__all__ = ["Place", "moved"]
