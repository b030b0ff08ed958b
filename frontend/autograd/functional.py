"""`torch.autograd.functional`: Jacobians, Hessians and their products with vectors, of a function at a point.

Results are nested as PyTorch nests them: tuples where the inputs or outputs are tuples. `strict` raises RuntimeError
where a result does not depend on an input; otherwise there are zeros.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ..creation import zeros_like
from ..func.jacobians import unit_vectors
from ..func.levels import Level
from ..func.linear import LinearMap
from ..func.vmap_api import vmap
from ..functional_shape import stack
from ..tensor import Tensor
from . import api, strictness
from .grad_mode import enable_grad, is_grad_enabled, set_grad_enabled
from .strictness import check_requires_grad, filled

Tensors = tuple[Tensor, ...]


def as_tuple(value: Any, what: str, name: str) -> tuple[bool, Tensors]:
    """Whether the value is a tuple, and the value as one; TypeError for what is no tensor."""
    many = isinstance(value, tuple)
    values = value if many else (value,)
    for number, each in enumerate(values):
        if not isinstance(each, Tensor):
            which = f"value at index {number}" if many else f"given {what}"
            raise TypeError(
                f"The {what} given to {name} must be either a Tensor or a tuple of Tensors but the {which} has type "
                f"{type(each)}."
            )
    return many, values


_OUTPUTS = "outputs of the user-provided function"


def _prepared(tensors: Sequence[Tensor], create_graph: bool, need_graph: bool) -> Tensors:
    """Tensors to differentiate with respect to: connected to what the given ones depend on, or leaves."""
    return tuple(
        t.view_as(t) if create_graph and t.requires_grad else t.detach().requires_grad_(need_graph)
        for t in tensors
    )


def _finished(values: Any, create_graph: bool) -> Any:
    if create_graph:
        return values
    return tuple(v.detach() if isinstance(v, Tensor) else _finished(v, create_graph) for v in values)


def _unpacked(values: Any, many: bool | tuple[bool, bool]) -> Any:
    if isinstance(many, tuple):
        if not many[1]:
            values = tuple(v[0] for v in values)
        return values if many[0] else values[0]
    return values if many else values[0]


def _check_v(v: Tensors, like: Tensors, many: bool) -> None:
    if len(v) != len(like):
        if many:
            raise RuntimeError(f"v is a tuple of invalid length: should be {len(like)} but got {len(v)}.")
        raise RuntimeError("The given v should contain a single Tensor.")
    for number, (have, want) in enumerate(zip(v, like)):
        if tuple(have.shape) != tuple(want.shape):
            where = f"Entry {number} in " if many else ""
            raise RuntimeError(f"{where}v has invalid size: should be {want.size()} but got {have.size()}.")


def _grads(
    outputs: Sequence[Any],
    inputs: Sequence[Tensor],
    grads: Sequence[Any] | None = None,
    create_graph: bool = False,
    retain_graph: bool | None = None,
    batched: bool = False,
) -> tuple[Tensor | None, ...]:
    """`autograd.grad` of the outputs that require grad; None for what nothing flows to."""
    given = (None,) * len(outputs) if grads is None else grads
    flowing = [(o, g) for o, g in zip(outputs, given) if o is not None and o.requires_grad]
    if not flowing:
        return (None,) * len(inputs)
    return api.grad(
        tuple(o for o, _ in flowing),
        tuple(inputs),
        tuple(g for _, g in flowing),
        allow_unused=True,
        create_graph=create_graph,
        retain_graph=retain_graph,
        is_grads_batched=batched,
    )


def _vector(v: Any, name: str, like: Tensors, many: bool, create_graph: bool, whose: str) -> Tensors | None:
    if v is not None:
        values = _prepared(as_tuple(v, "v", name)[1], create_graph, False)
        _check_v(values, like, many)
        return values
    if len(like) != 1 or like[0].numel() != 1:
        raise RuntimeError(f"The vector v can only be None if {whose} a single Tensor with a single element.")
    return None


def vjp(
    func: Callable[..., Any], inputs: Any, v: Any = None, create_graph: bool = False, strict: bool = False
) -> tuple[Any, Any]:
    """The function's outputs, and v^T J: one tensor per input."""
    with enable_grad():
        many, given = as_tuple(inputs, "inputs", "vjp")
        given = _prepared(given, create_graph, True)
        many_outputs, outputs = as_tuple(func(*given), _OUTPUTS, "vjp")
        check_requires_grad(outputs, "outputs", strict)
        vector = _vector(v, "vjp", outputs, many_outputs, create_graph, "the user-provided function returns")
    with set_grad_enabled(create_graph or is_grad_enabled()):
        found = filled(
            _grads(outputs, given, vector, create_graph), given, strict, create_graph, strictness.BACK
        )
    return _unpacked(_finished(outputs, create_graph), many_outputs), _unpacked(
        _finished(found, create_graph), many
    )


