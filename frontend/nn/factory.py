"""The `device` and `dtype` arguments that constructors of layers pass on."""

from __future__ import annotations

from typing import Any

_SIMPLE = ("device", "dtype", "memory_format")


def factory_kwargs(kwargs: dict[str, Any] | None) -> dict[str, Any]:
    """The canonical form: what is given by itself, and what the key `factory_kwargs` holds. TypeError for others, and
    for what is there twice."""
    if kwargs is None:
        return {}
    unexpected = kwargs.keys() - {*_SIMPLE, "factory_kwargs"}
    if unexpected:
        raise TypeError(f"unexpected kwargs {unexpected}")
    found = dict(kwargs.get("factory_kwargs", {}))
    for name in _SIMPLE:
        if name in kwargs:
            if name in found:
                raise TypeError(f"{name} specified twice, in **kwargs and in factory_kwargs")
            found[name] = kwargs[name]
    return found
