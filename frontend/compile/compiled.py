"""The callable that `torch.compile` makes of a function: it traces, specialises and runs."""

from __future__ import annotations

import functools
import inspect
import logging
import os
import time
import warnings
import weakref
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from ..codegen.forks import Lock
from ..ir import dims
from ..ir.graph import Graph
from ..runtime import kernel_times, progress, settings
from ..runtime.collector import paused_collector
from ..runtime.compiled_graph import CompiledGraph, CompileOptions
from ..settings import get_float32_matmul_precision
from ..state import local, strictly
from ..torch_function import begun, library_code
from . import pytree, watch
from .capture_names import Describer
from .changes import OfModule, State, StateFound
from .changing_sizes import NONE, ChangingSizes, Symbols, is_for_one_size
from .check import CheckReport, check_call
from .device_call import compile_for
from .differentiable import DifferentiableSpecialization
from .explain import Explanation
from .guards.settings import Settings
from .history import History, Recompile
from .options import compile_options, with_checks, with_matmul_precision
from .prepared import with_preparing
from .report import Report
from .specialization import MISS, Specialization
from .trace import Trace, check_nothing_escaped, trace_call, unaliased
from .trace_error import TraceError

log = logging.getLogger("vitrify")
DynamicShapes = Mapping[str, Mapping[int, dims.Expr]]
# Programs that one function keeps; a number that changes in every call would fill the memory.
MOST_SPECIALIZATIONS = 64
# One trace at a time: tracing changes `.grad` and versions of real tensors for its duration.
_tracing = Lock()
_compiled: weakref.WeakSet[CompiledFunction] = weakref.WeakSet()


def reset() -> None:
    """Have every compiled function forget what has been compiled."""
    for function in list(_compiled):
        function.reset()


@contextmanager
def measuring(log: bool = True) -> Iterator[kernel_times.Session]:
    """Inside the block calls of compiled functions measure their kernels (`runtime/kernel_times.py`)."""
    with kernel_times.measuring(log) as session:
        _rebind()
        try:
            yield session
        finally:
            _rebind()


def _rebind() -> None:
    for function in list(_compiled):
        function.rebind()


