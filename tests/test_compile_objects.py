"""Lists, dicts, objects and modules that compiled functions are given, make or change: as eager code leaves them."""

from __future__ import annotations

import collections
import dataclasses
import types
import warnings
from typing import Any, NamedTuple

import pytest

import vitrify as torch
import vitrify.nn as nn
from vitrify.utils import _pytree


class Plain:
    def __init__(self, a, b):
        self.a, self.b = a, b


class Slotted:
    __slots__ = ("a", "b")

    def __init__(self, a, b):
        self.a, self.b = a, b


class Attributes(dict):
    __getattr__ = dict.__getitem__


class Pair(NamedTuple):
    a: Any
    b: Any


@dataclasses.dataclass
class Output(collections.OrderedDict):
    """As in transformers, which registers its own with `_pytree`; this one is not."""

    logits: Any = None
    hidden: Any = None

    def __post_init__(self):
        self["logits"], self["hidden"] = self.logits, self.hidden


@dataclasses.dataclass(frozen=True)
class Frozen:
    a: Any
    made: Any = dataclasses.field(init=False, default=None)


class Cache:
    most = 8

    def __init__(self):
        self.k, self.rows, self.table, self.steps = None, [], {}, 0

    def update(self, k):
        self.k = k if self.k is None else torch.cat([self.k, k])[-self.most :]
        self.steps += 1
        return self.k


def seen_in(value):
    """What can be compared of a nested value."""
    if isinstance(value, torch.Tensor):
        return value.tolist()
    if isinstance(value, dict):
        return (
            type(value),
            [(k, seen_in(v)) for k, v in value.items()],
            seen_in(getattr(value, "__dict__", None)),
        )
    if isinstance(value, (list, tuple, collections.deque)):
        return type(value), [seen_in(v) for v in value]
    names = getattr(type(value), "__slots__", None) or getattr(value, "__dict__", {})
    return type(value), [(n, seen_in(getattr(value, n))) for n in names] or value


MADE = {
    "an object": lambda x: Plain(x + 1, 2),
    "objects in objects": lambda x: Plain([x + 1], Plain(x, {"k": (x * 2, None)})),
    "slots": lambda x: Slotted(x, x + 1),
    "a subclass of dict": lambda x: Attributes(a=x + 1, n=3),
    "a named tuple": lambda x: Pair(x + 1, Plain(x, 1)),
    "an output of a model": lambda x: Output(x + 1, (x, x * 2)),
    "a frozen dataclass": lambda x: Frozen(x + 1),
    "a namespace": lambda x: types.SimpleNamespace(a=x * 3),
    "a deque": lambda x: collections.deque([x + 1, 2]),
    "a defaultdict": lambda x: collections.defaultdict(list, a=[x + 1]),
}


@pytest.mark.parametrize("kind", MADE)
def test_what_is_made_comes_back_anew(kind):
    compiled = torch.compile(MADE[kind])
    found = [compiled(torch.ones(2) * n) for n in range(3)]
    assert [seen_in(f) for f in found] == [seen_in(MADE[kind](torch.ones(2) * n)) for n in range(3)]
    assert found[0] is not found[1]
    assert len(compiled.report().compiles) == 1


def test_identity_is_kept_in_results():
    def f(x):
        part = Plain(x + 1, 0)
        whole = Plain(part, [part])
        whole.b.append(whole)
        return whole, part, part.a

    whole, part, a = torch.compile(f)(torch.ones(2))
    assert whole.a is part and whole.b == [part, whole] and part.a is a


def test_an_object_from_outside_is_itself_in_results():
    holder = Plain(Cache(), 3)
    compiled = torch.compile(lambda x: (holder.a.update(x), holder, Plain(holder, x + 1)))
    for n in range(3):
        k, found, made = compiled(torch.ones(1, 1))
        assert found is holder and made.a is holder and holder.a.k is k and holder.a.steps == n + 1


