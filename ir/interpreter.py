"""The reference interpreter: what a graph means, by the ops' NumPy rules, at every stage of the pipeline."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from . import dims
from .dims import DimLike
from .graph import Graph, IRError, Node, Value, told_symbols
from .types import TensorType

Array = np.ndarray[Any, Any]


def run(graph: Graph, inputs: Sequence[Array], bindings: Mapping[str, int] | None = None) -> list[Array]:
    """The graph's outputs. Symbols are bound from the inputs' shapes.

    Raises IRError when an input does not fit its declared type, or when a rule returns something other than the type
    the graph states.
    """
    return run_bound(graph, inputs, bind_symbols(graph, inputs) if bindings is None else dict(bindings))


def run_bound(graph: Graph, inputs: Sequence[Array], bound: dict[str, int]) -> list[Array]:
    """`run` with the values of the graph's symbols, among which it enters those that its nodes tell."""
    env: dict[Value, Array] = dict(zip(graph.inputs, (np.asarray(a) for a in inputs)))
    for node in graph.nodes:
        results = evaluate_node(node, [env[v] for v in node.inputs], bound)
        bound.update(told_sizes(node, results))
        for value, array in zip(node.outputs, results):
            want = value.type.bind(bound)
            if array.shape != want.shape or array.dtype != want.dtype.numpy:
                raise IRError(f"{node}: its NumPy rule gave {array.dtype}{list(array.shape)}, not {want}")
            env[value] = array
    return [env[v] for v in graph.outputs]


def evaluate_node(node: Node, arrays: Sequence[Array], bindings: dict[str, int]) -> tuple[Array, ...]:
    """The node's results for operand arrays. A region enters the symbols that its nodes tell among the bindings."""
    attrs = bound_attrs(node, bindings)
    if node.op.region is not None:
        (body,) = node.regions
        return node.op.region.numpy(lambda *inner: tuple(run_bound(body, inner, bindings)), arrays, attrs)
    with np.errstate(all="ignore"):
        results = node.op.numpy(*arrays, **attrs)
    return tuple(map(np.asarray, results)) if isinstance(results, tuple) else (np.asarray(results),)


def told_sizes(node: Node, results: Sequence[Array]) -> dict[str, int]:
    """The dims that the node's own results tell (`Op.sizes`); IRError where one is outside its bounds."""
    found: dict[str, int] = {}
    if not node.op.sizes:
        return found
    names = {s.name for s in told_symbols(node)}
    for value, array in zip(node.outputs, results):
        for dim, size in _dims(value.type, array, value):
            told = symbol_of(dim)
            if told is not None and told.name in names:
                if not told.low <= size <= told.high:
                    raise IRError(f"%{value.name}: {told.name} is {size}, outside [{told.low}, {told.high}]")
                found[told.name] = size
    return found


def bound_attrs(node: Node, bindings: Mapping[str, int]) -> dict[str, Any]:
    """The node's attributes for these values of the dims. Dims that it tells itself have no name here."""
    return {
        name: () if name == node.op.sizes else _bind(value, bindings) for name, value in node.attrs.items()
    }


def _bind(value: Any, bindings: Mapping[str, int]) -> Any:
    if isinstance(value, dims.Expr):
        return dims.evaluate(value, bindings)
    if isinstance(value, tuple):
        return tuple(_bind(v, bindings) for v in value)
    return value


def bind_symbols(graph: Graph, inputs: Sequence[Array]) -> dict[str, int]:
    """Values for the graph's symbols from the shapes of its inputs; IRError where shapes or dtypes do not fit."""
    if len(inputs) != len(graph.inputs):
        raise IRError(f"{graph.name} takes {len(graph.inputs)} inputs, got {len(inputs)}")
    bound: dict[str, int] = {}
    for value, array in zip(graph.inputs, inputs):
        _check_dtype(value, array)
        for dim, size in _dims(value.type, array, value):
            found = dims.solved(dim, size)
            if found is not None:
                known, number = found
                if not known.low <= number <= known.high:
                    raise IRError(
                        f"%{value.name}: {known.name} is {number}, outside its declared bounds "
                        f"[{known.low}, {known.high}]"
                    )
                if bound.setdefault(known.name, number) != number:
                    raise IRError(
                        f"%{value.name}: {known.name} is {number} here and {bound[known.name]} before"
                    )
    for value, array in zip(graph.inputs, inputs):
        for dim, size in _dims(value.type, array, value):
            if dims.evaluate(dim, bound) != size:
                raise IRError(f"%{value.name} must be {value.type}, got shape {list(array.shape)}")
    return bound


def symbol_of(dim: DimLike) -> dims.Symbol | None:
    """The symbol that the dim is, if it is nothing more."""
    if isinstance(dim, dims.Expr) and len(dim.terms) == 1:
        (monomial, factor), *_ = dim.terms
        if factor == 1 and len(monomial) == 1 and isinstance(monomial[0], dims.Symbol):
            return monomial[0]
    return None


def _check_dtype(value: Value, array: Array) -> None:
    if np.asarray(array).dtype != value.type.dtype.numpy:
        raise IRError(f"%{value.name} must be {value.type}, got dtype {array.dtype}")


def _dims(type_: TensorType, array: Array, value: Value) -> Iterator[tuple[DimLike, int]]:
    if len(array.shape) != type_.rank:
        raise IRError(f"%{value.name} must be {type_}, got shape {list(array.shape)}")
    return zip(type_.shape, array.shape)
