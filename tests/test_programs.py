"""Programs that were written for PyTorch run unmodified and print what they print there."""

from __future__ import annotations

import pytest
from programs_output import FOLDER, difference, names, output_of, without_tape

import vitrify


@pytest.mark.parametrize("name", names())
def test_prints_what_pytorch_prints(name: str) -> None:
    with vitrify.as_torch():
        vitrify.manual_seed(0)
        printed = output_of(name)
    found = difference(printed, (FOLDER / f"{name}.txt").read_text(encoding="utf-8"))
    assert found is None, found


# The model that is worth compiling. Not here: convnet_hooks prints from within its hooks, vae draws from PyTorch's
# generator and dynamic_net from Python's in forward, which compiled code refuses or would not repeat.
COMPILED = {
    "building_models": "tinymodel",
    "classifier": "model",
    "control_flow": "net",
    "gan": "netG",
    "gpt": "model",
    "linear_layer": "layer",
    "lstm_tagger": "model",
    "my_net": "model",
    "neural_networks_tutorial": "net",
    "recurrent_net": "rnn",
    "resnet": "net",
    "tensor_notes": "net",
}


@pytest.mark.parametrize("name", COMPILED)
def test_prints_the_same_with_its_model_compiled(name: str) -> None:
    with vitrify.as_torch():
        vitrify.manual_seed(0)
        printed = output_of(name, compiled=COMPILED[name])
    found = difference(printed, without_tape((FOLDER / f"{name}.txt").read_text(encoding="utf-8")))
    assert found is None, found


def test_differences_are_seen() -> None:
    assert difference("tensor([ 1.0001, -0.5])", "tensor([1.0000, -0.5000])") is None
    assert difference("loss 1.1", "loss 1.0") is not None
    assert difference("a 1", "a 2") is not None
    assert difference("a", "a\nb") == "1 lines, PyTorch prints 2"
