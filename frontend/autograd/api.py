"""`backward` and `grad`: what starts a walk over the tape."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

from .. import dispatch
from ..dispatch import TENSORS
from ..placement import gpu_under, on_gpu
from ..size import Size
from ..tape import Edge, gradient_edge
from ..tensor import Tensor, new_storages_float
from . import engine
from .graph import GradientEdge

_FULL = dispatch.op_named("full")


def _sequence(value: Any, what: str) -> tuple[Any, ...]:
    if isinstance(value, Tensor | GradientEdge):
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
        if isinstance(output, GradientEdge):
            if not isinstance(grad, Tensor):
                raise RuntimeError("grad_outputs must be given for an output that is a GradientEdge")
            roots.append((Edge(output.node, output.output_nr), grad))
            continue
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
    if output.dtype.is_complex:
        raise RuntimeError(
            f"grad can be implicitly created only for real scalar outputs but got {output.dtype!r}"
        )
    attrs = {"shape": tuple(output.shape), "value": 1, "dtype": output.dtype}
    if not new_storages_float[0]:
        return dispatch.apply(_FULL, (), attrs)
    with on_gpu(gpu_under(output)):
        return dispatch.apply(_FULL, (), attrs)


def loaded(name: str) -> Any:
    """A module that stands above this one, and is imported when it is first needed."""
    return importlib.import_module(name, __package__)


def _input_edge(given: Tensor | GradientEdge) -> Edge | None:
    return Edge(given.node, given.output_nr) if isinstance(given, GradientEdge) else gradient_edge(given)


def _batched_grads(
    outputs: tuple[Any, ...], inputs: tuple[Any, ...], grads: tuple[Any, ...], options: tuple[Any, ...]
) -> tuple[Tensor | None, ...]:
    """`grad` for each row of the `grads`, all rows at once under vmap."""
    if any(g is None for g in grads):
        raise RuntimeError("grad_outputs must be given, one row per gradient, when is_grads_batched=True")
    for number, (output, given) in enumerate(zip(outputs, grads)):
        if isinstance(output, Tensor) and tuple(given.shape)[1:] != tuple(output.shape):
            raise RuntimeError(
                "If `is_grads_batched=True`, we interpret the first dimension of each grad_output as the batch "
                "dimension. The sizes of the remaining dimensions are expected to match the shape of corresponding "
                f"output, but a mismatch was detected: grad_output[{number}] has a shape of {Size(given.shape)} and "
                f"output[{number}] has a shape of {Size(output.shape)}. If you only want some tensors in "
                "`grad_output` to be considered batched, consider using vmap."
            )
    run = loaded("..func.vmap_api").run

    def rows(*each: Tensor) -> tuple[Tensor | None, ...]:
        retain_graph, create_graph, only_inputs, allow_unused = options
        return grad(outputs, inputs, each, retain_graph, create_graph, only_inputs, allow_unused)

    leaves, structure = list(grads), loaded("..func.trees").flatten(grads)[1]
    found: tuple[Tensor | None, ...] = run(
        rows, grads[0].shape[0], [0] * len(leaves), leaves, structure, 0, "error", {}, none_passes=True
    )
    return found


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
            if isinstance(tensor, Tensor):
                if not tensor.requires_grad:
                    raise RuntimeError("One of the differentiated Tensors does not require grad")
                if not tensor.is_leaf:
                    tensor.retain_grad()
            edge = _input_edge(tensor)
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
    if materialize_grads and allow_unused is False:
        raise ValueError(
            "Expected allow_unused to be True or not passed when materialize_grads=True, but got: "
            "allow_unused=False."
        )
    found_outputs, wanted = _sequence(outputs, "outputs"), _sequence(inputs, "inputs")
    grads = (None,) * len(found_outputs) if grad_outputs is None else _sequence(grad_outputs, "grad_outputs")
    if is_grads_batched:
        options = (retain_graph, create_graph, only_inputs, True if materialize_grads else allow_unused)
        found_grads: tuple[Tensor | None, ...] = _batched_grads(found_outputs, wanted, grads, options)
        if materialize_grads:
            return tuple(TENSORS.zeros_like(t) if g is None else g for g, t in zip(found_grads, wanted))
        return found_grads
    roots = _roots(found_outputs, grads, create_graph)
    captures = []
    for tensor in wanted:
        edge = _input_edge(tensor)
        if edge is None:
            raise RuntimeError("One of the differentiated Tensors does not require grad")
        captures.append(edge)
    keep = create_graph if retain_graph is None else retain_graph
    found = engine.run(roots, keep, create_graph, captures, accumulate=False)
    for number, (gradient, tensor) in enumerate(zip(found, wanted)):
        if gradient is None:
            if materialize_grads:
                found[number] = TENSORS.zeros_like(tensor)
            elif not allow_unused:
                raise RuntimeError(
                    f"The differentiated Tensor at index {number} appears to not have been used in the graph. Set "
                    "allow_unused=True if this is the desired behavior."
                )
    return tuple(found)
