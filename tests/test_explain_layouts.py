"""What explain() says of layouts: which way convolutions and products are computed, and why."""

from __future__ import annotations

import pytest

import vitrify as torch
from vitrify import nn
from vitrify.codegen.target import Target
from vitrify.compile.layouts import layouts


def explained(module: nn.Module, x: torch.Tensor) -> dict[str, dict]:
    """The layouts by module path, and the text of all."""
    compiled = torch.compile(lambda x: module(x))
    with torch.no_grad():
        compiled(x)
    explanation = compiled.explain()
    (graph,) = explanation.to_dict()["graphs"]
    return {"text": str(explanation), **{found["module"]: found for found in graph["layouts"]}}


@pytest.mark.skipif(
    Target.host().isa not in ("avx2", "avx512"), reason="what the model chooses depends on the machine"
)
def test_convolutions_say_how_and_why():
    net = nn.Sequential(
        nn.Conv2d(3, 32, 7, 2, 3), nn.Conv2d(32, 32, 3, padding=1), nn.Conv2d(32, 32, 3, padding=1, groups=32),
        nn.Conv2d(32, 32, 3, stride=2), nn.Flatten(1), nn.Linear(32 * 31 * 31, 10),
    ).eval()  # fmt: skip
    found = explained(net, torch.randn(4, 3, 128, 128))
    assert found["0"]["why"] == "not by Winograd's filtering: that is for kernels of 3x3, this is 7x7"
    assert found["2"]["why"] == "not by Winograd's filtering: that is for groups 1, this has 32"
    assert found["3"]["why"] == "not by Winograd's filtering: that is for stride 1, this has 2x2"
    assert found["1"]["way"].startswith("by Winograd's filtering, tiles of ")
    assert "multiplications for" in found["1"]["why"]
    weight, image = sorted(found["1"]["operands"], key=lambda o: not o["once"])
    assert weight["name"].endswith("1.weight") and weight["once"] and not image["once"]
    assert image["name"].startswith("%")
    assert all(p.startswith("Winograd F(") for p in found["1"]["plans"])
    text = found["text"]
    assert "convolutions and products, their layouts and loops:" in text
    assert f"{weight['name']}: transformed for Winograd's products, once, kept between calls" in text


def test_few_channels_are_no_case_for_winograd():
    found = explained(nn.Sequential(nn.Conv2d(2, 2, 3)), torch.randn(1, 2, 9, 9))
    assert "channels and outputs or more" in found["0"]["why"]


def test_a_graph_without_products_has_none():
    f = torch.compile(lambda x: x.relu())
    f(torch.randn(3))
    assert list(layouts(f.graphs()[0])) == []
    assert "convolutions and products" not in str(f.explain())
