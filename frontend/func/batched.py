"""The backend under `vmap`: its tensors stand for one sample, and hold the tensor of all samples below.

A third backend above the one that was active (NumPy, the tracer, or another vmap). To compute an op it takes the
operands' lower tensors, whose dim 0 is the batch, finds the op's batching rule (`batching.py`) and runs it through
`dispatch.apply` with the backend below, so that the tape below sees ordinary ops on whole batches. The tape above sees
ops on single samples. So `grad` of a `vmap`, `vmap` of a `grad` and their nestings need nothing of their own.

A tensor from below that does not depend on the sample needs no wrapping: it is the same for all. What is computed from
such tensors alone is computed below.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any

from .. import dispatch
from ..batched_values import Batched
from ..counter_draws import random_call
from ..dispatch import Backend, TensorBuilder
from ..eager import ALIASING
from ..inplace import assign
from ..ir.dtypes import DType
from ..ir.op import Op
from ..ir.types import TensorType
from ..placement import transferred
from ..runtime.gpu.arrays import Gpu
from ..state import local
from ..tape_ops import OverwriteScope
from ..tensor import Tensor, view_of, without_array
from ..views import ViewStep
from . import (  # noqa: F401  (the rules)
    batching,
    batching_contractions,
    batching_indexing,
    batching_rules,
    vmap_function,
)

_INPLACE = (
    "vmap: inplace arithmetic(self, *extra_args) is not possible because there exists a Tensor `other` in extra_args "
    "that has more elements than `self`. This happened due to `other` being vmapped over but `self` not being "
    "vmapped over in a vmap. Please try to use out-of-place operators instead of inplace arithmetic. If said "
    "operator is being called inside the PyTorch framework, please file a bug report instead."
)
_CONTROL_FLOW = (
    "vmap: It looks like you're attempting to use a Tensor in some data-dependent control flow. We don't support "
    "that yet, please file an issue at https://github.com/pytorch/pytorch/issues ."
)
_ITEM = (
    "vmap: It looks like you're calling .item() on a Tensor. We don't support vmap over calling .item() on a Tensor, "
    "please try to rewrite what you're doing with other operations. If error is occurring somewhere inside PyTorch "
    "internals, please file a bug report."
)
_RANDOM = (
    "vmap: called random operation while in randomness error mode. Please either use the 'same' or 'different' "
    "randomness flags on vmap or perform the randomness operation out of vmap"
)
_UNBATCHED_RANDOM = (
    "vmap: Cannot ask for different inplace randomness on an unbatched tensor. This will appear like same randomness. "
    "If this is necessary for your usage, please file an issue with functorch."
)


_NOTHING = nullcontext()


class VmapBackend:
    """Computes on single samples by computing below on batches of `size`."""

    def __init__(self, below: Backend, size: Any, randomness: str, level: int):
        self.below = below
        self.size = size
        self.randomness = randomness
        self.level = level
        self._old_values: dict[Tensor, OverwriteScope] = {}
        self.builder = _BelowTape(self)

    # Listeners are about real tensors: the backend below knows whether there are any.
    @property
    def on_grad_set(self) -> Any:
        return self.below.on_grad_set

    @property
    def on_requires_grad_set(self) -> Any:
        return self.below.on_requires_grad_set

    @property
    def on_data_set(self) -> Any:
        return self.below.on_data_set

    @property
    def on_history_set(self) -> Any:
        return self.below.on_history_set

    @property
    def on_grad_read(self) -> Any:
        return self.below.on_grad_read

    @property
    def vmap(self) -> VmapBackend:
        return self

    @property
    def capture(self) -> Any:
        below = self.below.capture
        return None if below is None else _Capture(self, below)

    def apply(self, op: Op, operands: Sequence[Tensor], attrs: Mapping[str, Any]) -> tuple[Tensor, ...]:
        """The results for one sample; results of views share their operand's storage."""
        held = [self.held(t) for t in operands]
        before, local.backend = local.backend, self.below
        try:
            if not any(held):
                return self.below.apply(op, operands, attrs)
            lower = [t if h is None else h.lower for t, h in zip(operands, held)]
            batched = [h is not None and h.batched for h in held]
            spread = [h is not None and h.spread for h in held]
            if not any(batched) and not any(spread):
                found = dispatch.apply(op, lower, attrs)
                results, flag = found if isinstance(found, tuple) else (found,), False
            else:
                with self._keeping_old_values(operands):
                    results = batching.run(self, op, lower, batched, attrs, spread)
                flag = True
        finally:
            local.backend = before
        if op.name in ALIASING and op.lowering == "view" and results[0]._storage is lower[0]._storage:
            return (self._view(operands[0], ViewStep(op, attrs), results[0], flag),)
        return tuple([self.wrap(r, flag) for r in results])

    def write(self, target: Tensor, new: Tensor) -> None:
        """The samples' elements below become those of `new`; RuntimeError where the target has no batch to hold them."""
        to, given = self.held(target), self.held(new)
        value = new if given is None else given.lower
        batched = given is not None and given.batched
        if batched and (to is None or not to.batched):
            raise RuntimeError(_INPLACE)
        lower = target if to is None else to.lower
        before, local.backend = local.backend, self.below
        try:
            if to is None:
                self.below.write(target, value)
                return
            if to.batched and not batched:
                value = dispatch.TENSORS.expand(value, shape=tuple(lower.shape))
            scope = self._old_values.pop(target, None)
            assign(lower, value, scope.saved if scope is not None else None)
        finally:
            local.backend = before

    def constant(self, value: float | int | bool | complex, dtype: DType) -> Tensor:
        return self.below.constant(value, dtype)

    def scalar(self, tensor: Tensor) -> Any:
        return self.below.scalar(self._one(tensor, _ITEM))

    def differs(self, tensor: Tensor) -> bool:
        """Whether the tensor may be another for each sample."""
        held = self.held(tensor)
        return held is not None and held.batched

    def branch(self, tensor: Tensor) -> bool:
        """The truth of a tensor that is the same for all samples; RuntimeError for another."""
        with dispatch.use_backend(self.below):
            return bool(self._one(tensor, _CONTROL_FLOW))

    def draw(self, shape: tuple[Any, ...], make: Callable[[tuple[Any, ...]], Tensor]) -> Tensor:
        """A tensor of numbers that `make(shape)` draws: for all samples, or once for each."""
        self._check_random()
        with dispatch.use_backend(self.below):
            below = getattr(self.below, "draw", None)
            wanted = shape if self.randomness == "same" else (self.size, *shape)
            lower = make(wanted) if below is None else below(wanted, make)
        return self.wrap(lower, self.randomness == "different")

    def fill(self, target: Tensor, fill: Callable[[Tensor], Tensor]) -> None:
        """Random numbers into the target: `fill` draws them into a tensor below."""
        self._check_random()
        held = self.held(target)
        batched = held is not None and held.batched
        if self.randomness == "different" and not batched:
            raise RuntimeError(_UNBATCHED_RANDOM)
        lower = target if held is None else held.lower
        with dispatch.use_backend(self.below):
            if self.randomness == "same" and batched:
                fresh = dispatch.TENSORS.full(shape=tuple(lower.shape)[1:], value=0, dtype=lower.dtype)
                lower.copy_(fill(fresh))
            else:
                fill(lower)

    def like(self, made: Tensor, tensor: Tensor) -> Tensor:
        """`made`, one for all samples, as one for each if `tensor` is: code that fills it may write to it."""
        held = self.held(tensor)
        if held is None or not held.batched or self.held(made) is not None:
            return made
        with dispatch.use_backend(self.below):
            shape = (self.size, *made.shape)
            each = dispatch.TENSORS.expand(made, shape=shape).clone()
            if self.below.vmap is not None:
                each = self.below.vmap.like(each, held.lower)
            return self.wrap(each.requires_grad_() if made.requires_grad else each, True)

    def random_state(self) -> tuple[Tensor, int]:
        """`counter_draws.random_call` inside vmap."""
        self._check_random()
        with dispatch.use_backend(self.below):
            state, stream = random_call()
        if self.randomness == "same":
            return state, stream
        return self.wrap(state, False, spread=True), stream

    def _check_random(self) -> None:
        if self.randomness == "error":
            raise RuntimeError(_RANDOM)

    def function(self, cls: Any, args: Sequence[Any]) -> Any:
        """The results of a user's `autograd.Function` for one sample (`vmap_function.py`)."""
        return vmap_function.call(self, cls, args)

    def transferred(self, tensor: Tensor, gpu: Gpu | None, copy: bool) -> Tensor:
        """`placement.transferred` of a tensor of this level, whose history here the caller adds."""
        held = self.held(tensor)
        with dispatch.use_backend(self.below):
            if held is None:
                return transferred(tensor, gpu, copy)
            return self.wrap(transferred(held.lower, gpu, copy), held.batched, held.spread)

    def detach(self, tensor: Tensor) -> Tensor:
        """The same memory without history here or below."""
        held = self.held(tensor)
        alias = tensor._alias()
        if held is not None:
            with dispatch.use_backend(self.below):
                alias._value = Batched(self, held.lower.detach(), held.batched, held.spread)
        return alias

    def text(self, tensor: Tensor) -> str | None:
        """How PyTorch prints a tensor inside vmap; None for one that is not of this level."""
        held = self.held(tensor)
        if held is None:
            return None
        with dispatch.use_backend(self.below):
            lines = repr(held.lower).splitlines()
        inner = "\n".join("    " + line for line in lines)
        return f"BatchedTensor(lvl={self.level}, bdim={0 if held.batched else None}, value=\n{inner}\n)"

    # -- tensors of this level -------------------------------------------------------------------------------

    def held(self, tensor: Tensor) -> Batched | None:
        """What the tensor holds, if it is one of this level's."""
        value = tensor._value
        return value if type(value) is Batched and value.owner is self else None

    def wrap(self, lower: Tensor, batched: bool, spread: bool = False) -> Tensor:
        """The tensor for one sample of `lower`."""
        type_ = lower._type
        if batched:
            type_ = TensorType(type_.shape[1:], type_.dtype)
        return without_array(type_, Batched(self, lower, batched, spread))

    def _view(self, operand: Tensor, step: ViewStep, lower: Tensor, batched: bool) -> Tensor:
        type_ = lower._type
        view = view_of(operand, step, None, TensorType(type_.shape[1:], type_.dtype) if batched else type_)
        view._value = Batched(self, lower, batched)
        return view

    def whole(self, tensor: Tensor) -> Tensor:
        """The tensor of all samples below: the same for all, if it is one for all."""
        held = self.held(tensor)
        if held is not None and held.batched:
            return held.lower
        lower = tensor if held is None else held.lower
        with dispatch.use_backend(self.below):
            found: Tensor = dispatch.TENSORS.expand(lower, shape=(self.size, *lower.shape))
        return found

    def _one(self, tensor: Tensor, refusal: str) -> Tensor:
        held = self.held(tensor)
        if held is None:
            return tensor
        if held.batched:
            raise RuntimeError(refusal)
        return held.lower

    def _keeping_old_values(self, operands: Sequence[Tensor]) -> Any:
        """While an in-place function computes: what the tape below saves of the memory that it will overwrite."""
        scope = local.overwriting
        if scope is None or not any(t is scope.target for t in operands):
            return _NOTHING
        held = self.held(scope.target)
        if held is None:
            return _NOTHING
        found = self._old_values.get(scope.target)
        if found is None:
            self._old_values.clear()
            found = self._old_values[scope.target] = OverwriteScope(held.lower)
        return found


