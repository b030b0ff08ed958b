"""The text of every stage of a few small programs is what it was: a change of a pass shows what it changes.

All for one named target, so the texts are the same on every machine. `pytest tests/test_golden.py --update-golden`
rewrites them.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from pathlib import Path

import pytest
from golden_programs import PROGRAMS, GoldenProgram

import vitrify as torch
from vitrify.codegen.loops.printer import print_program
from vitrify.codegen.lower.program import lower_graph
from vitrify.codegen.target import Target
from vitrify.ir.graph import Graph
from vitrify.ir.parser import parse
from vitrify.ir.printer import to_text
from vitrify.passes.autodiff import Autodiff
from vitrify.passes.partition import partition
from vitrify.passes.pipeline import default_pipeline, run_pipeline

FOLDER = Path(__file__).parent / "golden"
TARGET = Target.named("x86-64-avx512")


def section(title: str, text: str) -> str:
    return f"==== {title}\n{text}\n"


def stages(graph: Graph, name: str) -> Iterator[str]:
    """One section a stage; where a pass changed nothing only its name is written."""
    found = run_pipeline(graph, default_pipeline())
    before = ""
    for number, stage in enumerate(found):
        text = to_text(stage)
        assert parse(text) == stage
        made_by = stage.provenance.made_by if number else "start"
        yield section(f"{name} {number} {made_by}", text if text != before else "(no change)")
        before = text


def graph_text(program: GoldenProgram) -> str:
    compiled = torch.compile(program.fn, dynamic_shapes=program.dynamic_shapes)
    trace = compiled._trace(program.args, {})
    if not program.wrt:
        return "".join(stages(trace.graph, "traced"))
    joint = Autodiff(program.wrt, outputs=trace.requires_grad).run(trace.graph)
    parts = partition(joint, len(trace.graph.outputs), len(trace.requires_grad))
    return "".join(
        [
            section("traced", to_text(trace.graph)),
            section("differentiated", to_text(joint)),
            *stages(parts.forward, "forward"),
            *stages(parts.backward, "backward"),
        ]
    )


def loops_text(program: GoldenProgram) -> str:
    compiled = torch.compile(program.fn, dynamic_shapes=program.dynamic_shapes)
    graph = compiled._trace(program.args, {}).graph
    return print_program(lower_graph(run_pipeline(graph, default_pipeline())[-1], TARGET)) + "\n"


def compare(path: Path, text: str, update: bool) -> None:
    if update:
        path.write_text(text, encoding="utf-8")
        return
    stored = path.read_text(encoding="utf-8") if path.exists() else ""
    if text != stored:
        difference = difflib.unified_diff(
            stored.splitlines(), text.splitlines(), f"golden/{path.name}", "now", lineterm=""
        )
        pytest.fail("\n".join([*difference, "If this is meant: pytest --update-golden"]), pytrace=False)


@pytest.mark.parametrize("name", PROGRAMS)
def test_graphs(name: str, pytestconfig: pytest.Config) -> None:
    compare(FOLDER / f"{name}.txt", graph_text(PROGRAMS[name]()), pytestconfig.getoption("--update-golden"))


@pytest.mark.parametrize("name", [name for name, make in PROGRAMS.items() if make().loops])
def test_loops(name: str, pytestconfig: pytest.Config) -> None:
    text = loops_text(PROGRAMS[name]())
    compare(FOLDER / f"{name}.loops.txt", text, pytestconfig.getoption("--update-golden"))


def test_a_difference_is_shown_as_one(tmp_path: Path) -> None:
    path = tmp_path / "some.txt"
    compare(path, "same\nold\n", update=True)
    compare(path, "same\nold\n", update=False)
    with pytest.raises(pytest.fail.Exception, match=r"-old\n\+new\n.*update-golden"):
        compare(path, "same\nnew\n", update=False)
