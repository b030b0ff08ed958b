"""A user's `autograd.Function` under vmap: by its own `vmap`, or sample by sample in form and all at once in fact.

With `generate_vmap_rule` the function's `forward` runs on the tensors that stand for single samples. The tape below then
gets one node for it, which runs the function's `backward` on such tensors too."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from ..autograd.function import Function
from ..dispatch import TENSORS, use_backend
from ..functional_shape import movedim
from ..ir.builder import OpBuilder
from ..state import local
from ..tape import Edge, Node, gradient_edge
from ..tensor import Tensor

if TYPE_CHECKING:
    from .batched import VmapBackend


class VmapInfo(NamedTuple):
    """What a `vmap` staticmethod is told."""

    batch_size: Any
    randomness: str


def call(backend: VmapBackend, cls: Any, args: Sequence[Any]) -> Any:
    """The function's results for one sample."""
    own = cls.vmap is not Function.vmap
    if cls.generate_vmap_rule and own:
        raise RuntimeError(
            f"You tried to vmap over {cls.__name__}, but it has both generate_vmap_rule=True and an overridden vmap "
            "staticmethod. Please set generate_vmap_rule=False or delete the overridden vmap staticmethod to avoid "
            "ambiguity. For more details, please see https://pytorch.org/docs/main/notes/extending.func.html"
        )
    if own:
        return _by_its_rule(backend, cls, args)
    if not cls.generate_vmap_rule:
        raise RuntimeError(
            f"You tried to vmap over {cls.__name__}, but it does not have vmap support. Please override and implement "
            "the vmap staticmethod or set generate_vmap_rule=True. For more details, please see "
            "https://pytorch.org/docs/main/notes/extending.func.html"
        )
    return _generated(backend, cls, args)


def _by_its_rule(backend: VmapBackend, cls: Any, args: Sequence[Any]) -> Any:
    held = [backend.held(a) if isinstance(a, Tensor) else None for a in args]
    lower = [a if h is None else h.lower for a, h in zip(args, held)]
    dims = tuple(0 if h is not None and h.batched else None for h in held)
    with use_backend(backend.below):
        outputs, out_dims = cls.vmap(VmapInfo(backend.size, backend.randomness), dims, *lower)
        single = not isinstance(outputs, tuple)
        if single:
            outputs, out_dims = (outputs,), (out_dims,)
        elif not isinstance(out_dims, tuple):
            out_dims = (out_dims,) * len(outputs)
        front = [
            o if d is None or not isinstance(o, Tensor) else movedim(o, d, 0)
            for o, d in zip(outputs, out_dims)
        ]
    made = tuple(
        backend.wrap(o, d is not None) if isinstance(o, Tensor) else o for o, d in zip(front, out_dims)
    )
    return made[0] if single else made


class _Context:
    """The `ctx` of one call under vmap: what `setup_context` keeps, and `backward` reads."""

    needs_input_grad: tuple[bool, ...] = ()
    saved_tensors: tuple[Any, ...] = ()

    def save_for_backward(self, *tensors: Any) -> None:
        self.saved_tensors = tensors

    save_for_forward = mark_dirty = mark_non_differentiable = save_for_backward

    def set_materialize_grads(self, value: bool) -> None:
        self.materialize = value


class GeneratedNode(Node):
    """On the tape below: the function's `backward`, run on single samples."""

    __slots__ = ("backend", "cls", "ctx", "inputs")

    def __init__(
        self,
        backend: VmapBackend,
        cls: Any,
        ctx: _Context,
        inputs: Sequence[tuple[int, Tensor]],
        outputs: Sequence[Tensor],
    ):
        edges: tuple[Edge | None, ...] = tuple(gradient_edge(t) for _, t in inputs)
        super().__init__(edges, tuple(o._type for o in outputs))
        self.backend = backend
        self.cls = cls
        self.ctx = ctx
        self.inputs = [(i, tuple(t.shape)) for i, t in inputs]

    def name(self) -> str:
        return f"Vmapped{self.cls.__name__}Backward"

    def run(self, F: OpBuilder, grads: Sequence[Any], needs: tuple[bool, ...]) -> Sequence[Any]:
        filled = [
            TENSORS.full(shape=t.shape, value=0, dtype=t.dtype) if g is None else g
            for g, t in zip(grads, self.result_types)
        ]
        backend = self.backend
        with use_backend(backend):
            found = self.cls.backward(self.ctx, *(backend.wrap(g, True) for g in filled))
        results = found if isinstance(found, tuple) else (found,)
        return [
            None if not need or results[i] is None else self._whole(results[i], shape)
            for need, (i, shape) in zip(needs, self.inputs)
        ]

    def _whole(self, grad: Tensor, shape: tuple[Any, ...]) -> Tensor:
        """The gradient below: with the batch, or summed over it where the argument has none."""
        held = self.backend.held(grad)
        lower = grad if held is None else held.lower
        if held is None or not held.batched:
            lower = TENSORS.expand(lower, shape=(self.backend.size, *lower.shape))
        if len(shape) < lower.ndim:
            lower = TENSORS.sum(lower, dims=(0,))
        found: Tensor = TENSORS.sum_to(lower, shape)
        return found


def _generated(backend: VmapBackend, cls: Any, args: Sequence[Any]) -> Any:
    recording = local.grad_enabled
    ctx = _Context()
    local.grad_enabled = False
    try:
        found = cls.forward(*args)
        cls.setup_context(ctx, args, found)
    finally:
        local.grad_enabled = recording
    outputs = found if isinstance(found, tuple) else (found,)
    held = [backend.held(a) if isinstance(a, Tensor) else None for a in args]
    inputs = [
        (i, a if h is None else h.lower) for i, (a, h) in enumerate(zip(args, held)) if isinstance(a, Tensor)
    ]
    if not recording or not any(t.requires_grad for _, t in inputs):
        return found
    lower = [backend.whole(o) for o in outputs]
    node = GeneratedNode(backend, cls, ctx, inputs, lower)
    made = []
    for number, tensor in enumerate(lower):
        alias = tensor._alias()
        alias._grad_fn, alias._output_nr, alias._requires_grad = node, number, True
        made.append(backend.wrap(alias, True))
    return tuple(made) if isinstance(found, tuple) else made[0]
