"""`load_gguf`: blocks, names and shapes, and what it says about damaged files."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import vitrify as torch
from vitrify.serialization import load_gguf

gguf = pytest.importorskip("gguf", reason="the gguf package is not installed")

RNG = np.random.default_rng(0)
WEIGHT = RNG.normal(size=(6, 64)).astype(np.float32)
KINDS = gguf.GGMLQuantizationType


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("gguf") / "small.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(3)
    writer.add_token_list(["a", "é", "c"])
    writer.add_tensor("plain.weight", WEIGHT)
    writer.add_tensor("half", WEIGHT.astype(np.float16))
    writer.add_tensor("whole", np.arange(6, dtype=np.int32))
    writer.add_tensor("double", WEIGHT.astype(np.float64))
    for name in ("Q4_0", "Q4_1", "Q8_0", "BF16"):
        blocks = gguf.quants.quantize(WEIGHT, KINDS[name])
        writer.add_tensor(name, blocks, raw_dtype=KINDS[name])
    for write in (writer.write_header_to_file, writer.write_kv_data_to_file, writer.write_tensors_to_file):
        write()
    writer.close()
    return path


def test_tensors_and_metadata(path):
    tensors, about = load_gguf(path)
    assert about["general.architecture"] == "llama" and about["llama.block_count"] == 3
    assert about["tokenizer.ggml.tokens"] == ["a", "é", "c"]
    assert tensors["plain.weight"].tolist() == WEIGHT.tolist()
    assert tensors["whole"].dtype is torch.int32 and tensors["whole"].tolist() == list(range(6))
    # Half a step of each block's grid: 32 numbers from about -3 to 3 in 16 or 256 steps.
    for name, error in (("half", 2e-3), ("BF16", 2e-2), ("Q8_0", 2e-2), ("Q4_0", 0.5), ("Q4_1", 0.3)):
        assert tensors[name].dtype is torch.float32 and tensors[name].shape == (6, 64)
        assert np.abs(tensors[name].numpy() - WEIGHT).max() < error
    assert tensors["double"].dtype is torch.float64 and tensors["double"].tolist() == WEIGHT.tolist()
    tensors["plain.weight"].add_(1)  # the file is not written to
    assert load_gguf(path)[0]["plain.weight"].tolist() == WEIGHT.tolist()


FORMATS = [
    "Q5_0",
    "Q5_1",
    "Q2_K",
    "Q3_K",
    "Q4_K",
    "Q5_K",
    "Q6_K",
    "IQ4_NL",
    "IQ4_XS",
    "IQ2_XXS",
    "IQ3_S",
    "TQ2_0",
]


@pytest.mark.parametrize("name", FORMATS)
def test_blocks_of_other_formats(tmp_path, name):
    kind = KINDS[name]
    elements, nbytes = gguf.GGML_QUANT_SIZES[kind]
    blocks = RNG.integers(0, 60, (3, 512 // elements * nbytes), dtype=np.uint8)
    writer = gguf.GGUFWriter(tmp_path / "x.gguf", "llama")
    writer.add_tensor("x", blocks, raw_shape=blocks.shape, raw_dtype=kind)
    for write in (writer.write_header_to_file, writer.write_kv_data_to_file, writer.write_tensors_to_file):
        write()
    writer.close()
    found = load_gguf(tmp_path / "x.gguf")[0]["x"]
    assert found.shape == (3, 512)
    assert np.array_equal(found.numpy(), gguf.quants.dequantize(blocks, kind).reshape(3, 512), equal_nan=True)


@pytest.mark.parametrize(
    "content, message",
    [
        (b"", "not a GGUF file"),
        (b"GGML" + bytes(40), "not a GGUF file"),
        (b"GGUF" + bytes(40), "GGUF version 0"),
        (b"GGUF\x03\0\0\0" + b"\xff" * 16, "damaged GGUF file"),
        (b"GGUF\x03\0\0\0" + (1).to_bytes(8, "little") + bytes(28), "damaged GGUF file"),
    ],
)
def test_refuses_other_files(tmp_path, content, message):
    file = tmp_path / "other.gguf"
    file.write_bytes(content)
    with pytest.raises(RuntimeError, match=message):
        load_gguf(file)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_damage_is_an_error_or_harmless(path, data):
    content = bytearray(path.read_bytes()[: data.draw(st.integers(0, 900) | st.just(10**6))])
    for _ in range(data.draw(st.integers(0, 3))):
        if content:
            content[data.draw(st.integers(0, min(len(content), 700) - 1))] = data.draw(st.integers(0, 255))
    file = path.with_name("damaged.gguf")
    file.write_bytes(content)
    try:
        tensors, _ = load_gguf(file)
    except RuntimeError as error:
        assert "damaged.gguf" in str(error)
    else:
        assert all(isinstance(t, torch.Tensor) for t in tensors.values())
