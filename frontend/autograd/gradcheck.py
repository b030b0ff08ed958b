"""Gradients compared with finite differences."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..creation import from_numpy, zeros_like
from ..functional_shape import stack
from ..ir.dtypes import DType
from ..tensor import Tensor
from . import api

Array = np.ndarray[Any, Any]


class GradcheckError(RuntimeError):
    """A gradient that differs from the finite difference."""


def _outputs(found: Any) -> tuple[Tensor, ...]:
    tensors = found if isinstance(found, tuple | list) else (found,)
    return tuple(t for t in tensors if isinstance(t, Tensor) and t.requires_grad)


def _host(tensor: Tensor) -> Array:
    found: Array = tensor.detach().cpu().numpy()
    return found


def _reals(array: Array) -> Array:
    """The elements in a row; of complex ones both parts, one after the other."""
    flat = np.ascontiguousarray(array).reshape(-1)
    return flat.view(flat.real.dtype) if flat.dtype.kind == "c" else flat


def _directions(dtype: DType) -> tuple[complex, ...]:
    """What an element is moved by: 1, and i if it is complex."""
    return (1, 1j) if dtype.is_complex else (1,)


def _differences(function: Callable[[], tuple[Tensor, ...]], leaf: Tensor, eps: float) -> list[Array]:
    """For each output the matrix d output[j] / d leaf[i] of real numbers (complex ones count as two), by central
    differences in the leaf's own memory."""
    memory: Any = leaf.data if leaf.is_cuda else leaf.detach().numpy()  # what changes them counts no version
    columns: list[list[Array]] = []
    for index in np.ndindex(tuple(leaf.shape)):
        saved = memory[index].item()
        for direction in _directions(leaf.dtype):
            memory[index] = saved + eps * direction
            above = [_reals(_host(o)).copy() for o in function()]
            memory[index] = saved - eps * direction
            below = [_reals(_host(o)).copy() for o in function()]
            memory[index] = saved
            columns.append([(a - b) / (2 * eps) for a, b in zip(above, below)])
    count = len(columns[0]) if columns else 0
    return [np.stack([column[k] for column in columns]) for k in range(count)]


def _units(output: Tensor) -> list[Tensor]:
    """Cotangents with one element 1. The gradient of the real part of a complex element is that for the cotangent 1, of
    its imaginary part that for i (both as dL/dRe + i dL/dIm)."""
    units = []
    for at in range(int(output.numel())):
        for direction in _directions(output.dtype):
            cotangent = np.zeros(output.numel(), output.dtype.numpy)
            cotangent[at] = direction
            units.append(from_numpy(cotangent.reshape(tuple(output.shape))).to(output.device))
    return units


def _gradients(output: Tensor, leaf: Tensor, check_dtypes: bool) -> Array:
    """The same matrix from the tape, one row of the cotangent at a time."""
    columns = []
    count = int(leaf.numel()) * len(_directions(leaf.dtype))
    for unit in _units(output):
        (grad,) = api.grad(output, leaf, unit, retain_graph=True, allow_unused=True)
        if check_dtypes and grad is not None and grad.dtype is not leaf.dtype:
            raise GradcheckError("Gradient has dtype mismatch")
        columns.append(np.zeros(count) if grad is None else _reals(_host(grad)))
    return np.stack(columns, 1) if columns else np.zeros((count, 0))


