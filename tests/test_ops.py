"""Every op on every one of its samples: types, meaning, gradients, decomposition, lowering rules."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from op_cases import CASES, NARROW_TOLERANCE, Case, differentiable, floating, vjp_of

from vitrify.codegen.loops.nodes import Apply, Buffer, Const, Load
from vitrify.codegen.scalar import SCALAR
from vitrify.ir import dims, dtypes
from vitrify.ir.array_scalars import ARRAY_SCALARS
from vitrify.ir.builder import ARRAYS, ArrayBuilder, GraphBuilder
from vitrify.ir.half_precision import decomposed
from vitrify.ir.interpreter import run
from vitrify.ir.op import Op, all_ops
from vitrify.ir.ops.__main__ import table
from vitrify.ir.special_functions import FORMULAS

every = pytest.mark.parametrize("case", CASES, ids=lambda c: c.id)


def those(condition: Any) -> Any:
    chosen = [c for c in CASES if condition(c)]
    return pytest.mark.parametrize("case", chosen, ids=lambda c: c.id)


def close(got: Any, want: Any, tolerance: float) -> None:
    got, want = np.asarray(got), np.asarray(want)
    assert got.shape == want.shape
    scale = np.abs(want[np.isfinite(want)].astype(np.float64)).max(initial=1.0)
    np.testing.assert_allclose(
        got.astype(np.float64), want.astype(np.float64), rtol=tolerance, atol=tolerance * scale
    )


def test_every_op_but_those_with_regions_has_samples():
    assert [op.name for op in all_ops() if not op.samples] == ["fused", "scan"]


@every
@pytest.mark.parametrize("dtype", [dtypes.f32, dtypes.f64], ids=lambda d: d.name)
def test_results_have_the_inferred_types(case: Case, dtype: dtypes.DType):
    operands = case.operands(dtype)
    before = [a.copy() for a in operands]
    types = case.op.infer_types([ARRAYS.type_of(a) for a in operands], case.attrs)
    results = case.compute(operands)
    bindings = case.told(types, results)
    assert [(r.shape, r.dtype) for r in results] == [(t.bind(bindings).shape, t.dtype.numpy) for t in types]
    for a, b in zip(operands, before):
        np.testing.assert_array_equal(a, b, err_msg="the rule changed its operand")


@every
def test_a_graph_of_the_op_runs(case: Case):
    operands = case.operands(dtypes.f32)
    F = GraphBuilder("g")
    inputs = [F.input(f"x{i}", ARRAYS.type_of(a)) for i, a in enumerate(operands)]
    out = F.apply(case.op, inputs, case.attrs)
    results = run(F.finish(out if isinstance(out, tuple) else [out]), operands)
    for got, want in zip(results, case.compute(operands)):
        assert got.dtype == want.dtype and got.tobytes() == want.tobytes()


@those(lambda c: floating(c) and c.op.name not in ("convert", "nextafter"))
@pytest.mark.parametrize("dtype", [dtypes.f16, dtypes.bf16], ids=lambda d: d.name)
def test_narrow_floats_are_computed_in_float32_and_rounded_once(case: Case, dtype: dtypes.DType):
    operands = case.operands(dtype)
    try:
        types = case.op.infer_types([ARRAYS.type_of(a) for a in operands], case.attrs)
    except (RuntimeError, NotImplementedError):
        assert case.op.lowering == "host"  # linear algebra and the like is refused, as by PyTorch
        return
    results = case.compute(operands)
    widened = [a.astype(np.float32) if a.dtype == dtype.numpy else a for a in operands]
    bindings = case.told(types, results)
    for got, type_, want in zip(results, (t.bind(bindings) for t in types), case.compute(widened)):
        assert (got.shape, got.dtype) == (type_.shape, type_.dtype.numpy)
        if type_.dtype is dtype:
            with np.errstate(over="ignore"):
                rounded = want.astype(dtype.numpy)
            np.testing.assert_array_equal(got.astype(np.float32), rounded.astype(np.float32))


# Gradients


def central_differences(function: Any, operands: list[Any], k: int, step: float) -> Any:
    """d function / d operands[k], where the function gives a number."""
    slopes = np.zeros(operands[k].shape)
    for j in np.ndindex(slopes.shape):
        values = []
        for sign in (1, -1):
            moved = [np.array(a) for a in operands]
            moved[k][j] += sign * step
            values.append(function(moved))
        slopes[j] = (values[0] - values[1]) / (2 * step)
    return slopes


def check_along_lines(found: Any, function: Any, operands: list[Any], k: int, step: float, tolerance: float):
    """`found` is d function / d operands[k], as seen along a few random lines: two calls a line, not two an element."""
    rng = np.random.default_rng(k)
    for line in rng.uniform(-1, 1, (LINES, *found.shape)):
        values = []
        for sign in (1, -1):
            moved = list(operands)
            moved[k] = np.asarray(operands[k] + sign * step * line)
            values.append(function(moved))
        terms = found * line
        scale = max(1.0, float(np.abs(terms).max(initial=0)))
        assert abs(terms.sum() - (values[0] - values[1]) / (2 * step)) <= tolerance * scale


@those(differentiable)
def test_gradients_match_central_differences(case: Case):
    operands = case.operands(dtypes.f64)
    cotangents = case.cotangents(case.compute(operands))

    def loss(moved: list[Any]) -> float:
        return sum(float((r * c).sum()) for r, c in zip(case.compute(moved), cotangents))

    for k, grad in enumerate(case.gradients(operands)):
        if grad is not None:
            assert grad.dtype == np.float64
            close(grad, central_differences(loss, operands, k, 1e-6), 2e-7)


@those(differentiable)
def test_gradients_are_as_good_in_float32(case: Case):
    single, double = (case.gradients(case.operands(d)) for d in (dtypes.f32, dtypes.f64))
    for got, want in zip(single, double):
        if got is not None:
            assert got.dtype == np.float32
            close(got, want, 1e-5 * case.sample.tolerance)


class Tape(ArrayBuilder):
    """Computes on arrays and remembers how, to differentiate what a gradient rule computed."""

    def __init__(self) -> None:
        self.steps: list[tuple[Op, list[Any], dict[str, Any], tuple[Any, ...]]] = []

    def apply(self, op: Op, operands: Any, attrs: Any) -> Any:
        arrays = self._lift(operands)
        result = ARRAYS.apply(op, arrays, attrs)
        results = result if isinstance(result, tuple) else (result,)
        # A view must be an object of its own: gradients are kept by identity.
        results = tuple(r.view() if any(r is a for a in arrays) else r for r in results)
        self.steps.append((op, arrays, op.normalise_attrs(attrs), results))
        return results if isinstance(result, tuple) else results[0]

    def gradient(self, outputs: list[Any], weights: list[Any], inputs: list[Any]) -> list[Any]:
        sums: dict[int, Any] = {}

        def flow(value: Any, grad: Any) -> None:
            sums[id(value)] = grad if id(value) not in sums else np.asarray(sums[id(value)] + grad)

        for value, weight in zip(outputs, weights):
            flow(value, weight)
        for op, operands, attrs, results in reversed(self.steps):
            incoming = [sums.get(id(r)) for r in results]
            if all(g is None for g in incoming) or op.vjp is None or not op.arity[1]:
                continue
            for x, g in zip(operands, vjp_of(op, ARRAYS, operands, results, attrs, incoming)):
                if g is not None:
                    flow(x, g)
        return [sums.get(id(x), np.zeros_like(x)) for x in inputs]


LINES = 4
STEP_FUNCTIONS = {"sign", "floor", "ceil", "trunc", "round", "floor_divide"}


@those(lambda c: differentiable(c) and c.op.name not in STEP_FUNCTIONS)
def test_second_derivatives_match_central_differences(case: Case):
    """The gradient rule is ordinary code over ops, so it has a gradient itself: of a weighted sum of its
    results."""
    operands = case.operands(dtypes.f64)
    cotangents = case.cotangents(case.compute(operands))
    variables = [*operands, *cotangents]
    count = len(operands)

    def first(values: list[Any], F: Any) -> list[Any]:
        results = F.apply(case.op, values[:count], case.attrs)
        results = results if isinstance(results, tuple) else (results,)
        return [
            g
            for g in vjp_of(case.op, F, values[:count], results, case.attrs, values[count:])
            if g is not None
        ]

    tape = Tape()
    with np.errstate(all="ignore"):
        grads = first(variables, tape)
    weights = [np.random.default_rng(5).normal(size=g.shape) for g in grads]

    def loss(moved: list[Any]) -> float:
        with np.errstate(all="ignore"):
            return sum(float((g * w).sum()) for g, w in zip(first(moved, ARRAYS), weights))

    second = tape.gradient(grads, weights, variables)
    for k, x in enumerate(variables):
        if x.dtype == np.float64:
            check_along_lines(second[k], loss, variables, k, 1e-5, 1e-5)


@those(lambda c: differentiable(c))
def test_the_rule_reads_only_what_the_op_says_it_saves(case: Case):
    """What `saves` does not name is known by its type alone when the gradient is computed."""

    class Unsaved:
        def __init__(self, array: Any):
            self.type = ARRAYS.type_of(array)

    class Frugal(ArrayBuilder):
        def type_of(self, value: Any) -> Any:
            return value.type if isinstance(value, Unsaved) else super().type_of(value)

    operands = case.operands(dtypes.f64)
    results = case.compute(operands)

    def kept(side: str, i: int, array: Any) -> Any:
        return array if {f"{side}:{i}", f"{side}:*"} & set(case.op.saves) else Unsaved(array)

    grads = vjp_of(
        case.op,
        Frugal(),
        [kept("input", i, a) for i, a in enumerate(operands)],
        [kept("output", i, a) for i, a in enumerate(results)],
        case.attrs,
        case.cotangents(results),
    )
    for got, want in zip(grads, case.gradients(operands)):
        assert (got is None) == (want is None)
        if got is not None:
            np.testing.assert_array_equal(got, want)


# Decomposition


def test_composites_decompose_and_primitives_do_not():
    for op in all_ops():
        assert (op.level == "composite") == (op.decompose is not None), op.name
        # A composite with kernels of its own is decomposed only where those do not serve.
        own = op.lowering in ("attention", "running")
        taken_out = op.name == "later"  # by fusion
        assert (op.lowering == "none") == ((op.level == "composite" and not own) or taken_out), op.name


@those(lambda c: c.op.decompose is not None)
@pytest.mark.parametrize("dtype", [dtypes.f32, dtypes.f64, dtypes.f16], ids=lambda d: d.name)
def test_decompositions_equal_the_op(case: Case, dtype: dtypes.DType):
    operands = case.operands(dtype)
    F = GraphBuilder("g")
    inputs = [F.input(f"x{i}", ARRAYS.type_of(a)) for i, a in enumerate(operands)]
    graph = F.finish(decomposed(case.op, F, inputs, case.attrs))
    tolerance = {dtypes.f32: 2e-6, dtypes.f64: 1e-14, dtypes.f16: 2 * NARROW_TOLERANCE[dtypes.f16]}[dtype]
    for got, want in zip(run(graph, operands), case.compute(operands), strict=True):
        assert got.dtype == want.dtype
        close(got, want, tolerance * case.sample.tolerance)


# Lowering rules


def test_ops_have_the_rules_that_their_lowering_asks_for():
    rules = {"pointwise": "scalar", "view": "index_map"}
    for op in all_ops():
        for lowering, rule in rules.items():
            assert (getattr(op, rule) is not None) == (op.lowering == lowering), (op.name, rule)
        assert op.lowering == "reduce" or op.combine is None, op.name


NUMPY_SCALARS = {
    **{
        name: getattr(np, name)
        for name in ("abs", "sqrt", "floor", "ceil", "trunc", "exp", "expm1", "log", "log1p")
    },
    **{name: getattr(np, name) for name in ("sin", "cos", "tan", "tanh")},
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "neg": np.negative,
    "round": np.rint,
    "max": np.maximum,
    "min": np.minimum,
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
    "eq": np.equal,
    "ne": np.not_equal,
    "and": np.bitwise_and,
    "or": np.bitwise_or,
    "xor": np.bitwise_xor,
    "not": np.invert,
    "select": np.where,
    "fma": lambda a, b, c: a * b + c,
}
# Operations whose NumPy form is the op of that name itself.
SAME_AS_OP = {"div": "div", "floordiv": "floor_divide", "mod": "remainder"}
SAME_AS_OP |= {
    name: name
    for name in ("pow", "erf", "sigmoid", "asin", "acos", "atan", "atan2", "asinh", "acosh", "atanh")
}


SHIFTS = {"shl": "bitwise_left_shift", "shr": "bitwise_right_shift"}


def evaluate(expr: Any, arrays: dict[Buffer, Any]) -> Any:
    """A scalar expression over whole arrays."""
    match expr:
        case Const():
            return expr.dtype.numpy.type(expr.value)
        case Load():
            return arrays[expr.buffer]
        case Apply():
            args = [evaluate(a, arrays) for a in expr.args]
            if expr.op == "cast":
                return np.asarray(args[0]).astype(expr.dtype.numpy)
            if expr.op == "bitcast":
                return np.asarray(args[0]).view(expr.dtype.numpy)
            if expr.op in ("shl", "shr"):
                return getattr(ARRAYS, SHIFTS[expr.op])(*(np.asarray(a, args[0].dtype) for a in args))
            if expr.op == "bitcast":
                return np.asarray(args[0]).view(expr.dtype.numpy)
            if expr.op in SAME_AS_OP:
                return getattr(ARRAYS, SAME_AS_OP[expr.op])(*map(np.asarray, args))
            if expr.op in FORMULAS:
                return FORMULAS[expr.op](ARRAY_SCALARS, args[0])
            return NUMPY_SCALARS[expr.op](*args)
    raise TypeError(expr)


def complex_operand(case: Case) -> bool:
    """Complex numbers have no scalar rules: NumPy computes them in compiled code too."""
    return any(np.iscomplexobj(a) for a in case.operands(dtypes.f64))


@those(lambda c: c.op.lowering == "pointwise" and not complex_operand(c))
def test_scalar_rules_mean_what_the_numpy_rules_mean(case: Case):
    operands = case.operands(dtypes.f64)

    buffers = [Buffer(f"x{i}", dtypes.from_numpy(a.dtype), ()) for i, a in enumerate(operands)]
    assert case.op.scalar is not None
    expr = case.op.scalar(SCALAR, *(Load(b, ()) for b in buffers), **case.attrs)
    with np.errstate(all="ignore"):
        got = np.asarray(evaluate(expr, dict(zip(buffers, operands))))
    [want] = case.compute(operands)
    assert expr.dtype.numpy == want.dtype
    close(np.broadcast_to(got, want.shape), want, 1e-15)


@those(lambda c: c.op.lowering == "view")
def test_index_maps_say_where_elements_come_from(case: Case):
    operands = case.operands(dtypes.f64)
    [want] = case.compute(operands)
    types = [ARRAYS.type_of(a) for a in operands]
    [result] = case.op.infer_types(types, case.attrs)
    index = tuple(dims.symbol(f"i{k}", 0, max(n - 1, 0)) for k, n in enumerate(want.shape))
    assert case.op.index_map is not None
    cases = case.op.index_map(types, result, index, **case.attrs)

    def element(at: dict[str, int]) -> Any:
        for entry in cases:
            if not isinstance(entry, tuple):
                return entry
            operand, where, guard = entry
            if all(
                dims.evaluate(low, at) <= dims.evaluate(i, at) < dims.evaluate(high, at)
                for low, i, high in guard or ()
            ):
                return operands[operand][tuple(dims.evaluate(i, at) for i in where)]
        raise AssertionError("no case holds")

    for position in np.ndindex(want.shape):
        assert element({f"i{k}": n for k, n in enumerate(position)}) == want[position]


@those(lambda c: c.op.write_back is not None and "dtype" not in c.op.attrs)
def test_write_back_is_writing_through_the_view(case: Case):
    base = np.array(case.operands(dtypes.f64)[0])
    if base.dtype.kind != "c":
        base = base.astype(np.float64)
    view = case.op.numpy(base, **case.attrs)
    assert np.shares_memory(view, base) or not view.size
    new = np.random.default_rng(3).normal(size=view.shape).astype(view.dtype)
    assert case.op.write_back is not None
    if view.nbytes > base.nbytes:
        with pytest.raises(
            RuntimeError, match="more than one element of the written-to tensor refers to a single"
        ):
            case.op.write_back(ARRAYS, base, new, **case.attrs)
        return
    got = case.op.write_back(ARRAYS, base.copy(), new, **case.attrs)
    if view.size:
        np.copyto(view, new)
    np.testing.assert_array_equal(got, base)


def test_the_op_table_in_the_docs_is_current():
    stored = (Path(__file__).parent.parent / "docs" / "ops.md").read_text()
    assert stored == table(), "run python -m vitrify.ir.ops > docs/ops.md"
