"""`torch._subclasses.fake_tensor`: tensors without elements. Here the device "meta" has them, and no tensor is of this
class."""

from __future__ import annotations

from typing import Any, NoReturn

_MESSAGE = 'fake tensors are not supported: tensors without elements are those of the device "meta"'


class FakeTensor:
    """NotImplementedError where one is made."""

    def __init__(self, *args: Any, **kwargs: Any):
        raise NotImplementedError(_MESSAGE)


class FakeTensorMode:
    """NotImplementedError where one is entered."""

    def __init__(self, *args: Any, **kwargs: Any):
        pass

    def __enter__(self) -> NoReturn:
        raise NotImplementedError(_MESSAGE)

    def __exit__(self, *exc: object) -> None:
        pass


def is_fake(x: Any) -> bool:
    """False: there are none."""
    return False


__all__ = ["FakeTensor", "FakeTensorMode", "is_fake"]
