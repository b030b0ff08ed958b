"""What `gpu.py` times: functions written once for both libraries (`lib` is vitrify or torch), with the bytes and
operations that they cannot do without.

`tiny` sizes are for running through it all in the simulator; nothing is timed there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from model_networks import gpt, resnet18

F32, TF32, BF16 = "f32", "tf32", "bf16"
Function = Callable[..., Any]


@dataclass(frozen=True)
class Line:
    """`make(lib)` gives a function and its arguments, on the device. `bytes`: what must be read and written at least;
    `flops`: the operations, on the units of kind `unit`. `goal`: (the faster of which others, or "copy" for the copy
    bandwidth, or "µs"; what is to be reached). `tolerance` is of the largest element, against PyTorch's result.
    """

    name: str
    make: Callable[[Any], tuple[Function, tuple[Any, ...]]]
    bytes: float = 0
    flops: float = 0
    unit: str = F32
    goal: tuple[str, float] | None = None
    tolerance: float = 1e-4
    training: bool = False  # gradients are wanted
    tf32: bool = False


COPY, EAGER, COMPILED, MICROSECONDS = "copy", "PyTorch", "torch.compile", "µs"


def numbers(lib: Any, *shape: int, dtype: str = "float32", scale: float = 1.0, seed: int = 0) -> Any:
    """The same random numbers for both libraries, on the device."""
    drawn = np.random.default_rng(seed).standard_normal(prod(shape), dtype=np.float32) * np.float32(scale)
    return lib.from_numpy(drawn.reshape(shape)).cuda().to(getattr(lib, dtype))


def classes(lib: Any, high: int, *shape: int) -> Any:
    return lib.from_numpy(np.random.default_rng(1).integers(0, high, shape)).cuda()


def copy_lines(tiny: bool) -> Iterator[Line]:
    """The measure of the memory's speed: a copy on the device, bytes read and bytes written."""
    count = 1 << 10 if tiny else 1 << 28

    def make(lib: Any) -> tuple[Function, tuple[Any, ...]]:
        return lambda target, x: target.copy_(x), (
            lib.empty(count, device="cuda"),
            numbers(lib, 1 << 10).repeat(count >> 10),
        )

    yield Line("copy, 1 GiB", make, bytes=8 * count, goal=(EAGER, 0.95))


def pointwise_lines(tiny: bool) -> Iterator[Line]:
    rows, width = (8, 64) if tiny else (16384, 8192)
    count = rows * width

    def on(function: Callable[[Any], Function], dtype: str, *more: tuple[int, ...]) -> Callable[[Any], Any]:
        shapes = ((rows, width), *more)
        return lambda lib: (
            function(lib),
            tuple(numbers(lib, *s, dtype=dtype, seed=i) for i, s in enumerate(shapes)),
        )

    def gelu(lib: Any) -> Function:
        return lambda x, b: lib.nn.functional.gelu(x + b, approximate="tanh")

    def gates(lib: Any) -> Function:
        return lambda x, y: lib.nn.functional.silu(x) * y

    goal = (COPY, 0.9)
    yield Line(f"relu(x + y), f32 {rows}x{width}", on(lambda lib: lambda x, y: (x + y).relu(), "float32", (rows, width)),
               12 * count, goal=goal)  # fmt: skip
    yield Line(f"gelu(x + b), f32 {rows}x{width}", on(gelu, "float32", (width,)), 8 * count, goal=goal)
    yield Line(f"gelu(x + b), bf16 {rows}x{width}", on(gelu, "bfloat16", (width,)), 4 * count, goal=goal,
               tolerance=1e-2)  # fmt: skip
    yield Line(f"silu(x) * y, bf16 {rows}x{width}", on(gates, "bfloat16", (rows, width)), 6 * count, goal=goal,
               tolerance=1e-2)  # fmt: skip
    yield Line(f"x.t() + y, f32 {width}x{width}",
               lambda lib: (lambda x, y: x.t() + y, tuple(numbers(lib, width, width, seed=i) for i in (0, 1))),
               12 * width * width, goal=goal)  # fmt: skip


