"""Which products of float32 a GPU's tensor cores may round to tf32, 10 bits behind the point.

As in PyTorch: matrix products where `set_float32_matmul_precision` or `backends.cuda.matmul.allow_tf32` says so, which
they do not by default; convolutions by default, unless `backends.cudnn.allow_tf32` is False.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from .backends import cudnn
from .runtime.compiled_graph import CompileOptions
from .settings import get_float32_matmul_precision

_off = [0]


@contextmanager
def without_tf32() -> Iterator[None]:
    """Nothing is rounded inside the block, whatever is set."""
    _off[0] += 1
    try:
        yield
    finally:
        _off[0] -= 1


def tf32_products() -> tuple[str, ...]:
    """Of "matmul" and "conv", those that may be rounded, by what is set now."""
    if _off[0]:
        return ()
    allowed = {"matmul": get_float32_matmul_precision() != "highest", "conv": cudnn.allow_tf32}
    return tuple(name for name, rounds in allowed.items() if rounds)


def with_tf32(options: CompileOptions, products: tuple[str, ...]) -> CompileOptions:
    """The options for a device."""
    return replace(options, lower=replace(options.lower, tf32=products))
