"""Random tensors: `torch.rand`, `randn`, `randint`, `randperm`, `normal`, ..., and the in-place fills.

Eagerly they draw PyTorch's own CPU numbers (`generator.py`). In a compiled function the numbers are a function of
a counter's state instead (`counter_draws.py`).
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from . import capture
from .arguments import also_named, as_dim
from .autograd.grad_mode import no_grad
from .counter_draws import CounterDraws, counter_draws
from .creation import empty_like
from .dispatch import apply, op_named
from .functional_complex import view_as_complex, view_as_real
from .functional_shape import broadcast_shapes
from .generator import Generator, cpu_generator, default_generator, seed_devices
from .inplace import assign, finish
from .ir import dtypes
from .ir.dtypes import DType
from .memory_layout import is_contiguous
from .placement import default_gpu, device_of, gpu_under, is_on_device, on_gpu
from .promotion import convert, get_default_dtype
from .state import local
from .tensor import Array, Tensor, wrap


def manual_seed(seed: int) -> Generator:
    """Start the default generators' streams at `seed`, those of devices too; negative seeds wrap. Returns the CPU's."""
    seed_devices(seed)
    return default_generator.manual_seed(seed)


def seed() -> int:
    """Seed the default generator from the system's entropy; returns the seed."""
    return default_generator.seed()


def initial_seed() -> int:
    return default_generator.initial_seed()


def get_rng_state() -> Tensor:
    """The default generator's state, 5056 bytes as PyTorch lays them out."""
    return get_state(default_generator)


def set_rng_state(new_state: Tensor) -> None:
    set_state(default_generator, new_state)


def get_state(generator: Generator) -> Tensor:
    return wrap(generator.state_bytes())


def set_state(generator: Generator, new_state: Tensor) -> Generator:
    if not isinstance(new_state, Tensor) or new_state.dtype is not dtypes.u8:
        raise TypeError("RNG state must be a torch.ByteTensor")
    generator.set_state_bytes(new_state.numpy())
    return generator


Generator.get_state = get_state  # type: ignore[attr-defined]
Generator.set_state = set_state  # type: ignore[attr-defined]


@contextlib.contextmanager
def fork_rng(
    devices: Any = None,
    enabled: bool = True,
    _caller: str = "fork_rng",
    _devices_kw: str = "devices",
    device_type: str = "cuda",
) -> Iterator[None]:
    """Restore the default generator's state at the end of the block. Devices other than the CPU have none."""
    if not enabled:
        yield
        return
    saved = default_generator.state_bytes()
    try:
        yield
    finally:
        default_generator.set_state_bytes(saved)


@contextlib.contextmanager
def counter_based() -> Iterator[None]:
    """Inside, eager code draws the numbers that a compiled function would draw in its place: to compare the two."""
    before, local.counter_based = local.counter_based, True
    try:
        yield
    finally:
        local.counter_based = before


# Fills

# What a fill draws: numbers from a `Generator` for a count, or from `CounterDraws` for a shape.
Draw = Callable[[Any, Any], Any]


def _memory_order(target: Tensor, values: Array) -> Array:
    """Values drawn one after another, shaped like the target so that they lie in that order in its memory."""
    array = target._array
    assert array is not None
    if array.flags.c_contiguous:
        return values.reshape(array.shape)
    order = sorted(range(array.ndim), key=lambda d: -abs(array.strides[d]))
    return values.reshape([array.shape[d] for d in order]).transpose(np.argsort(order))


def fill(target: Tensor, name: str, generator: Generator | None, draw: Draw) -> Tensor:
    replaced = f"{name.capitalize()}Backward0"
    vmap = capture.vmap()
    if vmap is not None:
        vmap.fill(target, lambda lower: fill(lower, name, generator, draw))
        return target
    gpu = gpu_under(target)
    if capture.counter_based() or gpu is not None:
        with on_gpu(gpu):
            return assign(target, draw(counter_draws(generator), tuple(target.shape)), replaced=replaced)
    array = target._array
    assert array is not None
    values = draw(cpu_generator(generator), array.size)
    return assign(target, wrap(_memory_order(target, values)), replaced=replaced)


@also_named(**{"from": "from_"})
def uniform_(
    target: Tensor, from_: float = 0.0, to: float = 1.0, *, generator: Generator | None = None
) -> Tensor:
    """Fill with numbers in [from_, to); of complex numbers both parts."""
    if target.dtype.is_complex:
        uniform_(view_as_real(target), from_, to, generator=generator)
        return target
    return fill(target, "uniform", generator, lambda g, n: g.uniform(n, target.dtype, from_, to))