def row_lines(tiny: bool) -> Iterator[Line]:
    goal = (COPY, 0.9)

    def softmax(rows: int, width: int, dtype: str, size: int, tolerance: float) -> Line:
        def make(lib: Any) -> tuple[Function, tuple[Any, ...]]:
            return lambda x: x.softmax(1), (numbers(lib, rows, width, dtype=dtype),)

        name = f"softmax, {'bf16' if size == 2 else 'f32'} {rows}x{width}"
        return Line(name, make, 2 * size * rows * width, goal=goal, tolerance=tolerance)

    yield softmax(*((8, 40) if tiny else (65536, 1024)), "float32", 4, 1e-5)
    yield softmax(*((2, 2100) if tiny else (4096, 50304)), "bfloat16", 2, 1e-2)
    rows, width = (8, 48) if tiny else (65536, 1024)

    def norm(lib: Any) -> tuple[Function, tuple[Any, ...]]:
        weight, bias = numbers(lib, width, seed=1), numbers(lib, width, seed=2)
        function = lib.nn.functional.layer_norm
        return lambda x, w, b: function(x, (width,), w, b), (numbers(lib, rows, width), weight, bias)

    def norm_step(lib: Any) -> tuple[Function, tuple[Any, ...]]:
        """Forward, and the gradients of input, weight and bias."""
        leaves = [
            numbers(lib, *s, seed=i).requires_grad_()
            for i, s in enumerate(((rows, width), (width,), (width,)))
        ]
        function = lib.nn.functional.layer_norm

        def run(dy: Any) -> Any:
            for leaf in leaves:
                leaf.grad = None
            function(leaves[0], (width,), *leaves[1:]).backward(dy)
            return leaves[0].grad

        return run, (numbers(lib, rows, width, seed=5),)

    yield Line(f"layer norm, f32 {rows}x{width}", norm, 8 * rows * width, goal=goal)
    # Forward reads x and backward x and dy, and writes dx; nobody asked for y.
    yield Line(
        f"layer norm's gradients, f32 {rows}x{width}", norm_step, 12 * rows * width, goal=goal, training=True
    )
    yield Line(
        f"sum of columns, f32 {rows}x{width}",
        lambda lib: (lambda x: x.sum(0), (numbers(lib, rows, width),)),
        4 * rows * width,
        goal=goal,
        tolerance=1e-3,
    )
    yield Line(
        f"sum of all, f32 {rows}x{width}",
        lambda lib: (lambda x: x.square().sum(), (numbers(lib, rows, width),)),
        4 * rows * width,
        goal=goal,
    )
    batch, words = (4, 70) if tiny else (8192, 50304)

    def loss(lib: Any) -> tuple[Function, tuple[Any, ...]]:
        function = lib.nn.functional.cross_entropy
        return lambda x, y: function(x, y), (numbers(lib, batch, words), classes(lib, words, batch))

    yield Line(f"cross entropy, f32 {batch}x{words}", loss, 4 * batch * words, goal=goal)


def matmul_lines(tiny: bool) -> Iterator[Line]:
    for size in (64, 96) if tiny else (4096, 8192):
        for unit, dtype, width, tolerance in (
            (BF16, "bfloat16", 2, 1e-2), (TF32, "float32", 4, 2e-3), (F32, "float32", 4, 1e-4),
        ):  # fmt: skip

            def make(lib: Any, size: int = size, dtype: str = dtype) -> tuple[Function, tuple[Any, ...]]:
                a, b = (numbers(lib, size, size, dtype=dtype, seed=i) for i in (0, 1))
                return lambda a, b: a @ b, (a, b)

            yield Line(
                f"{unit} matmul, {size}^3",
                make,
                3 * width * size**2,
                2 * size**3,
                unit,
                (EAGER, 0.8),
                tolerance,
                tf32=unit == TF32,
            )
    size = 64 if tiny else 4096

    def linear(lib: Any) -> tuple[Function, tuple[Any, ...]]:
        x, w, b = (
            numbers(lib, *s, dtype="bfloat16", seed=i)
            for i, s in enumerate(((size, size), (size, size), (size,)))
        )
        F = lib.nn.functional
        return lambda x, w, b: F.gelu(F.linear(x, w, b), approximate="tanh"), (x, w, b)

    yield Line(f"bf16 gelu(linear), {size}^3", linear, 6 * size**2, 2 * size**3, BF16, (COMPILED, 0.8), 1e-2)


