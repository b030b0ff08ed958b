"""Loop groups: which loops they become, and that these compute the right thing whatever the shapes."""

from __future__ import annotations

import numpy as np
import pytest
from lowering import SHARED, check, f32, graph_of, lowered, random_arrays

from vitrify.codegen.loops.printer import print_kernel
from vitrify.ir import dtypes
from vitrify.ir.dims import Dim
from vitrify.ir.types import TensorType

BATCH = Dim("batch", 1, 64)


def kernel_texts(graph, target="x86-64-avx2", options=None) -> str:
    return "\n".join(print_kernel(x.kernel) for x in lowered(graph, target, options).launches)


def test_contiguous_dims_are_one_loop():
    graph = graph_of(lambda F, x, y: F.mul(F.add(x, y), x), f32(3, 4, 8), f32(3, 4, 8))
    assert (
        kernel_texts(graph)
        == """\
kernel fused_0(x0: f32[96], x1: f32[96], 1: f32[96] written) cost 192 {
  for i3 in 0..3 {
    for u in 0..4 unroll {
      for l in 0..8 vector 8 {
        let t: f32 = x0[32*i3+l+8*u]
        1[32*i3+l+8*u] = mul(add(t, x1[32*i3+l+8*u]), t)
      }
    }
  }
}
"""
    )


def test_a_broadcast_operand_splits_the_loop():
    graph = graph_of(lambda F, x, b: F.add(x, b), f32(6, 3, 5), f32(3, 1))
    assert "[15*i3+5*i4+l], x1[i4])" in kernel_texts(graph)
    check(graph, random_arrays(graph))


@pytest.mark.parametrize(
    "shapes",
    [
        ((7, 1, 5), (3, 1)),
        ((1,), (4, 1)),
        ((), (3, 4)),
        ((0, 4), (1, 4)),
        ((2, 1, 3, 1), (5, 1, 7)),
        ((33, 65), (65,)),
    ],
    ids=str,
)
@pytest.mark.parametrize("options", [None, SHARED], ids=["serial", "shared"])
def test_broadcasting(shapes, options):
    graph = graph_of(lambda F, x, y: F.sub(F.mul(x, y), x), *(f32(*s) for s in shapes))
    check(graph, random_arrays(graph), options=options)


@pytest.mark.parametrize("dims", [(1, 0, 2), (2, 1, 0), (0, 2, 1)], ids=str)
@pytest.mark.parametrize("options", [None, SHARED], ids=["serial", "shared"])
def test_transposed_operands(dims, options):
    shape = (5, 19, 34)
    back = tuple(shape[dims.index(d)] for d in range(3))
    graph = graph_of(lambda F, x, y: F.add(x, F.permute(y, dims=dims)), f32(*shape), f32(*back))
    check(graph, random_arrays(graph), options=options, interpret=options is None)


@pytest.mark.parametrize("shape", [(37, 50), (64, 64), (3, 33, 48), (16, 17, 100)], ids=str)
@pytest.mark.parametrize("options", [None, SHARED], ids=["serial", "shared"])
@pytest.mark.parametrize("dtype", [dtypes.f32, dtypes.f64, dtypes.bf16, dtypes.bool_], ids=lambda d: d.name)
def test_arrays_read_across_are_turned_in_tiles(shape, options, dtype):
    order = (*range(len(shape) - 2), len(shape) - 1, len(shape) - 2)
    turned = tuple(shape[d] for d in order)

    def make(F, x, y):
        across = F.permute(x, dims=order)
        return F.where(F.eq(across, y), across, y)

    graph = graph_of(make, TensorType(shape, dtype), TensorType(turned, dtype))
    (launch,) = lowered(graph).launches
    assert any(b.name.startswith("tile") for b in launch.kernel.locals)
    check(graph, random_arrays(graph), options=options, interpret=False)


def test_a_tile_is_turned_as_the_interpreter_turns_it():
    graph = graph_of(lambda F, x, y: F.add(F.permute(x, dims=(1, 0)), y), f32(9, 20), f32(20, 9))
    for target in ("x86-64-sse2", "x86-64-avx2", "x86-64-avx512"):
        check(graph, random_arrays(graph), native=False, target=target)


def test_reshapes_are_free():
    """A reshape between two dims of which one is flat leaves one loop without divisions."""

    def make(F, x, y):
        return F.add(F.reshape(F.exp(x), shape=(4, 30)), y)

    graph = graph_of(make, f32(4, 5, 6), f32(4, 30))
    text = kernel_texts(graph)
    assert "//" not in text and "%" not in text
    check(graph, random_arrays(graph))


