"""Mixed precision: in which dtype a function computes while autocast is on.

Functions are marked where they are defined: `@lower_precision` (products, convolutions), `@full_precision`
(losses and others that need the range), `@widest` (all operands in the widest dtype among them). The lists are those of
https://docs.pytorch.org/docs/stable/amp.html#op-specific-behavior, which differ by device: the marks are the CPU's, and
the tables below say what is otherwise on CUDA. There the float32 list also names what a single op computes (`exp`,
`softmax`, `sum`): `dispatch.apply` asks `cast_operands` about those. What a marked function calls is not cast again, nor
is what a backward pass computes. `amp/` has the public names.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from . import capture, dispatch
from .ir import dtypes
from .ir.dtypes import DType
from .ir.op import Op
from .promotion import convert
from .runtime.gpu.arrays import DeviceArray
from .state import local
from .tensor import Tensor

F = TypeVar("F", bound=Callable[..., Any])
DEVICES = ("cpu", "cuda")
CPU, CUDA = DEVICES
# Of the functions marked `@full_precision`: those that CUDA's list has too, and those that are `@widest` there.
FLOAT32_ON_CUDA = frozenset((
    "binary_cross_entropy_with_logits", "cdist", "cosine_embedding_loss", "cross_entropy", "hinge_embedding_loss",
    "huber_loss", "kl_div",
    "l1_loss", "margin_ranking_loss", "matrix_norm", "mse_loss", "multi_margin_loss", "multilabel_margin_loss",
    "nll_loss", "poisson_nll_loss", "prod", "smooth_l1_loss", "soft_margin_loss", "triplet_margin_loss",
))  # fmt: skip
WIDEST_ON_CUDA = frozenset(("grid_sample", "grid_sampler"))
# Ops that compute in float32 on CUDA, where nothing around them is marked.
FLOAT32_OPS = frozenset((
    "acos", "asin", "cosh", "cumprod", "cumsum", "erfinv", "exp", "expm1", "log", "log1p", "log_softmax", "nll_loss",
    "pow", "prod", "reciprocal", "rsqrt", "sinh", "softmax", "softplus", "sum", "tan",
))  # fmt: skip
UNSAFE = (
    "torch.nn.functional.binary_cross_entropy and torch.nn.BCELoss are unsafe to autocast.\n"
    "Many models use a sigmoid layer right before the binary cross entropy layer.\n"
    "In this case, combine the two layers using torch.nn.functional.binary_cross_entropy_with_logits\n"
    "or torch.nn.BCEWithLogitsLoss.  binary_cross_entropy_with_logits and BCEWithLogits are\n"
    "safe to autocast."
)
Choose = Callable[[DType, Any], DType | None]


@dataclass
class AutocastState:
    """This thread's settings. `enabled` and `dtype` are by device type."""

    enabled: dict[str, bool] = field(default_factory=lambda: dict.fromkeys(DEVICES, False))
    dtype: dict[str, DType] = field(default_factory=lambda: {"cpu": dtypes.bf16, "cuda": dtypes.f16})
    cache_enabled: bool = True
    nesting: int = 0
    # Weights in the lower precision, for as long as the outermost region lasts: id -> (weight, converted).
    cache: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)
    # How many of the regions were entered inside the function being compiled: what holds there is part of its code.
    traced: int = 0


def state() -> AutocastState:
    """The settings of this thread."""
    found = local.autocast
    if found is None:
        found = local.autocast = AutocastState()
    return found


def ambient(device: str = CPU) -> DType | None:
    """The dtype that functions on the device cast to, None where autocast is off."""
    found = local.autocast
    return found.dtype[device] if found is not None and found.enabled[device] else None


_OFF = tuple(str(None) for _ in DEVICES)


def _ambient_of_both() -> tuple[str, ...]:
    """The names, which a guard compares by value in each call: quickly where autocast is off."""
    found = local.autocast
    if found is None or not any(found.enabled.values()):
        return _OFF
    return tuple(str(ambient(device)) for device in DEVICES)


def _active(device: str) -> DType | None:
    dtype = ambient(device)
    if local.backend.capture is not None and (local.autocast is None or not local.autocast.traced):
        capture.guard_value(_ambient_of_both, "the dtype of autocast")
    return dtype


def _device_type(given: Any) -> str:
    """Where a function with these arguments computes; one with none that is a tensor, on the CPU."""
    tracer = local.backend.capture
    if tracer is not None and tracer.gpu is not None:
        return CUDA
    for value in given:
        if isinstance(value, Tensor):
            if type(value._array) is DeviceArray:
                return CUDA
        elif type(value) in (list, tuple) and value and _device_type(value) == CUDA:
            return CUDA
    return CPU


