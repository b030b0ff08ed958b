"""Saving a module's tensors by name and loading them back."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from ...autograd.grad_mode import no_grad
from ...tensor import Tensor
from ..parameter import Parameter, is_lazy

if TYPE_CHECKING:
    from .module import Module

EXTRA_STATE = "_extra_state"


class IncompatibleKeys(NamedTuple):
    """What `load_state_dict(strict=False)` did not find a partner for."""

    missing_keys: list[str]
    unexpected_keys: list[str]

    def __repr__(self) -> str:
        if not self.missing_keys and not self.unexpected_keys:
            return "<All keys matched successfully>"
        return (
            f"_IncompatibleKeys(missing_keys={self.missing_keys!r}, unexpected_keys={self.unexpected_keys!r})"
        )


class StateDict(OrderedDict[str, Any]):
    """An ordered dict with the versions of the modules in `_metadata`, as in PyTorch."""

    _metadata: dict[str, dict[str, Any]]


# Prints as what PyTorch returns.
StateDict.__name__ = "OrderedDict"


def get_extra_state(self: Module) -> Any:
    """What else to save under `<prefix>_extra_state`, where a subclass defines it."""
    raise RuntimeError("Module.get_extra_state() is called only where a subclass defines it")


def set_extra_state(self: Module, state: Any) -> None:
    """Take back what `get_extra_state` gave."""
    raise RuntimeError("Module.set_extra_state() is called only where a subclass defines it")


def collect_state(module: Module, destination: Any, prefix: str, keep_vars: bool) -> Any:
    """The state of the module and its children, entered in `destination` (made if None)."""
    if destination is None:
        destination = StateDict()
        destination._metadata = OrderedDict()
    local_metadata = {"version": module._version}
    if hasattr(destination, "_metadata"):
        destination._metadata[prefix[:-1]] = local_metadata
    for hook in module._state_dict_pre_hooks.values():
        hook(module, prefix, keep_vars)
    module._save_to_state_dict(destination, prefix, keep_vars)
    for name, child in module._modules.items():
        if child is not None:
            child.state_dict(destination=destination, prefix=f"{prefix}{name}.", keep_vars=keep_vars)
    for hook in module._state_dict_hooks.values():
        result = hook(module, destination, prefix, local_metadata)
        if result is not None:
            if getattr(hook, "_from_public_api", False):
                raise RuntimeError("state_dict post-hook must return None")
            destination = result
    return destination


def save_own(module: Module, destination: Any, prefix: str, keep_vars: bool) -> None:
    """The module's own parameters and persistent buffers, not its children's."""
    for name, tensor in own_state(module).items():
        destination[prefix + name] = tensor if keep_vars else tensor.detach()
    if type(module).get_extra_state is not get_extra_state:
        destination[prefix + EXTRA_STATE] = module.get_extra_state()


def own_state(module: Module) -> dict[str, Tensor]:
    kept = {n: b for n, b in module._buffers.items() if n not in module._non_persistent_buffers_set}
    return {name: t for name, t in {**module._parameters, **kept}.items() if t is not None}


def load_state(module: Module, state_dict: Mapping[str, Any], strict: bool, assign: bool) -> IncompatibleKeys:
    """Load into the module and its children; RuntimeError with all that did not fit."""
    if not isinstance(state_dict, Mapping):
        raise TypeError(f"Expected state_dict to be dict-like, got {type(state_dict)}.")
    metadata = getattr(state_dict, "_metadata", None)
    state = StateDict(state_dict)
    keys = IncompatibleKeys([], [])
    errors: list[str] = []

    def load(module: Module, state: Any, prefix: str) -> None:
        local_metadata = dict((metadata or {}).get(prefix[:-1], {}))
        if assign:
            local_metadata["assign_to_params_buffers"] = True
        module._load_from_state_dict(
            state, prefix, local_metadata, True, keys.missing_keys, keys.unexpected_keys, errors
        )
        for name, child in module._modules.items():
            if child is not None:
                inner = f"{prefix}{name}."
                load(child, {k: v for k, v in state.items() if k.startswith(inner)}, inner)
        for hook in module._load_state_dict_post_hooks.values():
            if hook(module, keys) is not None:
                raise AssertionError(
                    "Hooks registered with ``register_load_state_dict_post_hook`` are not expected to return "
                    "new values, if incompatible_keys need to be modified, it should be done inplace."
                )

    load(module, state, "")
    if strict:
        for label, found in (("Missing", keys.missing_keys), ("Unexpected", keys.unexpected_keys)):
            if found:
                quoted = ", ".join(f'"{key}"' for key in found)
                errors.insert(
                    1 if label == "Unexpected" and keys.missing_keys else 0,
                    f"{label} key(s) in state_dict: {quoted}. ",
                )
    if errors:
        joined = "\n\t".join(errors)
        raise RuntimeError(f"Error(s) in loading state_dict for {type(module).__name__}:\n\t{joined}")
    return keys


def load_own(
    self: Module,
    state_dict: Any,
    prefix: str,
    local_metadata: dict[str, Any],
    strict: bool,
    missing_keys: list[str],
    unexpected_keys: list[str],
    error_msgs: list[str],
) -> None:
    """Load the module's own parameters and buffers, noting what is missing, unexpected or does not fit."""
    for hook in self._load_state_dict_pre_hooks.values():
        hook(state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs)
    own = own_state(self)
    assign = local_metadata.get("assign_to_params_buffers", False)
    for name, target in own.items():
        key = prefix + name
        if key not in state_dict:
            if strict:
                missing_keys.append(key)
            continue
        given = state_dict[key]
        if is_lazy(target) and is_lazy(given):
            continue  # neither has a value yet
        if not isinstance(given, Tensor):
            error_msgs.append(
                f'While copying the parameter named "{key}", expected torch.Tensor or Tensor-like object '
                f"from checkpoint but received {type(given)}"
            )
            continue
        if len(target.shape) == 0 and len(given.shape) == 1 and given.shape[0] == 1:
            given = given[0]
        if given.shape != target.shape:
            error_msgs.append(
                f"size mismatch for {key}: copying a param with shape {given.shape} from checkpoint, "
                f"the shape in current model is {target.shape}."
            )
            continue
        try:
            _put(self, name, target, given, assign)
        except Exception as error:
            error_msgs.append(
                f'While copying the parameter named "{key}", whose dimensions in the model are '
                f"{target.shape} and whose dimensions in the checkpoint are {given.shape}, an exception "
                f"occurred : {error.args}."
            )
    extra = prefix + EXTRA_STATE
    if type(self).set_extra_state is not set_extra_state:
        if extra in state_dict:
            self.set_extra_state(state_dict[extra])
        elif strict:
            missing_keys.append(extra)
    elif strict and extra in state_dict:
        unexpected_keys.append(extra)
    if strict:
        for key in state_dict:
            if key.startswith(prefix) and key != extra:
                first, dot, _ = key[len(prefix) :].partition(".")
                if first not in (self._modules if dot else own):
                    unexpected_keys.append(key)


def _put(module: Module, name: str, target: Tensor, given: Tensor, assign: bool) -> None:
    with no_grad():
        if not assign:
            target.copy_(given)
            return
        if isinstance(target, Parameter):
            if isinstance(given, Parameter):
                given.requires_grad_(target.requires_grad)
            else:
                given = Parameter(given, requires_grad=target.requires_grad)
        setattr(module, name, given)
