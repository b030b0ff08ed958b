"""`torch.func`: Jacobians, by pulling or pushing all unit vectors at once under vmap."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from ..creation import arange
from ..functional_shape import cat
from ..tensor import Tensor
from .differentiation import (
    Argnums,
    checked_outputs,
    chosen_positions,
    or_zeros,
    split_aux,
    vjp_of,
    with_inputs,
)
from .levels import Level
from .linear import LinearMap
from .trees import flatten, tree_map, unflatten
from .vmap_api import vmap


def _refuse_complex(name: str, tree: Any, what: str) -> None:
    for number, leaf in enumerate(flatten(tree)[0]):
        if isinstance(leaf, Tensor) and leaf.dtype.kind == "complex":
            raise RuntimeError(
                f"{name}: Expected all {what} to be real but received complex tensor at flattened input idx: {number}"
            )


def unit_vectors(tensors: Sequence[Tensor], chunk_size: int | None) -> Iterator[list[Tensor]]:
    """The rows of the identity over the elements of all tensors, `chunk_size` at a time, shaped like the tensors."""
    counts = [int(t.numel()) for t in tensors]
    total = sum(counts)
    step = min(chunk_size or total, total) or 1
    for first in range(0, max(total, 1), step):
        rows = min(step, total - first)
        offset, chunk = 0, []
        for tensor, count in zip(tensors, counts):
            part = arange(first, first + rows).unsqueeze(1) == arange(offset, offset + count)
            chunk.append(part.to(tensor.dtype).reshape(rows, *tensor.shape))
            offset += count
        yield chunk


def jacrev(
    func: Callable[..., Any],
    argnums: Argnums = 0,
    *,
    has_aux: bool = False,
    chunk_size: int | None = None,
    _preallocate_and_copy: bool = False,
) -> Callable[..., Any]:
    """A function that returns the Jacobian of `func`, computed backwards: a tree like the result, of trees like the
    arguments `argnums`, of tensors of the shape (*output shape, *input shape).

    `chunk_size`: how many rows to compute at once; 1 uses no vmap."""
    if not (chunk_size is None or chunk_size > 0):
        raise ValueError("jacrev: `chunk_size` should be greater than 0.")

    @functools.wraps(func)
    def wrapper(*args: Any) -> Any:
        _refuse_complex("jacrev", args, "inputs")
        found = vjp_of(func, args, argnums, has_aux)
        output, vjp_fn = found[0], found[1]
        outputs, structure = flatten(output)
        _refuse_complex("jacrev", outputs, "outputs")
        positions = chosen_positions(argnums, len(args))
        inputs, input_structure = flatten(tuple(args[i] for i in positions))
        chunks = []
        for basis in unit_vectors(outputs, chunk_size):
            if chunk_size == 1:
                one = vjp_fn(unflatten(structure, [b.squeeze(0) for b in basis]))
                chunks.append([g.unsqueeze(0) for g in flatten(one)[0]])
            else:
                chunks.append(flatten(vmap(vjp_fn)(unflatten(structure, basis)))[0])
        rows = [parts[0] if len(chunks) == 1 else cat(list(parts), 0) for parts in zip(*chunks)]
        counts = [int(o.numel()) for o in outputs]
        parts = [row.split(counts, 0) for row in rows]
        per_output = [
            unflatten(
                input_structure,
                [p[k].reshape(*out.shape, *x.shape) for p, x in zip(parts, inputs)],
            )
            for k, out in enumerate(outputs)
        ]
        result = unflatten(structure, [p[0] if isinstance(argnums, int) else p for p in per_output])
        return (result, found[2]) if has_aux else result

    return wrapper


def jacfwd(
    func: Callable[..., Any], argnums: Argnums = 0, has_aux: bool = False, *, randomness: str = "error"
) -> Callable[..., Any]:
    """A function that returns the Jacobian of `func`, computed forwards; nested as that of `jacrev`."""

    @functools.wraps(func)
    def wrapper(*args: Any) -> Any:
        _refuse_complex("jacfwd", args, "inputs")
        level = Level()
        positions = range(len(args)) if argnums is None else chosen_positions(argnums, len(args))
        given = with_inputs(level, args, tuple(positions))
        leaves, input_structure = flatten(tuple(given[i] for i in positions))
        found, aux = split_aux(level.call(func, given, {}), has_aux, "jvp(f, primals, tangents)")
        outputs, structure = checked_outputs(found, "jvp(f, primals, tangents)")
        _refuse_complex("jacfwd", outputs, "outputs")
        linear = LinearMap(level, leaves, outputs)
        (basis,) = unit_vectors(leaves, None)

        def push(*tangents: Tensor) -> tuple[Tensor, ...]:
            return tuple(or_zeros(t, o) for t, o in zip(linear.push(tangents), outputs))

        columns = vmap(push, randomness=randomness)(*basis)
        counts = [int(x.numel()) for x in leaves]
        per_output = []
        for column, out in zip(columns, outputs):
            parts = column.movedim(0, -1).split(counts, -1)
            nested = [p.reshape(*out.shape, *x.shape) for p, x in zip(parts, leaves)]
            per_output.append(unflatten(input_structure, [level.result(n) for n in nested]))
        result = unflatten(structure, [p[0] if isinstance(argnums, int) else p for p in per_output])
        return (result, tree_map(level.result, aux)) if has_aux else result

    return wrapper


def hessian(func: Callable[..., Any], argnums: Argnums = 0) -> Callable[..., Any]:
    """A function that returns the Hessian of `func`: forwards over backwards."""
    return jacfwd(jacrev(func, argnums), argnums)
