"""Atomic operations (PTX ISA, "Parallel Synchronization and Communication Instructions: atom, red").

Threads of one instruction take their turns by number, so that results are the same in every run; a device gives no such
order.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from . import access
from .decode import Decoder, Modifiers, instruction, unknown
from .executor import Frame, Registers
from .floating import extreme_of
from .loads import SCOPES, address_value, read_address
from .rounding import bf16_to_f32, canonical, f32_to_bf16
from .syntax import Instruction, Sink, Vector
from .types import BF16, Array, Kind

_ORDER = ("relaxed", "acquire", "release", "acq_rel", "volatile")
_OPERATIONS = ("and", "or", "xor", "cas", "exch", "add", "inc", "dec", "min", "max")
Update = Callable[[Array, Array], Array]


def update_of(name: str, kind: Kind, item: Instruction) -> Update:
    """(old, operand) -> new, for arrays of the type."""
    if kind.is_float:
        if name == "add":
            if kind.view == BF16:
                return lambda a, b: f32_to_bf16(bf16_to_f32(a) + bf16_to_f32(b))
            return lambda a, b: canonical(a + b)
        if name in ("min", "max"):
            return lambda a, b: extreme_of(a, b, name == "max")
        raise unknown(item)
    updates: dict[str, Update] = {
        "and": np.bitwise_and,
        "or": np.bitwise_or,
        "xor": np.bitwise_xor,
        "exch": lambda a, b: b + np.zeros_like(a),
        "add": np.add,
        "min": np.minimum,
        "max": np.maximum,
        "inc": lambda a, b: np.where(a >= b, a.dtype.type(0), a + a.dtype.type(1)),
        "dec": lambda a, b: np.where((a == 0) | (a > b), b, a - a.dtype.type(1)),
    }
    return updates[name]


@instruction("atom", "red")
def atom(d: Decoder, item: Instruction) -> None:
    words = Modifiers(item)
    kind = words.kind()
    order, scope = words.choice(*_ORDER), words.choice(*SCOPES)
    is_fence = order in ("acquire", "release", "acq_rel") and scope in ("gpu", "sys")
    words.flag("noftz")
    space = words.choice("global", "shared", "shared::cta") or ""
    space = space.partition("::")[0]
    name = words.need(*_OPERATIONS)
    vector = words.choice("v2", "v4", "v8")
    words.done()
    has_result = item.opcode[0] == "atom"
    operands = item.operands if has_result else (Sink(), *item.operands)
    number, offset = read_address(d, operands[1], space)
    given = operands[2].elements if isinstance(operands[2], Vector) else (operands[2],)
    results = operands[0].elements if isinstance(operands[0], Vector) else (operands[0],) * len(given)
    if len(given) != (int(vector[1]) if vector else 1) or len(results) != len(given):
        raise unknown(item)
    values = [d.source(x, kind) for x in given]
    swap = d.source(operands[3], kind) if name == "cas" else None
    targets = [d.target(x, kind) for x in results]
    update = update_of(name, kind, item) if swap is None else None
    view, size = kind.view, kind.size
    # A packed type is updated half by half.
    width = view.itemsize

    def step(r: Registers, f: Frame) -> None:
        if is_fence:
            f.fence()
        addresses = address_value(r, number, offset)
        if addresses.size < f.size:
            addresses = np.broadcast_to(addresses, f.size)
        if is_fence and f.batch.launch.meetings is not None:
            f.batch.launch.meetings.arrive(f, item, addresses)
        for k, target in enumerate(targets):
            operand = np.broadcast_to(r[values[k]].view(kind.storage), f.size)
            other = None if swap is None else np.broadcast_to(r[swap].view(kind.storage), f.size)

            def use(
                frame: Frame, where: str, a: Array, chosen: Array | None, operand: Array = operand,
                other: Array | None = other,
            ) -> list[Array]:  # fmt: skip
                mine = operand if chosen is None else operand[chosen]
                new = other if chosen is None or other is None else other[chosen]
                words, index = access.atomic_words(frame, item, where, a, size)
                return [_in_turns(words, index, mine, new)]

            r[target] = access.in_space(f, space, addresses + np.uint64(k * size), use)[0]

    def apply(old: Array, operand: Array, new: Array | None) -> Array:
        if new is not None:
            return np.where(old == operand, new, old)
        assert update is not None
        bits = old.dtype
        found = update(np.ascontiguousarray(old).view(view), np.ascontiguousarray(operand).view(view))
        return np.ascontiguousarray(found).view(bits)

    def _in_turns(words: Array, index: Array, operand: Array, new: Array | None) -> Array:
        """Apply in the order of threads where several use one address; the values before."""
        order = np.argsort(index, kind="stable")
        sorted_index = index[order]
        starts = np.flatnonzero(np.r_[True, sorted_index[1:] != sorted_index[:-1]])
        turn = np.arange(len(index)) - np.repeat(starts, np.diff(np.r_[starts, len(index)]))
        before = np.empty(len(index), words.dtype)
        most = int(turn.max()) + 1
        if most > 64 and new is None and name in _SCANS and width == size and kind.view != BF16:
            _scan(words, starts, order, sorted_index, operand, before)
            return before
        by_turn = order if most == 1 else order[np.argsort(turn, kind="stable")]
        counts = np.bincount(turn)
        at = 0
        for count in counts:
            lanes = by_turn[at : at + count]
            at += count
            old = words[index[lanes]]
            before[lanes] = old
            words[index[lanes]] = apply(old, operand[lanes], None if new is None else new[lanes])
        return before

    def _scan(
        words: Array, starts: Array, order: Array, places: Array, operand: Array, before: Array
    ) -> None:
        """Many threads at few addresses: a running total for each (`accumulate` goes in order)."""
        ufunc = _SCANS[name]
        ends = np.r_[starts[1:], len(order)]
        for start, end in zip(starts, ends, strict=True):
            lanes = order[start:end]
            chain = np.concatenate([words[places[start : start + 1]], operand[lanes]]).view(view)
            total = ufunc.accumulate(chain, dtype=view).view(words.dtype)
            before[lanes] = total[:-1]
            words[places[start]] = total[-1]

    d.emit(step)


# Not min and max of floats, which treat NaN and zeros their own way.
_SCANS = {"add": np.add, "and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor}
