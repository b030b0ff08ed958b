"""Progress while compiling: a callback, a line on a terminal, silence elsewhere."""

from __future__ import annotations

import io
import time

import pytest

import vitrify as torch
from vitrify.runtime import progress
from vitrify.runtime.compiled_graph import CompileOptions
from vitrify.runtime.progress import Progress, watched

ORDER = ["trace", "passes", "lower", "emit", "llvm"]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def terminal_on(monkeypatch):
    # Not a fixture: pytest sets stderr anew between those and the test.
    found = Terminal()
    monkeypatch.setattr("sys.stderr", found)
    return found


def test_a_callback_hears_every_stage():
    seen: list[Progress] = []
    options = CompileOptions(cache=False, progress=seen.append)
    torch.compile(lambda x: torch.softmax(x @ x, 1).sum(), options=options)(torch.randn(3, 3))
    assert list(dict.fromkeys(p.stage for p in seen)) == ORDER
    assert {p.function for p in seen} == {"<lambda>"}
    passes = [p.done for p in seen if p.stage == "passes"]
    assert passes == list(range(len(passes))) and passes[-1] == seen[2].total
    kernels = [(p.done, p.total) for p in seen if p.stage == "emit"]
    assert kernels == [(n, len(kernels)) for n in range(len(kernels))] and len(kernels) >= 2
    assert [p.seconds for p in seen] == sorted(p.seconds for p in seen)


def test_forward_and_backward_are_one_compile():
    seen: list[Progress] = []
    options = {"progress": seen.append}
    net = torch.compile(torch.nn.Linear(7, 3), options=options)
    net(torch.ones(2, 7)).sum().backward()
    assert [p.stage for p in seen].count("trace") == 1 and {p.function for p in seen} == {"Linear"}


def test_the_callback_is_no_part_of_the_key():
    assert CompileOptions(progress=print) == CompileOptions()


def test_a_terminal_sees_a_line_after_a_while(monkeypatch):
    terminal = terminal_on(monkeypatch)
    monkeypatch.setattr(progress, "PATIENCE", 0.01)
    with watched("step") as watch:
        watch.step("emit", 3, 43)
        assert terminal.getvalue() == ""
        deadline = time.monotonic() + 10
        while not terminal.getvalue() and time.monotonic() < deadline:
            time.sleep(0.01)
        monkeypatch.setattr(progress, "PATIENCE", 60.0)
        assert terminal.getvalue() == "\r\x1b[Kvitrify: compiling step: emit kernel 3 of 43, 0 s"
        with watched("inner"):
            watch.step("llvm")
    assert terminal.getvalue().endswith("\r\x1b[Kvitrify: compiling step: llvm, 0 s\r\x1b[K")
    assert "\n" not in terminal.getvalue() and "inner" not in terminal.getvalue()


def test_what_is_quick_is_not_mentioned(monkeypatch):
    terminal = terminal_on(monkeypatch)
    with watched("step") as watch:
        watch.step("passes", 1, 2)
    assert terminal.getvalue() == ""


def test_where_there_is_no_terminal_nothing_is_written(capsys, monkeypatch):
    monkeypatch.setattr(progress, "PATIENCE", 0.0)
    with watched("step") as watch:
        watch.step("passes", 1, 2)
        time.sleep(0.05)
        watch.step("llvm")
    assert capsys.readouterr() == ("", "")


def test_an_error_ends_the_watch():
    with pytest.raises(ZeroDivisionError), watched("broken"):
        raise ZeroDivisionError
    with watched("next") as watch:
        assert watch.function == "next"
