"""The base class of optimizers: parameter groups, state, hooks, saving and loading."""

from __future__ import annotations

import copy
import functools
import warnings
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .. import capture
from ..autograd.grad_mode import enable_grad, set_grad_enabled
from ..hooks import Hooks, RemovableHandle, register
from ..nn.modules.module import clear_gradients
from ..nn.parameter import typename
from ..state import local
from ..tensor import Tensor

Group = dict[str, Any]


class _Required:
    """The default of a hyper-parameter that has none."""

    def __repr__(self) -> str:
        return "<required parameter>"


required: Any = _Required()


@dataclass(frozen=True)
class GroupEntry:
    """Reads something of a parameter group anew whenever it is called. Equal for the same optimizer, group
    and thing, so that a tracer knows one number for it."""

    optimizer: Optimizer
    index: int
    read: Callable[[Group], Any]

    def __call__(self) -> Any:
        return self.read(self.optimizer.param_groups[self.index])


class GroupReader:
    """How `step` reads a group's hyper-parameters, so that a compiled step follows later changes of them.

    A number (`lr`) becomes an input of the compiled code. What decides which code runs (is there momentum?)
    goes through `structure`: compiled code is used only while that stays the same.
    """

    def __init__(self, optimizer: Optimizer, index: int):
        self.optimizer = optimizer
        self.index = index
        where = f".group{index}" if index else ""
        self.prefix = f"{type(optimizer).__name__}{where}"

    def number(self, name: str, read: Callable[[Group], Any]) -> Any:
        """The float, or the 0-d tensor that stands for it. A hyper-parameter that is a tensor is just that
        tensor."""
        entry = GroupEntry(self.optimizer, self.index, read)
        value = entry()
        return value if isinstance(value, Tensor) else capture.hyperparameter(entry, f"{self.prefix}.{name}")

    def structure(self, read: Callable[[Group], tuple[Any, ...]], facts: str) -> tuple[Any, ...]:
        """What decides which code runs. `facts` names the entries of the tuple, for the report of a miss."""
        capture.guard_value(self.optimizer._read_version, f"{self.prefix}: number of changes of its state")
        return capture.guard_value(GroupEntry(self.optimizer, self.index, read), f"{self.prefix}: ({facts})")


def recorded_if_differentiable(step: Callable[..., Any]) -> Callable[..., Any]:
    """A step that autograd records where the optimizer was made with `differentiable=True`, and only there."""

    @functools.wraps(step)
    def run(self: Optimizer, *args: Any, **kwargs: Any) -> Any:
        with set_grad_enabled(bool(self.defaults.get("differentiable"))):
            return step(self, *args, **kwargs)

    return run


def to_be_read(state: Tensor) -> Tensor:
    """A state that the next step writes to, for arithmetic whose gradient may read it: a copy where the step is
    recorded."""
    return state.clone() if local.grad_enabled else state


