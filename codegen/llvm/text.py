"""LLVM IR as text: values, types, and a writer that numbers values and hoists pure instructions as it goes.

Building text and parsing it once is several times faster than building `llvmlite.ir` objects, which print
themselves as text too. The writer keeps structured control flow: every loop and every arm of an `if` is a `Scope`
with a dictionary of the pure instructions that dominate it. A pure instruction is written only once per scope, and
outside every loop that none of its operands depends on.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache, lru_cache
from math import copysign

import numpy as np

from ...ir import dtypes
from ...ir.dtypes import DType

# Loads that are moved out of one loop at most; more would not stay in registers.
HOISTED_READS = 8

_REGISTER_TYPES = {
    "bool": "i1",
    "u8": "i8",
    "u16": "i16",
    "u32": "i32",
    "u64": "i64",
    "i8": "i8",
    "i16": "i16",
    "i32": "i32",
    "i64": "i64",
    "f16": "half",
    "bf16": "i16",  # carried as bits: conversions are written out, since x86's instruction flushes denormals
    "f32": "float",
    "f64": "double",
}


@dataclass(frozen=True, slots=True)
class Value:
    """An SSA value or a constant: its text, dtype, lanes (0 for a scalar) and the scope level that defines it."""

    text: str
    dtype: DType
    lanes: int = 0
    level: int = 0

    @property
    def type(self) -> str:
        return type_of(self.dtype, self.lanes)

    def __str__(self) -> str:
        return f"{self.type} {self.text}"


def element_type(dtype: DType) -> str:
    """The LLVM type of a scalar in a register; NotImplementedError for complex dtypes, which kernels do not take."""
    try:
        return _REGISTER_TYPES[dtype.name]
    except KeyError:
        raise NotImplementedError(f"kernels do not compute with {dtype.name}") from None


def memory_type(dtype: DType) -> str:
    """The LLVM type of an element in memory: a bool takes a byte."""
    return "i8" if dtype is dtypes.bool_ else element_type(dtype)


@cache
def type_of(dtype: DType, lanes: int = 0) -> str:
    element = element_type(dtype)
    return f"<{lanes} x {element}>" if lanes else element


def constant_text(value: float | int | bool, dtype: DType) -> str:
    """A scalar constant as LLVM writes it; the value is converted to `dtype` as NumPy converts."""
    # Equal keys must mean equal texts: 1 and 1.0, 0.0 and -0.0 are equal numbers.
    return _constant_text(type(value).__name__, value, copysign(1.0, value), dtype)


@lru_cache(maxsize=4096)
def _constant_text(kind: str, value: float | int | bool, sign: float, dtype: DType) -> str:
    if dtype is dtypes.bool_:
        return "true" if value else "false"
    if dtype is dtypes.bf16:
        return str(int(np.array(value, dtype.numpy).view(np.uint16)))
    with np.errstate(all="ignore"):
        number = np.array(value).astype(dtype.numpy)
    if dtype.kind in ("int", "uint"):
        return str(int(number))
    if dtype is dtypes.f16:
        return f"0xH{int(number.view(np.uint16)):04X}"
    # LLVM writes a float constant as the hexadecimal bits of the double with the same value.
    return f"0x{struct.unpack('<Q', struct.pack('<d', float(number)))[0]:016X}"


@dataclass(slots=True)
class Scope:
    """A loop body, an arm of an if, or the function itself. `preheader` is the place just before it, `entered` the
    place just before its first iteration, reached only if there is one; they are the same where there always is."""

    items: list[object]
    preheader: list[object]
    entered: list[object]
    is_loop: bool
    memo: dict[str, Value] = field(default_factory=dict)
    hoisted_reads: int = 0

    @property
    def always_runs(self) -> bool:
        return self.is_loop and self.entered is self.preheader


class Writer:
    """Writes one function's body. `scopes[level]` are the open scopes, outermost first."""

    def __init__(self) -> None:
        self.entry: list[object] = []
        top: list[object] = [self.entry]
        self.root = top
        self.scopes: list[Scope] = [Scope(top, self.entry, self.entry, False)]
        self._names = 0
        self.declarations: dict[str, str] = {}

    @property
    def level(self) -> int:
        return len(self.scopes) - 1

    def fresh(self, stem: str = "v") -> str:
        self._names += 1
        return f"{stem}{self._names}"

    def line(self, text: str) -> None:
        """An instruction without a result, in order."""
        self.scopes[-1].items.append(text)

    def effect(self, rhs: str, dtype: DType, lanes: int = 0) -> Value:
        """An instruction that stays where it is: it reads or writes memory."""
        name = f"%v{self._names}"
        self._names += 1
        self.scopes[-1].items.append(f"{name} = {rhs}")
        return Value(name, dtype, lanes, len(self.scopes) - 1)

    def pure(self, rhs: str, level: int, dtype: DType, lanes: int = 0, cheap: bool = False) -> Value:
        """An instruction that only computes, from operands of at most `level`.

        It is hoisted out of loops; out of the arms of an if only when it is `cheap`, since it may not be needed.
        """
        scopes = self.scopes
        top = len(scopes) - 1
        for depth in range(level, top + 1):
            known = scopes[depth].memo.get(rhs)
            if known is not None:
                return known
        if level < top and not cheap:
            for depth in range(top, level, -1):
                if not scopes[depth].is_loop:
                    level = depth
                    break
        name = f"%v{self._names}"
        self._names += 1
        place = scopes[top].items if level == top else scopes[level + 1].preheader
        place.append(f"{name} = {rhs}")
        value = Value(name, dtype, lanes, level)
        scopes[level].memo[rhs] = value
        return value

    def preheader(self) -> list[object]:
        """A place here, in the current scope, where scopes that are opened next put what they hoist."""
        place: list[object] = []
        self.scopes[-1].items.append(place)
        return place

    def read(self, rhs: str, level: int, dtype: DType, lanes: int = 0) -> Value:
        """A load of memory that nothing writes while the function runs, from operands of at most `level`.

        It is done once per scope, and hoisted out of the loops that are certain to reach it; only so many out of each
        loop, since what is hoisted occupies registers.
        """
        scopes = self.scopes
        top = len(scopes) - 1
        for depth in range(level, top + 1):
            known = scopes[depth].memo.get(rhs)
            if known is not None:
                return known
        depth = top
        while depth > level and scopes[depth].is_loop and scopes[depth].hoisted_reads < HOISTED_READS:
            depth -= 1
            if not scopes[depth + 1].always_runs:
                break
        name = f"%v{self._names}"
        self._names += 1
        if depth == top:
            scopes[top].items.append(f"{name} = {rhs}")
            home = top
        else:
            outside = scopes[depth + 1]
            for scope in scopes[depth + 1 :]:
                scope.hoisted_reads += 1
            outside.entered.append(f"{name} = {rhs}")
            home = depth if outside.always_runs else depth + 1
        value = Value(name, dtype, lanes, home)
        scopes[home].memo[rhs] = value
        return value

    def open(self, is_loop: bool, preheader: list[object], entered: list[object] | None = None) -> Scope:
        """Begin a scope here. `preheader` must come before the branch that enters it; `entered` after it, or be the
        same for a scope that is always entered."""
        items: list[object] = []
        self.scopes[-1].items.append(items)
        scope = Scope(items, preheader, preheader if entered is None else entered, is_loop)
        self.scopes.append(scope)
        return scope

    def close(self) -> None:
        self.scopes.pop()

    @contextmanager
    def branch_if(self, condition: Value | None) -> Iterator[None]:
        """What is written inside runs where the condition holds; without one, always."""
        if condition is None:
            yield
            return
        number = self.fresh("")
        preheader = self.preheader()
        self.line(f"br i1 {condition.text}, label %then{number}, label %end{number}")
        self.open(is_loop=False, preheader=preheader)
        self.line(f"then{number}:")
        yield
        self.line(f"br label %end{number}")
        self.close()
        self.line(f"end{number}:")

    def declare(self, name: str, declaration: str) -> str:
        """Remember that the module must declare an external function; returns its name."""
        self.declarations[name] = declaration
        return name

    def lines(self) -> list[str]:
        out: list[str] = []
        _flatten(self.root, out)
        return out


