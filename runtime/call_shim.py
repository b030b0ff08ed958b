"""The native side of a compiled call: checks the argument arrays, collects their addresses, runs the program.

Reading `array.ctypes.data` from Python costs a microsecond an array, checking shape and dtype as much again. The shim
does both for all arguments in some ten nanoseconds: Python hands it `id(array)` of each.

A *call record* is an array of i64 words that describes one call:

    0 entry   1 inputs   2 outputs   3 arena   4 dims   5 threads   6 number of checked arguments   7 number of results
    then per argument   slot, address of its dtype object, required flags, ndim, dims...
    then per result     slot

`inputs` and `outputs` are arrays of data pointers; the slots of arguments and results are filled here, the rest
(parameters, optimizer state) stay as the host left them. `objects` holds the addresses of the argument arrays, then of
the result arrays, which the host has just made. The result is the program's status, or `MISMATCH`, in which case nothing
has run.
"""

from __future__ import annotations

from .array_layout import ALIGNED, C_CONTIGUOUS, WRITEABLE, ArrayLayout

SYMBOL = "vitrify_call"
MISMATCH = -1
HEADER_WORDS = 8
READ_FLAGS = C_CONTIGUOUS | ALIGNED
WRITE_FLAGS = READ_FLAGS | WRITEABLE


def llvm_text(layout: ArrayLayout) -> str:
    """The shim as a function `i32 vitrify_call(ptr record, ptr objects)` for this process's array layout."""
    return f"""
define i32 @{SYMBOL}(ptr %record, ptr %objects) {{
start:
  %inputs.at = getelementptr i64, ptr %record, i64 1
  %inputs = load ptr, ptr %inputs.at
  %outputs.at = getelementptr i64, ptr %record, i64 2
  %outputs = load ptr, ptr %outputs.at
  %arguments.at = getelementptr i64, ptr %record, i64 6
  %arguments = load i64, ptr %arguments.at
  %results.at = getelementptr i64, ptr %record, i64 7
  %results = load i64, ptr %results.at
  %first = getelementptr i64, ptr %record, i64 {HEADER_WORDS}
  br label %argument.test

argument.test:
  %i = phi i64 [0, %start], [%i.next, %argument.done]
  %entry = phi ptr [%first, %start], [%entry.next, %argument.done]
  %more = icmp ult i64 %i, %arguments
  br i1 %more, label %argument, label %result.test

argument:
  %object.at = getelementptr i64, ptr %objects, i64 %i
  %object = load ptr, ptr %object.at
  %descr.at = getelementptr i8, ptr %object, i64 {layout.descr}
  %descr = load i64, ptr %descr.at
  %nd.at = getelementptr i8, ptr %object, i64 {layout.nd}
  %nd.small = load i32, ptr %nd.at
  %nd = sext i32 %nd.small to i64
  %flags.at = getelementptr i8, ptr %object, i64 {layout.flags}
  %flags = load i32, ptr %flags.at
  %want.descr.at = getelementptr i64, ptr %entry, i64 1
  %want.descr = load i64, ptr %want.descr.at
  %want.flags.at = getelementptr i64, ptr %entry, i64 2
  %want.flags.wide = load i64, ptr %want.flags.at
  %want.flags = trunc i64 %want.flags.wide to i32
  %want.nd.at = getelementptr i64, ptr %entry, i64 3
  %want.nd = load i64, ptr %want.nd.at
  %descr.ok = icmp eq i64 %descr, %want.descr
  %nd.ok = icmp eq i64 %nd, %want.nd
  %flags.kept = and i32 %flags, %want.flags
  %flags.ok = icmp eq i32 %flags.kept, %want.flags
  %two.ok = and i1 %descr.ok, %nd.ok
  %three.ok = and i1 %two.ok, %flags.ok
  br i1 %three.ok, label %dims, label %mismatch

dims:
  %dims.at = getelementptr i8, ptr %object, i64 {layout.dims}
  %dims.ptr = load ptr, ptr %dims.at
  %want.dims = getelementptr i64, ptr %entry, i64 4
  br label %dim.test

dim.test:
  %d = phi i64 [0, %dims], [%d.next, %dim.same]
  %dim.more = icmp slt i64 %d, %nd
  br i1 %dim.more, label %dim, label %argument.done

dim:
  %have.at = getelementptr i64, ptr %dims.ptr, i64 %d
  %have = load i64, ptr %have.at
  %want.at = getelementptr i64, ptr %want.dims, i64 %d
  %want = load i64, ptr %want.at
  %same = icmp eq i64 %have, %want
  br i1 %same, label %dim.same, label %mismatch

dim.same:
  %d.next = add i64 %d, 1
  br label %dim.test

argument.done:
  %slot = load i64, ptr %entry
  %data.at = getelementptr i8, ptr %object, i64 {layout.data}
  %data = load ptr, ptr %data.at
  %input.at = getelementptr ptr, ptr %inputs, i64 %slot
  store ptr %data, ptr %input.at
  %entry.words = add i64 %nd, 4
  %entry.next = getelementptr i64, ptr %entry, i64 %entry.words
  %i.next = add i64 %i, 1
  br label %argument.test

result.test:
  %r = phi i64 [0, %argument.test], [%r.next, %result]
  %r.more = icmp ult i64 %r, %results
  br i1 %r.more, label %result, label %run

result:
  %r.index = add i64 %arguments, %r
  %r.object.at = getelementptr i64, ptr %objects, i64 %r.index
  %r.object = load ptr, ptr %r.object.at
  %r.data.at = getelementptr i8, ptr %r.object, i64 {layout.data}
  %r.data = load ptr, ptr %r.data.at
  %r.slot.at = getelementptr i64, ptr %entry, i64 %r
  %r.slot = load i64, ptr %r.slot.at
  %output.at = getelementptr ptr, ptr %outputs, i64 %r.slot
  store ptr %r.data, ptr %output.at
  %r.next = add i64 %r, 1
  br label %result.test

run:
  %program = load ptr, ptr %record
  %arena.at = getelementptr i64, ptr %record, i64 3
  %arena = load ptr, ptr %arena.at
  %dims.word = getelementptr i64, ptr %record, i64 4
  %dim.values = load ptr, ptr %dims.word
  %threads.at = getelementptr i64, ptr %record, i64 5
  %threads = load i64, ptr %threads.at
  %status = call i32 %program(ptr %inputs, ptr %outputs, ptr %arena, ptr %dim.values, i64 %threads)
  ret i32 %status

mismatch:
  ret i32 {MISMATCH}
}}
"""