class Optimizer:
    """Holds parameters in groups, each with its own hyper-parameters, and per-parameter state.

    Subclasses define `step`. `state_version` counts changes that compiled code cannot see: other state
    tensors, other groups.
    """

    def __init__(self, params: Any, defaults: dict[str, Any]):
        self.defaults = defaults
        self.state: defaultdict[Any, dict[str, Any]] = defaultdict(dict)
        self.param_groups: list[Group] = []
        self.state_version = 0
        self._init_hooks()
        if isinstance(params, Tensor):
            raise TypeError(
                "params argument given to the optimizer should be an iterable of Tensors or dicts, but got "
                + typename(params)
            )
        groups = list(params)
        if not groups:
            raise ValueError("optimizer got an empty parameter list")
        if not isinstance(groups[0], dict):
            groups = [{"params": groups}]
        for group in groups:
            self.add_param_group(group)

    def _init_hooks(self) -> None:
        self._stepping = False
        self._opt_called = False
        self._step_pre_hooks: Hooks = {}
        self._step_post_hooks: Hooks = {}
        self._state_dict_pre_hooks: Hooks = {}
        self._state_dict_post_hooks: Hooks = {}
        self._load_state_dict_pre_hooks: Hooks = {}
        self._load_state_dict_post_hooks: Hooks = {}

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "step" in cls.__dict__:
            cls.step = _with_hooks(cls.step)  # type: ignore[method-assign]

    def __getstate__(self) -> dict[str, Any]:
        return {"defaults": self.defaults, "state": self.state, "param_groups": self.param_groups}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._init_hooks()
        self.__dict__.update(state)
        self.state_version = self.__dict__.get("state_version", 0) + 1

    def __repr__(self) -> str:
        text = f"{type(self).__name__} ("
        for i, group in enumerate(self.param_groups):
            text += f"\nParameter Group {i}\n"
            text += "".join(f"    {key}: {group[key]}\n" for key in sorted(group) if key != "params")
        return text + ")"

    # Groups

    def add_param_group(self, param_group: Group) -> None:
        """Add parameters with hyper-parameters of their own; what the group does not say is as the defaults
        say."""
        if not isinstance(param_group, dict):
            raise TypeError(f"param_group must be a dict, but got {type(param_group)}")
        params = param_group["params"]
        if isinstance(params, set):
            raise TypeError(
                "optimizer parameters need to be organized in ordered collections, but "
                "the ordering of tensors in sets will change between runs. Please use a list instead."
            )
        params = [params] if isinstance(params, Tensor) else list(params)
        names = [p[0] for p in params if isinstance(p, tuple)]
        if names and len(names) != len(params):
            raise ValueError(
                "all optimizer params should be with/without names. Some param names are missing"
            )
        params = [p[1] if isinstance(p, tuple) else p for p in params]
        param_group["params"] = params
        if names:
            param_group["param_names"] = names
        for param in params:
            if not isinstance(param, Tensor):
                raise TypeError(
                    f"optimizer can only optimize Tensors, but one of the params is {typename(param)}"
                )
            if not self.defaults.get("differentiable") and not param.is_leaf and not param.retains_grad:
                raise ValueError("can't optimize a non-leaf Tensor")
        for name, default in self.defaults.items():
            if default is required and name not in param_group:
                raise ValueError(
                    f"parameter group didn't specify a value of required optimization parameter {name}"
                )
            param_group.setdefault(name, default)
        own = {id(p) for p in params}
        if len(own) != len(params):
            warnings.warn(
                "optimizer contains a parameter group with duplicate parameters; in future, this will cause "
                "an error; see github.com/pytorch/pytorch/issues/40967 for more information",
                stacklevel=3,
            )
        for group in self.param_groups:
            if ("param_names" in param_group) != ("param_names" in group):
                kind = "with names" if "param_names" in param_group else "without names"
                raise ValueError(
                    "all optimizer param groups should be with/without names. "
                    f"cannot add param group {kind} to the optimizer"
                )
            if not own.isdisjoint(id(p) for p in group["params"]):
                raise ValueError("some parameters appear in more than one parameter group")
        self.param_groups.append(param_group)
        self.state_version += 1

    def _read_version(self) -> int:
        return self.state_version

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget the gradients of all parameters; with `set_to_none=False` fill them with zeros."""
        for group in self.param_groups:
            clear_gradients(group["params"], set_to_none)

    # Stepping

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update the parameters by their gradients. A closure, if given, computes the loss anew first."""
        raise NotImplementedError

    def _loss(self, closure: Callable[[], Any] | None) -> Any:
        if closure is None:
            return None
        with enable_grad():
            return closure()

    def _update_groups(self) -> None:
        """One step of all parameters. Closure and hooks are behind it: nothing in it is the user's code, which profilers
        rely on (`profiler/places.py`)."""
        for index, group in enumerate(self.param_groups):
            self._update(group, GroupReader(self, index))

    def _update(self, group: Group, reader: GroupReader) -> None:
        """One step of a group's parameters."""
        raise NotImplementedError

    def register_step_pre_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """`hook(optimizer, args, kwargs)` before each step; may return new (args, kwargs)."""
        return register(self._step_pre_hooks, hook)

    def register_step_post_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """`hook(optimizer, args, kwargs)` after each step."""
        return register(self._step_post_hooks, hook)

    # Saving

    def register_state_dict_pre_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """`hook(optimizer)` before `state_dict` collects."""
        return register(self._state_dict_pre_hooks, hook)

    def register_state_dict_post_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """`hook(optimizer, state_dict)` once it has; may return another dict."""
        return register(self._state_dict_post_hooks, hook)

    def register_load_state_dict_pre_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """`hook(optimizer, state_dict)` before `load_state_dict`; may return another dict."""
        return register(self._load_state_dict_pre_hooks, hook)

    def register_load_state_dict_post_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """`hook(optimizer)` after `load_state_dict`."""
        return register(self._load_state_dict_post_hooks, hook)

    def state_dict(self) -> dict[str, Any]:
        """State and groups with the parameters replaced by numbers, in the order of the groups."""
        for hook in self._state_dict_pre_hooks.values():
            hook(self)
        number: dict[int, int] = {}
        groups = []
        for group in self.param_groups:
            for param in group["params"]:
                number.setdefault(id(param), len(number))
            packed = {key: value for key, value in group.items() if key != "params"}
            groups.append({**packed, "params": [number[id(p)] for p in group["params"]]})
        state = {number[id(k)] if isinstance(k, Tensor) else k: v for k, v in self.state.items()}
        found: dict[str, Any] = {"state": state, "param_groups": groups}
        for hook in self._state_dict_post_hooks.values():
            changed = hook(self, found)
            found = found if changed is None else changed
        return found

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over what `state_dict` gave; ValueError if the groups do not correspond."""
        state_dict = dict(state_dict)
        for hook in self._load_state_dict_pre_hooks.values():
            changed = hook(self, state_dict)
            state_dict = state_dict if changed is None else changed
        saved_groups = copy.deepcopy(state_dict["param_groups"])
        if len(self.param_groups) != len(saved_groups):
            raise ValueError("loaded state dict has a different number of parameter groups")
        if any(len(g["params"]) != len(s["params"]) for g, s in zip(self.param_groups, saved_groups)):
            raise ValueError(
                "loaded state dict contains a parameter group that doesn't match the size of optimizer's "
                "group"
            )
        params: dict[int, Tensor] = {}
        for group, saved in zip(self.param_groups, saved_groups):
            params.update(zip(saved["params"], group["params"]))
            saved["params"] = group["params"]
            if "param_names" in group and "param_names" not in saved:
                saved["param_names"] = group["param_names"]
        state: defaultdict[Any, dict[str, Any]] = defaultdict(dict)
        for key, value in state_dict["state"].items():
            if key in params:
                state[params[key]] = _cast(params[key], value)
            else:
                state[key] = value
        self.__setstate__({"state": state, "param_groups": saved_groups})
        for hook in self._load_state_dict_post_hooks.values():
            hook(self)


def _cast(param: Tensor, value: Any, key: Any = None) -> Any:
    """Loaded state in the parameter's dtype; a step counter keeps its own."""
    if isinstance(value, Tensor):
        if key == "step" or not param.dtype.is_floating_point:
            return value.clone()
        return value.detach().clone().to(dtype=param.dtype)
    if isinstance(value, dict):
        return {k: _cast(param, v, k) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_cast(param, v) for v in value)
    return copy.deepcopy(value)


