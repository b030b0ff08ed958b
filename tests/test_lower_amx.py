"""Contractions in x86's tile registers (AMX), lowered and run by the loop interpreter; the rules of tiles.

`test_amx_emulated.py` runs them as machine code.
"""

from __future__ import annotations

import logging

import numpy as np
import pytest
from contractions import group, interpret, lowered, operands_of
from llvmlite import binding
from test_lower_gemm import matrices
from test_lower_words import WORDS, convolution, extreme_operands, integers

from vitrify.codegen import target as targets
from vitrify.codegen import tile_permission
from vitrify.codegen.loops import interpreter
from vitrify.codegen.loops.interpret_tiles import tile_product
from vitrify.codegen.loops.nodes import (
    Buffer,
    ClearTile,
    For,
    Kernel,
    Launch,
    Load,
    LoadTile,
    MultiplyWords,
    Program,
    Stmt,
    StoreTile,
)
from vitrify.codegen.loops.printer import print_kernel, print_stmt
from vitrify.codegen.loops.scalar_values import scalar_function
from vitrify.codegen.loops.verify import LoopError, verify_program
from vitrify.codegen.lower import contraction_plan
from vitrify.codegen.lower.contraction_amx_plan import GRIDS, tile_cycles
from vitrify.codegen.target import Target
from vitrify.ir import dims, dtypes
from vitrify.ir import interpreter as ir_interpreter
from vitrify.ir.dims import Dim
from vitrify.ir.types import TensorType

AMX = "x86-64-amx"
TRANSPOSES = [(left, right) for left in (False, True) for right in (False, True)]
INTEGERS = [(dtypes.u8, dtypes.i8), (dtypes.i8, dtypes.u8), (dtypes.i8, dtypes.i8), (dtypes.u8, dtypes.u8)]


@pytest.fixture
def tiles(monkeypatch):
    """Whatever can be summed in tile registers is, however small; in blocks of a size, if one is given; blocks of rows
    take turns, if that is wanted."""

    def prefer(rows: int = 0, columns: int = 0, turns: bool = False) -> None:
        def cycles(model, plan):
            wanted = not rows or (plan.tiles[plan.rows], plan.vectors) == (16 * rows, columns)
            wanted = wanted and (not turns or plan.deep > 0)
            return tile_cycles(model, plan) * (1e-6 if wanted else 1.0)

        monkeypatch.setattr(contraction_plan, "tile_cycles", cycles)
        monkeypatch.setattr(contraction_plan, "_ranked", {})

    prefer()
    return prefer


def in_tiles(graph, *bindings, depth: int = 100) -> None:
    """`interpret`, and that it is in tiles."""
    assert "in tile registers" in comment(graph)
    interpret(graph, AMX, bindings or ({},), depth)


def comment(graph, target: str = AMX) -> str:
    return " ".join(x.kernel.comment for x in lowered(graph, target).launches)


@pytest.mark.parametrize("transposed", TRANSPOSES, ids=str)
def test_products_of_bfloat16(tiles, transposed):
    for size in ((17, 35, 33), (32, 64, 16), (47, 33, 17), (16, 32, 16)):
        in_tiles(matrices(*size, dtypes.bf16, left=transposed[0], right=transposed[1]), depth=size[1])
    interpret(matrices(1, 64, 33, dtypes.bf16, left=transposed[0], right=transposed[1]), AMX, depth=64)


@pytest.mark.parametrize("grid", GRIDS, ids=str)
def test_blocks_of_every_size(tiles, grid):
    tiles(*grid)
    rows, columns = (16 * n for n in grid)
    for size in ((rows + 17, 36, columns + 18), (rows, 66, columns)):
        graph = matrices(*size, dtypes.bf16)
        assert f"lanes {grid[1]}x16 along n; tile m={rows}" in comment(graph)
        in_tiles(graph, depth=size[1])


@pytest.mark.parametrize("types", INTEGERS, ids=str)
def test_products_of_integers(tiles, types):
    for transposed in (False, True):
        graph = integers(17, 70, 33, *types, transposed=transposed)
        assert "in tile registers" in comment(graph)
        inputs = extreme_operands(graph)
        (got,), _ = interpreter.run_program(lowered(graph, AMX), inputs)
        np.testing.assert_array_equal(got, ir_interpreter.run(graph, inputs, {})[0])