def test_a_distribution_is_a_result():
    compiled = torch.compile(lambda x: torch.distributions.Normal(x, x * 2))
    for n in (1.0, 2.0):
        found = compiled(torch.full((2,), n))
        assert found.loc.tolist() == [n] * 2 and found.scale.tolist() == [2 * n] * 2
        assert found.log_prob(torch.zeros(2)).shape == (2,)


def test_a_cache_is_updated_and_used_by_the_next_call():
    def step(x, cache):
        k = cache.update(x * 2)
        cache.table["last"] = k.sum()
        return k.sum() * cache.steps

    compiled = torch.compile(step)
    for _ in range(2):  # the second cache takes the programs of the first
        ours, theirs = Cache(), Cache()
        for n in range(12):
            x = torch.full((1, 2), float(n))
            table = ours.table
            assert compiled(x, ours).tolist() == step(x, theirs).tolist()
            assert ours.k.tolist() == theirs.k.tolist() and ours.steps == theirs.steps == n + 1
            assert ours.table is table and table["last"].tolist() == theirs.table["last"].tolist()
    compiles = len(compiled.report().compiles)
    assert compiles < 12
    for _ in range(3):
        compiled(x, ours)
    assert len(compiled.report().compiles) == compiles


def test_lists_and_dicts_among_the_arguments_are_filled():
    def keep(batch, features, *rows):
        features.append(batch["x"] * 2)
        batch["y"] = features[-1]
        rows[0][:] = [batch.pop("z"), rows]
        del batch["x"]
        return features

    compiled = torch.compile(keep)
    for n in (1.0, 2.0):
        x, z, features, row = torch.full((2,), n), torch.zeros(1), [], [1]
        batch = {"x": x, "z": z}
        assert compiled(batch, features, row) is features
        assert features[0].tolist() == [2 * n] * 2 and list(batch) == ["y"] and batch["y"] is features[0]
        assert row[0] is z and row[1][0] is row


def test_check_compares_what_is_kept_and_leaves_it():
    cache = Cache()
    compiled = torch.compile(lambda x: Plain(cache.update(x * 2), cache))
    compiled(torch.ones(1, 2))
    before = cache.k
    assert compiled.check(torch.ones(1, 2)).ok
    assert cache.k is before and cache.steps == 1


def test_one_list_twice_is_another_call():
    def f(a, b):
        a.append(a[0] * 2)
        return len(b)

    compiled = torch.compile(f)
    one, other = [torch.ones(1)], [torch.ones(1)]
    assert (compiled(one, other), len(one), len(other)) == (1, 2, 1)
    assert (compiled(other, other), len(other)) == (2, 2)


def test_what_is_kept_outside_is_kept_by_calls():
    cache, rows, settings = Cache(), [], types.SimpleNamespace(last=None)

    def f(x):
        cache.table["sum"] = cache.table.get("sum", 0) + x
        rows[:] = [x * 2]
        settings.last = x * 3
        return x + 1

    compiled = torch.compile(f)
    for n in range(1, 5):
        x = torch.full((1,), float(n))
        assert compiled(x).tolist() == [n + 1]
        assert cache.table["sum"].tolist() == [n * (n + 1) / 2]
        assert rows[0].tolist() == [2 * n] and settings.last.tolist() == [3 * n]
    assert len(compiled.report().compiles) <= 3


def test_a_distribution_kept_outside_is_followed():
    state = types.SimpleNamespace(policy=torch.distributions.Normal(torch.zeros(2), 1.0))

    class Agent:
        pass

    agent = Agent()
    agent.policy = state.policy

    def act(x):
        agent.policy = torch.distributions.Normal(agent.policy.loc + x, 1.0)
        return agent.policy.log_prob(x)

    compiled = torch.compile(act)
    for n in range(1, 5):
        compiled(torch.ones(2))
        assert agent.policy.loc.tolist() == [n, n]
    assert len(compiled.report().compiles) <= 3


