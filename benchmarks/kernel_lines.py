"""What `kernels.py` times: functions written once for vitrify and torch (`lib` is either), with the bytes and operations
that they cannot do without, and JAX's way of saying the same where that is short.

Bytes count each operand and result once, as if all came from memory and went there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from typing import Any

import numpy as np

Function = Callable[..., Any]
Shape = tuple[int, ...]
F32, BF16, INT8 = "f32", "bf16", "int8"


@dataclass(frozen=True)
class Line:
    """`make(lib)` gives a function or Module and its arguments. `unit`: whose peak bounds `flops`. `tolerance` is of the
    largest element, against PyTorch's result. `onnx`: whether ONNX Runtime and OpenVINO run it as well. `training`:
    gradients are wanted. `jax` takes the arguments, then the weights, as JAX's arrays."""

    name: str
    make: Callable[[Any], tuple[Any, tuple[Any, ...]]]
    bytes: float
    flops: float = 0
    unit: str = F32
    tolerance: float = 1e-4
    onnx: bool = True
    training: bool = False
    jax: Function | None = None


@lru_cache(maxsize=16)
def _drawn(shape: Shape, seed: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)


def numbers(lib: Any, shape: Shape, seed: int = 0, dtype: str = "float32") -> Any:
    """The same random numbers for both libraries, and where they are float32 in the same memory, which must not be
    written to: which pages an array got makes a tenth of the time of what only reads it."""
    return lib.from_numpy(_drawn(shape, seed)).to(getattr(lib, dtype))


def classes(lib: Any, high: int, *shape: int) -> Any:
    return lib.from_numpy(np.random.default_rng(1).integers(0, high, shape))


