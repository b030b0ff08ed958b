"""Matrix products, convolutions and fused loops side by side with PyTorch (MKL and oneDNN), one kernel at a time.

    python benchmarks/kernels.py [--threads 1,2] [--seconds 0.5]
        [--only gemm,lenet,conv,batch1,loops,bf16,int8,attention]

Each row compiles one op as a graph of its own and calls its native entry; PyTorch runs the same op on the
same arrays in the same process, in turn with it, block by block. Figures are medians: GFLOP/s of useful work,
and the ratio of PyTorch's time to vitrify's. PyTorch's calls include its dispatcher (a few µs), so rows of
the `batch1` table say more about vitrify's µs than about the ratio. `bf16` is `gemm` and more in bfloat16,
`bf16loops` is `loops` in it.
"""

from __future__ import annotations

import argparse
import ctypes
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from timing import interleaved

import vitrify.ir.ops  # noqa: F401  (fills the registry)
from vitrify.ir import dtypes
from vitrify.ir.builder import GraphBuilder
from vitrify.ir.graph import Value
from vitrify.ir.types import TensorType
from vitrify.runtime.compiled_graph import CompileOptions, compile_graph

Shape = tuple[int, ...]
ROUNDS = 5


@dataclass(frozen=True)
class Row:
    """One op on operands of these shapes, as vitrify's graph and as PyTorch's call."""

    name: str
    shapes: tuple[Shape, ...]
    flops: int
    graph: Callable[..., Value]
    reference: Callable[..., torch.Tensor]
    dtypes: tuple[dtypes.DType, ...] = ()  # of the operands; float32 where none are given

    def typed(self, *types: dtypes.DType) -> Row:
        return replace(self, dtypes=types if len(types) > 1 else types * len(self.shapes))


def matmul(name: str, m: int, k: int, n: int, left: bool = False, right: bool = False) -> Row:
    """`left`, `right`: that operand is stored transposed."""

    def graph(F, a, b):
        a = F.permute(a, dims=(1, 0)) if left else a
        b = F.permute(b, dims=(1, 0)) if right else b
        return F.matmul(a, b)

    def reference(a, b):
        return torch.mm(a.t() if left else a, b.t() if right else b)

    shapes = ((k, m) if left else (m, k), (n, k) if right else (k, n))
    return Row(name, shapes, 2 * m * n * k, graph, reference)


