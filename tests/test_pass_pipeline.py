"""The whole list of passes: every stage verified, kept, read back, and of the same meaning."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import ClassVar

import numpy as np
import pytest
from graphs import random_graph, random_inputs
from hypothesis import example, given, settings
from hypothesis import strategies as st

from vitrify.ir.graph import Graph, IRError, Value, first_difference
from vitrify.ir.interpreter import run
from vitrify.ir.parser import parse
from vitrify.passes.pipeline import PipelineOptions, default_pipeline, run_pipeline


def test_every_stage_is_kept_and_knows_where_it_comes_from():
    graph = random_graph(1, nodes=20)
    told = []
    passes = default_pipeline()
    stages = run_pipeline(graph, passes, observer=lambda at, step, made: told.append((at, step.name, made)))
    assert stages[0] is graph
    assert [s.provenance.made_by for s in stages[1:]] == [p.name for p in passes]
    assert told == [(i, p.name, s) for i, (p, s) in enumerate(zip(passes, stages[1:]), 1)]
    for before, after in pairwise(stages):
        assert after.provenance.nodes_before == len(before.nodes)
        assert after.provenance.seconds > 0


@dataclass(frozen=True)
class Careless:
    """Forgets to define what it returns."""

    name: ClassVar[str] = "careless"

    def run(self, graph: Graph) -> Graph:
        return replace(graph, outputs=(Value("lost", graph.outputs[0].type),))


def test_a_pass_that_breaks_a_rule_is_named():
    graph = random_graph(1)
    with pytest.raises(IRError, match=r"pass careless made a graph that breaks a rule: .*%lost"):
        run_pipeline(graph, [Careless()])
    assert len(run_pipeline(graph, [Careless()], verify=False)) == 2


def test_without_fusion_every_group_is_one_node():
    graph = random_graph(2, nodes=20)
    last = run_pipeline(graph, default_pipeline(PipelineOptions(fuse=False)))[-1]
    assert all(len(region.nodes) <= 1 for node in last.nodes for region in node.regions)


@settings(max_examples=50, deadline=None)
@example(13850, True)  # no elements, and a symbolic dim beside the one of size 0
@given(st.integers(0, 10**6), st.booleans())
def test_every_stage_means_the_same_and_reads_back(seed, symbolic):
    graph = random_graph(seed, nodes=16, tame=True, symbolic=symbolic)
    inputs = random_inputs(graph, seed)
    wanted = run(graph, inputs)
    for stage in run_pipeline(graph, default_pipeline()):
        assert first_difference(parse(str(stage)), stage) is None
        for a, b in zip(wanted, run(stage, inputs), strict=True):
            assert a.dtype == b.dtype
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5, err_msg=stage.provenance.made_by)
