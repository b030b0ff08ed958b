"""Random LLVM functions: what the NVPTX backend makes of one, in the PTX simulator, gives the bits that LLVM's code for
this machine gives. So the simulator knows the instructions that LLVM writes, and their meaning."""

from __future__ import annotations

import ctypes
import platform
import random
from typing import Any

import llvmlite.binding as llvm
import numpy as np
import pytest
from ptx_texts import run

INTEGERS = ("i8", "i16", "i32", "i64")
FLOATS = {"half": "i16", "float": "i32", "double": "i64"}
ORDER = ["half", "float", "double"]
THREADS = 64
BINARY = ["add", "sub", "mul", "and", "or", "xor", "shl", "lshr", "ashr", "udiv", "urem", "sdiv", "srem"]
ICMP = ["eq", "ne", "slt", "sle", "sgt", "sge", "ult", "ule", "ugt", "uge"]
FCMP = ["oeq", "one", "olt", "ole", "ogt", "oge", "ord", "uno", "ueq", "une", "ult", "ule", "ugt", "uge"]
UNARY_BITS = ["ctpop", "bitreverse", "bswap"]
BINARY_BITS = ["smax", "smin", "umax", "umin", "sadd.sat", "ssub.sat", "uadd.sat", "usub.sat"]
ONE_FLOAT = ["sqrt", "floor", "ceil", "trunc", "rint", "fabs", "roundeven"]