def jvp(
    func: Callable[..., Any], inputs: Any, v: Any = None, create_graph: bool = False, strict: bool = False
) -> tuple[Any, Any]:
    """The function's outputs, and J v: one tensor per output."""
    with enable_grad():
        many, given = as_tuple(inputs, "inputs", "jvp")
        given = _prepared(given, create_graph, True)
        vector = _vector(v, "jvp", given, many, create_graph, "the input to the user-provided function is")
        many_outputs, outputs = as_tuple(func(*given), _OUTPUTS, "jvp")
        check_requires_grad(outputs, "outputs", strict)
        stands = tuple(zeros_like(o, requires_grad=True) for o in outputs)
        pulled = _grads(outputs, given, stands, create_graph=True)
        check_requires_grad(pulled, "grad_inputs", strict)
    with set_grad_enabled(create_graph or is_grad_enabled()):
        pushed = _grads(pulled, stands, vector, create_graph)
        found = filled(pushed, outputs, strict, create_graph, strictness.BACK_TRICK)
    return _unpacked(_finished(outputs, create_graph), many_outputs), _unpacked(
        _finished(found, create_graph), many_outputs
    )


def jacobian(
    func: Callable[..., Any],
    inputs: Any,
    create_graph: bool = False,
    strict: bool = False,
    vectorize: bool = False,
    strategy: str = "reverse-mode",
) -> Any:
    """The Jacobian: result[i][j], of the shape (*output i, *input j). `vectorize`: all rows at once, under vmap."""
    if strategy not in ("forward-mode", "reverse-mode"):
        raise AssertionError(
            'Expected strategy to be either "forward-mode" or "reverse-mode". Hint: If your function has more outputs '
            'than inputs, "forward-mode" tends to be more performant. Otherwise, prefer to use "reverse-mode".'
        )
    if strategy == "forward-mode":
        return _forward_jacobian(func, inputs, create_graph, strict, vectorize)
    with enable_grad():
        many, given = as_tuple(inputs, "inputs", "jacobian")
        given = _prepared(given, create_graph, True)
        many_outputs, outputs = as_tuple(func(*given), _OUTPUTS, "jacobian")
        check_requires_grad(outputs, "outputs", strict)
        if vectorize:
            if strict:
                raise RuntimeError(
                    "torch.autograd.functional.jacobian: `strict=True` and `vectorized=True` are not supported "
                    "together. Please either set `strict=False` or `vectorize=False`."
                )
            found = _all_rows(outputs, given, create_graph)
        else:
            found = tuple(_row_by_row(i, out, given, create_graph, strict) for i, out in enumerate(outputs))
        return _unpacked(_finished(found, create_graph), (many_outputs, many))


def _all_rows(outputs: Tensors, inputs: Tensors, create_graph: bool) -> Any:
    counts = [int(o.numel()) for o in outputs]
    flat = tuple(o.reshape(-1) for o in outputs)
    (basis,) = unit_vectors(flat, None)
    rows = _grads(flat, inputs, basis, create_graph, batched=True)
    full = [zeros_like(x).expand(sum(counts), *x.shape) if r is None else r for r, x in zip(rows, inputs)]
    parts = [r.split(counts, 0) for r in full]
    return tuple(
        tuple(p[k].reshape(*out.shape, *x.shape) for p, x in zip(parts, inputs))
        for k, out in enumerate(outputs)
    )


def _row_by_row(number: int, out: Tensor, inputs: Tensors, create_graph: bool, strict: bool) -> Tensors:
    rows: list[list[Tensor]] = [[] for _ in inputs]
    for j in range(int(out.numel())):
        found = _grads((out.reshape(-1)[j],), inputs, None, create_graph, retain_graph=True)
        for at, (row, grad, tensor) in enumerate(zip(rows, found, inputs)):
            if strict and grad is None:
                raise RuntimeError(
                    f"Output {number} of the user-provided function is independent of input {at}. This is not "
                    "allowed in strict mode."
                )
            if strict and create_graph and grad is not None and not grad.requires_grad:
                raise RuntimeError(
                    f"The jacobian of the user-provided function is independent of input {number}. This is not "
                    "allowed in strict mode when create_graph=True."
                )
            row.append(zeros_like(tensor) if grad is None else grad)
    return tuple(
        stack(row, dim=0).view(*out.shape, *x.shape) if row else x.new_zeros(*out.shape, *x.shape)
        for row, x in zip(rows, inputs)
    )