def normal_(
    target: Tensor, mean: float = 0.0, std: float = 1.0, *, generator: Generator | None = None
) -> Tensor:
    """Fill with normally distributed numbers; of complex ones both parts share the variance."""
    if target.dtype.is_complex:
        parts = view_as_real(target)
        normal_(parts, 0.0, std * math.sqrt(0.5), generator=generator)
        if mean:
            target.add_(mean)
        return target
    contiguous = capture.counter_based() or is_on_device(target) or is_contiguous(target)

    def draw(g: Any, count: Any) -> Any:
        return g.normal(count, target.dtype, float(mean), float(std), contiguous)

    return fill(target, "normal", generator, draw)


@also_named(**{"from": "from_"})
def random_(
    target: Tensor, from_: int | None = None, to: int | None = None, *, generator: Generator | None = None
) -> Tensor:
    """`random_()`: the dtype's whole non-negative range; `random_(to)`: [0, to); `random_(from, to)`."""

    def draw(g: Any, count: Any) -> Any:
        if from_ is None:
            return g.full_range(count, target.dtype)
        if to is None:
            return g.integers(count, target.dtype, 0, int(from_))
        return g.integers(count, target.dtype, int(from_), int(to))

    return fill(target, "random", generator, draw)


def bernoulli_(target: Tensor, p: float | Tensor = 0.5, *, generator: Generator | None = None) -> Tensor:
    """Fill with 1 with probability `p` (a number, or a tensor of one probability per element), else 0."""
    if isinstance(p, Tensor) and capture.vmap() is not None:
        # The tensor of probabilities may be another for each sample; the draws are those of `bernoulli_each`.
        target.copy_(rand(tuple(target.shape), dtype=p.dtype, generator=generator) < p)
        return target

    def draw(g: Any, count: Any) -> Any:
        if isinstance(p, Tensor):
            if isinstance(g, CounterDraws):
                return g.bernoulli_each(p.detach().expand(count)).to(target.dtype)
            each = np.broadcast_to(p.detach().numpy(), tuple(target.shape))
            return g.bernoulli_each(each.reshape(-1)).astype(target.dtype.numpy)
        return g.bernoulli(count, target.dtype, float(p))

    return fill(target, "bernoulli", generator, draw)


def exponential_(target: Tensor, lambd: float = 1.0, *, generator: Generator | None = None) -> Tensor:
    return fill(target, "exponential", generator, lambda g, n: g.exponential(n, target.dtype, lambd))


_DRAWN_FROM = op_named("drawn_from")


def drawn_from(result: Tensor, name: str, *parameters: Any) -> Tensor:
    """Drawn numbers with the history that PyTorch gives them: a gradient of 0 for what says how they are distributed."""
    for parameter in parameters:
        if isinstance(parameter, Tensor) and parameter.requires_grad:
            result = apply(_DRAWN_FROM, (parameter, result), {}, name)
    return result


# New tensors


def _sizes(size: Sequence[Any]) -> tuple[Any, ...]:
    """The shape from `rand(2, 3)` or `rand((2, 3))`."""
    if len(size) == 1 and isinstance(size[0], Sequence):
        size = size[0]
    shape = tuple(as_dim(s) for s in size)
    for s in shape:
        if type(s) is int and s < 0:
            raise RuntimeError(f"Trying to create tensor with negative dimension {s}: {list(shape)}")
    return shape


def _new(
    name: str,
    size: Sequence[Any],
    draw: Callable[[Any, Any, DType], Any],
    dtype: DType | None,
    generator: Generator | None,
    options: dict[str, Any],
) -> Tensor:
    """A fresh tensor of drawn values. `options`: out, layout, device, pin_memory and requires_grad, as
    PyTorch has."""
    out: Tensor | None = options.pop("out", None)
    gpu = default_gpu(options.pop("device", None))
    requires_grad = options.pop("requires_grad", False)
    for ignored in ("layout", "pin_memory", "memory_format"):
        options.pop(ignored, None)
    if options:
        raise TypeError(f"{name}() got an unexpected keyword argument '{next(iter(options))}'")
    shape = _sizes(size)
    wanted = out.dtype if out is not None and dtype is None else dtype or get_default_dtype()

    def drawn(sizes: tuple[int, ...]) -> Tensor:
        if capture.counter_based() or gpu is not None:
            with on_gpu(gpu):
                counted: Tensor = draw(counter_draws(generator), sizes, wanted)
            return counted
        return wrap(draw(cpu_generator(generator), math.prod(sizes), wanted).reshape(sizes))

    vmap = capture.vmap()
    made = drawn(shape) if vmap is None else vmap.draw(shape, drawn)
    if out is not None:
        return out.copy_(made)
    made.requires_grad = requires_grad
    return made