def test_padding_is_parts_without_tests():
    """Each border is a fill, the inside a copy: no condition is left to the run."""
    graph = graph_of(lambda F, x: F.pad(x, low=(1, 2), high=(2, 0), value=3.0), f32(4, 9))
    text = kernel_texts(graph)
    assert "select" not in text and "if" not in text
    check(graph, random_arrays(graph))


def test_concat_is_parts_without_tests():
    graph = graph_of(lambda F, x, y, z: F.relu(F.concat(x, y, z, dim=1)), f32(3, 4), f32(3, 1), f32(3, 7))
    assert "select" not in kernel_texts(graph)
    check(graph, random_arrays(graph))


@pytest.mark.parametrize("options", [None, SHARED], ids=["serial", "shared"])
def test_views_that_choose(options):
    """Guards that no cut decides stay conditions on indices."""

    def make(F, x, y):
        wide = F.update_slice(x, y, starts=(1, 0), stops=(6, 17), steps=(2, 3))
        return F.flip(F.mul(F.pad(wide, low=(-1, 1), high=(0, 1)), 2.0), dims=(1,))

    graph = graph_of(make, f32(6, 17), f32(3, 6))
    check(graph, random_arrays(graph), options=options)


@pytest.mark.parametrize("batch", [1, 7, 64])
@pytest.mark.parametrize("options", [None, SHARED], ids=["serial", "shared"])
def test_symbolic_batch(batch, options):
    def make(F, x, y, z):
        flat = F.reshape(F.sub(x, z), shape=(BATCH, 35))
        return F.add(flat, y), F.concat(x, x, dim=0), F.permute(x, dims=(2, 0, 1))

    graph = graph_of(make, f32(BATCH, 5, 7), f32(35), f32(5, 1))
    check(graph, random_arrays(graph, batch), options=options, interpret=batch == 7)


def test_symbolic_reshape_of_products():
    """A reshape whose index map would divide by a symbol reads memory in order."""

    def make(F, x):
        y = F.exp(x)
        return F.reshape(y, shape=(BATCH * BATCH, 3)), F.mul(y, 2.0)

    graph = graph_of(make, f32(BATCH, BATCH, 3))
    check(graph, *(random_arrays(graph, n) for n in (1, 5)))


@pytest.mark.parametrize("size", [1, 15, 16, 17, 4095, 4096, 4097, 70001])
def test_sizes_around_vectors_and_blocks(size):
    graph = graph_of(lambda F, x: F.mul(F.add(x, 1.0), x), f32(size))
    check(graph, random_arrays(graph), interpret=size < 100)


@pytest.mark.parametrize("target", ["x86-64-avx2", "x86-64-sse2"])
def test_narrower_targets(target):
    def make(F, x, m):
        halves = F.slice(x, starts=(0, 1), stops=(9, 20), steps=(1, 2))
        return F.where(m, halves, F.neg(halves)), F.convert(m, dtype=dtypes.f32)

    graph = graph_of(make, f32(9, 21), TensorType((9, 10), dtypes.bool_))
    check(graph, random_arrays(graph), target=target)


def test_mixed_widths():
    """64-bit integers, bytes and floats in one loop."""

    def make(F, x, i, b):
        return F.add(F.mul(x, F.convert(i, dtype=dtypes.f32)), F.convert(b, dtype=dtypes.f32)), F.eq(i, 2)

    types = f32(100), TensorType((100,), dtypes.i64), TensorType((100,), dtypes.u8)
    graph = graph_of(make, *types)
    check(graph, random_arrays(graph))


def test_several_spaces_in_one_kernel():
    graph = graph_of(
        lambda F, a, b, c: (F.mul(a, 2.0), F.mul(b, 3.0), F.mul(c, 4.0)), f32(3, 5), f32(40), f32()
    )
    program = check(graph, random_arrays(graph))
    assert len(program.launches) == 1


def test_empty_outputs_need_no_launch():
    graph = graph_of(lambda F, x: F.exp(x), f32(0, 3))
    assert not lowered(graph).launches
    check(graph, [np.zeros((0, 3), np.float32)])


def test_turned_tiles_of_large_arrays_fetch_the_next_where_vectors_are_short():
    def text(size, target):
        graph = graph_of(
            lambda F, x, y: F.add(F.permute(x, dims=(1, 0)), y), f32(size, size), f32(size, size)
        )
        return print_kernel(lowered(graph, target).launches[0].kernel)

    assert text(1024, "x86-64-avx2").count("prefetch") == 3
    assert "prefetch" not in text(128, "x86-64-avx2") + text(1024, "x86-64-avx512")
    graph = graph_of(lambda F, x, y: F.add(F.permute(x, dims=(1, 0)), y), f32(530, 1001), f32(1001, 530))
    check(graph, random_arrays(graph), interpret=False, target="x86-64-avx2")
