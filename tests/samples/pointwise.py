"""Pointwise functions: the function, the method, the in-place forms, `out=`, and numbers in place of tensors."""

from __future__ import annotations

from .table import Family, booleans, complexes, given, integers, normal, spread, uniform

_UNARY = [
    "abs",
    "absolute",
    "neg",
    "negative",
    "exp",
    "exp2",
    "expm1",
    "sin",
    "cos",
    "tan",
    "sinh",
    "cosh",
    "tanh",
    "erf",
    "erfc",
    "sigmoid",
    "square",
    "floor",
    "ceil",
    "trunc",
    "fix",
    "round",
    "sign",
    "sgn",
    "reciprocal",
    "relu",
    "deg2rad",
    "rad2deg",
    "frac",
    "nan_to_num",
    "positive",
    "asinh",
    "arcsinh",
    "atan",
    "arctan",
]
_POSITIVE = ["sqrt", "rsqrt", "log", "log2", "log10", "log1p"]
_INSIDE = ["asin", "arcsin", "acos", "arccos", "atanh", "arctanh"]
_PREDICATES = ["isnan", "isinf", "isfinite", "isposinf", "isneginf", "isreal", "signbit"]
_BINARY = [
    "add",
    "sub",
    "subtract",
    "mul",
    "multiply",
    "div",
    "divide",
    "true_divide",
    "maximum",
    "minimum",
    "fmax",
    "fmin",
    "copysign",
    "atan2",
    "arctan2",
    "hypot",
    "logaddexp",
    "logaddexp2",
    "remainder",
    "fmod",
    "floor_divide",
]
_COMPARE = ["lt", "less", "le", "less_equal", "gt", "greater", "ge", "greater_equal", "eq", "ne", "not_equal"]
_LOGICAL = ["logical_and", "logical_or", "logical_xor"]
_BITS = ["bitwise_and", "bitwise_or", "bitwise_xor"]
_NO_METHOD_INPLACE = {"positive", "maximum", "minimum", "fmax", "fmin", "logaddexp", "logaddexp2"}
_FUNCTIONS_INPLACE = [
    "abs_",
    "neg_",
    "negative_",
    "exp_",
    "exp2_",
    "expm1_",
    "sin_",
    "cos_",
    "tan_",
    "sinh_",
    "cosh_",
    "tanh_",
    "erf_",
    "erfc_",
    "sigmoid_",
    "square_",
    "floor_",
    "ceil_",
    "trunc_",
    "fix_",
    "round_",
    "reciprocal_",
    "relu_",
    "deg2rad_",
    "rad2deg_",
    "frac_",
    "nan_to_num_",
    "asinh_",
    "arcsinh_",
    "atan_",
    "arctan_",
    "zero_",
]


def _lines(*groups: list[str]) -> str:
    return "\n".join(line for group in groups for line in group)


def _kept(name: str, function: str) -> str:
    """The input without its history where PyTorch cannot differentiate the in-place form."""
    stem = function.rstrip("_").replace("arc", "a")
    return f"{name}.detach()" if stem in ("asinh", "atanh", "floor_divide") else name


def _all(call: str, names: list[str]) -> str:
    """One sample of one call for every name: where there are no gradients to tell apart."""
    return "[" + ", ".join(call.format(n) for n in names) + "]"


