"""Run the refused calls with PyTorch 2.13.0 and store type and first line of its errors.

python tests/references/make_error_references.py
"""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
import torch
from error_cases import CASES


def main() -> None:
    warnings.simplefilter("ignore")
    texts = {}
    for case in CASES:
        try:
            eval(case, {"torch": torch, "np": np})
        except Exception as error:
            texts[case] = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
        else:
            raise SystemExit(f"PyTorch accepts {case}")
    path = Path(__file__).parent / "errors.json"
    path.write_text(json.dumps(texts, indent=1) + "\n")


if __name__ == "__main__":
    main()
