"""Attention of bfloat16 whose products are made in tile registers (AMX): the loops, the instructions emulated, and real
where there are any."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from amx_emulation import AMX
from lowering import lowered
from test_amx_emulated import VECTORS, WAYS, loaded
from test_lower_attention import (
    BACKWARD,
    FORWARD,
    STATE,
    exactly,
    gradient_operands,
    graph_of,
    near,
    random,
    rounded,
    seen,
)

from vitrify.codegen.loops import interpreter as loops
from vitrify.codegen.loops.nodes import Program
from vitrify.ir import dims, dtypes, interpreter
from vitrify.ir.builder import GraphBuilder
from vitrify.ir.graph import Graph
from vitrify.ir.ops.attention import Array
from vitrify.ir.types import TensorType
from vitrify.runtime.execute import run_program

# Weights are rounded, too.
BF16, CLOSE = dtypes.bf16, 4 / 2**8

CASES: list[tuple[str, list[Array], dict[str, Any]]] = [
    ("whole", [random(2, 64, 64)] + [random(2, 128, 64)] * 2, {}),
    ("odd rows", [random(2, 71, 32), random(2, 99, 32), random(2, 99, 48)], {}),
    ("words left", [random(2, 40, 48), random(2, 40, 48), random(2, 40, 16)], {}),
    ("causal", [random(1, 2, 130, 32)] * 3, {"causal": True}),
    ("causal, more keys", [random(2, 33, 32), random(2, 200, 32), random(2, 200, 32)], {"causal": True}),
    ("causal, more queries", [random(2, 200, 32), random(2, 33, 32), random(2, 33, 32)], {"causal": True}),
    ("shared heads", [random(1, 4, 33, 32), random(1, 2, 65, 32), random(1, 2, 65, 32), random(33, 65)], {}),
    ("mask", [random(3, 33, 32), random(3, 65, 32), random(3, 65, 32), seen(3, 33, 65)], {"safe": True}),
    (
        "hidden rows",
        [random(3, 33, 32), random(3, 65, 32), random(3, 65, 32), seen(3, 1, 65, share=0.02)],
        {"safe": True},
    ),
    (
        "dropout",
        [random(3, 33, 32), random(3, 65, 32), random(3, 65, 32), STATE],
        {"p": 0.3, "stream": 1},
    ),
]


def in_tiles(graph: Graph) -> Program:
    program = lowered(graph, AMX.name)
    tiled = [n for n in (sum(b.space == "tile" for b in x.kernel.locals) for x in program.launches) if n]
    assert tiled == [3], "one kernel, whose products share their tile registers"
    return program


@VECTORS
@WAYS
@pytest.mark.parametrize("case", CASES, ids=lambda case: case[0])
def test_kernels_compute_the_op(how: str, case: tuple[str, list[Array], dict[str, Any]]) -> None:
    _, arrays, attrs = case
    arrays, attrs = rounded(arrays, BF16), {"scale": 0.3, **attrs}
    for op, given in ((FORWARD, arrays), (BACKWARD, gradient_operands(arrays, **attrs))):
        program = in_tiles(graph_of(op, given, **attrs))
        native = loaded(program, how)
        one, two = (run_program(program, given, {}, threads, loaded=native) for threads in (1, 2))
        assert [a.tobytes() for a in one] == [b.tobytes() for b in two]
        near(one, exactly(op, given, attrs, BF16), CLOSE)


@VECTORS
@WAYS
def test_one_operand_may_be_all_three(how: str) -> None:
    """Read in a form for each of its roles."""
    x = rounded([random(2, 70, 32)], BF16)[0]
    _, _, _, _, log_sum, delta = gradient_operands([x, x, x])
    builder = GraphBuilder("one")
    value, sums, less = (
        builder.input(n, TensorType(a.shape, dtypes.from_numpy(a.dtype)))
        for n, a in (("x", x), ("log_sum", log_sum), ("delta", delta))
    )
    graph = builder.finish(
        [*builder.attention_grad(value, value, value, value, sums, less), builder.attention(*[value] * 3)[0]]
    )
    program = lowered(graph, AMX.name)
    found = run_program(program, [x, log_sum, delta], {}, 1, loaded=loaded(program, how))
    wanted = (
        exactly(BACKWARD, [x, x, x, x, log_sum, delta], {}, BF16) + exactly(FORWARD, [x, x, x], {}, BF16)[:1]
    )
    near(found, wanted, CLOSE)


@pytest.mark.parametrize("attrs", [{}, {"causal": True}], ids=str)
def test_loops_mean_the_op(attrs: dict[str, Any]) -> None:
    arrays = rounded([random(1, 37, 16), random(1, 69, 16), random(1, 69, 32)], BF16)
    attrs = {"scale": 0.5, **attrs}
    for op, given in ((FORWARD, arrays), (BACKWARD, gradient_operands(arrays, **attrs))):
        program = in_tiles(graph_of(op, given, **attrs))
        found, code = loops.run_program(program, given, {})
        assert code == 0
        near(found, exactly(op, given, attrs, BF16), CLOSE)


@VECTORS
@WAYS
def test_lengths_may_be_symbols(how: str) -> None:
    batch, rows, columns = (dims.Dim(n, 1, 300) for n in ("batch", "rows", "columns"))
    builder = GraphBuilder("symbolic")
    q = builder.input("q", TensorType((batch, 3, rows, 32), BF16))
    k, v = (builder.input(n, TensorType((batch, 3, columns, 32), BF16)) for n in "kv")
    out, log_sum = builder.attention(q, k, v, scale=0.25, causal=True)
    forward = builder.finish([out, log_sum])
    program = in_tiles(forward)
    native = loaded(program, how)
    for b, r, c in ((1, 33, 70), (2, 64, 64), (3, 1, 5), (1, 200, 97)):
        given = rounded([random(b, 3, r, 32), random(b, 3, c, 32), random(b, 3, c, 32)], BF16)
        bindings = interpreter.bind_symbols(forward, given)
        found = run_program(program, given, bindings, 1, loaded=native)
        near(found, exactly(FORWARD, given, {"scale": 0.25, "causal": True}, BF16), CLOSE)


@VECTORS
@WAYS
def test_numbers_that_are_no_numbers(how: str) -> None:
    q, k, v = rounded([random(1, n, 32) for n in (37, 45, 45)], BF16)
    mask = np.zeros((37, 45), np.float32).astype(BF16.numpy)
    mask[3] = -np.inf
    for number in (0.0, np.nan, np.inf):
        k[0, 5, 2] = number
        attrs = {"safe": True, "scale": 0.3}
        program = in_tiles(graph_of(FORWARD, [q, k, v, mask], **attrs))
        found = run_program(program, [q, k, v, mask], {}, 1, loaded=loaded(program, how))
        near(found, exactly(FORWARD, [q, k, v, mask], attrs, BF16), CLOSE)


def test_few_rows_and_odd_sizes_are_no_tiles() -> None:
    for shape in ((2, 20, 32), (2, 40, 24)):
        arrays = rounded([random(*shape)] * 3, BF16)
        program = lowered(graph_of(FORWARD, arrays), AMX.name)
        assert not any(b.space == "tile" for x in program.launches for b in x.kernel.locals)
