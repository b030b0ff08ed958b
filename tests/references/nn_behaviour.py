"""What modules, hooks, optimizers and loaders do, as JSON values. Functions of a torch-like module, read by
the maker and by the test."""

from __future__ import annotations

import collections
import copy
import importlib
import pickle
import warnings
from collections.abc import Callable
from typing import Any

from nn_cases import OPTIMIZERS, make_mlp

Behaviour = Callable[[Any], Any]


def _number(x: Any) -> Any:
    """Nested numbers of tensors, rounded."""
    if x is None or isinstance(x, str | int | bool):
        return x
    if isinstance(x, list | tuple):
        return [_number(v) for v in x]
    if isinstance(x, float):
        return float(f"{x:.4g}")
    return _number(x.detach().tolist())


def _warnings(run: Callable[[], Any]) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run()
    return [str(w.message) for w in caught]


def forward_hooks(t: Any) -> Any:
    log: list[Any] = []
    net = t.nn.Linear(2, 2, bias=False)
    with t.no_grad():
        net.weight.copy_(t.eye(2))
    net.register_forward_pre_hook(lambda m, a: log.append(["pre", type(m).__name__, _number(a)]))
    net.register_forward_pre_hook(lambda m, a: a[0] * 2)
    net.register_forward_pre_hook(lambda m, a, k: ((a[0] + 1,), k), prepend=True, with_kwargs=True)
    net.register_forward_hook(lambda m, a, out: log.append(["post", _number(a), _number(out)]))
    net.register_forward_hook(lambda m, a, out: out * 10)
    net.register_forward_hook(lambda m, a, k, out: log.append(["kw", k, _number(out)]), with_kwargs=True)
    handle = net.register_forward_hook(lambda m, a, out: log.append("first"), prepend=True)
    log.append(_number(net(t.ones(1, 2))))
    handle.remove()
    log.append(_number(net(t.ones(1, 2))))
    return log


def always_called_hook(t: Any) -> Any:
    log: list[Any] = []

    class Failing(t.nn.Module):
        def forward(self, x: Any) -> Any:
            raise ValueError("inside")

    net = Failing()
    net.register_forward_hook(lambda m, a, out: log.append(["always", out]), always_call=True)
    net.register_forward_hook(lambda m, a, out: log.append("never"))
    try:
        net(t.ones(1))
    except ValueError as error:
        log.append(str(error))
    return log


def keyword_arguments(t: Any) -> Any:
    log: list[Any] = []

    class Scale(t.nn.Module):
        def forward(self, x: Any, *, by: Any = 1) -> Any:
            return x * by

    net = Scale()
    net.register_forward_pre_hook(lambda m, a, k: (a, {"by": k["by"] + 1}), with_kwargs=True)
    net.register_forward_hook(lambda m, a, k, out: log.append([_number(a), k]), with_kwargs=True)
    log.append(_number(net(t.ones(2), by=3)))
    return log


def full_backward_hooks(t: Any) -> Any:
    log: list[Any] = []
    t.manual_seed(0)
    net = t.nn.Sequential(t.nn.Linear(3, 2), t.nn.Tanh())
    for name, module in net.named_modules():
        module.register_full_backward_hook(
            lambda m, gi, go, name=name: log.append([name, _number(gi), _number(go)])
        )
        module.register_full_backward_pre_hook(
            lambda m, go, name=name: log.append(["pre " + name, _number(go)])
        )
    x = t.ones(1, 3, requires_grad=True)
    net(x).sum().backward()
    return [log, _number(x.grad), _number(net[0].weight.grad)]


def backward_hooks_change_gradients(t: Any) -> Any:
    net = t.nn.Linear(2, 1)
    with t.no_grad():
        net.weight.fill_(3.0)
    net.register_full_backward_hook(lambda m, gi, go: (gi[0] * 2,))
    net.register_full_backward_pre_hook(lambda m, go: (go[0] * 5,))
    x = t.ones(1, 2, requires_grad=True)
    net(x).sum().backward()
    return [_number(x.grad), _number(net.weight.grad)]


def backward_hook_without_input_gradient(t: Any) -> Any:
    log: list[Any] = []
    net = t.nn.Linear(2, 1)
    net.register_full_backward_hook(lambda m, gi, go: log.append([_number(gi), _number(go)]))
    told = _warnings(lambda: net(t.ones(1, 2)).sum().backward())
    return [log, len(told)]