def attention_lines(tiny: bool) -> Iterator[Line]:
    """Causal: half of the products of every query with every key."""
    for width in (64, 128):
        batch, heads, length = (1, 1, 64) if tiny else (4, 2048 // width, 2048)
        shape = (batch, heads, length, width)
        flops = 4 * batch * heads * length**2 * width // 2
        name = f"attention, causal, bf16 {'x'.join(map(str, shape))}"

        def forward(lib: Any, shape: tuple[int, ...] = shape) -> tuple[Function, tuple[Any, ...]]:
            function = lib.nn.functional.scaled_dot_product_attention
            given = tuple(numbers(lib, *shape, dtype="bfloat16", seed=i) for i in range(3))
            return lambda q, k, v: function(q, k, v, is_causal=True), given

        def step(lib: Any, shape: tuple[int, ...] = shape) -> tuple[Function, tuple[Any, ...]]:
            function = lib.nn.functional.scaled_dot_product_attention
            leaves = [numbers(lib, *shape, dtype="bfloat16", seed=i).requires_grad_() for i in range(3)]

            def run(dy: Any) -> Any:
                for leaf in leaves:
                    leaf.grad = None
                function(*leaves, is_causal=True).backward(dy)
                return leaves[0].grad

            return run, (numbers(lib, *shape, dtype="bfloat16", seed=5),)

        yield Line(name, forward, 8 * prod(shape), flops, BF16, (EAGER, 0.7), 2e-2)
        # Backward: five products where forward has two.
        yield Line(
            f"{name}, and gradients",
            step,
            16 * prod(shape),
            3.5 * flops,
            BF16,
            (EAGER, 0.7),
            3e-2,
            training=True,
        )


def _product_flops(net: Any, run: Callable[[], Any]) -> float:
    """Of the linear layers and convolutions, counted as they are called."""
    total = 0

    def count(module: Any, inputs: Sequence[Any], output: Any) -> None:
        nonlocal total
        total += 2 * output.numel() * module.weight[0].numel()

    kinds = {"Linear", "Conv2d"}
    hooks = [m.register_forward_hook(count) for m in net.modules() if type(m).__name__ in kinds]
    run()
    for hook in hooks:
        hook.remove()
    return total


def model_lines(tiny: bool, lib: Any) -> Iterator[Line]:
    """`lib` counts the operations, on the CPU with one sample."""
    batch = 2 if tiny else 32
    space, channels, kinds = (32, 4, 10) if tiny else (224, 64, 1000)

    def resnet(lib: Any) -> Any:
        return resnet18(lib, channels, kinds)

    def images(lib: Any) -> tuple[Any, Any]:
        return numbers(lib, batch, 3, space, space), classes(lib, kinds, batch)

    net = resnet(lib).eval()
    flops = batch * _product_flops(net, lambda: net(lib.zeros(1, 3, space, space)))
    yield from _model("ResNet-18", resnet, images, batch, flops, "SGD")
    samples = 1 if tiny else 8
    layers, width, heads, length, words = (1, 32, 2, 16, 64) if tiny else (12, 768, 12, 1024, 50304)

    def gpt2(lib: Any) -> Any:
        return gpt(lib, layers, width, heads, length, words)

    def tokens(lib: Any) -> tuple[Any, Any]:
        return classes(lib, words, samples, length), classes(lib, words, samples, length)

    # Products with weights, and a causal half of attention.
    weights = 12 * layers * width**2 + width * words
    flops = samples * length * (2 * weights + 2 * layers * length * width)
    yield from _model("GPT-2 small", gpt2, tokens, samples, flops, "AdamW")


def _model(
    name: str,
    build: Callable[[Any], Any],
    data: Callable[[Any], tuple[Any, Any]],
    batch: int,
    flops: float,
    optimizer: str,
) -> Iterator[Line]:
    def made(lib: Any) -> Any:
        """With the same weights in both libraries: drawn in NumPy, spread as small layers' are."""
        lib.manual_seed(0)
        net = build(lib).cuda()
        generator = np.random.default_rng(7)
        with lib.no_grad():
            for parameter in net.parameters():
                if parameter.dim() > 1:
                    spread = prod(parameter.shape[1:]) ** -0.5
                    drawn = generator.standard_normal(tuple(parameter.shape), dtype=np.float32) * np.float32(
                        spread
                    )
                    parameter.copy_(lib.from_numpy(drawn))
        return net

    def inference(half: bool) -> Callable[[Any], Any]:
        def make(lib: Any) -> tuple[Function, tuple[Any, ...]]:
            net = made(lib).eval()
            x, _ = data(lib)
            if half:
                net = net.bfloat16()
                x = x.bfloat16() if x.is_floating_point() else x
            return net, (x,)

        return make

    def training(half: bool) -> Callable[[Any], Any]:
        def make(lib: Any) -> tuple[Function, tuple[Any, ...]]:
            net = made(lib)
            chosen = getattr(lib.optim, optimizer)(net.parameters(), lr=1e-3)

            def step(x: Any, y: Any) -> Any:
                chosen.zero_grad()
                with lib.autocast("cuda", dtype=lib.bfloat16) if half else nullcontext():
                    found = net(x)
                    loss = lib.nn.functional.cross_entropy(found.flatten(0, -2), y.flatten())
                loss.backward()
                chosen.step()
                return loss

            return step, data(lib)

        return make

    goal = (COMPILED, 1.0)
    size = f"batch {batch}"
    yield Line(f"{name}, inference, {size}, f32", inference(False), 0, flops, F32, goal, 1e-3)
    yield Line(f"{name}, inference, {size}, bf16", inference(True), 0, flops, BF16, goal, 5e-2)
    yield Line(f"{name}, training step, {size}, f32", training(False), 0, 3 * flops, F32, goal, 1e-3, True)
    yield Line(
        f"{name}, training step, {size}, autocast bf16", training(True), 0, 3 * flops, BF16, goal, 2e-2, True
    )


def overhead_lines(tiny: bool) -> Iterator[Line]:
    """Calls that have next to nothing to compute: the time is the host's."""
    size = 64

    def one(lib: Any) -> tuple[Function, tuple[Any, ...]]:
        return lambda x: (x + 1).relu(), (numbers(lib, size),)

    def ten(lib: Any) -> tuple[Function, tuple[Any, ...]]:
        """Ten kernels, of which none fuses with the next."""

        def run(x: Any) -> Any:
            for _ in range(10):
                x = (x @ x).softmax(1)
            return x

        return run, (numbers(lib, 32, 32, scale=0.1),)

    yield Line("a call of one kernel", one, goal=(MICROSECONDS, 10))
    yield Line("a call of twenty kernels", ten, tolerance=1e-3)


def tables(tiny: bool, lib: Any) -> dict[str, Callable[[], Iterator[Line]]]:
    """The lines by table; the copy comes first, others are measured by it."""
    return {
        "copy": lambda: copy_lines(tiny),
        "pointwise": lambda: pointwise_lines(tiny),
        "rows": lambda: row_lines(tiny),
        "matmul": lambda: matmul_lines(tiny),
        "attention": lambda: attention_lines(tiny),
        "models": lambda: model_lines(tiny, lib),
        "overhead": lambda: overhead_lines(tiny),
    }
