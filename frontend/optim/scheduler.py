"""The base class of learning-rate schedules: each `step()` sets the groups' `lr`."""

from __future__ import annotations

import warnings
from typing import Any

from .. import capture
from ..tensor import Tensor
from .optimizer import Group, Optimizer

EPOCH_DEPRECATION_WARNING = (
    "The epoch parameter in `scheduler.step()` was not necessary and is being deprecated where possible. Please use "
    "`scheduler.step()` to step the scheduler. During the deprecation, if epoch is different from None, the closed "
    "form is used instead of the new chainable form, where available. Please open an issue if you are unable to "
    "replicate your use case: https://github.com/pytorch/pytorch/issues/new/choose."
)


def current_rates(optimizer: Optimizer) -> list[Any]:
    """The groups' rates; of tensors the values that they have now."""
    rates = (group["lr"] for group in optimizer.param_groups)
    return [rate.clone() if isinstance(rate, Tensor) else rate for rate in rates]


def set_rate(group: Group, rate: Any) -> None:
    """A rate that is a tensor is written in place, so that whoever holds it sees the change."""
    if isinstance(group["lr"], Tensor):
        group["lr"].fill_(rate)
    else:
        group["lr"] = rate


def refuse_in_compiled_functions(scheduler: Any) -> None:
    """A schedule counts its steps in Python, which compiled calls would not repeat: RuntimeError."""
    if capture.active() is not None:
        raise RuntimeError(
            f"{type(scheduler).__name__}.step() inside a compiled function would be done once, when it is compiled: "
            "call it outside. The compiled optimizer reads the learning rate at every call."
        )


def per_group(name: str, optimizer: Optimizer, value: Any) -> list[Any]:
    """One value per group; ValueError for a list of another length."""
    groups = optimizer.param_groups
    if not isinstance(value, list | tuple):
        return [value] * len(groups)
    if len(value) != len(groups):
        raise ValueError(
            f"{name} must have the same length as optimizer.param_groups. {name} has {len(value)} values, "
            f"param_groups has {len(groups)}."
        )
    return list(value)


class LRScheduler:
    """Keeps an epoch count; subclasses say in `get_lr` what the rates are at `last_epoch`."""

    def __init__(self, optimizer: Optimizer, last_epoch: int = -1):
        if not isinstance(optimizer, Optimizer):
            raise TypeError(f"{type(optimizer).__name__} is not an Optimizer")
        self.optimizer = optimizer
        for i, group in enumerate(optimizer.param_groups):
            if last_epoch == -1:
                rate = group["lr"]
                group.setdefault("initial_lr", rate.clone() if isinstance(rate, Tensor) else rate)
            elif "initial_lr" not in group:
                raise KeyError(
                    f"param 'initial_lr' is not specified in param_groups[{i}] when resuming scheduler with "
                    "last_epoch "
                    ">= 0.\nThis typically happens when:\n"
                    "1. You're trying to resume training from a checkpoint but haven't properly loaded the "
                    "optimizer "
                    "state\n2. You're using last_epoch >= 0 for a fresh training run (not recommended)"
                )
        self.base_lrs: list[Any] = [group["initial_lr"] for group in optimizer.param_groups]
        self.last_epoch = last_epoch
        self._get_lr_called_within_step = False
        self._initial_step()

    def _initial_step(self) -> None:
        self._step_count = 0
        self._is_initial = True
        self.step()
        self._is_initial = False

    def state_dict(self) -> dict[str, Any]:
        """Everything but the optimizer."""
        return {key: value for key, value in self.__dict__.items() if key != "optimizer"}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over what `state_dict` gave."""
        self.__dict__.update(state_dict)

    def get_last_lr(self) -> list[Any]:
        """The rates that the last step set."""
        return self._last_lr

    def get_lr(self) -> list[float]:
        """The rates of the groups at `last_epoch`, computed from the present ones."""
        raise NotImplementedError

    def _closed_form(self) -> list[float] | None:
        """The rates at `last_epoch`, from the initial ones; None where there is no such formula."""
        return None

    def _warn_outside_step(self) -> None:
        if not self._get_lr_called_within_step:
            warnings.warn(
                "To get the last learning rate computed by the scheduler, please use `get_last_lr()`.",
                stacklevel=3,
            )

    def _current(self) -> list[Any]:
        return current_rates(self.optimizer)

    def step(self, epoch: int | None = None) -> None:
        """Set the rates of the next epoch. Call it after the optimizer's step; `epoch` is deprecated."""
        refuse_in_compiled_functions(self)
        if self._step_count == 1 and not self.optimizer._opt_called:
            warnings.warn(
                "Detected call of `lr_scheduler.step()` before `optimizer.step()`. In PyTorch 1.1.0 and "
                "later, you should call them in the opposite order: `optimizer.step()` before "
                "`lr_scheduler.step()`.  Failure to do this will result in PyTorch skipping the first value "
                "of the learning rate schedule. See more details at "
                "https://pytorch.org/docs/stable/optim.html#how-to-adjust-learning-rate",
                stacklevel=2,
            )
        self._step_count += 1
        if epoch is not None:
            warnings.warn(EPOCH_DEPRECATION_WARNING, UserWarning, stacklevel=2)
        self._update(epoch)

    def _update(self, epoch: int | None) -> None:
        """Set the rates of the next epoch, or of the given one."""
        self.last_epoch = self.last_epoch + 1 if epoch is None else epoch
        self._set_rates(None if epoch is None else self._closed_form())

    def _set_rates(self, rates: list[float] | None = None) -> None:
        """Give the groups these rates; None: what `get_lr` says."""
        if rates is None:
            self._get_lr_called_within_step = True
            try:
                rates = self.get_lr()
            finally:
                self._get_lr_called_within_step = False
        for group, rate in zip(self.optimizer.param_groups, rates, strict=True):
            set_rate(group, rate)
        self._last_lr = self._current()