def backward_hooks_of_two_inputs(t: Any) -> Any:
    log: list[Any] = []

    class Pair(t.nn.Module):
        def forward(self, a: Any, b: Any, c: Any) -> Any:
            return a * b, b + c

    net = Pair()
    net.register_full_backward_hook(lambda m, gi, go: log.append([_number(gi), _number(go)]))
    a, c = t.full((2,), 2.0, requires_grad=True), t.full((2,), 4.0)
    first, second = net(a, t.full((2,), 3.0), c)
    first.sum().backward()
    return [log, _number(a.grad), second.requires_grad]


def legacy_backward_hook(t: Any) -> Any:
    log: list[Any] = []
    net = t.nn.ReLU()
    net.register_backward_hook(lambda m, gi, go: log.append([_number(gi), _number(go)]))
    x = t.tensor([-1.0, 2.0], requires_grad=True)
    net(x).sum().backward()
    return [log, _number(x.grad)]


def traversal(t: Any) -> Any:
    shared = t.nn.Linear(1, 1)
    net = t.nn.Sequential(shared, t.nn.Sequential(shared, t.nn.ReLU()), shared)
    net.register_buffer("count", t.zeros(1))
    net.register_buffer("scratch", t.zeros(1), persistent=False)
    net.register_parameter("none", None)
    return [
        [n for n, _ in net.named_modules()],
        [n for n, _ in net.named_modules(remove_duplicate=False)],
        [n for n, _ in net.named_children()],
        [n for n, _ in net.named_parameters()],
        [n for n, _ in net.named_parameters(prefix="p", recurse=False)],
        [n for n, _ in net.named_parameters(remove_duplicate=False)],
        [n for n, _ in net.named_buffers()],
        list(net.state_dict()),
        list(net.state_dict(prefix="x.")),
        len(list(net.modules())),
        net.get_submodule("1.0") is shared,
        net.get_parameter("1.0.bias") is shared.bias,
        net.get_buffer("count") is net.count,
    ]


def attribute_semantics(t: Any) -> Any:
    net = t.nn.Module()
    net.x = 1
    net.p = t.nn.Parameter(t.zeros(1))
    net.p2 = net.p
    net.m = t.nn.ReLU()
    net.b = t.nn.Buffer(t.ones(1))
    net.s = t.nn.Buffer(t.ones(1), persistent=False)
    before = [list(net._parameters), list(net._modules), list(net._buffers), list(net.state_dict())]
    net.p = None
    net.m = None
    net.x = t.nn.Linear(1, 1)
    net.b = t.zeros(3)
    del net.p2
    after = [
        list(net._parameters),
        list(net._modules),
        list(net._buffers),
        hasattr(net, "p2"),
        _number(net.b),
    ]
    net.s = None
    return [before, after, list(net.state_dict()), repr(net.p)]


def modes(t: Any) -> Any:
    net = make_mlp(t)
    net.eval()
    first = [m.training for m in net.modules()]
    net[0].train()
    second = [m.training for m in net.modules()]
    net.requires_grad_(False)
    return [first, second, [p.requires_grad for p in net.parameters()], net.train() is net]


def applied(t: Any) -> Any:
    log: list[str] = []
    make_mlp(t).apply(lambda m: log.append(type(m).__name__))
    return log


def conversions(t: Any) -> Any:
    net = t.nn.Linear(2, 2)
    net.register_buffer("n", t.zeros(1, dtype=t.int64))
    weight = net.weight
    net(t.ones(1, 2)).sum().backward()
    found = []
    for change in (
        lambda: net.double(),
        lambda: net.to(t.float32),
        lambda: net.half(),
        lambda: net.to("cpu", t.float64),
        lambda: net.bfloat16(),
        lambda: net.to(t.zeros(1)),
    ):
        same = change() is net
        found.append(
            [str(net.weight.dtype), str(net.weight.grad.dtype), str(net.n.dtype), same, net.weight is weight]
        )
    return found


def zeroed(t: Any) -> Any:
    net = t.nn.Linear(2, 1)
    net(t.ones(1, 2)).sum().backward()
    grad = net.weight.grad
    net.zero_grad(set_to_none=False)
    first = [_number(grad), net.weight.grad is grad]
    net.zero_grad()
    return [*first, net.weight.grad is None]


