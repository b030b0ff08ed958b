"""docs/coverage.md says what is so."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from samples import states
from samples.names import names_of
from samples.store import all_samples

import vitrify
from vitrify.coverage import coverage_text, reason
from vitrify.torch_names import has, torch_names

DOCUMENT = Path(__file__).parents[1] / "docs" / "coverage.md"


def test_the_document_is_current():
    assert DOCUMENT.read_text(encoding="utf-8") == coverage_text(), "run: vitrify coverage > docs/coverage.md"


def test_what_the_samples_show_is_current():
    assert states.FILE.read_text(encoding="utf-8") == states.text(), "run: python -m tests.samples.states"


def test_presence():
    assert has("torch", "zeros") and has("torch", "nn") and has("torch.Tensor", "add_")
    assert has("torch", "newaxis")  # which is None
    assert not has("torch", "package") and not has("torch.Tensor", "sparse_mask")
    # PyTorch has it, we do not.
    assert "package" in torch_names()["torch"] and not has("torch", "package")


def test_reasons():
    assert reason("quantize_per_tensor") and reason("sparse_coo_tensor") and reason("cudnn_convolution")
    assert not any(map(reason, ("quantile", "flipud", "tril_indices", "autocast", "typename")))


def test_many_names_have_several_samples():
    """Classes of torch.nn by their samples, and functions and methods by theirs."""
    samples = Counter(name for sample in all_samples() for name in names_of(sample))
    several = {name for name, count in samples.items() if count > 1}
    modules = {name for name in several if name.startswith("torch.nn.") and name.count(".") == 2}
    assert sum(isinstance(getattr(vitrify.nn, name.split(".")[-1], None), type) for name in modules) >= 155
    assert len(several - modules) >= 900
