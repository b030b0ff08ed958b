"""Where does the compiler part from the meaning of a graph?

`examine` runs a graph at every stage of the pipeline by the reference interpreter, and as compiled code (natively with
one thread and with several, or on a GPU), on the same inputs. Where results part beyond rounding (`agreement.py`), it
looks for the first node that does, cuts the smallest graph around it that still shows the difference, and proves that by
running the stage again on what its own text and arrays say: a `Fault`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..codegen.loops import interpreter as loop_interpreter
from ..codegen.target import Target
from ..ir import dims
from ..ir.graph import Graph, Node, Value
from ..ir.interpreter import bind_symbols
from ..ir.parser import parse
from ..ir.printer import to_text
from ..ir.verifier import verify
from ..passes.base import Pass
from ..passes.fusion import Fusion
from ..passes.fusion_check import unfuse
from ..passes.pipeline import default_pipeline
from .agreement import ARITHMETIC_ERRORS, Reference, Values, difference, values_of, wide_values
from .compiled_graph import CompileOptions
from .gpu.arrays import gpu, gpu_count
from .gpu.compiled import for_devices
from .machines import Graphics, Machine, Processor

Array = np.ndarray[Any, Any]
# Stages after the passes. LOWERING: the loop IR is wrong already, as its interpreter says; NATIVE: only the machine
# code is; PROGRAM: no group alone is.
LOWERING, NATIVE, THREADS, PROGRAM = "lowering", "machine code", "threads", "program"
CODE_STAGES = (LOWERING, NATIVE, THREADS, PROGRAM)
# Nodes around the first bad one that are tried for a graph that shows the fault: at most so far before it.
DEPTHS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 256, 1 << 30)
# Work, in launches' FLOPs, that the slow interpreter of the loop IR is asked to do.
INTERPRETED_WORK = 50_000
SHOWN = 6


@dataclass(frozen=True)
class Fault:
    """Where results part: the stage and the first node there, and a graph that shows it.

    `node` as it stands after the stage, `before` as it stood; `apart` is the largest difference of its results, `error`
    what running it raised, if it did; `graph` is what the stage is to be run on and `inputs` its arrays; `reproduced`:
    whether it parts there too; `device`: "cuda" where the code is a GPU's."""

    stage: str
    node: str
    before: str
    place: str
    apart: float
    graph: Graph
    inputs: tuple[Array, ...]
    reproduced: bool
    error: str = ""
    device: str = ""

    def __str__(self) -> str:
        on = f" ({self.device})" if self.device else ""
        lines = [f"{self.stage}{on}: {self.node}" + (f"   # {self.place}" if self.place else "")]
        if self.before and self.before != self.node:
            lines.append(f"  before: {self.before}")
        lines.append(f"  raised {self.error}" if self.error else f"  differs by {self.apart:.3g}")
        shown = "shows it" if self.reproduced else "does not show it alone"
        lines.append(f"  a graph of {len(self.graph.nodes)} nodes {shown}")
        return "\n".join(lines)

    def save(self, folder: str | os.PathLike[str], name: str) -> tuple[Path, Path]:
        """Write the graph as `name.ir` and its inputs as `name.npz`; `replay` reads both."""
        base = Path(folder)
        base.mkdir(parents=True, exist_ok=True)
        text, arrays = base / f"{name}.ir", base / f"{name}.npz"
        text.write_text(to_text(self.graph), encoding="utf-8")
        stored = {v.name: _plain(a) for v, a in zip(self.graph.inputs, self.inputs)}
        facts = {"stage": np.array(self.stage), "device": np.array(self.device)}
        np.savez(arrays, **stored, **facts)  # type: ignore[arg-type]
        return text, arrays


@dataclass(frozen=True)
class Examination:
    """The stages of one graph with how far their results are from the traced graph's (None: they agree), and the first
    fault."""

    name: str
    stages: tuple[tuple[str, float | None], ...]
    fault: Fault | None


