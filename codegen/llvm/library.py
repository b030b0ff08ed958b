"""The C interface of an exported program, as LLVM text: what a C program calls besides the kernels.

Around the entries of one or more variants of a program (the same graph lowered for several ISAs) stand functions that
describe inputs, outputs and dims, evaluate the closed forms of the arena's size and of shapes, check what the caller
hands over, and choose the variant that the processor can run. docs/export.md documents them; `runtime/export_header.py`
declares them in C. Nothing here is allocated, and nothing is written but `set_weights`, the choice of the variant, both
atomic, and what the first runs prepare of the weights, the same in all of them: any number of threads may call in.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from ...ir import dtypes
from ...ir.dims import DimLike
from ..c_interface import (
    ABI_VERSION,
    ALIGNMENT,
    BAD_DIMS,
    DTYPES,
    NAME_SYMBOL,
    NO_SUCH,
    NO_WEIGHTS,
    NULL_POINTER,
    SMALL_ARENA,
    STATUSES,
    WEIGHTS_HEADER,
    WEIGHTS_MAGIC,
    WRONG_CPU,
    WRONG_WEIGHTS,
)
from ..library import Library, Slot
from ..loops.nodes import Program
from ..target import Target
from .cpu_check import CPU_CHECKS
from .emit import EmitOptions
from .index import IndexEmitter
from .program import ENTRY, emit_program
from .scalar_ops import ScalarOps
from .text import Writer

# What all runs share that depends on the weights alone (`Program.prepared`).
PREPARED = "@prepared"


def variant_text(program: Program, target: Target, number: int, options: EmitOptions = EmitOptions()) -> str:
    """The LLVM text of one variant, its functions for the target whatever the module's own machine is; their names begin
    with `prefix`."""
    (text,) = emit_program(program, target, options)
    attributes = f'"target-cpu"="{target.cpu}" "tune-cpu"="{target.cpu}"'
    if target.features:
        attributes += f' "target-features"="{target.features}"'
    text = text.replace(" nounwind {\n", f" nounwind {attributes} {{\n")
    return re.sub(rf"@({ENTRY}|kernel_\d+)\b", rf"@{prefix(number)}\1", text)


def prefix(number: int) -> str:
    """What stands before the names of a variant's functions."""
    return f"variant{number}_"


def interface_text(library: Library, weights_data: str | None) -> str:
    """The LLVM text of the C interface; `weights_data` is the file whose bytes become the library's weights."""
    e = _Interface(library)
    e.tables()
    e.weights(weights_data)
    e.choice()
    e.shapes()
    e.arena()
    e.run()
    e.error()
    triple = library.variants[0][0].triple
    return "\n".join([f'target triple = "{triple}"', *e.lines, *sorted(set(e.declarations.values()))]) + "\n"


