"""Nested arguments and results, flattened to leaves and rebuilt.

Tuples, lists, dicts, named tuples, dataclasses that hold tensors and classes that a program registered
(`torch.utils._pytree`) are structure, and so is the class of a tensor that has a `__torch_function__`, with the tensor's
attributes; everything else is a leaf. Compiled functions take further objects apart
(`Mutables`), and keep track of which list, dict or object is which.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

from ..ir.dtypes import DType
from ..nn.parameter import Buffer, Parameter
from ..size import Size
from ..sparse_tensor import SparseTensor, of_parts, parts_of
from ..state import local
from ..tensor import Tensor
from ..torch_function import begun, overrides
from .contents import Content, content_of, empty, fill

# What gives an object's children and a context, and what makes the object of these.
Flatten = Callable[[Any], tuple[Iterable[Any], Any]]
Unflatten = Callable[[Iterable[Any], Any], Any]
REGISTERED: dict[type, tuple[Flatten, Unflatten]] = {SparseTensor: (parts_of, of_parts)}


@dataclass(frozen=True)
class Structure:
    """The shape of a nested value: `kind` is the container's type, None for a leaf; `keys` are a dict's keys, or the
    context of a registered class. `attributes`: the names of those of an object, whose children follow its items."""

    kind: type | None
    keys: tuple[Any, ...] = ()
    children: tuple[Structure, ...] = ()
    attributes: tuple[str, ...] | None = None

    @property
    def leaves(self) -> int:
        return 1 if self.kind is None else sum(child.leaves for child in self.children)


LEAF = Structure(None)
# The classes of tensors that are leaves, but for rarer ones.
LEAVES = frozenset({Tensor, Parameter, Buffer})


@dataclass(frozen=True)
class _Itself:
    """The key of a tensor among its attributes, and whether its class is asked."""

    asked: bool


class Again:
    """The kind of a list, dict or object that has been met before: `keys` is its number."""


class Mutables:
    """The lists, dicts and objects that are met, in order, `known` ones first. Objects of the classes are structure."""

    def __init__(self, classes: Collection[type] = (), known: Sequence[Any] = ()):
        self.classes = classes
        self.found = list(known)
        self.numbers = {id(one): number for number, one in enumerate(known)}

    def again(self, one: Any) -> Structure | None:
        """What stands for it where it was met before."""
        number = self.numbers.setdefault(id(one), len(self.found))
        if number < len(self.found):
            return Structure(Again, (number,))
        self.found.append(one)
        return None

    def takes_apart(self, one: Any) -> bool:
        """Whether the object is structure."""
        return type(one) in self.classes or id(one) in self.numbers


def _is_registered(kind: type | None) -> bool:
    """Whether the way that was registered for the class is taken: a dataclass has its own."""
    return kind in REGISTERED and not is_dataclass(kind)


def are_leaves(values: Iterable[Any]) -> bool:
    """Whether tensors among these are leaves."""
    return not begun[0] or not any(type(v) not in LEAVES and overrides(type(v)) for v in values)


def flatten(tree: Any, mutables: Mutables | None = None) -> tuple[list[Any], Structure]:
    """The leaves in order, and the structure around them."""
    leaves: list[Any] = []
    return leaves, _flatten(tree, leaves, mutables)


def _flatten(tree: Any, leaves: list[Any], mutables: Mutables | None) -> Structure:
    kind = type(tree)
    if kind is tuple:
        return Structure(kind, (), tuple([_flatten(item, leaves, mutables) for item in tree]))
    if kind is list or kind is dict or kind is OrderedDict:
        if mutables is not None and (again := mutables.again(tree)) is not None:
            return again
        keys, items = ((), tree) if kind is list else (tuple(tree), tree.values())
        return Structure(kind, keys, tuple([_flatten(item, leaves, mutables) for item in items]))
    if kind is Tensor:
        leaves.append(tree)
        return LEAF
    if mutables is not None and isinstance(tree, Tensor) and overrides(kind):
        leaves.append(tree)
        children = (LEAF, *[_flatten(value, leaves, mutables) for value in vars(tree).values()])
        key = _Itself(local.asks_classes or local.asks_outside)
        return Structure(kind, (key, *vars(tree)), children)
    if mutables is not None and mutables.takes_apart(tree):
        return mutables.again(tree) or _object(tree, content_of(tree), leaves, mutables)
    if isinstance(tree, tuple | list) and kind is not Size:
        return Structure(kind, (), tuple([_flatten(item, leaves, mutables) for item in tree]))
    if (
        is_dataclass(tree)
        and not isinstance(tree, DType)  # of which some do not tell their fields
        and not callable(tree)
        and all(f.init for f in fields(tree))
    ):
        names, inner = tuple(f.name for f in fields(tree)), list[Any]()
        children = tuple(_flatten(getattr(tree, name), inner, None) for name in names)
        if any(isinstance(leaf, Tensor) for leaf in inner):
            if mutables is not None:
                inner = []
                children = tuple([_flatten(getattr(tree, name), inner, mutables) for name in names])
            leaves += inner
            return Structure(kind, names, children)
    if _is_registered(kind):
        items, context = REGISTERED[kind][0](tree)
        return Structure(kind, (context,), tuple([_flatten(item, leaves, mutables) for item in items]))
    leaves.append(tree)
    return LEAF


def _object(tree: Any, content: Content, leaves: list[Any], mutables: Mutables) -> Structure:
    items, attributes = content
    keys = tuple(items) if isinstance(items, dict) else ()
    inside = items.values() if isinstance(items, dict) else items
    children = [_flatten(item, leaves, mutables) for part in (inside, attributes.values()) for item in part]
    return Structure(type(tree), keys, tuple(children), tuple(attributes))


def unflatten(
    structure: Structure,
    leaves: Sequence[Any],
    known: Iterable[Any] = (),
    into: Sequence[Any] | None = None,
    copies: list[Any] | None = None,
) -> Any:
    """The nested value again. `known`: the lists, dicts and objects that the structure's numbers begin with; `into`:
    those that are filled, rather than made anew; `copies`: receives what else was made that a program might change."""
    return _unflatten(structure, iter(leaves), list(known), into, copies)


def _unflatten(structure: Structure, leaves: Iterator[Any], known: list[Any], into: Any, copies: Any) -> Any:
    kind = structure.kind
    if kind is None:
        return next(leaves)
    if kind is Again:
        return known[structure.keys[0]]
    is_object = structure.attributes is not None
    if is_object or kind is list or kind is dict or kind is OrderedDict:
        made: Any = empty(kind) if into is None else into[len(known)]
        known.append(made)
        items = [_unflatten(child, leaves, known, into, copies) for child in structure.children]
        if not is_object and into is None:
            made.extend(items) if kind is list else made.update(zip(structure.keys, items))
            return made
        names = structure.attributes or ()
        own = items[: len(items) - len(names)]
        is_dict = issubclass(kind, dict)
        attributes = dict(zip(names, items[len(own) :]))
        fill(made, Content(dict(zip(structure.keys, own)) if is_dict else own, attributes))
        return made
    items = [_unflatten(child, leaves, known, into, copies) for child in structure.children]
    if structure.keys and isinstance(structure.keys[0], _Itself):
        made = items[0]
        if type(made) is not kind:
            made.__class__ = kind
            made.__dict__.update(zip(structure.keys[1:], items[1:]))
        return made
    if hasattr(kind, "_fields"):
        return kind(*items)
    if _is_registered(kind):
        made = REGISTERED[kind][1](items, structure.keys[0])
    elif is_dataclass(kind):
        made = kind(**dict(zip(structure.keys, items)))
    else:
        return kind(items)
    if copies is not None:
        copies.append(made)
    return made


def children(tree: Any) -> list[Any]:
    """What a registered object or a dataclass has in it."""
    if _is_registered(type(tree)):
        return list(REGISTERED[type(tree)][0](tree)[0])
    return [getattr(tree, f.name) for f in fields(tree)]


def classes(structure: Structure) -> set[type]:
    """Those whose objects were taken apart."""
    found = set[type]().union(*map(classes, structure.children))
    return found | {structure.kind} if structure.attributes is not None and structure.kind else found


def numbers(structure: Structure) -> set[int]:
    """Those of lists, dicts and objects that are met again."""
    found = set[int]().union(*map(numbers, structure.children))
    return found | {structure.keys[0]} if structure.kind is Again else found


def paths(structure: Structure, root: str) -> list[str]:
    """A readable name for each leaf: `x`, `x[0]`, `batch.image`."""
    found: list[str] = []

    def walk(node: Structure, path: str, visit: Callable[[str], None]) -> None:
        if node.kind is None:
            visit(path)
        steps: list[Any] = list(range(len(node.children)))
        if node.attributes is not None:
            steps = [*(node.keys or range(len(steps) - len(node.attributes))), *node.attributes]
        elif node.keys and not _is_registered(node.kind):
            steps = list(node.keys)
        for step, child in zip(steps, node.children):
            walk(child, path if isinstance(step, _Itself) else f"{path}.{step}", visit)

    walk(structure, root, found.append)
    return found
