"""`torch.func.rearrange`: dims split, joined and permuted by a pattern, as einops has it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from ..functional_shape import stack
from ..tensor import Tensor

Axis = str | tuple[str, ...]


def _parse(side: str) -> list[Axis]:
    """`"b (h w) ..."` -> ["b", ("h", "w"), "..."]"""
    tokens = re.findall(r"\.\.\.|…|[()]|[^\s().]+", side)
    found: list[Axis] = []
    group: list[str] | None = None
    for token in tokens:
        if token == "(":
            if group is not None:
                raise ValueError("brackets inside brackets are not allowed")
            group = []
        elif token == ")":
            if group is None:
                raise ValueError("brackets are not balanced")
            found.append(tuple(group))
            group = None
        else:
            name = "..." if token == "…" else token
            if not (name == "..." or name == "1" or name.isidentifier()):
                raise ValueError(f"Invalid axis identifier: {name}\nnot a valid python identifier")
            if group is None:
                found.append(name)
            else:
                group.append(name)
    if group is not None:
        raise ValueError(f"Imbalanced parentheses in expression: '{side}'")
    return found


def _names(side: Sequence[Axis]) -> list[str]:
    return [name for axis in side for name in (axis if isinstance(axis, tuple) else (axis,))]


def _sizes(axis: tuple[str, ...], have: Any, known: dict[str, Any]) -> None:
    """Note the sizes of the axes that make up one dim; one of them may be unknown."""
    product, unknown = 1, None
    for name in axis:
        if name == "1":
            continue
        if name in known:
            product *= known[name]
        elif unknown is None:
            unknown = name
        else:
            raise ValueError(f"Could not infer sizes for {{{unknown!r}, {name!r}}}")
    if unknown is not None:
        known[unknown] = have // product
        product *= known[unknown]
    if product != have:
        raise ValueError(f"Shape mismatch, dim of size {have} cannot be split into {axis}")


def rearrange(
    tensor: Tensor | list[Tensor] | tuple[Tensor, ...], pattern: str, **axes_lengths: int
) -> Tensor:
    """The tensor's dims (of several tensors: stacked along a new first dim) as the pattern says:
    `rearrange(x, "b (h p) w -> b h (p w)", p=2)`. A parenthesis is one dim made of several, `...` any number of dims,
    `1` a dim of size 1. ValueError for a pattern that does not fit. https://einops.rocks/api/rearrange/"""
    if not isinstance(tensor, Tensor):
        tensor = stack(list(tensor))
    if pattern.count("->") != 1:
        raise ValueError("Pattern must contain exactly one '->' separator")
    left, right = (_parse(side) for side in pattern.split("->"))
    before, after = _names(left), _names(right)
    if {n for n in before if n != "1"} != {n for n in after if n != "1"}:
        raise ValueError(
            "Identifiers only on one side of expression (should be on both): "
            f"{set(before) ^ set(after) - {'1'}}"
        )
    for names in (before, after):
        for name in names:
            if name != "1" and names.count(name) > 1:
                raise ValueError(f'Indexing expression contains duplicate dimension "{name}"')
    for name in axes_lengths:
        if name not in before:
            raise ValueError(f"Axis {name} is not used in the pattern")
    rest = tensor.ndim - sum(axis != "..." for axis in left)
    if rest < 0 or (rest and "..." not in before):
        raise ValueError(
            f"Number of dimensions in pattern, {len(left)}, and tensor, {tensor.ndim}, do not match"
        )
    many = [f".{i}" for i in range(rest)]
    known: dict[str, Any] = dict(axes_lengths)
    split: list[str] = []
    at = 0
    for axis in left:
        parts: list[Axis] = [*many] if axis == "..." else [axis]
        for part in parts:
            group = part if isinstance(part, tuple) else (part,)
            _sizes(group, tensor.shape[at], known)
            split += [name for name in group if name != "1"]
            at += 1
    known = {name: known[name] for name in split}
    apart = tensor.reshape([known[name] for name in split])
    order, shape = [], []
    for axis in right:
        group = axis if isinstance(axis, tuple) else (axis,)
        full = [n for name in group for n in (many if name == "..." else [] if name == "1" else [name])]
        order += [split.index(name) for name in full]
        if axis == "...":
            shape += [known[name] for name in full]
        else:
            size = 1
            for name in full:
                size = size * known[name]
            shape.append(size)
    return apart.permute(order).reshape(shape)