def _of_parts(
    draw: Callable[..., Tensor],
    size: Sequence[Any],
    dtype: DType,
    scale: float,
    generator: Generator | None,
    options: dict[str, Any],
) -> Tensor:
    """Complex numbers whose real and imaginary parts are drawn in turn."""
    requires_grad = options.pop("requires_grad", False)
    parts = draw(*_sizes(size), 2, generator=generator, dtype=dtype.to_real(), **options)
    made: Tensor = view_as_complex(parts * scale if scale != 1.0 else parts).clone()
    made.requires_grad = requires_grad
    return made


def rand(
    *size: Any, generator: Generator | None = None, dtype: DType | None = None, **options: Any
) -> Tensor:
    """Uniform numbers in [0, 1)."""
    size = options.pop("size", size)
    if dtype is not None and dtype.is_complex:
        return _of_parts(rand, size, dtype, 1.0, generator, options)
    return _new("rand", size, lambda g, n, d: g.uniform(n, d), dtype, generator, options)


def randn(
    *size: Any, generator: Generator | None = None, dtype: DType | None = None, **options: Any
) -> Tensor:
    """Numbers of the standard normal distribution; complex ones have variance 1 in all."""
    size = options.pop("size", size)
    if dtype is not None and dtype.is_complex:
        return _of_parts(randn, size, dtype, math.sqrt(0.5), generator, options)
    return _new("randn", size, lambda g, n, d: g.normal(n, d), dtype, generator, options)


def randint(
    low: int | None = None,
    high: Any = None,
    size: Sequence[int] | None = None,
    *,
    generator: Generator | None = None,
    dtype: DType | None = None,
    **options: Any,
) -> Tensor:
    """Integers in [low, high): `randint(high, size)` or `randint(low, high, size)`; int64 unless a dtype is
    given."""
    if isinstance(high, Sequence):
        low, high, size = 0, low, high
    elif high is None or low is None:
        low, high = 0, low if high is None else high
    if size is None or high is None:
        raise TypeError(
            "randint() received an invalid combination of arguments: expected (int high, tuple of ints size) "
            "or (int low, int high, tuple of ints size)"
        )
    out = options.get("out")
    chosen = dtype or (out.dtype if out is not None else dtypes.i64)

    def draw(g: Any, count: Any, wanted: DType) -> Any:
        return g.integers(count, wanted, int(low), int(high))

    return _new("randint", (tuple(size),), draw, chosen, generator, options)