def _flatten(items: list[object], out: list[str]) -> None:
    for item in items:
        if isinstance(item, list):
            _flatten(item, out)
        else:
            out.append(item)  # type: ignore[arg-type]


def literal(x: Value) -> int | None:
    """The integer that a constant or a splat of one is; None for anything else."""
    text = x.text
    if text.startswith("splat ("):
        text = text[7:-1].split()[-1]
    try:
        return int(text)
    except ValueError:
        return None


def const(value: float | int | bool, dtype: DType, lanes: int = 0) -> Value:
    """A constant; with lanes, a splat of it."""
    text = constant_text(value, dtype)
    if lanes:
        text = f"splat ({element_type(dtype)} {text})"
    return Value(text, dtype, lanes, 0)


def vector_const(values: list[int] | list[bool], dtype: DType) -> Value:
    """A vector constant with these elements."""
    element = element_type(dtype)
    body = ", ".join(f"{element} {constant_text(v, dtype)}" for v in values)
    return Value(f"<{body}>", dtype, len(values), 0)


def splat(writer: Writer, value: Value, lanes: int) -> Value:
    """The scalar in every lane; vectors pass through."""
    if value.lanes == lanes:
        return value
    if value.lanes:
        raise ValueError(f"a vector of {value.lanes} lanes where {lanes} are wanted: {value}")
    if not value.text.startswith("%"):
        return Value(f"splat ({value.type} {value.text})", value.dtype, lanes, 0)
    vector = type_of(value.dtype, lanes)
    one = writer.pure(
        f"insertelement {vector} poison, {value}, i64 0", value.level, value.dtype, lanes, cheap=True
    )
    return writer.pure(
        f"shufflevector {vector} {one.text}, {vector} poison, <{lanes} x i32> zeroinitializer",
        value.level,
        value.dtype,
        lanes,
        cheap=True,
    )
