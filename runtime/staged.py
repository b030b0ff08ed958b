"""A graph on its way through the passes and the lowering: what its compilation has in common for all targets."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from ..codegen.loops.nodes import Program
from ..codegen.loops.printer import print_program
from ..ir.dims import bounds
from ..ir.graph import Graph
from ..ir.printer import to_text
from ..passes.pipeline import default_pipeline, run_pipeline
from ..passes.recompute import Recompute
from ..passes.recompute_schedule import footprint
from .progress import watched

BUDGET_TRIES = 5


@dataclass
class Timings:
    """Seconds spent, by step."""

    steps: dict[str, float] = field(default_factory=dict)

    def measure(self, step: str, start: float) -> float:
        now = time.perf_counter()
        self.steps[step] = self.steps.get(step, 0.0) + now - start
        return now


class StagedGraph:
    """A traced graph, and what the compiler makes of it, each stage when it is asked for.

    input_types/output_types: the graph's; `symbols`: names of its dims in the order code takes them; `timings`: what
    took how long; `requests`: how often this compilation was asked for; `prepared_bytes`, `prepared_inputs`: how much
    memory the code wants kept between calls, and from which inputs it fills that (`loops.Program.prepared`).
    """

    prepared_bytes = 0
    prepared_inputs: Sequence[int] = ()

    def __init__(self, graph: Graph, options: Any):
        """`options`: a `CompileOptions`."""
        self.traced = graph
        self.options = options
        self.input_types = tuple(v.type for v in graph.inputs)
        self.output_types = tuple(v.type for v in graph.outputs)
        self.symbols = tuple(s.name for s in graph.symbols)
        self.timings = Timings()
        self.from_cache = False
        self.requests = 0

    def _lower(self, fused: Graph) -> Program:
        """The target's lowering."""
        raise NotImplementedError

    def _code_texts(self) -> Iterable[tuple[str, str]]:
        """File names and contents of the target's stages after the loop IR."""
        raise NotImplementedError

    @cached_property
    def stages(self) -> list[Graph]:
        """The traced graph, then what each pass made of it."""
        start = time.perf_counter()
        passes = default_pipeline(self.options.pipeline)
        in_bytes = isinstance(self.options.pipeline.memory_budget, int)
        at = next(
            (i for i, step in enumerate(passes) if in_bytes and step.name == Recompute.name), len(passes)
        )
        with watched(self.traced.name, self.options.progress) as watch:
            watch.step("passes", 0, len(passes))
            found = run_pipeline(
                self.traced,
                passes[:at],
                self.options.verify,
                lambda position, step, graph: watch.step("passes", position, len(passes)),
            )
            if in_bytes:
                found += self._within_budget(found[-1], passes[at:])
        self.timings.measure("passes", start)
        return found

    def _within_budget(self, graph: Graph, passes: Sequence[Any]) -> list[Graph]:
        """The stages from `Recompute` on, where the memory budget is in bytes: the program's arena keeps to it. What the
        pass does not count, such as kernels' scratch memory, goes off what it may use. RuntimeError names the least that
        was had."""
        step, *rest = passes
        made, arenas = graph, list[int]()
        while True:
            stages = run_pipeline(made.made_by(step.name, graph), rest, self.options.verify)
            arenas.append(bounds(self._lower(stages[-1]).arena_bytes)[1])
            if arenas[-1] <= step.budget:
                return stages
            if len(arenas) > BUDGET_TRIES or arenas[-1] in arenas[:-1]:
                raise RuntimeError(
                    f"torch.compile: {self.traced.name} cannot keep to a memory_budget of {step.budget:,} bytes; the "
                    f"least that it was brought to is {min(arenas):,} bytes"
                )
            counted, _ = footprint(stages[-1], {s.name: s.high for s in graph.symbols})
            step = replace(step, slack=arenas[-1] - counted)
            made = step.run(graph)

    @cached_property
    def program(self) -> Program:
        """The loop IR."""
        stages = self.stages
        start = time.perf_counter()
        with watched(self.traced.name, self.options.progress) as watch:
            watch.step("lower")
            found = self._lower(stages[-1])
        self.timings.measure("lower", start)
        return found

    def stage_names(self) -> list[str]:
        """What `stage` accepts, in order: "traced", each pass by name (numbered when it runs twice), "final"."""
        names: list[str] = []
        for graph in self.stages:
            name = "traced" if not names else graph.provenance.made_by
            count = sum(n == name or n.startswith(f"{name}.") for n in names)
            names.append(f"{name}.{count + 1}" if count else name)
        return names

    def stage(self, name: str) -> Graph:
        """The graph after the named stage; KeyError lists the names. "fused" is the last."""
        names = self.stage_names()
        if name in ("fused", "final"):
            return self.stages[-1]
        if name not in names:
            raise KeyError(f"no stage {name!r}; there are {', '.join(names)} and fused")
        return self.stages[names.index(name)]

    def loops_text(self) -> str:
        return print_program(self.program)

    def dump(self, folder: str | os.PathLike[str]) -> list[Path]:
        """A numbered text file for every stage, from the traced graph to the target's code; their paths."""
        base = Path(folder)
        base.mkdir(parents=True, exist_ok=True)
        texts = [(f"{name}.ir", to_text(g)) for name, g in zip(self.stage_names(), self.stages)]
        texts += [("loops.txt", self.loops_text()), *self._code_texts()]
        paths = [base / f"{number:02}-{name}" for number, (name, _) in enumerate(texts)]
        for path, (_, text) in zip(paths, texts):
            path.write_text(text, encoding="utf-8")
        return paths
