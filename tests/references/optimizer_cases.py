"""Short trainings with the optimizers that have a formula per parameter. Functions of a torch-like module."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

STEPS = 12

OPTIMIZERS: dict[str, Callable[[Any, Any], Any]] = {
    "rmsprop": lambda t, p: t.optim.RMSprop(p, lr=0.01),
    "rmsprop_all": lambda t, p: t.optim.RMSprop(
        p, lr=0.01, alpha=0.9, momentum=0.9, centered=True, weight_decay=0.01
    ),
    "adagrad": lambda t, p: t.optim.Adagrad(p),
    "adagrad_all": lambda t, p: t.optim.Adagrad(
        p, lr=0.05, lr_decay=0.1, weight_decay=0.01, initial_accumulator_value=0.1
    ),
    "adadelta": lambda t, p: t.optim.Adadelta(p),
    "adadelta_all": lambda t, p: t.optim.Adadelta(p, lr=0.5, rho=0.8, weight_decay=0.01),
    "adamax": lambda t, p: t.optim.Adamax(p, lr=0.01, weight_decay=0.01),
    "nadam": lambda t, p: t.optim.NAdam(p, lr=0.01),
    "nadam_decoupled": lambda t, p: t.optim.NAdam(p, lr=0.01, weight_decay=0.1, decoupled_weight_decay=True),
    "radam": lambda t, p: t.optim.RAdam(p, lr=0.01, betas=(0.9, 0.99)),
    "radam_decay": lambda t, p: t.optim.RAdam(p, lr=0.01, weight_decay=0.1),
    "radam_decoupled": lambda t, p: t.optim.RAdam(p, lr=0.01, weight_decay=0.1, decoupled_weight_decay=True),
    "rprop": lambda t, p: t.optim.Rprop(p, lr=0.01),
    "asgd": lambda t, p: t.optim.ASGD(p, lr=0.05, t0=3, weight_decay=0.01, lambd=0.01),
    "maximize": lambda t, p: t.optim.RMSprop(p, lr=1e-3, maximize=True),
    "adafactor": lambda t, p: t.optim.Adafactor(p, lr=0.05),
    "adafactor_all": lambda t, p: t.optim.Adafactor(
        p, lr=0.05, beta2_decay=-0.6, eps=(1e-6, 1e-2), d=1.5, weight_decay=0.1
    ),
    "muon": lambda t, p: t.optim.Muon([w for w in p if w.ndim == 2], lr=0.02),
    "muon_plain": lambda t, p: t.optim.Muon(
        [w for w in p if w.ndim == 2], lr=0.02, nesterov=False, weight_decay=0, adjust_lr_fn="match_rms_adamw"
    ),
}


def setup(t: Any, name: str) -> tuple[Any, Any, Callable[[Any, Any], Any], tuple[Any, Any]]:
    """The network, its optimizer, one step of training, the step's arguments."""
    t.manual_seed(0)
    net = t.nn.Sequential(t.nn.Linear(5, 7), t.nn.Tanh(), t.nn.Linear(7, 3))
    x, y = t.randn(16, 5), t.randint(0, 3, (16,))
    optimizer = OPTIMIZERS[name](t, net.parameters())

    def step(x: Any, y: Any) -> Any:
        optimizer.zero_grad()
        loss = t.nn.functional.cross_entropy(net(x), y)
        loss.backward()
        optimizer.step()
        return loss

    return net, optimizer, step, (x, y)


def texts(t: Any) -> dict[str, Any]:
    """What the optimizers print, and the names of the state they save."""
    found = {}
    for name in OPTIMIZERS:
        _, optimizer, step, args = setup(t, name)
        step(*args)
        state = optimizer.state_dict()["state"][0]
        found[name] = [repr(optimizer), sorted((key, list(value.shape)) for key, value in state.items())]
    return found


LBFGS = {
    "plain": {},
    "short": {"lr": 0.5, "max_iter": 5},
    "wolfe": {"line_search_fn": "strong_wolfe"},
    "wolfe_short": {"line_search_fn": "strong_wolfe", "history_size": 3, "max_iter": 4},
}


def minimise(t: Any, name: str) -> list[list[float]]:
    """Losses, evaluations and iterations of L-BFGS on a network, then on Rosenbrock's function. In float64: the method
    amplifies rounding."""
    t.manual_seed(0)
    net = t.nn.Sequential(t.nn.Linear(3, 8), t.nn.Tanh(), t.nn.Linear(8, 1)).double()
    x = t.rand(40, 3, dtype=t.float64)
    y = t.sin(x.sum(1, keepdim=True) * 3)
    point = t.tensor([-1.5, 2.0], dtype=t.float64, requires_grad=True)

    def network() -> Any:
        return ((net(x) - y) ** 2).mean()

    def rosenbrock() -> Any:
        return (1 - point[0]) ** 2 + 100 * (point[1] - point[0] ** 2) ** 2

    found = []
    for params, function in ((list(net.parameters()), network), ([point], rosenbrock)):
        optimizer = t.optim.LBFGS(params, **LBFGS[name])

        def closure(optimizer: Any = optimizer, function: Any = function) -> Any:
            optimizer.zero_grad()
            loss = function()
            loss.backward()
            return loss

        losses = [optimizer.step(closure).item() for _ in range(4)]
        state = optimizer.state_dict()["state"][0]
        found.append([*losses, state["func_evals"], state["n_iter"]])
    return found