def examine(
    graph: Graph,
    inputs: Sequence[Array],
    options: CompileOptions = CompileOptions(),
    threads: int = 2,
    machine: Machine | None = None,
) -> Examination:
    """Compare all stages of the graph on these inputs; the first that parts is looked into. `machine`: what runs the
    code, by default this processor with one thread and with `threads`."""
    case = _Case.of(graph, inputs, options, machine or _processor(options, threads))
    stages: list[tuple[str, float | None]] = [("traced", None)]
    current = graph
    for number, step in enumerate(case.passes):
        name = _name(case.passes, number)
        try:
            after = verify(step.run(current))
            apart = case.apart(after, values_of(after, inputs, case.bindings))
        except ARITHMETIC_ERRORS as error:
            fault = Fault(
                name, f"{type(error).__name__}: {error}", "", "", float("inf"), current, tuple(inputs), True
            )
            return Examination(graph.name, (*stages, (name, float("inf"))), fault)
        stages.append((name, apart))
        if apart is not None:
            return Examination(graph.name, tuple(stages), case.fault_of_pass(step, name, current, after))
        current = after
    for name, count in case.machine.ways.items():
        apart = case.native(current, inputs, count)
        stages.append((name, apart))
        if apart is not None:
            return Examination(graph.name, tuple(stages), case.fault_of_code(current, count, apart))
    return Examination(graph.name, tuple(stages), None)


def replay(
    text: str | os.PathLike[str], options: CompileOptions = CompileOptions()
) -> tuple[str, float | None]:
    """Run the stage again that a saved fault is of: its name, and how far the results are apart now (None: not).
    ValueError where it is of a device's code and there is no device."""
    path = Path(text)
    graph = parse(path.read_text(encoding="utf-8"))
    with np.load(path.with_suffix(".npz")) as stored:
        stage, device = str(stored["stage"]), str(stored["device"]) if "device" in stored else ""
        inputs = [stored[v.name].view(v.type.dtype.numpy) for v in graph.inputs]
    machine: Machine = _processor(options, 2)
    if device:
        if not gpu_count():
            raise ValueError(f"the fault is in code for {device}, and there is no such device here")
        machine, options = Graphics(gpu(0)), for_devices(options, gpu(0))
    return stage, _again(stage, graph, inputs, options, machine)


def _again(
    stage: str, graph: Graph, inputs: Sequence[Array], options: CompileOptions, machine: Machine
) -> float | None:
    case = _Case.of(graph, inputs, options, machine)
    if stage in CODE_STAGES:
        return case.native(graph, inputs, 2 if stage == THREADS else 1)
    names = [_name(case.passes, n) for n in range(len(case.passes))]
    return case.apart_after(case.passes[names.index(stage)])


def _processor(options: CompileOptions, threads: int) -> Processor:
    return Processor(options.target or Target.host(), threads)


def _name(passes: Sequence[Pass], number: int) -> str:
    """The pass's name; numbered from its second time on, as `CompiledGraph.stage_names` does."""
    count = sum(p.name == passes[number].name for p in passes[: number + 1])
    return passes[number].name if count == 1 else f"{passes[number].name}.{count}"


