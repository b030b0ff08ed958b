"""Three convolutional nets from checkpoints: examples/face_detection.py against PyTorch."""

from __future__ import annotations

import numpy as np
import pytest

import vitrify as torch


def test_photo(example, reference, close):
    program = example("face_detection", "pnet.pt", "rnet.pt", "onet.pt")
    stored = reference("faces")
    boxes, scores, points = program.detect(program.load(), stored["photo"], smallest=30)
    assert len(boxes) == 1
    close(scores, stored["scores"])
    close(boxes, stored["boxes"], atol=1e-2)
    close(points, stored["points"], atol=1e-2)


@pytest.mark.parametrize("name", ["pnet", "rnet", "onet"])
def test_nets_compiled(example, reference, close, name):
    program = example("face_detection", "pnet.pt", "rnet.pt", "onet.pt")
    stored = reference("faces")
    net = program.load()[["pnet", "rnet", "onet"].index(name)]
    if name == "pnet":
        x = torch.from_numpy(stored["photo"].transpose(2, 0, 1)[None].astype(np.float32))
        fast = torch.compile(net)
    else:
        x = torch.from_numpy(stored[f"{name}.crops"].astype(np.float32))
        fast = torch.compile(net, dynamic_shapes={"x": {0: torch.Dim("crops", 1, 4096)}})
    x = program.normalized(x)
    outputs = fast(x)
    for number, (output, eager) in enumerate(zip(outputs, net(x))):
        close(output, stored[f"{name}.{number}"])
        close(eager, stored[f"{name}.{number}"])
    if name != "pnet":
        face, other = outputs[1].tolist()
        assert face > 0.9 > 0.1 > other
