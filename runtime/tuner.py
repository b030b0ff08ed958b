"""Choice by measurement: which of the ways that a lowering knows is the fastest on this machine.

A lowering's model ranks the ways to compute a group. With `CompileOptions.tune` the best few by the model are compiled,
each a program of the group alone, and race on made-up data of the real sizes, with as many threads as compiled functions
use now (`races.py`). The winners are a table of choices (`codegen/lower/choices.py`), which the real program is lowered
with; the table is part of that program's key in the disk cache. What was measured is kept there too, for every question
by itself, so another program or process asks the clock no more. A symbolic dim counts as its upper bound, 64 at most, as
it does in the model.

Seconds are bounded by a budget, spent on the questions with the most work first; the model answers what is left. Logged
by the logger `vitrify` at the level INFO.
"""

from __future__ import annotations

import hashlib
import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from typing import Any

from ..codegen.llvm import EmitOptions
from ..codegen.loops.nodes import Program
from ..codegen.loops.printer import print_program
from ..codegen.lower import LowerOptions, lower_graph
from ..codegen.lower.choices import Choices, Group, Question
from ..codegen.target import Target
from ..ir import dims
from ..ir.graph import Graph
from ..ir.printer import to_text
from ..passes.regions import group_nodes
from . import disk_cache
from .execute import compile_program
from .fingerprint import compiler_fingerprint
from .progress import Watch, watched
from .races import Clock, Data, MachineClock, Result, Runner, race
from .staged import StagedGraph
from .threads import default_num_threads, get_num_threads

FORMAT = 1
# What a symbolic dim counts as, at most.
TYPICAL = 64
# Questions about one group, at most.
MOST_QUESTIONS = 16

log = logging.getLogger("vitrify")


@dataclass(frozen=True)
class Measured:
    """A question and its answer. `groups` asked it, of the graph at hand; `candidates`: (way, the model's cycles,
    seconds of a run or None), the model's choice first; `chosen`: the number of the answer; `known`: it was measured
    before."""

    subject: str
    groups: tuple[str, ...]
    candidates: tuple[tuple[str, float, float | None], ...]
    chosen: int
    known: bool = False

    @property
    def gain(self) -> float:
        """By what part of its time the model's choice was slower than the answer's."""
        before, after = self.candidates[0][2], self.candidates[self.chosen][2]
        return before / after - 1 if before and after and self.chosen else 0.0

    def __str__(self) -> str:
        before, after = self.candidates[0], self.candidates[self.chosen]
        found = f"{self.subject} of {', '.join(self.groups)}: {len(self.candidates)} ways"
        if before[2] is None or after[2] is None:
            return f"{found}; the model's: {before[0]}"
        if not self.chosen:
            return f"{found}, the model's is the fastest with {before[2] * 1e6:.1f} us: {before[0]}"
        return (
            f"{found}, {before[2] * 1e6:.1f} -> {after[2] * 1e6:.1f} us ({self.gain:+.0%} in speed): {after[0]}, "
            f"not {before[0]}"
        )


@dataclass(frozen=True)
class Tuning:
    """What was chosen for a graph: a table for `LowerOptions.choices`; what was `measured` for it, with how many threads
    and in how many seconds; how many questions are `left` to the model because time was up."""

    choices: Choices = Choices()
    measured: tuple[Measured, ...] = ()
    threads: int = 0
    seconds: float = 0.0
    left: int = 0


def tune_graph(staged: StagedGraph, target: Target, clock: Clock | None = None) -> Tuning:
    """Measured choices for a graph, to be compiled with `staged.options` (a `CompileOptions`) for the target.
    RuntimeError where the target's code does not run on this machine. `clock`: where times come from."""
    if not runs_here(target):
        raise RuntimeError(f"tuning needs a machine that runs the code, which is for {target.name}")
    options = staged.options
    key = _key(
        "graph",
        to_text(staged.traced, locations=False),
        target,
        options.pipeline,
        options.lower,
        options.emit,
    )
    found = _known.get(key) or (_loaded(key) if options.cache else None)
    if found is None:
        with watched(staged.traced.name, options.progress) as watch:
            found = _Tuner(
                staged.stages[-1], target, options, clock or MachineClock(get_num_threads())
            ).tuned(watch)
        if options.cache and not found.left:
            disk_cache.store(key, asdict(found), [])
    if len(_known) >= REMEMBERED:
        _known.clear()
    _known[key] = found
    return found


