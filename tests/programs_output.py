"""Runs the programs of programs/ and compares what they print: used by the tests, and by the script that stores what
PyTorch prints."""

from __future__ import annotations

import contextlib
import io
import re
import sys
import warnings
from pathlib import Path

FOLDER = Path(__file__).parent / "programs"
NUMBER = re.compile(r"[-+]?\d+\.\d*(?:e[-+]?\d+)?")


def names() -> list[str]:
    """The programs; what others import from them (and does not print) is not one."""
    return sorted(p.stem for p in FOLDER.glob("*.py") if p.stem != "my_layer")


def output_of(name: str, compiled: str | None = None) -> str:
    """What the program prints, as `__main__`, in this process; addresses are left out. `compiled`: the name of a model
    that is compiled right after the program has printed it, which leaves out the names of the tape's nodes as well."""
    printed = io.StringIO()
    path = FOLDER / f"{name}.py"
    source = path.read_text(encoding="utf-8")
    if compiled:
        before, line, after = source.partition(f"print({compiled})\n")
        assert line, f"{name} does not print {compiled}"
        source = f"{before}{line.rstrip()}; {compiled} = torch.compile({compiled})\n{after}"
    sys.path.insert(0, str(FOLDER))
    try:
        with contextlib.redirect_stdout(printed), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            exec(
                compile(source, str(path), "exec", dont_inherit=True),
                {"__name__": "__main__", "__file__": str(path)},
            )
    finally:
        sys.path.remove(str(FOLDER))
        sys.modules.pop("my_layer", None)
    text = re.sub(r" object at 0x[0-9a-fA-F]+", "", printed.getvalue())
    return without_tape(text) if compiled else text


def without_tape(text: str) -> str:
    """The text without the names of the tape's nodes, which a compiled model has not got, and without the prefix that
    its parameters have."""
    return re.sub(r"<\w+>", "<node>", text).replace("_orig_mod.", "")


def difference(got: str, want: str, relative: float = 2e-3, absolute: float = 2e-4) -> str | None:
    """The first line that differs, or None. Numbers with a point may differ by rounding in the last digits shown,
    which may also move the columns; everything else is compared exactly."""
    ours, theirs = got.splitlines(), want.splitlines()
    for number, (a, b) in enumerate(zip(ours, theirs), 1):
        if not _same(a, b, relative, absolute):
            return f"line {number}:\n  PyTorch: {b}\n  vitrify: {a}"
    if len(ours) != len(theirs):
        return f"{len(ours)} lines, PyTorch prints {len(theirs)}"
    return None


def _same(a: str, b: str, relative: float, absolute: float) -> bool:
    if NUMBER.sub("#", " ".join(a.split())).replace(" ", "") != NUMBER.sub("#", " ".join(b.split())).replace(
        " ", ""
    ):
        return False
    pairs = zip(map(float, NUMBER.findall(a)), map(float, NUMBER.findall(b)))
    return all(abs(x - y) <= absolute + relative * abs(y) for x, y in pairs)
