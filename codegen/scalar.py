"""The scalar protocol: the operations in which an op's element-wise meaning is written, and the loop IR that they build.

A pointwise op's `scalar` rule (`ir/ops/`) is a function over an object with these methods. Here the methods build loop
IR expressions; the loop interpreter evaluates them with NumPy, the LLVM and PTX emitters emit them, the functions that
hardware does not have (exp, log, tanh, erf ...) through `scalar_functions.py`.

Arguments may be Python numbers; they take the dtype of the first expression among the arguments.
"""

from __future__ import annotations

from ..ir import dtypes
from ..ir.dtypes import DType
from ..ir.special_functions import FORMULAS
from .loops.nodes import Apply, Const, Expr

# name: (number of arguments, result: "same" as the arguments, "bool", or "given")
OPERATIONS: dict[str, tuple[int, str]] = {
    "add": (2, "same"),
    "sub": (2, "same"),
    "mul": (2, "same"),
    "div": (2, "same"),  # IEEE division; for integers truncation toward zero, x / 0 == 0
    "fma": (3, "same"),  # a * b + c, rounded once where the target can
    "ldexp": (
        2,
        "same",
    ),  # a * 2 ** n of floats, rounded once; n whole, of at most twice the largest exponent
    "floordiv": (2, "same"),  # toward minus infinity
    "mod": (2, "same"),  # sign of the divisor, as Python's %
    "neg": (1, "same"),
    "abs": (1, "same"),
    "max": (2, "same"),  # NaN if either is NaN, as torch.maximum
    "min": (2, "same"),
    "sqrt": (1, "same"),
    "floor": (1, "same"),
    "ceil": (1, "same"),
    "trunc": (1, "same"),
    "round": (1, "same"),  # half to even
    "exp": (1, "same"),
    "expm1": (1, "same"),
    "log": (1, "same"),
    "log1p": (1, "same"),
    "sin": (1, "same"),
    "cos": (1, "same"),
    "tan": (1, "same"),
    "tanh": (1, "same"),
    "sigmoid": (1, "same"),
    "erf": (1, "same"),
    "exp_short": (1, "same"),  # of float32, for a result that will be rounded to sixteen bits
    "sigmoid_short": (1, "same"),
    "exp_below": (
        1,
        "same",
    ),  # exp of a float32 of at most 1, off by at most 2 ulp or the least normal number
    "exp_below_short": (1, "same"),  # the same, for a result that will be rounded to bfloat16
    "pow": (2, "same"),
    **dict.fromkeys(("asin", "acos", "atan", "asinh", "acosh", "atanh"), (1, "same")),
    "atan2": (2, "same"),
    **dict.fromkeys(FORMULAS, (1, "same")),  # lgamma, erfc, i0 ...
    "lt": (2, "bool"),
    "le": (2, "bool"),
    "gt": (2, "bool"),
    "ge": (2, "bool"),
    "eq": (2, "bool"),
    "ne": (2, "bool"),
    "and": (2, "same"),  # bitwise; logical on bool
    "or": (2, "same"),
    "xor": (2, "same"),
    "not": (1, "same"),
    "shl": (2, "same"),
    "shr": (2, "same"),  # arithmetic for signed, logical for unsigned
    "select": (3, "same"),  # select(condition, a, b)
    "cast": (1, "given"),  # value conversion; float to int truncates
    "bitcast": (1, "given"),
    "umulhi": (2, "same"),  # high half of the unsigned product
}

# Instructions of GPUs, on f32: name: number of arguments.
GPU_OPERATIONS = {
    "exp2_fast": 1,  # 2 ** x within a relative 2 ** -22; below the normal numbers 0 (PTX's ex2.approx.ftz.f32)
    "tf32": 1,  # the nearest number of 10 bits behind the point, ties away from zero (cvt.rna.tf32.f32)
}

Number = float | int | bool


