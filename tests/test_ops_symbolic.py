"""Ops over a symbolic batch: one graph, with its gradients, means for every batch what the ops mean on
arrays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from op_cases import vjp_of

import vitrify.ir.ops  # noqa: F401
from vitrify.ir import dims, dtypes
from vitrify.ir.builder import ARRAYS, GraphBuilder
from vitrify.ir.dims import Dim, DimLike
from vitrify.ir.dtypes import bool_, f64, i64
from vitrify.ir.interpreter import run
from vitrify.ir.op import op_named
from vitrify.ir.types import TensorType

B = Dim("batch", 1, 256)
Row = tuple[str, list[Any], dict[str, Any]]


def pool(k: int, s: int, p: int = 0, **attrs: Any) -> dict[str, Any]:
    return {"kernel": (k, k), "stride": (s, s), "padding": (p, p), **attrs}


CONV = {"stride": (2, 1), "padding": (1, 0), "dilation": (1, 2), "groups": 1}
# Operands are shapes (float64) or (dtype, shape).
ROWS: list[Row] = [
    ("exp", [(B, 3)], {}),
    ("add", [(B, 3), (3,)], {}),
    ("mul", [(B, 1), (B, 3)], {}),
    ("div", [(B,), (1,)], {}),
    ("maximum", [(B, 3), ()], {}),
    ("where", [(bool_, (B, 1)), (B, 3), (3,)], {}),
    ("relu", [(B, 3)], {}),
    ("clamp", [(B, 3)], {"min": -0.5}),
    ("convert", [(B, 3)], {"dtype": dtypes.f32}),
    ("reshape", [(B, 4, 5, 5)], {"shape": (B, 100)}),
    ("reshape", [(B * 4, 7)], {"shape": (B, 28)}),
    ("reshape", [(B, 6)], {"shape": (2 * B, 3)}),
    ("reshape", [(B, 6)], {"shape": (6 * B,)}),
    ("reshape", [(2, B, 3)], {"shape": (2, B * 3)}),
    ("permute", [(B, 3, 4)], {"dims": (2, 0, 1)}),
    ("expand", [(1, 3)], {"shape": (B, 3)}),
    ("expand", [(B, 1)], {"shape": (2, B, 3)}),
    ("slice", [(B, 5)], {"starts": (0, 1), "stops": (B, 4), "steps": (1, 1)}),
    ("slice", [(B, 5)], {"starts": (0, 1), "stops": (B, 4), "steps": (2, 2)}),
    ("slice", [(B + 2, 5)], {"starts": (1, 0), "stops": (B + 2, 5), "steps": (1, 1)}),
    ("update_slice", [(B, 5), (B, 2)], {"starts": (0, 1), "stops": (B, 3), "steps": (1, 1)}),
    ("flip", [(B, 3)], {"dims": (0, 1)}),
    ("pad", [(B, 3)], {"low": (0, 1), "high": (0, 2)}),
    ("pad", [(B, 3)], {"low": (2, -1), "high": (B, 0), "value": 1.5}),
    ("concat", [(B, 3), (2, 3), (B, 3)], {"dim": 0}),
    ("concat", [(B, 3), (B, 2)], {"dim": 1}),
    ("full", [], {"shape": (B, 2), "value": 3, "dtype": i64}),
    ("iota", [], {"shape": (B, 2), "dim": 0}),
    ("sum", [(B, 3)], {"dims": (0,)}),
    ("sum", [(B, 3)], {"dims": (1,), "keepdim": True}),
    ("prod", [(B, 3)], {"dims": (0,)}),
    ("amax", [(B, 3)], {"dims": (0, 1)}),
    ("any", [(bool_, (B, 3))], {"dims": (0,)}),
    ("argmax", [(B, 3)], {"dim": 1}),
    ("mean", [(B, 3)], {"dims": (0,)}),
    ("mean", [(B, 3)], {"dims": (0, 1)}),
    ("var", [(B, 3)], {"dims": (0, 1)}),
    ("var", [(B, 3)], {"dims": (1,), "correction": 0}),
    ("matmul", [(B, 5), (5, 4)], {}),
    ("matmul", [(3, B), (B, 4)], {}),
    ("matmul", [(B, 3, 5), (5, 4)], {}),
    ("matmul", [(B, 1, 3, 5), (2, 5, 4)], {}),
    ("addmm", [(4,), (B, 5), (5, 4)], {}),
    ("conv", [(B, 2, 7, 8), (3, 2, 3, 3)], CONV),
    ("conv", [(1, 2, B + 4, 8), (3, 2, 3, 3)], CONV),
    ("convolution", [(B, 2, 7, 8), (3, 2, 3, 3), (3,)], CONV),
    ("max_pool", [(B, 3, 6, 6)], pool(2, 2, dilation=(1, 1))),
    ("max_pool", [(1, 2, B + 3, 6)], pool(3, 2, 1, dilation=(1, 1), ceil_mode=True)),
    ("avg_pool", [(B, 3, 6, 6)], pool(3, 2, 1)),
    ("avg_pool", [(1, 2, B + 3, 6)], pool(3, 2, 1, ceil_mode=True, count_include_pad=False)),
    ("gather", [(B, 5), (i64, (B, 2))], {"dim": 1}),
    ("scatter_add", [(B, 5), (i64, (B, 2)), (B, 2)], {"dim": 1}),
    ("scatter_add", [(B, 5), (i64, (B, 2)), (B, 4)], {"dim": 1}),
    ("index_select", [(B, 5), (i64, (3,))], {"dim": 0}),
    ("index_select", [(7, 5), (i64, (B, 2))], {"dim": 0}),
    ("index_add", [(7, 5), (i64, (B,)), (B, 5)], {"dim": 0}),
    ("random_uniform", [(i64, (2,))], {"shape": (B, 3)}),
    ("dropout", [(B, 3), (i64, (2,))], {"p": 0.5}),
    ("softmax", [(B, 3)], {"dim": 1}),
    ("log_softmax", [(B, 3)], {"dim": 0}),
    ("nll_loss", [(B, 3), (i64, (B,))], {}),
    ("nll_loss", [(B, 3, 2), (i64, (B, 2)), (3,)], {"reduction": "none"}),
    ("nll_loss", [(4, B), (i64, (4,)), (B,)], {}),
    ("mse_loss", [(B, 3), (B, 3)], {}),
    ("mse_loss", [(B, 3), (3,)], {"reduction": "none"}),
]


def types_of(operands: list[Any]) -> list[TensorType]:
    return [
        TensorType(o[1], o[0]) if o and isinstance(o[0], dtypes.DType) else TensorType(o, f64)
        for o in operands
    ]


def bound(value: Any, batch: int) -> Any:
    if isinstance(value, tuple):
        return tuple(bound(v, batch) for v in value)
    return dims.evaluate(value, {"batch": batch}) if isinstance(value, dims.Expr) else value


def draw(type_: TensorType, batch: int, rng: np.random.Generator) -> Any:
    shape = type_.bind({"batch": batch}).shape
    if type_.dtype is i64:
        return np.zeros(shape, np.int64) if batch < 2 else rng.integers(0, 2, shape)
    return (
        rng.random(shape) < 0.5 if type_.dtype is bool_ else rng.normal(size=shape).astype(type_.dtype.numpy)
    )


def compute(
    F: Any, name: str, operands: list[Any], attrs: Mapping[str, Any], dy: Any, decomposed: bool
) -> list[Any]:
    """The op's result (or its decomposition's), and the gradients for dy."""
    op = op_named(name)
    full = op.normalise_attrs(attrs)
    result = (
        op.decompose(F, *operands, **full) if decomposed and op.decompose else F.apply(op, operands, full)
    )
    if op.vjp is None or dy is None:
        return [result]
    return [result, *(g for g in vjp_of(op, F, operands, (result,), full, (dy,)) if g is not None)]


@pytest.mark.parametrize("name, operands, attrs", ROWS, ids=[f"{r[0]}-{i}" for i, r in enumerate(ROWS)])
@pytest.mark.parametrize("decomposed", [False, True], ids=["whole", "decomposed"])
def test_one_graph_serves_every_batch(
    name: str, operands: list[Any], attrs: dict[str, Any], decomposed: bool
):
    op = op_named(name)
    types = types_of(operands)
    [result] = op.infer_types(types, op.normalise_attrs(attrs))
    F = GraphBuilder("g")
    inputs = [F.input(f"x{i}", t) for i, t in enumerate(types)]
    dy = F.input("dy", result) if result.dtype.is_floating_point else None
    graph = F.finish(compute(F, name, inputs, attrs, dy, decomposed))
    assert graph.outputs[0].type == result
    for batch in (1, 3, 8):
        rng = np.random.default_rng(batch)
        arrays = [draw(t, batch, rng) for t in types]
        cotangent = [draw(result, batch, rng)] if dy is not None else []
        concrete = {k: bound(v, batch) for k, v in attrs.items()}
        want = compute(ARRAYS, name, arrays, concrete, cotangent[0] if cotangent else None, False)
        got = run(graph, [*arrays, *cotangent], {"batch": batch})
        assert len(got) == len(want)
        for a, b in zip(got, want):
            np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)


def test_a_symbolic_dim_is_never_taken_for_one():
    F = GraphBuilder("g")
    x, y = F.input("x", TensorType((B, 3), f64)), F.input("y", TensorType((4, 3), f64))
    with pytest.raises(
        RuntimeError, match=r"size of tensor a \(batch\) must match the size of tensor b \(4\)"
    ):
        F.add(x, y)
    with pytest.raises(RuntimeError, match=r"shape '\[4, 6\]' is invalid for input of size 3\*batch"):
        F.reshape(x, shape=(4, 6))


def index_of(old: tuple[DimLike, ...], new: tuple[DimLike, ...]) -> str:
    """The operand index that a reshape from `old` to `new` reads for result index (i, j, ...)."""
    op = op_named("reshape")
    assert op.index_map is not None
    index = tuple(dims.symbol(n, 0, max(0, dims.bounds(size)[1] - 1)) for n, size in zip("ijkl", new))
    [(_, where, guard)] = op.index_map([TensorType(old, f64)], TensorType(new, f64), index, shape=new)
    assert guard is None
    return ", ".join(map(str, where))


@pytest.mark.parametrize(
    "old, new, text",
    [
        ((B, 4, 5, 5), (B, 100), "i, (j // 25), ((j // 5) % 5), (j % 5)"),
        ((B, 100), (B, 4, 5, 5), "i, 25*j+5*k+l"),
        ((4 * B, 7), (B, 4, 7), "4*i+j, k"),
        ((B, 1, 6), (B, 6, 1), "i, 0, j"),
        ((1, B), (B,), "0, i"),
        ((6, 4), (2, 3, 4), "3*i+j, k"),
        ((3, 4), (2, 6), "((2*i+j) // 4)+i, ((2*i+j) % 4)"),
        ((B, B), (B, B), "i, j"),
    ],
)
def test_a_reshape_divides_only_what_changes(old: tuple[DimLike, ...], new: tuple[DimLike, ...], text: str):
    assert index_of(old, new) == text
