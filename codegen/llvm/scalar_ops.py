"""Every operation of the scalar protocol (`codegen/scalar.py: OPERATIONS`) as LLVM instructions, scalar or vector.

Nothing here traps: integer division by zero gives zero, the quotient that overflows wraps, shifts by the width or more
give what an infinitely wide shift would. float16 and bfloat16 compute in float32 and round after every operation.
"""

from __future__ import annotations

from collections.abc import Callable

from ...ir import dtypes
from ...ir.dtypes import DType
from ..packed import PACKINGS, WIDENINGS
from ..target import GpuTarget, Target
from .half_bits import half_of_f32, half_to_f32
from .short_numbers import dot, pack, pair, round_to_bf16, rounded_pair, upper_half, widen_bf16
from .text import Value, Writer, const, element_type, literal, splat, type_of

_FLOAT_COMPARE = {"lt": "olt", "le": "ole", "gt": "ogt", "ge": "oge", "eq": "oeq", "ne": "une"}
_FLOAT_BINARY = {"add": "fadd", "sub": "fsub", "mul": "fmul", "div": "fdiv"}
_INT_BINARY = {"add": "add", "sub": "sub", "mul": "mul", "and": "and", "or": "or", "xor": "xor"}
_FLOAT_UNARY = {
    "sqrt": "sqrt",
    "floor": "floor",
    "ceil": "ceil",
    "trunc": "trunc",
    "round": "roundeven",
    "abs": "fabs",
}
# Of a bfloat16 number these give one.
_EXACT = {"max", "min", "abs", "neg", "floor", "ceil", "trunc", "round"}
# What bool arithmetic means: add is or, mul is and, and the order is False < True.
_BOOL_BINARY = {"add": "or", "mul": "and", "max": "or", "min": "and", "and": "and", "or": "or", "xor": "xor"}
_BOOL_COMPARE = {"lt": "ult", "le": "ule", "gt": "ugt", "ge": "uge", "eq": "eq", "ne": "ne"}