def test_a_symbolic_dim_uses_tiles_where_they_are_full(tiles):
    for size in ((Dim("n", 0, 40), 33, 17), (17, 33, Dim("n", 0, 40)), (17, Dim("n", 0, 100), 17)):
        for transposed in (False, True):
            graph = matrices(*size, dtypes.bf16, left=transposed, right=transposed)
            in_tiles(graph, *({"n": n} for n in (0, 1, 5, 16, 39)), depth=64)


def test_a_long_sum_in_parts(monkeypatch):
    monkeypatch.setattr(contraction_plan, "LEAST_TASK", 100.0)
    monkeypatch.setattr(contraction_plan, "_ranked", {})
    graph = matrices(16, 4700, 16, dtypes.bf16)
    assert "k summed in 8 parts" in comment(graph)
    in_tiles(graph, depth=4700)


def test_a_sum_is_shared_among_tasks():
    for rows in (32, 96):
        plan = comment(matrices(rows, 65536, 32, dtypes.bf16))
        assert "in tile registers" in plan and "k summed in 8 parts" in plan


def test_a_batch_a_bias_and_relu(tiles):
    types = [TensorType(s, dtypes.bf16) for s in ((2, 17, 40), (40, 33), (33,))]

    def make(F, x, w, bias):
        wide = [F.convert(v, dtype=dtypes.f32) for v in (x, w, bias)]
        return F.maximum(F.add(F.matmul(*wide[:2]), wide[2]), F.full(shape=(), value=0, dtype=dtypes.f32))

    in_tiles(group(types, make), depth=40)


def test_convolutions(tiles):
    for case in (
        ((1, 32, 5, 7), (17, 32, 1, 1), 1, 0, 1, 1),
        ((1, 64, 2, 18), (16, 64, 1, 2), 1, 0, 1, 1),
        ((1, 32, 3, 7), (5, 32, 2, 2), 1, 1, 1, 1),
    ):
        in_tiles(convolution(case), depth=64)
        interpret(convolution(case, "conv_input_grad"), AMX, depth=64)


def test_tiles_reach_past_the_last_row_and_column_of_copies(tiles):
    """Seven columns and five rows in one; the words of the image have room behind them, those of the weights too."""
    graph = convolution(((1, 32, 4, 9), (5, 32, 3, 3), 1, 0, 1, 1))
    program = lowered(graph, AMX)
    copies = sorted(b.numel for b in program.arena)
    assert "in tile registers" in comment(graph) and copies == [16 * 4 * 9 + 15, 16 * 9 * 16]
    interpret(graph, AMX, depth=288)


@pytest.mark.parametrize("left", [False, True])
def test_blocks_of_rows_take_turns_over_parts_of_a_long_sum(tiles, left):
    """Parts of 16 steps, the last one shorter, and three words beside the last step; rows beside the last block."""
    tiles(2, 2, turns=True)
    for size in ((112, 1100, 33), (96, 1280, 32)):
        graph = matrices(*size, dtypes.bf16, left=left)
        assert "16 steps at a time" in comment(graph)
        in_tiles(graph, depth=size[1])


def test_a_kernel_of_several_taps_takes_turns(tiles):
    """Of four taps and 96 channels a part is two taps, or all channels of one."""
    tiles(1, 2, turns=True)
    graph = convolution(((1, 192, 3, 18), (64, 192, 2, 2), 1, 0, 1, 1))
    assert "16 steps at a time" in comment(graph)
    in_tiles(graph, depth=4 * 192)


def test_rows_that_are_packed_lie_tile_after_tile():
    """Rows in place may straddle lines and share sets of the caches."""
    program = lowered(matrices(512, 512, 512, dtypes.bf16, right=True), AMX)
    assert [launch.kernel.name for launch in program.launches] == ["pack", "pack1", "matmul"]
    assert {b.shape for b in program.arena} == {(16, 256, 32), (32, 16, 16, 16)}
    assert "rows 16 apart, passing" in print_kernel(program.launches[-1].kernel)


def test_rows_of_a_weight_gradient_are_filled_to_whole_steps():
    graph = convolution(((2, 16, 9, 28), (32, 16, 3, 3), 1, 1, 1, 1), "conv_weight_grad")
    assert "in tile registers" in comment(graph)
    interpret(graph, AMX, depth=2 * 9 * 28)
    names = [launch.kernel.name for launch in lowered(graph, AMX).launches]
    assert [name for name in names if "border" in name] == ["zero_border", "zero_border1"]
    assert lowered(graph, AMX).launches[-1].flops == 2 * 2 * 32 * 16 * 9 * 9 * 28  # without the zeros
    short = convolution(((2, 16, 9, 14), (32, 16, 3, 3), 1, 1, 1, 1), "conv_weight_grad")
    names = [launch.kernel.name for launch in lowered(short, AMX).launches]
    assert "zero_border1" not in names  # it would be more zeros than numbers


