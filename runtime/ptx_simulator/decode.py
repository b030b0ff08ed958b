"""Instructions to closures, once per module.

A table holds a function for each opcode; it reads the instruction's modifiers and operands and gives the decoder the
steps that the executor will call. Registers are numbered; constants are registers too, so that a step only indexes.
Register arrays are bits: a step views them as the type it works on (`array.view(dtype)` costs nothing).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from math import prod

import numpy as np

from .constants import SIZES, immediate_bits
from .errors import PtxError
from .executor import Frame, Registers, Step
from .syntax import Immediate, Instruction, Negated, Operand, Register, Sink, Special, Symbol
from .types import BOOL, KINDS, Array, Kind

SHARED_WINDOW = 1 << 56  # generic addresses of shared memory
LOCAL_WINDOW = 1 << 57
PARAMETER_WINDOW = 1 << 58

Rule = Callable[["Decoder", Instruction], None]
RULES: dict[str, Rule] = {}


def instruction(*names: str) -> Callable[[Rule], Rule]:
    """Declare how the opcodes with these first words are decoded. A name with dots is a longer beginning; the longest
    that fits is taken."""

    def declare(rule: Rule) -> Rule:
        for name in names:
            assert name not in RULES, name
            RULES[name] = rule
        return rule

    return declare


def rule_of(item: Instruction) -> Rule:
    for length in range(min(len(item.opcode), 4), 0, -1):
        found = RULES.get(".".join(item.opcode[:length]))
        if found is not None:
            return found
    raise unknown(item)


def unknown(item: Instruction, why: str = "") -> PtxError:
    """The error for an instruction, or a form of one, that the simulator does not have."""
    return PtxError(
        item.line, f"the simulator does not know the instruction {item.name!r}{': ' + why if why else ''}"
    )


class Modifiers:
    """The words after an opcode, taken one by one; what is left over is an error."""

    def __init__(self, item: Instruction, words: int = 1):
        self.item = item
        self.words = list(item.opcode[words:])

    def flag(self, *names: str) -> bool:
        """Whether one of the words is there; takes it."""
        return self.choice(*names) is not None

    def choice(self, *names: str) -> str | None:
        for name in names:
            if name in self.words:
                self.words.remove(name)
                return name
        return None

    def need(self, *names: str) -> str:
        found = self.choice(*names)
        if found is None:
            raise unknown(self.item, f"expected one of .{', .'.join(names)}")
        return found

    def kind(self) -> Kind:
        """The last word, as a type."""
        if not self.words or self.words[-1] not in KINDS:
            raise unknown(self.item, "no type that is known")
        return KINDS[self.words.pop()]

    def done(self) -> None:
        if self.words:
            raise unknown(self.item, f"unexpected .{'.'.join(self.words)}")


@dataclass
class Decoded:
    """Steps of one block, with what they read and write in order, for liveness."""

    steps: list[Step] = field(default_factory=list)
    uses: list[tuple[tuple[int, ...], tuple[int, ...]]] = field(default_factory=list)


@dataclass
class Layout:
    """Where a kernel's variables and parameters are."""

    addresses: dict[str, int]  # of .global, .const and .shared variables, in their space
    local: dict[str, int]
    parameters: dict[str, tuple[int, int]]  # offset and size


