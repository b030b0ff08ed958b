"""`backward` and `grad`: what starts a walk over the tape."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .. import dispatch
from ..size import Size
from ..tape import Edge, gradient_edge
from ..tensor import Tensor
from . import engine

_FULL = dispatch.op_named("full")


def _sequence(value: Any, what: str) -> tuple[Any, ...]:
    if isinstance(value, Tensor):
        return (value,)
    if isinstance(value, Sequence):
        return tuple(value)
    raise TypeError(f"{what} must be a Tensor or a sequence of Tensors, got {type(value).__name__}")


def _roots(outputs: tuple[Any, ...], grads: tuple[Any, ...], create_graph: bool) -> list[tuple[Edge, Tensor]]:
    """The outputs' edges, each with the gradient to start from."""
    if len(grads) != len(outputs):
        raise RuntimeError(f"got {len(outputs)} tensors and {len(grads)} gradients")
    roots = []
    for number, (output, grad) in enumerate(zip(outputs, grads)):
        given = _start(output, grad, number)
        edge = gradient_edge(output) if isinstance(output, Tensor) else None
        if edge is None:
            raise RuntimeError(
                f"element {number} of tensors does not require grad and does not have a grad_fn"
            )
        assert given is not None
        roots.append((edge, given))
    return roots


def _start(output: Tensor, grad: Any, number: int) -> Tensor | None:
    if isinstance(grad, Tensor):
        if tuple(grad.shape) != tuple(output.shape):
            raise RuntimeError(
                f"Mismatch in shape: grad_output[{number}] has a shape of {Size(grad.shape)} and output[{number}] "
                f"has a shape of {Size(output.shape)}."
            )
        return grad if grad.dtype is output.dtype else grad.to(output.dtype)
    if grad is not None:
        raise TypeError(f"gradients can be either Tensors or None, but got {type(grad).__name__}")
    if not output.requires_grad:
        return None
    if output._type.numel != 1:
        raise RuntimeError("grad can be implicitly created only for scalar outputs")
    one: Tensor = dispatch.apply(_FULL, (), {"shape": tuple(output.shape), "value": 1, "dtype": output.dtype})
    return one


def backward(
    tensors: Any,
    grad_tensors: Any = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    grad_variables: Any = None,
    inputs: Any = None,
) -> None:
    """Accumulate the gradients of `tensors` into the `.grad` of the graph's leaves (or of `inputs` only).

    `grad_tensors` are the gradients with respect to each of `tensors`, optional for tensors of one element.
    """
    outputs = _sequence(tensors, "tensors")
    given = grad_tensors if grad_tensors is not None else grad_variables
    grads = (None,) * len(outputs) if given is None else _sequence(given, "grad_tensors")
    captures = None
    if inputs is not None:
        wanted = _sequence(inputs, "inputs")
        if not wanted:
            raise RuntimeError("`inputs` argument to `backward()` cannot be empty.")
        captures = []
        for tensor in wanted:
            if not tensor.requires_grad:
                raise RuntimeError("One of the differentiated Tensors does not require grad")
            if not tensor.is_leaf:
                tensor.retain_grad()
            edge = gradient_edge(tensor)
            assert edge is not None
            captures.append(edge)
    keep = create_graph if retain_graph is None else retain_graph
    engine.run(_roots(outputs, grads, create_graph), keep, create_graph, captures, accumulate=True)


def grad(
    outputs: Any,
    inputs: Any,
    grad_outputs: Any = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    only_inputs: bool = True,
    allow_unused: bool | None = None,
    is_grads_batched: bool = False,
    materialize_grads: bool = False,
) -> tuple[Tensor | None, ...]:
    """The gradients of `outputs` with respect to `inputs`, without touching any `.grad`."""
    if is_grads_batched:
        raise NotImplementedError(
            "torch.autograd.grad: is_grads_batched is not supported; call grad for each row"
        )
    if materialize_grads and allow_unused is False:
        raise ValueError(
            "Expected allow_unused to be True or not passed when materialize_grads=True, but got: "
            "allow_unused=False."
        )
    found_outputs, wanted = _sequence(outputs, "outputs"), _sequence(inputs, "inputs")
    grads = (None,) * len(found_outputs) if grad_outputs is None else _sequence(grad_outputs, "grad_outputs")
    roots = _roots(found_outputs, grads, create_graph)
    captures = []
    for tensor in wanted:
        edge = gradient_edge(tensor)
        if edge is None:
            raise RuntimeError("One of the differentiated Tensors does not require grad")
        captures.append(edge)
    keep = create_graph if retain_graph is None else retain_graph
    found = engine.run(roots, keep, create_graph, captures, accumulate=False)
    for number, (gradient, tensor) in enumerate(zip(found, wanted)):
        if gradient is None:
            if materialize_grads:
                found[number] = dispatch.TENSORS.zeros_like(tensor)
            elif not allow_unused:
                raise RuntimeError(
                    f"The differentiated Tensor at index {number} appears to not have been used in the graph. Set "
                    "allow_unused=True if this is the desired behavior."
                )
    return tuple(found)
