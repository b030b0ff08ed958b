"""Tensors in safetensors files: single, sharded, mapped, damaged."""

from __future__ import annotations

import json
import pathlib
import random
import sys

import pytest

import vitrify as torch
import vitrify.nn as nn
from vitrify.serialization import load_checkpoint, load_file, load_sharded, read_metadata, save_file

REFERENCES = pathlib.Path(__file__).parent / "references"
sys.path.insert(0, str(REFERENCES))

from checkpoint_cases import every_dtype, same  # noqa: E402

FILE = REFERENCES / "checkpoints" / "dtypes.safetensors"


def written(path: pathlib.Path, header, data: bytes = b"") -> pathlib.Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path


def plain():
    return {name: tensor for name, tensor in every_dtype(torch).items() if name != "complex128"}


@pytest.mark.parametrize("mmap", [False, True])
def test_a_file_of_the_library(mmap):
    loaded = load_file(FILE, mmap=mmap)
    same({name: loaded[name] for name in plain()}, plain())
    assert read_metadata(FILE) == {"made by": "safetensors"}
    assert torch.load(FILE, map_location="cpu")["int8"].tolist() == [0, 1, 2, 100]


def test_the_library_reads_ours(tmp_path):
    numpy = pytest.importorskip("safetensors.numpy")
    tensors = plain()
    save_file(tensors, tmp_path / "t.safetensors", {"a": "b"})
    for name, array in numpy.load_file(tmp_path / "t.safetensors").items():
        assert array.dtype == tensors[name]._array.dtype and array.tolist() == tensors[name]._array.tolist()


def test_a_mapped_file_is_not_changed(tmp_path):
    save_file({"a": torch.zeros(1000)}, tmp_path / "t")
    before = (tmp_path / "t").read_bytes()
    loaded = load_file(tmp_path / "t")["a"]
    assert not loaded._array.flags.owndata
    loaded.add_(1)
    assert loaded.sum() == 1000 and (tmp_path / "t").read_bytes() == before


def test_shards(tmp_path):
    net = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    state = net.state_dict()
    weight_map = {name: f"model-{1 + i % 2}-of-2.safetensors" for i, name in enumerate(state)}
    for shard in set(weight_map.values()):
        save_file({name: state[name] for name in state if weight_map[name] == shard}, tmp_path / shard)
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": weight_map}))
    loaded = load_checkpoint(index)
    assert list(loaded) == list(state)
    other = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    assert str(other.load_state_dict(loaded)) == "<All keys matched successfully>"
    same(other.state_dict(), state)

    for bad, message in (
        ({**weight_map, "more": "model-1-of-2.safetensors"}, "and it does not"),
        ({"a": "../model.safetensors"}, "names a file outside its folder"),
        ({"a": "/etc/passwd"}, "names a file outside its folder"),
        ({"a": 3}, "outside its folder|is not an index"),
        (["a"], "is not an index of safetensors files"),
    ):
        index.write_text(json.dumps({"weight_map": bad}))
        with pytest.raises(RuntimeError, match=message):
            load_sharded(index)
    index.write_text("{")
    with pytest.raises(RuntimeError, match="is not an index of safetensors files"):
        load_sharded(index)
    index.write_text(json.dumps({"weight_map": {"a": "missing.safetensors"}}))
    with pytest.raises(FileNotFoundError):
        load_sharded(index)


def test_load_state_dict_reports_what_does_not_fit(tmp_path):
    save_file({"weight": torch.zeros(2, 2), "extra": torch.zeros(1)}, tmp_path / "t.safetensors")
    with pytest.raises(RuntimeError) as error:
        nn.Linear(3, 2).load_state_dict(load_checkpoint(tmp_path / "t.safetensors"))
    assert str(error.value) == (
        "Error(s) in loading state_dict for Linear:\n"
        '\tMissing key(s) in state_dict: "bias". \n'
        '\tUnexpected key(s) in state_dict: "extra". \n'
        "\tsize mismatch for weight: copying a param with shape torch.Size([2, 2]) from checkpoint, the shape in "
        "current model is torch.Size([2, 3])."
    )


@pytest.mark.parametrize(
    ("header", "data", "message"),
    [
        (b"{", 0, "no JSON"),
        (b"[]", 0, "no table"),
        (b'{"a":' * 100_000, 0, "no JSON"),
        (b'{"__metadata__":{"a":1}}', 0, "no table of text"),
        (b'{"a":{},"a":{}}', 0, "stands in it twice"),
        ({"a": 1}, 0, "not described"),
        ({"a": {"dtype": "F8_E5M2", "shape": [1], "data_offsets": [0, 1]}}, 1, "dtype 'F8_E5M2', which is not supp"),
        ({"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}}, 4, "no valid shape and place"),
        ({"a": {"dtype": "F32", "shape": [True], "data_offsets": [0, 4]}}, 4, "no valid shape and place"),
        ({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}}, 4, "does not lie inside"),
        ({"a": {"dtype": "F32", "shape": [1 << 61], "data_offsets": [0, 1 << 62]}}, 4, "does not lie inside"),
        ({"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}}, 8, "overlap or leave gaps"),
        ({"a": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}, 8, "take 4 bytes, and it holds 8"),
        (
            {k: {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]} for k in "ab"}, 4, "overlap or leave gaps",
        ),
    ],
)  # fmt: skip
def test_headers_that_are_not_true(tmp_path, header, data, message):
    path = written(tmp_path / "t", header, bytes(data))
    with pytest.raises(RuntimeError, match=f"is not a readable safetensors file: .*{message}"):
        load_file(path)


def test_bytes_changed_at_random(tmp_path):
    whole, draw = FILE.read_bytes(), random.Random(0)
    for _ in range(400):
        data = bytearray(whole)
        for _ in range(draw.choice((1, 2, 8))):
            data[draw.randrange(len(data))] = draw.randrange(256)
        (tmp_path / "t").write_bytes(bytes(data))
        try:
            loaded = load_file(tmp_path / "t")
        except RuntimeError as error:
            assert "is not a readable safetensors file" in str(error)
        else:
            assert all(tensor.tolist() is not None for tensor in loaded.values())


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
