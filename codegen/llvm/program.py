"""A whole program as LLVM modules: its kernels, each structure once, and the entry that runs the launches.

    i32 run(ptr inputs, ptr outputs, ptr arena, ptr dims, i64 threads)

`inputs` and `outputs` point to arrays of data pointers, in the order of the program's buffers; `arena` to
`arena_bytes` of scratch memory; `dims` to the symbolic dims' values as i64, in the program's order. The result is 0 or
the code of the first check that failed.

Where the program prepares something (`Program.prepared`), one more entry of `inputs` points to the block of that memory,
and the launches that fill it run only if the block's first word is 0.

A host call is a function like a kernel, which calls Python through the pointer in `HOST_SLOT`; the loader puts it there:

    i32 host(i64 which, ptr args, ptr dims)

`which` counts the program's host calls; `args` and `dims` are those of kernels. What it returns, unless 0, is the
program's result at once. A call that tells dims writes them to `dims`, and allocates the memory of the sizes they give
(`Program.late`): after the params, `args` holds the addresses of `outputs` and of a word for the memory that is no
output; for results that have no place yet it holds null.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence

from ...ir import dims, dtypes
from ...ir.dims import DimLike
from ..loops.nodes import Buffer, Check, HostCall, Kernel, Launch, Part, Program, whole
from ..loops.repeats import Block, Step, program_steps
from ..loops.walk import statements
from ..target import Target
from .emit import EmitOptions, KernelText, emit_kernel
from .index import IndexEmitter
from .measure import DECLARATIONS, START, lap, measure_functions
from .memory import ZEROS, ZEROS_BYTES
from .metadata import module_metadata
from .repeat import loop, take_turns
from .scalar_ops import ScalarOps
from .text import Value, Writer, const

ENTRY = "run"
POOL_RUN = "vitrify_pool_run"
HOST_SLOT = "vitrify_host"

# A launch is shared among threads when its work (iterations times `Kernel.cost`, in FLOPs or element moves) takes
# several times longer than waking the pool (0.4 µs, DESIGN.md section 8); a chunk is at least the second figure.
PARALLEL_WORK = 64 << 10
CHUNK_WORK = 16 << 10
CHUNKS_PER_THREAD = 4
# A launch under a repeat with no more work than this is mostly reading what every turn reads, such as the weights of a
# recurrent layer: each thread then has one chunk, nearly always the same, whose weights stay in its core's cache.
STEADY_WORK = 4 << 20


# How many instructions of kernels make a module: small enough for threads to share a program's modules evenly.
MODULE_INSTRUCTIONS = 2048


def emit_program(
    program: Program,
    target: Target,
    options: EmitOptions = EmitOptions(),
    instructions: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[str]:
    """The program's LLVM text, in modules of about so many `instructions` (None: in one), each as soon as it is
    written, so that it can be compiled while the next one is; the entry is in the last. `progress` is told before each
    launch how many are done, and how many there are."""
    texts: dict[KernelText, str] = {}
    names: list[str] = []
    emitted: dict[tuple[int, tuple[int, ...]], str] = {}
    hosts: list[str] = []
    pending: list[KernelText] = []
    for number, launch in enumerate(program.launches):
        if progress is not None:
            progress(number, len(program.launches))
        if isinstance(launch.kernel, HostCall):
            names.append(f"host_{len(hosts)}")
            hosts.append(_host_call(names[-1], len(hosts)))
            continue
        classes = alias_classes(program, launch)
        key = (id(launch.kernel), classes)
        if key not in emitted:
            text = emit_kernel(launch.kernel, target, program.dims, classes, options)
            if text not in texts:
                texts[text] = f"kernel_{len(texts)}"
                pending.append(text)
            emitted[key] = texts[text]
        names.append(emitted[key])
        if instructions is not None and sum(k.instructions for k in pending) >= instructions:
            yield _kernels_module(target, pending, texts)
            pending = []
    entry, declarations = _entry(program, names, target, options.measure)
    functions = [*measure_functions(len(program.launches))] if options.measure else []
    functions += [*hosts, entry]
    if hosts:
        declarations[f"@{HOST_SLOT}"] = f"@{HOST_SLOT} = global ptr null, align 8"
    here = {texts[k] for k in pending}
    for name in dict.fromkeys(names):
        if name not in here and not name.startswith("host_"):
            declarations[f"@{name}"] = f"declare void @{name}(ptr, ptr, i64, i64, ptr)"
    declarations[f"@{POOL_RUN}"] = f"declare void @{POOL_RUN}(ptr, ptr, ptr, i64, i64, i64, ptr)"
    yield _kernels_module(target, pending, texts, functions, declarations)


def _kernels_module(
    target: Target,
    kernels: Sequence[KernelText],
    names: Mapping[KernelText, str],
    functions: Sequence[str] = (),
    declarations: Mapping[str, str] | None = None,
) -> str:
    """A module of these kernels and other functions."""
    own = [k.text.replace("@KERNEL", f"@{names[k]}", 1) for k in kernels]
    declared = {**dict(d for k in kernels for d in k.declarations), **(declarations or {})}
    return module_text(target, [*own, *functions], declared, kernels)


def _host_call(name: str, number: int) -> str:
    return (
        f"define void @{name}(ptr %args, ptr %dims, i64 %begin, i64 %end, ptr %status) nounwind {{\n"
        f"entry:\n%host = load ptr, ptr @{HOST_SLOT}, align 8\n"
        f"%code = call i32 %host(i64 {number}, ptr %args, ptr %dims)\n"
        "store i32 %code, ptr %status, align 4\nret void\n}\n"
    )


def module_text(
    target: Target, functions: Sequence[str], declarations: Mapping[str, str], kernels: Sequence[KernelText]
) -> str:
    """A module of these functions, with the metadata and constants that kernels refer to."""
    lines = [f'target triple = "{target.triple}"']
    if any(k.uses_zeros for k in kernels):
        lines.append(
            f"{ZEROS} = private unnamed_addr constant [{ZEROS_BYTES} x i8] zeroinitializer, align 64"
        )
    lines += functions
    lines += [declarations[name] for name in sorted(declarations)]
    lines += module_metadata({k.alias_classes for k in kernels})
    return "\n".join(lines) + "\n"


def launched_functions(entry: str) -> list[str]:
    """The function that each launch of a program runs, in order; `entry` is the last text of `emit_program`."""
    # What `_EntryEmitter.launch` writes: once for every launch, also for one that may be shared among threads.
    return re.findall(r"call void @(\w+)\(ptr %args, ptr %dims,", entry)


def alias_classes(program: Program, launch: Launch) -> tuple[int, ...]:
    """For each param the number of its group; params in different groups never overlap.

    Inputs and outputs are arrays of their own: a donated input is the same buffer as the output that replaces it.
    Arena buffers overlap where the memory plan placed them over each other. What lies in an output's memory is not in
    use together with it.
    """
    groups = list(range(len(launch.args)))
    for i, a in enumerate(launch.args):
        for j in range(i):
            if _may_overlap(program, launch.args[j], a):
                old, new = groups[i], groups[j]
                groups = [new if g == old else g for g in groups]
    order = {g: n for n, g in enumerate(dict.fromkeys(groups))}
    return tuple(order[g] for g in groups)


def _may_overlap(program: Program, a: Buffer, b: Buffer) -> bool:
    if a is b:
        return True
    if isinstance(a, Part) and isinstance(b, Part) and take_turns(a, b):
        return False
    a, b = whole(a), whole(b)
    if a is b:
        return True
    if a.name not in program.offsets or b.name not in program.offsets:
        return False
    if program.late.get(a) != program.late.get(b) or program.lenders.get(a) is not program.lenders.get(b):
        return False
    start_a, start_b = program.offsets[a.name], program.offsets[b.name]
    for low, size, high in ((start_a, a.nbytes, start_b), (start_b, b.nbytes, start_a)):
        if dims.bounds(high - (low + size))[0] >= 0:
            return False
    return True


class _EntryEmitter:
    def __init__(self, program: Program, target: Target, measure: bool):
        self.program = program
        self.measure = measure
        self.w = Writer()
        self.ops = ScalarOps(self.w, target)
        self.index = IndexEmitter(self.w, self.ops)
        told = {s.name for call in program.host_calls for s in call.told}
        for i, dim in enumerate(program.dims):
            if dim.name in told:
                continue
            slot = self.w.pure(f"getelementptr i64, ptr %dims, i64 {i}", 0, dtypes.i64)
            self.index.env[dim.name] = self.w.pure(f"load i64, ptr {slot.text}, align 8", 0, dtypes.i64)
        self.repeating = False
        self._places: dict[Buffer, tuple[str, int]] = {}
        for base, buffers in (("%outputs", program.outputs), ("%inputs", program.inputs)):
            self._places.update({b: (base, i) for i, b in enumerate(buffers)})

    def pointer(self, buffer: Buffer) -> Value:
        if isinstance(buffer, Part):
            of, start = self.pointer(buffer.of), self.index.value(buffer.index * buffer.nbytes)
            level = max(of.level, start.level)
            return self.w.pure(f"getelementptr i8, ptr {of.text}, i64 {start.text}", level, dtypes.i64)
        place = self._places.get(buffer)
        if place is not None:
            base, number = place
            slot = self.w.pure(f"getelementptr ptr, ptr {base}, i64 {number}", 0, dtypes.i64)
            return self.w.pure(f"load ptr, ptr {slot.text}, align 8", 0, dtypes.i64)
        if buffer in self.program.prepared:
            at = self.program.prepared[buffer]
            return self.w.pure(f"getelementptr i8, ptr {self.prepared.text}, i64 {at}", 0, dtypes.i64)
        try:
            offset = self.index.value(self.program.offsets[buffer.name])
        except KeyError:
            raise ValueError(
                f"program {self.program.name}: {buffer} is no input, no output and has no place in the arena"
            ) from None
        base = "%arena"
        if buffer in self.program.lenders:
            base = self.pointer(self.program.lenders[buffer]).text
        if buffer in self.program.late:
            number = self.program.late[buffer]
            word = self.w.pure(f"getelementptr ptr, ptr %late, i64 {number}", 0, dtypes.i64)
            base = self.w.pure(f"load ptr, ptr {word.text}, align 8", 0, dtypes.i64).text
        return self.w.pure(f"getelementptr i8, ptr {base}, i64 {offset.text}", 0, dtypes.i64)

    @property
    def prepared(self) -> Value:
        """The address of the block of prepared memory."""
        slot = f"getelementptr ptr, ptr %inputs, i64 {len(self.program.inputs)}"
        address = self.w.pure(slot, 0, dtypes.i64)
        return self.w.pure(f"load ptr, ptr {address.text}, align 8", 0, dtypes.i64)

    def program_steps(self, names: Sequence[str]) -> None:
        """All launches, each of the function of that name; the first ones only where what they prepare is not there."""
        steps, first = program_steps(self.program), self.program.preparing
        if first:
            filled = self.w.effect(f"load atomic i64, ptr {self.prepared.text} acquire, align 8", dtypes.i64)
            with self.w.branch_if(self.ops.compare("eq", filled, const(0, dtypes.i64))):
                self.steps(steps[:first], names)
        self.steps(steps[first:], names)

    def argument(self, launch: Launch, buffer: Buffer) -> Value:
        """The buffer's address, null where the launch itself is to find a place for it."""
        calls = self.program.host_calls
        if buffer in self.program.late and calls[self.program.late[buffer]] is launch.kernel:
            return Value("null", dtypes.i64)
        return self.pointer(buffer)

    def tell(self, call: HostCall) -> None:
        """Take the dims that the host call has told."""
        position = {s.name: i for i, s in enumerate(self.program.dims)}
        for symbol in call.told:
            slot = f"getelementptr i64, ptr %dims, i64 {position[symbol.name]}"
            address = self.w.pure(slot, 0, dtypes.i64)
            self.index.env[symbol.name] = self.w.effect(f"load i64, ptr {address.text}, align 8", dtypes.i64)

    def steps(self, steps: Sequence[Step], names: Sequence[str]) -> None:
        """The launches, each of the function of that name, in loops where they repeat."""
        for step in steps:
            if isinstance(step, Block):
                outside, self.repeating = self.repeating, True
                with loop(self.w, self.index, step.repeat.var, step.repeat.count):
                    self.steps(step.steps, names)
                self.repeating = outside
                continue
            number, launch = step
            self.launch(launch, names[number])
            host = isinstance(launch.kernel, HostCall)
            if host or any(isinstance(stmt, Check) for stmt in statements(launch.kernel.body)):
                self.stop_if_failed()
            if isinstance(launch.kernel, HostCall):
                self.tell(launch.kernel)
            if self.measure:
                flops, moved = (self.index.value(amount).text for amount in (launch.flops, launch.bytes))
                self.w.line(lap(number, flops, moved))

    def launch(self, launch: Launch, name: str) -> None:
        w = self.w
        for i, buffer in enumerate(launch.args):
            pointer = self.argument(launch, buffer)
            slot = w.pure(f"getelementptr ptr, ptr %args, i64 {i}", 0, dtypes.i64)
            w.line(f"store ptr {pointer.text}, ptr {slot.text}, align 8")
        if isinstance(launch.kernel, HostCall) and launch.kernel.told:
            which = self.program.host_calls.index(launch.kernel)
            memory = w.pure(f"getelementptr ptr, ptr %late, i64 {which}", 0, dtypes.i64)
            for i, address in enumerate(("%outputs", memory.text), len(launch.args)):
                slot = w.pure(f"getelementptr ptr, ptr %args, i64 {i}", 0, dtypes.i64)
                w.line(f"store ptr {address}, ptr {slot.text}, align 8")
        parallel = launch.kernel.parallel
        if parallel is None:
            w.line(f"call void @{name}(ptr %args, ptr %dims, i64 0, i64 1, ptr %status)")
            return
        assert isinstance(launch.kernel, Kernel)
        n = self.index.value(parallel.extent)
        cost, share = self._sharing(launch.kernel, parallel.extent, n)
        number = w.fresh("")
        if dims.bounds(parallel.extent)[0] < 1:
            w.line(f"%some{number} = icmp sgt i64 {n.text}, 0")
            w.line(f"br i1 %some{number}, label %any{number}, label %done{number}")
            w.line(f"any{number}:")
        if share is not None:
            w.line(f"br i1 {share.text}, label %share{number}, label %alone{number}")
            w.line(f"share{number}:")
            # Whole divisions here cost nanoseconds in launches that take microseconds.
            w.line(f"%fill{number} = udiv i64 {CHUNK_WORK}, {cost.text}")
            steady = self.repeating and dims.bounds(parallel.extent * launch.kernel.cost)[1] <= STEADY_WORK
            if steady:
                w.line(f"%up{number} = add i64 {n.text}, %threads")
                w.line(f"%most{number} = sub i64 %up{number}, 1")
                w.line(f"%even{number} = udiv i64 %most{number}, %threads")
            else:
                w.line(f"%parts{number} = mul i64 %threads, {CHUNKS_PER_THREAD}")
                w.line(f"%even{number} = udiv i64 {n.text}, %parts{number}")
            umax = w.declare("@llvm.umax.i64", "declare i64 @llvm.umax.i64(i64, i64)")
            w.line(f"%larger{number} = call i64 {umax}(i64 %fill{number}, i64 %even{number})")
            w.line(f"%grain{number} = call i64 {umax}(i64 %larger{number}, i64 1)")
            w.line(
                f"call void @{POOL_RUN}(ptr @{name}, ptr %args, ptr %dims, i64 {n.text}, i64 %grain{number}, "
                "i64 %threads, ptr %status)"
            )
            w.line(f"br label %done{number}")
            w.line(f"alone{number}:")
        w.line(f"call void @{name}(ptr %args, ptr %dims, i64 0, i64 {n.text}, ptr %status)")
        w.line(f"br label %done{number}")
        w.line(f"done{number}:")

    def stop_if_failed(self) -> None:
        """Return at once when a check has failed: what comes later may overwrite parameters."""
        number = self.w.fresh("")
        self.w.line(f"%status{number} = load i32, ptr %status, align 4")
        self.w.line(f"%bad{number} = icmp ne i32 %status{number}, 0")
        self.w.line(f"br i1 %bad{number}, label %failed{number}, label %passed{number}")
        self.w.line(f"failed{number}:")
        self.w.line(f"ret i32 %status{number}")
        self.w.line(f"passed{number}:")

    def _sharing(self, kernel: Kernel, extent: DimLike, n: Value) -> tuple[Value, Value | None]:
        """The work per iteration, and whether the launch is worth sharing; None if it never is."""
        ops = self.ops
        one = const(1, dtypes.i64)
        cost = ops.apply("max", [self.index.value(kernel.cost), one], dtypes.i64)
        if dims.bounds(extent * kernel.cost)[1] < PARALLEL_WORK:
            return cost, None
        work = ops.instruction("mul", [n, cost], dtypes.i64)
        enough = ops.compare("sge", work, const(PARALLEL_WORK, dtypes.i64))
        several = ops.compare("sgt", Value("%threads", dtypes.i64), one)
        more = ops.compare("sgt", n, one)
        both = ops.instruction("and", [several, more], dtypes.bool_)
        return cost, ops.instruction("and", [enough, both], dtypes.bool_)


def _entry(program: Program, names: list[str], target: Target, measure: bool) -> tuple[str, dict[str, str]]:
    e = _EntryEmitter(program, target, measure)
    most = max((len(launch.args) for launch in program.launches), default=0)
    e.w.entry += [
        f"%args = alloca [{most + 2} x ptr], align 16",
        f"%late = alloca [{max(len(program.host_calls), 1)} x ptr], align 16",
        "%status = alloca i32, align 4",
        "store i32 0, ptr %status, align 4",
    ]
    if measure:
        e.w.entry += START
        e.w.declarations.update(DECLARATIONS)
    e.program_steps(names)
    body = "\n".join(e.w.lines())
    header = f"define i32 @{ENTRY}(ptr %inputs, ptr %outputs, ptr %arena, ptr %dims, i64 %threads) nounwind"
    end = "%result = load i32, ptr %status, align 4\nret i32 %result\n}\n"
    return f"{header} {{\nentry:\n{body}\n{end}", e.w.declarations


__all__ = [
    "ENTRY",
    "HOST_SLOT",
    "POOL_RUN",
    "alias_classes",
    "emit_program",
    "launched_functions",
    "module_text",
]