_global_pre_hooks: Hooks = {}
_global_post_hooks: Hooks = {}


def register_optimizer_step_pre_hook(hook: Callable[..., Any]) -> RemovableHandle:
    """`hook(optimizer, args, kwargs)` before each step of every optimizer; may return new (args, kwargs)."""
    return register(_global_pre_hooks, hook)


def register_optimizer_step_post_hook(hook: Callable[..., Any]) -> RemovableHandle:
    """`hook(optimizer, args, kwargs)` after each step of every optimizer."""
    return register(_global_post_hooks, hook)


def _with_hooks(step: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(step)
    def wrapper(self: Optimizer, *args: Any, **kwargs: Any) -> Any:
        # A subclass's step that calls its parent's: one step, one round of hooks. None for an optimizer that wraps
        # another and has not called `__init__`.
        if vars(self).get("_stepping", True):
            return step(self, *args, **kwargs)
        self._stepping = True
        try:
            for hook in (*_global_pre_hooks.values(), *self._step_pre_hooks.values()):
                changed = hook(self, args, kwargs)
                if changed is not None:
                    if not (isinstance(changed, tuple) and len(changed) == 2):
                        raise RuntimeError(
                            f"{step} must return None or a tuple of (new_args, new_kwargs), but got "
                            f"{changed}."
                        )
                    args, kwargs = changed
            result = step(self, *args, **kwargs)
            for hook in (*self._step_post_hooks.values(), *_global_post_hooks.values()):
                hook(self, args, kwargs)
        finally:
            self._stepping = False
        self._opt_called = True
        return result

    return wrapper
