"""What elementwise ops, constants and conversions become in ONNX."""

from __future__ import annotations

from ..ir import dtypes
from ..ir.graph import Node
from .emitting import EMITTERS, Emitted, Writer, emits

# Ops that ONNX has under another name, on the same operands.
_SAME = {
    "neg": "Neg", "abs": "Abs", "exp": "Exp", "log": "Log", "sqrt": "Sqrt", "reciprocal": "Reciprocal", "sin": "Sin",
    "cos": "Cos", "tan": "Tan", "tanh": "Tanh", "erf": "Erf", "sigmoid": "Sigmoid", "floor": "Floor", "ceil": "Ceil",
    "round": "Round", "sign": "Sign", "asin": "Asin", "acos": "Acos", "atan": "Atan", "sinh": "Sinh", "cosh": "Cosh",
    "asinh": "Asinh", "acosh": "Acosh", "atanh": "Atanh", "isnan": "IsNaN", "isinf": "IsInf", "relu": "Relu",
    "hardswish": "HardSwish", "mish": "Mish", "sub": "Sub", "div": "Div", "pow": "Pow", "maximum": "Max",
    "minimum": "Min", "eq": "Equal", "lt": "Less", "le": "LessOrEqual", "gt": "Greater", "ge": "GreaterOrEqual",
    "prelu": "PRelu", "where": "Where", "detach": "Identity",
}  # fmt: skip
# On bool operands another op than on numbers.
_BY_KIND = {
    "add": ("Or", "Add"), "mul": ("And", "Mul"), "bitwise_and": ("And", "BitwiseAnd"), "bitwise_or": ("Or", "BitwiseOr"),
    "bitwise_xor": ("Xor", "BitwiseXor"), "bitwise_not": ("Not", "BitwiseNot"),
}  # fmt: skip
_LOGICAL = {"logical_and": "And", "logical_or": "Or", "logical_xor": "Xor", "logical_not": "Not"}
_ORDERED = frozenset({"Max", "Min", "Less", "LessOrEqual", "Greater", "GreaterOrEqual"})  # numbers only
_INTEGER_FREE = frozenset({"Floor", "Ceil", "Round"})  # ONNX has them on floats; integers stay what they are


@emits(*_SAME)
def _same(w: Writer, node: Node) -> Emitted:
    op_type = _SAME[node.op.name]
    inputs = [w.name(v) for v in node.inputs]
    if op_type in _INTEGER_FREE and not node.inputs[0].type.dtype.is_floating_point:
        return inputs[0]
    if op_type in _ORDERED and node.inputs[0].type.dtype is dtypes.bool_:
        found = str(w.node(op_type, *(w.cast(name, dtypes.i32) for name in inputs)))
        return w.cast(found, dtypes.bool_) if op_type in ("Max", "Min") else found
    return str(w.node(op_type, *inputs))


@emits(*_BY_KIND)
def _by_kind(w: Writer, node: Node) -> Emitted:
    of_bools, of_numbers = _BY_KIND[node.op.name]
    is_bool = node.inputs[0].type.dtype is dtypes.bool_
    return str(w.node(of_bools if is_bool else of_numbers, *map(w.name, node.inputs)))


@emits(*_LOGICAL)
def _logical(w: Writer, node: Node) -> Emitted:
    bools = [
        w.name(v) if v.type.dtype is dtypes.bool_ else w.cast(w.name(v), dtypes.bool_) for v in node.inputs
    ]
    return str(w.node(_LOGICAL[node.op.name], *bools))


@emits("ne")
def _ne(w: Writer, node: Node) -> Emitted:
    return str(w.node("Not", w.node("Equal", *map(w.name, node.inputs))))


@emits("isfinite")
def _isfinite(w: Writer, node: Node) -> Emitted:
    x = w.name(node.inputs[0])
    return str(w.node("Not", w.node("Or", w.node("IsInf", x), w.node("IsNaN", x))))