FAMILY = Family(
    inputs={
        "x": spread(3, 4),
        "y": normal(3, 4),
        "z": normal(4),
        "p": uniform(3, 4, low=0.3, high=3.0),
        "u": uniform(3, 4, low=-0.95, high=0.95),
        "s": normal(),
        "e": normal(0, 4),
        "m": complexes(3),
        "i": integers(3, 4, low=-9, high=10),
        "j": integers(4, low=1, high=5),
        "c": booleans(3, 4),
        "k": booleans(4),
        "w": given([0.0, -0.0, 1.0, -2.5, float("inf"), -float("inf"), float("nan"), 3e38]),
        "v": given([float("nan"), 1.0, 1.0, 2.0, 5.0, float("inf"), 1.0, -3e38]),
    },
    samples=_lines(
        [f"torch.{n}(x)" for n in _UNARY if n != "reciprocal"],
        [
            f"torch.{n}(m)"
            for n in [*_INSIDE[::2], "atan", "asinh", "acosh", "sinh", "cosh", "sinc", "exp2", "sgn"]
        ],
        ["torch.float_power(m, 2)", "torch.float_power(p, m[:1])", "m.isreal()"],
        ["torch.reciprocal(p)"],
        [f"y.{n}()" for n in _UNARY],
        [_all("torch.{}(e)", _UNARY)],
        [f"a = {_kept('y', n)}.clone(); a.{n}_(); a" for n in _UNARY if n not in _NO_METHOD_INPLACE],
        [_all("torch.{}(y.detach().clone())", _FUNCTIONS_INPLACE)],
        [
            _all(
                "torch.{}(x.detach(), out=torch.empty(0))",
                [n for n in _UNARY if n not in ("positive", "relu")],
            )
        ],
        [f"torch.{n}(p)" for n in _POSITIVE],
        [f"p.{n}()" for n in _POSITIVE],
        [f"a = p.clone(); a.{n}_(); a" for n in _POSITIVE],
        [_all("torch.{}_(p.detach().clone())", _POSITIVE)],
        [_all("torch.{}(p.detach(), out=torch.empty(3, 4))", _POSITIVE)],
        [f"torch.{n}(u)" for n in _INSIDE],
        [f"u.{n}()" for n in _INSIDE],
        [f"a = {_kept('u', n)}.clone(); a.{n}_(); a" for n in _INSIDE],
        [_all("torch.{}_(u.detach().clone())", _INSIDE)],
        [f"torch.{n}(1 + p)" for n in ("acosh", "arccosh")],
        [f"(1 + p).{n}()" for n in ("acosh", "arccosh")],
        [f"a = 1 + p.detach(); a.{n}_(); a" for n in ("acosh", "arccosh")],
        [f"a = 1 + p.detach(); torch.{n}_(a); a" for n in ("acosh", "arccosh")],
        [_all("torch.{}(u.detach(), out=torch.empty(3, 4))", _INSIDE)],
        [_all("torch.{}(w)", [n for n in [*_UNARY, *_POSITIVE, *_INSIDE, "acosh"] if n != "deg2rad"])],
        [_all("torch.{}(i)", [n for n in [*_UNARY, *_POSITIVE, *_INSIDE, "acosh"] if n != "frac"])],
        [f"torch.{n}(w)" for n in _PREDICATES],
        [f"w.{n}()" for n in _PREDICATES],
        [f"torch.{n}(i)" for n in _PREDICATES],
        [f"torch.{n}({_kept('x', n)}, {_kept('z', n)})" for n in _BINARY],
        [f"{_kept('x', n)}.{n}({_kept('y', n)})" for n in _BINARY],
        [_all("torch.{}(w, v)", _BINARY)],
        [
            f"a = {_kept('y', n)}.clone(); a.{n}_({_kept('p', n)}); a"
            for n in _BINARY
            if n not in _NO_METHOD_INPLACE
        ],
        [_all("torch.{}(x.detach(), z.detach(), out=torch.empty(0))", _BINARY)],
        [_all("torch.{}(i, j)", [n for n in _BINARY if n not in ("hypot", "logaddexp", "logaddexp2")])],
        [f"torch.{n}(x, 2)" for n in _BINARY[:8] if n not in ("maximum", "minimum")],
        [
            f"torch.{n}(i, 2.5)"
            for n in ("add", "sub", "mul", "div", "remainder", "fmod", "floor_divide", "copysign")
        ],
        [f"torch.{n}(x, y)" for n in _COMPARE],
        [f"x.{n}(0.5)" for n in _COMPARE],
        [_all("torch.{}(w, v)", _COMPARE)],
        [_all("torch.{}(i, j)", _COMPARE)],
        [f"a = x.detach().clone(); a.{n}_(z.detach()); a" for n in _COMPARE],
        [_all("torch.{}(x, z, out=torch.empty(0, dtype=torch.bool))", _COMPARE)],
        [f"torch.{n}(c, k)" for n in _LOGICAL],
        [f"i.{n}(j)" for n in _LOGICAL],
        [_all("torch.{}(w, v)", _LOGICAL)],
        [f"a = c.clone(); a.{n}_(k); a" for n in _LOGICAL],
        [_all("torch.{}(c, k, out=torch.empty(0))", _LOGICAL)],
        [f"torch.{n}(i, j)" for n in _BITS],
        [f"c.{n}(k)" for n in _BITS],
        [f"a = i.clone(); a.{n}_(3); a" for n in _BITS],
        [f"torch.{n}(3, i)" for n in _BITS],
    )
    + """
    torch.logical_not(i)
    c.logical_not()
    torch.logical_not(w)
    a = c.clone(); a.logical_not_(); a
    torch.bitwise_not(i)
    c.bitwise_not()
    a = i.clone(); a.bitwise_not_(); a
    ~c
    torch.bitwise_left_shift(i, j)
    i.bitwise_left_shift(2)
    a = i.clone(); a.bitwise_left_shift_(j); a
    torch.bitwise_left_shift(torch.tensor([1, -1, 5, 9]), torch.tensor([63, 64, -1, 2]))
    torch.bitwise_left_shift(2, j)
    torch.bitwise_right_shift(i, j)
    i.bitwise_right_shift(2)
    a = i.clone(); a.bitwise_right_shift_(j); a
    torch.bitwise_right_shift(torch.tensor([1, -1, -5, 9]).char(), torch.tensor([7, 8, 1, -1]).char())
    i << 2
    i >> j
    a = i.clone(); a <<= 1; a
    torch.gcd(i, j)
    i.gcd(torch.tensor(6))
    a = i.clone(); a.gcd_(j); a
    a = i.clone(); torch.gcd_(a, j); a
    torch.gcd(i.int(), j.int())
    torch.lcm(i, j)
    i.lcm(torch.tensor(6))
    a = i.clone(); a.lcm_(j); a
    a = i.clone(); torch.lcm_(a, j); a
    # powers
    torch.pow(p, 2.5)
    torch.pow(p, y)
    p.pow(2)
    p.pow(0.5)
    torch.pow(2, y)
    torch.pow(i, 3)
    torch.pow(i, 0.5)
    a = p.clone(); a.pow_(3); a
    p ** y
    2 ** y
    o = torch.empty(0); torch.pow(p.detach(), 1.5, out=o); o
    torch.float_power(p, 2)
    torch.float_power(i, j)
    torch.float_power(2.5, y)
    p.float_power(y)
    a = p.double(); a.float_power_(2); a
    torch.ldexp(y, j)
    y.ldexp(j)
    torch.ldexp(y, p)
    torch.ldexp(i, j)
    a = y.clone(); a.ldexp_(j); a
    a = y.clone(); torch.ldexp_(a, j); a
    torch.frexp(y)
    torch.frexp(w)
    y.frexp()[0]
    torch.frexp(torch.tensor([1e-45, 1e-40, 2.0, 3.0]))
    # rounding
    torch.round(10 * y, decimals=1)
    torch.round(100 * y, decimals=-1)
    y.round(decimals=2)
    a = y.clone(); a.round_(decimals=1); a
    torch.div(y, p, rounding_mode="floor")
    torch.div(i, j, rounding_mode="trunc")
    y.div(0.3, rounding_mode="trunc")
    a = y.clone(); a.div_(p, rounding_mode="floor"); a
    torch.div(i, j, rounding_mode="floor")
    # arithmetic with more arguments
    torch.add(x, y, alpha=0.5)
    torch.add(i, j, alpha=2)
    x.add(2, alpha=3)
    torch.sub(x, y, alpha=2)
    x.sub(z, alpha=0.25)
    a = y.clone(); a.add_(x, alpha=0.5); a
    a = y.clone(); a.sub_(1.5, alpha=2); a
    torch.rsub(x, 2)
    torch.rsub(x, y, alpha=0.5)
    torch.addcmul(y, x, z, value=0.5)
    torch.addcmul(y, x, p)
    y.addcmul(x, p, value=2)
    a = y.clone(); a.addcmul_(x, p, value=-1); a
    torch.addcmul(i, j, j)
    o = torch.empty(0); torch.addcmul(y.detach(), x.detach(), z.detach(), out=o); o
    torch.addcdiv(y, x, p, value=0.5)
    torch.addcdiv(y, z, p)
    y.addcdiv(x, p)
    a = y.clone(); a.addcdiv_(x, p, value=2); a
    torch.lerp(x, y, 0.3)
    torch.lerp(x, y, p)
    x.lerp(y, torch.tensor(0.25))
    a = x.clone(); a.lerp_(y, 0.75); a
    torch.nan_to_num(w, nan=1.0, posinf=2.0, neginf=-3.0)
    w.nan_to_num(0.5)
    o = torch.empty(0); torch.nan_to_num(w, out=o); o
    # limits
    torch.clamp(y, -0.5, 0.5)
    torch.clamp(y, min=0.1)
    y.clamp(max=0.2)
    torch.clamp(y, z, p)
    torch.clamp(y, max=z)
    torch.clamp(i, -2, 3)
    torch.clamp(i, min=0.5)
    torch.clamp(w, -1, 1)
    a = y.clone(); a.clamp_(-0.5, 0.5); a
    a = y.clone(); torch.clamp_(a, min=0); a
    a = y.clone(); a.clamp_(min=z); a
    torch.clip(y, 0, 1)
    y.clip(-1, 0)
    a = y.clone(); a.clip_(0, 1); a
    a = y.clone(); torch.clip_(a, 0, 1); a
    torch.clamp_min(y, 0)
    y.clamp_min(z)
    a = y.clone(); a.clamp_min_(0.5); a
    a = y.clone(); torch.clamp_min_(a, 0.5); a
    torch.clamp_max(y, 0)
    y.clamp_max(z)
    a = y.clone(); a.clamp_max_(0.5); a
    a = y.clone(); torch.clamp_max_(a, 0.5); a
    o = torch.empty(0); torch.clamp(y.detach(), -0.5, 0.5, out=o); o
    # choices
    torch.where(c, x, y)
    torch.where(k, x, 0.5)
    torch.where(c, 1.0, z)
    x.where(c, y)
    torch.where(c)
    torch.where(c, 1, 2)
    o = torch.empty(0); torch.where(c, x.detach(), y.detach(), out=o); o
    torch.masked_fill(x, c, 2.0)
    x.masked_fill(k, torch.tensor(3.0))
    a = x.clone(); a.masked_fill_(c, -1); a
    torch.heaviside(x.detach(), z.detach())
    torch.heaviside(i, j)
    w.heaviside(torch.tensor(0.5))
    a = x.detach().clone(); a.heaviside_(z.detach()); a
    torch.fill(x, 2.5)
    torch.fill(x, s)
    torch.fill(i, 3)
    a = x.clone(); a.fill_(2); a
    a = x.clone(); torch.fill_(a, 2); a
    a = x.clone(); a.zero_(); a
    a = x.clone(); a.detach_(); a
    a = x.detach(); torch.detach_(a); a
    torch.nextafter(y, x)
    y.nextafter(p)
    torch.nextafter(w, v)
    a = y.detach().clone(); a.nextafter_(x.detach()); a
    torch.copysign(w, -1)
    torch.copysign(i, w[:4])
    a = z.clone(); torch.addmv_(a[:3], y, p[0]); a
    a = y.clone(); torch.celu_(a); a
    a = y.clone(); torch.selu_(a); a
    a = y.clone(); torch.index_put_(a, (torch.tensor([0, 2]),), z); a
    a = torch.zeros(2); torch.resize_as_(a, x).shape
    a = torch.arange(6.0); torch.as_strided_(a, (2, 2), (1, 2)); a
    a = y.detach().clone(); torch.conj_physical_(a); a
    y.hardshrink(0.3)
    y.prelu(s)
    [torch.e, torch.pi, torch.inf, torch.nan, torch.newaxis]
    # operators
    x + y
    1 - x
    x * 2.5
    3 / p
    i // j
    i % j
    x % 0.4
    -x
    +x
    abs(x)
    i & j
    i | j
    i ^ j
    x < y
    x >= 0
    x == z
    i != j
    # on the types
    torch.is_signed(x)
    torch.is_signed(i.to(torch.uint8))
    i.is_signed()
    torch.is_same_size(x, y)
    torch.is_same_size(x, z)
    x.is_same_size(i)
    torch.finfo(torch.float32).eps
    """,
    programs={
        "limits of the types": """
            floats = ("bits", "max", "min", "tiny", "smallest_normal", "resolution", "dtype")
            result = [
                [getattr(torch.finfo(t), n) for t in (torch.float16, torch.bfloat16, torch.float64) for n in floats],
                [getattr(torch.iinfo(t), n) for t in (torch.int8, torch.uint8, torch.int64) for n in floats[:3]],
                [repr(torch.finfo(t)) for t in (torch.float32, torch.bfloat16)],
                repr(torch.iinfo(torch.int16)),
            ]
        """.replace("\n            ", "\n"),
    },
    variants={
        "float64": _lines(
            [f"torch.{n}(x)" for n in _UNARY if n != "reciprocal"],
            [f"torch.{n}(p)" for n in [*_POSITIVE, "acosh", "reciprocal"]],
            [f"torch.{n}(u)" for n in _INSIDE],
            [f"torch.{n}(x, z)" for n in _BINARY if n != "floor_divide"],
            ["torch.nextafter(y, x)", "torch.frexp(y)", "torch.pow(p, y)", "torch.lerp(x, y, 0.3)"],
        ),
        "bfloat16": _lines(
            [f"torch.{n}(y)" for n in _UNARY],
            [f"torch.{n}(p)" for n in _POSITIVE],
            [f"torch.{n}(u)" for n in _INSIDE],
            [f"torch.{n}(x, z)" for n in _BINARY if n not in ("fmod", "floor_divide", "remainder")],
            [f"torch.{n}(x, z)" for n in _COMPARE],
            ["torch.nextafter(y, x)", "torch.frexp(y)", "torch.clamp(y, -0.5, 0.5)"],
        ),
        "float16": _lines([f"torch.{n}(y)" for n in ("asinh", "atan", "erfc", "sinh", "frac", "sign")]),
        "int64": _all("torch.{}(x)", [n for n in _UNARY if n not in ("frac", "reciprocal")]),
        "bool": _lines(
            ["torch.sgn(x)", "torch.exp(x)", "torch.atan(x)", "torch.add(x, y)", "torch.mul(x, y)"]
        ),
    },
    exact={
        "torch.rsqrt(p) [bfloat16]": "gradient 1.01, here 0.75",
    },
)