def loading(t: Any) -> Any:
    a, b = make_mlp(t), make_mlp(t)
    weight = b[0].weight
    b.load_state_dict(a.state_dict())
    same = all(bool((p == q).all()) for p, q in zip(a.parameters(), b.parameters()))
    state = a.state_dict()
    c = make_mlp(t)
    c.load_state_dict(state, assign=True)
    shared = c[0].weight.data_ptr() == a[0].weight.data_ptr()
    scalar = t.nn.Module()
    scalar.s = t.nn.Parameter(t.zeros(()))
    scalar.load_state_dict({"s": t.ones(1)})
    return [same, b[0].weight is weight, shared, type(c[0].weight).__name__, _number(scalar.s)]


def state_dict_hooks(t: Any) -> Any:
    log: list[Any] = []
    net = t.nn.Linear(1, 1)
    net.register_state_dict_pre_hook(lambda m, prefix, keep: log.append(["pre", prefix, keep]))
    net.register_state_dict_post_hook(
        lambda m, state, prefix, meta: log.append([prefix, list(state), dict(meta)])
    )
    net.register_load_state_dict_pre_hook(lambda m, state, prefix, *rest: state.pop("extra", None) and None)
    net.register_load_state_dict_post_hook(lambda m, keys: log.append(["loaded", list(keys.missing_keys)]))
    state = net.state_dict(prefix="a.", keep_vars=True)
    log.append(type(state["a.weight"]).__name__)
    net.load_state_dict({"weight": t.zeros(1, 1), "bias": t.zeros(1), "extra": 1})
    return log


