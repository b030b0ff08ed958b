"""What `torch.autograd.functional` does where a result does not depend on an input: zeros, or an error if `strict`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from ..creation import zeros_like
from ..tensor import Tensor

_NOT_STRICT = "This is not allowed in strict mode"


class Stage(NamedTuple):
    """A step of the computation: the errors for a gradient that is not there, and for one without a graph."""

    absent: str
    constant: str


_JACOBIAN = "The jacobian of the user-provided function is independent of input {i}."
_HESSIAN = "The hessian of the user-provided function is independent of input {i}."
BACK = Stage(
    f"The output of the user-provided function is independent of input {{i}}. {_NOT_STRICT}.",
    f"{_JACOBIAN} {_NOT_STRICT} when create_graph=True.",
)
BACK_TRICK = Stage(
    "The gradient with respect to the input is independent of entry {i} in the grad_outputs when using the double "
    f"backward trick to compute forward mode gradients. {_NOT_STRICT}.",
    BACK.constant,
)
DOUBLE_BACK = Stage(f"{_JACOBIAN} {_NOT_STRICT}.", f"{_HESSIAN} {_NOT_STRICT} when create_graph=True.")
DOUBLE_BACK_TRICK = Stage(
    "The hessian of the user-provided function is independent of entry {i} in the grad_jacobian. "
    f"{_NOT_STRICT} as it prevents from using the double backward trick to replace forward mode AD.",
    DOUBLE_BACK.constant,
)

_WITHOUT_GRAPH = {
    "outputs": "Output {i} of the user-provided function does not require gradients. The outputs must be computed in a "
    "differentiable manner from the input when running in strict mode.",
    "grad_inputs": "The gradient with respect to input {i} is independent of the inputs of the user-provided function. "
    f"{_NOT_STRICT}.",
    "jacobian": "While computing the hessian, found that the jacobian of the user-provided function with respect to "
    f"input {{i}} is independent of the input. {_NOT_STRICT}. You should ensure that your function is twice "
    "differentiable and that the jacobian depends on the inputs (this would be violated by a linear function for "
    "example).",
    "hessian": "The hessian of the user-provided function with respect to input {i} is independent of the input. "
    f"{_NOT_STRICT}. You should ensure that your function is thrice differentiable and that the hessian depends on the "
    "inputs.",
}


def check_requires_grad(values: Sequence[Any], what: str, strict: bool) -> None:
    """In strict mode RuntimeError for a value that is absent or constant. `what`: outputs, grad_inputs, jacobian,
    hessian."""
    if not strict:
        return
    for i, value in enumerate(values):
        if value is None:
            raise RuntimeError(
                f"The output of the user-provided function is independent of input {i}. {_NOT_STRICT}."
            )
        if not value.requires_grad:
            raise RuntimeError(_WITHOUT_GRAPH[what].format(i=i))


def filled(
    grads: Sequence[Tensor | None], like: Sequence[Tensor], strict: bool, create_graph: bool, stage: Stage
) -> tuple[Tensor, ...]:
    """The gradients with zeros in place of absent ones."""
    found = []
    for i, (grad, tensor) in enumerate(zip(grads, like)):
        if strict and grad is None:
            raise RuntimeError(stage.absent.format(i=i))
        if strict and create_graph and grad is not None and not grad.requires_grad:
            raise RuntimeError(stage.constant.format(i=i))
        found.append(zeros_like(tensor) if grad is None else grad)
    return tuple(found)
