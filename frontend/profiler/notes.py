"""What the threads write down while a profiler is open: eager ops and ranges, each with its place in the user's program.

An op takes some microseconds, so a note is short: its fields lie one after the other in a flat list of the thread, which
gives the garbage collector nothing to look at, and lines are looked up in the end.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import repeat
from types import CodeType
from typing import Any

from ..compile.locations import is_own_file
from ..eager import EAGER
from ..ir.op import Op
from ..nn.modules.paths import module_stack
from ..tensor import Tensor

# A code object and the offset of an instruction in it. A frame would keep the user's tensors.
Place = tuple[CodeType, int]
Shapes = tuple[tuple[int, ...], ...]
Hooks = tuple[Callable[..., Any], Callable[..., Any]]

NOWHERE: Place = (compile("", "", "exec"), -1)

# Source files of the library and others, as `is_own_file` has told.
_own: set[str] = set()
_others: set[str] = set()


def _is_own(file: str) -> bool:
    found = is_own_file(file)
    (_own if found else _others).add(file)
    return found


def user_place(frame: Any) -> Place:
    """The place of the innermost frame from this one outwards that is the user's; NOWHERE if none is."""
    while frame is not None:
        code = frame.f_code
        file = code.co_filename
        if file not in _own and (file in _others or not _is_own(file)):
            return code, frame.f_lasti
        frame = frame.f_back
    return NOWHERE


class Notes:
    """One thread's. `note` takes seven fields: the `Op`, None for a write, or a range's name; begin and end, in seconds
    of `time.perf_counter`; code and offset of the place; the module; bytes of the results.

    modules: names of the running modules, the innermost last. shapes: of the operands of each note, if wanted.
    """

    __slots__ = ("fields", "modules", "note", "shapes", "thread")

    def __init__(self) -> None:
        self.fields: list[Any] = []
        self.modules = module_stack.paths
        self.note = self.fields.extend
        self.shapes: list[Shapes] = []
        self.thread = threading.get_ident()


@dataclass(slots=True)
class Stretch:
    """Notes of one thread that have one place and module; of four fields: op, begin, end, bytes."""

    thread: int
    place: Place
    module: str
    fields: list[Any] = field(default_factory=list)
    shapes: list[Shapes] = field(default_factory=list)


@dataclass(slots=True)
class Note:
    """An op, a write (None) or a range (its name). `begin`, `end`: seconds of `time.perf_counter`."""

    thread: int
    what: Op | str | None
    begin: float
    end: float
    code: CodeType
    at: int
    module: str
    bytes: int
    shapes: Shapes


class Notebook:
    """The notes of all threads. `shapes`: note the operands' shapes too."""

    def __init__(self, shapes: bool):
        self.shapes = shapes
        self._everyones: list[Notes] = []
        self._stretches: list[Stretch] = []
        self._here = threading.local()

    def mine(self) -> Notes:
        """Those of this thread."""
        try:
            found: Notes = self._here.notes
        except AttributeError:
            found = self._here.notes = Notes()
            self._everyones.append(found)
        return found

    def stretch(self, frame: Any) -> Stretch:
        """For what this thread does at the user's place in or around the frame."""
        notes = self.mine()
        found = Stretch(notes.thread, user_place(frame), notes.modules[-1] if notes.modules else "")
        self._stretches.append(found)
        return found

    def __iter__(self) -> Iterator[Note]:
        for notes in self._everyones:
            fields = iter(notes.fields)
            for seven, shapes in zip(zip(*[fields] * 7, strict=True), notes.shapes or repeat(())):
                what, begin, end, code, at, module, size = seven
                yield Note(notes.thread, what, begin, end, code, at, module, size, shapes)
        for stretch in self._stretches:
            fields, (code, at) = iter(stretch.fields), stretch.place
            for four, shapes in zip(zip(*[fields] * 4, strict=True), stretch.shapes or repeat(())):
                what, begin, end, size = four
                yield Note(stretch.thread, what, begin, end, code, at, stretch.module, size, shapes)

    def range(self, name: str, begin: float, frame: Any) -> None:
        """Note a range that ends now, at the place of the frame."""
        notes = self.mine()
        notes.note((name, begin, time.perf_counter(), *user_place(frame), "", 0))
        if self.shapes:
            notes.shapes.append(())

    def hooks(self) -> Hooks:
        """What stands in for `EAGER.apply` and `EAGER.write`. They look up as little as they can."""
        compute, copy, here, mine, shapes = EAGER.apply, EAGER.write, self._here, self.mine, self.shapes
        clock, frame_at, own, others, is_own = time.perf_counter, sys._getframe, _own, _others, _is_own

        def apply(op: Op, operands: Sequence[Tensor], attrs: Mapping[str, Any]) -> tuple[Tensor, ...]:
            begin = clock()
            results = compute(op, operands, attrs)
            end = clock()
            try:
                (result,) = results
                size = result._array.nbytes  # type: ignore[union-attr]
            except ValueError:
                size = bytes_of(results)
            try:
                notes = here.notes
            except AttributeError:
                notes = mine()
            # `user_place`, without a call. Frame 3 called the library's function that called `dispatch.apply`.
            frame: Any = frame_at(3)
            code = frame.f_code
            while (file := code.co_filename) in own or (file not in others and is_own(file)):
                frame = frame.f_back
                if frame is None:
                    break
                code = frame.f_code
            at = -1 if frame is None else frame.f_lasti
            modules = notes.modules
            notes.note((op, begin, end, code, at, modules[-1] if modules else "", size))
            if shapes:
                notes.shapes.append(shapes_of(operands))
            return results

        def write(target: Tensor, new: Tensor) -> None:
            begin = clock()
            copy(target, new)
            end = clock()
            notes = mine()
            modules = notes.modules
            notes.note((None, begin, end, *user_place(frame_at(3)), modules[-1] if modules else "", 0))
            if shapes:
                notes.shapes.append(shapes_of((target, new)))

        return apply, write


def bytes_of(tensors: Sequence[Tensor]) -> int:
    arrays: list[Any] = [t._array for t in tensors]
    return sum(a.nbytes for a in arrays)


def shapes_of(tensors: Sequence[Tensor]) -> Shapes:
    return tuple(tuple(map(int, t.shape)) for t in tensors)


class Lines:
    """Finds the lines of places. The table of a code object is read once."""

    def __init__(self) -> None:
        self._tables: dict[CodeType, list[int | None]] = {}

    def __call__(self, code: CodeType, at: int) -> tuple[str, int]:
        """File and line; ("", 0) for NOWHERE."""
        if at < 0:
            return "", 0
        table = self._tables.get(code)
        if table is None:
            table = self._tables[code] = [start for start, *_ in code.co_positions()]
        return code.co_filename, table[at // 2] or 0  # an instruction is two bytes long