def convolution(
    name: str, x: Shape, w: Shape, stride: int = 1, padding: int = 0, groups: int = 1, gradients: bool = True
) -> Iterator[Row]:
    attrs = {"stride": (stride,) * 2, "padding": (padding,) * 2, "dilation": (1, 1), "groups": groups}
    space = tuple((size + 2 * padding - k) // stride + 1 for size, k in zip(x[2:], w[2:], strict=True))
    y = (x[0], w[0], *space)
    flops = 2 * int(np.prod(y)) * int(np.prod(w[1:]))

    def backward(dy, x, w, wanted):
        geometry = ([stride] * 2, [padding] * 2, [1, 1], False, [0, 0], groups)
        mask = [wanted == "input", wanted == "weight", False]
        found = torch.ops.aten.convolution_backward(dy, x.to(dy), w.to(dy), None, *geometry, mask)
        return found[mask.index(True)]

    any_x, any_w = torch.zeros(x), torch.zeros(w)
    yield Row(
        name,
        (x, w),
        flops,
        lambda F, a, b: F.conv(a, b, **attrs),
        lambda a, b: torch.nn.functional.conv2d(a, b, stride=stride, padding=padding, groups=groups),
    )
    if gradients:
        yield Row(
            f"{name} dx",
            (y, w),
            flops,
            lambda F, dy, b: F.conv_input_grad(dy, b, input_size=x, **attrs),
            lambda dy, b: backward(dy, any_x, b, "input"),
        )
        yield Row(
            f"{name} dw",
            (x, y),
            flops,
            lambda F, a, dy: F.conv_weight_grad(a, dy, weight_size=w, **attrs),
            lambda a, dy: backward(dy, a, any_w, "weight"),
        )


def gemm_rows() -> Iterator[Row]:
    for size in (512, 1024, 2048):
        for left, right in ((False, False), (False, True), (True, False), (True, True)):
            name = f"{'NT'[left]}{'NT'[right]} {size}"
            yield matmul(name, size, size, size, left, right)


LINEARS = ((400, 120), (120, 84), (84, 10))


def lenet_rows(batch: int = 64, gradients: bool = True) -> Iterator[Row]:
    """The contractions of a LeNet training step; the first layer needs no input gradient."""
    first = list(convolution("conv1", (batch, 1, 32, 32), (6, 1, 5, 5), gradients=gradients))
    yield from (row for row in first if not row.name.endswith("dx"))
    yield from convolution("conv2", (batch, 6, 14, 14), (16, 6, 5, 5), gradients=gradients)
    for inner, outer in LINEARS:
        yield matmul(f"linear{inner}", batch, inner, outer, right=True)
        if gradients:
            yield matmul(f"linear{inner} dx", batch, outer, inner)
            yield matmul(f"linear{inner} dw", outer, batch, inner, left=True)


def conv_rows() -> Iterator[Row]:
    """Layers as ResNets and MobileNets have them."""
    yield from convolution("3x3 64 on 56", (1, 64, 56, 56), (64, 64, 3, 3), padding=1)
    yield from convolution("3x3 128 on 28", (4, 128, 28, 28), (128, 128, 3, 3), padding=1)
    yield from convolution("3x3 512 on 7", (4, 512, 7, 7), (512, 512, 3, 3), padding=1)
    yield from convolution("3x3/2 128 on 56", (4, 128, 56, 56), (128, 128, 3, 3), stride=2, padding=1)
    yield from convolution("7x7/2 64 on 224", (2, 3, 224, 224), (64, 3, 7, 7), stride=2, padding=3)
    yield from convolution("1x1 64 on 56", (4, 256, 56, 56), (64, 256, 1, 1))
    yield from convolution("depthwise 96 on 56", (2, 96, 56, 56), (96, 1, 3, 3), padding=1, groups=96)


def loop_rows() -> Iterator[Row]:
    """Row reductions and costly functions; "flops" counts elements, so that the rates are elements a second."""
    functional = torch.nn.functional

    def row(
        name: str, graph: Callable[..., Value], reference: Callable[..., torch.Tensor], *shapes: Shape
    ) -> Row:
        return Row(
            f"{name} {'x'.join(map(str, shapes[0]))}", shapes, int(np.prod(shapes[0])), graph, reference
        )

    for shape in ((8192, 1024), (1024, 4096), (128, 32000)):
        yield row("softmax", lambda F, x: F.softmax(x, dim=1), lambda x: functional.softmax(x, 1), shape)
        yield row(
            "logsoftmax", lambda F, x: F.log_softmax(x, dim=1), lambda x: functional.log_softmax(x, 1), shape
        )
    for size in (1 << 16, 1 << 22):
        yield row("gelu", lambda F, x: F.gelu(x, approximate="none"), functional.gelu, (size,))
    yield row("erf", lambda F, x: F.erf(x), torch.erf, (1 << 16,))
    yield row(
        "layernorm",
        lambda F, x, w, b: F.standardize(x, w, b, dims=(1,), eps=1e-5),
        lambda x, w, b: functional.layer_norm(x, x.shape[1:], w, b),
        *((8192, 768), (768,), (768,)),
    )
    yield row(
        "batchnorm",
        lambda F, x, w, b: F.standardize(x, w, b, dims=(0,), eps=1e-5),
        lambda x, w, b: functional.batch_norm(x, None, None, w, b, True),
        *((4096, 256), (256,), (256,)),
    )
    yield row("sum over 0", lambda F, x: F.sum(x, dims=(0,), keepdim=False), lambda x: x.sum(0), (8192, 768))


def bf16_rows() -> Iterator[Row]:
    """Products and convolutions of bfloat16, PyTorch's by oneDNN."""
    rows = [*gemm_rows()]
    rows += [matmul(f"linear {m}x1024x1024", m, 1024, 1024, right=True) for m in (1, 32, 128)]
    rows += convolution("3x3 64 on 56", (1, 64, 56, 56), (64, 64, 3, 3), padding=1)
    rows += convolution("3x3/2 128 on 56", (4, 128, 56, 56), (128, 128, 3, 3), stride=2, padding=1)
    rows += convolution("1x1 64 on 56", (4, 256, 56, 56), (64, 256, 1, 1))
    yield from (row.typed(dtypes.bf16) for row in rows)


def integer_rows() -> Iterator[Row]:
    """uint8 by int8, sums in int32; PyTorch's of int8 by int8 (`torch._int_mm`)."""

    def graph(F, a, b):
        return F.matmul(F.convert(a, dtype=dtypes.i32), F.convert(b, dtype=dtypes.i32))

    def reference(a, b):
        return torch._int_mm(a, b)

    for m, k, n in ((512,) * 3, (1024,) * 3, (2048,) * 3, (32, 1024, 1024), (128, 1024, 1024)):
        row = Row(f"{m}x{k}x{n}", ((m, k), (k, n)), 2 * m * k * n, graph, reference)
        yield row.typed(dtypes.u8, dtypes.i8)


def attention_rows() -> Iterator[Row]:
    """Attention [batch, heads, rows, size], causal or not, and its forward and backward together, of which PyTorch's
    flash kernels for the CPU are the others."""

    def rows(shape: Shape, causal: bool) -> Iterator[Row]:
        attrs = {"scale": shape[-1] ** -0.5, "causal": causal}
        flops = 4 * int(np.prod(shape)) * shape[-2] // (1 + causal)
        name = f"{'causal ' if causal else ''}{'x'.join(map(str, shape))}"

        def gradients(F, dy, q, k, v):
            out, log_sum = F.attention(q, k, v, **attrs)
            delta = F.sum(F.mul(dy, out), dims=(3,), keepdim=False)
            dq, dk, dv = F.attention_grad(dy, q, k, v, log_sum, delta, **attrs)
            return F.add(F.add(dq, dk), dv)

        def attend(q, k, v):
            return torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=causal)

        def reference(dy, *operands):
            leaves = [x.detach().requires_grad_() for x in operands]
            dq, dk, dv = torch.autograd.grad(attend(*leaves), leaves, dy)
            return dq + dk + dv

        yield Row(name, (shape,) * 3, flops, lambda F, q, k, v: F.attention(q, k, v, **attrs)[0], attend)
        yield Row(f"{name} fb", (shape,) * 4, flops * 7 // 2, gradients, reference)

    for shape in ((1, 12, 64, 64), (1, 12, 128, 64), (8, 8, 512, 64), (1, 16, 2048, 64), (1, 8, 2048, 128)):
        for causal in (False, True):
            yield from rows(shape, causal)


TABLES: dict[str, Callable[[], Iterator[Row]]] = {
    "gemm": gemm_rows,
    "lenet": lenet_rows,
    "conv": conv_rows,
    "batch1": lambda: lenet_rows(1, gradients=False),
    "loops": loop_rows,
    "bf16": bf16_rows,
    "bf16loops": lambda: (row.typed(dtypes.bf16) for row in loop_rows()),
    "int8": integer_rows,
    "attention": attention_rows,
}


class Native:
    """A row's graph compiled, its operands bound; `call` runs it."""

    def __init__(self, row: Row, operands: Sequence[np.ndarray], threads: int):
        builder = GraphBuilder("kernel")
        types = row.dtypes or (dtypes.f32,) * len(row.shapes)
        inputs = [builder.input(f"x{i}", TensorType(s, t)) for i, (s, t) in enumerate(zip(row.shapes, types))]
        started = time.perf_counter()
        self.code = compile_graph(builder.finish([row.graph(builder, *inputs)]), CompileOptions(cache=False))
        self.seconds = time.perf_counter() - started
        result = self.code.output_types[0]
        self.result = np.empty(result.shape, result.dtype.numpy)
        self.kept = (operands, self.code.arena({}))
        pointers = ctypes.c_void_p * max(1, len(operands))
        self.inputs = pointers(*[a.ctypes.data for a in operands])
        self.outputs = (ctypes.c_void_p * 1)(self.result.ctypes.data)
        prototype = ctypes.CFUNCTYPE(ctypes.c_int32, *[ctypes.c_void_p] * 4, ctypes.c_int64)
        entry, arena = prototype(self.code.entry), self.kept[1][1]
        where = (ctypes.addressof(self.inputs), ctypes.addressof(self.outputs), arena, 0, threads)
        self.call: Callable[[], int] = lambda: entry(*where)


def _tensor(array: np.ndarray) -> torch.Tensor:
    """PyTorch's tensor of the same numbers; of unsigned bytes below 128 the signed ones, which `_int_mm` takes."""
    if array.dtype == dtypes.bf16.numpy:
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(array.view(np.int8) if array.dtype == np.uint8 else array)


def measure(row: Row, threads: int, seconds: float) -> tuple[float, float, float]:
    """Median seconds of a call, vitrify's and PyTorch's, and to compile; ValueError where results differ."""
    rng = np.random.default_rng(0)
    types = row.dtypes or (dtypes.f32,) * len(row.shapes)
    operands = [
        (rng.standard_normal(s, dtype=np.float32) if t.is_floating_point else rng.integers(0, 127, s)).astype(
            t.numpy
        )
        for s, t in zip(row.shapes, types)
    ]
    native = Native(row, operands, threads)
    tensors = [_tensor(a) for a in operands]
    torch.set_num_threads(threads)
    native.call()
    want = row.reference(*tensors).to(torch.float64).numpy()
    error = np.abs(native.result.astype(np.float64) - want).max() / np.abs(want).max()
    if not error < (2e-2 if dtypes.bf16 in types else 1e-4):
        raise ValueError(f"{row.name}: results differ by {error:.1e} of the largest")
    repeat = max(1, int(20e-6 / max(1e-7, row.flops / 100e9)))

    def repeated(call: Callable[[], object]) -> Callable[[], None]:
        def run() -> None:
            for _ in range(repeat):
                call()

        return run

    runs = {"vitrify": repeated(native.call), "PyTorch": repeated(lambda: row.reference(*tensors))}
    times = interleaved(runs, ROUNDS, seconds / (2 * ROUNDS))
    return times["vitrify"] / repeat, times["PyTorch"] / repeat, native.seconds


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--only", default=",".join(TABLES))
    parser.add_argument("--seconds", type=float, default=0.5, help="for each row")
    options = parser.parse_args()
    for table in options.only.split(","):
        for threads in map(int, options.threads.split(",")):
            print(f"\n{table}, {threads} thread{'s' if threads > 1 else ''}")
            print(f"{'':26} {'vitrify':>18} {'PyTorch':>18} {'ratio':>6} {'compile':>8}")
            total = [0.0, 0.0]
            for row in TABLES[table]():
                ours, theirs, seconds = measure(row, threads, options.seconds)
                total[0] += ours
                total[1] += theirs
                shown = " ".join(f"{t * 1e6:8.1f} µs {row.flops / t / 1e9:5.0f} G" for t in (ours, theirs))
                print(f"{row.name:26} {shown} {theirs / ours:6.2f} {seconds * 1e3:5.0f} ms", flush=True)
            ratio = total[1] / total[0]
            print(f"{'all':26} {total[0] * 1e6:8.1f} µs {'':7} {total[1] * 1e6:8.1f} µs {'':7} {ratio:6.2f}")


if __name__ == "__main__":
    main()
