"""Choice by measurement: what is tried, what wins, what is kept, and that nothing but speed depends on it."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

import vitrify as torch
from vitrify.__main__ import main
from vitrify.codegen.lower import contraction_plan, lower_graph
from vitrify.codegen.lower.choices import Choices, varied
from vitrify.codegen.target import Target
from vitrify.compile import check
from vitrify.ir import dtypes
from vitrify.ir.builder import GraphBuilder
from vitrify.ir.types import TensorType
from vitrify.runtime import bisect, compiled_graph, disk_cache, races, tuner
from vitrify.runtime.compiled_graph import CompileOptions, compile_graph
from vitrify.runtime.execute import compile_program, run_program
from vitrify.runtime.races import race
from vitrify.runtime.staged import StagedGraph
from vitrify.runtime.tuner import tune_graph

OPTIONS = CompileOptions(tune=True, cache=False)


class NoCode:
    """In the place of a loaded program, for clocks that need none."""

    def run(self, *_):
        return 0


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch):
    monkeypatch.setattr(tuner, "_known", {})


@pytest.fixture
def no_code(monkeypatch):
    monkeypatch.setattr(tuner, "compile_program", lambda *_: NoCode())


def network(rows=24, name="network"):
    """A convolution, a reduction of its result, a product."""
    builder = GraphBuilder(name)
    x = builder.input("x", TensorType((1, 16, 10, 12), dtypes.f32))
    w = builder.input("w", TensorType((32, 16, 3, 3), dtypes.f32))
    a = builder.input("a", TensorType((rows, 120), dtypes.f32))
    b = builder.input("b", TensorType((120, 40), dtypes.f32))
    image = builder.conv(x, w, stride=(1, 1), padding=(1, 1), dilation=(1, 1), groups=1)
    return builder.finish([builder.relu(image), builder.matmul(a, b)])


def inputs_of(graph):
    generator = np.random.default_rng(3)
    return [generator.uniform(-1, 1, v.type.shape).astype(np.float32) for v in graph.inputs]


class FakeClock:
    """Every run takes what `cost` says of the plan in the comment of the program's last kernel."""

    def __init__(self, cost):
        self.cost = cost
        self.time = 0.0
        self.runs: Counter[str] = Counter()

    def now(self):
        return self.time

    def seconds(self, contender, runs):
        comment = next(x.kernel.comment for x in reversed(contender.program.launches) if x.kernel.comment)
        plan = comment.partition("; about")[0]
        self.runs[plan] += runs
        taken = runs * self.cost(plan)
        self.time += taken
        return taken


def equal(plan):
    return 1e-5


def later_is_faster():
    """A cost that makes every plan faster than those before it."""
    seen: dict[str, float] = {}
    return lambda plan: seen.setdefault(plan, 1e-4 / (1 + len(seen)))


# -- what is found ----------------------------------------------------------------------------------------------------


def test_a_model_that_ranks_wrongly_is_put_right(monkeypatch, no_code):
    staged = StagedGraph(products(), OPTIONS)
    best = tune_graph(staged, Target.host(), FakeClock(equal)).measured[0].candidates[0][0]
    vectors = best[len("lanes ")]
    true: dict[str, float] = {}
    cycles, finished = contraction_plan._Plans.cycles, contraction_plan._Plans.finished

    def wrong(self, plan):
        """What is like the best plan seems to be a little worse than it is."""
        return cycles(self, plan) * (1.1 if str(plan.vectors) == vectors else 1.0)

    def recorded(self, plan):
        made = finished(self, plan)
        true[made.text()] = cycles(self, made)
        return made

    monkeypatch.setattr(contraction_plan._Plans, "cycles", wrong)
    monkeypatch.setattr(contraction_plan._Plans, "finished", recorded)
    monkeypatch.setattr(contraction_plan, "_ranked", {})
    tuner._known.clear()
    clock = FakeClock(lambda plan: 1e-5 * (true[plan] / 1e4) ** 9)
    (found,) = tune_graph(staged, Target.host(), clock).measured
    assert found.candidates[0][0] != best
    assert found.candidates[found.chosen][0] == best
    assert found.gain == pytest.approx((true[found.candidates[0][0]] / true[best]) ** 9 - 1)


def products(rows=24):
    builder = GraphBuilder("products")
    a = builder.input("a", TensorType((rows, 120), dtypes.f32))
    b = builder.input("b", TensorType((120, 40), dtypes.f32))
    return builder.finish([builder.matmul(a, b)])


