"""Calling a module with other parameters than its own: what `torch.func.functional_call` is made of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from ...tensor import Tensor
from ..modules.module import Module
from ..modules.structure import changed

_ABSENT = object()


def _named(module: Module) -> dict[str, Tensor]:
    return {
        **dict(module.named_parameters(remove_duplicate=False)),
        **dict(module.named_buffers(remove_duplicate=False)),
    }


def _with_tied(module: Module, given: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What is given, also under the other names of the same tensor. ValueError for two values of one."""
    names: dict[int, list[str]] = {}
    for name, tensor in _named(module).items():
        names.setdefault(id(tensor), []).append(name)
    found = dict(given)
    for tied in names.values():
        present = [name for name in tied if name in given]
        if len(tied) < 2 or not present:
            continue
        if len({id(given[name]) for name in present}) > 1:
            raise ValueError(
                f"functional_call got multiple values for keys {sorted(tied)}, which are tied. Consider using "
                "tie_weights=False"
            )
        found.update((name, given[present[0]]) for name in tied)
    return found


def _owner(module: Module, name: str) -> tuple[Module, str]:
    path, _, last = name.rpartition(".")
    return module.get_submodule(path), last


def _swap(owner: Any, name: str, value: Any) -> Any:
    """Put the tensor in the module's tables, past all checks; gives what was there."""
    if not isinstance(value, Tensor) and value is not None and value is not _ABSENT:
        raise TypeError(f"{value} is not an instance of torch.Tensor")
    for table in (owner._parameters, owner._buffers):
        if name in table:
            before = table[name]
            # Not `table[name] =`: the module is the same again after the call.
            dict.__setitem__(table, name, value)
            return before
    if not hasattr(owner, name):
        raise AttributeError(f"{owner._get_name()} has no attribute `{name}`")
    # A parametrized tensor: the value takes the place of the property.
    before = owner.__dict__.get(name, _ABSENT)
    cls = type(owner)
    if isinstance(cls.__dict__.get(name), property):
        original = cls
        owner.__class__ = type(cls.__name__, (cls,), {name: value, "__module__": cls.__module__})
        return original
    if value is _ABSENT:
        owner.__dict__.pop(name, None)
    else:
        owner.__dict__[name] = value
    return before


def _restore(owner: Any, name: str, before: Any) -> Any:
    """Undo `_swap`; gives what the call left."""
    if isinstance(before, type):
        left = type(owner).__dict__.get(name)
        owner.__class__ = before
        return left
    return _swap(owner, name, before)


@contextmanager
def _reparametrize_module(
    module: Module,
    parameters_and_buffers: dict[str, Tensor],
    tie_weights: bool = False,
    strict: bool = False,
    stack_weights: bool = False,
) -> Iterator[None]:
    """Inside the block the module has the given tensors; what it puts in their place is in the dict afterwards."""
    given = _with_tied(module, parameters_and_buffers) if tie_weights else dict(parameters_and_buffers)
    if strict:
        own = set(_named(module))
        errors = [
            f"{label} key(s): {', '.join(map(repr, sorted(names)))}."
            for label, names in (("Unexpected", set(given) - own), ("Missing", own - set(given)))
            if names
        ]
        if errors:
            raise RuntimeError(
                "Error(s) in reparametrizing for {}:\n\t{}".format(module._get_name(), "\n\t".join(errors))
            )
    swapped: list[tuple[str, Any, str, Any]] = []
    try:
        for name, value in given.items():
            try:
                owner, last = _owner(module, name)
                known = hasattr(owner, last)
            except AttributeError:
                continue
            if known:
                swapped.append((name, owner, last, _swap(owner, last, value)))
        yield
    finally:
        for name, owner, last, before in reversed(swapped):
            left = _restore(owner, last, before)
            if name in parameters_and_buffers:
                parameters_and_buffers[name] = left
        changed_from_outside = any(isinstance(before, type) for *_, before in swapped)
        if changed_from_outside:
            changed()


def functional_call(
    module: Module,
    parameters_and_buffers: dict[str, Tensor],
    args: Any = None,
    kwargs: dict[str, Any] | None = None,
    *,
    tie_weights: bool = True,
    strict: bool = False,
) -> Any:
    """`module(*args, **kwargs)` with the given tensors in place of its parameters and buffers. Tied tensors stay tied
    with `tie_weights`; with `strict` every tensor must be given and no other."""
    if args is None:
        args = ()
    elif not isinstance(args, tuple):
        args = (args,)
    with _reparametrize_module(module, parameters_and_buffers, tie_weights, strict):
        return module(*args, **(kwargs or {}))


__all__ = ["functional_call"]
