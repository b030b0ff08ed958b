"""Writes optimizers.npz and optimizers.json: losses, trained parameters and texts of optimizer_cases.py. Run with
PyTorch 2.13.0."""

from __future__ import annotations

import json
import pathlib

import numpy as np
import torch
from optimizer_cases import LBFGS, OPTIMIZERS, STEPS, minimise, setup, texts


def main() -> None:
    folder = pathlib.Path(__file__).parent
    arrays = {}
    for name in OPTIMIZERS:
        net, _, step, args = setup(torch, name)
        arrays[f"{name}.losses"] = np.array([step(*args).item() for _ in range(STEPS)])
        for index, param in enumerate(net.parameters()):
            arrays[f"{name}.{index}"] = param.detach().numpy()
    for name in LBFGS:
        arrays[f"lbfgs.{name}"] = np.array(minimise(torch, name))
    np.savez_compressed(folder / "optimizers.npz", **arrays)
    (folder / "optimizers.json").write_text(json.dumps(texts(torch), indent=1) + "\n")


if __name__ == "__main__":
    main()
