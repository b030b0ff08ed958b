"""The ops against PyTorch 2.13: results, gradients and node names, stored by
`references/make_op_references.py`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from op_cases import CASES, Case, differentiable, vjp_of

from vitrify.ir import dtypes
from vitrify.ir.builder import ARRAYS

PATH = Path(__file__).parent / "references" / "op_references.npz"
# Of 0 and -0 these may give either.
EITHER_ZERO = {"celu", "elu", "maximum", "minimum", "relu"}


def load() -> dict[str, dict[str, Any]]:
    with np.load(PATH) as stored:
        numbers, index = stored["numbers"], json.loads(str(stored["index"]))
    at = 0
    for entry in index.values():
        for kind in "xyg":
            arrays = []
            for dtype, shape in entry[kind]:
                size = int(np.prod(shape, dtype=int))
                with np.errstate(invalid="ignore"):
                    arrays.append(numbers[at : at + size].reshape(shape).astype(dtype))
                at += size
            entry[kind] = arrays
    assert at == len(numbers)
    return index


REFERENCES = load()
COMPARED = [c for c in CASES if c.id in REFERENCES]
every = pytest.mark.parametrize("case", COMPARED, ids=lambda c: c.id)


def close(got: Any, want: Any, tolerance: float) -> None:
    """Equal up to a tolerance relative to the element, or to the largest element where sums may cancel."""
    assert got.shape == want.shape
    got, want = got.astype(np.float64), want.astype(np.float64)
    scale = np.abs(want[np.isfinite(want)]).max(initial=1e-3)
    np.testing.assert_allclose(got, want, rtol=tolerance, atol=tolerance * scale)


def test_every_case_has_a_current_reference():
    stale = [c.id for c in COMPARED if REFERENCES[c.id]["attrs"] != repr(c.attrs)]
    stale += [id for id in REFERENCES if id not in {c.id for c in CASES}]
    # Ops younger than the sample table are compared through the functions that use them: tests/samples.
    referenced = {id.rsplit("-", 1)[0] for id in REFERENCES}
    missing = [
        c.id
        for c in CASES
        if c.id not in REFERENCES and c.op.name in referenced and c.sample.attrs.get("dims") != ()
    ]
    assert not stale and not missing, "run tests/references/make_op_references.py"


@every
def test_results_are_pytorchs(case: Case):
    reference = REFERENCES[case.id]
    [got], [want] = case.compute(reference["x"]), reference["y"]
    if case.op.name != "convert":
        assert got.dtype == want.dtype
    close(got, want, 1e-5)
    if want.dtype.kind == "f" and case.op.name not in EITHER_ZERO:
        np.testing.assert_array_equal(np.signbit(got[got == 0]), np.signbit(want[got == 0]))


@pytest.mark.parametrize("case", [c for c in COMPARED if differentiable(c)], ids=lambda c: c.id)
def test_gradients_are_pytorchs(case: Case):
    reference = REFERENCES[case.id]
    operands = reference["x"]
    results = case.compute(operands)
    grads = vjp_of(case.op, ARRAYS, operands, results, case.attrs, case.cotangents(results))
    floating = [g for g, x in zip(grads, operands) if x.dtype.kind == "f"]
    if case.op.name == "nll_loss":
        del floating[1:]  # the weight has no gradient
    # The gradient of max_pool_grad in x, of convert from integers ...: none here, zero there.
    wanted = reference["g"]
    assert len(floating) == len(wanted)
    for got, want in zip(floating, wanted):
        if got is None:
            assert not want.any()
        else:
            close(got, want, 1e-5)


def test_gradient_nodes_have_pytorchs_names():
    """Where one op here stands for several there (views, pools of other ranks), the usual one's name is
    declared and the front end passes the others."""
    several = {"avg_pool", "avg_pool_grad", "max_pool", "max_pool_grad", "slice", "matmul", "nll_loss"}
    several |= {"index_add", "index_select"}
    names: dict[str, set[str]] = {}
    for case in COMPARED:
        if case.op.name in ("update_slice", "floor_divide"):  # there an in-place copy, and a mode of div
            continue
        if REFERENCES[case.id]["name"]:
            names.setdefault(case.op.name, set()).add(REFERENCES[case.id]["name"])
    ops = {c.op.name: c.op for c in COMPARED}
    wrong = {
        name: (ops[name].grad_name, found)
        for name, found in names.items()
        if (ops[name].grad_name not in found if name in several else {ops[name].grad_name} != found)
    }
    assert not wrong


def promotions() -> list[tuple[str, str, str]]:
    return [tuple(row) for row in json.loads((PATH.parent / "promotions.json").read_text())]


def test_dtypes_promote_as_pytorchs():
    """Every pair of dtypes against torch.promote_types; "" where it refuses."""
    named = {d.torch_name: d for d in dtypes.ALL}
    for a, b, want in promotions():
        if want:
            assert dtypes.promote(named[a], named[b]) is named[want], (a, b)
        else:
            with pytest.raises(RuntimeError, match="Promotion for"):
                dtypes.promote(named[a], named[b])
