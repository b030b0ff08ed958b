"""`torch.hub`: local repositories, checkpoints that are there and such as are fetched (here by file:// URLs)."""

from __future__ import annotations

import hashlib

import pytest

import vitrify as torch


def test_a_checkpoint_that_is_there(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    torch.save({"w": torch.ones(2)}, folder / "net-1234.pth")
    found = torch.hub.load_state_dict_from_url("https://example.org/models/net-1234.pth?x=1", progress=True)
    assert found["w"].tolist() == [1, 1]


def test_a_checkpoint_is_fetched_once(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    torch.save({"w": torch.ones(2)}, tmp_path / "made.pth")
    digest = hashlib.sha256((tmp_path / "made.pth").read_bytes()).hexdigest()
    source = tmp_path / f"net-{digest[:8]}.pth"
    (tmp_path / "made.pth").rename(source)
    found = torch.utils.model_zoo.load_url(source.as_uri(), check_hash=True)
    assert found["w"].tolist() == [1, 1] and "Downloading" in capsys.readouterr().err
    source.unlink()
    assert torch.hub.load_state_dict_from_url(source.as_uri())["w"].tolist() == [1, 1]


def test_what_cannot_be_fetched_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    (tmp_path / "net-00000000.pth").write_bytes(b"something else")
    wrong, missing = (tmp_path / "net-00000000.pth").as_uri(), (tmp_path / "other.pth").as_uri()
    with pytest.raises(RuntimeError, match=r"invalid hash value of .*expected \"00000000\", got"):
        torch.hub.load_state_dict_from_url(wrong, check_hash=True)
    with pytest.raises(RuntimeError, match=r"cannot download .*Get it yourself and put it at .*other\.pth"):
        torch.hub.load_state_dict_from_url(missing)
    assert not list((tmp_path / "hub" / "checkpoints").iterdir())


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
    with pytest.raises(RuntimeError, match=r"vitrify downloads no code: get github\.com/a/b"):
        torch.hub.load("a/b", "net")