def _forward_jacobian(
    func: Callable[..., Any], inputs: Any, create_graph: bool, strict: bool, vectorize: bool
) -> Any:
    where = "torch.autograd.functional.jacobian: "
    together = 'and `strategy="forward-mode"` are not supported together (yet). Please either set '
    if create_graph:
        raise NotImplementedError(
            f'{where}`create_graph=True` {together}`create_graph=False` or `strategy="reverse-mode"`.'
        )
    if strict:
        raise RuntimeError(f'{where}`strict=True` {together}`strict=False` or `strategy="reverse-mode"`.')
    if not vectorize:
        raise NotImplementedError(
            "Computing Jacobian using forward-AD or forward-over-reverse Hessian isonly implemented for "
            "`vectorize=True`."
        )
    many, given = as_tuple(inputs, "inputs", "jacobian")
    level = Level()
    leaves = [level.input(x) for x in given]
    many_outputs, outputs = as_tuple(level.call(func, leaves, {}), "outputs", "jacobian")
    linear = LinearMap(level, leaves, outputs)
    (basis,) = unit_vectors(leaves, None)

    def push(*tangents: Tensor) -> Tensors:
        return tuple(zeros_like(o) if t is None else t for t, o in zip(linear.push(tangents), outputs))

    counts = [int(x.numel()) for x in leaves]
    found = []
    for columns, out in zip(vmap(push)(*basis), outputs):
        parts = columns.movedim(0, -1).split(counts, -1)
        found.append(tuple(level.result(p.reshape(*out.shape, *x.shape)) for p, x in zip(parts, leaves)))
    return _unpacked(tuple(found), (many_outputs, many))


def hessian(
    func: Callable[..., Any],
    inputs: Any,
    create_graph: bool = False,
    strict: bool = False,
    vectorize: bool = False,
    outer_jacobian_strategy: str = "reverse-mode",
) -> Any:
    """The Hessian of a function that returns one element: result[i][j], of the shape (*input i, *input j)."""
    many, given = as_tuple(inputs, "inputs", "hessian")
    if outer_jacobian_strategy not in ("forward-mode", "reverse-mode"):
        raise AssertionError('Expected strategy to be either "forward-mode" or "reverse-mode".')

    def single(*args: Tensor) -> Tensor:
        return _single_output(func(*args), "hessian", strict).squeeze()

    def gradient(*args: Tensor) -> Any:
        if outer_jacobian_strategy == "forward-mode":
            args = tuple(t.requires_grad_(True) for t in args)
        found = jacobian(single, args, create_graph=True)
        check_requires_grad(found, "jacobian", strict)
        return found

    found = jacobian(gradient, given, create_graph, strict, vectorize, outer_jacobian_strategy)
    return _unpacked(found, (many, many))


def _single_output(found: Any, name: str, strict: bool) -> Tensor:
    many, outputs = as_tuple(found, _OUTPUTS, name)
    check_requires_grad(outputs, "outputs", strict)
    if many:
        raise RuntimeError(f"The function given to {name} should return a single Tensor")
    if outputs[0].numel() != 1:
        raise RuntimeError(
            f"The Tensor returned by the function given to {name} should contain a single element"
        )
    return outputs[0]


def _with_gradient(
    func: Callable[..., Any], inputs: Any, v: Any, create_graph: bool, strict: bool, name: str
) -> tuple[bool, Tensors, Tensors | None, Tensor, tuple[Tensor | None, ...]]:
    """Whether the inputs are a tuple, the inputs, the vector, the function's output and its gradient."""
    many, given = as_tuple(inputs, "inputs", name)
    given = _prepared(given, create_graph, True)
    vector = _vector(v, name, given, many, create_graph, "the input to the user-provided function is")
    output = _single_output(func(*given), name, strict)
    gradient = _grads((output,), given, create_graph=True)
    check_requires_grad(gradient, "jacobian", strict)
    return many, given, vector, output, gradient


def vhp(
    func: Callable[..., Any], inputs: Any, v: Any = None, create_graph: bool = False, strict: bool = False
) -> tuple[Any, Any]:
    """The function's output, of one element, and v^T H: one tensor per input."""
    with enable_grad():
        many, given, vector, output, gradient = _with_gradient(func, inputs, v, create_graph, strict, "vhp")
    with set_grad_enabled(create_graph or is_grad_enabled()):
        pulled = _grads(gradient, given, vector, create_graph)
        found = filled(pulled, given, strict, create_graph, strictness.DOUBLE_BACK)
    return _finished((output,), create_graph)[0], _unpacked(_finished(found, create_graph), many)


def hvp(
    func: Callable[..., Any], inputs: Any, v: Any = None, create_graph: bool = False, strict: bool = False
) -> tuple[Any, Any]:
    """The function's output, of one element, and H v: one tensor per input."""
    with enable_grad():
        many, given, vector, output, gradient = _with_gradient(func, inputs, v, create_graph, strict, "hvp")
        stands = tuple(zeros_like(x, requires_grad=True) for x in given)
        pulled = _grads(gradient, given, stands, create_graph=True)
        check_requires_grad(gradient, "hessian", strict)
    with set_grad_enabled(create_graph or is_grad_enabled()):
        pushed = _grads(pulled, stands, vector, create_graph)
        found = filled(pushed, given, strict, create_graph, strictness.DOUBLE_BACK_TRICK)
    return _finished((output,), create_graph)[0], _unpacked(_finished(found, create_graph), many)


__all__ = ["hessian", "hvp", "jacobian", "jvp", "vhp", "vjp"]
