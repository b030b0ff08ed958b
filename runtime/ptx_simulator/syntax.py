"""What a PTX module says, as plain data (PTX ISA, "Syntax" and "Instruction Operands")."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Register:
    """A declared register; names from inner scopes carry the scope's number."""

    name: str


@dataclass(frozen=True)
class Special:
    """A special register, as `%tid.x`."""

    name: str


@dataclass(frozen=True)
class Immediate:
    """A constant: an int, or a float with its bits where it was written as `0f...` or `0d...`."""

    value: int | float
    width: int | None = None  # 32 for 0f, 64 for 0d; then `value` is the bits

    @property
    def is_float(self) -> bool:
        """Whether it was written as a decimal floating point number."""
        return isinstance(self.value, float)


@dataclass(frozen=True)
class Symbol:
    """The name of a variable, a parameter, a function or a label, with a constant added."""

    name: str
    offset: int = 0


@dataclass(frozen=True)
class Address:
    """`[base + offset]`, or `[base, {coordinates}]` of a tensor."""

    base: Register | Symbol | Immediate
    offset: int = 0
    coordinates: tuple[Operand, ...] = ()


@dataclass(frozen=True)
class Vector:
    """`{a, b, ...}`."""

    elements: tuple[Operand, ...]


@dataclass(frozen=True)
class Negated:
    """`!p`."""

    operand: Register


@dataclass(frozen=True)
class Pair:
    """`d|p`: two results."""

    first: Register | Sink
    second: Register | Sink


@dataclass(frozen=True)
class Sink:
    """`_`: a result that nobody wants."""


@dataclass(frozen=True)
class Group:
    """`(a, b)`: the arguments or results of a call."""

    elements: tuple[Operand, ...]


Operand = Register | Special | Immediate | Symbol | Address | Vector | Negated | Pair | Sink | Group


@dataclass(frozen=True)
class Instruction:
    """One instruction: `opcode` holds what stood between dots (`("add", "rn", "f32")`)."""

    opcode: tuple[str, ...]
    operands: tuple[Operand, ...]
    line: int
    guard: Register | None = None
    guard_negated: bool = False

    @property
    def name(self) -> str:
        return ".".join(self.opcode)

    def __str__(self) -> str:
        operands = ", ".join(operand_text(x) for x in self.operands)
        guard = f"@{'!' if self.guard_negated else ''}{self.guard.name} " if self.guard else ""
        return f"{guard}{self.name} {operands}".rstrip() + ";"


@dataclass(frozen=True)
class Label:
    name: str
    line: int


@dataclass(frozen=True)
class Variable:
    """A variable of a state space, or a parameter. `size` is in bytes; None where it is given at launch (`extern
    .shared x[]`). `data` holds the initial bytes; `pointers` the places in it that hold addresses of variables."""

    name: str
    space: str
    type: str
    size: int | None
    align: int
    line: int
    data: bytes | None = None
    pointers: tuple[tuple[int, Symbol], ...] = ()


@dataclass
class Function:
    """A kernel (`.entry`) or a device function (`.func`)."""

    name: str
    is_kernel: bool
    line: int
    parameters: list[Variable] = field(default_factory=list)
    results: list[Variable] = field(default_factory=list)
    registers: dict[str, str] = field(default_factory=dict)  # name -> type
    variables: list[Variable] = field(default_factory=list)  # .shared, .local and .param inside the body
    tables: dict[str, tuple[str, ...]] = field(default_factory=dict)  # label -> targets of brx.idx
    body: list[Instruction | Label] = field(default_factory=list)
    limits: dict[str, tuple[int, ...]] = field(default_factory=dict)  # maxntid, reqntid, ...
    defined: bool = True


@dataclass
class Module:
    version: tuple[int, int]
    target: str
    functions: dict[str, Function]
    variables: dict[str, Variable]


def operand_text(operand: Operand) -> str:
    """The operand as PTX writes it."""
    match operand:
        case Register(name) | Special(name):
            return name.partition("@")[0]
        case Immediate(value, width):
            return f"{value}" if width is None else f"0{'f' if width == 32 else 'd'}{value:0{width // 4}X}"
        case Symbol(name, offset):
            return f"{name}+{offset}" if offset else name
        case Address(base, offset, coordinates):
            inner = operand_text(base) + (f"+{offset}" if offset else "")
            return f"[{inner}{', {' + _list(coordinates) + '}' if coordinates else ''}]"
        case Vector(elements):
            return "{" + _list(elements) + "}"
        case Negated(inner):
            return "!" + operand_text(inner)
        case Pair(first, second):
            return f"{operand_text(first)}|{operand_text(second)}"
        case Sink():
            return "_"
        case Group(elements):
            return "(" + _list(elements) + ")"


def _list(operands: tuple[Operand, ...]) -> str:
    return ", ".join(operand_text(x) for x in operands)
