"""Activations: pointwise ops of the framework, each with its own stable gradient and a decomposition into
primitives.

Where a branch of a `where` is not taken its operand is bounded first: an infinity there would turn into NaN
(0 * inf) in a second derivative.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from ..op import Attr, Op, Sample, declare
from ..types import TensorType
from .common import (
    FLOAT,
    REAL,
    Array,
    distinct,
    integers,
    needed,
    pointwise,
    strided,
    torch_name,
    uniform,
    values,
    wide,
)
from .pointwise_unary import erf

INF, NAN = math.inf, math.nan
SQRT_HALF = math.sqrt(0.5)
# The tanh form of GELU and its constant: Hendrycks and Gimpel, https://arxiv.org/abs/1606.08415.
TANH_SCALE, TANH_CUBE = math.sqrt(2.0 / math.pi), 0.044715


def _activation(
    name: str,
    doc: str,
    numpy: Callable[..., Any],
    vjp: Callable[..., Sequence[Any]],
    decompose: Callable[..., Any],
    saves: tuple[str, ...] = ("input:0",),
    attrs: Mapping[str, Attr] | None = None,
    kinds: frozenset[str] = FLOAT,
    samples: tuple[Sample, ...] = (),
    infer: Callable[..., TensorType] | None = None,
    grad_name: str = "",
) -> Op:
    return declare(
        Op(
            name,
            doc,
            infer=infer or pointwise(name, kinds),
            numpy=wide(numpy),
            attrs=attrs or {},
            level="composite",
            vjp=vjp,
            decompose=decompose,
            saves=saves,
            grad_name=grad_name or torch_name(name),
            samples=samples,
        )
    )


def _zero(F: Any, like: Any) -> Any:
    return F.constant(0.0, F.type_of(like).dtype)


EDGES = values([0.0, -0.0, 1.0, -1.0, 30.0, -30.0, 100.0, -100.0, INF, NAN])

_activation(
    "relu",
    "max(x, 0); NaN stays NaN. https://docs.pytorch.org/docs/stable/generated/torch.nn.ReLU.html",
    lambda x: np.maximum(x, x.dtype.type(0)),
    lambda F, ctx, dy: [F.where(F.le(ctx.outputs[0], 0), F.zeros_like(dy), dy)],
    lambda F, x: F.maximum(x, 0),
    ("output:0",),
    kinds=REAL - {"bool"},
    samples=(distinct((3, 5)), uniform((0, 3)), distinct(()), strided((3, 4)), integers((3, 4)), EDGES),
)


def _gelu_infer(x: TensorType, approximate: str) -> TensorType:
    if approximate not in ("none", "tanh"):
        raise RuntimeError("approximate argument must be either none or tanh.")
    return pointwise("gelu", FLOAT)(x)


def _gelu_numpy(x: Array, approximate: str) -> Array:
    if approximate == "tanh":
        return x * 0.5 * (1.0 + np.tanh(TANH_SCALE * (x + TANH_CUBE * x * x * x)))
    return x * 0.5 * (1.0 + erf(x * x.dtype.type(SQRT_HALF)))


def _gelu_inner(F: Any, x: Any) -> Any:
    return F.mul(F.add(x, F.mul(F.mul(F.mul(x, x), x), TANH_CUBE)), TANH_SCALE)


def _gelu_vjp(F: Any, ctx: Any, dy: Any) -> list[Any]:
    x = ctx.inputs[0]
    square = F.mul(x, x)
    if ctx.attrs["approximate"] == "tanh":
        t = F.tanh(_gelu_inner(F, x))
        inner_slope = F.mul(F.add(F.mul(square, 3.0 * TANH_CUBE), 1.0), TANH_SCALE)
        bell = F.mul(F.sub(1.0, F.mul(t, t)), F.mul(inner_slope, 0.5))
        half = F.mul(F.add(t, 1.0), 0.5)
    else:
        bell = F.mul(F.exp(F.mul(square, -0.5)), 1.0 / math.sqrt(2.0 * math.pi))
        half = F.mul(F.add(F.erf(F.mul(x, SQRT_HALF)), 1.0), 0.5)
    return [F.mul(dy, F.add(half, F.mul(x, bell)))]


def _gelu_decompose(F: Any, x: Any, approximate: str) -> Any:
    gate = F.tanh(_gelu_inner(F, x)) if approximate == "tanh" else F.erf(F.mul(x, SQRT_HALF))
    return F.mul(F.mul(x, 0.5), F.add(gate, 1.0))


_activation(
    "gelu",
    "x * Phi(x), Phi the normal distribution function; or its tanh form. https://arxiv.org/abs/1606.08415",
    _gelu_numpy,
    _gelu_vjp,
    _gelu_decompose,
    attrs={"approximate": Attr("str", "none")},
    infer=_gelu_infer,
    samples=(
        uniform((3, 5), between=(-2.0, 4.0)),
        uniform((3, 5), between=(-4.0, 2.0), approximate="tanh"),
        uniform((0,)),
        uniform((), approximate="tanh"),
        values([0.0, -0.0, 5.0, -5.0, 30.0, -30.0, NAN]),
        values([0.0, 5.0, -5.0, 30.0, -30.0, NAN], approximate="tanh"),
    ),
)


def _silu_vjp(F: Any, ctx: Any, dy: Any) -> list[Any]:
    x = ctx.inputs[0]
    gate = F.sigmoid(x)
    return [F.mul(dy, F.mul(gate, F.add(F.mul(x, F.sub(1.0, gate)), 1.0)))]


_activation(
    "silu",
    "x * sigmoid(x). https://docs.pytorch.org/docs/stable/generated/torch.nn.SiLU.html",
    lambda x: x / (x.dtype.type(1) + np.exp(-x)),
    _silu_vjp,
    lambda F, x: F.mul(x, F.sigmoid(x)),
    samples=(uniform((3, 5)), uniform((0, 2)), uniform(()), values([0.0, 30.0, -30.0, NAN])),
)

_activation(
    "leaky_relu",
    "x where positive, else negative_slope * x. "
    "https://docs.pytorch.org/docs/stable/generated/torch.nn.LeakyReLU.html",
    lambda x, negative_slope: np.where(x > 0, x, x * x.dtype.type(negative_slope)),
    lambda F, ctx, dy: [
        F.where(F.gt(ctx.inputs[0], 0.0), dy, F.mul(dy, ctx.attrs["negative_slope"])),
    ],
    lambda F, x, negative_slope: F.where(F.gt(x, 0.0), x, F.mul(x, negative_slope)),
    attrs={"negative_slope": Attr("float", 0.01)},
    samples=(distinct((3, 5)), distinct((3, 5), negative_slope=0.3), uniform((0,)), EDGES),
)


def _elu_vjp(F: Any, ctx: Any, dy: Any) -> list[Any]:
    x, alpha = ctx.inputs[0], ctx.attrs["alpha"]
    return [F.where(F.gt(x, 0.0), dy, F.mul(dy, F.mul(F.exp(F.clamp(x, max=0.0)), alpha)))]


_activation(
    "elu",
    "x where positive, else alpha * (exp(x) - 1). https://arxiv.org/abs/1511.07289",
    lambda x, alpha: np.where(x > 0, x, np.expm1(np.minimum(x, 0)) * x.dtype.type(alpha)),
    _elu_vjp,
    lambda F, x, alpha: F.where(F.gt(x, 0.0), x, F.mul(F.expm1(F.minimum(x, 0.0)), alpha)),
    attrs={"alpha": Attr("float", 1.0)},
    samples=(distinct((3, 5)), distinct((3, 5), alpha=1.7), uniform((0,)), EDGES),
)


def _softplus_numpy(x: Array, beta: float, threshold: float) -> Array:
    scaled = x * x.dtype.type(beta)
    soft = np.logaddexp(scaled, x.dtype.type(0)) / x.dtype.type(beta)
    return np.where(scaled > threshold, x, soft)


def _softplus_vjp(F: Any, ctx: Any, dy: Any) -> list[Any]:
    scaled = F.mul(ctx.inputs[0], ctx.attrs["beta"])
    return [F.where(F.gt(scaled, ctx.attrs["threshold"]), dy, F.mul(dy, F.sigmoid(scaled)))]


def _softplus_decompose(F: Any, x: Any, beta: float, threshold: float) -> Any:
    scaled = F.mul(x, beta)
    # log(1 + exp(s)) as max(s, 0) + log(1 + exp(-|s|)), which no float type overflows.
    soft = F.add(F.maximum(scaled, 0.0), F.log1p(F.exp(F.neg(F.abs(scaled)))))
    return F.where(F.gt(scaled, threshold), x, F.div(soft, beta))


_activation(
    "softplus",
    "log(1 + exp(beta * x)) / beta; x itself where beta * x exceeds the threshold. "
    "https://docs.pytorch.org/docs/stable/generated/torch.nn.Softplus.html",
    _softplus_numpy,
    _softplus_vjp,
    _softplus_decompose,
    attrs={"beta": Attr("float", 1.0), "threshold": Attr("float", 20.0)},
    samples=(
        uniform((3, 5)),
        uniform((3, 5), beta=2.5, threshold=3.3),
        uniform((0,)),
        values([0.0, 19.0, 21.0, -30.0, 200.0, -200.0, INF, -INF, NAN]),
    ),
)


def _clamp_infer(x: TensorType, min: float | None, max: float | None) -> TensorType:
    if min is None and max is None:
        raise RuntimeError("torch.clamp: At least one of 'min' or 'max' must not be None")
    return pointwise("clamp", REAL - {"bool"})(x)


def _clamp_numpy(x: Array, min: float | None, max: float | None) -> Array:
    if min is not None:
        x = np.maximum(x, np.asarray(min, x.dtype))
    return x if max is None else np.minimum(x, np.asarray(max, x.dtype))


def _clamp_vjp(F: Any, ctx: Any, dy: Any) -> list[Any]:
    x, low, high = ctx.inputs[0], ctx.attrs["min"], ctx.attrs["max"]
    tests = [F.ge(x, low)] if low is not None else []
    tests += [F.le(x, high)] if high is not None else []
    inside = F.logical_and(*tests) if len(tests) == 2 else tests[0]
    return [F.where(inside, dy, _zero(F, dy))]


def _clamp_decompose(F: Any, x: Any, min: float | None, max: float | None) -> Any:
    if min is not None:
        x = F.maximum(x, min)
    return x if max is None else F.minimum(x, max)


_activation(
    "clamp",
    "min(max(x, min), max), either bound optional; the gradient passes at the bounds themselves. "
    "https://docs.pytorch.org/docs/stable/generated/torch.clamp.html",
    _clamp_numpy,
    _clamp_vjp,
    _clamp_decompose,
    attrs={"min": Attr("scalar", None), "max": Attr("scalar", None)},
    infer=_clamp_infer,
    grad_name="ClampBackward1",
    samples=(
        distinct((3, 5), min=-0.5, max=0.75),
        distinct((3, 5), min=0.0),
        distinct((), max=0.0),
        distinct((3, 5), min=1.0, max=-1.0),
        uniform((0,), min=0.0),
        integers((3, 4), min=-2, max=3),
        values([NAN, INF, -INF, 1.0, 2.0], min=1.0, max=2.0),
    ),
)


def _celu_vjp(F: Any, ctx: Any, dy: Any) -> list[Any]:
    x = ctx.inputs[0]
    return [F.where(F.gt(x, 0.0), dy, F.mul(dy, F.exp(F.mul(F.clamp(x, max=0.0), 1.0 / ctx.attrs["alpha"]))))]


_activation(
    "celu",
    "x where positive, else alpha * (exp(x / alpha) - 1). https://arxiv.org/abs/1704.07483",
    lambda x, alpha: np.where(
        x > 0, x, np.expm1(np.minimum(x, 0) / x.dtype.type(alpha)) * x.dtype.type(alpha)
    ),
    _celu_vjp,
    lambda F, x, alpha: F.where(
        F.gt(x, 0.0), x, F.mul(F.expm1(F.mul(F.minimum(x, 0.0), 1.0 / alpha)), alpha)
    ),
    attrs={"alpha": Attr("float", 1.0)},
    samples=(distinct((3, 5)), distinct((3, 5), alpha=1.7), uniform((0,)), EDGES),
)


def _inside(F: Any, x: Any, bound: float) -> Any:
    return F.lt(F.abs(x), bound)


_activation(
    "hardsigmoid",
    "min(max(x + 3, 0), 6) / 6. https://docs.pytorch.org/docs/stable/generated/torch.nn.Hardsigmoid.html",
    lambda x: np.minimum(np.maximum(x + x.dtype.type(3), x.dtype.type(0)), x.dtype.type(6)) / x.dtype.type(6),
    lambda F, ctx, dy: [F.where(_inside(F, ctx.inputs[0], 3.0), F.mul(dy, 1.0 / 6.0), _zero(F, dy))],
    lambda F, x: F.div(F.clamp(F.add(x, 3.0), min=0.0, max=6.0), 6.0),
    samples=(distinct((5, 7)), uniform((0,)), uniform(()), EDGES),
)


def _hardswish_vjp(F: Any, ctx: Any, dy: Any) -> list[Any]:
    x = ctx.inputs[0]
    middle = F.mul(dy, F.add(F.mul(x, 1.0 / 3.0), 0.5))
    return [F.where(_inside(F, x, 3.0), middle, F.where(F.gt(x, 0.0), dy, _zero(F, dy)))]


_activation(
    "hardswish",
    "x * min(max(x + 3, 0), 6) / 6. https://arxiv.org/abs/1905.02244",
    lambda x: (
        x * np.minimum(np.maximum(x + x.dtype.type(3), x.dtype.type(0)), x.dtype.type(6)) / x.dtype.type(6)
    ),
    _hardswish_vjp,
    lambda F, x: F.div(F.mul(x, F.clamp(F.add(x, 3.0), min=0.0, max=6.0)), 6.0),
    samples=(distinct((5, 7)), uniform((0,)), uniform(()), values([0.0, 3.0, -3.0, 30.0, -30.0, NAN])),
)


def _mish_vjp(F: Any, ctx: Any, dy: Any) -> list[Any]:
    x = ctx.inputs[0]
    t = F.tanh(F.softplus(x))
    slope = F.mul(F.mul(x, F.sigmoid(x)), F.sub(1.0, F.mul(t, t)))
    return [F.mul(dy, F.add(t, slope))]


_activation(
    "mish",
    "x * tanh(softplus(x)). https://arxiv.org/abs/1908.08681",
    lambda x: x * np.tanh(np.logaddexp(x, x.dtype.type(0))),
    _mish_vjp,
    lambda F, x: F.mul(x, F.tanh(F.softplus(x))),
    samples=(uniform((3, 5)), uniform((0, 2)), uniform(()), values([0.0, 30.0, -30.0, NAN])),
)

_activation(
    "hardshrink",
    "x where |x| > lambd, else 0. https://docs.pytorch.org/docs/stable/generated/torch.nn.Hardshrink.html",
    lambda x, lambd: np.where(np.abs(x) <= lambd, x.dtype.type(0), x),
    lambda F, ctx, dy: [F.where(F.le(F.abs(ctx.inputs[0]), ctx.attrs["lambd"]), _zero(F, dy), dy)],
    lambda F, x, lambd: F.where(F.le(F.abs(x), lambd), _zero(F, x), x),
    attrs={"lambd": Attr("float", 0.5)},
    samples=(distinct((3, 5)), distinct((3, 5), lambd=1.2), uniform((0,)), EDGES),
)


def _softshrink_decompose(F: Any, x: Any, lambd: float) -> Any:
    below = F.where(F.lt(x, -lambd), F.add(x, lambd), F.mul(x, 0.0))  # NaN stays NaN
    return F.where(F.gt(x, lambd), F.sub(x, lambd), below)


def _softshrink_numpy(x: Array, lambd: float) -> Array:
    bound = x.dtype.type(lambd)
    return np.where(x > lambd, x - bound, np.where(x < -lambd, x + bound, x * x.dtype.type(0)))


_activation(
    "softshrink",
    "x moved towards 0 by lambd, and 0 within that. "
    "https://docs.pytorch.org/docs/stable/generated/torch.nn.Softshrink.html",
    _softshrink_numpy,
    lambda F, ctx, dy: [F.where(F.le(F.abs(ctx.inputs[0]), ctx.attrs["lambd"]), _zero(F, dy), dy)],
    _softshrink_decompose,
    attrs={"lambd": Attr("float", 0.5)},
    samples=(distinct((3, 5)), distinct((3, 5), lambd=1.2), uniform((0,)), EDGES),
)

_activation(
    "threshold",
    "x where it exceeds the threshold, else value. "
    "https://docs.pytorch.org/docs/stable/generated/torch.nn.Threshold.html",
    lambda x, threshold, value: np.where(x <= threshold, x.dtype.type(value), x),
    lambda F, ctx, dy: [F.where(F.le(ctx.inputs[0], ctx.attrs["threshold"]), _zero(F, dy), dy)],
    lambda F, x, threshold, value: F.where(F.le(x, threshold), F.constant(value, F.type_of(x).dtype), x),
    attrs={"threshold": Attr("float"), "value": Attr("float")},
    samples=(
        distinct((3, 5), threshold=0.3, value=-7.0),
        uniform((0,), threshold=0.0, value=0.0),
        values([0.0, 1.0, INF, -INF, NAN], threshold=0.5, value=2.0),
    ),
)


def _prelu_infer(x: TensorType, weight: TensorType) -> TensorType:
    result = pointwise("prelu", FLOAT)(x, weight)
    if result.shape != x.shape:
        raise RuntimeError("prelu: the weight must broadcast to the input's shape")
    return result


def _prelu_vjp(F: Any, ctx: Any, dy: Any) -> list[Any]:
    x, weight = ctx.inputs
    positive = F.gt(x, 0.0)
    return needed(
        ctx,
        lambda: F.where(positive, dy, F.mul(dy, weight)),
        lambda: F.where(positive, _zero(F, dy), F.mul(dy, x)),
    )


declare(
    Op(
        "prelu",
        "prelu(x, weight): x where positive, else weight * x; the weight broadcasts to x. "
        "https://arxiv.org/abs/1502.01852",
        infer=_prelu_infer,
        numpy=wide(lambda x, weight: np.where(x > 0, x, x * weight)),
        arity=(2, 2),
        level="composite",
        vjp=_prelu_vjp,
        decompose=lambda F, x, weight: F.where(F.gt(x, 0.0), x, F.mul(x, weight)),
        saves=("input:0", "input:1"),
        grad_name="PreluKernelBackward0",
        samples=(
            distinct((3, 5), (1,)),
            distinct((2, 3, 4), (3, 1)),
            uniform((0, 3), (3,)),
            values([0.0, -0.0, 1.0, -1.0, NAN], [0.25]),
        ),
    )
)
