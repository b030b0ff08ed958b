"""The families of networks write `F.relu` for `torch.nn.functional.relu` and `nn.Linear` for `torch.nn.Linear`."""

from __future__ import annotations

import re


def full(text: str) -> str:
    """The names as a sample has to have them."""
    text = re.sub(r"(?<![\w.])F\.", "torch.nn.functional.", text)
    return re.sub(r"(?<![\w.])nn\.", "torch.nn.", text)


def full_keys(notes: dict[str, object]) -> dict[str, object]:
    """Notes about samples, by their full text."""
    return {full(key): value for key, value in notes.items()}
