"""The one door every op goes through, and the backends behind it.

`apply(op, operands, attrs)` has the active backend compute and puts the call on the tape if a gradient is
wanted. `view` does the same for a chain of view steps with one node, `write` changes a tensor in place.
Everything above (functions, nn, optim, the gradient rules) is written in terms of these three, so that it
runs the same on arrays and while a function is compiled.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

from . import tape, tape_ops
from .capture import Capture, create_state, guard_value, hyperparameter
from .eager import EAGER
from .ir import ops as _ops  # noqa: F401  (fills the registry)
from .ir.builder import OpBuilder
from .ir.dtypes import DType
from .ir.op import Op, op_named
from .ir.types import TensorType
from .state import local
from .tensor import Tensor, untracked_writes
from .views import Views, ViewStep

EMPTY: Mapping[str, Any] = {}


class Backend(Protocol):
    """Who computes. The eager backend runs NumPy; the tracer appends to a graph."""

    # Listeners, None where nobody listens: told before `.grad`, `.requires_grad` or `.data` of a tensor
    # changes (with the old value of the first two), before its history does, and when code reads `.grad`.
    @property
    def on_grad_set(self) -> Callable[[Tensor, Tensor | None], None] | None: ...
    @property
    def on_requires_grad_set(self) -> Callable[[Tensor, bool], None] | None: ...
    @property
    def on_data_set(self) -> Callable[[Tensor], None] | None: ...
    @property
    def on_history_set(self) -> Callable[[Tensor], None] | None: ...
    @property
    def on_grad_read(self) -> Callable[[Tensor], None] | None: ...

    @property
    def capture(self) -> Capture | None:
        """The tracer, while compiling (`capture.py`); None for a backend that computes at once."""

    @property
    def vmap(self) -> Any:
        """The vmap that is running (`func/batched.py`), which random functions, `detach` and `zeros_like` ask first."""

    def apply(self, op: Op, operands: Sequence[Tensor], attrs: Mapping[str, Any]) -> tuple[Tensor, ...]:
        """Compute, without autograd; `attrs` is normalised.

        A result that is a view of its operand shares its storage (`tensor.view_of`).
        """
        ...

    def write(self, target: Tensor, new: Tensor) -> None:
        """The target's elements become those of `new`, of the same shape and dtype; it may be a view."""
        ...

    def constant(self, value: float | int | bool | complex, dtype: DType) -> Tensor:
        """A 0-d tensor."""
        ...

    def scalar(self, tensor: Tensor) -> Any:
        """The tensor's one element as a Python number."""
        ...


def active_backend() -> Backend:
    """The backend of this thread."""
    return local.backend


@contextmanager
def use_backend(backend: Backend) -> Iterator[None]:
    """Have `backend` compute, in this thread, inside the block."""
    before, local.backend = local.backend, backend
    try:
        yield
    finally:
        local.backend = before


_normalised: dict[Any, Mapping[str, Any]] = {}
_KEYED_KINDS = frozenset({"int", "ints", "dims", "bool", "str", "dtype", "optional_int"})
_keyed_ops: dict[Op, bool] = {}


def normalised_attrs(op: Op, attrs: Mapping[str, Any]) -> Mapping[str, Any]:
    """`op.normalise_attrs`, remembered where the values can serve as a key."""
    if not op.attrs:
        return EMPTY if not attrs else op.normalise_attrs(attrs)
    keyed = _keyed_ops.get(op)
    if keyed is None:
        # Numbers of several types are equal (1, 1.0, True; 0.0, -0.0), so attributes that hold them are no
        # keys.
        keyed = _keyed_ops[op] = all(a.kind in _KEYED_KINDS for a in op.attrs.values())
    if not keyed:
        return op.normalise_attrs(attrs)
    key = (op, *attrs.items())
    try:
        found = _normalised.get(key)
    except TypeError:  # a list, as a caller may well pass for a tuple
        return op.normalise_attrs(attrs)
    if found is None:
        if len(_normalised) >= 1 << 16:
            _normalised.clear()
        found = _normalised[key] = op.normalise_attrs(attrs)
    return found


# Set by `autocast.py`: the operands in the dtype that mixed precision has the op compute in.
autocast_operands: Callable[[Op, Sequence[Tensor]], Sequence[Tensor]] | None = None


