"""Loads, stores and addresses (PTX ISA, "Data Movement and Conversion Instructions: ld, st, cvta")."""

from __future__ import annotations

import numpy as np

from . import access
from .decode import LOCAL_WINDOW, PARAMETER_WINDOW, SHARED_WINDOW, Decoder, Modifiers, instruction, unknown
from .errors import OutOfBounds, PtxError
from .executor import Frame, Registers
from .syntax import Address, Immediate, Instruction, Operand, Register, Symbol, Vector
from .types import KINDS, U64, Array

_CACHE = ("ca", "cg", "cs", "lu", "cv", "wb", "wt", "unified")
_ORDER = ("weak", "volatile", "relaxed", "acquire", "release", "mmio")
SCOPES = ("cta", "cluster", "gpu", "sys")


def read_address(d: Decoder, operand: Operand, space: str) -> tuple[int, int]:
    """The register and the constant whose sum is an address. Shared and local offsets may be in 32-bit registers."""
    if not isinstance(operand, Address):
        raise PtxError(d.item.line, f"expected an address in brackets: {d.item}")
    base = operand.base
    if isinstance(base, Symbol):
        value = d.address_of(Symbol(base.name, base.offset + operand.offset))
        if space == "":
            value += _window(d, base.name)
        return d.constant(value, U64), 0
    if isinstance(base, Immediate):
        return d.constant(int(base.value) + operand.offset, U64), 0
    assert isinstance(base, Register)
    return d.source(base, KINDS["u64"]), operand.offset & ((1 << 64) - 1)


def _window(d: Decoder, name: str) -> int:
    return LOCAL_WINDOW if name in d.layout.local else 0


def address_value(r: Registers, number: int, offset: int) -> Array:
    """The addresses at run time."""
    base: Array = r[number].view(U64)
    return base + np.uint64(offset) if offset else base


def _space(words: Modifiers) -> str:
    for name in ("global", "shared", "local", "const", "param"):
        if words.flag(name, f"{name}::cta", f"{name}::entry", f"{name}::func"):
            return "global" if name == "const" else name
    return ""


def _drop_hints(words: Modifiers) -> str | None:
    """Take cache hints and scopes; the memory order that is left."""
    words.flag(*_CACHE)
    words.words = [w for w in words.words if not w.startswith(("L1::", "L2::"))]
    words.flag(*SCOPES)
    return words.choice(*_ORDER)


@instruction("ld", "ldu")
def ld(d: Decoder, item: Instruction) -> None:
    words = Modifiers(item)
    kind = words.kind()
    space = _space(words)
    order = _drop_hints(words)
    constant = words.flag("nc")
    vector = words.choice("v2", "v4", "v8")
    words.done()
    to = item.operands[0]
    results = to.elements if isinstance(to, Vector) else (to,)
    if len(results) != (int(vector[1]) if vector else 1):
        raise PtxError(item.line, f"the number of results does not fit: {item}")
    if space == "param":
        base = item.operands[1].base if isinstance(item.operands[1], Address) else None
        if isinstance(base, Symbol) and base.name in d.layout.local:
            space = "local"  # a call's argument
    number, offset = read_address(d, item.operands[1], space)
    targets = [d.target(x, kind) for x in results]
    size, storage, signed = kind.size, kind.storage, kind.is_signed and not kind.is_float
    relaxed = order in ("volatile", "relaxed", "acquire", "mmio")

    def param(r: Registers, f: Frame) -> None:
        data = f.batch.launch.parameters
        places = address_value(r, number, offset)
        outside = places + np.uint64(size * len(targets)) > data.size
        if outside.any():
            lane = int(np.flatnonzero(outside)[0])
            how = f"out of bounds: offset {int(places[lane])} of {data.size} bytes of parameters"
            raise f.fault(OutOfBounds, lane, item, how)
        sign = "i" if signed else "u"
        for k, target in enumerate(targets):
            pieces = data[places.astype(np.int64)[:, None] + np.arange(k * size, (k + 1) * size)]
            r[target] = pieces.view(f"{sign}{size}")[:, 0].astype(f"{sign}{storage.itemsize}")

    def step(r: Registers, f: Frame) -> None:
        found = access.read(
            f,
            item,
            space,
            address_value(r, number, offset),
            size,
            len(targets),
            constant=constant,
            relaxed=relaxed,
        )
        for target, value in zip(targets, found, strict=True):
            if size == 1:
                value = value.view(np.int8).astype(np.int16) if signed else value.astype(storage)
            r[target] = value

    d.emit(param if space == "param" else step)