class Writer:
    """A random function of four i64; `values` are names by type, the newest last."""

    def __init__(self, seed: int, length: int):
        self.random = random.Random(seed)
        self.lines: list[str] = []
        self.declared: set[str] = set()
        self.values: dict[str, list[str]] = {t: [] for t in (*INTEGERS, *FLOATS, "i1")}
        self.values["i64"] = [f"%a{k}" for k in range(4)]
        for k in range(3):
            for kind in ("i8", "i16", "i32"):
                self.new(kind, f"trunc i64 %a{k} to {kind}")
            for kind, bits in FLOATS.items():
                self.new(kind, f"bitcast {bits} {self.values[bits][k if bits == 'i64' else -1]} to {kind}")
        self.new("i1", "icmp slt i64 %a0, %a1")
        steps = [
            self.binary,
            self.arithmetic,
            self.compare,
            self.select,
            self.convert,
            self.bits,
            self.floats,
            self.bytes,
        ]
        for _ in range(length):
            self.random.choice(steps)()

    def new(self, kind: str, text: str) -> str:
        name = f"%v{len(self.lines)}"
        self.lines.append(f"  {name} = {text}")
        self.values.setdefault(kind, []).append(name)
        return name

    def pick(self, kind: str) -> str:
        return self.random.choice(self.values[kind][-8:])

    def call(self, result: str, name: str, *arguments: str) -> str:
        kinds = ", ".join(a.split()[0] for a in arguments)
        self.declared.add(f"declare {result} @llvm.{name}({kinds})")
        return self.new(result, f"call {result} @llvm.{name}({', '.join(arguments)})")

    def binary(self) -> None:
        kind, name = self.random.choice(INTEGERS), self.random.choice(BINARY)
        a, b, width = self.pick(kind), self.pick(kind), int(kind[1:])
        if name in ("shl", "lshr", "ashr"):
            b = self.new(kind, f"and {kind} {b}, {width - 1}")
        elif name in ("udiv", "urem"):
            b = self.new(kind, f"or {kind} {b}, 1")
        elif name in ("sdiv", "srem"):
            b = self.new(kind, f"or {kind} {self.new(kind, f'and {kind} {b}, {2 ** (width - 2) - 1}')}, 2")
        self.new(kind, f"{name} {kind} {a}, {b}")

    def arithmetic(self) -> None:
        kind, name = self.random.choice(ORDER), self.random.choice(["fadd", "fsub", "fmul", "fdiv", "fneg"])
        second = "" if name == "fneg" else f", {self.pick(kind)}"
        self.new(kind, f"{name} {kind} {self.pick(kind)}{second}")

    def compare(self) -> None:
        if self.random.random() < 0.5:
            kind, name = self.random.choice(INTEGERS), f"icmp {self.random.choice(ICMP)}"
        else:
            kind, name = self.random.choice(ORDER), f"fcmp {self.random.choice(FCMP)}"
        self.new("i1", f"{name} {kind} {self.pick(kind)}, {self.pick(kind)}")

    def select(self) -> None:
        kind = self.random.choice([*INTEGERS, *ORDER, "i1"])
        self.new(kind, f"select i1 {self.pick('i1')}, {kind} {self.pick(kind)}, {kind} {self.pick(kind)}")

    def convert(self) -> None:
        a, b = self.random.sample([*INTEGERS, *ORDER], 2)
        if a in INTEGERS and b in INTEGERS:
            name = "trunc" if int(b[1:]) < int(a[1:]) else self.random.choice(["zext", "sext"])
        elif a in INTEGERS:
            name = self.random.choice(["sitofp", "uitofp"])
        elif b in INTEGERS:
            if a != "half":
                name = f"fpto{self.random.choice('su')}i.sat.{b}.{'f32' if a == 'float' else 'f64'}"
                self.call(b, name, f"{a} {self.pick(a)}")
            return
        elif {a, b} == {"half", "double"}:
            return
        else:
            name = "fpext" if ORDER.index(b) > ORDER.index(a) else "fptrunc"
        self.new(b, f"{name} {a} {self.pick(a)} to {b}")

    def bits(self) -> None:
        kind = self.random.choice(INTEGERS[1:])
        one, two, three = (f"{kind} {self.pick(kind)}" for _ in range(3))
        match self.random.randrange(5):
            case 0:
                self.call(kind, f"{self.random.choice(UNARY_BITS)}.{kind}", one)
            case 1:
                self.call(kind, f"{self.random.choice(BINARY_BITS)}.{kind}", one, two)
            case 2:
                self.call(kind, f"{self.random.choice(['fshl', 'fshr'])}.{kind}", one, two, three)
            case 3:
                self.call(kind, f"{self.random.choice(['ctlz', 'cttz', 'abs'])}.{kind}", one, "i1 false")
            case _:
                pair = f"{{{kind}, i1}}"
                self.declared.add(f"declare {pair} @llvm.umul.with.overflow.{kind}({kind}, {kind})")
                both = self.new(pair, f"call {pair} @llvm.umul.with.overflow.{kind}({one}, {two})")
                self.new(kind, f"extractvalue {pair} {both}, 0")
                self.new("i1", f"extractvalue {pair} {both}, 1")

    def floats(self) -> None:
        kind = self.random.choice(["float", "double"])
        suffix = "f32" if kind == "float" else "f64"
        one, two, three = (f"{kind} {self.pick(kind)}" for _ in range(3))
        match self.random.randrange(4):
            case 0:
                self.call(kind, f"fma.{suffix}", one, two, three)
            case 1:  # which zero, and what a signaling NaN does, is left open
                sums = [f"{kind} {self.new(kind, f'fadd {x}, 1.0')}" for x in (one, two)]
                self.call(kind, f"{self.random.choice(['minnum', 'maxnum'])}.{suffix}", *sums)
            case _:
                self.call(kind, f"{self.random.choice(ONE_FLOAT)}.{suffix}", one)

    def bytes(self) -> None:
        vector = "<4 x i8>"
        a, b = (self.new(vector, f"bitcast i32 {self.pick('i32')} to {vector}") for _ in range(2))
        c = self.new(vector, f"{self.random.choice(['add', 'sub', 'xor'])} {vector} {a}, {b}")
        order = ", ".join(f"i32 {self.random.randrange(8)}" for _ in range(4))
        d = self.new(vector, f"shufflevector {vector} {c}, {vector} {b}, <4 x i32> <{order}>")
        self.new("i32", f"bitcast {vector} {d} to i32")

    def text(self) -> str:
        """The function; its result depends on the newest values of each type, all NaNs being alike."""
        total = "%a3"
        for kind in (*INTEGERS, "i1", *FLOATS):
            for value in self.values[kind][-6:]:
                bits = FLOATS.get(kind, kind)
                if kind in FLOATS:
                    nan = self.new("", f"fcmp uno {kind} {value}, {value}")
                    value = self.new("", f"bitcast {kind} {value} to {bits}")
                    value = self.new("", f"select i1 {nan}, {bits} 77, {bits} {value}")
                if bits != "i64":
                    value = self.new("", f"zext {bits} {value} to i64")
                total = self.new(
                    "", f"xor i64 {self.new('', f'mul i64 {total}, 6364136223846793005')}, {value}"
                )
        body = "\n".join([*self.lines, f"  ret i64 {total}"])
        arguments = ", ".join(f"i64 %a{k}" for k in range(4))
        return f"define i64 @f({arguments}) {{\n{body}\n}}\n" + "\n".join(sorted(self.declared)) + "\n"