class CompiledFunction:
    """A function whose calls run as one compiled graph each. Made by `torch.compile`.

    The first call with arguments of a kind traces the function and compiles it; later calls whose guards hold go
    straight to native code. `report()` tells what was compiled and why; `graph(stage)`, `loops()`, `llvm()` and
    `assembly()` show the stages of the most recent specialization.
    """

    def __init__(
        self,
        fn: Callable[..., Any],
        dynamic_shapes: DynamicShapes | None = None,
        options: CompileOptions | Mapping[str, Any] | None = None,
        dump: str | os.PathLike[str] | None = None,
        name: str | None = None,
        dynamic: bool | None = None,
    ):
        functools.update_wrapper(self, fn, updated=())
        self._fn = fn
        self._name: str = name or str(getattr(fn, "__name__", type(fn).__name__))
        self._dynamic = dict(dynamic_shapes or {})
        self._options = compile_options(options)
        if (self._dynamic or dynamic) and self._options.pipeline.strict:
            what = "dynamic_shapes" if self._dynamic else "dynamic=True"
            raise ValueError(
                f"torch.compile: {self._name} has {what}, which strict numerics do not go with: in what order a "
                "kernel adds up depends on the sizes it is compiled for"
            )
        self._dump = dump
        self._signature = _parameter_names(fn)
        unknown = [n for n in self._dynamic if n not in self._signature]
        if unknown:
            raise ValueError(f"dynamic_shapes names {unknown[0]!r}; {self._name} takes {self._signature}")
        self._specializations: list[Specialization] = []
        self._last: Specialization | None = None
        self._history = History()
        self._state = State()
        declared = {str(dim) for axes in self._dynamic.values() for dim in axes.values()}
        self._sizes = ChangingSizes(False if self._options.pipeline.strict else dynamic, declared)
        _compiled.add(self)

    def __reduce__(self) -> tuple[Any, ...]:
        """A copy, or what was pickled, compiles anew."""
        how = self._sizes.dynamic
        return CompiledFunction, (self._fn, self._dynamic, self._options, self._dump, self._name, how)

    def reset(self) -> None:
        """Forget what has been compiled."""
        self._specializations, self._last, self._history = [], None, History()

    def rebind(self) -> None:
        """Have the next call decide anew which programs run: measuring ones or not."""
        for specialization in list(self._specializations):
            specialization.rebind()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        backend = local.backend
        if backend.capture is not None or backend.vmap is not None:
            return self._fn(*args, **kwargs)
        last = self._last
        if last is not None and not kwargs:
            plain_call = last.plain_call
            if plain_call is not None:
                result = plain_call(args)
                if result is not MISS:
                    return result
            flat = last.fit.flat_arguments == len(args) and pytree.are_leaves(args)
            if flat and last.fit.quickly(args):
                result = last.run(args)
                if result is not MISS:
                    return result
        return self._slow_call(args, kwargs)

    def _slow_call(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """A call whose arguments are named or nested, or one that the latest program is not for."""
        if not begun[0]:
            return self._found(args, kwargs)
        with library_code():
            return self._found(args, kwargs)

    def _found(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        leaves, structure, containers = self._state.flatten(args, kwargs)
        last = self._last
        if last is not None and structure == last.trace.arguments and last.fit.quickly(leaves):
            result = last.run(leaves)
            if result is not MISS:
                return last.finished(result, containers)
        self._history.lookups += 1
        reasons: list[str] = []
        # Programs for certain sizes are faster than those for all.
        candidates = self._specializations[::-1]
        candidates.sort(key=lambda s: bool(s.trace.automatic))
        for specialization in candidates:
            why = specialization.why_not(leaves, structure)
            if why is None:
                if not specialization.fit.quickly(leaves):
                    specialization.refresh()
                result = specialization.run_checked(leaves)
                if result is not MISS:
                    return self._finished(specialization, result, containers)
                places = ", ".join(c.place for c in specialization.trace.conditions.values())
                why = f"a branch on a tensor came out another way (at {places})"
            reasons.append(why)
        known = len(self._history.compiles)
        watch.compiling(self, args, kwargs)
        with _tracing:
            if len(self._history.compiles) != known:  # another thread compiled meanwhile
                return self._found(args, kwargs)
            with paused_collector(), progress.watched(self._name, self._options.progress) as compiling:
                compiling.step("trace")
                compiled = None
                with suppress(StateFound):
                    compiled = self._compile(args, kwargs, leaves, structure, reasons)
        if compiled is None:
            return self._found(args, kwargs)
        result = compiled.run_checked(leaves)
        if result is MISS:
            raise TraceError(
                f"{self._name}: a branch on a tensor came out one way by the interpreter and another way by compiled "
                "code: "
                "the numbers it compares are equal up to rounding"
            )
        return self._finished(compiled, result, containers)

    def _finished(self, specialization: Specialization, result: Any, containers: Sequence[Any]) -> Any:
        self._last = specialization
        return specialization.finished(result, containers)

    def _compile(
        self,
        args: Any,
        kwargs: Any,
        leaves: list[Any],
        structure: pytree.Structure,
        reasons: Sequence[str],
    ) -> Specialization:
        reason = reasons[0] if reasons else "first call"
        start = time.perf_counter()
        specialization = self._specialized(args, kwargs, leaves, structure)
        trace = specialization.trace
        for known in self._specializations:
            if known.compiled is specialization.compiled and known.fit.accepts_the_same(specialization.fit):
                # Something changed that the trace does not depend on, or depends on in the same way.
                self._specializations.remove(known)
                self._specializations.append(specialization)
                self._history.retraces += 1
                self._warn_of_own_changes(trace)
                return specialization
        seconds = time.perf_counter() - start
        compiles = self._history.compiles
        compiled = specialization.compiled
        found = "memory" if compiled.requests > 1 else "disk" if compiled.from_cache else "new"
        compiles.append(Recompile(reason, seconds, compiled.from_cache, found, tuple(reasons)))
        if len(compiles) in (9, MOST_SPECIALIZATIONS + 1):
            forgets = f", and only the latest {MOST_SPECIALIZATIONS} are kept" if len(compiles) > 9 else ""
            warnings.warn(
                f"{self._name} has been compiled {len(compiles)} times{forgets}; the last reason: {reason}. Declare "
                "changing sizes with dynamic_shapes, and pass changing numbers as tensors",
                RuntimeWarning,
                stacklevel=4,
            )
        self._specializations = [*self._specializations[1 - MOST_SPECIALIZATIONS :], specialization]
        if reasons:
            self._warn_of_own_changes(trace)
        folder = self._dump or settings.dump_folder()
        if folder:
            for graph in specialization.graphs():
                graph.dump(os.path.join(folder, f"{self._name}.{len(compiles) - 1}"))
        watch.compiled(self)
        return specialization

    def _specialized(
        self, args: Any, kwargs: Any, leaves: list[Any], structure: pytree.Structure
    ) -> Specialization:
        """The call traced and compiled; for other numbers and sizes too, where those change."""
        alike = [s.fit for s in self._specializations if s.trace.arguments == structure]
        numbers = {i for fit in alike for i in fit.changed_numbers(leaves)}
        failed: Symbols = NONE
        while symbols := self._sizes.symbols([fit.given for fit in alike], leaves, structure):
            try:
                trace = self._trace(args, kwargs, numbers, symbols)
                if trace.sized_numbers:
                    self._sizes.keep_numbers(symbols, structure, trace.sized_numbers)
                elif is_for_one_size(trace.size_outcomes):
                    break
                else:
                    return self._of_trace(trace, leaves)
            except StateFound:
                raise
            except Exception as error:  # the call may be right all the same
                log.info("%s: sizes that change keep their numbers: %s", self._name, error)
                failed = symbols
                break
        found = self._of_trace(self._trace(args, kwargs, numbers), leaves)
        self._sizes.keep_numbers(failed, structure)
        return found

    def _of_trace(self, trace: Trace, leaves: list[Any]) -> Specialization:
        options = self._options
        if Settings.now().anomaly and not options.lower.check_finite:
            options = with_checks(options, "nan")
        if trace.gpu is None:
            options = with_matmul_precision(options, get_float32_matmul_precision())
        if trace.requires_grad:
            return DifferentiableSpecialization(trace, leaves, options)
        options = with_preparing(options, trace)
        compiled = compile_for(trace.gpu, unaliased(trace.graph, trace), options)
        return Specialization(trace, compiled, leaves)

    def _warn_of_own_changes(self, trace: Trace) -> None:
        """Once, where running the function undoes what its trace relies on: no call finds a trace that fits."""
        changed = [guard.name for guard in trace.guards if not guard.holds()]
        changed += [
            change.what for change in trace.changes if isinstance(change, OfModule) and change.relied_on
        ]
        if changed and not self._history.warned:
            self._history.warned = True
            warnings.warn(
                f"{self._name} changes {changed[0]} itself, so every call traces it again, which is slow. Do that "
                "outside the compiled function, or keep it in a tensor that is changed in place.",
                RuntimeWarning,
                stacklevel=5,
            )

    def trace(self, *args: Any, **kwargs: Any) -> Trace:
        """The trace of a call, which is neither compiled nor run."""
        with _tracing:
            return self._traced(args, kwargs)

    def _traced(self, args: Any, kwargs: Any) -> Trace:
        while True:
            with suppress(StateFound):
                return self._trace(args, kwargs)

    def _trace(self, args: Any, kwargs: Any, numbers: Collection[int] = (), symbols: Symbols = NONE) -> Trace:
        describe = Describer(self._fn)
        with strictly(self._options.pipeline.strict):
            trace, created = trace_call(
                self._fn,
                args,
                kwargs,
                self._name,
                self._signature,
                describe,
                self._dynamic,
                numbers,
                symbols,
                self._state,
            )
        check_nothing_escaped(created, self._name, trace.graph)
        return trace

    # -- looking inside -----------------------------------------------------------------------------------------------

    def report(
        self, measure: Sequence[Any] | kernel_times.Session | None = None, repeats: int = 10
    ) -> Report:
        """What was compiled: stages with times, kernels, memory plan. RuntimeError before the first call.

        measure: positional arguments, with which the function is called `repeats` times to time its kernels (a training
        step trains on); or a session that has measured them (`profile().session`).
        """
        session = None
        if isinstance(measure, kernel_times.Session):
            session = measure
        elif measure is not None:
            self(*measure)  # compiled, and its pages touched, before it counts
            with measuring(log=False) as session:
                for _ in range(repeats):
                    self(*measure)
        return Report.of(self._name, self._current(), self._history.compiles, self._history.retraces, session)

    def explain(self) -> Explanation:
        """What was traced, what calls rely on, why it was compiled again, and what was decided: a text when printed,
        data by `to_dict()`. RuntimeError before the first call."""
        return Explanation.of(self, self._current(), self._specializations)

    def check(self, *args: Any, **kwargs: Any) -> CheckReport:
        """Compare eager code, the interpreter at every stage and compiled kernels on a call with these arguments
        (`check.py`). Parameters, gradients and random state are put back."""
        with _tracing:
            trace = self._traced(args, kwargs)
            return check_call(self._name, self._fn, trace, self._options, args, kwargs, self._state)

    @property
    def name(self) -> str:
        """What reports and errors call the function."""
        return self._name

    @property
    def history(self) -> History:
        """What happened so far."""
        return self._history

    def graphs(self) -> list[CompiledGraph]:
        """The compiled graphs of the most recent specialization, forward first."""
        return self._current().graphs()

    def graph(self, stage: str = "traced") -> Graph:
        """The graph after a stage; KeyError lists the stages there are."""
        return self._graph().stage(stage)

    def loops(self) -> str:
        """The loop IR as text."""
        return self._graph().loops_text()

    def llvm(self) -> str:
        """The LLVM IR as text, before LLVM's own optimisation."""
        return self._graph().llvm_text()

    def assembly(self) -> str:
        """The machine code as assembly text."""
        return self._graph().assembly_text()

    def _current(self) -> Specialization:
        if not self._specializations:
            raise RuntimeError(f"{self._name} has not been called yet: nothing is compiled")
        return self._last if self._last in self._specializations else self._specializations[-1]

    def _graph(self) -> CompiledGraph:
        return self._current().compiled

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        """A compiled function in a class body is a method."""
        return self if instance is None else functools.partial(self, instance)

    def __repr__(self) -> str:
        return f"<compiled {self._name}: {len(self._specializations)} specializations>"


def _parameter_names(fn: Callable[..., Any]) -> list[str]:
    try:
        return list(inspect.signature(fn).parameters)
    except (TypeError, ValueError):
        return []