@instruction("st")
def st(d: Decoder, item: Instruction) -> None:
    words = Modifiers(item)
    kind = words.kind()
    space = _space(words)
    order = _drop_hints(words)
    vector = words.choice("v2", "v4", "v8")
    words.done()
    if space == "param":
        space = "local"
    value = item.operands[1]
    given = value.elements if isinstance(value, Vector) else (value,)
    if len(given) != (int(vector[1]) if vector else 1):
        raise PtxError(item.line, f"the number of values does not fit: {item}")
    number, offset = read_address(d, item.operands[0], space)
    sources = [d.source(x, kind) for x in given]
    size, storage = kind.size, kind.storage
    relaxed = order in ("volatile", "relaxed", "release", "mmio")

    def step(r: Registers, f: Frame) -> None:
        values = [r[n].view(storage) for n in sources]
        if size == 1:
            values = [x.astype(np.uint8) for x in values]
        access.write(f, item, space, address_value(r, number, offset), size, values, relaxed=relaxed)

    d.emit(step)


@instruction("cvta")
def cvta(d: Decoder, item: Instruction) -> None:
    """Addresses of a space to generic ones and, with `.to`, back."""
    words = Modifiers(item)
    kind = words.kind()
    back = words.flag("to")
    space = _space(words)
    words.done()
    if not space:
        raise unknown(item)
    shift = {"shared": SHARED_WINDOW, "local": LOCAL_WINDOW, "param": PARAMETER_WINDOW}.get(space, 0)
    change = np.uint64((-shift if back else shift) & ((1 << 64) - 1))
    source, to = d.source(item.operands[1], kind), d.target(item.operands[0], kind)

    def step(r: Registers, f: Frame) -> None:
        r[to] = r[source].view(U64) + change if shift else r[source]

    d.emit(step)


@instruction("isspacep")
def isspacep(d: Decoder, item: Instruction) -> None:
    words = Modifiers(item)
    space = _space(words)
    words.done()
    source, to = d.source(item.operands[1], KINDS["u64"]), d.target(item.operands[0], KINDS["pred"])
    low, high = {"shared": (SHARED_WINDOW, LOCAL_WINDOW), "local": (LOCAL_WINDOW, 1 << 63)}.get(
        space, (0, SHARED_WINDOW)
    )

    def step(r: Registers, f: Frame) -> None:
        a = r[source].view(U64)
        r[to] = (a >= np.uint64(low)) & (a < np.uint64(high))

    d.emit(step)


@instruction("membar", "fence")
def fence(d: Decoder, item: Instruction) -> None:
    """A fence for the device is what other blocks may be synchronized with through atomic operations: `races` takes
    two blocks that both have one to be in order."""
    wide = bool({"gl", "gpu", "sys"} & set(item.opcode)) and "proxy" not in item.opcode
    d.emit((lambda r, f: f.fence()) if wide else (lambda r, f: None))


@instruction(
    "prefetch",
    "prefetchu",
    "discard",
    "applypriority",
    "nanosleep",
    "pmevent",
    "setmaxnreg",
    "griddepcontrol",
)
def nothing(d: Decoder, item: Instruction) -> None:
    """Instructions that change no value."""
    for operand in item.operands:
        if isinstance(operand, Register):
            d.source(operand, d.storage(operand))
    d.emit(lambda r, f: None)
