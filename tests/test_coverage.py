"""docs/coverage.md says what is so."""

from __future__ import annotations

from pathlib import Path

from samples import states

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