def test_a_convolution_with_a_border_goes_to_tiles_and_not_to_winograd():
    """It is reckoned in the numbers that its image has, not in those of the sum."""
    graph = convolution(((1, 64, 28, 28), (64, 64, 3, 3), 1, 1, 1, 1))
    assert "in tile registers" in comment(graph)


def test_pairs_are_multiplied_as_float32_where_that_is_faster():
    """Beside tiles, on a processor that multiplies vectors of pairs at half the rate."""
    strided = convolution(((1, 64, 56, 56), (64, 64, 3, 3), 2, 1, 1, 1), "conv_weight_grad")
    assert "in words" in comment(strided, WORDS) and "in words" not in comment(strided)


def test_a_strided_convolution_goes_to_tiles_by_a_copy_larger_than_its_image():
    graph = convolution(((1, 64, 56, 56), (128, 64, 3, 3), 2, 1, 1, 1))
    assert "left packed along x; in tile registers" in comment(graph)
    interpret(convolution(((1, 32, 37, 37), (48, 32, 3, 3), 2, 1, 1, 1)), AMX, depth=288)


def test_a_convolution_in_tiles_is_faster_by_the_model():
    assert "in tile registers" in comment(convolution(((2, 64, 20, 36), (40, 64, 3, 3), 1, 1, 1, 1)))


def test_infinities_and_nans_stay_in_their_rows_and_columns(tiles):
    graph = matrices(33, 40, 35, dtypes.bf16)
    assert "in tile registers" in comment(graph)
    x, y = operands_of(graph, {})
    x[3, 5] = np.inf
    x[20, 39] = -np.inf  # beyond the last whole step
    x[32, 0] = np.nan  # in a row beside the tiles
    y[7, 34] = np.nan
    (got,), _ = interpreter.run_program(lowered(graph, AMX), [x, y])
    (want,) = ir_interpreter.run(graph, [x, y], {})
    found, wanted = got.astype(np.float32), want.astype(np.float32)
    np.testing.assert_array_equal(np.isnan(found), np.isnan(wanted))
    np.testing.assert_array_equal(np.isinf(found), np.isinf(wanted))
    np.testing.assert_allclose(found[4:20, :34], wanted[4:20, :34], rtol=0.02, atol=0.1)


def test_the_plan_says_so_and_other_machines_know_nothing_of_it():
    graph = matrices(64, 64, 64, dtypes.bf16)
    assert "in tile registers, rows along m" in comment(graph) and "in words by dot_bf16" in comment(graph)
    for target in (WORDS, "x86-64-avx512", "x86-64-avx2", "aarch64-neon"):
        assert "tile registers" not in comment(graph, target)
    for few in (matrices(1, 64, 64, dtypes.bf16), matrices(64, 8, 64, dtypes.bf16), matrices(64, 64, 64)):
        assert "tile registers" not in comment(few)


def test_what_lies_in_rows_is_read_in_place():
    (pack, product) = lowered(matrices(64, 64, 64, dtypes.bf16, right=True), AMX).launches
    assert (pack.kernel.name, product.kernel.name) == ("pack", "matmul")
    assert "load tile tile_left[tile_i, 0, 0] = x0[" in print_kernel(product.kernel)


# What the instructions compute.


def test_a_product_of_bfloat16_is_added_up_as_the_manual_says():
    """Even and odd numbers apart, each product fused, then together, then to what was there."""
    rng = np.random.default_rng(5)
    numbers = rng.standard_normal((3, 16, 16, 2)) * 2.0 ** rng.integers(-30, 30, (3, 16, 16, 2))
    odd = rng.random(numbers.shape) < 0.05
    numbers[odd] = rng.choice([0.0, -0.0, np.inf, np.nan, 1e-39, -1e-39, 2.0**-126, 3e38], odd.sum())
    with np.errstate(all="ignore"):
        left, right = (n.astype(dtypes.bf16.numpy).view(np.uint32)[..., 0] for n in numbers[:2])
        total = numbers[2, ..., 0].astype(np.float32)
        got = tile_product("dot_bf16", False)(total, left, right)
        fma = scalar_function("fma", dtypes.f32, dtypes.f32)
        for m, n in [(0, 0), (3, 7), (8, 15), (15, 2), (9, 9), (12, 4)]:
            parts = []
            for shift in (0, 1):
                part = np.float32(0)
                for k in range(16):
                    a, b = (
                        np.uint32(w << 16 if shift == 0 else w & 0xFFFF0000).view(np.float32)
                        for w in (left[m, k], right[k, n])
                    )
                    part = flushed(fma(flushed(a), flushed(b), part))
                parts.append(part)
            want = flushed(flushed(total[m, n]) + flushed(parts[0] + parts[1]))
            np.testing.assert_array_equal(got[m, n], want)


