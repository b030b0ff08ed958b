"""Each rule of the IR, broken once."""

from __future__ import annotations

from dataclasses import replace

import pytest

import vitrify.ir.ops  # noqa: F401  (fills the registry)
from vitrify.ir import dtypes
from vitrify.ir.builder import GraphBuilder
from vitrify.ir.dims import Dim
from vitrify.ir.graph import Graph, IRError, Location, Node, Value
from vitrify.ir.op import op_named
from vitrify.ir.parser import parse
from vitrify.ir.types import TensorType
from vitrify.ir.verifier import verify


def f32(*shape):
    return TensorType(shape, dtypes.f32)


def three_nodes() -> Graph:
    F = GraphBuilder("net")
    x = F.input("x", f32(2, 3))
    F.location = Location("net.py", 4, "fc")
    a = F.relu(x)
    F.location = Location("net.py", 5)
    b = F.add(a, x)
    return F.finish([F.neg(b)])


def test_a_good_graph_is_given_back():
    graph = three_nodes()
    assert verify(graph) is graph


def test_use_before_definition_quotes_the_node_its_neighbours_and_the_users_line():
    graph = three_nodes()
    first, second, third = graph.nodes
    with pytest.raises(IRError) as caught:
        verify(replace(graph, nodes=(second, first, third)))
    assert str(caught.value) == (
        "graph net, node 0: %0 is used before it is defined (from net.py:5)\n"
        "  > %1: f32[2,3] = add(%0, %x)\n"
        "    %0: f32[2,3] = relu(%x)\n"
        "    %2: f32[2,3] = neg(%1)"
    )


def broken(graph: Graph, number: int, **changes) -> Graph:
    nodes = list(graph.nodes)
    nodes[number] = replace(nodes[number], **changes)
    return replace(graph, nodes=tuple(nodes))


def test_a_value_of_another_graph():
    with pytest.raises(IRError, match="%y is not defined in this graph"):
        verify(broken(three_nodes(), 0, inputs=(Value("y", f32(2, 3)),)))


def test_a_wrong_result_type():
    with pytest.raises(IRError, match=r"relu gives f32\[2,3\], not f32\[2,4\] \(from net.py:4 · fc\)"):
        verify(broken(three_nodes(), 0, outputs=(Value("0", f32(2, 4)),)))


def test_operands_that_the_op_does_not_take():
    graph = three_nodes()
    with pytest.raises(IRError, match="add does not accept these operands: add takes 2 operands, got 1"):
        verify(broken(graph, 1, inputs=graph.inputs))


def test_attributes_not_in_normal_form():
    F = GraphBuilder("g")
    graph = F.finish([F.sum(F.input("x", f32(2, 3)), dims=(0,))])
    with pytest.raises(IRError, match=r"attribute dims is \[0\], its normal form \(0,\)"):
        verify(broken(graph, 0, attrs={"dims": [0], "keepdim": False}))
    with pytest.raises(IRError, match=r"attributes are \['dims'\], declared are \['dims', 'keepdim'\]"):
        verify(broken(graph, 0, attrs={"dims": (0,)}))
    with pytest.raises(IRError, match="sum has no attribute 'axis'"):
        verify(broken(graph, 0, attrs={"axis": 0}))


def test_a_value_defined_twice_and_a_name_used_twice():
    graph = three_nodes()
    with pytest.raises(IRError, match="%0 is defined twice"):
        verify(replace(graph, nodes=(graph.nodes[0], *graph.nodes)))
    with pytest.raises(IRError, match="two values have the name %x"):
        verify(broken(graph, 2, outputs=(Value("x", f32(2, 3)),)))


def test_a_returned_value_that_is_not_there():
    graph = three_nodes()
    with pytest.raises(IRError, match="the graph returns %2, which it does not define"):
        verify(replace(graph, nodes=graph.nodes[:2]))


def test_aliases():
    graph = three_nodes()
    assert verify(replace(graph, aliases={0: 0}))
    with pytest.raises(IRError, match="output 0 is said to be written to input 3"):
        verify(replace(graph, aliases={0: 3}))
    wide = replace(graph, inputs=(*graph.inputs, Value("w", f32(5))), aliases={0: 1})
    with pytest.raises(IRError, match="the types differ"):
        verify(wide)
    twice = replace(graph, outputs=graph.outputs * 2, aliases={0: 0, 1: 0})
    with pytest.raises(IRError, match="outputs 0 and 1 are both written to"):
        verify(twice)


def test_a_symbol_has_one_meaning():
    F = GraphBuilder("g")
    x = F.input("x", f32(Dim("n", 1, 4)))
    F.input("y", f32(Dim("n", 1, 8)))
    with pytest.raises(IRError, match=r"the symbolic dim n has two meanings: 1..4 and 1..8"):
        verify(F.finish([x]))


def test_a_symbol_is_bound_by_an_input():
    n = Dim("n", 1, 4)
    F = GraphBuilder("g")
    with pytest.raises(IRError, match="no input of the graph has n as a dim"):
        verify(F.finish([F.full(shape=(n,), value=0.0, dtype=dtypes.f32)]))
    G = GraphBuilder("g")
    with pytest.raises(IRError, match="no input of the graph has n as a dim"):
        verify(G.finish([G.input("x", f32(n * n))]))
    H = GraphBuilder("h")
    verify(H.finish([H.input("x", f32(2 * n))]))  # half of its size


FUSED = """\
graph g(%x: f32[4]) -> f32[4] {
  %0: f32[4] = fused(%x) {name="f", kind="loop"}   # net.py:9
    region f(%a: f32[4]) -> f32[4] {
      %0: f32[4] = relu(%a)
      return %0
    }
  return %0
}"""


def test_regions():
    graph = parse(FUSED)
    (region,) = graph.nodes[0].regions
    narrow = replace(region, inputs=(Value("a", f32(3)),))
    with pytest.raises(IRError, match=r"region f takes \['f32\[3\]'\], its node \['f32\[4\]'\]"):
        verify(broken(graph, 0, regions=(narrow,)))
    with pytest.raises(IRError, match="in region f: graph f: the graph returns %0"):
        verify(broken(graph, 0, regions=(replace(region, nodes=()),)))
    with pytest.raises(IRError, match="op fused needs a region"):
        verify(broken(graph, 0, regions=()))
    with pytest.raises(IRError, match="only a whole graph may"):
        verify(broken(graph, 0, regions=(replace(region, aliases={0: 0}),)))


def test_only_region_ops_take_regions():
    graph = parse(FUSED)
    node = graph.nodes[0]
    wrong = Node(op_named("relu"), node.inputs, {}, node.outputs, None, node.regions)
    with pytest.raises(IRError, match="op relu takes no region"):
        verify(replace(graph, nodes=(wrong,)))
