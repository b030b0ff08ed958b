"""`associative_scan`: all partial results of an associative function, in about log2(n) steps.

Blelloch, "Prefix Sums and Their Applications", 1990, as a recursion over pairs of neighbours.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..func import vmap
from ..functional_joining import cat, stack
from ..tensor import Tensor
from ..utils._pytree import tree_flatten, tree_unflatten

_Combine = Callable[[list[Tensor], list[Tensor]], list[Tensor]]


def associative_scan(
    combine_fn: Callable[[Any, Any], Any],
    xs: Any,
    dim: int,
    reverse: bool = False,
    combine_mode: str = "pointwise",
) -> Any:
    """`result[i] = combine_fn(result[i - 1], xs[i])` along a dim of all of the (nested) tensors; with `reverse` from the
    end. In the mode "pointwise" the function is called with many elements at once, in "generic" under `vmap` with one
    place of the dim. ValueError for another mode, no tensors, or tensors of other lengths."""
    if combine_mode not in ("pointwise", "generic"):
        raise ValueError(f"Combine_mode must either 'pointwise' or 'generic', but got {combine_mode}")
    leaves, spec = tree_flatten(xs)
    if not leaves:
        raise ValueError("Expected at least 1 xs leaf")
    rows = [leaf.movedim(dim, 0) for leaf in leaves]
    if len({row.shape[0] for row in rows}) > 1:
        raise ValueError("Expected xs leaves to have the same length along the scanned dim")
    if combine_mode == "generic":
        combine_fn = vmap(combine_fn)

    def combine(before: list[Tensor], after: list[Tensor]) -> list[Tensor]:
        return tree_flatten(combine_fn(tree_unflatten(before, spec), tree_unflatten(after, spec)))[0]

    if reverse:
        rows = [row.flip(0) for row in rows]
    found = _scan(combine, rows)
    if reverse:
        found = [row.flip(0) for row in found]
    return tree_unflatten([row.movedim(0, dim) for row in found], spec)


def _scan(combine: _Combine, rows: list[Tensor]) -> list[Tensor]:
    count = rows[0].shape[0]
    if count < 2:
        return rows
    odd = _scan(combine, combine([r[: count - 1 : 2] for r in rows], [r[1::2] for r in rows]))
    even = [r[:1] for r in rows]
    if count > 2:
        later = combine([o[: (count - 1) // 2] for o in odd], [r[2::2] for r in rows])
        even = [cat([first, rest]) for first, rest in zip(even, later, strict=True)]
    pairs = count // 2
    found = [stack([e[:pairs], o], 1).flatten(0, 1) for e, o in zip(even, odd, strict=True)]
    return [cat([f, e[pairs:]]) for f, e in zip(found, even, strict=True)] if count % 2 else found


__all__ = ["associative_scan"]
