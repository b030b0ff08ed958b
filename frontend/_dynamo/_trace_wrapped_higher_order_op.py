"""`TransformGetItemToIndex`, by the name under which libraries around flex attention import it."""

from __future__ import annotations


class TransformGetItemToIndex:
    """A context in which `x[i]` may be called with a tensor of no dims under `vmap`: here it always may."""

    def __enter__(self) -> None:
        """Nothing to change."""

    def __exit__(self, *error: object) -> None:
        """Nothing to change back."""


__all__ = ["TransformGetItemToIndex"]
