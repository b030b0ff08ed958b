"""`torch.utils._pytree`: nested tuples, lists and dicts flattened to their leaves and rebuilt.

Libraries import it in spite of its name. Classes that are registered here are structure to `torch.compile` too.
"""

from __future__ import annotations

from collections import OrderedDict, namedtuple
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from ..compile.pytree import REGISTERED, Flatten, Unflatten


@dataclass(frozen=True)
class TreeSpec:
    """The structure around leaves: of a leaf `type` is None."""

    type: type | None
    context: Any = None
    children_specs: tuple[TreeSpec, ...] = ()

    def is_leaf(self) -> bool:
        return self.type is None

    @property
    def num_leaves(self) -> int:
        return 1 if self.type is None else sum(child.num_leaves for child in self.children_specs)

    def unflatten(self, leaves: Iterable[Any]) -> Any:
        """`tree_unflatten` of this structure."""
        return tree_unflatten(leaves, self)


def register_pytree_node(
    cls: type,
    flatten_fn: Flatten,
    unflatten_fn: Unflatten,
    *,
    serialized_type_name: str | None = None,
    to_dumpable_context: Any = None,
    from_dumpable_context: Any = None,
    flatten_with_keys_fn: Any = None,
) -> None:
    """Have objects of the class be structure: `flatten_fn(object)` gives its children and a context, from which
    `unflatten_fn(children, context)` makes it again."""
    if cls in REGISTERED or cls in _BUILT_IN:
        raise ValueError(f"{cls} is already registered as pytree node.")
    REGISTERED[cls] = flatten_fn, unflatten_fn


def _dict_flatten(d: Any) -> tuple[list[Any], list[Any]]:
    return list(d.values()), list(d)


def _dict_flatten_with_keys(d: Any) -> tuple[list[Any], list[Any]]:
    return [(MappingKey(key), value) for key, value in d.items()], list(d)


@dataclass(frozen=True)
class MappingKey:
    """The place of a dict's value."""

    key: Any


_BUILT_IN: dict[type, tuple[Flatten, Unflatten]] = {
    tuple: (lambda t: (list(t), None), lambda children, _: tuple(children)),
    list: (lambda t: (list(t), None), lambda children, _: list(children)),
    dict: (_dict_flatten, lambda children, keys: dict(zip(keys, children, strict=True))),
    OrderedDict: (_dict_flatten, lambda children, keys: OrderedDict(zip(keys, children, strict=True))),
}


def _ways(tree: Any) -> tuple[type, Flatten] | None:
    cls = type(tree)
    found = REGISTERED.get(cls) or _BUILT_IN.get(cls)
    if found is None and isinstance(tree, tuple) and hasattr(cls, "_fields"):
        return cls, lambda t: (list(t), cls)
    return None if found is None else (cls, found[0])


PyTree = Any


def LeafSpec() -> TreeSpec:
    """The structure of a leaf."""
    return TreeSpec(None)


class NodeDef(NamedTuple):
    """How objects of a class are taken apart and made again."""

    type: type
    flatten_fn: Flatten
    unflatten_fn: Unflatten


class _SupportedNodes(Mapping[type, NodeDef]):
    """The classes that are structure, by class; `namedtuple` stands for all of its kind."""

    def __getitem__(self, cls: type) -> NodeDef:
        if cls is namedtuple:
            return NodeDef(cls, lambda t: (list(t), type(t)), lambda children, kind: kind(*children))
        return NodeDef(cls, *(REGISTERED.get(cls) or _BUILT_IN[cls]))

    def __iter__(self) -> Iterator[Any]:
        return iter([*_BUILT_IN, *REGISTERED, namedtuple])

    def __len__(self) -> int:
        return len(list(iter(self)))


SUPPORTED_NODES = _SupportedNodes()


def _get_node_type(tree: Any) -> Any:
    ways = _ways(tree)
    return type(tree) if ways is None or ways[0] in (*_BUILT_IN, *REGISTERED) else namedtuple


def tree_flatten(tree: Any, is_leaf: Callable[[Any], bool] | None = None) -> tuple[list[Any], TreeSpec]:
    """The leaves in order, and the structure around them."""
    leaves: list[Any] = []

    def walk(node: Any) -> TreeSpec:
        ways = None if is_leaf is not None and is_leaf(node) else _ways(node)
        if ways is None:
            leaves.append(node)
            return TreeSpec(None)
        children, context = ways[1](node)
        return TreeSpec(ways[0], context, tuple(walk(child) for child in children))

    spec = walk(tree)
    return leaves, spec


def tree_unflatten(leaves: Iterable[Any], treespec: TreeSpec) -> Any:
    """The nested value again; ValueError where the number of leaves is another."""
    given = list(leaves)
    if len(given) != treespec.num_leaves:
        raise ValueError(
            f"tree_unflatten(leaves, treespec): `leaves` has length {len(given)} but the spec refers to a pytree that "
            f"holds {treespec.num_leaves} items ({treespec})."
        )
    rest = iter(given)

    def build(spec: TreeSpec) -> Any:
        if spec.type is None:
            return next(rest)
        children = [build(child) for child in spec.children_specs]
        found = REGISTERED.get(spec.type) or _BUILT_IN.get(spec.type)
        if found is None:
            return (spec.context if spec.type is namedtuple else spec.type)(*children)
        return found[1](children, spec.context)

    return build(treespec)


def tree_leaves(tree: Any, is_leaf: Callable[[Any], bool] | None = None) -> list[Any]:
    """The leaves in order."""
    return tree_flatten(tree, is_leaf)[0]


def tree_structure(tree: Any, is_leaf: Callable[[Any], bool] | None = None) -> TreeSpec:
    """The structure around the leaves."""
    return tree_flatten(tree, is_leaf)[1]


def tree_map(
    func: Callable[..., Any], tree: Any, *rests: Any, is_leaf: Callable[[Any], bool] | None = None
) -> Any:
    """The function of every leaf, and of those in the same places of other trees of the same structure."""
    leaves, spec = tree_flatten(tree, is_leaf)
    others = [tree_flatten(rest, is_leaf) for rest in rests]
    for _, other in others:
        if other != spec:
            raise ValueError(f"tree_map: the trees are built differently: {spec} and {other}")
    return tree_unflatten(map(func, leaves, *(found for found, _ in others)), spec)


def tree_map_only(
    types: Any, func: Callable[[Any], Any], tree: Any, is_leaf: Callable[[Any], bool] | None = None
) -> Any:
    """The function of the leaves of a type, or of several types; the others as they are."""
    return tree_map(lambda leaf: func(leaf) if isinstance(leaf, types) else leaf, tree, is_leaf=is_leaf)


def tree_any(pred: Callable[[Any], bool], tree: Any) -> bool:
    """Whether it holds for a leaf."""
    return any(map(pred, tree_leaves(tree)))


def tree_all(pred: Callable[[Any], bool], tree: Any) -> bool:
    """Whether it holds for all leaves."""
    return all(map(pred, tree_leaves(tree)))


__all__ = [
    "SUPPORTED_NODES", "LeafSpec", "MappingKey", "NodeDef", "PyTree", "TreeSpec",
    "register_pytree_node", "tree_all", "tree_any", "tree_flatten", "tree_leaves", "tree_map",
    "tree_map_only", "tree_structure", "tree_unflatten",
]  # fmt: skip
