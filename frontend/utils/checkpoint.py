"""`torch.utils.checkpoint`: a part of the forward pass that keeps nothing and is computed again in the backward pass.

Inside a compiled function a checkpoint is the plain call: what a compiled function keeps and what it computes
again is its own decision (`passes/partition.py` minimises what is kept), and a recomputation written into the
graph would be merged with the first computation anyway.
"""

from __future__ import annotations

import contextlib
import warnings
import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from .. import autograd, capture
from ..autograd.grad_mode import enable_grad, no_grad
from ..autograd.graph import saved_tensors_hooks
from ..nn.modules.container import Sequential
from ..random import fork_rng, get_rng_state, set_rng_state
from ..state import local
from ..tensor import Tensor


class CheckpointError(RuntimeError):
    """The recomputation did not save what the forward pass saved."""


class _StopRecomputation(Exception):
    """All that the backward needs has been computed again."""


def detach_variable(inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """The inputs as leaves of their own."""
    if not isinstance(inputs, tuple):
        raise RuntimeError(
            "Only tuple of tensors is supported. Got Unsupported input type: ", type(inputs).__name__
        )
    return tuple(x.detach().requires_grad_(x.requires_grad) if isinstance(x, Tensor) else x for x in inputs)


def check_backward_validity(inputs: Iterable[Any]) -> None:
    """Warn if nothing can come back."""
    if not any(x.requires_grad for x in inputs if isinstance(x, Tensor)):
        warnings.warn("None of the inputs have requires_grad=True. Gradients will be None", stacklevel=2)


def get_device_states(*args: Any) -> tuple[list[int], list[Tensor]]:
    """The devices other than the CPU that the arguments are on, and the states of their generators."""
    return [], []


def set_device_states(
    devices: Sequence[int], states: Sequence[Tensor], *, device_type: str | None = None
) -> None:
    """Restore what `get_device_states` gave."""
    if len(devices) or len(states):
        raise RuntimeError(
            "set_device_states: there are no generators but the CPU's, see torch.set_rng_state"
        )


class DefaultDeviceType:
    """The kind of device whose random state a checkpoint keeps where its arguments are all on the CPU."""

    _default_device_type = "cuda"

    @staticmethod
    def set_device_type(device: str = "cuda") -> None:
        DefaultDeviceType._default_device_type = device

    @staticmethod
    def get_device_type() -> str:
        return DefaultDeviceType._default_device_type


def noop_context_fn() -> tuple[Any, Any]:
    """The contexts of forward and recomputation by default: nothing."""
    return contextlib.nullcontext(), contextlib.nullcontext()


_early_stop: list[bool | None] = [None]


@contextlib.contextmanager
def set_checkpoint_early_stop(enable: bool) -> Iterator[None]:
    """Whether a recomputation stops once it has all that is needed; goes before the argument of `checkpoint`."""
    before, _early_stop[0] = _early_stop[0], enable
    try:
        yield
    finally:
        _early_stop[0] = before


@contextlib.contextmanager
def set_checkpoint_debug_enabled(enabled: bool | None) -> Iterator[None]:
    """Accepted without effect, like `debug=` of `checkpoint`: no log of ops is kept that errors could show."""
    yield


class CheckpointFunction(autograd.Function):
    """The reentrant form: forward without recording, and a backward that runs one of its own."""

    @staticmethod
    def forward(ctx: Any, run_function: Callable[..., Any], preserve_rng_state: bool, *args: Any) -> Any:
        check_backward_validity(args)
        ctx.run_function = run_function
        ctx.rng_state = get_rng_state() if preserve_rng_state else None
        ctx.tensor_indices = [i for i, a in enumerate(args) if isinstance(a, Tensor)]
        ctx.inputs = [None if isinstance(a, Tensor) else a for a in args]
        ctx.save_for_backward(*(args[i] for i in ctx.tensor_indices))
        with no_grad():
            return run_function(*args)

    @staticmethod
    def backward(ctx: Any, *args: Any) -> Any:
        if local.walks[-1].captures is not None:
            raise RuntimeError(
                "When use_reentrant=True, torch.utils.checkpoint is incompatible with .grad() or passing an `inputs` "
                "parameter to .backward(). To resolve this error, you can either set use_reentrant=False, or call "
                ".backward() without passing the `inputs` argument."
            )
        inputs = list(ctx.inputs)
        for i, tensor in zip(ctx.tensor_indices, ctx.saved_tensors):
            inputs[i] = tensor
        with fork_rng(enabled=ctx.rng_state is not None):
            if ctx.rng_state is not None:
                set_rng_state(ctx.rng_state)
            detached = detach_variable(tuple(inputs))
            with enable_grad():
                found = ctx.run_function(*detached)
        outputs = (found,) if isinstance(found, Tensor) else found
        flowing = [(o, g) for o, g in zip(outputs, args) if isinstance(o, Tensor) and o.requires_grad]
        if not flowing:
            raise RuntimeError("none of output has requires_grad=True, this checkpoint() is not necessary")
        autograd.backward([o for o, _ in flowing], [g for _, g in flowing])
        return (None, None, *(x.grad if isinstance(x, Tensor) else None for x in detached))


class _Holder:
    """Stands on the tape for what was not kept; `number` counts what the checkpointed function saved."""

    __slots__ = ("__weakref__", "number")

    def __init__(self, number: int):
        self.number = number


def _metadata(tensor: Tensor) -> dict[str, Any]:
    return {"shape": tensor.shape, "dtype": tensor.dtype, "device": tensor.device}


class _Frame:
    """One call of a checkpointed function: how to compute it again, and what each backward found by that."""

    def __init__(self, recompute: Callable[[], Any], check: bool, early_stop: bool):
        self.recompute = recompute
        self.check = check
        self.early_stop = early_stop
        self.holders: list[weakref.ref[_Holder]] = []
        self.metadata: list[dict[str, Any]] = []
        self.found: weakref.WeakKeyDictionary[Any, dict[int, Tensor]] = weakref.WeakKeyDictionary()

    def pack(self, tensor: Tensor) -> _Holder:
        holder = _Holder(len(self.holders))
        self.holders.append(weakref.ref(holder))
        self.metadata.append(_metadata(tensor))
        return holder

    def unpack(self, holder: _Holder) -> Tensor:
        walk = local.walks[-1] if local.walks else self
        known = self.found.get(walk)
        if known is None or holder.number not in known:
            known = self.found[walk] = self._again()
        return known.pop(holder.number) if walk is not self else known[holder.number]

    def _again(self) -> dict[int, Tensor]:
        """Run the function again, keeping what its first run saved."""
        kept: dict[int, Tensor] = {}
        count = 0

        def pack(tensor: Tensor) -> Tensor:
            nonlocal count
            number, count = count, count + 1
            if number >= len(self.holders):
                if self.early_stop:
                    raise AssertionError("the recomputation went on after all was found")
                return tensor
            if self.holders[number]() is not None:
                kept[number] = tensor.detach() if tensor.requires_grad else tensor
            if self.early_stop and count == len(self.holders):
                raise _StopRecomputation
            return tensor

        with saved_tensors_hooks(pack, lambda x: x), contextlib.suppress(_StopRecomputation):
            self.recompute()
        if count != len(self.holders):
            raise CheckpointError(
                "torch.utils.checkpoint: A different number of tensors was saved during the original forward and "
                f"recomputation.\nNumber of tensors saved during forward: {len(self.holders)}\nNumber of tensors "
                f"saved during recomputation: {count}.\n"
            )
        if self.check:
            self._compare(kept)
        return kept

    def _compare(self, kept: dict[int, Tensor]) -> None:
        different = [
            f"tensor at position {number}:\nsaved metadata: {self.metadata[number]}\nrecomputed metadata: "
            f"{_metadata(tensor)}"
            for number, tensor in kept.items()
            if _metadata(tensor) != self.metadata[number]
        ]
        if different:
            raise CheckpointError(
                "torch.utils.checkpoint: Recomputed values for the following tensors have different metadata than "
                "during the forward pass.\n" + "\n".join(different) + "\n"
            )


def checkpoint(
    function: Callable[..., Any],
    *args: Any,
    use_reentrant: bool | None = None,
    context_fn: Callable[[], tuple[Any, Any]] = noop_context_fn,
    determinism_check: str = "default",
    debug: bool = False,
    early_stop: bool = True,
    **kwargs: Any,
) -> Any:
    """`function(*args, **kwargs)`, of which the tape keeps the arguments only; backward computes the rest again.

    `preserve_rng_state` (True): the recomputation draws the same random numbers. `use_reentrant`: PyTorch's older form,
    whose backward is a backward of its own and takes no keyword arguments. `determinism_check`: "default" compares
    shapes and dtypes of what is computed again with the first time (CheckpointError), "none" does not.
    `early_stop`: stop the recomputation as soon as all that is needed is there. `debug` has no effect.
    """
    if use_reentrant is None:
        warnings.warn(
            "torch.utils.checkpoint: the use_reentrant parameter should be passed explicitly. Starting in PyTorch 2.9, "
            "calling checkpoint without use_reentrant will raise an exception. use_reentrant=False is recommended, but "
            "if you need to preserve the current default behavior, you can pass use_reentrant=True. Refer to docs for "
            "more details on the differences between the two variants.",
            stacklevel=2,
        )
        use_reentrant = True
    preserve = kwargs.pop("preserve_rng_state", True)
    if kwargs and use_reentrant:
        raise ValueError("Unexpected keyword arguments: " + ",".join(kwargs))
    if use_reentrant and (context_fn is not noop_context_fn or debug is not False):
        raise ValueError("Passing `context_fn` or `debug` is only supported when use_reentrant=False.")
    if capture.active() is not None:
        return function(*args, **kwargs)
    if use_reentrant:
        return CheckpointFunction.apply(function, preserve, *args)
    if determinism_check not in ("default", "none"):
        raise ValueError(
            f"determinism_check should be one of ['default', 'none'], but got {determinism_check}"
        )
    return _without_reentry(function, preserve, context_fn, determinism_check, early_stop, args, kwargs)


def _without_reentry(
    function: Callable[..., Any],
    preserve: bool,
    context_fn: Callable[[], tuple[Any, Any]],
    determinism_check: str,
    early_stop: bool,
    args: Sequence[Any],
    kwargs: dict[str, Any],
) -> Any:
    forward_context, recompute_context = context_fn()
    if not local.grad_enabled:
        with forward_context:
            return function(*args, **kwargs)
    rng_state = get_rng_state() if preserve else None

    def recompute() -> None:
        with fork_rng(enabled=rng_state is not None), enable_grad(), recompute_context:
            if rng_state is not None:
                set_rng_state(rng_state)
            function(*args, **kwargs)

    stop = early_stop if _early_stop[0] is None else _early_stop[0]
    frame = _Frame(recompute, determinism_check == "default", stop)
    with saved_tensors_hooks(frame.pack, frame.unpack), forward_context:
        return function(*args, **kwargs)


def checkpoint_sequential(
    functions: Any, segments: int, input: Any, use_reentrant: bool | None = None, **kwargs: Any
) -> Any:
    """The functions (or a Sequential's modules) one after the other, in `segments` checkpoints; the last one is none."""
    if use_reentrant is None:
        warnings.warn(
            "torch.utils.checkpoint.checkpoint_sequential: the use_reentrant parameter should be passed explicitly. In "
            "version 2.9 we will raise an exception if use_reentrant is not passed. use_reentrant=False is recommended, "
            "but if you need to preserve the current default behavior, you can pass use_reentrant=True. Refer to docs "
            "for more details on the differences between the two variants.",
            stacklevel=2,
        )
        use_reentrant = True
    preserve = kwargs.pop("preserve_rng_state", True)
    if kwargs:
        raise ValueError("Unexpected keyword arguments: " + ",".join(kwargs))
    steps = list(functions.children()) if isinstance(functions, Sequential) else list(functions)

    def run(start: int, stop: int) -> Callable[[Any], Any]:
        def forward(value: Any) -> Any:
            for step in steps[start:stop]:
                value = step(value)
            return value

        return forward

    size, stop = len(steps) // segments, 0
    for start in range(0, size * (segments - 1), size):
        stop = start + size
        input = checkpoint(run(start, stop), input, use_reentrant=use_reentrant, preserve_rng_state=preserve)
    return run(stop, len(steps))(input)


__all__ = [
    "CheckpointError",
    "CheckpointFunction",
    "DefaultDeviceType",
    "check_backward_validity",
    "checkpoint",
    "checkpoint_sequential",
    "detach_variable",
    "get_device_states",
    "noop_context_fn",
    "set_checkpoint_debug_enabled",
    "set_checkpoint_early_stop",
    "set_device_states",
]  # fmt: skip
