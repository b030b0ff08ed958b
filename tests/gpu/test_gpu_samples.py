"""The sample table on a device: the same calls with their inputs there give PyTorch's values and gradients.

By default one row in a hundred of the families that ask most of the kernels; `make test-gpu` runs them all, eagerly and
compiled. Rows that draw random numbers are left out: a device's numbers are other ones.
"""

from __future__ import annotations

import re
import warnings
import zlib
from collections.abc import Iterator
from typing import Any

import pytest
import test_samples
from samples import table
from samples.store import all_samples, family
from samples.table import Sample, note

import vitrify as torch

pytestmark = pytest.mark.usefixtures("cuda")

FAMILIES = (
    "pointwise", "reductions", "shape", "indexing", "matmul", "order", "special", "nn_functional", "nn_losses",
    "nn_layers", "nn_spatial",
)  # fmt: skip
RANDOM = re.compile(
    r"[Dd]ropout|rrelu|RReLU|rand|bernoulli|gumbel|multinomial|normal_|uniform_|init\.|fractional"
)
# What is about the CPU itself, or makes tensors of a kind that is on the CPU only.
CPU_ONLY = re.compile(r"numpy|storage|data_ptr|from_dlpack|frombuffer|pin_memory|torch\.asarray|\.type\(")
SHARE = 100


def rows(compiled: bool) -> Iterator[Any]:
    for sample in all_samples():
        if sample.family not in FAMILIES or RANDOM.search(sample.key) or CPU_ONLY.search(sample.key):
            continue
        if compiled and note(family(sample.family).eager_only, sample) is not None:
            continue
        later = zlib.crc32(f"{sample.key} {compiled}".encode()) % SHARE
        yield pytest.param(
            sample, marks=pytest.mark.slow if later else (), id=f"{sample.family}: {sample.key}"
        )


@pytest.fixture(autouse=True)
def _on_the_device(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Inputs, cotangents and what a sample makes are on the device; results come back for the comparison."""
    leaves, cotangent, encode = table.leaves, table._cotangent, table.encode

    def there(tensor: torch.Tensor) -> torch.Tensor:
        return tensor.detach().cuda().requires_grad_(tensor.requires_grad)

    def encoded(value: Any, arrays: list[Any]) -> Any:
        return encode(value.detach().cpu() if isinstance(value, torch.Tensor) else value, arrays)

    def module(text: str, names: dict[str, Any]) -> Any:
        """A module, with the parameters that it has on the CPU."""
        with torch.device("cpu"):
            return eval(text, names).cuda()

    monkeypatch.setattr(table, "eval", module, raising=False)
    monkeypatch.setattr(table, "leaves", lambda *args: {k: there(v) for k, v in leaves(*args).items()})
    monkeypatch.setattr(table, "_cotangent", lambda torch, t, *rest: cotangent(torch, t, *rest).to(t.device))
    monkeypatch.setattr(table, "encode", encoded)
    monkeypatch.setattr(test_samples, "encode", encoded)
    with warnings.catch_warnings(), torch.device("cuda"):
        warnings.simplefilter("ignore")
        yield


@pytest.mark.parametrize("sample", list(rows(compiled=False)))
def test_eager(sample: Sample) -> None:
    test_samples.check(sample, table.run(torch, family(sample.family), sample))


@pytest.mark.parametrize("sample", list(rows(compiled=True)))
def test_compiled(sample: Sample) -> None:
    test_samples.check(sample, table.run(torch, family(sample.family), sample, compile=True))