def randperm(
    n: int, *, generator: Generator | None = None, dtype: DType | None = None, **options: Any
) -> Tensor:
    """The integers 0 .. n-1 in random order."""

    def draw(g: Any, count: Any, wanted: DType) -> Any:
        if isinstance(count, tuple):
            return convert(g.permutation(count), wanted)
        rows = [g.permutation(n) for _ in range(count // n if n else 0)]  # several: one per sample of a vmap
        return np.concatenate([np.zeros(0, np.int64), *rows]).astype(wanted.numpy)

    return _new("randperm", (n,), draw, dtype or dtypes.i64, generator, options)


def rand_like(input: Tensor, *, dtype: DType | None = None, **options: Any) -> Tensor:
    options.setdefault("device", device_of(input))
    return rand(tuple(input.shape), dtype=dtype or input.dtype, **options)


def randn_like(input: Tensor, *, dtype: DType | None = None, **options: Any) -> Tensor:
    options.setdefault("device", device_of(input))
    return randn(tuple(input.shape), dtype=dtype or input.dtype, **options)


def randint_like(
    input: Tensor,
    low: int | None = None,
    high: int | None = None,
    *,
    dtype: DType | None = None,
    **options: Any,
) -> Tensor:
    options.setdefault("device", device_of(input))
    return randint(low, high, tuple(input.shape), dtype=dtype or input.dtype, **options)


def normal(
    mean: float | Tensor,
    std: float | Tensor = 1.0,
    size: Sequence[int] | None = None,
    *,
    generator: Generator | None = None,
    **options: Any,
) -> Tensor:
    """Normal numbers with a mean and a deviation per element (tensors, broadcast), or the same for a whole
    `size`."""
    checked = isinstance(std, Tensor) and not capture.counter_based()
    if isinstance(std, Tensor) and checked and std.numel() and not bool((std >= 0).all()):
        raise RuntimeError("normal expects all elements of std >= 0.0")
    if not isinstance(mean, Tensor) and not isinstance(std, Tensor):
        if size is None:
            raise TypeError("normal() of two numbers needs a size")

        def draw(g: Any, count: Any, dtype: DType) -> Any:
            return g.normal(count, dtype, float(mean), float(std))

        return _new("normal", (tuple(size),), draw, options.pop("dtype", None), generator, options)
    out = options.pop("out", None)
    shapes = [tuple(t.shape) for t in (mean, std) if isinstance(t, Tensor)]
    first = mean if isinstance(mean, Tensor) else std
    assert isinstance(first, Tensor)
    with no_grad():
        shape = tuple(broadcast_shapes(*shapes))
        sample = randn(shape, dtype=first.dtype, generator=generator, device=device_of(first))
        result = sample * std + mean
    kind = 3 if len(shapes) == 2 else 1 if isinstance(mean, Tensor) else 2
    result = drawn_from(result, f"NormalBackward{kind}", mean, std)
    return result if out is None else out.copy_(result)


def bernoulli(
    input: Tensor, p: float | None = None, *, generator: Generator | None = None, out: Tensor | None = None
) -> Tensor:
    """0 or 1, one with the probability that stands in `input` (or with `p` everywhere)."""
    if p is not None:
        return finish(bernoulli_(empty_like(input), p, generator=generator), out, "bernoulli")
    made = bernoulli_(empty_like(input), input.detach(), generator=generator)
    return finish(drawn_from(made, "BernoulliBackward0", input), out, "bernoulli")


def multinomial(
    input: Tensor, num_samples: int, replacement: bool = False, *, generator: Generator | None = None,
    out: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """Indices drawn with probabilities proportional to each row of `input` (1-D or 2-D)."""
    return finish(_multinomial(input, num_samples, replacement, generator), out, "multinomial")


def _multinomial(input: Tensor, num_samples: int, replacement: bool, generator: Generator | None) -> Tensor:
    gpu = gpu_under(input)
    if capture.counter_based() or gpu is not None:
        with on_gpu(gpu):
            return counter_draws(generator).multinomial(input.detach(), num_samples, replacement)
    weights = np.asarray(input.detach().numpy())
    if weights.ndim not in (1, 2):
        raise RuntimeError("prob_dist must be 1 or 2 dim")
    if input.dtype not in (dtypes.f32, dtypes.f64):
        raise RuntimeError(
            f"multinomial only supports floating-point dtypes for input, got: {input.dtype.torch_name}"
        )
    if num_samples <= 0:
        raise RuntimeError("cannot sample n_sample <= 0 samples")
    if not replacement and num_samples > weights.shape[-1]:
        raise RuntimeError("cannot sample n_sample > prob_dist.size(-1) samples without replacement")
    if not (np.isfinite(weights).all() and (weights >= 0).all()):
        raise RuntimeError("probability tensor contains either `inf`, `nan` or element < 0")
    if (weights.sum(-1) == 0).any():
        raise RuntimeError("invalid multinomial distribution (sum of probabilities <= 0)")
    source = cpu_generator(generator)
    rows = weights.reshape(-1, weights.shape[-1])
    if replacement and num_samples > 1:
        found = np.stack([_with_replacement(row, num_samples, source) for row in rows])
    else:
        # The largest of p/q with q exponential: the first to arrive of competing Poisson processes.
        race = rows / source.exponential(rows.size, input.dtype).reshape(rows.shape)
        found = np.argsort(-race, axis=-1, kind="stable")[:, :num_samples]
    return wrap(np.ascontiguousarray(found.reshape(*weights.shape[:-1], num_samples), np.int64))


def _with_replacement(row: Array, count: int, source: Generator) -> Array:
    cumulative = np.cumsum(row, dtype=row.dtype)
    cumulative = cumulative / cumulative[-1]
    cumulative[-1] = 1
    return np.searchsorted(cumulative, source.uniform(count, dtypes.f64).astype(row.dtype), side="left")


for _method in (uniform_, normal_, random_, bernoulli_, exponential_, bernoulli, multinomial):
    setattr(Tensor, _method.__name__, _method)

__all__ = [
    "Generator", "bernoulli", "default_generator", "fork_rng", "get_rng_state", "initial_seed",
    "manual_seed", "multinomial", "normal", "rand", "rand_like", "randint", "randint_like", "randn",
    "randn_like", "randperm", "seed", "set_rng_state",
]  # fmt: skip
