"""Changing a tensor in place: the checks, the write, and the new history.

Every in-place function computes its result out of place and then `assign`s it. That keeps one rule per op:
the tape sees an ordinary op, whose result becomes the tensor's value and history. Written through a view, the
new value becomes part of the base (`tape.CopySlices`), and the histories of its other views start again
there."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

from . import dispatch
from .memory_layout import overlaps_itself
from .promotion import check_castable, convert
from .state import local
from .tape import Edge, Node, gradient_edge, node_class
from .tape_folded import CopySlices, FoldedNode, ReplaceNode
from .tape_ops import OpNode, OverwriteScope, SavedTensor
from .tensor import Tensor, data_changed

_NO_GRAD_VIEW = (
    "A view was created in {mode} mode and is being modified inplace with grad mode enabled. Given that "
    "this use case "
    "is ambiguous and error-prone, it is forbidden. You can clarify your code by moving both the view and "
    "the inplace "
    "either both inside the {mode} block (if you don't want the inplace to be tracked) or both outside (if "
    "you want "
    "the inplace to be tracked)."
)
_OVERLAP = (
    "unsupported operation: more than one element of the written-to tensor refers to a single memory location. "
    "Please clone() the tensor before performing the operation."
)


def overwrite(target: Tensor, compute: Callable[[], Tensor]) -> Tensor:
    """`target` with the value (and the history) that `compute` returns, which may read it."""
    if not local.grad_enabled:
        return assign(target, compute())
    with OverwriteScope(target) as scope:
        new = compute()
    return assign(target, new, scope.saved)


def assign(target: Tensor, new: Tensor, saved: list[SavedTensor] | None = None, replaced: str = "") -> Tensor:
    """Write `new` into `target` and give it the history of `new`.

    `saved`: what the tape kept of the old value while computing `new`. `replaced` names the node where `new`
    does not depend on the old value (`FillBackward2`), which then gets a zero gradient."""
    tracked = local.grad_enabled and (target.requires_grad or new.requires_grad)
    if tracked:
        check_tracked(target)
    if tuple(new.shape) != tuple(target.shape):
        raise RuntimeError(
            f"output with shape {list(target.shape)} doesn't match the broadcast shape {list(new.shape)}"
        )
    if new.dtype is not target.dtype:
        if not replaced:
            check_castable(new.dtype, target.dtype)
        new = convert(new, target.dtype)
    if overlaps_itself(target) and not replaced.startswith(("Fill", "Zero")):
        raise RuntimeError(_OVERLAP)
    if saved:
        _keep_old_value(target, saved)
    if not tracked:
        dispatch.write(target, new)
        return target
    edge = history = gradient_edge(new)
    if replaced and target._base is None:
        node: Node = node_class(replaced, ReplaceNode)(gradient_edge(target), edge, target._type)
        history = Edge(node, 0)
    dispatch.write(target, new)
    if edge is not None and not replaced:  # what was replaced is a copy of `new`, which stays as it is
        _own_outputs(edge.node, new, target)
    continue_history(target, history)
    return target


def continue_history(target: Tensor, edge: Edge | None) -> None:
    """The history of a tensor whose elements were just replaced: what made the new ones, if that has gradients, and for
    a view also what its base was."""
    base = target._base
    if base is not None:
        steps = target._views[len(base._views) :]
        _set_history(base, Edge(CopySlices(gradient_edge(base), edge, base._type, steps), 0))
        target._view_version = -1  # its own history starts again there
    elif edge is not None:
        _set_history(target, edge)


def check_tracked(target: Tensor) -> None:
    """RuntimeError where autograd cannot follow a write to this tensor."""
    base = target._base
    if base is not None:
        creation = target._extra.creation if target._extra is not None else ""
        if creation in ("no_grad", "inference_mode"):
            raise RuntimeError(_NO_GRAD_VIEW.format(mode=creation))
        if creation:
            raise RuntimeError(
                f"{creation} is a view and is being modified inplace. This view is the output of a function that "
                "returns multiple views. Such functions do not allow the output views to be modified inplace. You "
                "should replace the inplace operation by an out-of-place one."
            )
        if base.requires_grad and base.is_leaf:
            raise RuntimeError(
                "a view of a leaf Variable that requires grad is being used in an in-place operation."
            )
    if target.requires_grad and target.is_leaf:
        raise RuntimeError("a leaf Variable that requires grad is being used in an in-place operation.")


def _keep_old_value(target: Tensor, saved: list[SavedTensor]) -> None:
    """Give what the tape saved of the tensor a copy of it, with the history it has until now."""
    edge = gradient_edge(target)
    grad_mode, local.grad_enabled = local.grad_enabled, False
    try:
        copy: Tensor = dispatch.apply(_CONVERT, (target,), {"dtype": target.dtype})
    finally:
        local.grad_enabled = grad_mode
    if edge is not None:
        copy._grad_fn, copy._output_nr, copy._requires_grad = edge.node, edge.output_nr, True
    for entry in saved:
        entry.replace(copy)


def _own_outputs(node: Node, new: Tensor, target: Tensor) -> None:
    """Where the node saved its result, have it save the tensor that now holds that value."""
    if isinstance(node, FoldedNode):
        node = node.inner.node
    if isinstance(node, OpNode):
        for kept in node.outputs:
            if isinstance(kept, SavedTensor) and kept.storage is new._storage:
                kept.replace(target._alias())


def _set_history(tensor: Tensor, edge: Edge) -> None:
    notify = local.backend.on_history_set
    if notify is not None:
        notify(tensor)
    if not tensor._requires_grad and tensor._storage.captured:
        data_changed()  # compiled functions look again at what they captured
    old = tensor._grad_fn
    tensor._grad_fn, tensor._output_nr, tensor._requires_grad = edge.node, edge.output_nr, True
    extra = tensor._extra
    if extra is not None and extra.retains_grad and old is not None:
        kept = old.hooks.retain
        for number, reference in list(kept.items()):
            if reference() is tensor:
                edge.node.hooks.retain[edge.output_nr] = kept.pop(number)


_CONVERT = dispatch.op_named("convert")


def into(out: Tensor, result: Tensor, name: str) -> Tensor:
    """Serve an `out=` argument: `result` written to it, resized if it has another shape."""
    if not isinstance(out, Tensor):
        raise TypeError(f"{name}(): argument 'out' must be Tensor, not {type(out).__name__}")
    if local.grad_enabled and (out.requires_grad or result.requires_grad):
        raise RuntimeError(
            f"{name}(): functions with out=... arguments don't support automatic differentiation, but one of the "
            "arguments requires grad."
        )
    check_castable(result.dtype, out.dtype)
    if tuple(out.shape) != tuple(result.shape):
        _warn_of_resizing(out, result)
        resize(out, tuple(result.shape))
    elif overlaps_itself(out):
        raise RuntimeError(_OVERLAP)
    dispatch.write(out, convert(result, out.dtype))
    return out


def _warn_of_resizing(out: Tensor, result: Tensor) -> None:
    """An `out` that has elements is meant to have the right shape."""
    if out.numel() == 0:
        return
    have, need = list(out.shape), list(result.shape)
    warnings.warn(
        f"An output with one or more elements was resized since it had shape {have}, which does not match the "
        f"required output shape {need}. This behavior is deprecated, and in a future PyTorch release outputs will "
        "not be resized unless they have zero elements. You can explicitly reuse an out tensor t by resizing it, "
        "inplace, to zero elements with t.resize_(0).",
        UserWarning,
        stacklevel=4,
    )


def finish(result: Tensor, out: Tensor | None, name: str) -> Tensor:
    """What a function with an `out=` argument returns: its result, or `out` with the result in it."""
    return result if out is None else into(out, result, name)


def resize(tensor: Tensor, shape: tuple[Any, ...]) -> None:
    """New memory of another shape for the tensor; its elements are not defined."""
    full = dispatch.apply(dispatch.op_named("full"), (), {"shape": shape, "value": 0, "dtype": tensor.dtype})
    tensor._array, tensor._value, tensor._known_type = full._array, full._value, full._known_type
    tensor._storage, tensor._views, tensor._base = full._storage, full._views, None