def test_equal_times_leave_the_choice_to_the_model(no_code):
    found = tune_graph(StagedGraph(network(), OPTIONS), Target.host(), FakeClock(equal))
    # The convolution's form and the product's plan; where the form is the sum, which depends on the processor, its plan.
    form = found.measured[0].candidates[0][0]
    assert len(found.measured) == (3 if form == "the sum itself" else 2)
    assert {m.chosen for m in found.measured} == {0}
    assert found.left == 0


def test_the_same_times_give_the_same_choices_and_those_the_same_program(no_code):
    staged = StagedGraph(network(), OPTIONS)
    first = tune_graph(staged, Target.host(), FakeClock(later_is_faster()))
    tuner._known.clear()
    second = tune_graph(staged, Target.host(), FakeClock(later_is_faster()))
    assert first == second
    assert any(m.chosen for m in first.measured)
    fused = staged.stages[-1]
    lower = replace(OPTIONS.lower, choices=first.choices)
    a, b = (lower_graph(fused, Target.host(), lower) for _ in range(2))
    comments = [x.kernel.comment.partition("; about")[0] for x in a.launches]
    assert comments == [x.kernel.comment.partition("; about")[0] for x in b.launches]
    chosen = {m.candidates[m.chosen][0] for m in first.measured} - {"the sum itself"}
    assert chosen <= set(comments)


def test_the_way_after_the_first_choice_is_tuned_too(no_code):
    faster = later_is_faster()

    def cost(plan):
        return 1e-3 if "Winograd" in plan else faster(plan)

    builder = GraphBuilder("image")
    x = builder.input("x", TensorType((1, 16, 28, 28), dtypes.f32))
    w = builder.input("w", TensorType((32, 16, 3, 3), dtypes.f32))
    conv = builder.conv(x, w, stride=(1, 1), padding=(1, 1), dilation=(1, 1), groups=1)
    staged = StagedGraph(builder.finish([conv]), OPTIONS)
    found = tune_graph(staged, Target.host(), FakeClock(cost))
    first, second = found.measured
    assert "Winograd" in first.candidates[0][0]
    assert first.candidates[first.chosen][0] == "the sum itself"
    assert second.chosen
    program = lower_graph(staged.stages[-1], Target.host(), replace(OPTIONS.lower, choices=found.choices))
    assert not any("Winograd" in x.kernel.comment for x in program.launches)


def test_equal_groups_are_one_question(no_code):
    builder = GraphBuilder("layers")
    x = builder.input("x", TensorType((24, 40), dtypes.f32))
    for n in range(3):
        x = builder.relu(builder.matmul(x, builder.input(f"w{n}", TensorType((40, 40), dtypes.f32))))
    found = tune_graph(StagedGraph(builder.finish([x]), OPTIONS), Target.host(), FakeClock(equal))
    (only,) = found.measured
    assert len(only.groups) == 3


def test_varied_takes_the_best_of_each_kind_first():
    ranked = [("a1", 1.0), ("a2", 1.01), ("a3", 1.02), ("b1", 1.1), ("b2", 1.15), ("c1", 2.0)]
    assert varied(ranked, lambda plan: plan[0], 3) == [ranked[0], ranked[1], ranked[3]]
    assert varied(ranked, lambda plan: plan[0], 1) == ranked[:1]
    assert varied(ranked, lambda plan: plan[0], 9) == ranked


# -- races ------------------------------------------------------------------------------------------------------------


class Scripted:
    """A clock whose contenders are numbers: `cost(contender, sample)` seconds a run, samples counted for each."""

    def __init__(self, cost):
        self.cost = cost
        self.time = 0.0
        self.samples: Counter[int] = Counter()

    def now(self):
        return self.time

    def seconds(self, contender, runs):
        taken = runs * self.cost(contender, self.samples[contender])
        self.samples[contender] += 1
        self.time += taken
        return taken


def test_the_fastest_wins():
    clock = Scripted(lambda n, _: [3e-4, 2e-4, 2.5e-4][n])
    assert race(range(3), clock, 100.0).winner == 1


def test_who_is_clearly_behind_leaves_early():
    clock = Scripted(lambda n, _: [1e-4, 4e-4, 1.6e-4, 1.02e-4][n])
    result = race(range(4), clock, 100.0)
    assert result.winner == 0
    assert [clock.samples[n] for n in range(4)] == [25, 2, 5, 25]
    assert result.seconds[1] == pytest.approx(4e-4)


