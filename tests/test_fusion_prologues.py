"""Images of depthwise convolutions that are computed as they are copied."""

from __future__ import annotations

from typing import Any

import pytest
from lowering import check, fused, graph_of, random_arrays

from vitrify.ir import dtypes
from vitrify.ir.dims import Dim
from vitrify.ir.graph import Graph
from vitrify.ir.types import TensorType
from vitrify.passes import fusion_prologues


def normalized(F: Any, x: Any, scale: Any, shift: Any) -> Any:
    """A batch norm and ReLU6."""
    channels = F.type_of(x).shape[1]
    mean = F.mean(x, dims=(0, 2, 3), keepdim=True)
    centered = F.sub(x, mean)
    variance = F.mean(F.mul(centered, centered), dims=(0, 2, 3), keepdim=True)
    found = F.mul(F.mul(centered, F.rsqrt(F.add(variance, 1e-3))), F.reshape(scale, shape=(channels, 1, 1)))
    return F.clamp(F.add(found, F.reshape(shift, shape=(channels, 1, 1))), min=0.0, max=6.0)


def step(stride: int, padding: int = 1, returned: bool = False) -> Any:
    def make(F: Any, x: Any, scale: Any, shift: Any, w: Any, dy: Any) -> tuple[Any, ...]:
        channels = F.type_of(x).shape[1]
        attrs = {
            "stride": (stride,) * 2,
            "padding": (padding,) * 2,
            "dilation": (1, 1),
            "groups": channels,
        }
        image = normalized(F, x, scale, shift)
        y = F.conv(image, w, **attrs)
        dw = F.conv_weight_grad(image, dy, weight_size=F.type_of(w).shape, **attrs)
        return (y, dw, *([image] if returned else []))

    return make


def step_graph(
    batch: Any,
    stride: int,
    dtype: dtypes.DType = dtypes.f32,
    padding: int = 1,
    returned: bool = False,
    size: tuple[int, int, int] = (9, 43, 50),
) -> Graph:
    channels, height, width = size
    place = tuple((n + 2 * padding - 3) // stride + 1 for n in (height, width))
    types = ((batch, channels, height, width), (channels,), (channels,), (channels, 1, 3, 3))
    types += ((batch, channels, *place),)
    return graph_of(step(stride, padding, returned), *(TensorType(t, dtype) for t in types))


def computed_images(graph: Graph) -> list[bool]:
    """Of each contraction, whether it computes its image."""
    bodies = [n.regions[0] for n in fused(graph).nodes if n.attrs["kind"] == "contraction"]
    return [any(n.op.name == "minimum" for n in body.nodes) for body in bodies]


@pytest.mark.parametrize("batch", [3, Dim("batch", 1, 4)], ids=["fixed", "symbolic"])
@pytest.mark.parametrize("dtype", [dtypes.f32, dtypes.f64], ids=str)
@pytest.mark.parametrize("stride", [1, 2])
def test_a_normalized_image_is_never_written(stride: int, dtype: dtypes.DType, batch: Any) -> None:
    graph = step_graph(batch, stride, dtype)
    assert computed_images(graph) == [True, True]
    program = check(graph, random_arrays(graph), interpret=False, scale=40.0)
    images = {b.name for launch in program.launches for b in launch.args if b.shape == (batch, 9, 43, 50)}
    assert len(images) == (1 if stride == 2 else 3)  # with stride 1 the result and its gradient are as large


def test_what_costs_much_is_written() -> None:
    def make(F: Any, x: Any, *others: Any) -> Any:
        return step(1)(F, F.tanh(x), *others)

    like = step_graph(3, 1)
    graph = graph_of(make, *(v.type for v in like.inputs))
    assert computed_images(graph) == [False, False]
    check(graph, random_arrays(graph), interpret=False, scale=40.0)


@pytest.mark.parametrize(
    "graph",
    [
        step_graph(3, 1, dtypes.bf16),
        step_graph(3, 1, padding=0),
        step_graph(3, 1, returned=True),
        step_graph(1, 1, size=(3, 9, 11)),
    ],
    ids=["short numbers", "no border", "wanted elsewhere", "small"],
)
def test_images_that_are_written(graph: Graph) -> None:
    assert not any(computed_images(graph))
    check(graph, random_arrays(graph), interpret=False, scale=40.0)


def test_an_image_that_does_not_fit_the_stack_is_computed_inside_its_border() -> None:
    graph = step_graph(1, 2, size=(2, 201, 203))
    assert computed_images(graph) == [True, True]
    program = check(graph, random_arrays(graph), interpret=False, scale=40.0)
    assert any("border" in launch.kernel.name for launch in program.launches)


@pytest.mark.parametrize("target", ["x86-64-avx512", "x86-64-avx2", "x86-64-sse2"])
@pytest.mark.parametrize("stride", [1, 2])
def test_loops_mean_the_same(monkeypatch: pytest.MonkeyPatch, stride: int, target: str) -> None:
    monkeypatch.setattr(fusion_prologues, "MIN_ELEMENTS", 1)
    graph = step_graph(2, stride, size=(3, 9, 19))
    assert computed_images(graph) == [True, True]
    check(graph, random_arrays(graph), native=False, target=target, scale=40.0)
