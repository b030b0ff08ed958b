"""What the random references draw: name -> (seed, function of a torch-like module). Read by the maker and by
the test.

Each case starts from `manual_seed(seed)`; the function gets the module (PyTorch or vitrify) and returns a
list of tensors. Large results are given by their first and last elements and a sum, to keep the file small.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Case = tuple[int, Callable[[Any], list[Any]]]

SIZES = (1, 5, 15, 16, 17, 31, 32, 33, 100, 5000)


def cases() -> dict[str, Case]:
    found: dict[str, Case] = {}
    for size in SIZES:
        for dtype in ("float32", "float64", "float16", "bfloat16"):
            found[f"rand_{dtype}_{size}"] = (
                size,
                lambda t, n=size, d=dtype: [t.rand(n, dtype=getattr(t, d)).double()],
            )
            found[f"randn_{dtype}_{size}"] = (
                size,
                lambda t, n=size, d=dtype: [t.randn(n, dtype=getattr(t, d)).double()],
            )
    found |= {
        "uniform_range": (1, lambda t: [t.empty(1000).uniform_(-0.3, 1.6)]),
        "uniform_range_double": (1, lambda t: [t.empty(1000, dtype=t.float64).uniform_(-0.3, 1.6)]),
        "uniform_range_half": (1, lambda t: [t.empty(1000, dtype=t.float16).uniform_(-0.3, 1.6).float()]),
        "normal_parameters": (2, lambda t: [t.empty(100).normal_(0.3, 0.7), t.empty(7).normal_(0.3, 0.7)]),
        "normal_parameters_double": (2, lambda t: [t.empty(100, dtype=t.float64).normal_(0.3, 0.7)]),
        "normal_cached_second": (3, lambda t: [t.randn(3), t.randn(2), t.rand(1), t.randn(1), t.randn(20)]),
        "normal_transposed": (3, lambda t: [t.empty(6, 5).t().normal_().contiguous()]),
        "uniform_transposed": (3, lambda t: [t.empty(6, 5).t().uniform_().contiguous()]),
        "uniform_strided": (3, lambda t: [t.zeros(6, 10)[:, ::2].uniform_().contiguous()]),
        "uniform_permuted": (3, lambda t: [t.zeros(2, 3, 4).permute(2, 0, 1).uniform_().contiguous()]),
        "randint": (4, lambda t: [t.randint(10, (50,)), t.randint(-5, 100, (3, 4))]),
        "randint_types": (
            4,
            lambda t: [
                t.randint(0, 100, (20,), dtype=getattr(t, d)).double()
                for d in ("uint8", "int8", "int16", "int32", "int64", "float32", "float64", "float16")
            ],
        ),
        "randint_ranges": (
            5,
            lambda t: [
                t.randint(0, high, (20,)) for high in (1, 2, (1 << 28) - 1, 1 << 28, 1 << 32, 1 << 62)
            ],
        ),
        "randint_signed": (5, lambda t: [t.randint(-(1 << 62), 1 << 62, (20,))]),
        "random_full_range": (
            6,
            lambda t: [
                t.zeros(20, dtype=getattr(t, d)).random_().double()
                for d in ("bool", "uint8", "int8", "int16", "int32", "float16", "float32", "float64")
            ],
        ),
        "random_full_range_int64": (6, lambda t: [t.zeros(20, dtype=t.int64).random_()]),
        "random_to": (6, lambda t: [t.zeros(20).random_(7), t.zeros(20, dtype=t.int64).random_(3, 9)]),
        "randperm": (7, lambda t: [t.randperm(n) for n in (0, 1, 2, 17, 1000)]),
        "bernoulli": (
            8,
            lambda t: [t.empty(50).bernoulli_(0.3), t.bernoulli(t.full((20,), 0.7)), t.rand(1)],
        ),
        "bernoulli_double": (8, lambda t: [t.bernoulli(t.full((20,), 0.7, dtype=t.float64))]),
        "normal_of_tensors": (
            9,
            lambda t: [
                t.normal(t.arange(4.0), t.full((4,), 2.0)),
                t.normal(1.0, t.full((20,), 2.0)),
                t.normal(t.arange(20.0), 0.5),
                t.normal(2.0, 3.0, (5,)),
                t.normal(t.zeros(3, 1), t.ones(1, 6)),
            ],
        ),
        "like": (
            10,
            lambda t: [t.rand_like(t.zeros(3, 4)), t.randn_like(t.zeros(20)), t.randint_like(t.zeros(5), 9)],
        ),
        "mixed_stream": (
            11,
            lambda t: [t.rand(3), t.randn(20), t.randperm(5), t.randn(3), t.randint(100, (4,)), t.rand(2, 2)],
        ),
        "multinomial_replacement": (
            12,
            lambda t: [t.multinomial(t.tensor([0.1, 0.5, 0.2, 0.2], dtype=t.float64), 30, replacement=True)],
        ),
        "multinomial": (12, lambda t: [t.multinomial(t.tensor([0.1, 0.5, 0.2, 0.2], dtype=t.float64), 4)]),
        "negative_seed": (-1, lambda t: [t.rand(5)]),
        "large_seed": ((1 << 64) - 3, lambda t: [t.rand(5)]),
        "seed_of_33_bits": ((1 << 32) + 5, lambda t: [t.rand(5)]),
        "state": (13, lambda t: [t.get_rng_state()]),
        "state_after_draws": (13, lambda t: [t.rand(700), t.randn(3), t.get_rng_state()][2:]),
    }
    return found


def stored(array: Any) -> Any:
    """What of a result is kept: all of it, or of a large one both ends."""
    flat = array.reshape(-1)
    return flat if flat.size <= 1200 else flat[[*range(40), *range(-40, 0)]]