# By key; those too whose budget did not do, so that a process measures a graph but once.
_known: dict[str, Tuning] = {}
REMEMBERED = 256


def runs_here(target: Target) -> bool:
    """Whether this machine runs code for the target."""
    host = Target.host()
    same = (
        target.triple.split("-")[0] == host.triple.split("-")[0] and target.vector_bytes <= host.vector_bytes
    )
    wanted = {f for f in target.features.split(",") if f.startswith("+")}
    return same and wanted <= set(host.features.split(","))


def _key(*parts: Any) -> str:
    """Of the disk cache, for what was measured with as many threads as now."""
    import llvmlite

    known = ("tuning", FORMAT, get_num_threads(), llvmlite.__version__, compiler_fingerprint(), *parts)
    return hashlib.sha256(repr(known).encode()).hexdigest()


def _loaded(key: str) -> Tuning | None:
    found = disk_cache.load(key)
    if found is None:
        return None
    facts = found[0]
    answers = tuple((k, name) for k, name in facts["choices"]["answers"])
    measured = tuple(_measured(entry, entry["groups"]) for entry in facts["measured"])
    return Tuning(Choices(answers), measured, facts["threads"], facts["seconds"], facts["left"])


def _measured(entry: Mapping[str, Any], groups: Sequence[str]) -> Measured:
    """Of what the disk cache has."""
    candidates = tuple((name, cycles, seconds) for name, cycles, seconds in entry["candidates"])
    return Measured(entry["subject"], tuple(groups), candidates, entry["chosen"], True)


