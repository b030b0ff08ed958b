"""Nested arguments and results, flattened to leaves and rebuilt.

Tuples, lists, dicts, named tuples, dataclasses that hold tensors and classes that a program registered
(`torch.utils._pytree`) are structure; everything else is a leaf.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

from ..size import Size
from ..tensor import Tensor

# What gives an object's children and a context, and what makes the object of these.
Flatten = Callable[[Any], tuple[Iterable[Any], Any]]
Unflatten = Callable[[Iterable[Any], Any], Any]
REGISTERED: dict[type, tuple[Flatten, Unflatten]] = {}


@dataclass(frozen=True)
class Structure:
    """The shape of a nested value: `kind` is the container's type, None for a leaf; `keys` are a dict's keys, or the
    context of a registered class."""

    kind: type | None
    keys: tuple[Any, ...] = ()
    children: tuple[Structure, ...] = ()

    @property
    def leaves(self) -> int:
        return 1 if self.kind is None else sum(child.leaves for child in self.children)


LEAF = Structure(None)


def _is_registered(kind: type | None) -> bool:
    """Whether the way that was registered for the class is taken: a dataclass has its own."""
    return kind in REGISTERED and not is_dataclass(kind)


def flatten(tree: Any) -> tuple[list[Any], Structure]:
    """The leaves in order, and the structure around them."""
    leaves: list[Any] = []
    return leaves, _flatten(tree, leaves)


def _flatten(tree: Any, leaves: list[Any]) -> Structure:
    if isinstance(tree, tuple | list) and type(tree) is not Size:
        return Structure(type(tree), (), tuple(_flatten(item, leaves) for item in tree))
    if type(tree) is dict or type(tree) is OrderedDict:
        return Structure(type(tree), tuple(tree), tuple(_flatten(item, leaves) for item in tree.values()))
    if is_dataclass(tree) and not callable(tree) and all(f.init for f in fields(tree)):
        names, inner = tuple(f.name for f in fields(tree)), list[Any]()
        children = tuple(_flatten(getattr(tree, name), inner) for name in names)
        if any(isinstance(leaf, Tensor) for leaf in inner):
            leaves += inner
            return Structure(type(tree), names, children)
    if _is_registered(type(tree)):
        items, context = REGISTERED[type(tree)][0](tree)
        return Structure(type(tree), (context,), tuple(_flatten(item, leaves) for item in items))
    leaves.append(tree)
    return LEAF


def unflatten(structure: Structure, leaves: Sequence[Any]) -> Any:
    """The nested value again."""
    return _unflatten(structure, iter(leaves))


def _unflatten(structure: Structure, leaves: Any) -> Any:
    if structure.kind is None:
        return next(leaves)
    items = [_unflatten(child, leaves) for child in structure.children]
    if structure.kind is dict or structure.kind is OrderedDict:
        return structure.kind(zip(structure.keys, items))
    if hasattr(structure.kind, "_fields"):
        return structure.kind(*items)
    if _is_registered(structure.kind):
        return REGISTERED[structure.kind][1](items, structure.keys[0])
    if is_dataclass(structure.kind):
        return structure.kind(**dict(zip(structure.keys, items)))
    return structure.kind(items)


def paths(structure: Structure, root: str) -> list[str]:
    """A readable name for each leaf: `x`, `x[0]`, `batch.image`."""
    found: list[str] = []

    def walk(node: Structure, path: str, visit: Callable[[str], None]) -> None:
        if node.kind is None:
            visit(path)
        for position, child in enumerate(node.children):
            named = node.keys and not _is_registered(node.kind)
            step = f".{node.keys[position]}" if named else f".{position}"
            walk(child, path + step, visit)

    walk(structure, root, found.append)
    return found
