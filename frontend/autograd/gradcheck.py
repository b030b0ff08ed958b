"""Gradients compared with finite differences."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..creation import from_numpy
from ..tensor import Tensor
from . import api

Array = np.ndarray[Any, Any]


class GradcheckError(RuntimeError):
    """A gradient that differs from the finite difference."""


def _outputs(found: Any) -> tuple[Tensor, ...]:
    tensors = found if isinstance(found, tuple | list) else (found,)
    return tuple(t for t in tensors if isinstance(t, Tensor) and t.requires_grad)


def _reals(array: Array) -> Array:
    """The elements in a row; of complex ones both parts, one after the other."""
    flat = np.ascontiguousarray(array).reshape(-1)
    return flat.view(flat.real.dtype) if flat.dtype.kind == "c" else flat


def _directions(dtype: np.dtype[Any]) -> tuple[complex, ...]:
    """What an element is moved by: 1, and i if it is complex."""
    return (1, 1j) if dtype.kind == "c" else (1,)


def _differences(function: Callable[[], tuple[Tensor, ...]], leaf: Tensor, eps: float) -> list[Array]:
    """For each output the matrix d output[j] / d leaf[i] of real numbers (complex ones count as two), by central
    differences in the leaf's own memory."""
    memory = leaf.detach().numpy()
    columns: list[list[Array]] = []
    for index in np.ndindex(memory.shape):
        saved = memory[index]
        for direction in _directions(memory.dtype):
            memory[index] = saved + eps * direction
            above = [_reals(o.detach().numpy()).copy() for o in function()]
            memory[index] = saved - eps * direction
            below = [_reals(o.detach().numpy()).copy() for o in function()]
            memory[index] = saved
            columns.append([(a - b) / (2 * eps) for a, b in zip(above, below)])
    count = len(columns[0]) if columns else 0
    return [np.stack([column[k] for column in columns]) for k in range(count)]


def _gradients(output: Tensor, leaf: Tensor) -> Array:
    """The same matrix from the tape, one row of the cotangent at a time. The gradient of the real part of f is that for
    the cotangent 1, of the imaginary part that for i (both as dL/dRe + i dL/dIm)."""
    columns = []
    dtype = output.detach().numpy().dtype
    leaf_count = int(leaf.numel()) * len(_directions(leaf.detach().numpy().dtype))
    for j in range(int(output.numel())):
        for direction in _directions(dtype):
            cotangent = np.zeros(output.numel(), dtype)
            cotangent[j] = direction
            start = from_numpy(cotangent.reshape(tuple(output.shape)))
            (grad,) = api.grad(output, leaf, start, retain_graph=True, allow_unused=True)
            columns.append(np.zeros(leaf_count) if grad is None else _reals(grad.detach().numpy()))
    return np.stack(columns, 1) if columns else np.zeros((leaf_count, 0))


def gradcheck(
    func: Callable[..., Any],
    inputs: Tensor | Sequence[Any],
    *,
    eps: float = 1e-06,
    atol: float = 1e-05,
    rtol: float = 0.001,
    raise_exception: bool = True,
) -> bool:
    """Whether the gradients of `func` with respect to the float64 and complex128 inputs that require grad are right.

    Raises GradcheckError with both matrices where they are not, or returns False.
    """
    arguments = (inputs,) if isinstance(inputs, Tensor) else tuple(inputs)
    leaves = [a for a in arguments if isinstance(a, Tensor) and a.requires_grad]
    if not leaves:
        raise ValueError(
            "gradcheck expects at least one input tensor to require gradient, but none of them do."
        )

    def function() -> tuple[Tensor, ...]:
        return _outputs(func(*arguments))

    outputs = function()
    for number, leaf in enumerate(leaves):
        differences = _differences(function, leaf, eps)
        for k, output in enumerate(outputs):
            found = _gradients(output, leaf)
            if not np.allclose(found, differences[k], rtol, atol):
                if not raise_exception:
                    return False
                raise GradcheckError(
                    f"Jacobian mismatch for output {k} with respect to input {number},\n"
                    f"numerical:{differences[k]}\nanalytical:{found}\n"
                )
    return True


def gradgradcheck(
    func: Callable[..., Any],
    inputs: Tensor | Sequence[Any],
    grad_outputs: Sequence[Tensor] | None = None,
    *,
    eps: float = 1e-06,
    atol: float = 1e-05,
    rtol: float = 0.001,
    raise_exception: bool = True,
) -> bool:
    """`gradcheck` of the gradients: whether second derivatives are right."""
    arguments = (inputs,) if isinstance(inputs, Tensor) else tuple(inputs)
    outputs = _outputs(func(*arguments))
    if grad_outputs is None:
        rng = np.random.RandomState(0)

        def drawn(output: Tensor) -> Tensor:
            values = rng.standard_normal(tuple(output.shape))
            if output.dtype.is_complex:
                values = values + 1j * rng.standard_normal(tuple(output.shape))
            return from_numpy(np.asarray(values)).requires_grad_()

        starts = tuple(map(drawn, outputs))
    else:
        starts = tuple(grad_outputs)
    positions = [i for i, a in enumerate(arguments) if isinstance(a, Tensor) and a.requires_grad]

    def gradients(*given: Any) -> Any:
        called, cotangents = given[: len(arguments)], given[len(arguments) :]
        leaves = [called[i] for i in positions]
        return api.grad(_outputs(func(*called)), leaves, cotangents, create_graph=True, allow_unused=True)

    checked = (*arguments, *starts)
    return gradcheck(gradients, checked, eps=eps, atol=atol, rtol=rtol, raise_exception=raise_exception)
