"""Where a transform like `grad` begins: stand-ins for its inputs, and what its results keep of their history.

There is one tape. `grad(f)(x)` calls `f` with a leaf of its own over the memory of `x`, whose node (`LevelInput`)
passes gradients on to the history of `x`, if that has one. So an inner derivative can be differentiated by an outer one,
and what the outer one does not see is dropped where the transform ends (`Level.result`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from ..autograd.grad_mode import set_grad_enabled
from ..ir.builder import OpBuilder
from ..state import local
from ..tape import Edge, Node, gradient_edge
from ..tensor import Storage, Tensor, new_storage_epoch
from .batched import lifted, lower_history

_CAPTURED = (
    "During a grad (vjp, jvp, grad, etc) transform, the function provided attempted to call in-place operation "
    "({name}) that would mutate a captured Tensor. This is not supported; please rewrite the function being "
    "transformed to explicitly accept the mutated Tensor(s) as inputs."
)


class LevelInput(Node):
    """Behind a transform's input; its edge is the history of the tensor that the input stands for."""

    __slots__ = ("level",)

    def __init__(self, tensor: Tensor, outer: Edge | None, level: Level):
        super().__init__((outer,), (tensor._type,))
        self.level = level

    def run(self, F: OpBuilder, grads: Sequence[Any], needs: tuple[bool, ...]) -> Sequence[Any]:
        return grads


class Level:
    """One use of a transform. `tracked`: whether grad mode is on around it, so that its results have a history."""

    def __init__(self) -> None:
        self.tracked = local.grad_enabled
        self.epoch = new_storage_epoch()
        self.given: set[Storage] = set()

    def input(self, tensor: Tensor) -> Tensor:
        """A leaf that requires grad, in place of `tensor`."""
        leaf = lifted(tensor)
        node = LevelInput(leaf, gradient_edge(tensor) if self.tracked else None, self)
        leaf._requires_grad = True
        extra = leaf._autograd_extra()
        extra.accumulator = _Held(node)
        extra.hooks = node.hooks.tensor.setdefault(0, {})
        return leaf

    def call(self, func: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
        """`func` with recording on; it may not change a tensor in place that it was not given and did not make."""
        self.given.update(a._storage for a in args if isinstance(a, Tensor))
        before = local.write_checks
        local.write_checks = (*before, self.check_write)
        try:
            with set_grad_enabled(True):
                return func(*args, **kwargs)
        finally:
            local.write_checks = before

    def check_write(self, target: Tensor) -> None:
        """RuntimeError for a write to a tensor from outside the transformed function."""
        storage = target._storage
        if 0 <= storage.epoch < self.epoch and storage not in self.given:
            raise RuntimeError(_CAPTURED.format(name="aten::copy_"))

    def sees_outside(self, tensors: Iterable[Tensor]) -> bool:
        """Whether anything outside this level has a gradient through one of the tensors."""
        if not self.tracked:
            return False
        todo: list[Node] = []
        for tensor in tensors:
            if lower_history(tensor):
                return True
            edge = gradient_edge(tensor)
            if edge is not None:
                todo.append(edge.node)
        seen = set(todo)
        while todo:
            node = todo.pop()
            if isinstance(node, LevelInput):
                if node.level.epoch < self.epoch:
                    return True
            elif not node.edges:
                return True  # AccumulateGrad: a leaf from outside
            for edge in node.edges:
                if edge is not None and edge.node not in seen:
                    seen.add(edge.node)
                    todo.append(edge.node)
        return False

    def result(self, value: Any) -> Any:
        """What leaves the level: a tensor without its history where nothing outside is part of that."""
        if isinstance(value, Tensor) and value.requires_grad and not self.sees_outside((value,)):
            return value._alias()
        return value


class _Held:
    """Called like a weak reference, but keeps the node alive: nothing else does."""

    __slots__ = ("node",)

    def __init__(self, node: Node):
        self.node = node

    def __call__(self) -> Node:
        return self.node
