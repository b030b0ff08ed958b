"""`torch.func`: derivatives of functions as functions. Arguments, results and errors are PyTorch's."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from ..ir.dtypes import DType
from ..tensor import Tensor
from .levels import Level
from .linear import LinearMap
from .trees import Structure, flatten, show, tree_map, unflatten

Argnums = int | tuple[int, ...]
_JVP = "jvp(f, primals, tangents)"


def chosen_positions(argnums: Any, count: int) -> tuple[int, ...]:
    """The positions of the arguments to differentiate; RuntimeError in PyTorch's words for bad ones."""
    if not isinstance(argnums, int | tuple):
        raise RuntimeError(f"argnums must be int or Tuple[int, ...], got: {type(argnums)}")
    positions = []
    for argnum in (argnums,) if isinstance(argnums, int) else argnums:
        if not isinstance(argnum, int):
            raise RuntimeError(f"argnum must be int, got: {type(argnum)}")
        if not -count <= argnum < count:
            raise RuntimeError(f"Got argnum={argnum}, but only {count} positional inputs")
        positions.append(argnum % count)
    if not positions:
        raise RuntimeError("argnums must be non-empty")
    if len(set(positions)) != len(positions):
        raise RuntimeError(f"argnums elements must be unique, got {tuple(positions)}")
    return tuple(positions)


def _differentiable(level: Level, value: Any) -> Any:
    if not isinstance(value, Tensor):
        raise ValueError(f"Thing passed to transform API must be Tensor, got {type(value)}")
    if value.dtype.kind not in ("float", "complex"):
        raise RuntimeError("only Tensors of floating point dtype can require gradients")
    return level.input(value)


def with_inputs(level: Level, args: Sequence[Any], positions: Sequence[int]) -> list[Any]:
    """The arguments with the level's leaves in place of the tensors of the chosen ones."""
    return [
        tree_map(functools.partial(_differentiable, level), a) if i in positions else a
        for i, a in enumerate(args)
    ]


def split_aux(found: Any, has_aux: bool, api: str) -> tuple[Any, Any]:
    if not has_aux:
        return found, None
    if not (isinstance(found, tuple) and len(found) == 2):
        raise RuntimeError(f"{api}: output of function f should be a tuple: (output, aux) if has_aux is True")
    return found


def grad_and_value(
    func: Callable[..., Any], argnums: Argnums = 0, has_aux: bool = False
) -> Callable[..., Any]:
    """A function that returns the gradient of `func`, which returns a 0-d tensor, and its value.

    `argnums`: which arguments (trees of tensors) to differentiate. `has_aux`: `func` returns (value, anything else).
    """

    @functools.wraps(func)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        level = Level()
        positions = chosen_positions(argnums, len(args))
        given = with_inputs(level, args, positions)
        api = "grad_and_value(f)(*args)"
        value, aux = split_aux(level.call(func, given, kwargs), has_aux, api)
        if not isinstance(value, Tensor):
            raise RuntimeError(f"{api}: Expected f(*args) to return a Tensor, got {type(value)}")
        if value.ndim:
            raise RuntimeError(
                f"{api}: Expected f(*args) to return a scalar Tensor, got tensor with {value.ndim} dims. Maybe you "
                "wanted to use the vjp or jacrev APIs instead?"
            )
        wanted = given[positions[0]] if isinstance(argnums, int) else tuple(given[i] for i in positions)
        leaves, structure = flatten(wanted)
        gradients = unflatten(structure, LinearMap(level, leaves, (value,)).pull(None, retain_graph=False))
        if has_aux:
            return gradients, (level.result(value), tree_map(level.result, aux))
        return gradients, level.result(value)

    return wrapper


def grad(func: Callable[..., Any], argnums: Argnums = 0, has_aux: bool = False) -> Callable[..., Any]:
    """A function that returns the gradient of `func`, which returns a 0-d tensor. See `grad_and_value`."""
    both = grad_and_value(func, argnums, has_aux)

    @functools.wraps(func)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        gradients, rest = both(*args, **kwargs)
        return (gradients, rest[1]) if has_aux else gradients

    return wrapper


def checked_outputs(found: Any, api: str) -> tuple[list[Tensor], Structure]:
    outputs, structure = flatten(found)
    if not outputs or (len(outputs) == 1 and outputs[0] is None):
        raise RuntimeError(
            f"{api}: Expected f to be a function that has non-empty output (got output = {outputs})"
        )
    for output in outputs:
        if not isinstance(output, Tensor):
            raise RuntimeError(
                f"{api}: expected f(*primals) to return only tensors, got unsupported type {type(output)}"
            )
    return outputs, structure


def vjp(func: Callable[..., Any], *primals: Any, has_aux: bool = False) -> Any:
    """`func(*primals)`, and a function from cotangents (a tree like the result) to one gradient per primal."""
    return vjp_of(func, primals, None, has_aux)


