"""Trained models, through the programs in examples/. `make models` fetches the files; without them these tests skip."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import vitrify as torch

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent.parent / "examples"))

import model_files  # noqa: E402


@pytest.fixture
def example():
    """`example(program, file, ...)`: the program as a module; skips if one of the model files it needs is absent."""

    def find(program: str, *files: str) -> Any:
        try:
            for file in files:
                model_files.find(file)
            return importlib.import_module(program)
        except (FileNotFoundError, ImportError) as error:
            pytest.skip(str(error))

    return find


@pytest.fixture
def reference():
    """`reference(name)`: the stored arrays, as tensors where they are float or integer numbers."""

    def load(name: str) -> dict[str, np.ndarray[Any, Any]]:
        with np.load(HERE / f"{name}.npz") as file:
            return dict(file)

    return load


@pytest.fixture
def close():
    def check(found: Any, expected: np.ndarray[Any, Any], rtol: float = 1e-4, atol: float = 1e-5) -> None:
        array = found.numpy() if isinstance(found, torch.Tensor) else np.asarray(found)
        assert array.shape == expected.shape
        np.testing.assert_allclose(array, expected, rtol=rtol, atol=atol)

    return check


@pytest.fixture(autouse=True)
def inference():
    with torch.no_grad():
        yield
