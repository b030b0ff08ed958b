"""Hooks of modules: how they are registered, and a call with hooks around it."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ...hooks import Hooks, RemovableHandle
from ...state import local
from ...tensor import Tensor
from .backward_hooks import BackwardBoundary
from .structure import add_hook

if TYPE_CHECKING:
    from .module import Module

GLOBAL_FORWARD_PRE_HOOKS: Hooks = {}
GLOBAL_FORWARD_HOOKS: Hooks = {}
GLOBAL_BACKWARD_PRE_HOOKS: Hooks = {}
GLOBAL_BACKWARD_HOOKS: Hooks = {}
GLOBAL_PARAMETER_HOOKS: Hooks = {}
GLOBAL_BUFFER_HOOKS: Hooks = {}
GLOBAL_MODULE_HOOKS: Hooks = {}
_global_with_kwargs: dict[int, bool] = {}
_global_always_called: dict[int, bool] = {}
# Whether the global backward hooks are full ones; None before the first.
_global_full: list[bool | None] = [None]


def register_module_parameter_registration_hook(hook: Callable[..., Any]) -> RemovableHandle:
    """`hook(module, name, param)` where any module registers a parameter; what it returns takes its place."""
    return add_hook(GLOBAL_PARAMETER_HOOKS, hook)


def register_module_buffer_registration_hook(hook: Callable[..., Any]) -> RemovableHandle:
    """`hook(module, name, buffer)` where any module registers a buffer; what it returns takes its place."""
    return add_hook(GLOBAL_BUFFER_HOOKS, hook)


def register_module_module_registration_hook(hook: Callable[..., Any]) -> RemovableHandle:
    """`hook(module, name, submodule)` where any module registers a child; what it returns takes its place."""
    return add_hook(GLOBAL_MODULE_HOOKS, hook)


def as_registered(hooks: Hooks, module: Any, name: str, value: Any) -> Any:
    """The value, or what the hooks put in its place."""
    for hook in hooks.values():
        changed = hook(module, name, value)
        if changed is not None:
            value = changed
    return value


def register_module_forward_pre_hook(hook: Callable[..., Any]) -> RemovableHandle:
    """`hook(module, args)` before the forward of every module."""
    return add_hook(GLOBAL_FORWARD_PRE_HOOKS, hook)


def register_module_forward_hook(
    hook: Callable[..., Any], *, with_kwargs: bool = False, always_call: bool = False
) -> RemovableHandle:
    """`hook(module, args, output)` after the forward of every module."""
    flags = [_global_with_kwargs] if with_kwargs else []
    if always_call:
        flags.append(_global_always_called)
    return add_hook(GLOBAL_FORWARD_HOOKS, hook, flags=flags)


def register_module_full_backward_pre_hook(hook: Callable[..., Any]) -> RemovableHandle:
    """`hook(module, grad_output)` before the gradients of any module's inputs are computed."""
    return add_hook(GLOBAL_BACKWARD_PRE_HOOKS, hook)


def _set_global_kind(full: bool) -> None:
    if _global_full[0] is (not full):
        raise RuntimeError(
            "Cannot use both regular backward hooks and full backward hooks as a global Module hook. Please use only "
            "one of them."
        )
    _global_full[0] = full


def register_module_backward_hook(hook: Callable[..., Any]) -> RemovableHandle:
    """The deprecated kind, for all modules: it sees the gradients of each module's last op only."""
    _set_global_kind(full=False)
    return add_hook(GLOBAL_BACKWARD_HOOKS, hook)


def register_module_full_backward_hook(hook: Callable[..., Any]) -> RemovableHandle:
    """`hook(module, grad_input, grad_output)` once the gradients of any module's inputs are there."""
    _set_global_kind(full=True)
    return add_hook(GLOBAL_BACKWARD_HOOKS, hook)