def apply(
    op: Op, operands: Sequence[Tensor], attrs: Mapping[str, Any] = EMPTY, grad_name: str | None = None
) -> Any:
    """The op's result, or a tuple of its results. All tensors; dtypes already agree (`promotion.py`).

    `grad_name` is what the node of the tape is called where that differs from the op's own `grad_name`.
    """
    if local.autocast is not None and autocast_operands is not None:
        operands = autocast_operands(op, operands)
    full = normalised_attrs(op, attrs) if attrs or op.attrs else EMPTY
    results = local.backend.apply(op, operands, full)
    if local.grad_enabled and op.vjp is not None:
        for t in operands:
            if t._requires_grad or (t._base is not None and t._base._requires_grad):
                tape_ops.record(op, operands, full, results, grad_name)
                break
    return results[0] if len(results) == 1 else results


def view(operand: Tensor, steps: Views, grad_name: str) -> Tensor:
    """The operand seen through view steps, one node on the tape for all of them."""
    backend = local.backend
    found = operand
    visited = [operand]
    for step in steps:
        found = backend.apply(step.op, (found,), step.attrs)[0]
        visited.append(found)
    if local.grad_enabled:
        if operand.requires_grad:
            types = [t._type for t in visited]
            found._grad_fn = tape.view_node(grad_name, operand, steps, types)
            found._requires_grad = True
    elif found._base is not None:
        found._autograd_extra().creation = "no_grad"
    return found


def view_step(name: str, attrs: Mapping[str, Any]) -> ViewStep:
    """One step for `view`."""
    op = op_named(name)
    return ViewStep(op, normalised_attrs(op, attrs))


def write(target: Tensor, new: Tensor) -> None:
    """Change the target's elements in place, counting a new version; the tape is not told (see
    `inplace.assign`).
    """
    for check in local.write_checks:
        check(target)
    if target._storage.epoch < 0 and not local.inference:
        raise RuntimeError(
            "Inplace update to inference tensor outside InferenceMode is not allowed.You can make a clone to get a "
            "normal tensor before doing inplace update.See https://github.com/pytorch/rfcs/pull/17 for more details."
        )
    local.backend.write(target, new)
    extra = target._extra
    if extra is None or not extra.untracked:
        target._storage.version += 1
    else:
        untracked_writes[0] += 1


def constant(value: float | int | bool | complex, dtype: DType) -> Tensor:
    """A 0-d tensor of the value. It may be shared: never write to it."""
    return local.backend.constant(value, dtype)


class TensorBuilder(OpBuilder):
    """Code over ops (gradient rules, decompositions), computed with tensors through `apply`."""

    def type_of(self, value: Any) -> TensorType:
        return value._type

    def constant(self, value: float | int | bool | complex, dtype: DType) -> Tensor:
        return local.backend.constant(value, dtype)

    def apply(self, op: Op, operands: Sequence[Any], attrs: Mapping[str, Any]) -> Any:
        for operand in operands:
            if not isinstance(operand, Tensor):
                return apply(op, self._lift(operands), attrs)
        return apply(op, operands, attrs)


TENSORS = TensorBuilder()


class UnrecordedBuilder(TensorBuilder):
    """Computes with one backend, whatever the modes of the thread, and puts nothing on the tape."""

    def __init__(self, backend: Backend):
        self.backend = backend

    def constant(self, value: float | int | bool | complex, dtype: DType) -> Tensor:
        return self.backend.constant(value, dtype)

    def apply(self, op: Op, operands: Sequence[Any], attrs: Mapping[str, Any]) -> Any:
        for operand in operands:
            if not isinstance(operand, Tensor):
                operands = self._lift(operands)
                break
        full = normalised_attrs(op, attrs) if attrs or op.attrs else EMPTY
        results = self.backend.apply(op, operands, full)
        return results[0] if len(results) == 1 else results


__all__ = [
    "EAGER", "TENSORS", "Backend", "DType", "TensorBuilder", "UnrecordedBuilder", "active_backend", "apply", "constant",
    "create_state", "guard_value", "hyperparameter", "normalised_attrs", "op_named", "use_backend", "view",
    "view_step", "write",
]  # fmt: skip