def test_long_runs_are_few():
    clock = Scripted(lambda n, _: [0.5, 0.49][n])
    race(range(2), clock, 100.0)
    assert clock.samples[1] == 1 + 2 * races.LEAST_SAMPLES


def test_disturbances_do_not_decide():
    """Most samples of the better one are spoiled."""
    clock = Scripted(lambda n, sample: 1e-4 if n == 0 else 0.8e-4 * (1 + (sample % 4 != 1)))
    assert race(range(2), clock, 100.0).winner == 1


def test_a_gain_within_noise_is_none():
    clock = Scripted(lambda n, _: [1e-4, 0.98e-4][n])
    assert race(range(2), clock, 100.0).winner == 0


def test_a_gain_must_be_there_again():
    """Faster while all race, but not in the races that follow."""
    clock = Scripted(lambda n, sample: 1e-4 if n == 0 or sample > races.SAMPLES else 0.8e-4)
    result = race(range(2), clock, 100.0)
    assert result.winner == 0
    assert result.finished


def test_time_is_up():
    clock = Scripted(lambda n, _: [1.0, 0.5][n])
    result = race(range(2), clock, 2.0)
    assert (result.winner, result.finished) == (0, False)
    assert clock.time <= 3.0


# -- budget, cache ----------------------------------------------------------------------------------------------------


def test_a_spent_budget_leaves_the_rest_to_the_model(caplog, no_code):
    caplog.set_level(logging.INFO, "vitrify")
    options = replace(OPTIONS, tune_seconds=0.0)
    found = tune_graph(StagedGraph(network(), options), Target.host(), FakeClock(equal))
    assert (found.left, found.measured) == (2, ())
    assert "2 questions are left to the model" in caplog.text
    code = compile_graph(network(), options)
    assert code.tuning is not None and code.tuning.left == 2
    plain = lower_graph(code.stages[-1], Target.host())
    assert [x.kernel.comment for x in code.program.launches] == [x.kernel.comment for x in plain.launches]


def test_what_is_measured_is_logged(caplog, no_code):
    caplog.set_level(logging.INFO, "vitrify")
    tune_graph(StagedGraph(products(), OPTIONS), Target.host(), FakeClock(later_is_faster()))
    assert "products: matmul of fused_0: 6 ways, " in caplog.text
    assert "in speed" in caplog.text


def test_a_question_of_another_graph_is_not_measured_again(tmp_path, monkeypatch, no_code):
    monkeypatch.setenv("VITRIFY_CACHE_DIR", str(tmp_path))
    options = replace(OPTIONS, cache=True)
    clock = FakeClock(later_is_faster())
    (first,) = tune_graph(StagedGraph(products(), options), Target.host(), clock).measured
    silent = FakeClock(equal)
    found = tune_graph(StagedGraph(network(), options), Target.host(), silent).measured
    (known,) = (m for m in found if m.known)
    assert (known.candidates, known.chosen) == (first.candidates, first.chosen)
    assert not any(plan in silent.runs for plan, _, _ in first.candidates)


def test_threads_are_part_of_the_question(tmp_path, monkeypatch, no_code):
    monkeypatch.setenv("VITRIFY_CACHE_DIR", str(tmp_path))
    options = replace(OPTIONS, cache=True)
    found = []
    for threads in (1, 2, 1):
        monkeypatch.setattr(tuner, "get_num_threads", lambda n=threads: n)
        tuner._known.clear()
        found += tune_graph(StagedGraph(products(), options), Target.host(), FakeClock(equal)).measured
    assert [m.known for m in found] == [False, False, True]


def test_an_unfinished_tuning_goes_on_where_it_stopped(tmp_path, monkeypatch, no_code):
    monkeypatch.setenv("VITRIFY_CACHE_DIR", str(tmp_path))
    options = replace(OPTIONS, cache=True, tune_seconds=0.0)
    clock = FakeClock(equal)
    assert tune_graph(StagedGraph(products(), options), Target.host(), clock).left == 1
    tuner._known.clear()
    options = replace(options, tune_seconds=30.0)
    assert tune_graph(StagedGraph(products(), options), Target.host(), clock).left == 0


SCRIPT = """
import json
import vitrify as torch
from vitrify.runtime import tuner

raced = []
race = tuner.race
tuner.race = lambda *args: raced.append(1) or race(*args)
w = torch.ones(120, 40)
f = torch.compile(lambda x: (x @ w).relu(), mode="max-autotune")
f(torch.ones(24, 120))
tuning = f.explain().to_dict()["graphs"][0]["tuning"]
print(json.dumps([len(raced), [c["known"] for c in tuning["choices"]], f.explain().to_dict()["compiles"][0]["found"]]))
"""


