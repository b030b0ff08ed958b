"""`torch.autograd.graph`: the tape itself: its nodes and edges, what they save, hooks on several tensors at once."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Literal, NamedTuple

from ..hooks import RemovableHandle
from ..state import local
from ..tape import Edge, Node, gradient_edge
from ..tensor import Storage, Tensor


class GradientEdge(NamedTuple):
    """Where a tensor's gradient flows: takes the tensor's place in `autograd.grad` and `backward`."""

    node: Node
    output_nr: int
    ownership_token: Node | None = None


def get_gradient_edge(tensor: Tensor) -> GradientEdge:
    """The edge that the tensor's gradient arrives at."""
    if not tensor.requires_grad:
        raise RuntimeError(
            "It is not possible to get the gradient edge for a Tensor that does not require gradients"
        )
    edge = _edge(tensor)
    return GradientEdge(edge.node, edge.output_nr)


def _edge(tensor: Tensor | GradientEdge) -> Edge:
    if isinstance(tensor, GradientEdge):
        return Edge(tensor.node, tensor.output_nr)
    found = gradient_edge(tensor)
    if found is None:
        raise AssertionError("Expected gradient function to be set")
    return found


def increment_version(tensor: Tensor | Iterable[Tensor]) -> None:
    """Count a change in place that autograd did not see."""
    for each in (tensor,) if isinstance(tensor, Tensor) else tensor:
        each._storage.version += 1


class saved_tensors_hooks:
    """While the block runs, the tape keeps `pack_hook(tensor)` of what it saves, and reads it with `unpack_hook`."""

    def __init__(self, pack_hook: Callable[[Tensor], Any], unpack_hook: Callable[[Any], Tensor]):
        self.pack_hook = pack_hook
        self.unpack_hook = unpack_hook

    def __enter__(self) -> None:
        if local.saved_hooks_refused is not None:
            raise RuntimeError(local.saved_hooks_refused)
        local.saved_hooks = (*local.saved_hooks, (self.pack_hook, self.unpack_hook))

    def __exit__(self, *_: object) -> None:
        local.saved_hooks = local.saved_hooks[:-1]


class save_on_cpu(saved_tensors_hooks):
    """What the tape saves is copied to main memory. Tensors are there already; the copies are made all the same, so that
    later changes in place do not reach what was saved."""

    def __init__(self, pin_memory: bool = False, device_type: str = "cuda"):
        def pack(tensor: Tensor) -> tuple[Any, Tensor]:
            return tensor.device, tensor.cpu()

        def unpack(packed: tuple[Any, Tensor]) -> Tensor:
            device, tensor = packed
            moved: Tensor = tensor.to(device)
            return moved

        super().__init__(pack, unpack)


@contextmanager
def disable_saved_tensors_hooks(error_message: str) -> Iterator[None]:
    """RuntimeError with this message for hooks on saved tensors, inside the block."""
    before = local.saved_hooks_refused
    if local.saved_hooks:
        raise RuntimeError(error_message)
    local.saved_hooks_refused = error_message
    try:
        yield
    finally:
        local.saved_hooks_refused = before


class _MultiHandle(RemovableHandle):
    """The handle of a hook on several tensors."""

    def __init__(self, handles: Sequence[RemovableHandle]):
        self.handles = tuple(handles)

    def remove(self) -> None:
        for handle in self.handles:
            handle.remove()


def register_multi_grad_hook(
    tensors: Sequence[Tensor], fn: Callable[[Any], None], *, mode: Literal["all", "any"] = "all"
) -> RemovableHandle:
    """`fn(grads)` once all of the tensors' gradients are known (None for those that a backward does not come by), or
    with `mode="any"` `fn(grad)` for the first one."""
    if mode not in ("all", "any"):
        raise ValueError(f"Expects mode to be one of ('all', 'any') but got {mode}")
    if mode == "any":
        return _any_hook(tensors, fn)
    nodes = [_edge(t).node for t in tensors]
    found: weakref.WeakKeyDictionary[Any, list[Any]] = weakref.WeakKeyDictionary()

    def inner(number: int) -> Callable[[Tensor], None]:
        def hook(grad: Tensor) -> None:
            walk = local.walks[-1]
            grads = found.setdefault(walk, [None] * (len(tensors) + 1))
            grads[number] = grad
            grads[-1] = (grads[-1] or 0) + 1
            if grads[-1] == sum(map(walk.will_run, nodes)):
                fn(grads[:-1])
                del found[walk]

        return hook

    return _MultiHandle([t.register_hook(inner(i)) for i, t in enumerate(tensors)])


def _any_hook(tensors: Sequence[Tensor], fn: Callable[[Tensor], None]) -> RemovableHandle:
    called: weakref.WeakSet[Any] = weakref.WeakSet()

    def hook(grad: Tensor) -> None:
        walk = local.walks[-1]
        if walk not in called:
            called.add(walk)
            fn(grad)

    return _MultiHandle([t.register_hook(hook) for t in tensors if t.requires_grad])


class _Saved:
    """What the tape saved inside `allow_mutation_on_saved_tensors`: the tensor, or a copy from before it changed."""

    __slots__ = ("__weakref__", "tensor")

    def __init__(self, tensor: Tensor):
        self.tensor: Tensor | None = tensor


class _MutationContext:
    """What an `allow_mutation_on_saved_tensors` block has saved, by storage."""

    def __init__(self) -> None:
        self.saved: weakref.WeakKeyDictionary[Storage, weakref.WeakSet[_Saved]] = weakref.WeakKeyDictionary()
        self.cloned: weakref.WeakSet[_Saved] = weakref.WeakSet()
        self.active = True

    def pack(self, tensor: Tensor) -> _Saved:
        saved = _Saved(tensor._alias())
        self.saved.setdefault(tensor._storage, weakref.WeakSet()).add(saved)
        return saved

    def unpack(self, saved: _Saved) -> Tensor:
        if not self.active or saved.tensor is None:
            raise AssertionError(
                "Trying to backward outside of the 'allow_mutation_on_saved_tensors' context"
                "in which the graph was originally recorded."
            )
        return saved.tensor

    def before_write(self, target: Tensor) -> None:
        """Copy what was saved of the memory that is about to change."""
        for saved in self.saved.pop(target._storage, ()):
            assert saved.tensor is not None
            before, local.grad_enabled = local.grad_enabled, False
            try:
                saved.tensor = saved.tensor.clone()
            finally:
                local.grad_enabled = before
            self.cloned.add(saved)

    def clear(self) -> None:
        self.active = False
        self.saved.clear()
        self.cloned.clear()


_mutation_allowed = [False]


@contextmanager
def allow_mutation_on_saved_tensors() -> Iterator[_MutationContext]:
    """Tensors that the tape saved may be changed in place inside the block, where backward must run too: what was saved
    is copied before the change."""
    if _mutation_allowed[0]:
        raise RuntimeError("allow_mutation_on_saved_tensors contexts cannot be nested")
    context = _MutationContext()
    checks = local.write_checks
    with saved_tensors_hooks(context.pack, context.unpack):
        _mutation_allowed[0] = True
        local.write_checks = (*checks, context.before_write)
        try:
            yield context
        finally:
            context.clear()
            local.write_checks = checks
            _mutation_allowed[0] = False


__all__ = [
    "GradientEdge", "Node", "allow_mutation_on_saved_tensors", "disable_saved_tensors_hooks",
    "get_gradient_edge", "increment_version", "register_multi_grad_hook", "save_on_cpu", "saved_tensors_hooks",
]  # fmt: skip
