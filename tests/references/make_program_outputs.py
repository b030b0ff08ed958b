"""Writes programs/*.txt: what the programs of tests/programs print. Run with PyTorch 2.13.0.

The programs say `import torch` and set no seed: it is set for them.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
from programs_output import FOLDER, names, output_of


def main() -> None:
    for name in names():
        torch.manual_seed(0)
        (FOLDER / f"{name}.txt").write_text(output_of(name), encoding="utf-8")


if __name__ == "__main__":
    main()
