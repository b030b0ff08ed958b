"""What PyTorch 2.13.0 refuses is refused here with the same error: type and first line."""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

import vitrify as torch

_REFERENCES = Path(__file__).parent / "references"
sys.path.insert(0, str(_REFERENCES))
from error_cases import CASES  # noqa: E402

TEXTS = json.loads((_REFERENCES / "errors.json").read_text())


@pytest.mark.parametrize("case", CASES)
def test_the_same_call_is_refused_with_the_same_error(case: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(Exception) as caught:
            eval(case, {"torch": torch, "np": np})
    error = caught.value
    assert f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}" == TEXTS[case]