class HookRegistration:
    """The part of `Module` that registers hooks."""

    _backward_hooks: Hooks
    _backward_pre_hooks: Hooks
    _forward_hooks: Hooks
    _forward_hooks_always_called: dict[int, bool]
    _forward_hooks_with_kwargs: dict[int, bool]
    _forward_pre_hooks: Hooks
    _forward_pre_hooks_with_kwargs: dict[int, bool]
    _is_full_backward_hook: bool | None
    _load_state_dict_post_hooks: Hooks
    _load_state_dict_pre_hooks: Hooks
    _state_dict_hooks: Hooks
    _state_dict_pre_hooks: Hooks

    def register_forward_pre_hook(
        self, hook: Callable[..., Any], *, prepend: bool = False, with_kwargs: bool = False
    ) -> RemovableHandle:
        """`hook(module, args)` runs before forward and may return new args; with kwargs: (module, args,
        kwargs)."""
        flags = [self._forward_pre_hooks_with_kwargs] if with_kwargs else []
        return add_hook(self._forward_pre_hooks, hook, prepend, flags)

    def register_forward_hook(
        self,
        hook: Callable[..., Any],
        *,
        prepend: bool = False,
        with_kwargs: bool = False,
        always_call: bool = False,
    ) -> RemovableHandle:
        """`hook(module, args, output)` runs after forward and may return another output."""
        flags = [self._forward_hooks_with_kwargs] if with_kwargs else []
        if always_call:
            flags.append(self._forward_hooks_always_called)
        return add_hook(self._forward_hooks, hook, prepend, flags)

    def _set_backward_kind(self, full: bool) -> None:
        if self._is_full_backward_hook is (not full):
            raise RuntimeError(
                "Cannot use both regular backward hooks and full backward hooks on a "
                "single Module. Please use only one of them."
            )
        self._is_full_backward_hook = full

    def register_full_backward_pre_hook(
        self, hook: Callable[..., Any], prepend: bool = False
    ) -> RemovableHandle:
        """`hook(module, grad_output)` runs before the gradients of the module's inputs are computed."""
        return add_hook(self._backward_pre_hooks, hook, prepend)

    def register_full_backward_hook(self, hook: Callable[..., Any], prepend: bool = False) -> RemovableHandle:
        """`hook(module, grad_input, grad_output)` runs once the gradients of the module's inputs are
        there."""
        self._set_backward_kind(full=True)
        return add_hook(self._backward_hooks, hook, prepend)

    def register_backward_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """The deprecated kind: it sees the gradients of the module's last op only."""
        self._set_backward_kind(full=False)
        return add_hook(self._backward_hooks, hook)

    def _register_state_dict_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        if getattr(hook, "_from_public_api", False):
            raise RuntimeError(
                "Cannot register the same function as the state dict post hook that was "
                "previously registered via register_state_dict_post_hook"
            )
        return add_hook(self._state_dict_hooks, hook)

    def register_state_dict_post_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """`hook(module, state_dict, prefix, local_metadata)` once `state_dict` has collected; it changes the
        dict in place."""
        hook._from_public_api = True  # type: ignore[attr-defined]
        return add_hook(self._state_dict_hooks, hook)

    def register_state_dict_pre_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """`hook(module, prefix, keep_vars)` before `state_dict` collects."""
        return add_hook(self._state_dict_pre_hooks, hook)

    def _register_load_state_dict_pre_hook(
        self, hook: Callable[..., Any], with_module: bool = False
    ) -> RemovableHandle:
        def bound(*args: Any) -> Any:
            return hook(self, *args) if with_module else hook(*args)

        return add_hook(self._load_state_dict_pre_hooks, bound)

    def register_load_state_dict_pre_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """`hook(module, state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys,
        error_msgs)` before `load_state_dict` copies."""
        return self._register_load_state_dict_pre_hook(hook, with_module=True)

    def register_load_state_dict_post_hook(self, hook: Callable[..., Any]) -> RemovableHandle:
        """`hook(module, incompatible_keys)` after `load_state_dict`; it may change the lists of keys in
        place."""
        return add_hook(self._load_state_dict_post_hooks, hook)


