"""An expansion and the depthwise convolution of its channels as one kernel: which pairs are, and what they compute."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from lowering import check, fused, graph_of, random_arrays

from vitrify.codegen.lower import expansion_bands
from vitrify.ir import dtypes
from vitrify.ir.dims import Dim
from vitrify.ir.graph import Graph, IRError
from vitrify.ir.types import TensorType
from vitrify.passes import fusion_expansion
from vitrify.passes.fusion_check_groups import check_group

Size = tuple[int, ...]


@pytest.fixture
def small_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pairs whose images stay near the core are one kernel too."""
    monkeypatch.setattr(fusion_expansion, "MIN_ELEMENTS", 1)
    monkeypatch.setattr(expansion_bands, "SAVED", 100.0)


def geometry(stride: int, padding: int, dilation: int, groups: int, rank: int) -> dict[str, Any]:
    return {
        "stride": (stride,) * rank,
        "padding": (padding,) * rank,
        "dilation": (dilation,) * rank,
        "groups": groups,
    }


def pair_graph(
    batch: Any,
    channels: tuple[int, int],
    size: Size,
    kernel: int = 3,
    stride: int = 1,
    padding: int = 1,
    dilation: int = 1,
    dtype: dtypes.DType = dtypes.f32,
    first: int = 1,
    more: Callable[[Any, Any, Any], tuple[Any, ...]] = lambda F, made, y: (y,),
) -> Graph:
    """A convolution with a kernel of `first`, a bias and ReLU6; a depthwise one, and a sigmoid of it times a scale.
    `more(F, made, y)`: the results."""
    planes, expanded = channels
    rank = len(size)

    def make(F: Any, x: Any, w: Any, bias: Any, v: Any, scale: Any) -> tuple[Any, ...]:
        made = F.conv(x, w, **geometry(1, first // 2, 1, 1, rank))
        per_channel = (expanded, *(1,) * rank)
        made = F.clamp(F.add(made, F.reshape(bias, shape=per_channel)), min=0.0, max=6.0)
        y = F.conv(made, v, **geometry(stride, padding, dilation, expanded, rank))
        y = F.sigmoid(F.mul(y, F.reshape(scale, shape=per_channel)))
        return more(F, made, y)

    types = (
        (batch, planes, *size),
        (expanded, planes, *(first,) * rank),
        (expanded,),
        (expanded, 1, *(kernel,) * rank),
        (expanded,),
    )
    return graph_of(make, *(TensorType(t, dtype) for t in types))


def block_graph(
    batch: Any,
    channels: tuple[int, int, int],
    size: Size,
    stride: int = 1,
    padding: int = 1,
    kernel: int = 3,
    residual: bool = False,
    dtype: dtypes.DType = dtypes.f32,
    last: int = 1,
) -> Graph:
    """An inverted residual: expansion, depthwise convolution, projection with a kernel of `last`, the image added."""
    planes, expanded, projected = channels
    rank = len(size)

    def make(F: Any, x: Any, w: Any, v: Any, u: Any, shift: Any) -> tuple[Any, ...]:
        made = F.relu(F.conv(x, w, **geometry(1, 0, 1, 1, rank)))
        y = F.relu(F.conv(made, v, **geometry(stride, padding, 1, expanded, rank)))
        y = F.conv(y, u, **geometry(1, last // 2, 1, 1, rank))
        y = F.add(y, F.reshape(shift, shape=(projected, *(1,) * rank)))
        return (F.add(y, x) if residual else y,)

    types = (
        (batch, planes, *size),
        (expanded, planes, *(1,) * rank),
        (expanded, 1, *(kernel,) * rank),
        (projected, expanded, *(last,) * rank),
        (projected,),
    )
    return graph_of(make, *(TensorType(t, dtype) for t in types))


def kinds(graph: Graph) -> list[str]:
    return [n.attrs["kind"] for n in fused(graph).nodes]


def kernels(program: Any) -> list[str]:
    return [launch.kernel.name for launch in program.launches]


@pytest.mark.parametrize("batch", [1, 3, Dim("batch", 1, 4)], ids=["one", "fixed", "symbolic"])
@pytest.mark.parametrize(
    ("size", "kernel", "stride", "padding", "dilation"),
    [
        ((6, 19), 3, 1, 1, 1),
        ((8, 16), 3, 2, 1, 1),
        ((18, 37), 5, 1, 2, 1),
        ((11, 20), 3, 1, 0, 1),
        ((10, 23), 3, 2, 2, 2),
        ((9, 17), 3, 3, 1, 1),
        ((16, 30), 4, 2, 1, 1),
        ((6, 8, 11), 3, 1, 1, 1),
    ],
    ids=lambda value: "x".join(map(str, value)) if isinstance(value, tuple) else str(value),
)
@pytest.mark.usefixtures("small_too")
def test_one_kernel(batch: Any, size: Size, kernel: int, stride: int, padding: int, dilation: int) -> None:
    graph = pair_graph(batch, (5, 12), size, kernel, stride, padding, dilation)
    assert kinds(graph) == ["expansion"]
    program = check(graph, random_arrays(graph), interpret=batch == 1 and len(size) == 2 and kernel == 3)
    assert "expansion" in kernels(program)
    (launch,) = [x for x in program.launches if x.kernel.name == "expansion"]
    whole = [b for b in launch.args if len(b.shape) == 4 and b.shape[1:] == (12, *size)]
    assert not whole or stride == 1  # the result alone is as large as the expanded image


@pytest.mark.parametrize("target", ["x86-64-avx512", "x86-64-avx2", "x86-64-sse2", "aarch64-neon"])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.usefixtures("small_too")
def test_loops_for_other_instruction_sets(stride: int, target: str) -> None:
    graph = pair_graph(2, (3, 8), (12, 19), stride=stride)
    program = check(graph, random_arrays(graph), native=False, target=target)
    assert "expansion" in kernels(program)


@pytest.mark.usefixtures("small_too")
def test_float64_and_a_first_kernel_of_three_by_three() -> None:
    graph = pair_graph(2, (3, 8), (14, 21), dtype=dtypes.f64, first=3)
    program = check(graph, random_arrays(graph), interpret=False)
    assert "expansion" in kernels(program)


@pytest.mark.parametrize("batch", [1, 3, Dim("batch", 1, 4)], ids=["one", "fixed", "symbolic"])
@pytest.mark.parametrize(
    ("channels", "size", "stride", "residual"),
    [((5, 16, 5), (6, 19), 1, True), ((3, 24, 7), (12, 20), 2, False), ((4, 8, 4), (4, 6, 9), 1, True)],
    ids=["residual", "stride", "3-d"],
)
@pytest.mark.usefixtures("small_too")
def test_an_inverted_residual_is_one_kernel(
    batch: Any, channels: tuple[int, int, int], size: Size, stride: int, residual: bool
) -> None:
    graph = block_graph(batch, channels, size, stride, residual=residual)
    assert kinds(graph) == ["expansion"]
    program = check(graph, random_arrays(graph), interpret=batch == 1 and len(size) == 2)
    (launch,) = [x for x in program.launches if x.kernel.name == "expansion"]
    images = [b for b in launch.args if len(b.shape) == len(size) + 2 and max(b.shape[2:]) > 3]
    assert all(b.shape[1] != channels[1] for b in images)


@pytest.mark.parametrize("target", ["x86-64-avx512", "x86-64-sse2", "aarch64-neon"])
@pytest.mark.usefixtures("small_too")
def test_an_inverted_residual_for_other_instruction_sets(target: str) -> None:
    graph = block_graph(2, (3, 8, 5), (8, 19), stride=2, dtype=dtypes.f64)
    program = check(graph, random_arrays(graph), native=False, target=target)
    assert "expansion" in kernels(program)


@pytest.mark.usefixtures("small_too")
def test_lanes_that_lie_apart() -> None:
    """Every third row of a column: nothing can be packed, and no dimension has neighbours."""
    graph = block_graph(3, (1, 30, 1), (6, 9, 3), stride=3, padding=0, kernel=1, dtype=dtypes.f64)
    assert "expansion" in kernels(check(graph, random_arrays(graph), interpret=False))


@pytest.mark.usefixtures("small_too")
def test_a_third_convolution_that_is_no_projection_is_a_group_of_its_own() -> None:
    graph = block_graph(2, (3, 8, 5), (8, 19), last=3)
    assert kinds(graph) == ["expansion", "contraction"]
    check(graph, random_arrays(graph), interpret=False)


@pytest.mark.usefixtures("small_too")
def test_a_result_that_is_converted_on_the_way_is_not_filtered_with_it() -> None:
    def make(F: Any, x: Any, w: Any, v: Any) -> Any:
        made = F.convert(F.conv(x, w, **geometry(1, 0, 1, 1, 2)), dtype=dtypes.f64)
        return F.conv(made, v, **geometry(1, 1, 1, 8, 2))

    shapes = (((2, 3, 8, 9), dtypes.f32), ((8, 3, 1, 1), dtypes.f32), ((8, 1, 3, 3), dtypes.f64))
    graph = graph_of(make, *(TensorType(*each) for each in shapes))
    assert "expansion" not in kinds(graph)
    check(graph, random_arrays(graph), interpret=False, scale=1e8)


def test_a_projection_whose_sums_do_not_fit_is_a_kernel_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fusion_expansion, "MIN_ELEMENTS", 1)
    monkeypatch.setattr(expansion_bands, "SAVED", 100.0)
    monkeypatch.setattr(expansion_bands, "FEWEST_WITH_SUMS", 64)
    graph = block_graph(2, (3, 128, 5), (16, 24))
    assert kinds(graph) == ["expansion"]
    names = kernels(check(graph, random_arrays(graph), interpret=False))
    assert "expansion" in names and "conv" in names


def test_the_layers_of_a_mobile_network() -> None:
    for planes, expanded, side, stride in ((16, 96, 112, 2), (24, 144, 56, 1), (24, 144, 56, 2)):
        graph = pair_graph(3, (planes, expanded), (side, side), stride=stride)
        program = check(graph, random_arrays(graph), interpret=False)
        assert kernels(program)[-1] == "expansion"
        images = {
            b for launch in program.launches for b in launch.args if b.shape[1:] == (expanded, side, side)
        }
        assert len(images) == (stride == 1)


@pytest.mark.parametrize(
    "graph",
    [
        pair_graph(1, (5, 12), (12, 19)),
        pair_graph(4, (16, 96), (56, 56), dtype=dtypes.bf16),
        pair_graph(4, (16, 96), (56, 56), more=lambda F, made, y: (y, made)),
        pair_graph(4, (16, 96), (56, 56), more=lambda F, made, y: (F.add(y, F.relu(made)),)),
        pair_graph(4, (16, 96), (Dim("h", 8, 60), 56)),
    ],
    ids=["small", "short numbers", "wanted elsewhere", "read twice", "rows without a number"],
)
def test_pairs_that_are_two_groups(graph: Graph) -> None:
    assert "expansion" not in kinds(graph)


@pytest.mark.parametrize(
    "graph",
    [
        pair_graph(1, (3, 8), (211, 400)),
        pair_graph(1, (160, 24), (12, 19)),
        pair_graph(2, (64, 8), (64, 64), kernel=7, padding=3),
    ],
    ids=["a prime number of long rows", "long sums", "most rows made twice"],
)
def test_groups_that_are_two_kernels(monkeypatch: pytest.MonkeyPatch, graph: Graph) -> None:
    monkeypatch.setattr(fusion_expansion, "MIN_ELEMENTS", 1)
    monkeypatch.setattr(expansion_bands, "EXPANDED_BYTES", 1 << 14)
    assert kinds(graph) == ["expansion"]
    program = check(graph, random_arrays(graph), interpret=False)
    assert "expansion" not in kernels(program)
    assert len([name for name in kernels(program) if name.startswith("conv")]) == 2


def test_the_checker_knows_what_a_group_may_hold() -> None:
    (node,) = fused(pair_graph(4, (16, 96), (56, 56))).nodes
    (body,) = node.regions
    check_group(node)
    _, last = (n for n in body.nodes if n.op.lowering == "contraction")
    alone = [n for n in body.nodes if n is not last]
    with pytest.raises(IRError, match="holds two convolutions or three"):
        check_group(replace(node, regions=(replace(body, nodes=tuple(alone)),)))
    whole = replace(last, attrs={**last.attrs, "groups": 1})
    with pytest.raises(IRError, match="does not filter channels"):
        check_group(
            replace(
                node, regions=(replace(body, nodes=tuple(whole if n is last else n for n in body.nodes)),)
            )
        )
    (node,) = fused(block_graph(4, (16, 96, 24), (56, 56))).nodes
    (body,) = node.regions
    check_group(node)
    *_, last = (n for n in body.nodes if n.op.lowering == "contraction")
    apart = replace(last, attrs={**last.attrs, "padding": (0, 1)})
    nodes = tuple(apart if n is last else n for n in body.nodes)
    with pytest.raises(IRError, match="is no projection"):
        check_group(replace(node, regions=(replace(body, nodes=nodes),)))