def gradcheck(
    func: Callable[..., Any],
    inputs: Tensor | Sequence[Any],
    *,
    eps: float = 1e-06,
    atol: float = 1e-05,
    rtol: float = 0.001,
    raise_exception: bool = True,
    nondet_tol: float = 0.0,
    check_undefined_grad: bool = True,
    check_grad_dtypes: bool = False,
    check_batched_grad: bool = False,
    check_batched_forward_grad: bool = False,
    check_forward_ad: bool = False,
    check_backward_ad: bool = True,
    fast_mode: bool = False,
    masked: bool | None = None,
) -> bool:
    """Whether the gradients of `func` with respect to the float64 and complex128 inputs that require grad are right.

    Raises GradcheckError with both matrices where they are not, or returns False without `raise_exception`. The other
    checks: two backward passes agree to `nondet_tol`; a gradient of zeros gives zeros (`check_undefined_grad`); the
    gradients' dtypes; the same gradients under vmap (`check_batched_grad`) and forwards (`check_forward_ad`,
    `check_batched_forward_grad`). `fast_mode` compares whole matrices as well: it is not faster here.
    """
    if not (check_forward_ad or check_backward_ad):
        raise AssertionError("Expected at least one of check_forward_ad or check_backward_ad to be True")
    if check_batched_grad and not check_backward_ad:
        raise AssertionError("Setting check_batched_grad=True requires check_backward_ad to be True")
    if check_batched_forward_grad and not check_forward_ad:
        raise AssertionError("Setting check_batched_forward_grad=True requires check_forward_ad to be True")
    arguments = (inputs,) if isinstance(inputs, Tensor) else tuple(inputs)
    leaves = _leaves(arguments)

    def function() -> tuple[Tensor, ...]:
        return _outputs(func(*arguments))

    try:
        if check_backward_ad:
            outputs = function()
            for number, leaf in enumerate(leaves):
                _check_leaf(function, outputs, number, leaf, eps, atol, rtol, nondet_tol, check_grad_dtypes)
            if check_batched_grad:
                _check_batched(outputs, leaves)
            if outputs:
                _check_zero_cotangents(outputs, leaves, check_undefined_grad)
        if check_forward_ad:
            _check_forward(func, arguments, leaves, eps, atol, rtol, check_batched_forward_grad)
    except GradcheckError:
        if raise_exception:
            raise
        return False
    return True


def _leaves(arguments: Sequence[Any]) -> list[Tensor]:
    leaves = [a for a in arguments if isinstance(a, Tensor) and a.requires_grad]
    if not leaves:
        raise ValueError(
            "gradcheck expects at least one input tensor to require gradient, but none of them do."
        )
    for number, argument in enumerate(arguments):
        if isinstance(argument, Tensor) and argument.requires_grad and argument.dtype.itemsize < 8:
            warnings.warn(
                f"Input #{number} requires gradient and is not a double precision floating point or complex. This "
                "check will likely fail if all the inputs are not of double precision floating point or complex. ",
                stacklevel=3,
            )
    return leaves


def _check_leaf(
    function: Callable[[], tuple[Tensor, ...]],
    outputs: tuple[Tensor, ...],
    number: int,
    leaf: Tensor,
    eps: float,
    atol: float,
    rtol: float,
    nondet_tol: float,
    check_dtypes: bool,
) -> None:
    differences = _differences(function, leaf, eps)
    for k, output in enumerate(outputs):
        found = _gradients(output, leaf, check_dtypes)
        again = _gradients(output, leaf, False)
        if found.size and np.abs(found - again).max() > nondet_tol:
            raise GradcheckError(
                "Backward is not reentrant, i.e., running backward with same input and grad_output multiple times "
                "gives different values, although analytical gradient matches numerical gradient."
                f"The tolerance for nondeterminism was {nondet_tol}."
            )
        _compare(found, differences[k], k, number, atol, rtol, "")


def _compare(
    found: Array, wanted: Array, output: int, number: int, atol: float, rtol: float, how: str
) -> None:
    if not np.allclose(found, wanted, rtol, atol):
        raise GradcheckError(
            f"Jacobian {how}mismatch for output {output} with respect to input {number},\n"
            f"numerical:{wanted}\nanalytical:{found}\n"
        )


def _check_batched(outputs: tuple[Tensor, ...], leaves: Sequence[Tensor]) -> None:
    for k, output in enumerate(outputs):
        rows = stack(_units(output))
        try:
            found = api.grad(
                output, leaves, rows, retain_graph=True, allow_unused=True, is_grads_batched=True
            )
        except RuntimeError as error:
            raise GradcheckError(f"While computing batched gradients, got: {error}") from error
        for number, (grad, leaf) in enumerate(zip(found, leaves)):
            if grad is not None:
                batched = _reals(_host(grad)).reshape(len(rows), -1).T
                _compare(
                    batched, _gradients(output, leaf, False), k, number, 1e-5, 1e-3, "of batched gradients "
                )


