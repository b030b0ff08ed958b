"""Every public name gives PyTorch 2.13.0's values and gradients: the sample table, eager and compiled."""

from __future__ import annotations

import warnings
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from samples.names import names_of
from samples.store import all_samples, family, stored
from samples.table import Array, Sample, encode, note, run

import vitrify as torch

# (rtol, atol) of torch.testing.assert_close.
TOLERANCES = {
    "torch.float64": (1e-7, 1e-7),
    "torch.complex128": (1e-7, 1e-7),
    "torch.float32": (1.3e-6, 1e-5),
    "torch.complex64": (1.3e-6, 1e-5),
    "torch.float16": (1e-3, 1e-5),
    "torch.bfloat16": (1.6e-2, 1e-5),
}

SAMPLES = all_samples()


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def ids(sample: Sample) -> str:
    return f"{sample.family}: {sample.key}"


@pytest.mark.parametrize("sample", SAMPLES, ids=ids)
def test_eager(sample: Sample) -> None:
    check(sample, run(torch, family(sample.family), sample))


def compiled_samples() -> Iterator[Any]:
    """All that can be compiled. At once those that call a public name for the first time, and of the others a sixteenth,
    chosen by name; `make test-slow` runs the rest."""
    called: set[str] = set()
    for sample in SAMPLES:
        if note(family(sample.family).eager_only, sample) is None:
            names = names_of(sample).keys()
            later = names <= called and zlib.crc32(sample.key.encode()) % 16
            called |= names
            yield pytest.param(sample, marks=pytest.mark.slow if later else (), id=ids(sample))


@pytest.mark.parametrize("sample", list(compiled_samples()))
def test_compiled(sample: Sample) -> None:
    check(sample, run(torch, family(sample.family), sample, compile=True))


def check(sample: Sample, result: dict[str, Any]) -> None:
    records, theirs = stored(sample.family)
    if sample.key not in records:
        pytest.fail(f"no stored result: python -m tests.samples.make {sample.family}")
    assert "error" not in result, result["error"]
    mine: list[Array] = []
    record = {part: value for part, value in records[sample.key].items() if part != "exact"}
    exact = records[sample.key].get("exact", {})
    assert bool(exact) == (note(family(sample.family).exact, sample) is not None), "stored before its note"
    _compare(encode(result, mine), mine, {**record, **_with_dtypes(exact, record)}, theirs, "")


def _with_dtypes(exact: Any, record: Any) -> Any:
    """The float64 results, to be compared as those of the record's dtypes."""
    if isinstance(exact, dict) and "tensor" in exact:
        return {**exact, "dtype": record["dtype"]}
    if isinstance(exact, dict):
        return {part: _with_dtypes(value, record[part]) for part, value in exact.items()}
    if isinstance(exact, list):
        return [_with_dtypes(value, other) for value, other in zip(exact, record, strict=True)]
    return exact


def _compare(got: Any, mine: list[Array], want: Any, theirs: list[Array], where: str) -> None:
    if isinstance(want, dict):
        assert isinstance(got, dict), f"{where}: {got!r}, PyTorch has {want!r}"
        number = want.get("tensor", want.get("array"))
        if not isinstance(number, int):
            assert got.keys() == want.keys(), where
            for key in want:
                _compare(got[key], mine, want[key], theirs, f"{where}.{key}")
            return
        assert got.get("dtype") == want.get("dtype"), where
        a, b = mine[got.get("tensor", got.get("array"))], theirs[number]
        assert a.shape == b.shape, f"{where}: {a.shape}, PyTorch has {b.shape}"
        if b.dtype.kind in "fc":
            rtol, atol = TOLERANCES.get(want.get("dtype"), (1e-7, 1e-7))
            np.testing.assert_allclose(a, b, rtol, atol, err_msg=where)
        else:
            np.testing.assert_array_equal(a, b, err_msg=where)
    elif isinstance(want, list):
        assert isinstance(got, list) and len(got) == len(want), where
        for number, (x, y) in enumerate(zip(got, want)):
            _compare(x, mine, y, theirs, f"{where}[{number}]")
    else:
        assert got == want, f"{where}: {got!r}, PyTorch has {want!r}"