def set_computed(module: Module, name: str, value: Tensor) -> None:
    """A hook before the forward gives the module an attribute that it has computed: not a change of the module that a
    compiled function would have to notice. While one is being compiled, until the forward's end."""
    fields = module.__dict__
    if local.backend.capture is None:
        fields[name] = value
        return
    before, number = fields.get(name), -id(value)

    def restore(*_: Any) -> None:
        fields[name] = before
        del module._forward_hooks[number], module._forward_hooks_always_called[number]

    fields[name] = value
    module._forward_hooks[number] = restore
    module._forward_hooks_always_called[number] = True


# Calling


def call_with_hooks(module: Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Forward with every hook that concerns the module, in PyTorch's order: global ones first."""
    result: Any = None
    called: set[int] = set()
    try:
        args, kwargs = _run_pre_hooks(module, args, kwargs)
        full: list[Callable[..., Any]] = []
        plain: list[Callable[..., Any]] = []
        (full if _global_full[0] else plain).extend(GLOBAL_BACKWARD_HOOKS.values())
        (full if module._is_full_backward_hook else plain).extend(module._backward_hooks.values())
        before = [*GLOBAL_BACKWARD_PRE_HOOKS.values(), *module._backward_pre_hooks.values()]
        boundary = BackwardBoundary(module, full, before) if full or before else None
        if boundary is not None:
            args = boundary.enter(args)
        result = module.forward(*args, **kwargs)
        for number, hook in (*GLOBAL_FORWARD_HOOKS.items(), *module._forward_hooks.items()):
            called.add(number)
            changed = _call_forward_hook(module, number, hook, args, kwargs, result)
            if changed is not None:
                result = changed
        if boundary is not None:
            if not isinstance(result, Tensor | tuple):
                warnings.warn(
                    "For backward hooks to be called, module output should be a Tensor or a tuple of Tensors "
                    f"but received {type(result)}",
                    stacklevel=3,
                )
            result = boundary.leave(result)
        if plain:
            _hook_last_node(module, plain, result)
        return result
    except Exception:
        for number, hook in (*GLOBAL_FORWARD_HOOKS.items(), *module._forward_hooks.items()):
            always = number in _global_always_called or number in module._forward_hooks_always_called
            if not always or number in called:
                continue
            try:
                changed = _call_forward_hook(module, number, hook, args, kwargs, result)
                result = result if changed is None else changed
            except Exception as error:
                warnings.warn(
                    "module forward hook with ``always_call=True`` raised an exception "
                    f"that was silenced as another error was raised in forward: {error}",
                    stacklevel=3,
                )
        raise


def _call_forward_hook(
    module: Module, number: int, hook: Callable[..., Any], args: Any, kwargs: Any, result: Any
) -> Any:
    if number in module._forward_hooks_with_kwargs or number in _global_with_kwargs:
        return hook(module, args, kwargs, result)
    return hook(module, args, result)


def _run_pre_hooks(
    module: Module, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    for number, hook in (*GLOBAL_FORWARD_PRE_HOOKS.items(), *module._forward_pre_hooks.items()):
        if number in module._forward_pre_hooks_with_kwargs:
            changed = hook(module, args, kwargs)
            if changed is not None:
                if not (isinstance(changed, tuple) and len(changed) == 2):
                    raise RuntimeError(
                        "forward pre-hook must return None or a tuple of (new_args, new_kwargs), but got "
                        f"{changed}."
                    )
                args, kwargs = changed
        else:
            changed = hook(module, args)
            if changed is not None:
                args = changed if isinstance(changed, tuple) else (changed,)
    return args, kwargs


def _hook_last_node(module: Module, hooks: list[Callable[..., Any]], result: Any) -> None:
    """The deprecated backward hooks: on the node that made the (first) output."""
    output = result
    while not isinstance(output, Tensor):
        if isinstance(output, dict):
            output = next(v for v in output.values() if isinstance(v, Tensor))
        else:
            output = output[0]
    node = output.grad_fn
    if node is None:
        return
    for hook in hooks:

        def bound(grad_inputs: Any, grad_outputs: Any, hook: Callable[..., Any] = hook) -> Any:
            return hook(module, grad_inputs, grad_outputs)

        node.register_hook(bound)
