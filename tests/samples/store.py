"""The families there are, and the results PyTorch gave for them."""

from __future__ import annotations

import importlib
import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from .table import Array, Family, Sample, samples_of

HERE = Path(__file__).parent
_NO_FAMILIES = {"__init__", "table", "names", "nn_shorthand", "store", "make", "states", "mpmath_functions"}


def family_names() -> list[str]:
    return sorted(path.stem for path in HERE.glob("*.py") if path.stem not in _NO_FAMILIES)


@cache
def family(name: str) -> Family:
    found: Family = importlib.import_module(f".{name}", __package__).FAMILY
    return found


def all_samples(names: list[str] | None = None) -> list[Sample]:
    return [sample for name in names or family_names() for sample in samples_of(name, family(name))]


@cache
def stored(name: str) -> tuple[dict[str, Any], list[Array]]:
    """The family's records by sample key, and the arrays they refer to."""
    path = HERE / f"{name}.npz"
    if not path.exists():
        return {}, []
    with np.load(path) as file:
        records = json.loads(str(file["records"]))
        return records, [file[f"a{n}"] for n in range(len(file.files) - 1)]


def store(name: str, records: dict[str, Any], arrays: list[Array]) -> None:
    columns = {f"a{n}": array for n, array in enumerate(arrays)}
    np.savez_compressed(HERE / f"{name}.npz", records=np.array(json.dumps(records)), **columns)