def extra_state(t: Any) -> Any:
    class Counter(t.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.seen = 3

        def get_extra_state(self) -> Any:
            return {"seen": self.seen}

        def set_extra_state(self, state: Any) -> None:
            self.seen = state["seen"]

    a, b = t.nn.Sequential(Counter()), t.nn.Sequential(Counter())
    a[0].seen = 7
    keys = list(a.state_dict())
    b.load_state_dict(a.state_dict())
    return [keys, b[0].seen]


def containers(t: Any) -> Any:
    nn = t.nn
    names = lambda c: [type(m).__name__ for m in c]
    seq = nn.Sequential(nn.ReLU(), nn.Tanh(), nn.Sigmoid())
    seq.append(nn.GELU()).insert(1, nn.ELU())
    del seq[0]
    log = [names(seq), list(seq._modules), names(seq[1:3]), type(seq[-1]).__name__, len(seq)]
    seq += nn.Sequential(nn.ReLU())
    log += [names(seq), names(seq * 2), type(seq.pop(0)).__name__, names(seq + seq)]
    items = nn.ModuleList([nn.ReLU(), nn.Tanh()])
    items.insert(1, nn.ELU())
    items += [nn.GELU()]
    items[0] = nn.Sigmoid()
    log += [names(items), names(items[::2]), list(items._modules), names(items + [nn.ReLU()])]
    del items[1:3]
    log += [names(items), list(items._modules)]
    table = nn.ModuleDict({"b": nn.ReLU(), "a": nn.Tanh()})
    table.update([("c", nn.ELU())])
    log += [list(table), "a" in table, type(table.pop("a")).__name__, list(table.keys()), len(table)]
    params = nn.ParameterList([t.zeros(1), nn.Parameter(t.ones(2))])
    params.append(t.zeros(3))
    params += [t.zeros(4)]
    log += [len(params), [type(p).__name__ for p in params], [n for n, _ in params.named_parameters()]]
    log += [[tuple(p.shape) for p in params[1:3]], tuple(params[-1].shape)]
    named = nn.ParameterDict({"z": t.zeros(1), "y": 3})
    named["x"] = t.ones(2)
    log += [
        list(named),
        [n for n, _ in named.named_parameters()],
        named.pop("y"),
        named.get("q", 5),
        "x" in named,
    ]
    log += [list(named | {"w": t.zeros(1)}), named.popitem()[0], len(named)]
    return [list(x) if isinstance(x, tuple) else x for x in log]


def copies(t: Any) -> Any:
    net = make_mlp(t)
    net.register_buffer("b", t.ones(2))
    twin = copy.deepcopy(net)
    same = all(bool((p == q).all()) for p, q in zip(net.parameters(), twin.parameters()))
    with t.no_grad():
        twin[0].weight.fill_(0)
    apart = bool((net[0].weight != 0).any())
    thawed = pickle.loads(pickle.dumps(t.nn.Linear(2, 3)))
    return [same, apart, type(twin[0].weight).__name__, twin[0].weight.requires_grad, repr(thawed)]


def global_hooks(t: Any) -> Any:
    hooks = importlib.import_module(t.nn.Module.__module__)
    log: list[Any] = []

    def note(event: str) -> Any:
        return lambda m, *_: log.append(f"{event} {type(m).__name__}")

    handles = [
        hooks.register_module_forward_pre_hook(note("pre")),
        hooks.register_module_forward_hook(note("post")),
        hooks.register_module_full_backward_hook(note("backward")),
    ]
    x = t.ones(1, 2, requires_grad=True)
    t.nn.Sequential(t.nn.Linear(2, 2), t.nn.ReLU())(x).sum().backward()
    for handle in handles:
        handle.remove()
    t.nn.ReLU()(x)
    return log


def optimizer_state(t: Any) -> Any:
    found = []
    for name in OPTIMIZERS:
        t.manual_seed(0)
        net = t.nn.Linear(2, 1)
        opt = OPTIMIZERS[name](t, net.parameters())
        net(t.ones(1, 2)).sum().backward()
        opt.step()
        state = opt.state_dict()
        found.append(
            [name, {str(k): sorted(v) for k, v in state["state"].items()}, len(state["param_groups"])]
        )
        twin_net = copy.deepcopy(net)
        twin = OPTIMIZERS[name](t, twin_net.parameters())
        twin.load_state_dict(copy.deepcopy(state))
        for n, o in ((net, opt), (twin_net, twin)):
            for _ in range(3):
                o.zero_grad()
                n(t.ones(1, 2)).sum().backward()
                o.step()
        found.append([bool(t.allclose(net.weight, twin_net.weight)), _number(net.weight)])
    return found


def optimizer_extras(t: Any) -> Any:
    log: list[Any] = []
    p, q = t.nn.Parameter(t.ones(2)), t.nn.Parameter(t.ones(2))
    opt = t.optim.SGD([p], lr=0.1)
    opt.add_param_group({"params": q, "lr": 0.5})
    opt.register_step_pre_hook(lambda o, a, k: log.append("before"))
    opt.register_step_post_hook(lambda o, a, k: log.append("after"))

    def closure() -> Any:
        opt.zero_grad()
        loss = (p * p + q).sum()
        loss.backward()
        return loss

    log.append(_number(opt.step(closure)))
    log.append([_number(p), _number(q), opt.defaults["lr"], [g["lr"] for g in opt.param_groups]])
    opt.zero_grad(set_to_none=False)
    log.append([_number(p.grad), _number(q.grad)])
    opt.zero_grad()
    log.append([p.grad is None])
    p.grad = t.ones(2)
    opt.step()  # q has no gradient: it stays
    log.append([_number(p), _number(q)])
    up = t.optim.SGD([p], lr=0.1, maximize=True)
    up.step()
    log.append(_number(p))
    return log


def named_groups(t: Any) -> Any:
    net = t.nn.Linear(1, 1)
    opt = t.optim.Adam(net.named_parameters(), lr=0.1)
    return [opt.param_groups[0]["param_names"], opt.state_dict()["param_groups"][0]["param_names"]]


def scheduler_warning(t: Any) -> Any:
    opt = t.optim.SGD([t.nn.Parameter(t.ones(1))], lr=0.1)
    scheduler = t.optim.lr_scheduler.StepLR(opt, 2)
    told = _warnings(scheduler.step)
    state = scheduler.state_dict()
    return [
        len(told),
        state["last_epoch"],
        state["base_lrs"],
        state["gamma"],
        opt.param_groups[0]["initial_lr"],
    ]


def clipping(t: Any) -> Any:
    p, q = t.nn.Parameter(t.zeros(2)), t.nn.Parameter(t.zeros(3))
    found = []
    for norm in (2.0, 1.0, float("inf")):
        p.grad, q.grad = t.tensor([3.0, 4.0]), t.tensor([0.0, -12.0, 0.0])
        total = t.nn.utils.clip_grad_norm_([p, q], 2.0, norm_type=norm)
        found.append([_number(total), _number(p.grad), _number(q.grad)])
    p.grad = t.tensor([3.0, -4.0])
    t.nn.utils.clip_grad_value_([p], 3.5)
    found.append(_number(p.grad))
    vector = t.nn.utils.parameters_to_vector([p, q])
    t.nn.utils.vector_to_parameters(vector + 1, [p, q])
    return [*found, _number(vector), _number(p), _number(q)]


Point = collections.namedtuple("Point", ["x", "y"])


def collating(t: Any) -> Any:
    import numpy as np

    collate = t.utils.data.default_collate
    batch = [{"a": t.ones(2) * i, "b": (i, float(i), str(i)), "c": [np.full(2, i), i > 0]} for i in range(2)]
    out = collate(batch)
    point = collate([Point(1, 2.0), Point(3, 4.0)])
    converted = t.utils.data.default_convert({"n": np.arange(2), "s": "x", "l": [np.float32(1.5), 2]})
    return [
        _number(out["a"]),
        [_number(v) if not isinstance(v, tuple) else list(v) for v in out["b"]],
        [_number(v) for v in out["c"]],
        [str(out["b"][1].dtype), str(out["b"][0].dtype), str(out["c"][0].dtype), str(out["c"][1].dtype)],
        [type(point).__name__, _number(point.x), _number(point.y)],
        [_number(converted["n"]), converted["s"], _number(converted["l"][0]), converted["l"][1]],
    ]


def loading_data(t: Any) -> Any:
    D = t.utils.data

    class Squares(D.Dataset):
        def __getitem__(self, i: int) -> Any:
            return i * i, {"i": float(i)}

        def __len__(self) -> int:
            return 5

    class Stream(D.IterableDataset):
        def __iter__(self) -> Any:
            return iter(range(5))

    read = lambda loader: [_number(b) if not isinstance(b, list) else _number(b[0]) for b in loader]
    tensors = D.TensorDataset(t.arange(6).reshape(3, 2), t.arange(3.0))
    pairs = [[_number(a), _number(b)] for a, b in D.DataLoader(tensors, batch_size=2)]
    both = D.ConcatDataset([Squares(), Squares()])
    return [
        read(D.DataLoader(Squares(), batch_size=2)),
        read(D.DataLoader(Squares(), batch_size=2, drop_last=True)),
        read(D.DataLoader(Stream(), batch_size=2)),
        read(D.DataLoader(Stream(), batch_size=2, drop_last=True)),
        read(D.DataLoader(Stream(), batch_size=None)),
        read(D.DataLoader(Squares(), batch_sampler=[[0, 4], [1]])),
        read(D.DataLoader(Squares(), batch_size=3, collate_fn=lambda samples: [s[0] for s in samples])),
        [b[0] for b in D.DataLoader(Squares(), batch_size=None)],
        pairs,
        [
            len(D.DataLoader(Squares(), batch_size=2)),
            len(D.DataLoader(Squares(), batch_size=2, drop_last=True)),
        ],
        [both[7][0], both[-1][0], len(both), len(Squares() + Squares()), len(D.Subset(Squares(), [1, 3]))],
        list(D.BatchSampler(D.SequentialSampler(range(5)), 2, False)),
        list(D.ChainDataset([Stream(), Stream()]))[4:7],
        _number(D.StackDataset(Squares(), Squares())[2][1][0]),
    ]


def behaviours() -> dict[str, Behaviour]:
    return {
        function.__name__: function
        for function in (
            forward_hooks,
            always_called_hook,
            keyword_arguments,
            full_backward_hooks,
            backward_hooks_change_gradients,
            backward_hook_without_input_gradient,
            backward_hooks_of_two_inputs,
            legacy_backward_hook,
            global_hooks,
            traversal,
            attribute_semantics,
            modes,
            applied,
            conversions,
            zeroed,
            loading,
            state_dict_hooks,
            extra_state,
            containers,
            copies,
            optimizer_state,
            optimizer_extras,
            named_groups,
            scheduler_warning,
            clipping,
            collating,
            loading_data,
        )
    }
