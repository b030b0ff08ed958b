"""What the samples say about each public name, for docs/coverage.md: `frontend/sample_states.txt`.

python -m tests.samples.states
"""

from __future__ import annotations

import inspect
from pathlib import Path

from vitrify.torch_names import namespace, torch_names

from .names import names_of
from .store import all_samples, family, stored
from .table import note

FILE = Path(__file__).parents[2] / "frontend" / "sample_states.txt"


def states() -> dict[str, str]:
    """Public name -> letters: `e` a sample of it runs, `c` one is compiled, `g` a gradient flows through it."""
    found: dict[str, set[str]] = {}
    for sample in all_samples():
        record = stored(sample.family)[0].get(sample.key)
        if record is None:
            continue
        gradients = {name for name, value in record.get("gradients", {}).items() if value is not None}
        if any(name.startswith("parameter ") for name in gradients):
            gradients.add("parameter")
        compiled = note(family(sample.family).eager_only, sample) is None
        for name, inputs in names_of(sample).items():
            letters = found.setdefault(name, set())
            letters.add("e")
            if compiled:
                letters.add("c")
            if inputs & gradients:
                letters.add("g")
    _share(found)
    return {name: "".join(x for x in "ecg" if x in letters) for name, letters in sorted(found.items())}


def _share(found: dict[str, set[str]]) -> None:
    """Names of one function (`torch.abs`, `torch.Tensor.abs`, `torch.absolute`) have one state."""
    names_of_object: dict[int, list[str]] = {}
    for where, names in torch_names().items():
        for name in names:
            value = getattr(namespace(where), name, None)
            if callable(value):
                names_of_object.setdefault(id(inspect.unwrap(value)), []).append(f"{where}.{name}")
    for group in names_of_object.values():
        letters = set().union(*(found.get(name, set()) for name in group))
        if letters:
            found.update((name, letters) for name in group)


def text() -> str:
    head = "# What the sample table says of each public name, by tests/samples/states.py: eager, compiled, gradient\n"
    return head + "".join(f"{name} {letters}\n" for name, letters in states().items())


if __name__ == "__main__":
    FILE.write_text(text(), encoding="utf-8")
    print(f"{len(states())} names")
