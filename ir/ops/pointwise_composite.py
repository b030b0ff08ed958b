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