class _Tuner:
    def __init__(self, fused: Graph, target: Target, options: Any, clock: Clock):
        self.fused = fused
        self.target = target
        self.lower: LowerOptions = replace(options.lower, check_finite="", choices=Choices())
        self.emit: EmitOptions = options.emit
        self.cache: bool = options.cache
        self.clock = clock
        self.threads = get_num_threads()
        self.began = clock.now()
        self.deadline = self.began + options.tune_seconds
        self.answers: dict[str, str] = {}
        self.measured: list[Measured] = []
        self.left = 0
        weights = [v.type for v in fused.inputs if v.name in self.lower.steady_inputs]
        sizes = self._sizes(fused)
        # Whether the weights of other layers have been through the core's caches since it saw those of this one.
        self.cold = sum(dims.evaluate(t.numel, sizes) * t.dtype.itemsize for t in weights) > target.l2

    @staticmethod
    def _sizes(graph: Graph) -> dict[str, int]:
        """What dims count as."""
        return {s.name: max(s.low, min(TYPICAL, s.high)) for s in graph.symbols}

    def tuned(self, watch: Watch) -> Tuning:
        questions: list[Question] = []
        lower_graph(self.fused, self.target, self.lower, questions=questions)
        names = self._names()
        asked: dict[str, tuple[Question, set[str]]] = {}
        for question in questions:
            asked.setdefault(question.group.digest, (question, set()))[1].add(question.key)
        often = Counter({group: len(names.get(q.group.structure, ())) for group, (q, _) in asked.items()})
        work = {group: often[group] * q.candidates[0].cycles for group, (q, _) in asked.items()}
        order = sorted(asked, key=work.__getitem__, reverse=True)
        for number, group in enumerate(order):
            watch.step("tune", number + 1, len(order))
            question, keys = asked[group]
            self._answer(question.group, keys, names.get(question.group.structure, ()))
        seconds = self.clock.now() - self.began
        if self.left:
            log.info(
                "%s: %.0f s of tuning are over; %d questions are left to the model",
                self.fused.name,
                seconds,
                self.left,
            )
        return Tuning(
            Choices(tuple(sorted(self.answers.items()))),
            tuple(self.measured),
            self.threads,
            seconds,
            self.left,
        )

    def _names(self) -> dict[str, list[str]]:
        """Of the groups that compute the same, by structure."""
        found: dict[str, list[str]] = {}
        for node in group_nodes(self.fused):
            found.setdefault(Group(node, ()).structure, []).append(node.attrs["name"])
        return found

    def _answer(self, group: Group, keys: set[str], names: Sequence[str]) -> None:
        """Answer the questions about a group, one after the other: a later one may depend on the answer to another.
        `keys` are those that the program asks, not knowing any answer."""
        graph, lower = self._alone(group)
        first = True
        for _ in range(MOST_QUESTIONS):
            question = self._next(graph, lower)
            if question is None:
                return
            if first and question.key not in keys:
                log.debug(
                    "%s: %s has other ways by itself, and is not tuned",
                    group.node.attrs["name"],
                    question.subject,
                )
                return
            first = False
            found = self._settle(graph, lower, question, names)
            if found is None:
                self.left += 1
                return
            self.answers[question.key] = found.candidates[found.chosen][0]
            self.measured.append(found)
            log.info("%s: %s%s", self.fused.name, found, " (known)" if found.known else "")

    def _alone(self, group: Group) -> tuple[Graph, LowerOptions]:
        """The group as a graph."""
        node = group.node
        graph = Graph(node.attrs["name"], tuple(dict.fromkeys(node.inputs)), (node,), node.outputs)
        steady = tuple(dict.fromkeys(v.name for v, held in zip(node.inputs, group.steady) if held))
        return graph, replace(self.lower, steady_inputs=steady)

    def _lowered(
        self,
        graph: Graph,
        lower: LowerOptions,
        extra: Mapping[str, str],
        questions: list[Question] | None = None,
    ) -> Program:
        known = Choices() | {**self.answers, **extra}
        return lower_graph(graph, self.target, replace(lower, choices=known), questions=questions)

    def _next(self, graph: Graph, lower: LowerOptions) -> Question | None:
        """The first question without an answer that there is a choice in."""
        questions: list[Question] = []
        self._lowered(graph, lower, {}, questions)
        return next((q for q in questions if q.key not in self.answers and len(q.candidates) > 1), None)

    def _settle(
        self, graph: Graph, lower: LowerOptions, question: Question, names: Sequence[str]
    ) -> Measured | None:
        """The answer; None where time is up before there is one."""
        own = replace(lower, steady_inputs=(), choices=None)
        key = _key("question", question.key, self.cold, self.target, own, self.emit)
        found = disk_cache.load(key) if self.cache else None
        if found is not None:
            return _measured(found[0], names)
        programs: list[Program] = []
        numbers: dict[str, int] = {}
        places = []
        for candidate in question.candidates:
            program = self._lowered(graph, lower, {question.key: candidate.name})
            text = print_program(program).replace(candidate.name, "")
            if text not in numbers:
                numbers[text] = len(programs)
                programs.append(program)
            places.append(numbers[text])
        result = self._raced(graph, lower, programs)
        if not result.finished:
            return None
        candidates = tuple(
            (c.name, c.cycles, result.seconds[place]) for c, place in zip(question.candidates, places)
        )
        measured = Measured(question.subject, tuple(names), candidates, places.index(result.winner))
        if self.cache:
            disk_cache.store(key, asdict(measured), [])
        return measured

    def _raced(self, graph: Graph, lower: LowerOptions, programs: Sequence[Program]) -> Result:
        if len(programs) == 1 or self.clock.now() >= self.deadline:
            return Result((None,) * len(programs), finished=len(programs) == 1)
        data = Data(programs, self._sizes(graph), lower.steady_inputs, self.cold, self.target.l2)
        with ThreadPoolExecutor(default_num_threads()) as pool:
            natives = list(pool.map(lambda p: compile_program(p, self.target, self.emit), programs))
        runners = [Runner(p, native, self.threads, data) for p, native in zip(programs, natives)]
        return race(runners, self.clock, self.deadline)


__all__ = ["Measured", "Tuning", "runs_here", "tune_graph"]