class _Interface:
    def __init__(self, library: Library):
        self.library = library
        self.name = library.name
        self.target = library.variants[0][0]
        self.lines: list[str] = []
        self.declarations: dict[str, str] = {}
        self._strings = 0

    def add(self, text: str) -> None:
        self.lines.append(text)

    def string(self, text: str) -> str:
        """The name of a constant that holds the text, ended by a zero."""
        data = text.encode() + b"\0"
        name = f"@text{self._strings}"
        self._strings += 1
        self.add(f'{name} = private unnamed_addr constant [{len(data)} x i8] c"{escaped(data)}"')
        return name

    # -- what there is -------------------------------------------------------------------------------------------------

    def tables(self) -> None:
        library = self.library
        self.add("%tensor_info = type { ptr, i32, i32, ptr, ptr }\n%dim_info = type { ptr, i64, i64 }")
        data = self.name.encode() + b"\0"
        self.add(f'@{NAME_SYMBOL} = weak constant [{len(data)} x i8] c"{escaped(data)}"')
        for kind, slots in (("input", library.inputs), ("output", library.outputs)):
            self._table(kind, "tensor_info", [self._tensor(slot) for slot in slots])
        self._table(
            "dim",
            "dim_info",
            [f"%dim_info {{ ptr {self.string(s.name)}, i64 {s.low}, i64 {s.high} }}" for s in library.dims],
        )
        self._constant("abi_version", f"i32 {ABI_VERSION}")

    def _tensor(self, slot: Slot) -> str:
        shape = slot.type.shape
        sizes = ", ".join(f"i64 {d if isinstance(d, int) else -1}" for d in shape)
        name = f"@sizes{self._strings}"
        self.add(f"{name} = private unnamed_addr constant [{len(shape)} x i64] [{sizes}]")
        code = DTYPES.index(slot.type.dtype.name)
        text = self.string(f"[{', '.join(map(str, shape))}]")
        return f"%tensor_info {{ ptr {self.string(slot.name)}, i32 {code}, i32 {len(shape)}, ptr {name}, ptr {text} }}"

    def _constant(self, name: str, value: str) -> None:
        self.add(f"define {value.split()[0]} @{self.name}_{name}() nounwind {{\nret {value}\n}}")

    def _table(self, kind: str, type_: str, rows: Sequence[str]) -> None:
        count = len(rows)
        self.add(f"@{kind}_table = internal constant [{count} x %{type_}] [{', '.join(rows)}]")
        self._constant(f"{kind}_count", f"i32 {count}")
        self.add(
            f"define ptr @{self.name}_{kind}_info(i32 %i) nounwind {{\n"
            f"%fits = icmp ult i32 %i, {count}\nbr i1 %fits, label %yes, label %no\n"
            f"yes:\n%at = getelementptr %{type_}, ptr @{kind}_table, i32 %i\nret ptr %at\nno:\nret ptr null\n}}"
        )

    # -- weights -------------------------------------------------------------------------------------------------------

    def weights(self, data: str | None) -> None:
        weights = self.library.weights
        if weights.file is not None:
            file = self.string(weights.file)
            magic = int.from_bytes(WEIGHTS_MAGIC, "little")
            self.add(
                f"""@weights_base = internal global ptr null, align 8
define internal ptr @weights() nounwind {{
%base = load atomic ptr, ptr @weights_base acquire, align 8
ret ptr %base
}}
define i32 @{self.name}_set_weights(ptr %file, i64 %bytes) nounwind {{
%null = icmp eq ptr %file, null
br i1 %null, label %missing, label %aligned
missing:
ret i32 {NULL_POINTER}
aligned:
%number = ptrtoint ptr %file to i64
%low = and i64 %number, {ALIGNMENT - 1}
%odd = icmp ne i64 %low, 0
%other = icmp ne i64 %bytes, {WEIGHTS_HEADER + weights.total}
%bad = or i1 %odd, %other
br i1 %bad, label %wrong, label %look
look:
%magic = load i64, ptr %file, align 8
%print.at = getelementptr i8, ptr %file, i64 8
%print = load i64, ptr %print.at, align 8
%a = icmp eq i64 %magic, {magic}
%b = icmp eq i64 %print, {weights.fingerprint}
%both = and i1 %a, %b
br i1 %both, label %take, label %wrong
wrong:
ret i32 {WRONG_WEIGHTS}
take:
%base = getelementptr i8, ptr %file, i64 {WEIGHTS_HEADER}
store atomic ptr %base, ptr @weights_base release, align 8
ret i32 0
}}"""
            )
        else:
            file = "null"
            symbol = "null"
            if weights.total:
                assert data is not None
                symbol = f"@{self.name}_weights_data"
                # LLVM's text form would take three bytes and a parser's time for each byte of a constant.
                for line in (
                    f'.pushsection .rodata.{symbol[1:]},"a",@progbits',
                    f".globl {symbol[1:]}",
                    f".hidden {symbol[1:]}",
                    f".balign {ALIGNMENT}",
                    f"{symbol[1:]}:",
                    f'.incbin "{data}"',
                    ".popsection",
                ):
                    self.add(f'module asm "{escaped(line.encode())}"')
                self.add(f"{symbol} = external hidden constant [{weights.total} x i8], align {ALIGNMENT}")
            self.add(f"define internal ptr @weights() nounwind {{\nret ptr {symbol}\n}}")
        self._constant("weights_file", f"ptr {file}")

    # -- which variant -------------------------------------------------------------------------------------------------

    def choice(self) -> None:
        architecture = self.target.triple.split("-")[0]
        self.add(CPU_CHECKS[architecture])
        levels = {"avx512": 4, "avx2": 3, "sse2": 1, "neon": 1}
        lines = []
        for number, (target, _) in enumerate(self.library.variants):
            lines += [
                f"%fits{number} = icmp uge i32 %level, {levels[target.isa]}",
                f"br i1 %fits{number}, label %take{number}, label %next{number}",
                f"take{number}:\nstore atomic i32 {number}, ptr @chosen monotonic, align 4\nret i32 {number}",
                f"next{number}:",
            ]
        body = "\n".join(lines)
        self.add(
            f"""@chosen = internal global i32 -1, align 4
define internal i32 @choose() nounwind {{
%known = load atomic i32, ptr @chosen monotonic, align 4
%done = icmp sge i32 %known, 0
br i1 %done, label %old, label %new
old:
ret i32 %known
new:
%level = call i32 @cpu_level()
{body}
ret i32 {WRONG_CPU}
}}"""
        )

    # -- closed forms --------------------------------------------------------------------------------------------------

    def _evaluator(self) -> tuple[Writer, IndexEmitter]:
        """An emitter of index expressions over the dims at `%dims`."""
        w = Writer()
        index = IndexEmitter(w, ScalarOps(w, self.target))
        for i, symbol in enumerate(self.library.dims):
            slot = w.pure(f"getelementptr i64, ptr %dims, i64 {i}", 0, dtypes.i64)
            index.env[symbol.name] = w.pure(f"load i64, ptr {slot.text}, align 8", 0, dtypes.i64)
        return w, index

    def _finish(self, header: str, w: Writer, end: str) -> None:
        self.declarations.update(w.declarations)
        self.add(f"define {header} nounwind {{\nentry:\n" + "\n".join([*w.lines(), end]) + "\n}")

    def _number(self, name: str, value: DimLike) -> None:
        w, index = self._evaluator()
        self._finish(f"internal i64 @{name}(ptr %dims)", w, f"ret i64 {index.value(value).text}")

    def shapes(self) -> None:
        # Whether the dims lie within their bounds.
        w, index = self._evaluator()
        good = "true"
        if self.library.dims:
            w.line("%null = icmp eq ptr %dims, null")
        for i, symbol in enumerate(self.library.dims):
            value = index.env[symbol.name]
            assert not isinstance(value, int)
            w.line(f"%low{i} = icmp sge i64 {value.text}, {symbol.low}")
            w.line(f"%high{i} = icmp sle i64 {value.text}, {symbol.high}")
            w.line(f"%both{i} = and i1 %low{i}, %high{i}\n%all{i} = and i1 %both{i}, {good}")
            good = f"%all{i}"
        w.line(f"%result = select i1 {good}, i32 0, i32 {BAD_DIMS}")
        self._finish("internal i32 @dims_in_bounds(ptr %dims)", w, "ret i32 %result")
        null = "icmp eq ptr %dims, null" if self.library.dims else "icmp eq i1 true, false"
        self.add(
            f"""define internal i32 @check_dims(ptr %dims) nounwind {{
%null = {null}
br i1 %null, label %missing, label %there
missing:
ret i32 {NULL_POINTER}
there:
%result = call i32 @dims_in_bounds(ptr %dims)
ret i32 %result
}}"""
        )
        for kind, slots in (("input", self.library.inputs), ("output", self.library.outputs)):
            for number, slot in enumerate(slots):
                w, index = self._evaluator()
                for axis, size in enumerate(slot.type.shape):
                    at = w.pure(f"getelementptr i64, ptr %shape, i64 {axis}", 0, dtypes.i64)
                    w.line(f"store i64 {index.value(size).text}, ptr {at.text}, align 8")
                self._finish(f"internal void @{kind}{number}_shape(ptr %dims, ptr %shape)", w, "ret void")
            cases = " ".join(f"i32 {i}, label %case{i}" for i in range(len(slots)))
            blocks = "\n".join(
                f"case{i}:\ncall void @{kind}{i}_shape(ptr %dims, ptr %shape)\nret i32 0"
                for i in range(len(slots))
            )
            self.add(
                f"""define i32 @{self.name}_{kind}_shape(i32 %i, ptr %dims, ptr %shape) nounwind {{
entry:
%null = icmp eq ptr %shape, null
br i1 %null, label %missing, label %there
missing:
ret i32 {NULL_POINTER}
there:
%bad = call i32 @check_dims(ptr %dims)
%wrong = icmp ne i32 %bad, 0
br i1 %wrong, label %failed, label %good
failed:
ret i32 %bad
good:
switch i32 %i, label %none [ {cases} ]
none:
ret i32 {NO_SUCH}
{blocks}
}}"""
            )

    def arena(self) -> None:
        variants = self.library.variants
        for number, (_, program) in enumerate(variants):
            self._number(f"arena{number}", program.arena_bytes)
        cases = " ".join(f"i32 {i}, label %case{i}" for i in range(len(variants)))
        blocks = "\n".join(
            f"case{i}:\n%bytes{i} = call i64 @arena{i}(ptr %dims)\nret i64 %bytes{i}"
            for i in range(len(variants))
        )
        self.add(
            f"""define internal i64 @least_arena(i32 %variant, ptr %dims) nounwind {{
switch i32 %variant, label %none [ {cases} ]
none:
ret i64 0
{blocks}
}}
define i64 @{self.name}_arena_bytes(ptr %dims) nounwind {{
%bad = call i32 @check_dims(ptr %dims)
%wrong = icmp ne i32 %bad, 0
br i1 %wrong, label %failed, label %good
failed:
%status = sext i32 %bad to i64
ret i64 %status
good:
%variant = call i32 @choose()
%none = icmp slt i32 %variant, 0
br i1 %none, label %unsupported, label %size
unsupported:
ret i64 {WRONG_CPU}
size:
%least = call i64 @least_arena(i32 %variant, ptr %dims)
%bytes = add i64 %least, {ALIGNMENT}
ret i64 %bytes
}}"""
        )

    # -- run -----------------------------------------------------------------------------------------------------------

    def run(self) -> None:
        library = self.library
        total = len(library.inputs) + len(library.weights.offsets)
        lines: list[str] = []

        def require(name: str, condition: str, status: int | str) -> None:
            lines.extend(
                [
                    f"%is.{name} = {condition}",
                    f"br i1 %is.{name}, label %fail.{name}, label %ok.{name}",
                    f"fail.{name}:\nret i32 {status}",
                    f"ok.{name}:",
                ]
            )

        lines.append("%bad = call i32 @check_dims(ptr %dims)")
        require("bad", "icmp ne i32 %bad, 0", "%bad")
        for kind, count in (("input", len(library.inputs)), ("output", len(library.outputs))):
            if count:
                require(f"{kind}s", f"icmp eq ptr %{kind}s, null", NULL_POINTER)
            for i in range(count):
                lines.append(f"%{kind}{i}.at = getelementptr ptr, ptr %{kind}s, i64 {i}")
                lines.append(f"%{kind}{i} = load ptr, ptr %{kind}{i}.at, align 8")
                require(f"{kind}{i}", f"icmp eq ptr %{kind}{i}, null", NULL_POINTER)
        lines.append("%weights = call ptr @weights()")
        if library.weights.file is not None:
            require("unset", "icmp eq ptr %weights, null", NO_WEIGHTS)
        lines.append("%variant = call i32 @choose()")
        require("cpu", "icmp slt i32 %variant, 0", WRONG_CPU)
        require("arena", "icmp eq ptr %arena, null", SMALL_ARENA)
        lines += [
            "%least = call i64 @least_arena(i32 %variant, ptr %dims)",
            "%address = ptrtoint ptr %arena to i64",
            "%minus = sub i64 0, %address",
            f"%pad = and i64 %minus, {ALIGNMENT - 1}",
            "%needed = add i64 %least, %pad",
        ]
        require("small", "icmp slt i64 %arena_bytes, %needed", SMALL_ARENA)
        lines.append("%memory = getelementptr i8, ptr %arena, i64 %pad")
        given = 0
        for i in range(total):
            lines.append(f"%all{i} = getelementptr ptr, ptr %all, i64 {i}")
            offset = library.weights.offsets.get(i)
            if offset is None:
                value, given = f"%input{given}", given + 1
            else:
                value = f"%weight{i}"
                lines.append(f"{value} = getelementptr i8, ptr %weights, i64 {offset}")
            lines.append(f"store ptr {value}, ptr %all{i}, align 8")
        prepared = max(program.prepared_bytes for _, program in library.variants)
        if prepared:
            self.add(f"{PREPARED} = internal global [{prepared} x i8] zeroinitializer, align {ALIGNMENT}")
            lines.append(f"%all{total} = getelementptr ptr, ptr %all, i64 {total}")
            lines.append(f"store ptr {PREPARED}, ptr %all{total}, align 8")
        lines += [
            "%some = icmp sgt i32 %threads, 1",
            "%count32 = select i1 %some, i32 %threads, i32 1",
            "%count = zext i32 %count32 to i64",
        ]
        cases = " ".join(f"i32 {i}, label %case{i}" for i in range(len(library.variants)))
        lines.append(f"switch i32 %variant, label %none [ {cases} ]\nnone:\nret i32 {WRONG_CPU}")
        for i in range(len(library.variants)):
            entry = f"@{prefix(i)}{ENTRY}"
            self.add(f"declare i32 {entry}(ptr, ptr, ptr, ptr, i64)")
            lines.append(
                f"case{i}:\n%status{i} = call i32 {entry}(ptr %all, ptr %outputs, ptr %memory, ptr %dims, i64 %count)"
            )
            if prepared:
                lines.append(
                    f"%good{i} = icmp eq i32 %status{i}, 0\nbr i1 %good{i}, label %filled{i}, label %done{i}\n"
                    f"filled{i}:\nstore atomic i64 1, ptr {PREPARED} release, align 8\nbr label %done{i}\ndone{i}:"
                )
            lines.append(f"ret i32 %status{i}")
        self.add(
            f"define i32 @{self.name}_run(ptr %inputs, ptr %outputs, ptr %dims, ptr %arena, i64 %arena_bytes, "
            f"i32 %threads) nounwind {{\nentry:\n%all = alloca [{total + 1} x ptr], align 16\n"
            + "\n".join(lines)
            + "\n}"
        )

    def error(self) -> None:
        texts = {code: text for code, (_, text) in STATUSES.items()} | self.library.messages
        unknown = self.string("unknown status")
        blocks = [f"case{n}:\nret ptr {self.string(text)}" for n, text in enumerate(texts.values())]
        cases = " ".join(f"i32 {code}, label %case{n}" for n, code in enumerate(texts))
        body = "\n".join(blocks)
        self.add(
            f"define ptr @{self.name}_error(i32 %code) nounwind {{\nswitch i32 %code, label %none [ {cases} ]\n"
            f"none:\nret ptr {unknown}\n{body}\n}}"
        )


def escaped(data: bytes) -> str:
    """Bytes as LLVM writes them in a string."""
    return "".join(chr(b) if 32 <= b < 127 and b not in b'"\\' else f"\\{b:02X}" for b in data)
