"""vmap of every declared op is the op on each sample, stacked: with all operands batched, and with each one alone.

The samples are those of the declarations; an op without a batching rule runs sample by sample, which is allowed
for those named here only, so that a new op without a rule is noticed.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

import vitrify as torch
import vitrify.func
from vitrify import dispatch
from vitrify.func.batching import rule_of
from vitrify.ir import dtypes
from vitrify.ir.op import Op, Sample, all_ops
from vitrify.tensor import Tensor, wrap

SIZE = 3
# Ops with a region of their own, or that no program calls by name.
NOT_CALLED = {"fused", "later", "scan"}
# Ops that run sample by sample, with PyTorch's warning.
SLOW = {"bincount", "histogram", "roi_max"}
SLOW_IN_PART = {"isin"}  # with other elements to look for in each sample
SLOW_WITH_STATES = {
    "random_uniform",
    "random_draw",
    "dropout",
    "attention",
    "attention_grad",
}  # a random state per sample, which no program has
SIZED = {"nonzero", "unique", "unique_consecutive", "repeated_positions", "nms"}

CASES = [
    pytest.param(op, sample, id=f"{op.name}-{number}")
    for op in all_ops()
    if op.name not in NOT_CALLED | SIZED and not getattr(op, "regions", 0)
    for number, sample in enumerate(op.samples)
]


def operands_of(sample: Sample, seed: int) -> list[np.ndarray[Any, Any]]:
    return [np.asarray(a) for a in sample.make(np.random.default_rng(seed))]


def as_tensor(array: np.ndarray[Any, Any]) -> Tensor:
    return wrap(np.array(array))


def results(found: Any) -> tuple[Tensor, ...]:
    return found if isinstance(found, tuple) else (found,)


@pytest.mark.parametrize(("op", "sample"), CASES)
def test_vmap_is_a_loop(op: Op, sample: Sample) -> None:
    made = [operands_of(sample, seed) for seed in range(SIZE)]
    count = len(made[0])
    if not count or any(a.shape != b.shape for m in made for a, b in zip(m, made[0])):
        pytest.skip("nothing to batch")
    choices = [tuple(range(count))]
    if count > 1:
        choices += [(i,) for i in range(count)]
    for batched in choices:
        check(op, sample, made, batched)


def check(op: Op, sample: Sample, made: list[list[np.ndarray[Any, Any]]], batched: tuple[int, ...]) -> None:
    count = len(made[0])

    def call(*operands: Tensor) -> Any:
        return dispatch.apply(op, operands, sample.attrs)

    rows = [[as_tensor(m[i] if i in batched else made[0][i]) for i in range(count)] for m in made]
    wanted = [results(call(*row)) for row in rows]
    inputs = [
        as_tensor(np.stack([m[i] for m in made])) if i in batched else as_tensor(made[0][i])
        for i in range(count)
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore" if op.name in SLOW | SLOW_IN_PART | SLOW_WITH_STATES else "error")
        found = results(
            torch.func.vmap(call, in_dims=tuple(0 if i in batched else None for i in range(count)))(*inputs)
        )
    for k, result in enumerate(found):
        want = torch.stack([row[k] for row in wanted])
        assert result.dtype is want.dtype
        a, b = result._array, want._array
        assert a is not None and b is not None
        assert a.shape == b.shape, (a.shape, b.shape)
        if result.dtype is dtypes.bf16:
            a, b = a.astype(np.float32), b.astype(np.float32)
        if result.dtype in (dtypes.f32, dtypes.f64):
            rtol = 1e-4 if result.dtype is dtypes.f32 else 1e-10
            np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol, err_msg=f"{batched}")
        else:
            np.testing.assert_array_equal(a, b, err_msg=f"{batched}")


def test_which_ops_run_sample_by_sample() -> None:
    without = {op.name for op in all_ops() if rule_of(op) is None and op.decompose is None}
    assert without - NOT_CALLED - {"full", "iota"} == SLOW  # those have no operands
