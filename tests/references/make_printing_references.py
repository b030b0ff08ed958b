"""Writes printing.json: how PyTorch prints the arrays of printing_cases.py. Run with PyTorch 2.13.0."""

from __future__ import annotations

import json
import pathlib

import ml_dtypes
import numpy as np
import torch
from printing_cases import cases


def to_torch(array: np.ndarray) -> torch.Tensor:
    if array.dtype == ml_dtypes.bfloat16:
        return torch.from_numpy(array.astype(np.float32)).bfloat16()
    return torch.from_numpy(array.copy())


def main() -> None:
    texts = {}
    for name, (array, options) in cases().items():
        torch.set_printoptions(profile="default")
        torch.set_printoptions(**options)
        texts[name] = str(to_torch(array))
    folder = pathlib.Path(__file__).parent
    (folder / "printing.json").write_text(json.dumps(texts, indent=1) + "\n")


if __name__ == "__main__":
    main()
