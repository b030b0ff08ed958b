"""A three-layer LSTM from a legacy checkpoint saved on a GPU: examples/voice_encoder.py against PyTorch."""

from __future__ import annotations

import numpy as np

import vitrify as torch


def test_vectors_eager_and_compiled(example, reference, close):
    program = example("voice_encoder", "pretrained.pt")
    stored = reference("voice_encoder")
    clips = torch.from_numpy(reference("speech")["clips"].astype(np.float32) / 127)
    mels = torch.cat([program.pieces(clip * 0.2) for clip in clips])
    close(mels[0, ::40], stored["frames"], atol=1e-6)
    net = program.load()
    close(net(mels), stored["vectors"])
    encode = torch.compile(net, dynamic_shapes={"mels": {0: torch.Dim("pieces", 1, 256)}})
    found = encode(mels)
    close(found, stored["vectors"])
    close(encode(mels[1:2]), stored["vectors"][1:2])
    alike = (found @ found.T).tolist()
    assert alike[0][1] > 0.75 > max(alike[0][2], alike[1][2])
