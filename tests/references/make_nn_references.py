"""Writes nn.npz and nn_texts.json: what PyTorch gives for nn_cases.py and nn_texts.py. Run with PyTorch
2.13.0."""

from __future__ import annotations

import json
import pathlib
import warnings

import numpy as np
import torch
import torch.utils.data
from nn_behaviour import behaviours
from nn_cases import (
    OPTIMIZERS,
    initialisers,
    layers,
    loader_orders,
    losses,
    make_lenet,
    train_lenet,
    train_mlp,
)
from nn_norm_cases import BATCH_NORMS, train_batch_norm
from nn_texts import errors, printed, raised
from schedule_cases import SCHEDULES, rates


def numbers() -> dict[str, np.ndarray]:
    found: dict[str, np.ndarray] = {}

    def keep(name: str, *tensors: torch.Tensor | None) -> None:
        for i, tensor in enumerate(tensors):
            found[f"{name}.{i}"] = np.zeros(0) if tensor is None else tensor.detach().numpy()

    for name, (make, draw) in layers().items():
        torch.manual_seed(1)
        module, inputs = make(torch), draw(torch)
        output = module(*inputs)
        output.backward(torch.randn(output.shape))
        keep(f"layer_{name}", output, *(x.grad for x in inputs), *(p.grad for p in module.parameters()))
    for name, (make, draw) in losses().items():
        for reduction in ("mean", "sum", "none"):
            torch.manual_seed(2)
            x, target = draw(torch)
            output = make(torch, reduction)(x, target)
            output.backward(torch.randn(output.shape))
            keep(f"loss_{name}_{reduction}", output, x.grad)
    for name, fill in initialisers().items():
        torch.manual_seed(3)
        keep(f"init_{name}", fill(torch), torch.rand(1))
    torch.manual_seed(0)
    net = make_lenet(torch)
    for name, param in net.named_parameters():
        # To the bit: a checksum over the bits, and the first numbers to look at.
        bits = param.detach().numpy().view(np.uint32).reshape(-1)
        found[f"lenet_{name}"] = np.concatenate([[bits.astype(np.uint64).sum()], bits[:8].astype(np.uint64)])
    x, y = torch.randn(4, 1, 32, 32), torch.randint(10, (4,))
    output = net(x)
    torch.nn.functional.cross_entropy(output, y).backward()
    keep("lenet_output", output)
    keep("lenet_grads", *(p.grad.reshape(-1)[:600] for p in net.parameters()))
    keep("lenet_grad_norms", *(p.grad.norm() for p in net.parameters()))
    for name in OPTIMIZERS:
        curve, net = train_mlp(torch, name)
        found[f"train_{name}"] = np.array(curve)
        keep(f"trained_{name}", *net.parameters())
    for name in ("sgd_momentum", "adam", "adamw"):
        found[f"train_lenet_{name}"] = np.array(train_lenet(torch, name)[0])
    for name in BATCH_NORMS:
        for key, value in train_batch_norm(torch, name, lambda step: step).items():
            found[f"running_{name}_{key}"] = np.array(value)
    for name in SCHEDULES:
        found[f"rates_{name}"] = np.array(rates(torch, name))
    return found


def main() -> None:
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    folder = pathlib.Path(__file__).parent
    np.savez_compressed(folder / "nn.npz", **numbers())
    orders = {}
    for name, run in loader_orders().items():
        torch.manual_seed(4)
        orders[name] = run(torch)
    torch.manual_seed(0)
    texts = {
        "printed": {name: text(torch) for name, text in printed().items()},
        "errors": {name: raised(code, torch) for name, code in errors().items()},
        "orders": orders,
        "behaviours": {name: run(torch) for name, run in behaviours().items()},
    }
    (folder / "nn_texts.json").write_text(json.dumps(texts, indent=1) + "\n")


if __name__ == "__main__":
    main()