class ScalarBuilder:
    """The protocol over loop IR expressions: every method returns one.

    A method for each entry of `OPERATIONS`: `s.add(x, y)`; `and`, `or`, `not` are `and_`, `or_`, `not_`.
    """

    def _apply(self, op: str, *args: Expr | Number, dtype: DType | None = None) -> Expr:
        count, result = OPERATIONS[op]
        if len(args) != count:
            raise TypeError(f"scalar {op} takes {count} arguments, got {len(args)}")
        # A select's condition is bool and says nothing about the dtype of its branches.
        typed = args[1:] if op == "select" else args
        first = next((a.dtype for a in typed if not isinstance(a, int | float | bool)), None)
        if first is None:
            raise TypeError(f"scalar {op} of Python numbers only: {args}")
        exprs = tuple(Const(a, first) if isinstance(a, int | float | bool) else a for a in args)
        if result == "bool":
            dtype = dtypes.bool_
        elif result == "same":
            dtype = first
        assert dtype is not None
        return Apply(op, exprs, dtype)

    def function(self, name: str, x: Expr) -> Expr:
        """A function of one argument, by its name."""
        return self._apply(name, x)

    def const(self, value: Number, dtype: DType) -> Expr:
        return Const(value, dtype)

    def cast(self, x: Expr, dtype: DType) -> Expr:
        return x if x.dtype is dtype else self._apply("cast", x, dtype=dtype)

    def bitcast(self, x: Expr, dtype: DType) -> Expr:
        return self._apply("bitcast", x, dtype=dtype)

    def add(self, x: Expr | Number, y: Expr | Number) -> Expr:
        return self._apply("add", x, y)

    def sub(self, x: Expr | Number, y: Expr | Number) -> Expr:
        return self._apply("sub", x, y)

    def mul(self, x: Expr | Number, y: Expr | Number) -> Expr:
        return self._apply("mul", x, y)

    def div(self, x: Expr | Number, y: Expr | Number) -> Expr:
        return self._apply("div", x, y)

    def fma(self, x: Expr | Number, y: Expr | Number, z: Expr | Number) -> Expr:
        return self._apply("fma", x, y, z)

    def ldexp(self, x: Expr, n: Expr) -> Expr:
        return self._apply("ldexp", x, n)

    def floordiv(self, x: Expr | Number, y: Expr | Number) -> Expr:
        return self._apply("floordiv", x, y)

    def mod(self, x: Expr | Number, y: Expr | Number) -> Expr:
        return self._apply("mod", x, y)

    def neg(self, x: Expr) -> Expr:
        return self._apply("neg", x)

    def abs(self, x: Expr) -> Expr:
        return self._apply("abs", x)

    def max(self, x: Expr | Number, y: Expr | Number) -> Expr:
        return self._apply("max", x, y)

    def min(self, x: Expr | Number, y: Expr | Number) -> Expr:
        return self._apply("min", x, y)

    def sqrt(self, x: Expr) -> Expr:
        return self._apply("sqrt", x)

    def floor(self, x: Expr) -> Expr:
        return self._apply("floor", x)

    def ceil(self, x: Expr) -> Expr:
        return self._apply("ceil", x)

    def trunc(self, x: Expr) -> Expr:
        return self._apply("trunc", x)

    def round(self, x: Expr) -> Expr:
        return self._apply("round", x)

    def exp(self, x: Expr) -> Expr:
        return self._apply("exp", x)

    def expm1(self, x: Expr) -> Expr:
        return self._apply("expm1", x)

    def log(self, x: Expr) -> Expr:
        return self._apply("log", x)

    def log1p(self, x: Expr) -> Expr:
        return self._apply("log1p", x)

    def sin(self, x: Expr) -> Expr:
        return self._apply("sin", x)

    def cos(self, x: Expr) -> Expr:
        return self._apply("cos", x)

    def tan(self, x: Expr) -> Expr:
        return self._apply("tan", x)

    def tanh(self, x: Expr) -> Expr:
        return self._apply("tanh", x)

    def sigmoid(self, x: Expr) -> Expr:
        return self._apply("sigmoid", x)

    def erf(self, x: Expr) -> Expr:
        return self._apply("erf", x)

    def pow(self, x: Expr | Number, y: Expr | Number) -> Expr:
        return self._apply("pow", x, y)

    def call(self, name: str, *args: Expr | Number) -> Expr:
        """A function of the table that has no method of its own: `s.call("lgamma", x)`."""
        return self._apply(name, *args)

    def lt(self, x: Expr | Number, y: Expr | Number) -> Expr:
        return self._apply("lt", x, y)

    def le(self, x: Expr | Number, y: Expr | Number) -> Expr:
        return self._apply("le", x, y)

    def gt(self, x: Expr | Number, y: Expr | Number) -> Expr:
        return self._apply("gt", x, y)

    def ge(self, x: Expr | Number, y: Expr | Number) -> Expr:
        return self._apply("ge", x, y)

    def eq(self, x: Expr | Number, y: Expr | Number) -> Expr:
        return self._apply("eq", x, y)

    def ne(self, x: Expr | Number, y: Expr | Number) -> Expr:
        return self._apply("ne", x, y)

    def and_(self, x: Expr | Number, y: Expr | Number) -> Expr:
        return self._apply("and", x, y)

    def or_(self, x: Expr | Number, y: Expr | Number) -> Expr:
        return self._apply("or", x, y)

    def xor(self, x: Expr | Number, y: Expr | Number) -> Expr:
        return self._apply("xor", x, y)

    def not_(self, x: Expr) -> Expr:
        return self._apply("not", x)

    def shl(self, x: Expr, y: Expr | Number) -> Expr:
        return self._apply("shl", x, y)

    def shr(self, x: Expr, y: Expr | Number) -> Expr:
        return self._apply("shr", x, y)

    def select(self, condition: Expr, x: Expr | Number, y: Expr | Number) -> Expr:
        return self._apply("select", condition, x, y)

    def umulhi(self, x: Expr | Number, y: Expr | Number) -> Expr:
        return self._apply("umulhi", x, y)


SCALAR = ScalarBuilder()
