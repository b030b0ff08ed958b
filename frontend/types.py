"""`torch.types`: names for the types of arguments."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, TypeAlias

from .device import device as Device_
from .ir.dtypes import DType
from .size import Size
from .tensor import Tensor

Number: TypeAlias = int | float | bool
Device: TypeAlias = Device_ | str | int | None
FileLike: TypeAlias = str | os.PathLike[str] | Any
_int, _float, _bool, _complex = int, float, bool, complex
_dtype, _device = DType, Device_
_size: TypeAlias = Size | list[int] | tuple[int, ...]
_TensorOrTensors: TypeAlias = Tensor | Sequence[Tensor]

__all__ = ["Device", "FileLike", "Number"]
