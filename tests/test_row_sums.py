"""Many rows added up in eager mode: by a native kernel, with NumPy's bits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import vitrify as torch
from vitrify import row_sums
from vitrify.eager import _MANY_ADDED


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(3000, 64), (40, 30, 5, 32)], ids=["index", "index of two dims"])
def test_rows_are_added_in_the_order_of_the_index(dtype: Any, shape: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    lead = shape[: 1 if len(shape) == 2 else 2]
    base = rng.normal(size=(50, *shape[len(lead) :])).astype(dtype)
    index, source = rng.integers(0, 50, lead), rng.normal(size=shape).astype(dtype)
    assert source.size >= _MANY_ADDED
    wanted = base.copy()
    np.add.at(wanted, index, source)
    table = torch.tensor(base, requires_grad=True)
    taken = (
        torch.nn.functional.embedding(torch.tensor(index), table)
        if base.ndim == 2
        else table[torch.tensor(index)]
    )
    taken.backward(torch.tensor(source))
    zeros = np.zeros_like(base)
    np.add.at(zeros, index, source)
    assert table.grad is not None and table.grad.numpy().tobytes() == zeros.tobytes()
    if len(lead) == 1:
        found = torch.tensor(base).index_add(0, torch.tensor(index), torch.tensor(source))
        assert found.numpy().tobytes() == wanted.tobytes()


def test_what_is_left_to_numpy() -> None:
    base, source = np.zeros((4, 3)), np.ones((2, 3))
    assert row_sums.run([base, np.array([0, 1]), source], 1) is None
    assert row_sums.run([base.astype(np.int64), np.array([0, 1]), source.astype(np.int64)], 0) is None


def test_indices_are_checked() -> None:
    for place in (-1, 4):
        with pytest.raises(IndexError, match="index out of range"):
            row_sums.run([np.zeros((4, 3)), np.array([0, place]), np.ones((2, 3))], 0)
