"""Run the programs of `eager_cases.py` with PyTorch 2.13.0 and store what happened: `eager.npz`, `eager.json`.

python tests/references/make_eager_references.py
"""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path

import numpy as np
import torch

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
import eager_cases as cases  # noqa: E402


def main() -> None:
    warnings.simplefilter("ignore")
    arrays: list[np.ndarray] = []
    texts = {
        "torch": torch.__version__,
        "expressions": {e: cases.encode(cases.run_expression(torch, e), arrays) for e in cases.EXPRESSIONS},
        "plain": {e: cases.encode(eval(e, cases.leaves(torch)), arrays) for e in cases.PLAIN},
        "programs": {n: cases.encode(cases.run_program(torch, p), arrays) for n, p in cases.PROGRAMS.items()},
        "failures": {e: cases.failure(torch, e) for e in cases.FAILURES},
        "promotion": {
            name: {
                label: cases.run_promoted(torch, name, pair)
                for label, pair in cases.promoted_pairs(torch).items()
            }
            for name in cases.PROMOTED
        },
    }
    harmless = [e for e, text in texts["failures"].items() if text == "no error"]
    if harmless:
        raise SystemExit(f"these do not fail with PyTorch: {harmless}")
    (HERE / "eager.json").write_text(json.dumps(texts, indent=0, ensure_ascii=False) + "\n")
    np.savez_compressed(HERE / "eager.npz", **{f"a{n}": a for n, a in enumerate(arrays)})


if __name__ == "__main__":
    main()