def flushed(x):
    return np.copysign(np.float32(0), x) if abs(x) < np.float32(2.0**-126) else x


def test_a_product_of_integers_wraps():
    left = np.full((16, 16), 0xFFFFFFFF, np.uint32)
    right = np.full((16, 16), 0x7F7F7F7F, np.uint32)
    total = np.full((16, 16), np.iinfo(np.int32).max, np.int32)
    want = (int(total[0, 0]) + 64 * 255 * 127) - (1 << 32)
    assert (tile_product("dot_u8i8", False)(total, left, right) == want).all()
    assert (tile_product("dot_u8i8", True)(total, right, left) == want).all()
    zero = np.zeros_like(total)
    assert (tile_product("dot_u8i8", False)(zero, right, left) == 64 * 127 * -1).all()
    assert (tile_product("dot_u8i8", True)(zero, left, right) == 64 * -1 * 127).all()


# The rules of the loop IR.

X, OUT = Buffer("x", dtypes.bf16, (40, 64)), Buffer("y", dtypes.f32, (1,))
SUMS = Buffer("sums", dtypes.f32, (2, 16, 16), "tile")
WORD_TILES = Buffer("words", dtypes.u32, (3, 16, 16), "tile")
KEPT = Buffer("kept", dtypes.f32, (16 * 16,), "stack")


def first(buffer: Buffer, number: dims.DimLike = 0) -> Load:
    return Load(buffer, (number, 0, 0))


def program_of(*body: Stmt, locals: tuple[Buffer, ...] = (SUMS, WORD_TILES, KEPT)) -> Program:
    kernel = Kernel("k", (X, OUT), frozenset({"y"}), body, (), locals)
    return Program("p", (X,), (OUT,), (), (Launch(kernel, (X, OUT)),))


LOAD = LoadTile(first(WORD_TILES), Load(X, (0, 0)), 64)
STORE = StoreTile(Load(KEPT, (0,)), first(SUMS), 16)


@pytest.mark.parametrize(
    ("body", "rule"),
    [
        ((ClearTile(Load(SUMS, (0, 1, 0))),), r"given by its first element, not \[0, 1, 0\]"),
        ((ClearTile(first(SUMS, 2)),), "index 2 is outside sums"),
        ((For("i", 2, (ClearTile(first(SUMS, dims.symbol("i", 0, 1))),)),), "must be a constant once unrolled"),
        ((For("l", 4, (ClearTile(first(SUMS)),), "vector", 4),), "tile registers inside the vector loop l"),
        ((ClearTile(Load(KEPT, (0,))),), "is no tile register of the kernel"),
        ((LoadTile(first(WORD_TILES), Load(X, (25, 0)), 64),), "rows from 1600 to 2591 are not inside x"),
        ((LoadTile(first(WORD_TILES), first(SUMS), 64),), "tiles lie in memory, not in sums"),
        ((StoreTile(Load(KEPT, (1,)), first(SUMS), 16),), "rows from 1 to 256 are not inside kept"),
        ((StoreTile(Load(OUT, (0,)), first(SUMS), 0),), "rows from 0 to 15 are not inside y"),
        ((StoreTile(Load(KEPT, (0,)), first(WORD_TILES), 16),), "a tile of u32 is stored on the stack, as such"),
        ((MultiplyWords(first(SUMS), first(SUMS), first(WORD_TILES), "dot_bf16"),), "dot_bf16 takes tiles of u32"),
        ((MultiplyWords(first(SUMS), first(WORD_TILES), first(WORD_TILES), "dot_u8i8"),), "do not add up by 'dot_u8i8'"),
    ],
)  # fmt: skip
def test_broken_rules_are_told(body, rule):
    with pytest.raises(LoopError, match=rule):
        verify_program(program_of(*body))