class ScalarOps:
    """Writes operations on `Value`s; scalars are splat where they meet vectors."""

    def __init__(self, writer: Writer, target: Target | GpuTarget, contract: bool = False):
        self.w = writer
        self.target = target
        self.flags = "contract " if contract else ""
        self._special: dict[str, Callable[[list[Value], DType], Value]] = {
            "div": self._div,
            "fma": self._fma,
            "floordiv": self._floordiv,
            "mod": self._mod,
            "neg": self._neg,
            "abs": self._abs,
            "not": self._not,
            "select": self._select,
            "cast": self._cast,
            "bitcast": self._bitcast,
            "umulhi": self._umulhi,
            "pow": self._int_pow,
            **dict.fromkeys(PACKINGS, lambda args, dtype: pack(self, args)),
            **dict.fromkeys(WIDENINGS, lambda args, dtype: pair(self, args)),
            "round_bf16": lambda args, dtype: rounded_pair(self, *args),
            "dot_bf16": lambda args, dtype: dot(self, "dot_bf16", *args),
            "dot_u8i8": lambda args, dtype: dot(self, "dot_u8i8", *args),
            "dot_i16": lambda args, dtype: dot(self, "dot_i16", *args),
        }

    def apply(self, op: str, args: list[Value], dtype: DType) -> Value:
        """The operation on the arguments; `dtype` is the result's (given for cast and bitcast)."""
        lanes = max(a.lanes for a in args)
        if lanes:
            args = [splat(self.w, a, lanes) for a in args]
        operand = args[-1].dtype
        if operand in (dtypes.f16, dtypes.bf16) and op not in ("select", "cast", "bitcast", "pack_bf16"):
            wide = [self.convert(a, dtypes.f32) for a in args]
            result = self.apply(op, wide, dtypes.f32 if dtype is operand else dtype)
            if dtype is dtypes.bf16 and op in _EXACT:
                return upper_half(self, result)
            return self.convert(result, dtype) if dtype is operand else result
        if op in _FLOAT_COMPARE:
            return self._compare(op, args)
        if op in ("max", "min"):
            return self._extremum(op, args, dtype)
        if op in ("shl", "shr"):
            return self._shift(op, args, dtype)
        special = self._special.get(op)
        if special is not None:
            return special(args, dtype)
        if operand is dtypes.bool_:
            if op in _BOOL_BINARY:
                return self.instruction(_BOOL_BINARY[op], args, dtype)
        elif operand.kind == "float":
            if op in _FLOAT_BINARY:
                return self.instruction(f"{_FLOAT_BINARY[op]} {self.flags}".strip(), args, dtype)
            if op in _FLOAT_UNARY:
                return self.intrinsic(_FLOAT_UNARY[op], args, dtype)
        else:
            if op in _INT_BINARY:
                return self.instruction(_INT_BINARY[op], args, dtype)
            if op in ("floor", "ceil", "trunc", "round"):
                return args[0]
        raise NotImplementedError(f"the LLVM emitter has no {op} on {operand.name}")

    def instruction(self, name: str, args: list[Value], dtype: DType) -> Value:
        """A plain two-operand instruction."""
        a, b = args
        return self.w.pure(
            f"{name} {a.type} {a.text}, {b.text}",
            max(a.level, b.level),
            dtype,
            a.lanes,
            cheap=dtype.kind == "int",
        )

    def intrinsic(
        self, name: str, args: list[Value], dtype: DType, extra: str = "", flags: str = ""
    ) -> Value:
        """A call of `llvm.<name>` overloaded on its result type only; `extra` is an i1 argument."""
        lanes = args[0].lanes
        suffix = (f"v{lanes}" if lanes else "") + _suffix(dtype)
        full = f"@llvm.{name}.{suffix}"
        result = type_of(dtype, lanes)
        types = ", ".join(a.type for a in args) + (", i1" if extra else "")
        self.w.declare(full, f"declare {result} {full}({types})")
        text = ", ".join(map(str, args)) + (f", {extra}" if extra else "")
        return self.w.pure(f"call {flags}{result} {full}({text})", max(a.level for a in args), dtype, lanes)

    def convert(self, x: Value, dtype: DType) -> Value:
        """Value conversion: float to int truncates, anything to bool is `!= 0`."""
        return self._cast([x], dtype)

    def compare(self, predicate: str, a: Value, b: Value) -> Value:
        """An integer comparison."""
        lanes = max(a.lanes, b.lanes)
        if lanes:
            a, b = splat(self.w, a, lanes), splat(self.w, b, lanes)
        return self.w.pure(
            f"icmp {predicate} {a.type} {a.text}, {b.text}",
            max(a.level, b.level),
            dtypes.bool_,
            lanes,
            cheap=True,
        )

    def select(self, condition: Value, a: Value, b: Value) -> Value:
        if a.text == b.text:
            return a
        lanes = max(condition.lanes, a.lanes, b.lanes)
        if lanes:
            a, b = splat(self.w, a, lanes), splat(self.w, b, lanes)
        # A scalar condition chooses between whole vectors without being splat.
        return self.w.pure(
            f"select {condition}, {a}, {b}", max(condition.level, a.level, b.level), a.dtype, lanes
        )

    def _select(self, args: list[Value], dtype: DType) -> Value:
        return self.select(*args)

    def _like(self, x: Value, value: float | int | bool) -> Value:
        return const(value, x.dtype, x.lanes)

    def _compare(self, op: str, args: list[Value]) -> Value:
        a, b = args
        if a.dtype.kind == "float":
            return self.w.pure(
                f"fcmp {_FLOAT_COMPARE[op]} {a.type} {a.text}, {b.text}",
                max(a.level, b.level),
                dtypes.bool_,
                a.lanes,
            )
        if a.dtype is dtypes.bool_:
            return self.compare(_BOOL_COMPARE[op], a, b)
        if op in ("eq", "ne"):
            return self.compare(op, a, b)
        return self.compare(("s" if a.dtype.kind == "int" else "u") + op, a, b)

    def _fma(self, args: list[Value], dtype: DType) -> Value:
        if dtype.kind != "float" or not self.target.fma:
            return self.apply("add", [self.apply("mul", args[:2], dtype), args[2]], dtype)
        return self.intrinsic("fma", args, dtype)

    def _neg(self, args: list[Value], dtype: DType) -> Value:
        (x,) = args
        if dtype.kind == "float":
            return self.w.pure(f"fneg {x}", x.level, dtype, x.lanes)
        return self.instruction("sub", [self._like(x, 0), x], dtype)

    def _not(self, args: list[Value], dtype: DType) -> Value:
        (x,) = args
        ones = const(True, dtype, x.lanes) if dtype is dtypes.bool_ else _minus_one(x)
        return self.instruction("xor", [x, ones], dtype)

    def _abs(self, args: list[Value], dtype: DType) -> Value:
        if dtype.kind == "float":
            return self.intrinsic("fabs", args, dtype)
        if dtype.kind == "int":
            return self.intrinsic("abs", args, dtype, extra="i1 false")
        return args[0]

    def _extremum(self, op: str, args: list[Value], dtype: DType) -> Value:
        a, b = args
        if dtype is dtypes.bool_:
            return self.instruction(_BOOL_BINARY[op], args, dtype)
        if dtype.kind != "float":
            return self.intrinsic(("s" if dtype.kind == "int" else "u") + op, args, dtype)
        if _is_number(b):
            a, b = b, a
        if self.target.isa in ("neon", "ptx") or not _is_number(a):
            # Which zero comes out does not matter: on x86 that is one instruction and the repair of NaN.
            return self.intrinsic("maximum" if op == "max" else "minimum", [a, b], dtype, flags="nsz ")
        # x86 max/min return the second operand when either is NaN: with a number first that is the rule wanted.
        test = self._compare("gt" if op == "max" else "lt", [a, b])
        return self.select(test, a, b)

    def _div(self, args: list[Value], dtype: DType) -> Value:
        if dtype.kind == "float":
            return self.instruction(f"fdiv {self.flags}".strip(), args, dtype)
        a, b = args
        name = "sdiv" if dtype.kind == "int" else "udiv"
        divisor = literal(b)
        if divisor is not None and divisor not in (0, -1):
            return self.instruction(name, args, dtype)
        zero, one = self._like(b, 0), self._like(b, 1)
        is_zero = self.compare("eq", b, zero)
        safe = self.select(is_zero, one, b)
        if dtype.kind == "int":
            # The smallest number divided by -1 overflows, which traps on x86.
            minus = self.compare("eq", b, _minus_one(b))
            safe = self.select(minus, one, safe)
            quotient = self.instruction(name, [a, safe], dtype)
            quotient = self.select(minus, self._neg([a], dtype), quotient)
        else:
            quotient = self.instruction(name, [a, safe], dtype)
        return self.select(is_zero, zero, quotient)

    def _floordiv(self, args: list[Value], dtype: DType) -> Value:
        a, b = args
        if dtype.kind == "float":
            return self._float_floordiv(a, b, dtype)
        quotient = self._div(args, dtype)
        if dtype.kind == "uint":
            return quotient
        rest = self.instruction("sub", [a, self.instruction("mul", [quotient, b], dtype)], dtype)
        zero = self._like(b, 0)
        nonzero = self.compare("ne", rest, zero)
        opposite = self.compare("slt", self.instruction("xor", [rest, b], dtype), zero)
        divisible = self.compare("ne", b, zero)
        step = self.instruction(
            "and", [self.instruction("and", [nonzero, opposite], dtypes.bool_), divisible], dtypes.bool_
        )
        return self.select(step, self.instruction("sub", [quotient, self._like(b, 1)], dtype), quotient)

    def _mod(self, args: list[Value], dtype: DType) -> Value:
        a, b = args
        if dtype.kind == "float":
            return self._float_mod(a, b, dtype)
        rest = self.instruction(
            "sub", [a, self.instruction("mul", [self._floordiv(args, dtype), b], dtype)], dtype
        )
        zero = self._like(b, 0)
        return self.select(self.compare("eq", b, zero), zero, rest)

    def _float_rest(self, a: Value, b: Value, dtype: DType) -> tuple[Value, Value]:
        """C's fmod, and whether it must be moved by one divisor to have the divisor's sign."""
        rest = self.instruction("frem", [a, b], dtype)
        zero = self._like(b, 0)
        nonzero = self._compare("ne", [rest, zero])
        signs = [self._compare("lt", [rest, zero]), self._compare("lt", [b, zero])]
        opposite = self.instruction("xor", signs, dtypes.bool_)
        return rest, self.instruction("and", [nonzero, opposite], dtypes.bool_)

    def _float_mod(self, a: Value, b: Value, dtype: DType) -> Value:
        rest, moved = self._float_rest(a, b, dtype)
        return self.select(moved, self.instruction("fadd", [rest, b], dtype), rest)

    def _float_floordiv(self, a: Value, b: Value, dtype: DType) -> Value:
        """As torch.floor_divide: from the remainder, so that the quotient is whole, then the nearest integer."""
        rest, moved = self._float_rest(a, b, dtype)
        whole = self.instruction("fdiv", [self.instruction("fsub", [a, rest], dtype), b], dtype)
        one = self._like(b, 1.0)
        whole = self.select(moved, self.instruction("fsub", [whole, one], dtype), whole)
        down = self.intrinsic("floor", [whole], dtype)
        over = self._compare("gt", [self.instruction("fsub", [whole, down], dtype), self._like(b, 0.5)])
        nearest = self.select(over, self.instruction("fadd", [down, one], dtype), down)
        plain = self.instruction("fdiv", [a, b], dtype)
        return self.select(self._compare("eq", [b, self._like(b, 0.0)]), plain, nearest)

    def _shift(self, op: str, args: list[Value], dtype: DType) -> Value:
        a, amount = args
        width = dtype.itemsize * 8
        name = "shl" if op == "shl" else "ashr" if dtype.kind == "int" else "lshr"
        known = literal(amount)
        if known is not None and 0 <= known < width:
            return self.instruction(name, args, dtype)
        inside = self.compare("ult", amount, self._like(amount, width))
        if name == "ashr":
            return self.instruction(
                name, [a, self.select(inside, amount, self._like(amount, width - 1))], dtype
            )
        shifted = self.instruction(name, [a, self.select(inside, amount, self._like(amount, 0))], dtype)
        return self.select(inside, shifted, self._like(a, 0))

    def _int_pow(self, args: list[Value], dtype: DType) -> Value:
        """By squaring, over the bits of the exponent. A negative exponent leaves only 1 and -1 with a power."""
        base, exponent = args
        known = literal(exponent)
        one, zero = self._like(base, 1), self._like(base, 0)
        if known is not None and known < 0:
            known = None
        bits = dtype.itemsize * 8 if known is None else known.bit_length()
        result = one
        square = base
        for bit in range(bits):
            if bit:
                square = self.instruction("mul", [square, square], dtype)
            if known is not None:
                if known >> bit & 1:
                    result = self.instruction("mul", [result, square], dtype) if result is not one else square
                continue
            mask = self.instruction("and", [exponent, self._like(base, 1 << bit)], dtype)
            taken = self.compare("ne", mask, zero)
            result = self.select(taken, self.instruction("mul", [result, square], dtype), result)
        if known is not None or dtype.kind == "uint":
            return result
        odd = self.compare("ne", self.instruction("and", [exponent, one], dtype), zero)
        sign = self.select(odd, base, one)
        units = [self.compare("eq", base, one), self.compare("eq", base, _minus_one(base))]
        unit = self.instruction("or", units, dtypes.bool_)
        negative = self.compare("slt", exponent, zero)
        return self.select(negative, self.select(unit, sign, zero), result)

    def _umulhi(self, args: list[Value], dtype: DType) -> Value:
        width = dtype.itemsize * 8
        a, b = args
        lanes = a.lanes
        wide = f"<{lanes} x i{2 * width}>" if lanes else f"i{2 * width}"
        by = f"splat (i{2 * width} {width})" if lanes else str(width)
        low = [self.w.pure(f"zext {x} to {wide}", x.level, dtype, lanes) for x in (a, b)]
        level = max(a.level, b.level)
        product = self.w.pure(f"mul {wide} {low[0].text}, {low[1].text}", level, dtype, lanes)
        high = self.w.pure(f"lshr {wide} {product.text}, {by}", level, dtype, lanes)
        return self.w.pure(f"trunc {wide} {high.text} to {type_of(dtype, lanes)}", level, dtype, lanes)

    def _bitcast(self, args: list[Value], dtype: DType) -> Value:
        (x,) = args
        if element_type(x.dtype) == element_type(dtype):
            return Value(x.text, dtype, x.lanes, x.level)
        return self.w.pure(f"bitcast {x} to {type_of(dtype, x.lanes)}", x.level, dtype, x.lanes)

    def _unary(self, instruction: str, x: Value, dtype: DType) -> Value:
        return self.w.pure(
            f"{instruction} {x} to {type_of(dtype, x.lanes)}",
            x.level,
            dtype,
            x.lanes,
            cheap=dtype.kind in ("int", "uint"),
        )

    def _cast(self, args: list[Value], dtype: DType) -> Value:
        (x,) = args
        source = x.dtype
        if source is dtype:
            return x
        if dtype is dtypes.bool_:
            if source in (dtypes.f16, dtypes.bf16):
                return self._cast([self._cast([x], dtypes.f32)], dtype)
            return self._compare("ne", [x, self._like(x, 0)])
        if source is dtypes.bool_:
            if dtype.kind == "float":
                return self.select(x, const(1.0, dtype, x.lanes), const(0.0, dtype, x.lanes))
            return self._unary("zext", x, dtype)
        if source.kind == "float" and dtype.kind == "float":
            return self._float_to_float(x, dtype)
        if source.kind == "float":
            return self._float_to_int(x, dtype)
        if dtype.kind == "float":
            return self._int_to_float(x, dtype)
        if dtype.itemsize == source.itemsize:
            return Value(x.text, dtype, x.lanes, x.level)
        if dtype.itemsize < source.itemsize:
            return self._unary("trunc", x, dtype)
        return self._unary("sext" if source.kind == "int" else "zext", x, dtype)

    def _float_to_int(self, x: Value, dtype: DType) -> Value:
        if x.dtype in (dtypes.f16, dtypes.bf16):
            x = self._cast([x], dtypes.f32)
        # Out of range is poison in LLVM; freeze makes it whatever the instruction gives. Narrow types go through wider
        # signed ones, whose conversions exist as instructions.
        via = dtype
        if dtype.itemsize < 4:
            via = dtypes.i32
        elif dtype is dtypes.u32:
            via = dtypes.i64
        name = "fptoui" if via is dtypes.u64 else "fptosi"
        converted = self._unary(name, x, via)
        frozen = self.w.pure(f"freeze {converted}", converted.level, via, x.lanes)
        return self._cast([frozen], dtype)

    def _int_to_float(self, x: Value, dtype: DType) -> Value:
        if dtype in (dtypes.f16, dtypes.bf16):
            middle = dtypes.f32 if x.dtype.itemsize <= 2 else dtypes.f64
            return self._float_to_float(self._int_to_float(x, middle), dtype)
        return self._unary("sitofp" if x.dtype.kind == "int" else "uitofp", x, dtype)

    def _float_to_float(self, x: Value, dtype: DType) -> Value:
        source = x.dtype
        if source is dtypes.bf16:
            return self._float_to_float(widen_bf16(self, x), dtype)
        if source is dtype:
            return x
        if source is dtypes.f16 and self._without_halves:
            return self._float_to_float(half_to_f32(self, x), dtype)
        if dtype is dtypes.bf16:
            return round_to_bf16(self, self._to_f32_for_rounding(x))
        if dtype is dtypes.f16:
            x = self._to_f32_for_rounding(x)
            return half_of_f32(self, x) if self._without_halves else self._unary("fptrunc", x, dtype)
        return self._unary("fpext" if dtype.itemsize > source.itemsize else "fptrunc", x, dtype)

    @property
    def _without_halves(self) -> bool:
        """Whether the machine has no instructions that convert float16."""
        return self.target.isa == "sse2" and isinstance(self.target, Target) and not self.target.has("f16c")

    def _to_f32_for_rounding(self, x: Value) -> Value:
        """float64 to float32 rounded to odd, so that rounding again to 16 bits rounds only once
        (Boldo and Melquiond, "When double rounding is odd", 2005)."""
        if x.dtype is not dtypes.f64:
            return self._cast([x], dtypes.f32)
        near = self._unary("fptrunc", x, dtypes.f32)
        back = self._unary("fpext", near, dtypes.f64)
        bits = self._bitcast([near], dtypes.u32)
        beyond = self._compare("gt", [self._abs([back], dtypes.f64), self._abs([x], dtypes.f64)])
        toward_zero = self.select(
            beyond, self.instruction("sub", [bits, self._like(bits, 1)], dtypes.u32), bits
        )
        inexact = self._compare("ne", [back, x])
        odd = self.instruction("or", [toward_zero, self._like(bits, 1)], dtypes.u32)
        return self._bitcast([self.select(inexact, odd, bits)], dtypes.f32)


def _suffix(dtype: DType) -> str:
    text = element_type(dtype)
    return {"half": "f16", "float": "f32", "double": "f64"}.get(text, text)


def _is_number(x: Value) -> bool:
    """Whether x is a float constant, or a splat of one, other than NaN. LLVM writes it as the bits of a double."""
    text = x.text[:-1].split()[-1] if x.text.startswith("splat (") else x.text
    return text.startswith("0x") and text[2:3] != "H" and (int(text, 16) & (1 << 63) - 1) <= 0x7FF << 52


def _minus_one(x: Value) -> Value:
    text = "-1" if not x.lanes else f"splat ({element_type(x.dtype)} -1)"
    return Value(text, x.dtype, x.lanes, 0)


__all__ = ["ScalarOps", "splat"]
