"""What a compiled function is made of, as a printable report."""

from __future__ import annotations

import html
import json
import linecache
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..codegen.target import GpuTarget, Target
from ..ir import dims
from ..passes.memory_plan import lower_bound
from ..passes.regions import group_nodes
from ..runtime.compiled_graph import CompiledGraph, cache_key
from ..runtime.gpu.compiled import GpuGraph
from ..runtime.kernel_times import LaunchTime, Session
from ..runtime.peaks import Peaks, peaks
from .line_times import LineTime, line_times
from .report_data import report_data
from .report_page import page
from .tuning_data import tuning_data, tuning_lines, tuning_title

if TYPE_CHECKING:
    from .history import Recompile
    from .specialization import Specialization

# Source lines that `print(report)` gives the time of.
LINES_SHOWN = 12


@dataclass(frozen=True)
class KernelLine:
    """One launch: its kernel, the fused group it computes, floating-point operations and least bytes moved; whether it
    runs once for many calls, since it reads nothing but parameters."""

    kernel: str
    source: str
    flops: int
    bytes: int
    once: bool = False

    @property
    def intensity(self) -> float:
        """FLOPs per byte."""
        return self.flops / self.bytes if self.bytes else 0.0


@dataclass(frozen=True)
class Report:
    """`print(report)` is a summary, `save("out.html")` a page with all of it; a notebook shows the page.

    Sizes are for the `dims` given (a symbolic dim's upper bound when bounded). `times`: of each graph its launches as
    measured, where they were; `machine`: the peaks they are held against.
    """

    name: str
    graphs: tuple[CompiledGraph | GpuGraph, ...]
    compiles: tuple[Recompile, ...]
    retraces: int
    dims: dict[str, int]
    times: tuple[tuple[LaunchTime, ...] | None, ...] = ()
    machine: Peaks | None = None

    @classmethod
    def of(
        cls,
        name: str,
        specialization: Specialization,
        compiles: Sequence[Recompile],
        retraces: int,
        session: Session | None = None,
    ) -> Report:
        graphs = specialization.graphs()
        bound = {s.name: s.high for g in graphs for s in g.traced.symbols}
        bound.update(specialization.current_dims())
        found = [session.of(graph) if session is not None else None for graph in graphs]
        times = tuple(None if lines is None else tuple(lines) for lines in found)
        machine = peaks() if any(times) else None
        return cls(name, tuple(graphs), tuple(compiles), retraces, bound, times, machine)

    @property
    def compile_seconds(self) -> float:
        """From the call that needed it to native code: trace, passes, lowering, LLVM, loading; the latest compile."""
        return self.compiles[-1].seconds

    @property
    def from_cache(self) -> bool:
        """Whether the latest compile found its machine code on disk."""
        return self.compiles[-1].from_cache

    @property
    def target(self) -> str:
        """The processor, or the GPU's architecture."""
        target: Target | GpuTarget = self.graphs[0].target
        return target.arch if isinstance(target, GpuTarget) else target.cpu

    def warm_seconds(self) -> float:
        """Time, measured now, to get the same graphs again with the machine code on disk (after tracing)."""
        start = time.perf_counter()
        for graph in self.graphs:
            if isinstance(graph, GpuGraph):
                key = cache_key(graph.traced, graph.target, graph.options)
                GpuGraph(graph.traced, graph.options, graph.gpu, key)
            else:
                CompiledGraph(graph.traced, graph.options)
        return time.perf_counter() - start

    @property
    def arena_bytes(self) -> int:
        """Bytes of the arena."""
        return sum(g.arena_bytes(self.dims) for g in self.graphs)

    @property
    def arena_lower_bound(self) -> int:
        """The largest sum of bytes alive at once: no plan of these kernels could use less."""
        return sum(lower_bound(g.program.lifetimes, self.dims) for g in self.graphs)

    def kernels(self) -> list[KernelLine]:
        """The launches, in order."""
        return [
            KernelLine(
                launch.kernel.name,
                launch.source,
                dims.evaluate(launch.flops, self.dims),
                dims.evaluate(launch.bytes, self.dims),
                number < graph.program.preparing,
            )
            for graph in self.graphs
            for number, launch in enumerate(graph.program.launches)
        ]

    def launch_times(self) -> list[LaunchTime | None]:
        """The launches as measured, in order; None where they were not."""
        found: list[LaunchTime | None] = []
        for number, graph in enumerate(self.graphs):
            known = self.times[number] if self.times else None
            found += known if known is not None else [None] * len(graph.program.launches)
        return found

    def line_times(self, graph: CompiledGraph | GpuGraph) -> list[LineTime]:
        """The lines that a graph's measured time fell to, those with most first; none where nothing was measured."""
        number = self.graphs.index(graph)
        times: dict[str, list[LaunchTime]] = {}
        for found in (self.times[number] if self.times else None) or ():
            times.setdefault(found.source, []).append(found)
        return line_times(group_nodes(graph.stages[-1]), times, self.dims) if times else []

    def _measured_text(self, found: LaunchTime | None) -> str:
        if self.machine is None or found is None or not found.calls:
            return ""
        percent = self.machine.percent(found.peak_dtype, found.flops, found.bytes, found.seconds)
        share = "" if percent is None else f"{percent:8.1f}%"
        each = found.seconds / found.calls * 1e6
        return f" {each:9.2f} {found.gflops:8.2f} {found.gigabytes:7.2f} {share}"

    def to_json(self) -> dict[str, Any]:
        """All of it as plain data that `json.dumps` takes; docs/inspection.md describes the keys."""
        return report_data(self)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the report as one HTML page that needs nothing else, and its data beside it as JSON; the path."""
        return save_reports([self.to_json()], path)

    def _repr_html_(self) -> str:
        """The page in a frame of its own, for notebooks."""
        text = html.escape(page([self.to_json()]))
        return f'<iframe srcdoc="{text}" style="width: 100%; height: 900px; border: 0"></iframe>'

    def __str__(self) -> str:
        lines = [f"compiled {self.name}"]
        for number, compile_ in enumerate(self.compiles):
            where = "machine code from disk" if compile_.from_cache else "cold"
            lines.append(f"  compile {number}: {compile_.seconds * 1e3:.1f} ms, {where}; {compile_.reason}")
        if self.retraces:
            lines.append(f"  traced again {self.retraces} times with the same graph as before")
        for graph in self.graphs:
            lines += ["", f"graph {graph.traced.name}"]
            lines += [f"  {step:14} {seconds * 1e3:9.2f} ms" for step, seconds in graph.timings.steps.items()]
            lines.append("  stage                   nodes        ms")
            for name, stage in zip(graph.stage_names(), graph.stages):
                lines.append(f"    {name:20} {len(stage.nodes):6} {stage.provenance.seconds * 1e3:9.2f}")
        heading = "  kernel                           computes                  flops      bytes  flop/B"
        lines += ["", heading + ("        µs  GFLOP/s    GB/s  roofline" if self.machine else "")]
        for line, time_ in zip(self.kernels(), self.launch_times()):
            lines.append(
                f"    {line.kernel[:30]:30} {line.source[:22]:22} {line.flops:10,} {line.bytes:10,}"
                f" {line.intensity:7.2f}" + ("  once" if line.once else self._measured_text(time_))
            )
        if self.machine:
            lines.append(
                f"  µs of one run, on average; roofline: {self.machine.rates}, {self.machine.memory:.1f} GB/s, "
                f"with {self.machine.threads} threads"
            )
        lines += self._lines_text()
        for tuning in filter(None, map(tuning_data, self.graphs)):
            lines += ["", f"  {tuning_title(tuning)}", *(f"    {line}" for line in tuning_lines(tuning))]
        bound = self.arena_lower_bound
        ratio = f", {self.arena_bytes / bound:.3f} of it" if bound else ""
        lines += ["", f"  arena {self.arena_bytes:,} bytes (lower bound {bound:,}{ratio})"]
        kept = sum(g.prepared_bytes for g in self.graphs)
        if kept:
            lines.append(f"  prepared {kept:,} bytes: what depends on parameters alone is kept between calls")
        if self.dims:
            lines.append("  at " + ", ".join(f"{name}={size}" for name, size in sorted(self.dims.items())))
        return "\n".join(lines)

    def _lines_text(self) -> list[str]:
        """The source lines with most time."""
        seconds: dict[tuple[str, int], float] = {}
        found = [line for graph in self.graphs for line in self.line_times(graph)]
        for line in found:
            key = (line.location.file, line.location.line)
            seconds[key] = seconds.get(key, 0.0) + line.seconds
        total = sum(seconds.values())
        if not total:
            return []
        most = sorted(seconds, key=lambda key: -seconds[key])
        rows = [
            f"    {seconds[key] / total:6.1%}  {Path(key[0]).name}:{key[1]}  "
            + linecache.getline(*key).strip()[:80]
            for key in most[:LINES_SHOWN]
        ]
        if len(most) > LINES_SHOWN:
            rows.append(
                f"    {sum(seconds[k] for k in most[LINES_SHOWN:]) / total:6.1%}  {len(most) - LINES_SHOWN} more"
            )
        return ["", "  time at source lines", *rows]


def save_reports(reports: Sequence[dict[str, Any]], path: str | os.PathLike[str]) -> Path:
    """Write a page about reports (`Report.to_json()`), and a list of them as JSON to the same name with .json."""
    file = Path(path)
    if file.suffix == ".json":
        raise ValueError(f"{file} is for the page; its data goes beside it, to a name that ends in .json")
    file.write_text(page(reports), encoding="utf-8")
    data = json.dumps(reports, allow_nan=False, indent=1)
    file.with_suffix(".json").write_text(data, encoding="utf-8")
    return file
