"""Host nodes: ops that NumPy computes inside compiled graphs, called back from the native program."""

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
from vitrify.dispatch import apply
from vitrify.ir.dtypes import f32, i64
from vitrify.ir.interpreter import run
from vitrify.ir.op import Op, _registry, declare, op_named
from vitrify.ir.parser import parse, parse_region
from vitrify.ir.printer import to_text
from vitrify.ir.types import TensorType
from vitrify.passes.fusion import Fusion
from vitrify.passes.fusion_check import check_fusion
from vitrify.passes.partition import is_cheap
from vitrify.passes.pipeline import default_pipeline, run_pipeline
from vitrify.runtime.execute import run_program

PROGRAM = """
dims batch in 1..64
graph order(%x: f32[batch,4], %y: f32[batch,4]) -> (f32[batch,4], i64[batch,4]) {
  %0: f32[4,batch] = permute(%x) {dims=[1,0]}
  %1: i64[4,batch] = argsort(%0) {dim=1}
  %2: f32[4,batch] = gather(%0, %1) {dim=1}
  %3: f32[batch,4] = permute(%2) {dims=[1,0]}
  %4: f32[batch,4] = add(%3, %y)
  %5: i64[batch,4] = permute(%1) {dims=[1,0]}
  return %4, %5
}
"""


def same(found: object, expected: object) -> None:
    for a, b in zip(found, expected, strict=True):  # type: ignore[call-overload]
        np.testing.assert_array_equal(a, b)


def fused_program() -> tuple:
    stages = run_pipeline(parse(PROGRAM), default_pipeline())
    check_fusion(stages[-2], stages[-1])
    return stages[0], stages[-1]


def test_a_host_node_is_a_group_of_its_own() -> None:
    _, fused = fused_program()
    kinds = {n.attrs["kind"]: [m.op.name for m in n.regions[0].nodes] for n in fused.nodes}
    assert kinds["host"] == ["permute", "argsort"]
    assert parse(to_text(fused)) == fused
    report = Fusion().run_with_report(run_pipeline(parse(PROGRAM), default_pipeline()[:-1])[-1])
    assert "(host): permute, argsort" in str(report)


def test_a_host_call_in_the_loop_ir() -> None:
    traced, fused = fused_program()
    program = lower_graph(fused, Target.host())
    verify_program(program)
    text = print_program(program)
    assert "host host_0(x: f32[batch,4], 1: i64[4,batch] written) over batch in 1..=64 {" in text
    assert "= argsort(" in text
    rng = np.random.default_rng(0)
    inputs = [rng.normal(size=(5, 4)).astype(np.float32) for _ in range(2)]
    expected = run(traced, inputs)
    found, status = interpret(program, inputs, {"batch": 5})
    assert status == 0
    same(found, expected)
    same(run_program(program, inputs, {"batch": 5}), expected)


def test_compiled_order_is_eager_order() -> None:
    def f(x: torch.Tensor, y: torch.Tensor) -> tuple:
        values, places = torch.sort(x * 2, dim=1, descending=True)
        return values + 1, places, torch.topk(y, 2, dim=0), x.median(), torch.kthvalue(y, 2)

    compiled = torch.compile(f, fullgraph=True)
    for seed in range(2):
        torch.manual_seed(seed)
        x, y = torch.randn(4, 6), torch.randn(5, 3)
        for a, b in zip(flat(f(x, y)), flat(compiled(x, y)), strict=True):
            np.testing.assert_array_equal(a.numpy(), b.numpy())


def flat(found: object) -> list:
    return [found] if isinstance(found, torch.Tensor) else [t for part in found for t in flat(part)]  # type: ignore[attr-defined]


def test_gradients_pass_through_a_sort() -> None:
    weight = torch.randn(6, requires_grad=True)

    def step(x: torch.Tensor) -> torch.Tensor:
        loss = (torch.sort(x * weight, dim=1)[0][:, :3] ** 2).sum()
        loss.backward()
        return loss

    x = torch.randn(4, 6)
    expected = step(x).detach()
    grad, weight.grad = weight.grad, None
    found = torch.compile(step)(x)
    np.testing.assert_allclose(found.detach().numpy(), expected.numpy(), rtol=1e-6)
    np.testing.assert_allclose(weight.grad.numpy(), grad.numpy(), rtol=1e-6)


def test_gradients_of_a_compiled_model_with_a_sort() -> None:
    model = torch.nn.Linear(5, 7)
    compiled = torch.compile(lambda x: torch.topk(model(x).relu(), 3)[0].sum(1))
    x = torch.randn(4, 5)
    torch.topk(model(x).relu(), 3)[0].sum(1).sum().backward()
    expected = [p.grad.clone() for p in model.parameters()]
    model.zero_grad()
    compiled(x).sum().backward()
    for p, grad in zip(model.parameters(), expected):
        np.testing.assert_allclose(p.grad.numpy(), grad.numpy(), rtol=1e-5, atol=1e-6)


def test_a_batch_of_any_size() -> None:
    batch = torch.Dim("batch", 1, 100)
    compiled = torch.compile(lambda x: torch.argsort(x, 0), dynamic_shapes={"x": {0: batch}})
    for size in (3, 1, 50):
        x = torch.randn(size, 2)
        np.testing.assert_array_equal(compiled(x).numpy(), torch.argsort(x, 0).numpy())
    assert compiled.report().retraces == 0 and len(compiled.report().compiles) == 1


