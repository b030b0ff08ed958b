"""What makes a compiled function compile again, what does not, and that the reason is told."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

import vitrify as torch
import vitrify.nn as nn


def reasons(compiled):
    return [c.reason for c in compiled.report().compiles]


def test_a_new_shape_is_told_with_both_shapes():
    double = torch.compile(lambda x: x * 2)
    double(torch.ones(3))
    double(torch.ones(4))
    double(torch.ones(3))
    assert reasons(double)[0] == "first call"
    assert len(reasons(double)) == 2
    assert "f32[3]" in reasons(double)[1] and "[4]" in reasons(double)[1]


def test_a_new_dtype_compiles_again():
    double = torch.compile(lambda x: x * 2)
    assert double(torch.ones(3)).dtype is torch.float32
    assert double(torch.ones(3, dtype=torch.float64)).dtype is torch.float64
    assert double(torch.ones(3, dtype=torch.int64)).dtype is torch.int64
    assert len(reasons(double)) == 3


def test_a_closed_over_number_is_guarded():
    scale = 2.0

    def f(x):
        return x * scale

    compiled = torch.compile(f)
    assert compiled(torch.ones(1)).item() == 2.0
    scale = 3.0
    assert compiled(torch.ones(1)).item() == 3.0
    assert "scale was 2.0, now 3.0" in reasons(compiled)[1]


def test_a_number_argument_is_a_constant_of_the_specialization():
    add = torch.compile(lambda x, n: x + n)
    assert add(torch.ones(1), 2).item() == 3
    assert add(torch.ones(1), 5).item() == 6
    assert add(torch.ones(1), n=2).item() == 3
    assert "argument n was 2, now 5" in reasons(add)[1]


def test_grad_mode_is_guarded():
    net = nn.Linear(2, 2)
    compiled = torch.compile(net)
    x = torch.ones(1, 2)
    assert compiled(x).requires_grad
    with torch.no_grad():
        assert not compiled(x).requires_grad
    assert "grad mode was on" in reasons(compiled)[1]


def test_a_module_attribute_is_guarded():
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = 2.0

        def forward(self, x):
            return x * self.scale

    net = Scaled()
    compiled = torch.compile(net)
    assert compiled(torch.ones(1)).item() == 2.0
    net.scale = 4.0
    assert compiled(torch.ones(1)).item() == 4.0
    assert "an attribute of a Module changed" in reasons(compiled)[1]


def test_an_augmented_assignment_to_a_buffer_is_a_change_in_place():
    class Counting(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("calls", torch.zeros(()))
            self.scale = nn.Parameter(torch.ones(()))

        def forward(self, x):
            self.calls += 1
            with torch.no_grad():
                self.scale *= 2
            return x * self.calls

    net = Counting()
    compiled = torch.compile(net)
    assert [compiled(torch.ones(())).item() for _ in range(3)] == [1, 2, 3]
    assert (net.calls.item(), net.scale.item()) == (3, 8)
    assert len(compiled.report().compiles) == 1 and compiled.report().retraces == 0


def test_a_change_elsewhere_traces_again_but_compiles_nothing():
    net, other = nn.Linear(2, 2), nn.Linear(2, 2)
    compiled = torch.compile(net)
    x = torch.ones(1, 2)
    compiled(x)
    other.note = "changed"
    compiled(x)
    assert len(reasons(compiled)) == 1
    assert compiled.report().retraces == 1


def test_nested_arguments_and_results():
    @torch.compile
    def f(pair, table):
        a, b = pair
        return {"sum": a + b + table["c"], "both": (a, [b * 2])}

    a, b, c = torch.ones(2), torch.full((2,), 2.0), torch.full((2,), 3.0)
    found = f((a, b), {"c": c})
    assert found["sum"].tolist() == [6.0, 6.0]
    assert found["both"][0] is a
    assert found["both"][1][0].tolist() == [4.0, 4.0]


def test_in_place_change_of_an_argument():
    @torch.compile
    def f(x):
        x.mul_(2)
        x[0] = 7
        return x.sum()

    x = torch.ones(3)
    assert f(x).item() == 11
    assert x.tolist() == [7, 2, 2]
    columns = torch.ones(3, 2).t()[0]  # not contiguous
    version = columns._version
    f(columns)
    assert columns.tolist() == [7, 2, 2]
    assert columns._version > version


@pytest.mark.filterwarnings("ignore:The given NumPy array is not writable")
def test_arguments_of_every_kind_do_what_eager_does():
    def f(x):
        return x * 2 + 1

    compiled = torch.compile(f)
    read_only = np.arange(4.0, dtype=np.float32)
    read_only.flags.writeable = False
    for x in (
        torch.tensor([float("nan"), float("inf"), -0.0]),
        torch.zeros(0, 3),
        torch.ones(2, 3).t(),
        torch.ones(4)[::2],
        torch.from_numpy(read_only),
        torch.ones(3, dtype=torch.float64),
        torch.tensor(5.0),
    ):
        want, got = f(x), compiled(x)
        assert got.dtype is want.dtype and tuple(got.shape) == tuple(want.shape)
        np.testing.assert_array_equal(got.numpy(), want.numpy())


def test_modules_may_be_made_inside():
    class Scale(nn.Module):
        def __init__(self, factor):
            super().__init__()
            self.factor = factor

        def forward(self, x):
            return x * self.factor

    kept = []

    def f(x, y):
        return nn.MSELoss()(nn.Sequential(nn.ReLU(), Scale(3.0))(x), y)

    def keeping(x):
        kept.append(Scale(2.0))
        kept[-1].factor = 5.0
        return kept[0](x)

    compiled = torch.compile(f)
    for _ in range(3):
        assert compiled(torch.tensor([1.0, -2.0]), torch.zeros(2)).item() == 4.5
    assert compiled.history.lookups == 1
    assert torch.compile(keeping)(torch.ones(1)).item() == 5.0
    before = compiled.history.lookups
    kept[0].factor = 4.0  # a module like any other, once the function is compiled
    compiled(torch.ones(2), torch.zeros(2))
    assert compiled.history.lookups == before + 1


def test_making_modules_between_calls_traces_nothing_again():
    net = nn.Linear(2, 2)
    compiled = torch.compile(net)
    for _ in range(3):
        loss = nn.MSELoss()(compiled(torch.ones(1, 2)), torch.ones(1, 2))
        loss.backward()
    assert compiled.report().retraces == 0


def test_a_module_is_watched_from_its_first_trace_on():
    nets = [nn.Dropout(0.0)]
    compiled = torch.compile(lambda x: nets[0](x))
    for p in (0.0, 1.0):
        nets[0] = nn.Dropout(p)  # made after the trace, and read by the next one
        assert compiled(torch.ones(2)).tolist() == [1 - p] * 2
        nets[0].eval()
        assert compiled(torch.ones(2)).tolist() == [1.0] * 2


def test_a_module_made_by_a_compiled_function_is_watched_after_it():
    class Lazily(nn.Module):
        made = []

        def forward(self, x):
            if not self.made:
                self.made.append(nn.Threshold(0.5, 0.0))
            return self.made[0](x)

    net = Lazily()
    compiled = torch.compile(net)
    x = torch.tensor([0.4, 0.6])
    assert compiled(x).tolist() == net(x).tolist()
    net.made[0].value = -1.0
    assert compiled(x).tolist() == net(x).tolist() == [-1.0, 0.6000000238418579]


def test_dataclasses_of_tensors_are_arguments_and_results():
    @dataclass
    class Batch:
        x: torch.Tensor
        scale: float = 2.0

    compiled = torch.compile(lambda batch: Batch(batch.x * batch.scale, batch.scale))
    assert [compiled(Batch(torch.ones(2) * i)).x.tolist() for i in range(3)] == [[0, 0], [2, 2], [4, 4]]
    assert len(reasons(compiled)) == 1
    assert compiled(Batch(torch.ones(2), 3.0)).x.tolist() == [3, 3]


def test_a_number_that_always_changes_keeps_compiling_and_the_latest_programs():
    scaled = torch.compile(lambda x, by: x * float(by))
    x = torch.ones(2)
    with pytest.warns(RuntimeWarning, match=r"compiled 9 times.*pass changing numbers as tensors"):
        for by in range(10):
            assert scaled(x, float(by)).tolist() == [by, by]
    with pytest.warns(RuntimeWarning, match="compiled 65 times, and only the latest 64 are kept"):
        for by in range(10, 70):
            assert scaled(x, float(by)).tolist() == [by, by]
    assert scaled.explain().to_dict()["specializations"] == 64
    compiled = len(scaled.history.compiles)
    assert scaled(x, 69.0).tolist() == [69, 69] and scaled(x, 6.0).tolist() == [6, 6]
    assert len(scaled.history.compiles) == compiled
    assert scaled(x, 1.0).tolist() == [1, 1]
    assert len(scaled.history.compiles) == compiled + 1


def test_chains_of_functions_and_modules_are_as_long_as_in_eager_code():
    space = {}
    exec("SCALE = 1\n" + "\n".join(f"def f{n}(x): return f{n - 1}(x)" for n in range(1, 400)), space)
    exec("def f0(x): return x + SCALE", space)
    compiled = torch.compile(space["f399"])
    assert compiled(torch.ones(1)).tolist() == [2]
    space["SCALE"] = 2
    assert compiled(torch.ones(1)).tolist() == [3]

    class Around(nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.inner = inner

        def forward(self, x):
            return self.inner(x)

    module = nn.ReLU()
    for _ in range(200):
        module = Around(module)
    assert torch.compile(module)(torch.ones(1)).tolist() == [1]