class Nest:
    """A random function of nested branches and loops over four variables in memory: where threads part and meet."""

    def __init__(self, seed: int):
        self.random = random.Random(seed)
        self.lines = [f"  %m{k} = alloca i64" for k in range(5)]
        self.count = 0
        for k in range(4):
            self.lines.append(f"  store i64 %a{k}, ptr %m{k}")
        self.lines.append("  store i64 0, ptr %m4")
        self.block(3)

    def name(self) -> str:
        self.count += 1
        return f"n{self.count}"

    def value(self) -> str:
        new = self.name()
        self.lines.append(f"  %{new} = load i64, ptr %m{self.random.randrange(4)}")
        return f"%{new}"

    def emit(self, text: str) -> str:
        new = self.name()
        self.lines.append(f"  %{new} = {text}")
        return f"%{new}"

    def block(self, depth: int) -> None:
        for _ in range(self.random.randrange(1, 4)):
            kind = self.random.choice(["set", "if", "loop", "return"] if depth else ["set"])
            if kind == "set" or (kind == "return" and depth == 3):
                name = self.random.choice(["add", "sub", "mul", "xor", "and", "or"])
                new = self.emit(f"{name} i64 {self.value()}, {self.value()}")
                self.lines.append(f"  store i64 {new}, ptr %m{self.random.randrange(4)}")
            elif kind == "if":
                self.branch(depth)
            elif kind == "loop":
                self.loop(depth)
            else:
                then, on = self.name(), self.name()
                rare = self.emit(f"icmp eq i64 {self.emit(f'and i64 {self.value()}, 7')}, 0")
                self.lines += [f"  br i1 {rare}, label %{then}, label %{on}", f"{then}:"]
                self.lines += [f"  ret i64 {self.value()}", f"{on}:"]

    def branch(self, depth: int) -> None:
        then, other, end = self.name(), self.name(), self.name()
        condition = self.emit(f"icmp {self.random.choice(ICMP)} i64 {self.value()}, {self.value()}")
        self.lines += [f"  br i1 {condition}, label %{then}, label %{other}", f"{then}:"]
        self.block(depth - 1)
        self.lines += [f"  br label %{end}", f"{other}:"]
        self.block(depth - 1)
        self.lines += [f"  br label %{end}", f"{end}:"]

    def loop(self, depth: int) -> None:
        """At most 7 times, as often as a variable's last bits say; all loops together end after 400 rounds."""
        counter, head, body, end = (self.name() for _ in range(4))
        limit = self.emit(f"and i64 {self.value()}, 7")
        self.lines.insert(0, f"  %{counter} = alloca i64")
        self.lines += [f"  store i64 0, ptr %{counter}", f"  br label %{head}", f"{head}:"]
        now, rounds = self.emit(f"load i64, ptr %{counter}"), self.emit("load i64, ptr %m4")
        more = self.emit(f"icmp ult i64 {now}, {limit}")
        both = self.emit(f"and i1 {more}, {self.emit(f'icmp ult i64 {rounds}, 400')}")
        self.lines += [f"  br i1 {both}, label %{body}, label %{end}", f"{body}:"]
        self.lines.append(f"  store i64 {self.emit(f'add i64 {now}, 1')}, ptr %{counter}")
        self.lines.append(f"  store i64 {self.emit(f'add i64 {rounds}, 1')}, ptr %m4")
        self.block(depth - 1)
        self.lines += [f"  br label %{head}", f"{end}:"]

    def text(self) -> str:
        total = self.value()
        for _ in range(6):
            total = self.emit(f"xor i64 {self.emit(f'mul i64 {total}, 6364136223846793005')}, {self.value()}")
        arguments = ", ".join(f"i64 %a{k}" for k in range(4))
        return f"define i64 @f({arguments}) {{\n" + "\n".join(self.lines) + f"\n  ret i64 {total}\n}}\n"


