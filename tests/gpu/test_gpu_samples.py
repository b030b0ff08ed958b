"""The sample table on a device: the same calls with their inputs there give PyTorch's values and gradients.

By default one row in 150 of the families that ask most of the kernels; `make test-gpu` runs them all, eagerly and
compiled.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Any

import pytest
import test_samples
from sample_device import on_device, on_device_too
from samples import table
from samples.store import all_samples, family
from samples.table import Sample, note

import vitrify as torch

pytestmark = pytest.mark.usefixtures("cuda")

FAMILIES = (
    "pointwise", "reductions", "shape", "indexing", "matmul", "order", "special", "nn_functional", "nn_losses",
    "nn_layers", "nn_spatial",
)  # fmt: skip
SHARE = 150


def rows(compiled: bool) -> Iterator[Any]:
    for sample in all_samples(list(FAMILIES)):
        if not on_device_too(sample):
            continue
        if compiled and note(family(sample.family).eager_only, sample) is not None:
            continue
        later = zlib.crc32(f"{sample.key} {compiled}".encode()) % SHARE
        yield pytest.param(
            sample, marks=pytest.mark.slow if later else (), id=f"{sample.family}: {sample.key}"
        )


@pytest.fixture(autouse=True)
def _there() -> Iterator[None]:
    with on_device(torch, test_samples):
        yield


@pytest.mark.parametrize("sample", list(rows(compiled=False)))
def test_eager(sample: Sample) -> None:
    test_samples.check(sample, table.run(torch, family(sample.family), sample))


@pytest.mark.parametrize("sample", list(rows(compiled=True)))
def test_compiled(sample: Sample) -> None:
    test_samples.check(sample, table.run(torch, family(sample.family), sample, compile=True))
