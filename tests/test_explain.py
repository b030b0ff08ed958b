"""`compiled.explain()`: what was traced, what calls rely on, why something was compiled again."""

from __future__ import annotations

import json

import vitrify as torch
from vitrify import nn
from vitrify.runtime.compiled_graph import CompileOptions


def explained(text: str, title: str) -> list[str]:
    """The lines of a section of the text."""
    lines = text.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith(title))
    end = next((i for i in range(start, len(lines)) if not lines[i]), len(lines))
    return [line.strip() for line in lines[start + 1 : end]]


def test_the_text_follows_a_function_from_its_lines_to_its_groups():
    layer = nn.Linear(8, 4)

    def f(x, k):
        y = layer(x).relu() * k
        if y.sum() > -1:
            y = y + 1
        places = torch.nonzero(y[0] > 0.1)
        return torch.nn.functional.dropout(torch.sort(y)[0], 0.5), places

    compiled = torch.compile(f, options=CompileOptions(cache=False))
    compiled(torch.randn(3, 8), 2.0)
    text = str(compiled.explain())
    assert "layer: the same Linear" in explained(text, "guards")
    assert "argument k: 2.0" in explained(text, "guards")
    assert any(line.startswith("weight: f32[4,8] (captured tensor)") for line in explained(text, "inputs"))
    (branch,) = explained(text, "branches that depend on data")
    first = f.__code__.co_firstlineno
    assert branch == f"test_explain.py:{first + 2}: True"
    (size,) = explained(text, "sizes that a run tells")
    assert size == f"u0 of nonzero  test_explain.py:{first + 4}"
    hosts = explained(text, "computed by NumPy (host)")
    assert f"argsort  test_explain.py:{first + 5}" in hosts
    assert explained(text, "random numbers") == [f"dropout, stream 0  test_explain.py:{first + 5}"]
    assert any("(contraction)" in line for line in explained(text, "groups"))
    product, plan = explained(text, "convolutions and products")
    assert product.startswith("matmul of fused_") and "lanes" in plan
    data = compiled.explain().to_dict()
    assert json.loads(json.dumps(data)) == data
    assert [g["name"] for g in data["graphs"]] == ["f.forward", "f.backward"]


def test_each_compile_says_what_changed_and_where_its_code_came_from():
    def f(x, k):
        return torch.tanh(x) * k

    compiled = torch.compile(f, options=CompileOptions(cache=False))
    compiled(torch.zeros(3), 2)
    compiled(torch.zeros(4), 2)
    compiled(torch.zeros(4), 3)
    compiled(torch.zeros(4), 3)
    facts = compiled.explain().to_dict()
    reasons = [c["reason"] for c in facts["compiles"]]
    assert reasons[0] == "first call"
    assert reasons[1].startswith("argument x was f32[3], now")
    assert reasons[2] == "argument k was 2, now 3"
    assert len(facts["compiles"][2]["against"]) == 2
    assert [c["found"] for c in facts["compiles"]] == ["new"] * 3
    again = torch.compile(f, options=CompileOptions(cache=False))
    again(torch.zeros(4), 2)
    assert again.explain().to_dict()["compiles"][0]["found"] == "memory"


def test_modules_explain_themselves():
    model = torch.compile(nn.Linear(2, 2))
    model(torch.zeros(1, 2))
    assert model.explain().to_dict()["function"] == "Linear"


def test_a_loop_says_how_many_steps_of_which_groups() -> None:
    compiled = torch.compile(torch.nn.LSTM(3, 4))
    with torch.no_grad():
        compiled(torch.zeros(5, 2, 3))
    (loop,) = explained(str(compiled.explain()), "loops")
    assert loop.startswith("5 steps of step_0_fused_0")
