"""Recurrent layers and transposed convolutions give PyTorch 2.13's stored numbers, eager and compiled; texts read
as PyTorch's."""

from __future__ import annotations

import json
import pathlib
import sys
import warnings

import numpy as np
import pytest

import vitrify as torch

REFERENCES = pathlib.Path(__file__).parent / "references"
sys.path.insert(0, str(REFERENCES))
from nn_texts import raised  # noqa: E402
from rnn_cases import (  # noqa: E402
    errors,
    flat,
    layers,
    packed,
    printed,
    run_packed,
    run_second_derivative,
    second_derivatives,
    sequences,
    train_characters,
)

EXPECTED = np.load(REFERENCES / "rnn.npz")
TEXTS = json.loads((REFERENCES / "rnn_texts.json").read_text())


def close(found, name, rtol=1e-5, atol=2e-6):
    assert len(found) == sum(key.rpartition(".")[0] == name for key in EXPECTED)
    for i, tensor in enumerate(found):
        expected = EXPECTED[f"{name}.{i}"]
        if tensor is None:
            assert expected.size == 0
            continue
        got = tensor.detach().numpy()
        assert got.shape == expected.shape and got.dtype == expected.dtype
        np.testing.assert_allclose(got, expected, rtol=rtol, atol=atol, err_msg=f"{name}.{i}")


def eager(function):
    return function


ways = pytest.mark.parametrize("way", [eager, torch.compile], ids=["eager", "compiled"])


@pytest.mark.sweep(3)
@ways
@pytest.mark.parametrize("name", layers())
def test_layers(name, way):
    make, draw = layers()[name]
    torch.manual_seed(1)
    module, inputs = make(torch), draw(torch)
    results = flat(way(module)(*inputs))
    torch.autograd.backward(results, [torch.randn(r.shape, dtype=r.dtype) for r in results])
    given = [x.grad for x in flat(inputs) if isinstance(x, torch.Tensor)]
    close([*results, *given, *(p.grad for p in module.parameters())], f"layer_{name}")


@pytest.mark.parametrize("name", packed())
def test_packed_sequences(name):
    torch.manual_seed(2)
    module, x = packed()[name](torch), torch.randn(4, 5, 4, requires_grad=True)
    output, lengths, *final = run_packed(torch, module, x)
    results = [output, *final]
    torch.autograd.backward(results, [torch.randn(r.shape) for r in results])
    close([lengths, *results, x.grad, *(p.grad for p in module.parameters())], f"packed_{name}")


@pytest.mark.parametrize("name", sequences())
def test_sequences(name):
    close(flat(sequences()[name](torch)), f"sequence_{name}", 0, 0)


@pytest.mark.parametrize("name", second_derivatives())
def test_second_derivatives(name):
    close(run_second_derivative(torch, name), f"second_{name}", 1e-9, 1e-12)


def test_packing_inside_a_compiled_function():
    torch.manual_seed(2)
    module, x = torch.nn.LSTM(4, 5, 2, bidirectional=True), torch.randn(4, 5, 4)
    compiled = torch.compile(lambda x: run_packed(torch, module, x))
    for got, want in zip(compiled(x), run_packed(torch, module, x), strict=True):
        np.testing.assert_allclose(got.detach().numpy(), want.detach().numpy(), rtol=1e-5, atol=2e-6)


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
def test_one_compile_serves_every_batch(kind):
    torch.manual_seed(0)
    module = getattr(torch.nn, kind)(4, 5, bidirectional=True)
    compiled = torch.compile(module, dynamic_shapes={"input": {1: torch.Dim("batch", 1, 16)}})
    for batch in (3, 7):
        x = torch.randn(4, batch, 4)
        with torch.no_grad():
            np.testing.assert_allclose(compiled(x)[0].numpy(), module(x)[0].numpy(), rtol=1e-5, atol=2e-6)
    assert len(compiled.report().compiles) == 1


@ways
def test_training_follows_pytorchs_losses(way):
    np.testing.assert_allclose(train_characters(torch, way), EXPECTED["train_characters"], rtol=1e-4)


@pytest.mark.parametrize("name", printed())
def test_texts(name):
    assert printed()[name](torch) == TEXTS["printed"][name]


@pytest.mark.parametrize("name", errors())
def test_errors(name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        kind, text = raised(errors()[name], torch)
    assert [kind, text.replace("vitrify.", "torch.")] == TEXTS["errors"][name]


def test_dropout_lies_between_layers():
    torch.manual_seed(0)
    layer = torch.nn.GRU(3, 4, 2, dropout=1.0)
    output, final = layer(torch.randn(5, 2, 3))
    # Nothing comes through from the first layer, so the sequences of a batch cannot differ after it.
    np.testing.assert_array_equal(output.detach().numpy()[:, 0], output.detach().numpy()[:, 1])
    assert not np.array_equal(final.detach().numpy()[0, 0], final.detach().numpy()[0, 1])


def test_dropout_of_one_layer_is_warned_of():
    with pytest.warns(UserWarning, match="dropout option adds dropout after all but last recurrent layer"):
        torch.nn.LSTM(3, 4, dropout=0.5)