def test_host_nodes_are_dear_and_pure() -> None:
    graph = parse(PROGRAM)
    assert not is_cheap(next(n for n in graph.nodes if n.op.name == "argsort"))
    twice = parse(
        "graph g(%x: f32[4]) -> (i64[4], i64[4]) {\n %0: i64[4] = argsort(%x) {dim=0}\n"
        " %1: i64[4] = argsort(%x) {dim=0}\n %2: i64[4] = argsort(%x) {dim=0, descending=true}\n return %0, %1\n}"
    )
    final = run_pipeline(twice, default_pipeline())[-1]
    assert [n.attrs["kind"] for n in final.nodes] == ["host"]


# What may go wrong


@pytest.fixture
def refusing() -> Op:
    """A host op that raises for negative numbers."""

    def rule(x: np.ndarray) -> np.ndarray:
        if (x < 0).any():
            raise ArithmeticError(f"refusing: {x.min()} is negative")
        return np.sqrt(x)

    op = declare(Op("refusing", "A test's.", infer=lambda x: x, numpy=rule, lowering="host"))
    yield op
    del _registry["refusing"]


def test_what_a_host_op_raises_is_raised_by_the_call(refusing: Op) -> None:
    state = torch.zeros(2)

    def f(x: torch.Tensor) -> torch.Tensor:
        y = apply(refusing, (x + 0,))  # the line in the note
        state.add_(y)
        return y * 2

    compiled = torch.compile(f)
    np.testing.assert_array_equal(compiled(torch.ones(2)).numpy(), [2, 2])
    with pytest.raises(ArithmeticError, match=r"-3\.0 is negative") as raised:
        compiled(torch.tensor([1.0, -3.0]))
    (note,) = raised.value.__notes__
    line = f.__code__.co_firstlineno + 1
    assert note == f"in compiled f, at test_compile_host_ops.py:{line}"
    np.testing.assert_array_equal(state.numpy(), [1, 1])  # what came after the failure did not run
    np.testing.assert_array_equal(compiled(torch.ones(2)).numpy(), [2, 2])


def test_a_numpy_rule_of_another_type_than_declared_is_an_error() -> None:
    op = declare(Op("lying", "A test's.", infer=lambda x: x, numpy=lambda x: x[:1], lowering="host"))
    try:
        with pytest.raises(Exception, match=r"its NumPy rule gave float32\[1\], not f32\[3\]"):
            torch.compile(lambda x: apply(op, (x,)))(torch.ones(3))
    finally:
        del _registry["lying"]


def test_threads_have_errors_of_their_own(refusing: Op) -> None:
    compiled = torch.compile(lambda x: apply(refusing, (x,)).sum())
    compiled(torch.ones(4))
    wrong: list[object] = []

    def work(number: int) -> None:
        for turn in range(40):
            if (turn + number) % 3:
                if compiled(torch.full((4,), float(number**2))).item() != 4 * number:
                    wrong.append(number)
            else:
                try:
                    compiled(torch.full((4,), -1.0 - number))
                    wrong.append("no error")
                except ArithmeticError as error:
                    if str(-1.0 - number) not in str(error):
                        wrong.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_attributes_of_every_kind_reach_a_fresh_process(tmp_path: Path) -> None:
    script = tmp_path / "again.py"
    script.write_text(
        textwrap.dedent("""
        import vitrify as torch
        batch = torch.Dim("batch", 1, 9)
        f = torch.compile(lambda x: (torch.sort(x.t(), 1, descending=True), (x + 1j).sum(0).abs()),
                          dynamic_shapes={"x": {0: batch}})
        found = f(torch.arange(6.0).reshape(3, 2) % 4)
        print(found[0][0].tolist(), found[0][1].tolist(), [round(v, 4) for v in found[1].tolist()])
        print(f.report().compiles[0].from_cache)
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
    assert (
        texts[0][0]
        == texts[1][0]
        == ("[[2.0, 0.0, 0.0], [3.0, 1.0, 1.0]] [[1, 0, 2], [1, 0, 2]] [3.6056, 5.831]")
    )
    assert (texts[0][1], texts[1][1]) == ("False", "True")


# Complex numbers


def test_complex_numbers_go_through_host_nodes() -> None:
    def f(x: torch.Tensor, z: torch.Tensor) -> tuple:
        w = z * 2 + x
        return w, (w.t() @ w), w.abs(), w.reshape(-1), x * 3

    x = torch.randn(3, 2)
    z = torch.tensor([[1 + 2j, 3], [0.5j, -1], [2, 1 - 1j]], dtype=torch.complex64)
    for a, b in zip(f(x, z), torch.compile(f, fullgraph=True)(x, z), strict=True):
        assert a.dtype is b.dtype
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-6)


def test_complex_results_given_twice_or_handed_back() -> None:
    z = torch.tensor([1 + 2j, 3], dtype=torch.complex64)
    a, b, c = torch.compile(lambda z: (z + 1, z + 1, z))(z)
    np.testing.assert_array_equal(a.numpy(), b.numpy())
    np.testing.assert_array_equal(c.numpy(), z.numpy())


def test_a_host_calls_graph_takes_dims_from_outside() -> None:
    node = "%0: f32[n,2] = full() {shape=[n,2], value=1.0, dtype=f32}"
    text = f"dims n in 1..9\ngraph g() -> f32[n,2] {{\n  {node}\n  return %0\n}}"
    assert to_text(parse_region(text)) == text
    with pytest.raises(Exception, match="no input of the graph has n as a dim"):
        parse(text)


def test_declared_types() -> None:
    assert op_named("argsort").lowering == "host"
    assert op_named("argsort").infer(TensorType((3,), f32), 0, False) == TensorType((3,), i64)
