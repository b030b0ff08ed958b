"""Writes rnn.npz and rnn_texts.json: what PyTorch gives for rnn_cases.py. Run with PyTorch 2.13.0."""

from __future__ import annotations

import json
import pathlib
import warnings

import numpy as np
import torch
from nn_texts import raised
from rnn_cases import (
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


def numbers() -> dict[str, np.ndarray]:
    found: dict[str, np.ndarray] = {}

    def keep(name: str, tensors: list[torch.Tensor | None]) -> None:
        for i, tensor in enumerate(tensors):
            found[f"{name}.{i}"] = np.zeros(0) if tensor is None else tensor.detach().numpy()

    for name, (make, draw) in layers().items():
        torch.manual_seed(1)
        module, inputs = make(torch), draw(torch)
        results = flat(module(*inputs))
        torch.autograd.backward(results, [torch.randn(r.shape, dtype=r.dtype) for r in results])
        given = [x.grad for x in flat(inputs) if isinstance(x, torch.Tensor)]
        keep(f"layer_{name}", [*results, *given, *(p.grad for p in module.parameters())])
    for name, make in packed().items():
        torch.manual_seed(2)
        module, x = make(torch), torch.randn(4, 5, 4, requires_grad=True)
        output, lengths, *final = run_packed(torch, module, x)
        results = [output, *final]
        torch.autograd.backward(results, [torch.randn(r.shape) for r in results])
        keep(f"packed_{name}", [lengths, *results, x.grad, *(p.grad for p in module.parameters())])
    for name, compute in sequences().items():
        keep(f"sequence_{name}", flat(compute(torch)))
    for name in second_derivatives():
        keep(f"second_{name}", run_second_derivative(torch, name))
    found["train_characters"] = np.array(train_characters(torch))
    return found


def main() -> None:
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    folder = pathlib.Path(__file__).parent
    np.savez_compressed(folder / "rnn.npz", **numbers())
    texts = {
        "printed": {name: text(torch) for name, text in printed().items()},
        "errors": {name: raised(code, torch) for name, code in errors().items()},
    }
    (folder / "rnn_texts.json").write_text(json.dumps(texts, indent=1) + "\n")


if __name__ == "__main__":
    main()
