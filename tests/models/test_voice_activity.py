"""A streaming net with an STFT, an LSTM and `If` from ONNX: examples/voice_activity.py against ONNX Runtime."""

from __future__ import annotations

import numpy as np
import pytest

import vitrify as torch


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
@pytest.mark.parametrize("rate", [16000, 8000])
def test_chunk_by_chunk(example, reference, close, rate, compiled):
    pytest.importorskip("onnx", reason="the onnx package is not installed")
    program = example("voice_activity", "silero_vad.onnx")
    stored = reference("voice_activity")
    silence = np.zeros(6400, np.float32)
    sound = np.concatenate([silence, reference("speech")["clips"][0].astype(np.float32) / 127 * 0.5, silence])
    if rate == 8000:
        sound = sound.reshape(-1, 2).mean(1)
    listen = program.VoiceActivity(rate, compiled)
    count = len(sound) // listen.size
    chunks = torch.from_numpy(sound[: count * listen.size]).reshape(count, listen.size)
    chances = [listen(chunk) for chunk in chunks]
    close(chances, stored[f"chances.{rate}"], atol=1e-4)
    close(listen.state, stored[f"state.{rate}"], rtol=1e-3, atol=1e-3)
    found = program.stretches(chances)
    assert 0.3 < found[0][0] * 0.032 < 0.6 and 1.9 < found[-1][1] * 0.032 < 2.2


def test_stretches_end_late(example):
    program = example("voice_activity")
    assert program.stretches([0.1, 0.6, 0.4, 0.4, 0.2, 0.4, 0.7]) == [(1, 3), (6, 6)]