def inputs(seed: int) -> np.ndarray:
    """Integers of all sizes and the bits of floats, four for each thread."""
    numbers = np.random.default_rng(seed)
    x = numbers.integers(0, 1 << 64, (THREADS, 4), dtype=np.uint64)
    single = numbers.standard_normal((THREADS, 4)).astype(np.float32).view(np.uint32)
    double = numbers.standard_normal((THREADS, 4)).view(np.uint64)
    small = numbers.integers(-20, 20, (THREADS, 4)).view(np.uint64)
    kinds = [x, small, double, x & np.uint64(0xFFFFFFFF00000000) | single]
    return np.choose(numbers.integers(0, len(kinds), (THREADS, 4)), kinds)


def machine(triple: str, cpu: str, features: str, level: int) -> Any:
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    llvm.initialize_native_asmparser()
    found = llvm.Target.from_triple(triple) if triple else llvm.Target.from_default_triple()
    return found.create_target_machine(cpu=cpu, features=features, opt=level)


def on_simulator(function: str, arguments: np.ndarray, arch: str, level: int) -> np.ndarray:
    text = 'target triple = "nvptx64-nvidia-cuda"\ndeclare i32 @llvm.nvvm.read.ptx.sreg.tid.x()\n' + function
    text += "define ptx_kernel void @k(ptr addrspace(1) %p, ptr addrspace(1) %q) {\n"
    text += "  %t = call i32 @llvm.nvvm.read.ptx.sreg.tid.x()\n  %first = mul i32 %t, 4\n"
    for k in range(4):
        text += (
            f"  %i{k} = add i32 %first, {k}\n  %p{k} = getelementptr i64, ptr addrspace(1) %p, i32 %i{k}\n"
        )
        text += f"  %x{k} = load i64, ptr addrspace(1) %p{k}\n"
    text += "  %r = call i64 @f(i64 %x0, i64 %x1, i64 %x2, i64 %x3)\n"
    text += "  %o = getelementptr i64, ptr addrspace(1) %q, i32 %t\n  store i64 %r, ptr addrspace(1) %o\n  ret void\n}\n"
    module = llvm.parse_assembly(text, llvm.create_context())
    target = machine("nvptx64-nvidia-cuda", arch, "+ptx80", level)
    builder = llvm.create_pass_builder(target, llvm.create_pipeline_tuning_options(speed_level=level))
    builder.getModulePassManager().run(module, builder)
    return run(target.emit_assembly(module), [arguments, np.zeros(THREADS, np.uint64)], THREADS)[1]


def on_this_machine(function: str, arguments: np.ndarray) -> np.ndarray:
    cpu = "x86-64-v3" if platform.machine() in ("x86_64", "AMD64") else ""
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(function), machine("", cpu, "", 1))
    engine.finalize_object()
    call = ctypes.CFUNCTYPE(ctypes.c_uint64, *[ctypes.c_uint64] * 4)(engine.get_function_address("f"))
    return np.array([call(*(int(v) for v in row)) for row in arguments], np.uint64)


def compare(seed: int, function: str) -> None:
    if platform.machine() in ("x86_64", "AMD64") and not llvm.get_host_cpu_features().get("f16c"):
        pytest.skip("this machine has no conversions of float16, and LLVM's run-time library is not at hand")
    arguments = inputs(seed)
    expected = on_this_machine(function, arguments)
    found = on_simulator(function, arguments, ("sm_80", "sm_90a")[seed % 2], (0, 1, 3)[seed % 3])
    assert (found == expected).all(), f"seed {seed}\n{function}"


@pytest.mark.parametrize("first", [0, 8])
def test_random_functions(first: int) -> None:
    for seed in range(first, first + 8):
        compare(seed, Writer(seed, 30).text())


@pytest.mark.slow
@pytest.mark.parametrize("first", range(1000, 2000, 100))
def test_many_random_functions(first: int) -> None:
    for seed in range(first, first + 100):
        compare(seed, Writer(seed, 30).text())


@pytest.mark.parametrize("first", [0, 8])
def test_random_control_flow(first: int) -> None:
    for seed in range(first, first + 8):
        compare(seed, Nest(seed).text())


@pytest.mark.slow
@pytest.mark.parametrize("first", range(1000, 2000, 100))
def test_much_random_control_flow(first: int) -> None:
    for seed in range(first, first + 100):
        compare(seed, Nest(seed).text())