class _BelowTape(TensorBuilder):
    """Code over ops on a vmap's tensors that the tape above does not see: decompositions."""

    def __init__(self, backend: VmapBackend):
        self.backend = backend

    def apply(self, op: Op, operands: Sequence[Any], attrs: Mapping[str, Any]) -> Any:
        before, local.backend = local.backend, self.backend
        try:
            full = dispatch.normalised_attrs(op, attrs)
            results = self.backend.apply(op, self._lift(operands), full)
        finally:
            local.backend = before
        return results[0] if len(results) == 1 else results


class _Capture:
    """What the tracer answers while a vmap runs above it."""

    def __init__(self, backend: VmapBackend, below: Any):
        self._backend = backend
        self._below = below

    def branch(self, tensor: Tensor) -> bool:
        return self._backend.branch(tensor)

    def random_state(self) -> tuple[Tensor, int]:
        return self._backend.random_state()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._below, name)


def lifted(tensor: Tensor) -> Tensor:
    """A tensor of the active backend's level over the memory of `tensor`, without history."""
    backend = local.backend
    if isinstance(backend, VmapBackend) and backend.held(tensor) is None:
        return backend.wrap(tensor, False)
    return tensor._alias()


def lower_history(tensor: Tensor) -> bool:
    """Whether the tensor holds one, at any level below a vmap, that has a history."""
    value = tensor._value
    while type(value) is Batched:
        if value.lower.requires_grad:
            return True
        value = value.lower._value
    return False