def holding(lib: Any, function: Function, *weights: Any) -> Any:
    """A Module that calls the function with its arguments and these weights, which are its parameters."""

    class Holding(lib.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.weights = lib.nn.ParameterList([lib.nn.Parameter(w) for w in weights])

        def forward(self, *x: Any) -> Any:
            return function(*x, *self.weights)

    return Holding().eval()


def on(*shapes: Shape, dtype: str = "float32") -> Callable[[Callable[[Any], Function]], Callable[[Any], Any]]:
    """`make` of a line: the function that `of(lib)` gives, on numbers of these shapes."""

    def lined(of: Callable[[Any], Function]) -> Callable[[Any], Any]:
        return lambda lib: (of(lib), tuple(numbers(lib, s, i, dtype) for i, s in enumerate(shapes)))

    return lined


def with_weights(
    x: Shape, *weights: Shape, dtype: str = "float32"
) -> Callable[[Callable[[Any], Function]], Any]:
    """The same where all but the first are parameters, known before, and in memory of the library's own: what NumPy
    shares may change unseen, so vitrify would pack it in every call."""

    def lined(of: Callable[[Any], Function]) -> Callable[[Any], Any]:
        return lambda lib: (
            holding(lib, of(lib), *(numbers(lib, s, i + 1, dtype).clone() for i, s in enumerate(weights))),
            (numbers(lib, x, 0, dtype),),
        )

    return lined


def gradients(of: Callable[[Any], Function], *shapes: Shape, dtype: str = "float32") -> Callable[[Any], Any]:
    """`make` of a training line: the result's gradients by all operands, for a random gradient of the result."""

    def make(lib: Any) -> tuple[Function, tuple[Any, ...]]:
        leaves = [numbers(lib, s, i, dtype).requires_grad_() for i, s in enumerate(shapes)]
        function = of(lib)
        with lib.no_grad():
            y = function(*leaves)
        dy = numbers(lib, tuple(y.shape), 99, dtype)
        return lambda dy, *x: lib.autograd.grad(function(*x), x, dy), (dy, *leaves)

    return make


def _by_words(*shapes: Shape) -> int:
    return 4 * sum(map(prod, shapes))


# The tables.


def pointwise() -> Iterator[Line]:
    """4 M elements: chains, broadcasts, transposes; and functions on what the caches hold."""
    rows, width = 4096, 1024
    x, row, column = (rows, width), (width,), (rows, 1)
    n = rows * width

    def jax_gelu(x: Any) -> Any:
        import jax

        return jax.nn.gelu(x, approximate=False)

    yield Line("relu(x * y + z)", on(x, x, x)(lambda lib: lambda x, y, z: (x * y + z).relu()), 16 * n,
               jax=lambda x, y, z: (x * y + z).clip(0))  # fmt: skip
    yield Line("gelu(x + row), tanh",
               on(x, row)(lambda lib: lambda x, b: lib.nn.functional.gelu(x + b, approximate="tanh")),
               8 * n, tolerance=1e-3)  # fmt: skip
    yield Line("silu(x) * y", on(x, x)(lambda lib: lambda x, y: lib.nn.functional.silu(x) * y), 12 * n)
    yield Line(
        "sin(x) * exp(-x²) + column",
        on(x, column)(lambda lib: lambda x, c: x.sin() * (-x * x).exp() + c),
        8 * n,
    )
    yield Line("(x - row) * column + y", on(x, row, column, x)(lambda lib: lambda x, r, c, y: (x - r) * c + y), 12 * n,
               jax=lambda x, r, c, y: (x - r) * c + y)  # fmt: skip
    square = (2048, 2048)
    yield Line("x.t() + y, 2048", on(square, square)(lambda lib: lambda x, y: x.t() + y), 12 * n,
               jax=lambda x, y: x.T + y)  # fmt: skip
    yield Line("NCHW to NHWC, relu, 16x64x64x64",
               on((16, 64, 64, 64))(lambda lib: lambda x: x.relu().permute(0, 2, 3, 1).contiguous()), 8 * n)  # fmt: skip
    yield Line("gelu, 4 M", on((n,))(lambda lib: lib.nn.functional.gelu), 8 * n, jax=jax_gelu)
    yield Line("gelu, 64 k", on((1 << 16,))(lambda lib: lib.nn.functional.gelu), 8 << 16, jax=jax_gelu)
    yield Line("erf, 64 k", on((1 << 16,))(lambda lib: lib.erf), 8 << 16)
    yield Line("exp, 64 k", on((1 << 16,))(lambda lib: lib.exp), 8 << 16)
    yield Line("x + 1, 8 elements (the call)", on((8,))(lambda lib: lambda x: x + 1), 64, onnx=False)


def rows() -> Iterator[Line]:
    """Reductions of rows and columns, norms and losses; "step" has the gradients of all operands."""

    def jax_softmax(x: Any) -> Any:
        import jax

        return jax.nn.softmax(x, axis=1)

    for shape in ((8192, 1024), (1024, 4096), (128, 32000)):
        name = "x".join(map(str, shape))
        yield Line(
            f"softmax {name}",
            on(shape)(lambda lib: lambda x: x.softmax(1)),
            2 * _by_words(shape),
            jax=jax_softmax,
        )
        yield Line(
            f"log-softmax {name}", on(shape)(lambda lib: lambda x: x.log_softmax(1)), 2 * _by_words(shape)
        )
    x, w = (8192, 1024), (1024,)

    def layer_norm(lib: Any) -> Function:
        return lambda x, w, b: lib.nn.functional.layer_norm(x, w.shape, w, b)

    def rms_norm(lib: Any) -> Function:
        return lambda x, w: lib.nn.functional.rms_norm(x, w.shape, w)

    def batch_norm(lib: Any) -> Function:
        return lambda x, w, b: lib.nn.functional.batch_norm(x, None, None, w, b, True)

    def group_norm(lib: Any) -> Function:
        return lambda x, w, b: lib.nn.functional.group_norm(x, 32, w, b)

    def jax_norm(x: Any, w: Any, b: Any) -> Any:
        centred = x - x.mean(1, keepdims=True)
        return centred / ((centred * centred).mean(1, keepdims=True) + 1e-5) ** 0.5 * w + b

    yield Line("layer norm 8192x1024", with_weights(x, w, w)(layer_norm), 2 * _by_words(x), jax=jax_norm)
    yield Line("layer norm 8192x1024, step", gradients(layer_norm, x, w, w), 3 * _by_words(x), training=True)
    yield Line("RMS norm 8192x1024, step", gradients(rms_norm, x, w), 3 * _by_words(x), training=True)
    yield Line("batch norm 4096x256, step", gradients(batch_norm, (4096, 256), (256,), (256,)),
               3 * _by_words((4096, 256)), training=True, tolerance=1e-3)  # fmt: skip
    yield Line("group norm 8x64x32x32, step", gradients(group_norm, (8, 64, 32, 32), (64,), (64,)),
               3 * _by_words((8, 64, 32, 32)), training=True)  # fmt: skip
    for shape in ((8192, 1024), (32, 32000)):

        def loss(lib: Any, shape: Shape = shape) -> tuple[Function, tuple[Any, ...]]:
            def step(x: Any, y: Any) -> Any:
                return lib.autograd.grad(lib.nn.functional.cross_entropy(x, y), x)

            return step, (numbers(lib, shape).requires_grad_(), classes(lib, shape[1], shape[0]))

        yield Line(f"cross entropy {shape[0]}x{shape[1]}, step", loss, 2 * _by_words(shape), training=True)
    shape = (8192, 768)
    yield Line(
        "sum over rows 8192x768",
        on(shape)(lambda lib: lambda x: x.sum(0)),
        _by_words(shape),
        jax=lambda x: x.sum(0),
    )
    yield Line("sum of 4 M", on((1 << 22,))(lambda lib: lambda x: x.sum()), 4 << 22, jax=lambda x: x.sum())
    yield Line("argmax 8192x1024", on(x)(lambda lib: lambda x: x.argmax(1)), _by_words(x))
    yield Line("cumsum 1024x4096", on((1024, 4096))(lambda lib: lambda x: x.cumsum(1)), 8 << 22)

    def embedding(lib: Any) -> tuple[Function, tuple[Any, ...]]:
        def step(w: Any, tokens: Any, dy: Any) -> Any:
            return lib.autograd.grad(lib.nn.functional.embedding(tokens, w), w, dy)

        table = numbers(lib, (32000, 512)).requires_grad_()
        return step, (table, classes(lib, 32000, 8, 128), numbers(lib, (8, 128, 512), 1))

    yield Line("embedding 32000x512 of 8x128 tokens, step", embedding, _by_words((32000, 512)), training=True)
    yield Line("max pool 2x2, 16x64x112x112",
               on((16, 64, 112, 112))(lambda lib: lambda x: lib.nn.functional.max_pool2d(x, 2)),
               _by_words((16, 64, 112, 112)) * 5 // 4)  # fmt: skip
    yield Line(
        "AdamW, 32 parameters of 256x256", adamw, 7 * 32 * _by_words((256, 256)), training=True, onnx=False
    )


def adamw(lib: Any) -> tuple[Function, tuple[Any, ...]]:
    """One step of all parameters; the moments, the parameters and gradients are read, all but the last written."""
    parameters = [lib.nn.Parameter(numbers(lib, (256, 256), i).clone()) for i in range(32)]
    for i, p in enumerate(parameters):
        p.grad = numbers(lib, (256, 256), 100 + i)
    optimizer = lib.optim.AdamW(parameters, lr=1e-3)

    def step() -> Any:
        optimizer.step()
        return parameters[0]

    return step, ()


def _matmul(m: int, k: int, n: int, left: bool = False, right: bool = False, dtype: str = "float32") -> Line:
    """`left`, `right`: that operand is stored transposed."""

    def function(lib: Any) -> Function:
        return lambda a, b: (a.t() if left else a) @ (b.t() if right else b)

    a, b = (k, m) if left else (m, k), (n, k) if right else (k, n)
    short = dtype == "bfloat16"
    name = f"{'NT'[left]}{'NT'[right]} {m}" if m == k == n else f"{'NT'[left]}{'NT'[right]} {m}x{k}x{n}"
    return Line(
        name, on(a, b, dtype=dtype)(function), _by_words(a, b, (m, n)) / (2 if short else 1), 2 * m * k * n,
        BF16 if short else F32, 2e-2 if short else 1e-4, not short,
        jax=None if left or right or short else lambda a, b: a @ b,
    )  # fmt: skip


def _linear(m: int, k: int, n: int, dtype: str = "float32") -> Line:
    """A linear layer with a relu; its weights are known before."""

    def function(lib: Any) -> Function:
        return lambda x, w, b: lib.nn.functional.linear(x, w, b).relu()

    short = dtype == "bfloat16"
    return Line(
        f"linear {m}x{k}x{n}, bias, relu", with_weights((m, k), (n, k), (n,), dtype=dtype)(function),
        _by_words((m, k), (n, k), (m, n)) / (2 if short else 1), 2 * m * k * n, BF16 if short else F32,
        2e-2 if short else 1e-4, not short, jax=None if short else lambda x, w, b: (x @ w.T + b).clip(0),
    )  # fmt: skip


def matmul() -> Iterator[Line]:
    for size in (64, 128, 256, 512, 1024, 2048, 4096):
        yield _matmul(size, size, size)
    for left, right in ((False, True), (True, False), (True, True)):
        for size in (512, 2048):
            yield _matmul(size, size, size, left, right)
    batch = (64, 128, 64), (64, 64, 128)
    yield Line("64 of 128x64x128", on(*batch)(lambda lib: lib.matmul), _by_words(*batch, (64, 128, 128)),
               2 * 64 * 128 * 64 * 128, jax=lambda a, b: a @ b)  # fmt: skip
    yield _linear(32, 4096, 1024)
    yield _linear(1, 4096, 4096)
    yield _linear(8, 1024, 1024)
    yield _linear(1, 256, 256)


def short_numbers() -> Iterator[Line]:
    """bfloat16, PyTorch's by oneDNN; bytes, PyTorch's by `torch._int_mm`, sums in int32."""
    for size in (512, 1024, 2048):
        yield _matmul(size, size, size, False, True, "bfloat16")
    for m in (1, 32, 128):
        yield _linear(m, 1024, 1024, "bfloat16")
    bf16 = {"unit": BF16, "tolerance": 2e-2, "onnx": False}
    yield from (
        _short(line)
        for line in _conv("3x3 64 on 56", (1, 64, 56, 56), (64, 64, 3, 3), 1, 1, dtype="bfloat16")
    )
    yield from (
        _short(line) for line in _conv("1x1 64 on 56", (4, 256, 56, 56), (64, 256, 1, 1), dtype="bfloat16")
    )
    for shape in ((8192, 1024), (64, 512)):
        size = f"{shape[0]}x{shape[1]}"
        yield Line(f"softmax {size}, bf16", on(shape, dtype="bfloat16")(lambda lib: lambda x: x.softmax(1)),
                   _by_words(shape), **bf16)  # fmt: skip
    yield from (_short(line) for line in attention("bfloat16"))
    for m, k, n in ((512,) * 3, (1024,) * 3, (2048,) * 3, (32, 1024, 1024)):
        yield _integers(m, k, n, "uint8")
    for m, k, n in ((512,) * 3, (2048,) * 3, (32, 1024, 1024)):
        yield _integers(m, k, n, "int8")


def _integers(m: int, k: int, n: int, left: str) -> Line:
    """A product of `left` by int8; PyTorch has one of int8 only."""

    def product(lib: Any) -> tuple[Function, tuple[Any, ...]]:
        rng = np.random.default_rng(0)
        given = tuple(rng.integers(0, 127, s).astype(np.int8) for s in ((m, k), (k, n)))
        if hasattr(lib, "_int_mm"):
            return lib._int_mm, tuple(map(lib.from_numpy, given))
        words = lib.from_numpy(given[0].view(left)), lib.from_numpy(given[1])
        return lambda a, b: a.to(lib.int32) @ b.to(lib.int32), words

    moved = m * k + k * n + 4 * m * n
    return Line(f"{left} x int8 {m}x{k}x{n}", product, moved, 2 * m * k * n, INT8, 0.0, onnx=False)


def _short(line: Line) -> Line:
    name, half = line.name + ", bf16", line.bytes / 2
    return Line(name, line.make, half, line.flops, BF16, 2e-2, onnx=False, training=line.training)


def attention(dtype: str = "float32") -> Iterator[Line]:
    """[batch, heads, rows, size]; of causal rows half the products are counted. A step has both gradients' products."""

    def attend(lib: Any, causal: bool) -> Function:
        return lambda q, k, v: lib.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=causal)

    for shape in ((1, 12, 128, 64), (8, 8, 512, 64), (1, 16, 2048, 64), (1, 8, 2048, 128)):
        for causal in (False, True):

            def of(lib: Any, causal: bool = causal) -> Function:
                return attend(lib, causal)

            def in_jax(q: Any, k: Any, v: Any, causal: bool = causal) -> Any:
                import jax

                q, k, v = (x.transpose(0, 2, 1, 3) for x in (q, k, v))
                return jax.nn.dot_product_attention(q, k, v, is_causal=causal).transpose(0, 2, 1, 3)

            flops = 4 * prod(shape) * shape[-2] // (1 + causal)
            name = f"{'x'.join(map(str, shape))}{', causal' if causal else ''}"
            yield Line(
                name, on(shape, shape, shape, dtype=dtype)(of), 4 * _by_words(shape), flops, jax=in_jax
            )
            step = gradients(of, shape, shape, shape, dtype=dtype)
            yield Line(f"{name}, step", step, 8 * _by_words(shape), flops * 7 // 2, training=True)


def _conv(
    name: str, x: Shape, w: Shape, stride: int = 1, padding: int = 0, groups: int = 1, dtype: str = "float32"
) -> Iterator[Line]:
    """The layer with known weights, and each of its gradients alone."""
    space = tuple((size + 2 * padding - k) // stride + 1 for size, k in zip(x[2:], w[2:], strict=True))
    y = (x[0], w[0], *space)
    flops = 2 * prod(y) * prod(w[1:])
    moved = _by_words(x, w, y)
    how = {"stride": stride, "padding": padding, "groups": groups}

    def in_jax(a: Any, b: Any) -> Any:
        import jax

        return jax.lax.conv_general_dilated(
            a, b, (stride,) * 2, [(padding,) * 2] * 2, feature_group_count=groups
        )

    yield Line(name, with_weights(x, w, dtype=dtype)(lambda lib: lambda a, b: lib.nn.functional.conv2d(a, b, **how)),
               moved, flops, jax=in_jax)  # fmt: skip
    yield Line(f"{name}, input gradient",
               on(y, w, dtype=dtype)(lambda lib: lambda dy, b: lib.nn.grad.conv2d_input(x, b, dy, **how)),
               moved, flops, onnx=False)  # fmt: skip
    yield Line(f"{name}, weight gradient",
               on(x, y, dtype=dtype)(lambda lib: lambda a, dy: lib.nn.grad.conv2d_weight(a, w, dy, **how)),
               moved, flops, onnx=False, tolerance=1e-3)  # fmt: skip


def convolution() -> Iterator[Line]:
    """Layers as LeNet, ResNets and MobileNets have them. Winograd's way needs fewer operations than are counted."""
    yield from _conv("LeNet's second, batch 64", (64, 6, 14, 14), (16, 6, 5, 5))
    yield from _conv("3x3 64 on 56", (1, 64, 56, 56), (64, 64, 3, 3), 1, 1)
    yield from _conv("3x3 128 on 28, batch 4", (4, 128, 28, 28), (128, 128, 3, 3), 1, 1)
    yield from _conv("3x3 512 on 7, batch 4", (4, 512, 7, 7), (512, 512, 3, 3), 1, 1)
    yield from _conv("3x3/2 128 on 56, batch 4", (4, 128, 56, 56), (128, 128, 3, 3), 2, 1)
    yield from _conv("7x7/2 64 on 224, batch 2", (2, 3, 224, 224), (64, 3, 7, 7), 2, 3)
    yield from _conv("1x1 256 to 64 on 56, batch 4", (4, 256, 56, 56), (64, 256, 1, 1))
    yield from _conv("depthwise 3x3 96 on 56, batch 2", (2, 96, 56, 56), (96, 1, 3, 3), 1, 1, 96)
    yield from _conv("depthwise 3x3/2 144 on 56, batch 2", (2, 144, 56, 56), (144, 1, 3, 3), 2, 1, 144)


TABLES: dict[str, Callable[[], Iterator[Line]]] = {
    "pointwise": pointwise,
    "rows": rows,
    "matmul": matmul,
    "convolution": convolution,
    "attention": attention,
    "short numbers": short_numbers,
}
