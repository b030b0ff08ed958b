"""State dicts in safetensors files."""

from __future__ import annotations

import pytest
import vitrify as torch
import vitrify.nn as nn
from vitrify.serialization import load_file, read_metadata, save_file


def test_state_dict_round_trip(tmp_path):
    torch.manual_seed(0)
    net, other = (nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2)) for _ in range(2))
    save_file(net.state_dict(), tmp_path / "net.safetensors", {"step": "7"})
    other.load_state_dict(load_file(tmp_path / "net.safetensors"))
    assert all(bool((a == b).all()) for a, b in zip(net.parameters(), other.parameters()))
    assert read_metadata(tmp_path / "net.safetensors") == {"step": "7"}


@pytest.mark.parametrize(
    "dtype", ["bool", "uint8", "int8", "int16", "int32", "int64", "float16", "bfloat16", "float32", "float64"]
)
def test_every_dtype(tmp_path, dtype):
    dtype = getattr(torch, dtype)
    tensors = {
        "a": torch.tensor([[0, 1, 2], [3, 4, 5]]).to(dtype),
        "scalar": torch.tensor(1).to(dtype),
        "empty": torch.zeros(0, 2, dtype=dtype),
        "transposed": torch.arange(6).reshape(2, 3).t().to(dtype),
    }
    save_file(tensors, tmp_path / "t")
    for name, tensor in load_file(tmp_path / "t").items():
        assert tensor.dtype is dtype and tensor.shape == tensors[name].shape
        assert bool((tensor == tensors[name]).all())


def test_loaded_tensors_can_be_written_to(tmp_path):
    save_file({"a": torch.zeros(2)}, tmp_path / "t")
    loaded = load_file(tmp_path / "t")["a"]
    assert loaded.add_(1).tolist() == [1, 1]


def test_only_tensors_are_saved(tmp_path):
    with pytest.raises(TypeError, match="'lr' is a float; only tensors can be saved"):
        save_file({"lr": 0.1}, tmp_path / "t")


def test_damaged_files_are_refused(tmp_path):
    path = tmp_path / "t"
    save_file({"a": torch.zeros(2)}, path)
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(RuntimeError, match="is not a readable safetensors file"):
        load_file(path)
    path.write_bytes(b"\x80\x04K\x03.")
    with pytest.raises(RuntimeError, match="is not a readable safetensors file"):
        load_file(path)
    with pytest.raises(FileNotFoundError):
        load_file(tmp_path / "missing")
