"""Learning-rate schedules, as functions of a torch-like module: read by make_nn_references.py and the tests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def _sequence(t: Any, o: Any) -> Any:
    s = t.optim.lr_scheduler
    parts = [s.ConstantLR(o, 0.1, total_iters=2), s.ExponentialLR(o, 0.9), s.StepLR(o, 2)]
    return s.SequentialLR(o, parts, milestones=[3, 8])


def _warm_up(t: Any, o: Any) -> Any:
    s = t.optim.lr_scheduler
    return s.SequentialLR(o, [s.LinearLR(o, 0.1, total_iters=4), s.CosineAnnealingLR(o, 8)], [4])


def _chain(t: Any, o: Any) -> Any:
    s = t.optim.lr_scheduler
    return s.ChainedScheduler([s.ConstantLR(o, 0.1, total_iters=2), s.ExponentialLR(o, 0.9)])


SCHEDULES: dict[str, Callable[[Any, Any], Any]] = {
    "step": lambda t, o: t.optim.lr_scheduler.StepLR(o, 3, gamma=0.5),
    "exponential": lambda t, o: t.optim.lr_scheduler.ExponentialLR(o, 0.9),
    "cosine": lambda t, o: t.optim.lr_scheduler.CosineAnnealingLR(o, 5, eta_min=0.001),
    "lambda": lambda t, o: t.optim.lr_scheduler.LambdaLR(o, lambda epoch: 0.95**epoch),
    "lambda_each": lambda t, o: t.optim.lr_scheduler.LambdaLR(o, [lambda e: 1 / (e + 1), lambda e: 0.5**e]),
    "multiplicative": lambda t, o: t.optim.lr_scheduler.MultiplicativeLR(o, lambda e: 1 - 0.01 * e),
    "multi_step": lambda t, o: t.optim.lr_scheduler.MultiStepLR(o, [2, 5, 5, 9], gamma=0.5),
    "constant": lambda t, o: t.optim.lr_scheduler.ConstantLR(o, 0.25, total_iters=4),
    "linear": lambda t, o: t.optim.lr_scheduler.LinearLR(o, 0.2, 0.9, total_iters=7),
    "polynomial": lambda t, o: t.optim.lr_scheduler.PolynomialLR(o, total_iters=8, power=1.5),
    "restarts": lambda t, o: t.optim.lr_scheduler.CosineAnnealingWarmRestarts(o, 3),
    "restarts_longer": lambda t, o: t.optim.lr_scheduler.CosineAnnealingWarmRestarts(o, 2, 2, eta_min=0.01),
    "cyclic": lambda t, o: t.optim.lr_scheduler.CyclicLR(o, 0.01, 0.2, step_size_up=3),
    "cyclic_2": lambda t, o: t.optim.lr_scheduler.CyclicLR(
        o, [0.01, 0.02], 0.2, step_size_up=3, step_size_down=2, mode="triangular2"
    ),
    "cyclic_exp": lambda t, o: t.optim.lr_scheduler.CyclicLR(
        o, 0.01, 0.2, step_size_up=3, mode="exp_range", gamma=0.9, cycle_momentum=False
    ),
    "cyclic_function": lambda t, o: t.optim.lr_scheduler.CyclicLR(
        o, 0.01, 0.2, step_size_up=2, scale_fn=lambda x: 1 / x, base_momentum=0.5
    ),
    "one_cycle": lambda t, o: t.optim.lr_scheduler.OneCycleLR(o, 0.5, total_steps=12),
    "one_cycle_linear": lambda t, o: t.optim.lr_scheduler.OneCycleLR(
        o, [0.5, 0.3], epochs=4, steps_per_epoch=4, anneal_strategy="linear", three_phase=True
    ),
    "plateau": lambda t, o: t.optim.lr_scheduler.ReduceLROnPlateau(o, factor=0.5, patience=1, cooldown=1),
    "plateau_max": lambda t, o: t.optim.lr_scheduler.ReduceLROnPlateau(
        o, "max", 0.2, patience=0, threshold=0.1, threshold_mode="abs", min_lr=[0.01, 0.05]
    ),
    "sequence": _sequence,
    "warm_up": _warm_up,
    "chain": _chain,
}
METRICS = [1.0, 0.8, 0.9, 0.85, 0.8, 0.7, 0.71, 0.7, 0.72, 0.6, 0.65, 0.7]


def rates(t: Any, schedule: str) -> list[list[float]]:
    """The groups' rates and momenta after each epoch."""
    net = t.nn.Linear(2, 2)
    opt = t.optim.SGD([{"params": [net.weight]}, {"params": [net.bias], "lr": 0.3}], lr=0.1, momentum=0.7)
    scheduler = SCHEDULES[schedule](t, opt)

    def now() -> list[float]:
        assert scheduler.get_last_lr() == [group["lr"] for group in opt.param_groups]
        return [*scheduler.get_last_lr(), *(group["momentum"] for group in opt.param_groups)]

    found = [now()]
    for metric in METRICS:
        opt.step()
        scheduler.step(*([metric] if schedule.startswith("plateau") else []))
        found.append(now())
    return found
