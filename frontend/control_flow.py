"""`torch.cond` and `torch.while_loop`: control flow on a tensor, as functions.

Eagerly one branch runs. In a compiled function the condition is followed as for `if` and `while`
(`compile/tracer.py`): the graph is that of the way which this call takes, and holds for calls that take the same.
Under `vmap`, where samples go different ways, `cond` runs both branches and chooses with `where`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from . import capture
from .compile.pytree import flatten, unflatten
from .functional_pointwise import where
from .ir.dtypes import bool_
from .tensor import Tensor


def cond(
    pred: bool | int | float | Tensor,
    true_fn: Callable[..., Any],
    false_fn: Callable[..., Any],
    operands: tuple[Any, ...] | list[Any] = (),
) -> Any:
    """`true_fn(*operands)` or `false_fn(*operands)`, by the truth of `pred`: a number, or a tensor of one element."""
    if not isinstance(pred, bool | int | float | Tensor):
        raise RuntimeError(f"Expected pred to be bool or tensor, but got {pred}.")
    if isinstance(pred, Tensor) and pred.numel() != 1:
        raise RuntimeError(f"Expected pred to be bool or single-element tensor, but got {pred}.")
    if not callable(true_fn) or not callable(false_fn):
        raise RuntimeError("Expect both branches to be callable.")
    leaves = flatten(operands)[0] if isinstance(operands, tuple | list) else [None]
    if isinstance(pred, Tensor) and not all(isinstance(leaf, Tensor) for leaf in leaves):
        raise RuntimeError(
            "Expect operands to be a tuple of possibly nested dict/list/tuple that only consists of tensor leaves, "
            f"but got {operands}."
        )
    vmap = capture.vmap()
    if vmap is not None and isinstance(pred, Tensor) and vmap.differs(pred):
        return _both(pred, true_fn(*operands), false_fn(*operands))
    return true_fn(*operands) if pred else false_fn(*operands)


def _both(pred: Tensor, first: Any, second: Any) -> Any:
    ones, structure = flatten(first)
    others, other_structure = flatten(second)
    if structure != other_structure:
        raise RuntimeError(
            "Expected to return same number of outputs but got:"
            f"\n  true branch returns {len(ones)} item(s)\n  false branch returns {len(others)} item(s)"
        )
    chosen = pred.reshape(()).to(bool_)
    return unflatten(structure, [where(chosen, a, b) for a, b in zip(ones, others)])


def while_loop(
    cond_fn: Callable[..., Any],
    body_fn: Callable[..., Any],
    carried_inputs: tuple[Any, ...] | list[Any],
) -> tuple[Any, ...]:
    """`carried = body_fn(*carried)` while `cond_fn(*carried)`, a bool or a 0-d bool tensor; the last `carried`."""
    if not callable(cond_fn) or not callable(body_fn):
        raise RuntimeError("Expect cond_fn and body_fn to be callable.")
    if not isinstance(carried_inputs, tuple | list):
        raise RuntimeError(f"carried_inputs must be a tuple or list but got {type(carried_inputs)}")
    leaves, structure = flatten(carried_inputs)
    if not all(isinstance(leaf, Tensor | int) for leaf in leaves):
        raise RuntimeError(
            "Expect carried_inputs to be a tuple of possibly nested dict/list/tuple that onlyconsists of tensor or int "
            f"leaves, but got {carried_inputs}."
        )
    carried: Sequence[Any] = carried_inputs
    ran = False
    while _truth(cond_fn(*carried)):
        found = body_fn(*carried)
        if not isinstance(found, tuple | list):
            raise AssertionError(f"body_fn should return a tuple but got {type(found)}")
        if len(found) != len(carried):
            raise AssertionError(
                "body_fn should return the same number of elements as carried_inputs, got "
                f"{len(found)} vs {len(carried)}"
            )
        carried, ran = found, True
    if ran:
        return tuple(carried)
    return tuple(unflatten(structure, [x.clone() if isinstance(x, Tensor) else x for x in leaves]))


def _truth(pred: Any) -> bool:
    if isinstance(pred, bool) or (isinstance(pred, Tensor) and pred.ndim == 0 and pred.dtype is bool_):
        return bool(pred)
    raise RuntimeError(f"cond_fn must return a boolean scalar tensor or a boolean but got {pred}")


__all__ = ["cond", "while_loop"]
