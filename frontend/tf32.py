"""Which products of float32 a GPU's tensor cores may round to tf32, 10 bits behind the point.

As in PyTorch: matrix products where `set_float32_matmul_precision` or `backends.cuda.matmul.allow_tf32` says so, which
they do not by default; convolutions by default, unless `backends.cudnn.allow_tf32` is False.
"""

from __future__ import annotations

from dataclasses import replace

from .backends import cudnn
from .runtime.compiled_graph import CompileOptions
from .settings import get_float32_matmul_precision


def tf32_products() -> tuple[str, ...]:
    """Of "matmul" and "conv", those that may be rounded, by what is set now."""
    allowed = {"matmul": get_float32_matmul_precision() != "highest", "conv": cudnn.allow_tf32}
    return tuple(name for name, rounds in allowed.items() if rounds)


def with_tf32(options: CompileOptions, products: tuple[str, ...]) -> CompileOptions:
    """The options for a device."""
    return replace(options, lower=replace(options.lower, tf32=products))