def test_a_kernel_has_eight_tiles_of_16_by_16():
    nine = Buffer("nine", dtypes.u32, (3, 3, 16, 16), "tile")
    with pytest.raises(LoopError, match="9 tile registers: there are 8"):
        verify_program(program_of(locals=(nine,)))
    with pytest.raises(LoopError, match="is no array of tiles"):
        verify_program(program_of(locals=(Buffer("wide", dtypes.u32, (16, 32), "tile"),)))


def test_the_interpreter_tells_tiles_that_nothing_wrote_and_rows_that_are_not_there():
    for body, rule in (
        ((STORE,), r"the tile sums\[0\] is read before it is written"),
        ((MultiplyWords(first(SUMS), first(WORD_TILES), first(WORD_TILES, 1), "dot_bf16"),), "the tile sums"),
    ):
        with pytest.raises(LoopError, match=rule):
            interpreter.run_program(program_of(*body), [np.zeros((40, 64), dtypes.bf16.numpy)])
    n = dims.symbol("n", 0, 39)
    far = For("n", 40, (LoadTile(first(WORD_TILES), Load(X, (n, 0)), 64),))
    verify_program(program_of(far))
    with pytest.raises(LoopError, match="rows of x from 1600 to 2591 are not all in it"):
        interpreter.run_program(program_of(far), [np.zeros((40, 64), dtypes.bf16.numpy)])


def test_statements_are_printed():
    product = MultiplyWords(first(SUMS), first(WORD_TILES), first(WORD_TILES, 1), "dot_u8i8", swapped=True)
    assert [print_stmt(s) for s in (ClearTile(first(SUMS)), LOAD, STORE, product)] == [
        "clear tile sums[0, 0, 0]",
        "load tile words[0, 0, 0] = x[0, 0], rows 64 apart",
        "store tile kept[0] = sums[0, 0, 0], rows 16 apart",
        "tile sums[0, 0, 0] += words[0, 0, 0] @ words[1, 0, 0], dot_u8i8, swapped",
    ]


# Permission.


def features(**found: bool) -> binding.FeatureMap:
    made = binding.FeatureMap()
    made.update({"avx512f": True, "amx-tile": True, "amx-bf16": True, "amx-int8": True} | found)
    return made


def test_tiles_are_left_out_where_the_system_refuses_them(monkeypatch, caplog):
    asked = []
    monkeypatch.setattr(tile_permission, "_system_call", lambda *numbers: asked.append(numbers) or 95)
    monkeypatch.setattr(tile_permission.sys, "platform", "linux")
    monkeypatch.setattr(binding, "get_host_cpu_features", features)
    caplog.set_level(logging.INFO, "vitrify")
    refused = targets._host.__wrapped__()
    assert asked == [(158, 0x1023, 18)]
    assert (
        not refused.has("amx-tile") and "-amx-bf16" in refused.features and not refused.has_tiles("dot_bf16")
    )
    assert (
        "tile registers (AMX) are not used: the system refuses them: Operation not supported" in caplog.text
    )
    monkeypatch.setattr(tile_permission, "_system_call", lambda *numbers: 0)
    given = targets._host.__wrapped__()
    assert given.has_tiles("dot_bf16") and given.has_tiles("dot_u8i8") and repr(given) != repr(refused)


def test_a_virtual_machine_may_hide_the_processors_name():
    """Clients' processors have no tile registers."""
    tiled = {"amx-tile": True}
    assert targets._cpu("rocketlake", {}) == "rocketlake"
    assert targets._cpu("rocketlake", tiled) == "sapphirerapids"
    assert targets._cpu("rocketlake", {**tiled, "amx-fp16": True}) == "graniterapids"
    assert targets._cpu("emeraldrapids", tiled) == "emeraldrapids"


def test_a_machine_without_tiles_does_not_ask(monkeypatch):
    monkeypatch.setattr(tile_permission, "_system_call", lambda *numbers: pytest.fail("asked"))
    monkeypatch.setattr(binding, "get_host_cpu_features", lambda: features(**{"amx-tile": False}))
    targets._host.__wrapped__()
    monkeypatch.setattr(tile_permission.sys, "platform", "win32")
    assert tile_permission.ask_for_tiles() == "permission for them is asked for on Linux only, not on win32"


def test_named_targets_say_what_they_multiply_in_tiles():
    assert [Target.named(AMX).has_tiles(op) for op in ("dot_bf16", "dot_u8i8", "")] == [True, True, False]
    assert not Target.named(WORDS).has_tiles("dot_bf16")