@emits("rsqrt")
def _rsqrt(w: Writer, node: Node) -> Emitted:
    return str(w.node("Reciprocal", w.node("Sqrt", w.name(node.inputs[0]))))


@emits("expm1", "log1p", "erfc")
def _near_zero(w: Writer, node: Node) -> Emitted:
    """ONNX has no form of these that is accurate near 0."""
    x, one = w.name(node.inputs[0]), w.scalar(1, node.inputs[0].type.dtype)
    match node.op.name:
        case "expm1":
            return str(w.node("Sub", w.node("Exp", x), one))
        case "log1p":
            return str(w.node("Log", w.node("Add", one, x)))
    return str(w.node("Sub", one, w.node("Erf", x)))


@emits("trunc")
def _trunc(w: Writer, node: Node) -> Emitted:
    x = w.name(node.inputs[0])
    if not node.inputs[0].type.dtype.is_floating_point:
        return x
    return str(w.node("Mul", w.node("Sign", x), w.node("Floor", w.node("Abs", x))))


@emits("remainder", "floor_divide")
def _with_remainder(w: Writer, node: Node) -> Emitted:
    a, b = map(w.name, node.inputs)
    dtype = node.inputs[0].type.dtype
    if not dtype.is_floating_point:  # Mod has the sign of the divisor there
        rest = w.node("Mod", a, b)
        return str(rest if node.op.name == "remainder" else w.node("Div", w.node("Sub", a, rest), b))
    rest = w.node("Mod", a, b, fmod=1)  # the sign of the dividend
    differs = w.node("Less", w.node("Mul", rest, b), w.scalar(0, dtype))
    rest = w.node("Where", differs, w.node("Add", rest, b), rest)
    if node.op.name == "remainder":
        return str(rest)
    return str(w.node("Round", w.node("Div", w.node("Sub", a, rest), b)))


@emits("logaddexp")
def _logaddexp(w: Writer, node: Node) -> Emitted:
    a, b = map(w.name, node.inputs)
    below = w.node("Exp", w.node("Neg", w.node("Abs", w.node("Sub", a, b))))
    one = w.scalar(1, node.inputs[0].type.dtype)
    return str(w.node("Add", w.node("Max", a, b), w.node("Log", w.node("Add", one, below))))


@emits("convert")
def _convert(w: Writer, node: Node) -> Emitted:
    x = w.name(node.inputs[0])
    return x if node.attrs["dtype"] is node.inputs[0].type.dtype else w.cast(x, node.attrs["dtype"])


@emits("elu", "celu", "leaky_relu", "hardsigmoid", "softplus")
def _activation(w: Writer, node: Node) -> Emitted:
    x, attrs = w.name(node.inputs[0]), node.attrs
    match node.op.name:
        case "elu":
            return str(w.node("Elu", x, alpha=attrs["alpha"]))
        case "celu" if node.inputs[0].type.dtype is dtypes.f32:
            return str(w.node("Celu", x, alpha=attrs["alpha"]))
        case "leaky_relu":
            return str(w.node("LeakyRelu", x, alpha=attrs["negative_slope"]))
        case "hardsigmoid":
            return str(w.node("HardSigmoid", x, alpha=1 / 6, beta=0.5))
        case "softplus" if attrs["beta"] == 1 and attrs["threshold"] >= 20:
            return str(w.node("Softplus", x))
    return None


@emits("clamp")
def _clamp(w: Writer, node: Node) -> Emitted:
    dtype = node.inputs[0].type.dtype
    bounds = [node.attrs[key] for key in ("min", "max")]
    names = ["" if bound is None else w.scalar(bound, dtype) for bound in bounds]
    return str(w.node("Clip", w.name(node.inputs[0]), *names))


@emits("full")
def _full(w: Writer, node: Node) -> Emitted:
    return w.filled(node.attrs["shape"], node.attrs["value"], node.attrs["dtype"])


@emits("iota")
def _iota(w: Writer, node: Node) -> Emitted:
    return w.positions(node.attrs["shape"], node.attrs["dim"], node.attrs["dtype"])


__all__ = ["EMITTERS"]
