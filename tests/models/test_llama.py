"""Rotary positions, grouped heads, a key/value cache: examples/llama.py against NumPy and PyTorch."""

from __future__ import annotations

import numpy as np
import pytest

import vitrify as torch


@pytest.fixture
def tiny(example):
    program = example("llama", "en.npz", "en.tokenizer.json")
    return program, *program.tiny()


def test_tokenizers(example, tiny, reference):
    program, _, tokenizer = tiny
    stored = reference("tiny_llama")
    for text, numbers in zip(stored["texts"].tolist(), (stored["first"], stored["second"])):
        assert tokenizer.encode(text) == numbers.tolist()
    assert b"".join(map(tokenizer.bytes, stored["first"].tolist())).decode() == stored["texts"][0]
    letters = [chr(c) for c in [*range(33, 127), *range(161, 173), *range(174, 256), *range(256, 324)]]
    pairs = program.BytePairs([*letters, "Ġt", "he", "Ġthe"], ["Ġ t", "h e", "Ġt he"])
    numbers = pairs.encode("the  the, 42 é")
    assert [pairs.bytes(n) for n in numbers][2:5] == [b" ", b" the", b","]
    assert b"".join(map(pairs.bytes, numbers)).decode() == "the  the, 42 é"


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
def test_cache(tiny, reference, close, compiled):
    program, net, _ = tiny
    stored = reference("tiny_llama")
    session = program.Session(net, compiled=compiled)
    tokens = stored["second"].tolist()
    close(session(tokens), stored["scores"], rtol=1e-3, atol=1e-4)
    session.start = 0
    for part in (tokens[:5], tokens[5:6], tokens[6:7], tokens[7:]):  # the same, bit by bit
        scores = session(part)
    close(scores, stored["scores"], rtol=1e-3, atol=1e-4)
    session.start = 0
    assert list(session.write(stored["first"].tolist(), 20)) == stored["written"].tolist()
    with pytest.raises(ValueError, match="do not fit into 128"):
        session([1] * 128)
    if compiled:
        assert len(session.step.report().compiles) == 1 == len(session.prompt.report().compiles)


@pytest.mark.slow
def test_smollm(example, reference, close):
    pytest.importorskip("gguf", reason="the gguf package is not installed")
    program = example("llama", "SmolLM2-135M-Instruct.Q4_1.gguf")
    stored = reference("smollm")
    net, tokenizer = program.smollm()
    prompt = tokenizer.encode("The capital of France is")
    assert prompt == stored["prompt"].tolist()
    session = program.Session(net, 64)
    close(session(prompt)[::64], stored["scores"], rtol=1e-3, atol=2e-3)
    session.start = 0
    written = list(session.write(prompt, 24))
    assert written == stored["written"].tolist()
    assert b"".join(map(tokenizer.bytes, written)).decode() == stored["text"] and "Paris" in str(
        stored["text"]
    )
    assert torch.is_tensor(session.cache) and np.isfinite(session.cache.numpy()).all()


@pytest.mark.slow
def test_chat(example):
    pytest.importorskip("gguf", reason="the gguf package is not installed")
    program = example("chat", "SmolLM2-135M-Instruct.Q4_1.gguf")
    chat = program.Chat(*program.llama.smollm(), context=256)
    assert b"Paris" in b"".join(chat.answer("What is the capital of France?"))
    held = chat.session.start
    cut = b"".join(chat.answer("And of Italy?", most=3))
    assert cut and chat.session.start > held and len(chat.session.unread) == 1
    assert chat.pending[0] == chat.session.unread[0] and chat.pending[1] == program.END
    with pytest.raises(ValueError, match="do not fit into 256"):
        list(chat.answer("again and " * 200))
