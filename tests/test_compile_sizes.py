"""Sizes that depend on data: host calls tell them during the run, and what follows has them."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import numpy as np
import pytest

import vitrify as torch
from vitrify.codegen.loops.interpreter import run_program as interpret
from vitrify.codegen.loops.printer import print_program
from vitrify.codegen.loops.verify import verify_program
from vitrify.codegen.lower import lower_graph
from vitrify.codegen.target import Target
from vitrify.ir.graph import IRError
from vitrify.ir.interpreter import run
from vitrify.ir.parser import parse
from vitrify.ir.printer import to_text
from vitrify.passes.fusion_check import check_fusion
from vitrify.passes.pipeline import default_pipeline, run_pipeline
from vitrify.runtime.execute import run_program

PROGRAM = """
dims batch in 1..64, u0 in 0..256
graph chosen(%x: f32[batch,4]) -> (f32[u0], f32[], i64[2,u0]) {
  %0: f32[] = full() {shape=[], value=0.0, dtype=f32}
  %1: bool[batch,4] = gt(%x, %0)
  %2: i64[2,u0] = nonzero(%1) {size=[u0]}
  %3: i64[1,u0] = slice(%2) {starts=[0,0], stops=[1,u0], steps=[1,1]}
  %4: i64[u0] = reshape(%3) {shape=[u0]}
  %5: f32[batch,4] = exp(%x)
  %6: f32[u0,4] = index_select(%5, %4) {dim=0}
  %7: f32[u0] = sum(%6) {dims=[1], keepdim=false}
  %8: f32[] = sum(%7) {dims=[0], keepdim=false}
  %9: f32[u0] = mul(%7, %8)
  return %9, %8, %2
}
""".strip()


def stages() -> list:
    found = run_pipeline(parse(PROGRAM), default_pipeline())
    check_fusion(found[-2], found[-1])
    return found


def test_a_told_dim_in_the_ir() -> None:
    graph = parse(PROGRAM)
    assert parse(to_text(graph)) == graph
    assert [s.name for s in graph.symbols] == ["batch", "u0"]
    with pytest.raises(IRError, match="the dim u0 is told twice"):
        parse(PROGRAM.replace("return %9", "%10: i64[2,u0] = nonzero(%1) {size=[u0]}\n  return %9"))
    with pytest.raises(IRError, match="no input of the graph has u0 as a dim"):
        parse(
            PROGRAM.replace(
                "  %0: f32[] =", "  %z: f32[u0] = full() {shape=[u0], value=0.0, dtype=f32}\n  %0: f32[] ="
            )
        )


@pytest.mark.parametrize("rows", [1, 3, 40])
def test_every_stage_computes_the_same(rows: int) -> None:
    x = np.random.default_rng(rows).normal(size=(rows, 4)).astype(np.float32)
    expected = run(parse(PROGRAM), [x])
    for stage in stages():
        for a, b in zip(run(stage, [x]), expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-6)
    program = lower_graph(stages()[-1], Target.host())
    verify_program(program)
    found, status = interpret(program, [x], {"batch": rows})
    assert status == 0
    for results in (found, run_program(program, [x], {"batch": rows})):
        for a, b in zip(results, expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5)


def test_memory_of_a_told_size_comes_from_its_host_call() -> None:
    program = lower_graph(stages()[-1], Target.host())
    text = print_program(program)
    assert "output 9: f32[u0] from host_" in text
    assert "output 2: i64[2,u0] from host_" in text
    assert all("u0" in str(b.shape) for b in program.late)
    assert "u0" not in str(program.arena_bytes)


def test_none_chosen() -> None:
    found = torch.compile(lambda x: ((x[x > 0] * 2).sum(), x[x > 0], torch.unique(x[x > 0])))(
        -torch.ones(3, 2)
    )
    assert found[0].item() == 0 and found[1].shape == (0,) and found[2].shape == (0,)


def test_one_compile_serves_every_size() -> None:
    compiled = torch.compile(lambda x: torch.sort(x[x > 0] * 2)[0], fullgraph=True)
    for seed in range(6):
        torch.manual_seed(seed)
        x = torch.randn(5, 3)
        np.testing.assert_array_equal(compiled(x).numpy(), torch.sort(x[x > 0] * 2)[0].numpy())
    assert len(compiled.report().compiles) == 1
    compiled.report().to_json()


def test_large_results_do_not_share_memory_between_calls() -> None:
    compiled = torch.compile(lambda x: x[x > -1] + 1)
    x = torch.zeros(1_000_000)
    first = compiled(x)
    second = compiled(x + 1)
    assert first.shape == second.shape == (1_000_000,)
    assert first[0].item() == 1 and second[0].item() == 2 and first[-1].item() == 1


# Gradients


def test_gradients_inside_the_compiled_function() -> None:
    weight = torch.randn(4, requires_grad=True)

    def step(x: torch.Tensor) -> torch.Tensor:
        y = x * weight
        loss = (y[y > 0] ** 2).mean() + y[(x > 0).any(1)].exp().sum()
        loss.backward()
        return loss.detach()

    compiled = torch.compile(step, fullgraph=True)
    for seed in range(3):
        torch.manual_seed(seed)
        x = torch.randn(6, 4)
        weight.grad = None
        expected = step(x)
        grad, weight.grad = weight.grad.clone(), None
        np.testing.assert_allclose(compiled(x).numpy(), expected.numpy(), rtol=1e-5)
        np.testing.assert_allclose(weight.grad.numpy(), grad.numpy(), rtol=1e-5)
    assert len(compiled.report().compiles) == 1


def test_a_training_step_on_the_chosen_rows() -> None:
    def make() -> tuple:
        torch.manual_seed(3)
        model = torch.nn.Linear(4, 2)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)

        def step(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
            optimizer.zero_grad()
            keep = t >= 0
            loss = torch.nn.functional.cross_entropy(model(x[keep]), t[keep])
            loss.backward()
            optimizer.step()
            return loss.detach()

        return model, step

    (eager, step), (model, other) = make(), make()
    compiled = torch.compile(other, fullgraph=True)
    for _ in range(4):
        x, t = torch.randn(8, 4), torch.randint(-1, 2, (8,))
        np.testing.assert_allclose(compiled(x, t).numpy(), step(x, t).numpy(), rtol=1e-5)
    for a, b in zip(model.parameters(), eager.parameters()):
        np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), rtol=1e-5, atol=1e-6)


def test_gradients_of_a_compiled_model_with_eager_code_between() -> None:
    model = torch.nn.Linear(4, 3)

    def forward(x: torch.Tensor) -> torch.Tensor:
        y = model(x).relu()
        return y[y > 0.1] * 2

    compiled = torch.compile(forward, fullgraph=True)
    for seed in range(4):
        torch.manual_seed(seed)
        x = torch.randn(5, 4)
        model.zero_grad()
        expected = forward(x)
        (expected**2).sum().backward()
        grads = [p.grad.clone() for p in model.parameters()]
        model.zero_grad()
        found = compiled(x)
        np.testing.assert_allclose(found.detach().numpy(), expected.detach().numpy(), rtol=1e-5)
        (found**2).sum().backward()
        for p, grad in zip(model.parameters(), grads):
            np.testing.assert_allclose(p.grad.numpy(), grad.numpy(), rtol=1e-5, atol=1e-6)
    assert len(compiled.report().compiles) == 1


# Questions about sizes


def test_a_branch_on_a_size_is_a_condition() -> None:
    def f(x: torch.Tensor) -> torch.Tensor:
        y = x[x > 0]
        if y.shape[0] == 0:
            return x.sum()
        return y.mean()

    compiled = torch.compile(f, fullgraph=True)
    for x in (torch.ones(3), -torch.ones(3), torch.tensor([1.0, -2.0, 4.0]), torch.tensor([-5.0, -1.0])):
        np.testing.assert_array_equal(compiled(x).numpy(), f(x).numpy())


@pytest.mark.parametrize(
    "ask",
    [
        lambda y: y.sum() * (2 if len(y) > 2 else 3),
        lambda y: sum((v * i for i, v in enumerate(y)), torch.zeros(())),
        lambda y: y.sum() / y.numel() + y.shape[0],
        lambda y: torch.zeros(y.shape[0] + 1).sum() + torch.arange(y.numel()).sum(),
        lambda y: y.sum() * (1.0 / max(y.size(0), 1)),
        lambda y: y.reshape(y.shape[0], 1).expand(-1, 3).sum(),
        lambda y: torch.cat([y, y * 2]).reshape(2, -1)[1].sum(),
    ],
    ids=["compare", "iterate", "arithmetic", "create", "maximum", "expand", "reshape"],
)
def test_sizes_in_python(ask: object) -> None:
    def f(x: torch.Tensor) -> torch.Tensor:
        return ask(x[x > 0])  # type: ignore[operator]

    compiled = torch.compile(f, fullgraph=True)
    for x in (torch.tensor([1.0, 2, -3, 4]), torch.tensor([-1.0, 2, -3, 4]), torch.tensor([3.0, 2, 5, 4])):
        np.testing.assert_allclose(compiled(x).numpy(), f(x).numpy(), rtol=1e-6)


def test_equal_masks_give_equal_sizes_and_other_ones_are_an_error() -> None:
    np.testing.assert_array_equal(
        torch.compile(lambda x: x[x > 0] + (x * 2)[x > 0])(torch.tensor([1.0, -1, 3])).numpy(), [3, 9]
    )
    line = sys._getframe().f_lineno + 1
    compiled = torch.compile(lambda x: x[x > 0] + x[x > 1])
    with pytest.raises(
        RuntimeError, match=rf"test_compile_sizes.py:{line}: The size of tensor a \(u0\) must match"
    ) as e:
        compiled(torch.tensor([1.0, -1, 3]))
    assert "u1 is known only when nonzero at test_compile_sizes.py" in str(e.value)


def test_what_an_op_of_a_told_size_refuses_is_raised_by_the_call() -> None:
    compiled = torch.compile(lambda i: torch.bincount(i) + 1)
    np.testing.assert_array_equal(compiled(torch.tensor([1, 1, 3])).numpy(), [1, 3, 1, 2])
    with pytest.raises(RuntimeError, match="bincount only supports 1-d non-negative integral inputs"):
        compiled(torch.tensor([1, -1, 3]))
    np.testing.assert_array_equal(compiled(torch.tensor([0, 0, 0])).numpy(), [4])


def test_with_a_symbolic_batch() -> None:
    batch = torch.Dim("batch", 1, 50)
    compiled = torch.compile(lambda x: x[x[:, 0] > 0].sum(1), dynamic_shapes={"x": {0: batch}})
    for rows in (2, 9, 1, 50):
        x = torch.randn(rows, 3)
        np.testing.assert_allclose(compiled(x).numpy(), x[x[:, 0] > 0].sum(1).numpy(), rtol=1e-5)
    assert len(compiled.report().compiles) == 1


def test_threads_have_sizes_of_their_own() -> None:
    compiled = torch.compile(lambda x: (x[x > 0] * 2, x[x > 0].sum()))
    compiled(torch.ones(4))
    wrong: list[object] = []

    def work(number: int) -> None:
        rng = np.random.default_rng(number)
        for _ in range(30):
            x = torch.from_numpy(rng.normal(size=(40,)).astype(np.float32))
            y, total = compiled(x)
            want = x.numpy()[x.numpy() > 0]
            if y.numpy().tolist() != (want * 2).tolist() or abs(total.item() - want.sum()) > 1e-4:
                wrong.append((number, y.shape, want.shape))

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_from_the_cache_in_a_fresh_process(tmp_path: Path) -> None:
    script = tmp_path / "again.py"
    script.write_text(
        textwrap.dedent("""
        import vitrify as torch
        f = torch.compile(lambda x: (torch.unique(x[x > 1] * 2, return_counts=True), torch.bincount(x.long()) + 1))
        (values, counts), bins = f(torch.tensor([2.0, 1, 3, 2, 2]))
        print(values.tolist(), counts.tolist(), bins.tolist())
        print(f(torch.tensor([0.0, 1, 0, 1, 0]))[1].tolist(), f.report().compiles[0].from_cache)
        """)
    )
    texts = []
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, str(script)],
            capture_output=True,
            text=True,
            timeout=100,
            env={"VITRIFY_CACHE_DIR": str(tmp_path / "cache"), "PATH": "/usr/bin:/bin"},
        )
        assert done.returncode == 0, done.stderr
        texts.append(done.stdout.splitlines())
    assert [t[0] for t in texts] == ["[4.0, 6.0] [3, 1] [1, 2, 4, 2]"] * 2
    assert [t[1] for t in texts] == ["[4, 3] False", "[4, 3] True"]


def test_code_that_relies_on_an_answer_does_not_run_where_it_is_another() -> None:
    def f(x: torch.Tensor) -> torch.Tensor:
        y = x[x > 0]
        return sum((y[i] * (i + 1) for i in range(len(y))), torch.zeros(()))

    compiled = torch.compile(f, fullgraph=True)
    for x in (
        torch.ones(6),
        torch.tensor([1.0, -1, 2, -2, 3, -3]),
        -torch.ones(6),
        torch.tensor([1.0, 1, 2, -2, -3, -3]),
    ):
        np.testing.assert_allclose(compiled(x).numpy(), f(x).numpy(), rtol=1e-6)
    reasons = [c.reason for c in compiled.report().compiles]
    assert len(reasons) == 3 and "came out another way (at test_compile_sizes.py" in reasons[1]


@pytest.mark.parametrize("index", [1, -2])
def test_an_index_outside_a_told_size(index: int) -> None:
    compiled = torch.compile(lambda x: x[x > 0][index])
    assert compiled(torch.tensor([1.0, 2, 2])).item() == 2
    with pytest.raises(IndexError, match=rf"index {index} is out of bounds for dimension 0 with size u0"):
        compiled(torch.tensor([1.0, -1, -1]))


def test_writing_where_a_mask_is() -> None:
    def f(x: torch.Tensor) -> torch.Tensor:
        y = x.clone()
        y[x > 0] = x[x > 0] * 2
        y[x < 0] += 10
        return y

    compiled = torch.compile(f, fullgraph=True)
    for seed in range(3):
        torch.manual_seed(seed)
        x = torch.randn(3, 4)
        np.testing.assert_array_equal(compiled(x).numpy(), f(x).numpy())


def test_a_result_in_another_shape() -> None:
    f = torch.compile(lambda x: (torch.nonzero(x > 0, as_tuple=True)[0], torch.unique(x).reshape(-1, 1)))
    for values in ([1.0, -1, 2, 2], [-1.0, -1, -1, -1]):
        places, unique = f(torch.tensor(values))
        want = np.nonzero(np.array(values) > 0)[0]
        assert places.tolist() == want.tolist()
        assert unique.tolist() == [[v] for v in sorted(set(values))]