def test_a_second_process_does_not_measure(tmp_path):
    environment = {**os.environ, "VITRIFY_CACHE_DIR": str(tmp_path)}
    found = []
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
            timeout=120,
        )
        found.append(json.loads(done.stdout))
    assert found == [[1, [False], "new"], [0, [True], "disk"]]


def test_a_damaged_entry_is_measured_again(tmp_path, monkeypatch, no_code):
    monkeypatch.setenv("VITRIFY_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(disk_cache, "_warned", set())
    options = replace(OPTIONS, cache=True)
    tune_graph(StagedGraph(products(), options), Target.host(), FakeClock(equal))
    for path in tmp_path.glob("*.vtr"):
        path.write_bytes(path.read_bytes()[:-3])
    tuner._known.clear()
    with pytest.warns(RuntimeWarning, match="damaged cache entry"):
        (found,) = tune_graph(StagedGraph(products(), options), Target.host(), FakeClock(equal)).measured
    assert not found.known


# -- results ----------------------------------------------------------------------------------------------------------


def answers(staged, target, pick):
    """A table that answers every question by `pick(candidates)`, those that come up later too."""
    table: dict[str, str] = {}
    while True:
        questions = []
        lower_graph(
            staged.stages[-1], target, replace(OPTIONS.lower, choices=Choices() | table), questions=questions
        )
        new = {q.key: pick(q.candidates).name for q in questions if q.key not in table}
        if not new:
            return Choices() | table
        table |= new


@pytest.mark.sweep(2)
@pytest.mark.parametrize("place", range(6))
def test_every_candidate_computes_the_same_with_any_number_of_threads(place):
    graph = network(rows=23)
    staged = StagedGraph(graph, OPTIONS)
    inputs = inputs_of(graph)
    choices = answers(staged, Target.host(), lambda found: found[min(place, len(found) - 1)])
    program = lower_graph(staged.stages[-1], Target.host(), replace(OPTIONS.lower, choices=choices))
    loaded = compile_program(program)
    got, *others = (run_program(program, inputs, threads=n, loaded=loaded) for n in (1, 2, 3))
    one, *more = ([a.tobytes() for a in found] for found in (got, *others))
    assert more == [one, one]
    want = run_program(lower_graph(staged.stages[-1], Target.host()), [a.astype(np.float32) for a in inputs])
    for a, b in zip(got, want):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


def test_choices_are_part_of_the_programs_key():
    """Two tables, two programs; the same table, the same."""
    staged = StagedGraph(products(), OPTIONS)
    last = answers(staged, Target.host(), lambda found: found[-1])
    plain = compile_graph(products(), CompileOptions(cache=False))
    other, again = (
        compile_graph(products(), CompileOptions(cache=False, lower=replace(OPTIONS.lower, choices=last)))
        for _ in range(2)
    )
    assert other is again
    assert other is not plain
    assert other.program.launches[-1].kernel.comment != plain.program.launches[-1].kernel.comment


def test_a_symbolic_dim_is_tuned_at_the_size_that_the_model_reckons_with():
    layer = torch.nn.Linear(40, 24)
    dim = torch.Dim("batch", 1, 512)
    f = torch.compile(layer, options={"tune": True}, dynamic_shapes={"input": {0: dim}})
    with torch.no_grad():
        for rows in (1, 7, 200):
            x = torch.randn(rows, 40)
            torch.testing.assert_close(f(x), layer(x))
    (tuning,) = [g["tuning"] for g in f.explain().to_dict()["graphs"]]
    assert tuning["left"] == 0


def test_a_training_step_is_tuned():
    model = torch.nn.Sequential(torch.nn.Linear(40, 24), torch.nn.ReLU(), torch.nn.Linear(24, 8))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x, y = torch.randn(32, 40), torch.randint(0, 8, (32,))

    def step(x, y):
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    tuned = torch.compile(step, options={"tune": True})
    losses = [tuned(x, y).item() for _ in range(5)]
    assert losses == sorted(losses, reverse=True)
    assert tuned.explain().to_dict()["graphs"][0]["tuning"]["choices"]


# -- what the user sees -----------------------------------------------------------------------------------------------


def test_explain_and_the_report_show_what_was_measured():
    w = torch.randn(120, 40)
    f = torch.compile(lambda x: x @ w, options={"tune": True})
    f(torch.randn(24, 120))
    (graph,) = f.explain().to_dict()["graphs"]
    (choice,) = graph["tuning"]["choices"]
    assert choice["subject"] == "matmul"
    assert all(c["seconds"] > 0 for c in choice["candidates"])
    assert f.report().to_json()["graphs"][0]["tuning"] == graph["tuning"]
    for text in (str(f.explain()), str(f.report())):
        assert "chosen by measurement" in text
        assert choice["candidates"][choice["chosen"]]["plan"] in text
    plain = torch.compile(lambda x: x @ w)
    plain(torch.randn(24, 120))
    assert plain.explain().to_dict()["graphs"][0]["tuning"] is None
    assert "chosen by measurement" not in str(plain.explain())


def test_check_looks_at_the_tuned_program(monkeypatch):
    """As compiled, and without measuring again."""
    looked: list[bool] = []

    def noted(graph, inputs, options, *rest):
        looked.append(options.lower.choices is not None)
        return examine(graph, inputs, options, *rest)

    examine = bisect.examine
    monkeypatch.setattr(check, "examine", noted)
    w = torch.randn(120, 40)
    f = torch.compile(lambda x: x @ w, options={"tune": True})
    x = torch.randn(24, 120)
    f(x)
    monkeypatch.setattr(tuner, "race", None)
    assert "PARTS" not in str(f.check(x))
    assert looked == [True]


@pytest.mark.parametrize("mode", ["max-autotune", "max-autotune-no-cudagraphs", "default"])
def test_pytorchs_modes(mode):
    f = torch.compile(lambda x: x @ x, mode=mode)
    f(torch.ones(20, 20))
    assert (f.explain().to_dict()["graphs"][0]["tuning"] is not None) == mode.startswith("max")


def test_strict_numerics_refuse():
    with pytest.raises(RuntimeError, match="tune is not for numerics='strict'"):
        torch.compile(lambda x: x, options={"tune": True, "numerics": "strict"})
    options = replace(OPTIONS, pipeline=replace(OPTIONS.pipeline, strict=True))
    with pytest.raises(ValueError, match="strict numerics"):
        compile_graph(products(), options)


@pytest.mark.parametrize("seconds", [-1, "many", True, float("nan")])
def test_the_budget_is_a_number_of_seconds(seconds):
    with pytest.raises(RuntimeError, match="tune_seconds is a number from 0 on"):
        torch.compile(lambda x: x, options={"tune": True, "tune_seconds": seconds})


def test_a_target_that_this_machine_does_not_run():
    foreign = "aarch64-neon" if Target.host().isa != "neon" else "x86-64-avx2"
    with pytest.raises(RuntimeError, match="needs a machine that runs the code"):
        compile_graph(products(), replace(OPTIONS, target=Target.named(foreign)))


# -- libraries, commands ----------------------------------------------------------------------------------------------


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="code for x86-64")
def test_an_exported_library_is_tuned_for_each_of_its_targets(tmp_path, monkeypatch):
    tuned: list[str] = []

    def noted(staged, target, clock=None):
        tuned.append(target.isa)
        return tune_graph(staged, target, clock)

    monkeypatch.setattr(compiled_graph, "tune_graph", noted)
    layer = torch.nn.Linear(20, 8).eval()
    targets = ["x86-64-avx2", "x86-64-sse2"]
    torch.export(layer, torch.zeros(3, 20), tmp_path / "net.so", target=targets, options=OPTIONS)
    assert tuned == ["avx2", "sse2"]
    x = torch.randn(3, 20)
    with torch.no_grad():
        torch.testing.assert_close(torch.load_exported(tmp_path / "net.so")(x), layer(x))


def test_commands_tune(tmp_path, monkeypatch, capsys, caplog):
    caplog.set_level(logging.INFO, "vitrify")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.py").write_text("from vitrify import nn\nnet = nn.Linear(20, 8).eval()\n")
    assert (
        main(["bench-model", "net.py:net", "f32[3, 20]", "--seconds", "0.02", "--threads", "1", "--tune"])
        == 0
    )
    assert "matmul of" in caplog.text
    caplog.clear()
    assert main(["compile", "net.py:net", "f32[5, 20]", "-o", "net.so", "--tune"]) == 0
    assert "matmul of" in caplog.text
    capsys.readouterr()
