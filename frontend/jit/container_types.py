"""`torch.jit.isinstance`: a check that looks into containers."""

from __future__ import annotations

import types
import typing
from typing import Any


def is_instance(obj: Any, target_type: Any) -> bool:
    """Whether the object is of the type, where that may say what a container holds: `List[int]`,
    `Dict[str, Tensor]`, `Tuple[int, ...]`, `Optional[Tensor]`, or a tuple of types."""
    if isinstance(target_type, tuple):
        return any(is_instance(obj, kind) for kind in target_type)
    origin, kinds = typing.get_origin(target_type), typing.get_args(target_type)
    if origin is None:
        return target_type is Any or isinstance(obj, type(None) if target_type is None else target_type)
    if origin in (typing.Union, types.UnionType):
        return any(is_instance(obj, kind) for kind in kinds)
    if not isinstance(obj, origin):
        return False
    if origin is tuple and not (len(kinds) == 2 and kinds[1] is ...):
        return len(obj) == len(kinds) and all(map(is_instance, obj, kinds))
    if origin is dict:
        return all(is_instance(k, kinds[0]) and is_instance(v, kinds[1]) for k, v in obj.items())
    return all(is_instance(item, kinds[0]) for item in obj)