@dataclass(frozen=True)
class _Case:
    """A graph with inputs, and what it means."""

    graph: Graph
    inputs: Sequence[Array]
    options: CompileOptions
    machine: Machine
    passes: tuple[Pass, ...]
    bindings: Mapping[str, int]
    reference: Reference
    errors: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, graph: Graph, inputs: Sequence[Array], options: CompileOptions, machine: Machine) -> _Case:
        bindings = bind_symbols(graph, inputs)
        passes = default_pipeline(options.pipeline)
        reference = Reference(graph, inputs, bindings)
        _ = reference.values  # what the graph itself raises is no fault
        return cls(graph, inputs, options, machine, passes, bindings, reference)

    def differences(self, found: Sequence[Array]) -> list[float | None]:
        """Of each of the graph's outputs."""
        return [self.reference.apart(v, array) for v, array in zip(self.graph.outputs, found, strict=True)]

    def apart(self, after: Graph, values: Values) -> float | None:
        return _most(self.differences([values[v] for v in after.outputs]))

    def apart_after(self, step: Pass) -> float | None:
        """How far the pass takes the results of the case's own graph away from what they are."""
        after = verify(step.run(self.graph))
        return self.apart(after, values_of(after, self.inputs, self.bindings))

    def native(self, fused: Graph, inputs: Sequence[Array], threads: int) -> float | None:
        """How far the machine code of a fused graph is from the case's results."""
        try:
            program = self.machine.lower(fused, self.options.lower)
            results = self.machine.run(program, inputs, self.bindings, threads)
            return _most(self.differences(results))
        except ARITHMETIC_ERRORS as error:
            self.errors.append(f"{type(error).__name__}: {error}")
            return float("inf")

    # -- a pass ------------------------------------------------------------------------------------------------

    def fault_of_pass(self, step: Pass, name: str, before: Graph, after: Graph) -> Fault:
        """The first value that the pass gave another content, in a graph around it."""
        opened = unfuse(after) if isinstance(step, Fusion) else after
        old, new = (values_of(g, self.inputs, self.bindings) for g in (before, opened))
        wide = wide_values(before, self.inputs, self.bindings)
        named = {v.name: v for v in before.values()}
        bad = [
            i
            for i, (a, b) in enumerate(zip(before.outputs, opened.outputs))
            if self.reference.apart(self.graph.outputs[i], new[b]) is not None
        ]
        wanted = _behind(opened, [opened.outputs[i] for i in bad])
        found, makers = opened.producers(), before.producers()
        target, culprit, apart = before.outputs[bad[0]], found.get(opened.outputs[bad[0]]), float("inf")
        for node in opened.nodes:
            first = next(
                (
                    (named[v.name], far)
                    for v in node.outputs
                    if node in wanted and v.name in named and named[v.name].type == v.type
                    for far in [difference(old[named[v.name]], new[v], wide[named[v.name]] if wide else None)]
                    if far is not None
                ),
                None,
            )
            if first is not None:
                (target, apart), culprit = first, node
                break
        maker = makers.get(target)
        place = next((str(n.location) for n in (culprit, maker) if n is not None and n.location), "")
        graph, inputs = before, tuple(self.inputs)
        shown = False
        for part in _around(before, target):
            given = tuple(old[v] for v in part.inputs)
            try:
                shown = self._shown(step, part, given)
            except ARITHMETIC_ERRORS:
                continue
            if shown:
                graph, inputs = part, given
                break
        text = repr(culprit) if culprit is not None else f"the result is %{target.name} itself"
        return Fault(name, text, repr(maker) if maker else "", place, apart, graph, inputs, shown)

    def _shown(self, step: Pass, graph: Graph, inputs: Sequence[Array]) -> bool:
        """Whether the pass spoils the graph, read again from its own text."""
        case = _Case.of(parse(to_text(graph)), inputs, self.options, self.machine)
        return case.apart_after(step) is not None

    # -- code --------------------------------------------------------------------------------------------------

    def fault_of_code(self, fused: Graph, threads: int, apart: float) -> Fault:
        """The first group whose kernels go wrong, by itself; its first op that does so alone, if there is one."""
        values = values_of(fused, self.inputs, self.bindings)
        for node in fused.nodes:
            graph = _alone(fused, node)
            found = self._wrong(graph, tuple(values[v] for v in graph.inputs), threads)
            if found is None:
                continue
            inputs, far = tuple(values[v] for v in graph.inputs), found
            if node.op.name == "fused":
                smaller = self._wrong_op(node.regions[0], inputs, threads)
                graph, inputs, far = smaller or (graph, inputs, far)
            (culprit,) = graph.nodes
            inner = culprit.regions[0].nodes
            shown = inner[-1] if len(inner) == 1 else culprit
            ops = "" if len(inner) == 1 else f" of {', '.join(n.op.name for n in inner[:SHOWN])}"
            stage, error = self._stage_of_code(graph, inputs, threads)
            return Fault(
                stage, f"{shown}{ops}", "", str(shown.location or ""), far, graph, inputs, True, error,
                self.machine.device,
            )  # fmt: skip
        again = self._wrong(fused, tuple(self.inputs), threads) is not None
        stage = PROGRAM if threads == 1 else THREADS  # one thread was tried before
        error = self.errors[-1] if self.errors else ""
        return Fault(
            stage,
            "no group alone",
            "",
            "",
            apart,
            fused,
            tuple(self.inputs),
            again,
            error,
            self.machine.device,
        )

    def _wrong_op(
        self, body: Graph, inputs: tuple[Array, ...], threads: int
    ) -> tuple[Graph, tuple[Array, ...], float] | None:
        """The first node of a group's body that goes wrong as a group of its own."""
        try:
            split = Fusion(enabled=False).run(replace(body, aliases={}))
            values = values_of(split, inputs, self.bindings)
        except ARITHMETIC_ERRORS:
            return None
        for node in split.nodes:
            graph = _alone(split, node)
            given = tuple(values[v] for v in graph.inputs)
            far = self._wrong(graph, given, threads)
            if far is not None:
                return graph, given, far
        return None

    def _wrong(self, graph: Graph, inputs: tuple[Array, ...], threads: int) -> float | None:
        """How far the machine code of a fused graph, read from its own text, is from what it means; None too where the
        graph cannot stand alone."""
        try:
            case = _Case.of(parse(to_text(graph)), inputs, self.options, self.machine)
        except ARITHMETIC_ERRORS:
            return None
        return case.native(case.graph, inputs, threads)

    def _stage_of_code(self, graph: Graph, inputs: Sequence[Array], threads: int) -> tuple[str, str]:
        """The stage at which the graph goes wrong, and the error, if it raises one."""
        case = _Case.of(graph, inputs, self.options, self.machine)
        if case.native(graph, inputs, 1) is None:
            return THREADS, ""
        error = case.errors[-1] if case.errors else ""
        try:
            program = self.machine.lower(graph, self.options.lower)
        except ARITHMETIC_ERRORS:
            return LOWERING, error
        work = sum(dims.evaluate(x.flops, case.bindings) for x in program.launches)
        if work > INTERPRETED_WORK:
            return NATIVE, error
        results, _ = loop_interpreter.run_program(program, inputs, case.bindings)
        return (NATIVE if _most(case.differences(results)) is None else LOWERING), error


