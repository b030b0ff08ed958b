"""Writes random.npz: the numbers PyTorch draws for random_cases.py. Run with PyTorch 2.13.0 on an x86-64 CPU.

bernoulli_ with a number differs on Intel CPUs, where ATen draws from MKL's own generator; these are made on
another.
"""

from __future__ import annotations

import pathlib

import numpy as np
import torch
from random_cases import cases, stored


def main() -> None:
    arrays = {}
    for name, (seed, draw) in cases().items():
        torch.manual_seed(seed)
        for i, result in enumerate(draw(torch)):
            array = result.numpy()
            if name.startswith(("rand_", "randn_")) and array.dtype == np.float64 and "float64" not in name:
                array = array.astype(np.float32)  # exact: the results were float32 or less
            arrays[f"{name}.{i}"] = stored(array)
    np.savez_compressed(pathlib.Path(__file__).parent / "random.npz", **arrays)


if __name__ == "__main__":
    main()