class Decoder:
    """State of decoding one kernel."""

    def __init__(self, kinds: dict[str, str], layout: Layout):
        self.layout = layout
        self.kinds = kinds
        self.numbers: dict[str, int] = {}
        self.constants: Registers = []
        self._constant_numbers: dict[tuple[str, int], int] = {}
        self.block = Decoded()
        self._reads: list[int] = []
        self._writes: list[int] = []
        self._after: list[tuple[Step, int, int]] = []
        self.item: Instruction = Instruction((), (), 0)

    def decode(self, item: Instruction) -> None:
        """Append the steps of an instruction to the current block."""
        self.item = item
        rule = rule_of(item)
        try:
            rule(self, item)
        except IndexError:
            raise PtxError(item.line, f"too few operands: {item}") from None

    # Registers.

    def new(self) -> int:
        """A register of the simulator's own."""
        self.constants.append(None)
        return len(self.constants) - 1

    def number(self, name: str) -> int:
        if name not in self.numbers:
            self.numbers[name] = self.new()
            kind = self.kinds.get(name)
            if kind is not None:
                # Not written yet: any value will do (LLVM reads such registers for what it calls undefined).
                storage = KINDS["b16" if SIZES[kind] == 1 and kind != "pred" else kind].storage
                self.constants[-1] = np.invert(np.zeros(1, storage))
        return self.numbers[name]

    def constant(self, bits: int, dtype: np.dtype) -> int:
        key = (dtype.str, bits)
        if key not in self._constant_numbers:
            value = np.array([bits], dtype)
            value.flags.writeable = False
            self._constant_numbers[key] = self.new()
            self.constants[-1] = value
        return self._constant_numbers[key]

    def storage(self, register: Register) -> Kind:
        kind = self.kinds.get(register.name)
        if kind is None:
            raise PtxError(self.item.line, f"the register {register.name} is not declared")
        return KINDS["b16" if SIZES[kind] == 1 and kind != "pred" else kind]

    # Operands.

    def source(self, operand: Operand, kind: Kind) -> int:
        """The register that holds an operand as `kind`."""
        if isinstance(operand, Register):
            own = self.storage(operand)
            number = self.number(operand.name)
            if own.storage == kind.storage:
                self._reads.append(number)
                return number
            if (own is BOOL) != (kind is BOOL):
                raise PtxError(self.item.line, f"{operand.name} as .{kind.name}: {self.item}")
            return self._resized(number, kind)
        if isinstance(operand, Immediate):
            if kind is BOOL:
                return self.constant(int(bool(operand.value)), np.dtype(np.bool_))
            if kind.name in ("f16", "bf16"):
                return self.constant(immediate_bits(operand, "b16", self.item.line), kind.storage)
            name = kind.name if kind.name in SIZES else "b32"
            width = 8 * kind.storage.itemsize
            bits = immediate_bits(operand, name, self.item.line)
            if kind.is_signed and not kind.is_float and kind.bits < width and bits >> (kind.bits - 1):
                bits |= ((1 << width) - 1) ^ ((1 << kind.bits) - 1)
            return self.constant(bits, kind.storage)
        if isinstance(operand, Special):
            return self.special(operand, kind)
        if isinstance(operand, Symbol):
            return self.constant(self.address_of(operand), kind.storage)
        raise PtxError(self.item.line, f"an operand of a kind that does not belong here: {self.item}")

    def _resized(self, number: int, kind: Kind) -> int:
        new, dtype = self.new(), kind.storage

        def resize(r: Registers, f: Frame) -> None:
            r[new] = r[number].view(f"u{r[number].itemsize}").astype(dtype)

        self.block.steps.append(resize)
        self.block.uses.append(((number,), (new,)))
        self._reads.append(new)
        return new

    def predicate(self, operand: Operand) -> tuple[int, bool]:
        """The register of a predicate operand, and whether it is negated."""
        if isinstance(operand, Negated):
            return self.source(operand.operand, BOOL), True
        return self.source(operand, BOOL), False

    def special(self, operand: Special, kind: Kind) -> int:
        from_name = special_value(operand.name, self.item)
        new, dtype = self.new(), kind.storage

        def step(r: Registers, f: Frame) -> None:
            found = f.special.get(operand.name)
            if found is None:
                found = f.special[operand.name] = from_name(f)
            r[new] = found.astype(dtype, copy=False)

        self.block.steps.append(step)
        self.block.uses.append(((), (new,)))
        self._reads.append(new)
        return new

    def address_of(self, symbol: Symbol) -> int:
        layout = self.layout
        if symbol.name in layout.addresses:
            return layout.addresses[symbol.name] + symbol.offset
        if symbol.name in layout.local:
            return layout.local[symbol.name] + symbol.offset
        if symbol.name in layout.parameters:
            return layout.parameters[symbol.name][0] + symbol.offset
        raise PtxError(self.item.line, f"unknown name {symbol.name!r}: {self.item}")

    def target(self, operand: Operand, kind: Kind) -> int:
        """The register for a result of type `kind`; a wider register gets it extended by the type's sign."""
        if isinstance(operand, Sink):
            return self.new()
        if not isinstance(operand, Register):
            raise PtxError(self.item.line, f"a result must go to a register: {self.item}")
        own, number = self.storage(operand), self.number(operand.name)
        if own.storage == kind.storage:
            self._writes.append(number)
            return number
        if own.storage.itemsize < kind.storage.itemsize or own is BOOL or kind is BOOL:
            raise PtxError(self.item.line, f"{operand.name} is too narrow for .{kind.name}: {self.item}")
        new = self.new()
        view = np.dtype(f"{'i' if kind.is_signed and not kind.is_float else 'u'}{kind.storage.itemsize}")
        wide = np.dtype(f"{view.kind}{own.storage.itemsize}")

        def extend(r: Registers, f: Frame) -> None:
            r[number] = r[new].view(view).astype(wide)

        self._writes.append(new)
        self._after.append((extend, new, number))
        return new

    def note_read(self, number: int) -> None:
        """The instruction reads a register that is no operand."""
        self._reads.append(number)

    def note_write(self, number: int) -> None:
        self._writes.append(number)

    def emit(self, step: Step) -> None:
        """Append the instruction's step; call this after all `source` and `target` calls."""
        self.block.steps.append(step)
        self.block.uses.append((tuple(self._reads), tuple(self._writes)))
        for after, read, written in self._after:
            self.block.steps.append(after)
            self.block.uses.append(((read,), (written,)))
        self._reads, self._writes, self._after = [], [], []

    def take_uses(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """What a terminator reads and writes."""
        found = (tuple(self._reads), tuple(self._writes))
        self._reads, self._writes, self._after = [], [], []
        return found


def special_value(name: str, item: Instruction) -> Callable[[Frame], Array]:
    """How a special register is computed (PTX ISA, "Special Registers")."""
    word, _, axis = name[1:].partition(".")
    number = {"x": 0, "y": 1, "z": 2}.get(axis, 3)

    def one(value: int) -> Array:
        return np.array([value], np.uint64)

    def along(values: Array, extent: tuple[int, int, int]) -> Array:
        """The axis's part of numbers that count x first."""
        inner = prod(extent[:number])
        values = values // inner if inner > 1 else values
        is_last = all(size == 1 for size in extent[number + 1 :])
        return values if is_last else values % extent[number]

    def blocks(f: Frame) -> Array:
        batch = f.batch
        if batch.slots == 1:
            return np.array([batch.first])
        return f.slots + batch.first

    simple: dict[str, Callable[[Frame], Array]] = {
        "tid": lambda f: np.zeros(1, np.int64) if number == 3 else along(f.threads, f.batch.launch.block),
        "ntid": lambda f: one(f.batch.launch.block[number] if number < 3 else 0),
        "ctaid": lambda f: np.zeros(1, np.int64) if number == 3 else along(blocks(f), f.batch.launch.grid),
        "nctaid": lambda f: one(f.batch.launch.grid[number] if number < 3 else 0),
        "laneid": lambda f: f.threads % 32,
        "warpid": lambda f: f.threads // 32,
        "nwarpid": lambda f: one(-(-f.batch.threads // 32)),
        "lanemask_eq": lambda f: np.left_shift(1, f.threads % 32),
        "lanemask_lt": lambda f: np.left_shift(1, f.threads % 32) - 1,
        "lanemask_le": lambda f: np.left_shift(2, f.threads % 32) - 1,
        "lanemask_gt": lambda f: 0xFFFFFFFF ^ (np.left_shift(2, f.threads % 32) - 1),
        "lanemask_ge": lambda f: 0xFFFFFFFF ^ (np.left_shift(1, f.threads % 32) - 1),
        "smid": lambda f: one(0),
        "nsmid": lambda f: one(1),
        "gridid": lambda f: one(0),
        "clock": lambda f: one(0),
        "clock64": lambda f: one(0),
        "globaltimer": lambda f: one(0),
        "dynamic_smem_size": lambda f: one(f.batch.launch.dynamic_shared),
        "total_smem_size": lambda f: one(f.batch.shared_bytes),
    }
    if name == "WARP_SZ":
        return lambda f: one(32)
    if word == "clusterid" or word == "cluster_ctaid":
        return lambda f: one(0)
    if word not in simple or (axis and number == 3 and axis != "w"):
        raise PtxError(item.line, f"the simulator does not know the special register {name}")
    return simple[word]