def vjp_of(func: Callable[..., Any], args: Sequence[Any], argnums: Argnums | None, has_aux: bool) -> Any:
    """`vjp` with respect to the arguments `argnums` (None: all)."""
    level, api = Level(), "vjp(f, *primals)"
    positions = range(len(args)) if argnums is None else chosen_positions(argnums, len(args))
    given = with_inputs(level, args, tuple(positions))
    found, aux = split_aux(level.call(func, given, {}), has_aux, api)
    outputs, structure = checked_outputs(found, api)
    for output in outputs:
        if output.dtype.kind not in ("float", "complex"):
            raise RuntimeError(
                "vjp(f, ...): All outputs of f must be floating-point or complex Tensors, got Tensor with dtype "
                f"{output.dtype}"
            )
    wanted = given[positions[0]] if isinstance(argnums, int) else tuple(given[i] for i in positions)
    leaves, inputs = flatten(wanted)
    linear = LinearMap(level, leaves, outputs)

    def vjp_fn(cotangents: Any, retain_graph: bool = True, create_graph: bool | None = None) -> Any:
        flat, given_structure = flatten(cotangents)
        if given_structure != structure:
            raise RuntimeError(
                "Expected pytree structure of cotangents to be the same as pytree structure of outputs to the "
                f"function. cotangents: {show(given_structure)}, primal output: {show(structure)}"
            )
        return unflatten(inputs, linear.pull(flat, retain_graph, create_graph))

    results = tree_map(level.result, found)
    return (results, vjp_fn, tree_map(level.result, aux)) if has_aux else (results, vjp_fn)


def _check_tuple(values: Any, what: str) -> None:
    if not isinstance(values, tuple):
        raise RuntimeError(
            f"{_JVP}: Expected {what} to be a tuple. E.g. it should be valid to call f(*primals)."
        )


def jvp(
    func: Callable[..., Any], primals: Any, tangents: Any, *, strict: bool = False, has_aux: bool = False
) -> Any:
    """`func(*primals)` and its derivative in the direction `tangents`, a tree like `primals`."""
    _check_tuple(primals, "primals")
    level = Level()
    given = with_inputs(level, primals, range(len(primals)))
    leaves, structure = flatten(tuple(given))
    flat = _checked_tangents(leaves, structure, tangents)
    found, aux = split_aux(level.call(func, given, {}), has_aux, _JVP)
    outputs, shape = checked_outputs(found, _JVP)
    pushed = LinearMap(level, leaves, outputs).push(flat)
    if strict and any(t is None for t in pushed):
        raise RuntimeError(
            "jvp(f, primals, tangents, strict=True): The output of f is independent of the inputs. This is not "
            "allowed with strict=True."
        )
    results = unflatten(shape, [level.result(o) for o in outputs])
    directions = unflatten(shape, [or_zeros(t, o) for t, o in zip(pushed, outputs)])
    return (results, directions, tree_map(level.result, aux)) if has_aux else (results, directions)


def or_zeros(tangent: Tensor | None, like: Tensor) -> Tensor:
    return like.detach() * 0 if tangent is None else tangent


def _checked_tangents(leaves: Sequence[Tensor], structure: Structure, tangents: Any) -> list[Tensor]:
    flat, given = flatten(tangents)
    if given != structure:
        raise RuntimeError(
            f"{_JVP}: Expected primals and tangents to have the same python structure. For example, if primals is a "
            "tuple of 3 tensors, tangents also must be. Got primals with structure "
            f"{show(structure)} and tangents with structure {show(given)}"
        )
    for what, values in (("primals", leaves), ("tangents", flat)):
        if not values:
            raise RuntimeError(f"{_JVP}: Expected {what} to contain at least one Tensor.")
        for value in values:
            if not isinstance(value, Tensor):
                raise RuntimeError(f"{_JVP}: Expected {what} to only contain Tensors, got {type(value)}")
    for leaf, tangent in zip(leaves, flat):
        if tuple(leaf.shape) != tuple(tangent.shape):
            raise RuntimeError(
                f"Trying to create a dual number with tangent of size {list(tangent.shape)} but primal of size "
                f"{list(leaf.shape)}: they must be the same"
            )
    return flat


def linearize(func: Callable[..., Any], *primals: Any) -> Any:
    """`func(*primals)`, and a function from tangents (one per primal) to the derivative in their direction.

    `func` runs once; the linear function is the tape that it left.
    """
    level = Level()
    given = with_inputs(level, primals, range(len(primals)))
    leaves, inputs = flatten(tuple(given))
    found = level.call(func, given, {})
    outputs, structure = checked_outputs(found, "linearize(f, *primals)")
    linear = LinearMap(level, leaves, outputs)

    def jvp_fn(*tangents: Any) -> Any:
        flat, given_structure = flatten(tangents)
        if given_structure != inputs:
            raise RuntimeError(
                f"Expected the tangents {show(given_structure)} to have the same argspec as the primals {show(inputs)}"
            )
        for number, (tangent, leaf) in enumerate(zip(flat, leaves)):
            _check_like(number, "shape", tangent.shape, leaf.shape)
            _check_like(number, "dtype", tangent.dtype, leaf.dtype)
        return unflatten(structure, [or_zeros(t, o) for t, o in zip(linear.push(flat), outputs)])

    return tree_map(level.result, found), jvp_fn


def _check_like(number: int, what: str, have: Any | DType, want: Any | DType) -> None:
    if have != want:
        raise RuntimeError(
            f"tangent:{number} with {what} {have} in flattened pytree doesn't match the {what} {want} of the "
            "corresponding primal."
        )
