"""`torch.utils.hooks`: what registering a hook returns."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

from ..hooks import RemovableHandle


def unserializable_hook(f: Callable[..., Any]) -> Callable[..., Any]:
    """Mark a hook that a copy of its tensor is not to have."""
    f.__torch_unserializable__ = True  # type: ignore[attr-defined]
    return f


def warn_if_has_hooks(tensor: Any) -> None:
    """Warn of the tensor's hooks, which a copy does not have, but for those that are marked."""
    extra = tensor._extra
    for hook in () if extra is None else extra.hooks.values():
        if not hasattr(hook, "__torch_unserializable__"):
            warnings.warn(
                f"backward hook {hook!r} on tensor will not be serialized.  If this is expected, you can decorate the "
                "function with @torch.utils.hooks.unserializable_hook to suppress this warning",
                UserWarning,
                stacklevel=2,
            )


__all__ = ["RemovableHandle", "unserializable_hook", "warn_if_has_hooks"]
