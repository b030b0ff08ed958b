"""Philox, and what is drawn from it."""

from __future__ import annotations

import numpy as np
import pytest

import vitrify.ir.ops  # noqa: F401
from vitrify.ir import dtypes
from vitrify.ir.builder import ARRAYS as F
from vitrify.ir.ops.random import philox

ONES = 0xFFFFFFFF
PI = ((0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344), (0xA4093822, 0x299F31D0))


@pytest.mark.parametrize(
    "counter, key, words",
    [
        ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((ONES,) * 4, (ONES,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (*PI, (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1)),
    ],
    ids=["zeros", "ones", "pi"],
)
def test_philox_gives_the_published_vectors(
    counter: tuple[int, ...], key: tuple[int, int], words: tuple[int, ...]
):
    """The known answers of the Random123 distribution (tests/kat_vectors, philox4x32 10)."""
    assert tuple(int(word) for word in philox(counter, key)) == words


def state(seed: int, call: int) -> np.ndarray:
    return np.array([seed, call], np.int64)


def test_an_element_depends_on_its_index_alone():
    long = F.random_uniform(state(3, 5), shape=(1000,))
    np.testing.assert_array_equal(F.random_uniform(state(3, 5), shape=(7, 3)).reshape(-1), long[:21])
    assert len(np.unique(long)) > 990


def test_streams_continue_the_call_numbers():
    np.testing.assert_array_equal(
        F.random_uniform(state(3, 5), shape=(9,), stream=2), F.random_uniform(state(3, 7), shape=(9,))
    )
    different = [
        F.random_uniform(state(s, c), shape=(9,)).tobytes() for s in (-1, 0, 1) for c in (0, 1, 1 << 40)
    ]
    assert len(set(different)) == len(different)


@pytest.mark.parametrize("dtype", [dtypes.f16, dtypes.bf16, dtypes.f32, dtypes.f64], ids=lambda d: d.name)
def test_numbers_are_uniform_below_one(dtype: dtypes.DType):
    drawn = F.random_uniform(state(11, 0), shape=(100_000,), dtype=dtype).astype(np.float64)
    assert drawn.min() >= 0 and drawn.max() < 1
    counts, _ = np.histogram(drawn, 16, (0, 1))
    # Chi-square with 15 degrees of freedom: above 37.7 once in a thousand draws; the draw is fixed.
    expected = len(drawn) / 16
    assert ((counts - expected) ** 2 / expected).sum() < 37.7


def test_dropout_keeps_the_mean_and_drops_a_share():
    x = np.ones(100_000, np.float32)
    y = F.dropout(x, state(1, 2), p=0.3)
    assert set(np.unique(y)) == {np.float32(0), np.float32(1 / 0.7)}
    assert abs((y == 0).mean() - 0.3) < 0.005
    np.testing.assert_array_equal(F.dropout(x, state(1, 2), p=1.0), 0 * x)
    np.testing.assert_array_equal(F.dropout(x, state(1, 2), p=0.0), x)
