"""The eager core does what PyTorch 2.13.0 does: the programs of `references/eager_cases.py`, run by both."""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vitrify as torch

HERE = Path(__file__).parent / "references"
sys.path.insert(0, str(HERE))
import eager_cases as cases  # noqa: E402

TEXTS = json.loads((HERE / "eager.json").read_text())
with np.load(HERE / "eager.npz") as _file:
    ARRAYS = {int(name[1:]): _file[name] for name in _file.files}


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def agree(got: Any, want: Any, where: str) -> None:
    """Compare what `encode` stored with what was computed here, encoded the same way; gradients to 1e-5."""
    arrays: list[np.ndarray[Any, Any]] = []
    _compare(cases.encode(got, arrays), arrays, want, where)


def _compare(got: Any, arrays: list[Any], want: Any, where: str) -> None:
    if isinstance(want, dict):
        assert isinstance(got, dict), f"{where}: {got!r} is not {want!r}"
        number = want.get("tensor", want.get("array"))
        if number is None:
            assert got.keys() == want.keys(), where
            for key in want:
                _compare(got[key], arrays, want[key], f"{where}.{key}")
            return
        assert got.get("dtype") == want.get("dtype"), where
        mine, theirs = arrays[got.get("tensor", got.get("array"))], ARRAYS[number]
        assert mine.shape == theirs.shape, where
        narrow = want.get("dtype") in ("torch.bfloat16", "torch.float16")
        tolerance = 1e-2 if narrow else 1e-5
        if theirs.dtype.kind == "f":
            np.testing.assert_allclose(mine, theirs, rtol=tolerance, atol=tolerance / 10, err_msg=where)
        else:
            np.testing.assert_array_equal(mine, theirs, err_msg=where)
    elif isinstance(want, list):
        assert isinstance(got, list) and len(got) == len(want), where
        for number, (a, b) in enumerate(zip(got, want)):
            _compare(a, arrays, b, f"{where}[{number}]")
    else:
        assert got == want, where


@pytest.mark.parametrize("expression", cases.EXPRESSIONS)
def test_values_histories_and_gradients(expression: str) -> None:
    agree(cases.run_expression(torch, expression), TEXTS["expressions"][expression], expression)


@pytest.mark.parametrize("expression", cases.PLAIN)
def test_plain_results(expression: str) -> None:
    agree(eval(expression, cases.leaves(torch)), TEXTS["plain"][expression], expression)


@pytest.mark.parametrize("name", cases.PROGRAMS)
def test_programs(name: str) -> None:
    agree(cases.run_program(torch, cases.PROGRAMS[name]), TEXTS["programs"][name], name)


@pytest.mark.parametrize("expression", cases.FAILURES)
def test_errors_are_worded_alike(expression: str) -> None:
    assert cases.failure(torch, expression) == TEXTS["failures"][expression]


@pytest.mark.parametrize("name", cases.PROMOTED)
def test_promotion(name: str) -> None:
    pairs = cases.promoted_pairs(torch)
    found = {label: cases.run_promoted(torch, name, pair) for label, pair in pairs.items()}
    assert {
        k: (v, TEXTS["promotion"][name][k]) for k, v in found.items() if v != TEXTS["promotion"][name][k]
    } == {}