def _check_zero_cotangents(
    outputs: tuple[Tensor, ...], leaves: Sequence[Tensor], check_undefined: bool
) -> None:
    found = api.grad(outputs, leaves, [zeros_like(o) for o in outputs], retain_graph=True, allow_unused=True)
    for grad, leaf in zip(found, leaves):
        if grad is None:
            continue
        if _host(grad).any():
            raise GradcheckError(
                "Expected all input grads to be undefined or zero when all output grads are undefined or zero. Please "
                'look at "Notes about undefined output gradients" in "tools/autograd/derivatives.yaml"'
                if check_undefined
                else "backward not multiplied by grad_output"
            )
        if tuple(grad.shape) != tuple(leaf.shape):
            raise GradcheckError("grad is incorrect size")


def _check_forward(
    func: Callable[..., Any],
    arguments: tuple[Any, ...],
    leaves: Sequence[Tensor],
    eps: float,
    atol: float,
    rtol: float,
    batched: bool,
) -> None:
    # Forward derivatives are made of vmap and two backward passes, and stand above this file.
    jacobian = api.loaded("..autograd.functional").jacobian

    def of_leaf(number: int) -> Callable[[Tensor], tuple[Tensor, ...]]:
        def function(given: Tensor) -> tuple[Tensor, ...]:
            return _outputs(func(*(given if a is leaves[number] else a for a in arguments)))

        return function

    for number, leaf in enumerate(leaves):
        if leaf.dtype.is_complex:
            raise NotImplementedError("gradcheck: check_forward_ad is not supported for complex inputs")
        differences = _differences(lambda: _outputs(func(*arguments)), leaf, eps)
        found = jacobian(of_leaf(number), leaf, vectorize=True, strategy="forward-mode")
        for k, (matrix, wanted) in enumerate(zip(found, differences)):
            forwards = _host(matrix).reshape(-1, int(leaf.numel())).T
            _compare(forwards, wanted, k, number, atol, rtol, "computed with forward mode ")


def gradgradcheck(
    func: Callable[..., Any],
    inputs: Tensor | Sequence[Any],
    grad_outputs: Tensor | Sequence[Tensor] | None = None,
    *,
    eps: float = 1e-06,
    atol: float = 1e-05,
    rtol: float = 0.001,
    gen_non_contig_grad_outputs: bool = False,
    raise_exception: bool = True,
    nondet_tol: float = 0.0,
    check_undefined_grad: bool = True,
    check_grad_dtypes: bool = False,
    check_batched_grad: bool = False,
    check_fwd_over_rev: bool = False,
    check_rev_over_rev: bool = True,
    fast_mode: bool = False,
    masked: bool = False,
) -> bool:
    """`gradcheck` of the gradients: whether second derivatives are right."""
    if not (check_fwd_over_rev or check_rev_over_rev):
        raise AssertionError("Expected at least one of check_fwd_over_rev or check_rev_over_rev to be True")
    arguments = (inputs,) if isinstance(inputs, Tensor) else tuple(inputs)
    outputs = _outputs(func(*arguments))
    if grad_outputs is None:
        starts = tuple(_random_start(o, gen_non_contig_grad_outputs) for o in outputs)
    else:
        starts = (grad_outputs,) if isinstance(grad_outputs, Tensor) else tuple(grad_outputs)
    positions = [i for i, a in enumerate(arguments) if isinstance(a, Tensor) and a.requires_grad]

    def gradients(*given: Any) -> Any:
        called, cotangents = given[: len(arguments)], given[len(arguments) :]
        leaves = [called[i] for i in positions]
        return api.grad(_outputs(func(*called)), leaves, cotangents, create_graph=True, allow_unused=True)

    return gradcheck(
        gradients,
        (*arguments, *starts),
        eps=eps,
        atol=atol,
        rtol=rtol,
        raise_exception=raise_exception,
        nondet_tol=nondet_tol,
        check_undefined_grad=check_undefined_grad,
        check_grad_dtypes=check_grad_dtypes,
        check_batched_grad=check_batched_grad,
        check_forward_ad=check_fwd_over_rev,
        check_backward_ad=check_rev_over_rev,
        fast_mode=fast_mode,
        masked=masked,
    )


def _random_start(output: Tensor, spread: bool) -> Tensor:
    rng = np.random.RandomState(0)
    shape = (*output.shape, 2) if spread else tuple(output.shape)
    values = rng.standard_normal(shape)
    if output.dtype.is_complex:
        values = values + 1j * rng.standard_normal(shape)
    found = from_numpy(np.asarray(values[..., 0] if spread else values))
    return found.to(output.device).requires_grad_()
