"""Comparisons, selections and moves between registers (PTX ISA, "Comparison and Selection Instructions", "Data
Movement and Conversion Instructions: mov")."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .decode import Decoder, Modifiers, instruction, unknown
from .executor import Frame, Registers
from .rounding import bf16_to_f32, flushed
from .syntax import Immediate, Instruction, Negated, Operand, Pair, Sink, Vector
from .types import BF16, BOOL, F32, KINDS, Array, Kind

_ORDERED: dict[str, Callable[[Array, Array], Array]] = {
    "eq": np.equal, "ne": np.not_equal, "lt": np.less, "le": np.less_equal, "gt": np.greater, "ge": np.greater_equal,
    "lo": np.less, "ls": np.less_equal, "hi": np.greater, "hs": np.greater_equal,
}  # fmt: skip
_UNORDERED = {"equ": "eq", "neu": "ne", "ltu": "lt", "leu": "le", "gtu": "gt", "geu": "ge"}
_BOOLEAN = {"and": np.logical_and, "or": np.logical_or, "xor": np.logical_xor}


def comparison(name: str, kind: Kind, ftz: bool, item: Instruction) -> Callable[[Array, Array], Array]:
    """`eq` ... `geu`, `num`, `nan`. An ordered comparison with NaN is false, `ne` included; `neu` is true."""
    if not kind.is_float:
        compute = _ORDERED.get(name)
        if compute is None:
            raise unknown(item)
        return compute

    def seen(x: Array) -> Array:
        return flushed(x) if ftz and x.dtype == F32 else bf16_to_f32(x) if x.dtype == BF16 else x

    if name in ("num", "nan"):
        is_nan = name == "nan"
        return lambda a, b: ((a != a) | (b != b)) == is_nan
    if name == "ne":
        return lambda a, b: (seen(a) != seen(b)) & (a == a) & (b == b)
    if name in _UNORDERED:
        inner = _ORDERED[_UNORDERED[name]]
        return lambda a, b: inner(seen(a), seen(b)) | (a != a) | (b != b)
    if name not in _ORDERED or name in ("lo", "ls", "hi", "hs"):
        raise unknown(item)
    compute = _ORDERED[name]
    return (lambda a, b: compute(seen(a), seen(b))) if ftz or kind.view == BF16 else compute


def _targets(operand: Operand) -> tuple[Operand, Operand]:
    return (operand.first, operand.second) if isinstance(operand, Pair) else (operand, Sink())


@instruction("setp")
def setp(d: Decoder, item: Instruction) -> None:
    """`setp.cmp{.boolop} p{|q}, a, b{, {!}c}`: p = (a cmp b) op c, q = !(a cmp b) op c; p and q are the two halves'
    results for f16x2 and bf16x2."""
    words = Modifiers(item)
    kind = words.kind()
    ftz = words.flag("ftz")
    combine = words.choice(*_BOOLEAN)
    compare = comparison(words.words.pop(0), kind, ftz, item)
    words.done()
    a, b = d.source(item.operands[1], kind), d.source(item.operands[2], kind)
    third = d.predicate(item.operands[3]) if combine else None
    first, second = _targets(item.operands[0])
    has_second = not isinstance(second, Sink)
    p, q = d.target(first, BOOL), d.target(second, BOOL)
    view = kind.view

    def step(r: Registers, f: Frame) -> None:
        r[p] = compare(r[a].view(view), r[b].view(view))

    def both(r: Registers, f: Frame) -> None:
        if packed:
            x, y = (r[n].view(view).reshape(-1, 2) for n in (a, b))
            result, other = compare(x[:, 0], y[:, 0]), compare(x[:, 1], y[:, 1])
        else:
            result = compare(r[a].view(view), r[b].view(view))
            other = ~result
        if third is not None:
            assert combine is not None
            number, negated = third
            c = ~r[number] if negated else r[number]
            result, other = _BOOLEAN[combine](result, c), _BOOLEAN[combine](other, c)
        r[p] = result
        r[q] = other

    packed = kind.size > view.itemsize
    d.emit(both if third is not None or has_second or packed else step)


@instruction("set")
def set_number(d: Decoder, item: Instruction) -> None:
    """`set.cmp{.boolop}.dtype.stype`: all ones or 1.0 where it holds."""
    words = Modifiers(item)
    kind = words.kind()
    result = words.kind()
    ftz = words.flag("ftz")
    combine = words.choice(*_BOOLEAN)
    compare = comparison(words.words.pop(0), kind, ftz, item)
    words.done()
    if kind.size > kind.view.itemsize:
        raise unknown(item)
    a, b = d.source(item.operands[1], kind), d.source(item.operands[2], kind)
    third = d.predicate(item.operands[3]) if combine else None
    to, view = d.target(item.operands[0], result), kind.view
    yes = np.ones(1, result.view) if result.is_float else np.full(1, -1, f"i{result.size}").view(result.view)

    def step(r: Registers, f: Frame) -> None:
        holds = compare(r[a].view(view), r[b].view(view))
        if third is not None and combine is not None:
            holds = _BOOLEAN[combine](holds, ~r[third[0]] if third[1] else r[third[0]])
        r[to] = np.where(holds, yes, np.zeros(1, result.view))

    d.emit(step)


@instruction("selp")
def selp(d: Decoder, item: Instruction) -> None:
    words = Modifiers(item)
    kind = words.kind()
    words.done()
    a, b = d.source(item.operands[1], kind), d.source(item.operands[2], kind)
    number, negated = d.predicate(item.operands[3])
    to, bits = d.target(item.operands[0], kind), kind.storage
    if negated:
        a, b = b, a

    def step(r: Registers, f: Frame) -> None:
        condition = r[number]
        if condition.size == 1:
            r[to] = r[a if condition[0] else b]
        else:
            r[to] = np.where(condition, r[a].view(bits), r[b].view(bits))

    d.emit(step)


@instruction("slct")
def slct(d: Decoder, item: Instruction) -> None:
    """a where c >= 0, else b (NaN selects b)."""
    words = Modifiers(item)
    judged = words.kind()
    kind = words.kind()
    words.flag("ftz")
    words.done()
    a, b = d.source(item.operands[1], kind), d.source(item.operands[2], kind)
    c, to, bits = d.source(item.operands[3], judged), d.target(item.operands[0], kind), kind.storage
    view = judged.view

    def step(r: Registers, f: Frame) -> None:
        r[to] = np.where(r[c].view(view) >= 0, r[a].view(bits), r[b].view(bits))

    d.emit(step)


@instruction("testp")
def testp(d: Decoder, item: Instruction) -> None:
    words = Modifiers(item)
    kind = words.kind()
    name = words.need("finite", "infinite", "number", "notanumber", "normal", "subnormal")
    words.done()
    a, to, view = d.source(item.operands[1], kind), d.target(item.operands[0], BOOL), kind.view
    tiny = np.finfo(view).tiny
    tests: dict[str, Callable[[Array], Array]] = {
        "finite": np.isfinite,
        "infinite": np.isinf,
        "number": lambda x: ~np.isnan(x),
        "notanumber": np.isnan,
        "normal": lambda x: np.isfinite(x) & (np.abs(x) >= tiny),
        "subnormal": lambda x: (np.abs(x) < tiny) & (x != 0),
    }
    test = tests[name]

    def step(r: Registers, f: Frame) -> None:
        r[to] = test(r[a].view(view))

    d.emit(step)


@instruction("mov")
def mov(d: Decoder, item: Instruction) -> None:
    """A move; with a vector on one side it packs or unpacks, the first element lowest."""
    words = Modifiers(item)
    if words.words == ["b128"]:
        raise unknown(item)
    kind = words.kind()
    words.done()
    to, value = item.operands[:2]
    if isinstance(value, Vector):
        _pack(d, value, to, kind)
    elif isinstance(to, Vector):
        _unpack(d, value, to, kind)
    elif kind is BOOL and isinstance(value, Negated | Immediate):
        source, negated = d.predicate(value)
        target = d.target(to, BOOL)
        d.emit(lambda r, f: r.__setitem__(target, ~r[source] if negated else r[source]))
    else:
        source, target = d.source(value, kind), d.target(to, kind)

        def step(r: Registers, f: Frame) -> None:
            r[target] = r[source]

        d.emit(step)


def _pieces(kind: Kind, count: int, item: Instruction) -> Kind:
    bits = kind.bits // count
    if bits not in (8, 16, 32) or kind.bits % count:
        raise unknown(item)
    return KINDS[f"b{bits}"]


def _pack(d: Decoder, value: Vector, to: Operand, kind: Kind) -> None:
    piece = _pieces(kind, len(value.elements), d.item)
    sources = [d.source(x, piece) for x in value.elements]
    target, storage, shift = d.target(to, kind), kind.storage, piece.bits
    own, mask = piece.storage, kind.storage.type((1 << piece.bits) - 1)

    def step(r: Registers, f: Frame) -> None:
        result = r[sources[0]].view(own).astype(storage) & mask
        for number, source in enumerate(sources[1:], 1):
            result = result | ((r[source].view(own).astype(storage) & mask) << storage.type(number * shift))
        r[target] = result

    d.emit(step)


def _unpack(d: Decoder, value: Operand, to: Vector, kind: Kind) -> None:
    piece = _pieces(kind, len(to.elements), d.item)
    source = d.source(value, kind)
    targets = [d.target(x, piece) for x in to.elements]
    storage, own, shift = kind.storage, piece.storage, piece.bits
    mask = storage.type((1 << piece.bits) - 1)

    def step(r: Registers, f: Frame) -> None:
        x = r[source].view(storage)
        for number, target in enumerate(targets):
            r[target] = ((x >> storage.type(number * shift)) & mask).astype(own)

    d.emit(step)
