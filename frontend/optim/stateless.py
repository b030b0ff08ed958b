"""An optimizer that works on other parameters and state for a while."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

from ..tensor import Tensor
from .optimizer import Optimizer

_NAME = "swap_in_optimizer_params_and_state"


def _check_groups(optimizer: Optimizer, found: Any) -> list[dict[str, Any]]:
    if not isinstance(found, list):
        raise RuntimeError(
            f"{_NAME} requires swapin_optim_state['param_groups'] to be a list of param-group dicts, got "
            f"{type(found).__name__}."
        )
    if len(found) != len(optimizer.param_groups):
        raise RuntimeError(
            "swapin_optim_state has a different number of parameter groups than the live optimizer."
        )
    for index, (live, group) in enumerate(zip(optimizer.param_groups, found)):
        if not isinstance(group, dict):
            raise RuntimeError(f"{_NAME} requires each optimizer param group to be a dictionary.")
        numbers = group.get("params")
        if not isinstance(numbers, list) or not all(isinstance(n, int) for n in numbers):
            raise RuntimeError(
                f"{_NAME} requires optimizer.state_dict()-style param_groups[*]['params'] entries keyed by packed "
                "parameter ids."
            )
        if len(numbers) != len(live["params"]):
            raise RuntimeError(
                f"swapin_optim_state param group {index} has a different number of params than the live optimizer "
                "param group."
            )
        only_there, only_here = [k for k in group if k not in live], [k for k in live if k not in group]
        if only_there or only_here:
            raise RuntimeError(
                f"{_NAME} requires optimizer.state_dict()-style param group keys to exactly match the live optimizer "
                f"group keys for group {index}. Keys only in swap-in: {only_there}. Keys only in live: {only_here}."
            )
    return found


def _check_state(found: Any, groups: list[dict[str, Any]]) -> dict[Any, Any]:
    if not isinstance(found, dict):
        raise RuntimeError(
            f"{_NAME} requires swapin_optim_state['state'] to be a dict mapping packed parameter ids to per-param state "
            f"dicts, got {type(found).__name__}."
        )
    if any(isinstance(key, Tensor) for key in found):
        raise RuntimeError(
            f"{_NAME} requires optimizer.state_dict()-style state keyed by packed parameter ids."
        )
    if any(isinstance(key, int) and not isinstance(value, dict) for key, value in found.items()):
        raise RuntimeError(f"{_NAME} requires per-parameter optimizer state entries to be dictionaries.")
    known = {number for group in groups for number in group["params"]}
    extra = [key for key in found if key not in known]
    if extra:
        raise RuntimeError(
            f"{_NAME} requires swapin_optim_state['state'] to be keyed only by packed parameter ids from "
            f"param_groups[*]['params']; got extra keys {extra!r}."
        )
    return found


@contextlib.contextmanager
def swap_in_optimizer_params_and_state(
    optimizer: Optimizer, swapin_parameters: dict[str, Tensor], swapin_optim_state: dict[str, Any]
) -> Iterator[None]:
    """Inside the block the optimizer has these parameters, in the order of its groups, and the state and
    hyper-parameters of `swapin_optim_state` (as its `state_dict` gives them); afterwards its own again."""
    if not optimizer.state:
        raise RuntimeError(f"{_NAME} requires initialized optimizer state.")
    if not isinstance(swapin_optim_state, dict):
        raise RuntimeError(f"{_NAME} requires a DCP-style optimizer state_dict.")
    groups = _check_groups(optimizer, swapin_optim_state.get("param_groups"))
    given = _check_state(swapin_optim_state.get("state"), groups)
    parameters = list(swapin_parameters.values())
    if sum(len(group["params"]) for group in groups) > len(parameters):
        raise RuntimeError(
            f"{_NAME} requires the explicit parameter state to match optimizer.param_groups ordering."
        )
    own_state, own_groups = optimizer.state, [dict(group) for group in optimizer.param_groups]
    state: defaultdict[Any, dict[str, Any]] = defaultdict(dict)
    try:
        for live, group in zip(optimizer.param_groups, groups):
            count = len(group["params"])
            taken, parameters = parameters[:count], parameters[count:]
            live.update({**group, "params": taken})
            state.update((p, dict(given.get(number, {}))) for p, number in zip(taken, group["params"]))
        optimizer.state = state
        optimizer.state_version += 1
        yield
    finally:
        for live, before in zip(optimizer.param_groups, own_groups):
            live.clear()
            live.update(before)
        optimizer.state = own_state
        optimizer.state_version += 1
