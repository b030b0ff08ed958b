"""Full backward hooks: nodes on the tape at a module's inputs and outputs, where its gradients can be seen
and changed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ...autograd.grad_mode import is_grad_enabled
from ...ir.builder import OpBuilder
from ...tape import Node, gradient_edge
from ...tensor import Tensor
from ...user_warnings import warn_user

if TYPE_CHECKING:
    from .module import Module


class BackwardHookFunctionBackward(Node):
    """Passes several gradients on, zeros for absent ones; its hooks are what it is there for."""

    __slots__ = ()

    def run(self, F: OpBuilder, grads: Sequence[Any], needs: tuple[bool, ...]) -> Sequence[Any]:
        return [
            F.full(shape=type_.shape, value=0, dtype=type_.dtype) if grad is None else grad
            for grad, type_ in zip(grads, self.result_types)
        ]


def _through_node(values: tuple[Any, ...]) -> tuple[tuple[Any, ...], list[int], Node | None]:
    """The values with the tensors among them behind one node, the tensors' positions, and the node (None if
    no gradient will flow)."""
    positions = [i for i, value in enumerate(values) if isinstance(value, Tensor)]
    tensors = [values[i] for i in positions]
    if not is_grad_enabled() or not any(t.requires_grad for t in tensors):
        return values, positions, None
    node = BackwardHookFunctionBackward(tuple(map(gradient_edge, tensors)), tuple(t._type for t in tensors))
    wrapped = list(values)
    for number, (position, tensor) in enumerate(zip(positions, tensors)):
        if tensor.requires_grad:
            alias = tensor._alias()
            alias._grad_fn, alias._output_nr, alias._requires_grad = node, number, True
            wrapped[position] = alias
    return tuple(wrapped), positions, node


def _spread(positions: Sequence[int], grads: Sequence[Any], count: int) -> tuple[Any, ...]:
    """`grads` at their positions among `count` arguments, None elsewhere."""
    full: list[Any] = [None] * count
    for position, grad in zip(positions, grads):
        full[position] = grad
    return tuple(full)


class BackwardBoundary:
    """One call of a module that has full backward hooks.

    When the gradients of the outputs arrive the pre-hooks run; when those of the inputs are complete the
    hooks run.
    """

    def __init__(self, module: Module, hooks: list[Callable[..., Any]], pre_hooks: list[Callable[..., Any]]):
        self.module = module
        self.hooks = hooks
        self.pre_hooks = pre_hooks
        self.grad_outputs: tuple[Any, ...] | None = None
        self.inputs_have_grad = False
        self.input_count = 0

    def enter(self, args: tuple[Any, ...]) -> tuple[Any, ...]:
        args, positions, node = _through_node(args)
        self.input_count = len(args)
        if node is None:
            return args
        self.inputs_have_grad = True

        def at_inputs(grad_inputs: Sequence[Any], _: Any) -> Any:
            if self.grad_outputs is None:
                return None  # the gradient came by another way than the module's outputs
            grads = _spread(positions, grad_inputs, self.input_count)
            for hook in self.hooks:
                changed = hook(self.module, grads, self.grad_outputs)
                if changed is None:
                    continue
                changed = changed if isinstance(changed, tuple) else (changed,)
                if len(changed) != len(grads):
                    raise RuntimeError(
                        f"Backward hook returned an invalid number of grad_input, got {len(changed)}, but "
                        f"expected {len(grads)}"
                    )
                grads = changed
            self.grad_outputs = None
            return tuple(grads[i] for i in positions)

        node.register_hook(at_inputs)
        return args

    def leave(self, result: Any) -> Any:
        outputs = result if isinstance(result, tuple) else (result,)
        wrapped, positions, node = _through_node(outputs)
        if node is None:
            return result

        def at_outputs(_: Any, grad_outputs: Sequence[Any]) -> Any:
            grads = _spread(positions, grad_outputs, len(outputs))
            for hook in self.pre_hooks:
                changed = hook(self.module, grads)
                if changed is None:
                    continue
                changed = changed if isinstance(changed, tuple) else (changed,)
                if len(changed) != len(grads):
                    raise RuntimeError(
                        f"Backward pre hook returned an invalid number of grad_output, got {len(changed)}, "
                        f"but expected {len(grads)}"
                    )
                grads = changed
            self.grad_outputs = grads
            if not self.inputs_have_grad:
                self._without_inputs()
            return tuple(grads[i] for i in positions)

        node.register_hook(at_outputs)
        return wrapped if isinstance(result, tuple) else wrapped[0]

    def _without_inputs(self) -> None:
        """No input requires a gradient: the hooks run as soon as those of the outputs are there."""
        warn_user(
            "Full backward hook is firing when gradients are computed with respect to module outputs since "
            "no inputs require gradients. See https://docs.pytorch.org/docs/main/generated/torch.nn.Module.html"
            "#torch.nn.Module.register_full_backward_hook for more details."
        )
        nothing = (None,) * self.input_count
        for hook in self.hooks:
            changed = hook(self.module, nothing, self.grad_outputs)
            if changed is not None and not (isinstance(changed, tuple) and all(g is None for g in changed)):
                raise RuntimeError(
                    "Backward hook for Modules where no input requires gradient should always return None or "
                    "None for all gradients."
                )
        self.grad_outputs = None