def _eligible(value: Any) -> bool:
    return isinstance(value, Tensor) and value.dtype.is_floating_point and value.dtype is not dtypes.f64


def _cast(value: Any, dtype: DType) -> Any:
    """Tensors of up to 32 bits in the dtype, also in lists and tuples."""
    if isinstance(value, Tensor):
        return _cast_tensor(value, dtype) if _eligible(value) and value.dtype is not dtype else value
    if type(value) in (list, tuple):
        return type(value)(_cast(v, dtype) for v in value)
    if isinstance(value, tuple) and hasattr(value, "_fields"):  # weights of a layer
        return type(value)(*[_cast(v, dtype) for v in value])
    return value


def _cast_tensor(value: Tensor, dtype: DType) -> Tensor:
    settings = state()
    # While a function is traced, regions in it have a cache; one around it would outlive the trace.
    weight = (
        settings.cache_enabled
        and local.grad_enabled
        and (local.backend.capture is None or settings.traced == settings.nesting)
        and value.requires_grad
        and value.dtype is dtypes.f32
        and value._base is None
        and value.is_leaf
    )
    if not weight:
        return convert(value, dtype)
    known = settings.cache.get(id(value))
    if known is None or known[1].dtype is not dtype:
        known = settings.cache[id(value)] = value, convert(value, dtype)
    return known[1]


def _marked(function: F, choose: Choose | None, on_cuda: Choose | None) -> F:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        if local.autocast is None and local.backend.capture is None:
            return function(*args, **kwargs)
        device = _device_type((*args, *kwargs.values()))
        dtype = _active(device)
        if dtype is None:
            return function(*args, **kwargs)
        cast: Any = args, kwargs
        rule = choose if device == CPU else on_cuda
        if rule is not None:
            wanted = rule(dtype, (args, kwargs.values()))
            if wanted is None:
                return function(*args, **kwargs)
            cast = [_cast(a, wanted) for a in args], {k: _cast(v, wanted) for k, v in kwargs.items()}
        enabled = local.autocast.enabled
        enabled[device] = False
        local.autocast.traced += 1
        try:
            return function(*cast[0], **cast[1])
        finally:
            local.autocast.traced -= 1
            enabled[device] = True

    return wrapper  # type: ignore[return-value]


def _in_lower(dtype: DType, arguments: Any) -> DType:
    return dtype


def _in_float32(dtype: DType, arguments: Any) -> DType:
    return dtypes.f32


def _as_given(dtype: DType, arguments: Any) -> None:
    return None


def _refused(dtype: DType, arguments: Any) -> DType:
    raise RuntimeError(UNSAFE)


def lower_precision(function: F) -> F:
    """The function computes in autocast's dtype."""
    return _marked(function, _in_lower, _in_lower)


def full_precision(function: F) -> F:
    """The function computes in float32; on CUDA as its list there says."""
    name = function.__name__
    on_cuda: Choose = _as_given
    if name in FLOAT32_ON_CUDA:
        on_cuda = _in_float32
    elif name in WIDEST_ON_CUDA:
        on_cuda = _widest
    elif name == "binary_cross_entropy":
        on_cuda = _refused
    return _marked(function, _in_float32, on_cuda)


def full_precision_on_cuda(function: F) -> F:
    """The function computes in float32 on CUDA, and as it is given on the CPU."""
    return _marked(function, _as_given, _in_float32)


def cast_operands(op: Op, operands: Sequence[Tensor]) -> Sequence[Tensor]:
    """What an op that is applied outside of marked functions computes with."""
    settings = local.autocast
    if op.name not in FLOAT32_OPS or local.walks or not settings.enabled[CUDA]:
        return operands
    if _device_type(operands) != CUDA:
        return operands
    return [_cast(t, dtypes.f32) for t in operands]


dispatch.autocast_operands = cast_operands


def _widest(dtype: DType, arguments: Any) -> DType:
    for given in arguments:
        for value in given:
            for one in value if isinstance(value, list | tuple) else (value,):
                if _eligible(one) and one.dtype is dtypes.f32:
                    return dtypes.f32
    return dtype


def uncast(function: F) -> F:
    """The function computes in its operands' dtypes, though what it is made of would cast."""
    return _marked(function, None, None)


def widest(function: F) -> F:
    """The function computes in float32 if one of its operands is float32, else in autocast's dtype."""
    return _marked(function, _widest, _widest)