def test_a_failed_trace_leaves_objects_as_they_were():
    cache, rows = Cache(), [torch.ones(1)]

    def f(x, cache):
        cache.k = x + 1
        rows.append(x * 2)
        if cache.steps:
            raise ValueError("user's own")
        return x

    compiled = torch.compile(f)
    compiled(torch.ones(1), cache)
    cache.steps = 1
    k = cache.k
    with pytest.raises(ValueError, match="user's own"):
        compiled(torch.ones(1), cache)
    assert cache.k is k and len(rows) == 2


def test_gradients_flow_through_what_is_kept():
    weight = torch.ones(2, requires_grad=True)
    cache = Cache()

    def f(x, cache):
        cache.k = x * weight
        return cache.k.sum()

    torch.compile(f)(torch.full((2,), 3.0), cache)
    cache.k.sum().backward()
    assert weight.grad.tolist() == [3, 3]


class Masked(nn.Module):
    def __init__(self):
        super().__init__()
        self.mask, self.tables = None, {}

    def forward(self, x):
        if self.mask is None:
            self.mask = torch.ones(x.shape[0]) * 3
        if x.shape not in self.tables:
            self.tables[x.shape] = torch.arange(x.shape[0])
        return x * self.mask + self.tables[x.shape]


def test_what_the_first_forward_makes_stays():
    module = Masked()
    compiled = torch.compile(module)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for n in (1.0, 2.0, 3.0, 4.0):
            assert compiled(torch.full((2,), n)).tolist() == [3 * n, 3 * n + 1]
    assert module.mask.tolist() == [3, 3] and len(module.tables) == 1
    mask = module.mask
    compiled(torch.ones(2))
    assert module.mask is mask and len(compiled._compiled.history.compiles) <= 3
    mask.mul_(2)
    assert compiled(torch.ones(2)).tolist() == [6, 7]


def test_a_module_that_each_call_changes():
    class Counting(nn.Module):
        def __init__(self):
            super().__init__()
            self.calls, self.last = 0, None
            self.register_buffer("mean", torch.zeros(1))

        def forward(self, x):
            self.calls += 1
            self.last = x * 2
            self.mean = self.mean + x
            return x

    module = Counting()
    compiled = torch.compile(module)
    with pytest.warns(
        RuntimeWarning, match=r"changes Counting.calls, last, mean itself, so every call traces"
    ):
        for n in (1.0, 2.0, 3.0):
            compiled(torch.full((1,), n))
    assert module.calls == 3 and module.last.tolist() == [6] and module.mean.tolist() == [6]
    assert dict(module.named_buffers())["mean"] is module.mean