def _most(found: Sequence[float | None]) -> float | None:
    return max((x for x in found if x is not None), default=None)


def _behind(graph: Graph, outputs: Sequence[Value]) -> set[Node]:
    """The nodes that the values are computed from."""
    wanted, found = set(outputs), set()
    for node in reversed(graph.nodes):
        if not wanted.isdisjoint(node.outputs):
            found.add(node)
            wanted.update(node.inputs)
    return found


def _alone(graph: Graph, node: Node) -> Graph:
    """The node as a graph of its own."""
    return replace(
        graph, inputs=tuple(dict.fromkeys(node.inputs)), nodes=(node,), outputs=node.outputs, aliases={}
    )


def _around(graph: Graph, target: Value) -> Iterator[Graph]:
    """Graphs that compute the value, from the node that makes it alone to all that it is computed from. Constants are
    always taken along."""
    makers = graph.producers()
    if target not in makers:
        return
    taken: set[Node] = set()
    edge, reached, size = [makers[target]], 0, 0
    for depth in DEPTHS:
        while edge and reached < depth:
            taken.update(edge)
            edge = [
                n
                for n in dict.fromkeys(makers.get(v) for m in edge for v in m.inputs)
                if n and n not in taken
            ]
            reached += 1
        taken |= {n for m in list(taken) for v in m.inputs if (n := makers.get(v)) and not n.inputs}
        if len(taken) == size:
            continue
        size = len(taken)
        nodes = tuple(n for n in graph.nodes if n in taken)
        made = {v for n in nodes for v in n.outputs}
        reads = tuple(dict.fromkeys(v for n in nodes for v in n.inputs if v not in made))
        yield replace(graph, inputs=reads, nodes=nodes, outputs=(target,), aliases={})


def _plain(array: Array) -> Array:
    """The array as NumPy's file format takes it: the small float types as their bits."""
    if array.dtype.kind == "V":
        return array.view(np.uint8 if array.dtype.itemsize == 1 else np.uint16)
    return array


__all__ = ["Examination", "Fault", "examine", "replay"]
