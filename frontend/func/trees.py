"""Nested arguments of the transforms: flattening, and trees of dims that are prefixes of trees of tensors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..compile.pytree import Structure, flatten, unflatten


def spread_prefix(prefix: Any, structure: Structure) -> list[Any] | None:
    """The leaf of `prefix` above each leaf of `structure`; None where it is no prefix of it."""
    leaves, shape = flatten(prefix)
    found: list[Any] = []
    remaining = iter(leaves)

    def walk(part: Structure, whole: Structure) -> bool:
        if part.kind is None:
            found.extend([next(remaining)] * whole.leaves)
            return True
        if (
            part.kind is not whole.kind
            or len(part.children) != len(whole.children)
            or part.keys != whole.keys
        ):
            return False
        return all(walk(p, w) for p, w in zip(part.children, whole.children))

    return found if walk(shape, structure) else None


def tree_map(function: Callable[[Any], Any], tree: Any) -> Any:
    """The tree with `function` applied to each leaf."""
    leaves, structure = flatten(tree)
    return unflatten(structure, [function(leaf) for leaf in leaves])


def show(structure: Structure) -> str:
    """The structure with `*` for leaves, as PyTorch's messages print it."""
    if structure.kind is None:
        return "*"
    parts = [show(child) for child in structure.children]
    if structure.keys:
        return "{" + ", ".join(f"{key!r}: {part}" for key, part in zip(structure.keys, parts)) + "}"
    if structure.kind is list:
        return "[" + ", ".join(parts) + "]"
    return "(" + ", ".join(parts) + ("," if len(parts) == 1 else "") + ")"


__all__ = ["Structure", "flatten", "show", "spread_prefix", "tree_map", "unflatten"]
