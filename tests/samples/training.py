"""Optimizers, schedules, averages, mixed precision and data loading, a few steps of each."""

from __future__ import annotations

from .table import Family, integers, normal

_STEPS = """
w, v = x.detach().clone().requires_grad_(), y.detach().clone().requires_grad_()
optimizer = torch.optim.{make}
for _ in range(4):
    optimizer.zero_grad()
    ((w * v).sin().sum() + (w ** 2).sum()).backward()
    optimizer.step()
result = w.detach(), v.detach(), repr(optimizer)
"""
_OPTIMIZERS = (
    "SGD([w, v], lr=0.1)",
    "SGD([w, v], lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.01)",
    "SGD([w, v], lr=0.1, momentum=0.9, dampening=0.5, maximize=True, foreach=True)",
    "Adam([w, v], lr=0.01)",
    "Adam([w, v], lr=0.01, amsgrad=True, weight_decay=0.1, maximize=True, capturable=False)",
    "Adam([{'params': [w]}, {'params': [v], 'lr': 0.1}], lr=0.01)",
    "AdamW([w, v], lr=0.01, amsgrad=True)",
    "Adamax([w, v], lr=0.01)",
    "NAdam([w, v], lr=0.01, momentum_decay=0.01)",
    "RAdam([w, v], lr=0.01)",
    "RMSprop([w, v], lr=0.01, momentum=0.9, centered=True)",
    "Adagrad([w, v], lr=0.01, lr_decay=0.1)",
    "Adadelta([w, v], lr=0.5)",
    "Adafactor([w, v], lr=0.05)",
    "ASGD([w, v], lr=0.05)",
    "Rprop([w, v], lr=0.01)",
)
_SCHEDULED = """
w = x.detach().clone().requires_grad_()
optimizer = torch.optim.SGD([w], lr=1.0)
schedule = torch.optim.lr_scheduler.{make}
rates = []
for _ in range(8):
    optimizer.step()
    schedule.step({argument})
    rates.append(schedule.get_last_lr()[0])
result = rates
"""
_S = "torch.optim.lr_scheduler."
_SCHEDULES = (
    "StepLR(optimizer, 3, gamma=0.5)",
    "MultiStepLR(optimizer, [2, 5])",
    "ConstantLR(optimizer, factor=0.5, total_iters=3)",
    "LinearLR(optimizer, total_iters=4)",
    "ExponentialLR(optimizer, 0.9)",
    "PolynomialLR(optimizer, total_iters=6, power=2.0)",
    "CosineAnnealingLR(optimizer, 5, eta_min=0.1)",
    "CosineAnnealingWarmRestarts(optimizer, 3, T_mult=2)",
    "LambdaLR(optimizer, lambda epoch: 0.5 ** epoch)",
    "MultiplicativeLR(optimizer, lambda epoch: 0.5)",
    "OneCycleLR(optimizer, max_lr=2.0, total_steps=10)",
    "CyclicLR(optimizer, 0.1, 1.0, step_size_up=3, cycle_momentum=False)",
    f"SequentialLR(optimizer, [{_S}ConstantLR(optimizer, 0.1, 2), {_S}ExponentialLR(optimizer, 0.9)], milestones=[3])",
    f"ChainedScheduler([{_S}ConstantLR(optimizer, 0.1, 2), {_S}ExponentialLR(optimizer, 0.9)], optimizer=optimizer)",
)
_PROGRAMS = {f"optim {make}": _STEPS.format(make=make) for make in _OPTIMIZERS}
_PROGRAMS |= {f"schedule {make}": _SCHEDULED.format(make=make, argument="") for make in _SCHEDULES}
_PROGRAMS |= {
    "schedule ReduceLROnPlateau": _SCHEDULED.format(
        make="ReduceLROnPlateau(optimizer, patience=1)", argument="1.0"
    ),
    "schedule SWALR": _SCHEDULED.format(make="StepLR(optimizer, 3)", argument="").replace(
        "torch.optim.lr_scheduler.StepLR(optimizer, 3)", "torch.optim.swa_utils.SWALR(optimizer, 0.1, anneal_epochs=4)"
    ),
    "optim LBFGS": """
w = x.detach().clone().requires_grad_()
optimizer = torch.optim.LBFGS([w], max_iter=4, line_search_fn="strong_wolfe")
def closure():
    optimizer.zero_grad()
    loss = ((w - 1) ** 4).sum()
    loss.backward()
    return loss
optimizer.step(closure)
result = w.detach()
""",
    "optim Optimizer": """
class Plain(torch.optim.Optimizer):
    def __init__(self, params, lr=0.1):
        super().__init__(params, {"lr": lr})
    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                p.add_(p.grad, alpha=-group["lr"])
w = x.detach().clone().requires_grad_()
optimizer = Plain([w])
(w ** 2).sum().backward()
optimizer.step()
result = w.detach(), optimizer.state_dict(), repr(optimizer)
""",
    "swa AveragedModel": """
model = torch.nn.Linear(4, 2)
averages = [
    torch.optim.swa_utils.AveragedModel(model),
    torch.optim.swa_utils.AveragedModel(model, avg_fn=torch.optim.swa_utils.get_ema_avg_fn(0.9)),
    torch.optim.swa_utils.AveragedModel(model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.9)),
    torch.optim.swa_utils.AveragedModel(model, multi_avg_fn=torch.optim.swa_utils.get_swa_multi_avg_fn()),
    torch.optim.swa_utils.AveragedModel(model, avg_fn=torch.optim.swa_utils.get_swa_avg_fn(), use_buffers=True),
]
for step in range(3):
    for average in averages:
        average.update_parameters(model)
    with torch.no_grad():
        for p in model.parameters():
            p.mul_(2.0)
result = [[p.detach() for p in average.parameters()] for average in averages], list(averages[0].state_dict())
""",
    "swa update_bn": """
model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.BatchNorm1d(3))
torch.optim.swa_utils.update_bn([x.detach(), y.detach()], model)
result = [b for b in model.buffers()]
""",
    "optim swap_in": """
w = x.detach().clone().requires_grad_()
optimizer = torch.optim.SGD([w], lr=0.1, momentum=0.9)
(w ** 2).sum().backward()
optimizer.step()
v = y.detach().clone()
v.grad = torch.ones_like(v)
with torch.optim.swap_in_optimizer_params_and_state(optimizer, {"w": v}, optimizer.state_dict()):
    optimizer.step()
result = w.detach(), v
""",
    "autocast": """
with torch.autocast("cpu", dtype=torch.bfloat16):
    a = torch.mm(x, y.t())
    b = torch.nn.functional.mse_loss(a.detach(), a.detach() * 2)
    c = torch.cat([a.detach(), x.detach() @ x.detach().t()])
    with torch.amp.autocast("cpu", enabled=False):
        d = torch.mm(x, y.t())
result = a, b, c, d
""",
    "autocast loss": """
with torch.autocast("cpu", dtype=torch.bfloat16):
    result = torch.nn.functional.mse_loss(torch.mm(x, y.t()), torch.mm(x, y.t()).detach() * 2)
""",
    "autocast settings": """
before = torch.is_autocast_enabled("cpu"), torch.is_autocast_cpu_enabled(), torch.get_autocast_dtype("cpu")
torch.set_autocast_enabled("cpu", True)
torch.set_autocast_dtype("cpu", torch.float16)
inside = torch.is_autocast_enabled("cpu"), torch.get_autocast_cpu_dtype(), torch.get_autocast_gpu_dtype()
torch.set_autocast_cpu_enabled(False)
torch.set_autocast_cpu_dtype(torch.bfloat16)
torch.set_autocast_gpu_dtype(torch.float16)
torch.set_autocast_cache_enabled(True)
torch.clear_autocast_cache()
nested = torch.autocast_increment_nesting(), torch.autocast_decrement_nesting()
result = before, inside, nested, torch.is_autocast_cache_enabled(), torch.amp.is_autocast_available("cpu")
""",
    "custom_fwd": """
class Square(torch.autograd.Function):
    @staticmethod
    @torch.amp.custom_fwd(device_type="cpu")
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x
    @staticmethod
    @torch.amp.custom_bwd(device_type="cpu")
    def backward(ctx, grad):
        return 2 * ctx.saved_tensors[0] * grad
result = Square.apply(x)
""",
    "GradScaler": """
w = x.detach().clone().requires_grad_()
optimizer = torch.optim.SGD([w], lr=0.1)
scaler = torch.amp.GradScaler("cpu", init_scale=4.0, growth_interval=1)
for factor in (1.0, float("inf"), 1.0):
    optimizer.zero_grad()
    scaler.scale((w * factor).sum()).backward()
    scaler.step(optimizer)
    scaler.update()
result = w.detach(), scaler.get_scale(), scaler.state_dict()
""",
    "DataLoader": """
data = torch.utils.data.TensorDataset(x.detach(), i)
torch.manual_seed(1)
first = [b for b in torch.utils.data.DataLoader(data, batch_size=2, shuffle=True)]
second = [b for b in torch.utils.data.DataLoader(data, batch_size=2, drop_last=True)]
third = [b for b in torch.utils.data.DataLoader(torch.utils.data.StackDataset(a=data, b=data), batch_size=3)]
result = first, second, third
""",
    "datasets": """
data = torch.utils.data.TensorDataset(i)
class Stream(torch.utils.data.IterableDataset):
    def __iter__(self):
        return iter([1, 2])
class Rows(torch.utils.data.Dataset):
    def __len__(self):
        return 2
    def __getitem__(self, at):
        return at * 10
joined = torch.utils.data.ConcatDataset([data, data])
chained = torch.utils.data.ChainDataset([Stream(), Stream()])
torch.manual_seed(2)
parts = torch.utils.data.random_split(range(10), [0.5, 0.3, 0.2])
result = (
    [row[0] for row in joined], list(chained), [list(p) for p in parts], list(torch.utils.data.Subset(data, [2, 0])),
    (Rows() + Rows())[3], len(joined), torch.utils.data.get_worker_info(),
)
""",
    "samplers": """
torch.manual_seed(3)
base = torch.utils.data.SequentialSampler(range(7))
class Two(torch.utils.data.Sampler):
    def __iter__(self):
        return iter([1, 0])
result = (
    list(torch.utils.data.RandomSampler(range(7))), list(torch.utils.data.RandomSampler(range(7), True, 9)),
    list(torch.utils.data.BatchSampler(base, 3, False)), list(torch.utils.data.BatchSampler(base, 3, True)),
    list(torch.utils.data.SubsetRandomSampler([5, 6, 7])), list(base), list(Two()),
    list(torch.utils.data.WeightedRandomSampler([0.1, 0.9, 0.5], 6)),
    list(torch.utils.data.WeightedRandomSampler([0.1, 0.9, 0.5], 3, replacement=False)),
)
""",
    "collate": """
rows = [{"a": x[0].detach(), "b": 1, "c": (1.5, "s")}, {"a": x[1].detach(), "b": 2, "c": (2.5, "t")}]
result = torch.utils.data.default_collate(rows), torch.utils.data.default_convert([np.arange(3), 2, "s"])
""",
}  # fmt: skip
_HOST = "sets up objects that outlive a call; tests/test_optim*.py and tests/test_data.py compile what can be"
_COMPILED = ("autocast", "custom_fwd")

FAMILY = Family(
    inputs={"x": normal(3, 4), "y": normal(3, 4), "i": integers(3)},
    programs=_PROGRAMS,
    eager_only={name: _HOST for name in _PROGRAMS if name not in _COMPILED},
)
