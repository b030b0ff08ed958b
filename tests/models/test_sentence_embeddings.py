"""BERT from safetensors: examples/sentence_embeddings.py against PyTorch."""

from __future__ import annotations

import pytest

import vitrify as torch

FILES = "model.safetensors", "vocab.txt"


@pytest.fixture(scope="module")
def net():
    import sentence_embeddings

    return sentence_embeddings.load()


def test_tokens(example, reference):
    program = example("sentence_embeddings", *FILES)
    stored = reference("bert")
    pieces = program.WordPieces(program.model_files.find("vocab.txt"))
    assert (
        program.batch([pieces(s) for s in stored["sentences"].tolist()]).tolist() == stored["tokens"].tolist()
    )
    assert pieces.split("unaffable") == ["una", "##ffa", "##ble"]
    assert pieces("x" * 101) == [101, 100, 102] and pieces("\U0001f980") == [101, 100, 102]


def test_vectors_eager_and_compiled(example, reference, close, request):
    program = example("sentence_embeddings", *FILES)
    net = request.getfixturevalue("net")
    stored = reference("bert")
    tokens = torch.tensor(stored["tokens"])
    close(net(tokens), stored["vectors"], atol=1e-6)
    shapes = {"tokens": {0: torch.Dim("sentences", 1, 64), 1: torch.Dim("length", 3, 128)}}
    encode = torch.compile(net, dynamic_shapes=shapes)
    found = encode(tokens)
    close(found, stored["vectors"], atol=1e-6)
    pair = encode(tokens[:2, :3])  # another size of the same compile
    close(pair, stored["vectors"][:2], atol=1e-6)
    assert len(encode.report().compiles) == 1
    alike = (found @ found.T).tolist()
    assert alike[0][1] > 0.5 > max(alike[0][2], alike[0][3])
    assert program.BertEncoder.__name__ in repr(net)