def test_what_a_forward_only_leaves_on_its_module_costs_no_trace():
    class Routed(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Linear(2, 2)
            self.loss = None

        def forward(self, x):
            y = self.inner(x)
            self.loss = y.square().mean()
            return y

    module = Routed()
    compiled = torch.compile(module)
    for n in (1.0, 2.0, 3.0):
        x = torch.full((2,), n)
        compiled(x)
        wanted = module.inner(x).square().mean()
        assert module.loss.item() == pytest.approx(wanted.item())
        module.loss.backward()
    history = compiled._compiled.history
    assert (len(history.compiles), history.retraces) == (1, 0)
    module.inner = nn.Linear(2, 2)
    assert compiled(x).tolist() == pytest.approx(module.inner(x).tolist())


def test_a_hook_that_is_taken_off_again():
    layer = nn.Linear(2, 2)

    def f(x):
        seen = []
        handle = layer.register_forward_hook(lambda module, inputs, output: seen.append(output))
        layer(x)
        handle.remove()
        return seen[0]

    x = torch.ones(2)
    compiled = torch.compile(f)
    for _ in range(2):
        assert compiled(x).tolist() == pytest.approx(layer(x).tolist())
    assert not layer._forward_hooks


def test_an_object_of_a_registered_class_is_changed_itself():
    class Registered:
        def __init__(self, inner):
            self.inner = inner

    _pytree.register_pytree_node(Registered, lambda r: ((r.inner,), None), lambda i, _: Registered(*i))

    def f(box):
        box.inner = box.inner * 2
        return box.inner.sum()

    box = Registered(torch.ones(2))
    compiled = torch.compile(f)
    assert [compiled(box).item(), box.inner.tolist(), compiled(box).item()] == [4, [2, 2], 8]


class Runner:
    def __init__(self):
        self.weight, self.last, self.calls = torch.ones(2), None, 0

    @torch.compile
    def run(self, x):
        self.last = x * self.weight
        self.calls += 1
        return self.last.sum()


def test_a_method_changes_its_own_object():
    ours, theirs = Runner(), Runner()
    assert [ours.run(torch.ones(2) * n).item() for n in range(5)] == [0, 2, 4, 6, 8]
    assert theirs.run(torch.ones(2)).item() == 2
    assert (ours.calls, theirs.calls, ours.last.tolist(), theirs.last.tolist()) == (5, 1, [4, 4], [1, 1])
    assert len(Runner.__dict__["run"].report().compiles) <= 4


def test_a_queue_keeps_its_length():
    queue = collections.deque(maxlen=2)
    compiled = torch.compile(lambda x: (queue.append(x * 2), x)[1])
    for n in range(4):
        compiled(torch.full((1,), float(n)))
    assert [t.item() for t in queue] == [4, 6] and queue.maxlen == 2


def test_each_branch_makes_its_own_changes():
    def f(x, rows):
        if x.sum() > 0:
            rows.append(x * 2)
        else:
            rows.clear()
        return x

    compiled = torch.compile(f)
    for sign in (1, -1, 1, -1):
        rows = [torch.zeros(1)]
        compiled(torch.full((1,), float(sign)), rows)
        assert [r.item() for r in rows] == ([0, 2] if sign > 0 else [])


def test_names_of_dtypes_without_tensors_are_arguments():
    compiled = torch.compile(lambda x, dtype: x + (dtype is torch.float8_e4m3fn))
    assert compiled(torch.ones(1), torch.float8_e4m3fn).item() == 2


@pytest.mark.parametrize("before", [False, True], ids=["at once", "after an eager call"])
def test_a_list_that_a_module_gets_and_fills_at_every_call(before: bool) -> None:
    """The trace's own list, though it is read back from the module, and more lists in it."""

    class Pyramid(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.levels = [[x * 1]]
            self.levels.append([self.levels[-1][0] * 2])
            total = x * 0
            for (level,) in self.levels:
                total = total + level
            return total

    net = Pyramid()
    if before:
        net(torch.ones(2))
    compiled = torch.compile(net)
    assert compiled(torch.ones(2)).tolist() == [3.0, 3.0]
    assert [[t.tolist() for t in inner] for inner in net.levels] == [[[1.0, 1.0]], [[2.0, 2.0]]]
    assert compiled(torch.full((2,), 5.0)).tolist() == [15.0, 15.0]
    assert net.levels[1][0].tolist() == [10.0, 10.0]
    history = compiled._compiled.history
    assert (len(history.compiles), history.retraces) == (1, 0)  # what it relied on is what it set itself


def test_what_a_forward_does_to_a_list_outside_is_done_by_every_call():
    """Though it is vitrify's `Module.__call__` that gets at the user's code."""
    seen = []

    class Noting(nn.Module):
        def forward(self, x):
            seen.append("called")
            return x + 1

    compiled = torch.compile(Noting())
    compiled(torch.ones(1))
    with pytest.warns(RuntimeWarning, match="changes seen itself, so every call traces it again"):
        compiled(torch.ones(1))
    compiled(torch.ones(1))
    assert len(seen) == 3
