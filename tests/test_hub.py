"""`torch.hub`: local repositories and files that are there already; nothing is downloaded."""

from __future__ import annotations

import pytest

import vitrify as torch


def test_a_checkpoint_that_is_there(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    torch.save({"w": torch.ones(2)}, folder / "net-1234.pth")
    found = torch.hub.load_state_dict_from_url("https://example.org/models/net-1234.pth?x=1", progress=True)
    assert found["w"].tolist() == [1, 1]
    with pytest.raises(
        RuntimeError, match=r"get https://example.org/other.pth yourself and put it at .*other.pth"
    ):
        torch.hub.load_state_dict_from_url("https://example.org/other.pth")


def test_a_local_repository(tmp_path):
    (tmp_path / "parts.py").write_text("SIZE = 3\n")
    (tmp_path / "hubconf.py").write_text(
        "from vitrify import nn as _nn\nfrom parts import SIZE as _SIZE\n\n"
        "def net(out=2):\n    'A layer.'\n    return _nn.Linear(_SIZE, out)\n"
    )
    assert torch.hub.list(str(tmp_path)) == ["net"]
    assert torch.hub.help(str(tmp_path), "net") == "A layer."
    assert torch.hub.load(str(tmp_path), "net", out=5, source="local").out_features == 5
    with pytest.raises(RuntimeError, match="Cannot find callable other in hubconf"):
        torch.hub.load(str(tmp_path), "other", source="local")
    with pytest.raises(RuntimeError, match=r"vitrify downloads nothing: get github\.com/a/b"):
        torch.hub.load("a/b", "net")
