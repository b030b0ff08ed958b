"""Run the samples with PyTorch 2.13.0 and store what it gives.

python -m tests.samples.make [family ...]
"""

from __future__ import annotations

import sys
import warnings
from typing import Any

import torch
import torch.nn.attention.flex_attention  # PyTorch loads these only when they are named
import torch.nn.utils.prune

from .mpmath_functions import exact_functions
from .store import family, family_names, store
from .table import Array, encode, note, run, samples_of


def main(names: list[str]) -> None:
    warnings.simplefilter("ignore")
    for name in names or family_names():
        arrays: list[Array] = []
        records: dict[str, Any] = {}
        errors = []
        for sample in samples_of(name, family(name)):
            result = run(torch, family(name), sample)
            if "error" in result:
                errors.append(f"{sample.key}: {result['error']}")
            elif note(family(name).exact, sample) is not None:
                with exact_functions():
                    exact = run(torch, family(name), sample, exact_for=result)
                result["exact"] = {part: exact[part] for part in ("value", "gradients") if part in exact}
            records[sample.key] = encode(result, arrays)
        if errors:
            raise SystemExit("\n".join([f"{name}: PyTorch itself refuses these samples:", *errors]))
        store(name, records, arrays)
        print(f"{name}: {len(records)} samples, {sum(a.nbytes for a in arrays) / 1e3:.0f} kB of arrays")


if __name__ == "__main__":
    main(sys.argv[1:])
