"""What a compiled function is made of, as a printable report."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..ir import dims
from ..passes.memory_plan import lower_bound
from ..runtime.compiled_graph import CompiledGraph
from .report_data import report_data
from .report_page import page

if TYPE_CHECKING:
    from .compiled import Recompile
    from .specialization import Specialization


@dataclass(frozen=True)
class KernelLine:
    """One launch: its kernel, the fused group it computes, floating-point operations and least bytes moved."""

    kernel: str
    source: str
    flops: int
    bytes: int

    @property
    def intensity(self) -> float:
        """FLOPs per byte."""
        return self.flops / self.bytes if self.bytes else 0.0


@dataclass(frozen=True)
class Report:
    """`print(report)` is a summary, `save("out.html")` a page with all of it.

    Sizes are for the `dims` given (a symbolic dim's upper bound when bounded).
    """

    name: str
    graphs: tuple[CompiledGraph, ...]
    compiles: tuple[Recompile, ...]
    retraces: int
    dims: dict[str, int]

    @classmethod
    def of(
        cls, name: str, specialization: Specialization, compiles: Sequence[Recompile], retraces: int
    ) -> Report:
        graphs = specialization.graphs()
        bound = {s.name: s.high for g in graphs for s in g.traced.symbols}
        bound.update(specialization.current_dims())
        return cls(name, tuple(graphs), tuple(compiles), retraces, bound)

    @property
    def compile_seconds(self) -> float:
        """From the call that needed it to native code: trace, passes, lowering, LLVM, loading; the latest compile."""
        return self.compiles[-1].seconds

    @property
    def from_cache(self) -> bool:
        """Whether the latest compile found its machine code on disk."""
        return self.compiles[-1].from_cache

    def warm_seconds(self) -> float:
        """Time, measured now, to get the same graphs again with the machine code on disk (after tracing)."""
        start = time.perf_counter()
        for graph in self.graphs:
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
            )
            for graph in self.graphs
            for launch in graph.program.launches
        ]

    def to_json(self) -> dict[str, Any]:
        """All of it as plain data that `json.dumps` takes; docs/inspection.md describes the keys."""
        return report_data(self)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the report as one HTML page that needs nothing else; the file's path."""
        file = Path(path)
        file.write_text(page([self.to_json()]), encoding="utf-8")
        return file

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
        lines += ["", "  kernel                           computes                  flops      bytes  flop/B"]
        for line in self.kernels():
            lines.append(
                f"    {line.kernel[:30]:30} {line.source[:22]:22} {line.flops:10,} {line.bytes:10,}"
                f" {line.intensity:7.2f}"
            )
        bound = self.arena_lower_bound
        ratio = f", {self.arena_bytes / bound:.3f} of it" if bound else ""
        lines += ["", f"  arena {self.arena_bytes:,} bytes (lower bound {bound:,}{ratio})"]
        if self.dims:
            lines.append("  at " + ", ".join(f"{name}={size}" for name, size in sorted(self.dims.items())))
        return "\n".join(lines)
