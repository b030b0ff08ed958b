"""Process-wide settings of `torch`, and what they mean here."""

from __future__ import annotations

import warnings
from typing import Any

from .device import CPU, device
from .placement import cuda_device, gpu_of
from .state import local
from .tensor import data_changed

_PRECISIONS = ("highest", "high", "medium")
_DEBUG_MODES = {"default": 0, "warn": 1, "error": 2}


class _Settings:
    def __init__(self) -> None:
        self.deterministic = 0  # 0: not asked for, 1: warn, 2: raise
        self.matmul_precision = "highest"
        self.interop_threads = 1
        self.warn_always = False


_settings = _Settings()


def get_default_device() -> device:
    """Where tensors are made that no argument places."""
    return CPU if local.device is None else cuda_device(local.device.index)


def set_default_device(device: Any) -> None:
    """Make tensors there that no argument places: on the CPU (also None) or a CUDA device. For this thread."""
    local.device = gpu_of(device)


def use_deterministic_algorithms(mode: bool, *, warn_only: bool = False) -> None:
    """Remember that only deterministic algorithms are wanted. Nothing here is anything else: results do not depend on
    the number of threads either."""
    set_deterministic_debug_mode((1 if warn_only else 2) if mode else 0)


def are_deterministic_algorithms_enabled() -> bool:
    """Whether `use_deterministic_algorithms` was asked for."""
    return _settings.deterministic > 0


def is_deterministic_algorithms_warn_only_enabled() -> bool:
    """Whether that was with `warn_only`."""
    return _settings.deterministic == 1


def set_deterministic_debug_mode(debug_mode: int | str) -> None:
    """`use_deterministic_algorithms` by name or number: default (0), warn (1), error (2)."""
    if isinstance(debug_mode, str):
        if debug_mode not in _DEBUG_MODES:
            raise RuntimeError(
                f"invalid value of debug_mode, expected one of `default`, `warn`, `error`, but got {debug_mode}"
            )
        debug_mode = _DEBUG_MODES[debug_mode]
    elif not isinstance(debug_mode, int):
        raise TypeError(f"debug_mode must be str or int, but got {type(debug_mode)}")
    if debug_mode not in (0, 1, 2):
        raise RuntimeError(f"invalid value of debug_mode, expected 0, 1, or 2, but got {debug_mode}")
    _settings.deterministic = debug_mode
    data_changed()  # compiled functions look again whether they fit


def get_deterministic_debug_mode() -> int:
    """The debug mode's number."""
    return _settings.deterministic


def set_float32_matmul_precision(precision: str) -> None:
    """How precise products of float32 matrices need to be. With "medium" compiled code multiplies them in bfloat16 and
    adds up in float32, on processors that have an instruction for it (AVX512-BF16) and where strict numerics are not
    asked for; otherwise, and eagerly, they are computed in float32. On a GPU "high" and "medium" let tensor cores round
    their operands to tf32, eagerly and in what is compiled from then on, as `backends.cuda.matmul.allow_tf32` does."""
    if precision not in _PRECISIONS:
        warnings.warn(
            f"{precision} is not one of 'highest', 'high', or 'medium'; the current setFloat32MatmulPrecision call has "
            "no effect.",
            UserWarning,
            stacklevel=2,
        )
        return
    if precision != _settings.matmul_precision:
        _settings.matmul_precision = precision
        data_changed()  # compiled functions look again whether they fit


def get_float32_matmul_precision() -> str:
    """What `set_float32_matmul_precision` was told."""
    return _settings.matmul_precision


def set_flush_denormal(mode: bool) -> bool:
    """False: denormal numbers are not flushed to zero here."""
    return False


def get_num_interop_threads() -> int:
    """How many ops run at once: one, unless it was set."""
    return _settings.interop_threads


def set_num_interop_threads(n: int) -> None:
    """Remembered; ops run one after the other, each on `get_num_threads()` threads."""
    if type(n) is not int:
        raise TypeError(f"set_num_interop_threads expects an int, but got {type(n).__name__}")
    if n <= 0:
        raise RuntimeError("set_num_interop_threads expects a positive integer")
    _settings.interop_threads = n


def init_num_threads() -> None:
    """Nothing to do: threads start with the first compiled function that needs them."""


def set_warn_always(b: bool) -> None:
    """Whether warnings that PyTorch gives once are to be given every time. Python's filters decide that here."""
    _settings.warn_always = bool(b)


def is_warn_always_enabled() -> bool:
    """What `set_warn_always` was told."""
    return _settings.warn_always


def compiled_with_cxx11_abi() -> bool:
    """True: there is no C++ here that could have another ABI."""
    return True


# The names of `torch` that are defined here.
__all__ = [
    "are_deterministic_algorithms_enabled", "compiled_with_cxx11_abi", "get_default_device",
    "get_deterministic_debug_mode", "get_float32_matmul_precision", "get_num_interop_threads",
    "init_num_threads", "is_deterministic_algorithms_warn_only_enabled", "is_warn_always_enabled",
    "set_default_device", "set_deterministic_debug_mode", "set_float32_matmul_precision", "set_flush_denormal",
    "set_num_interop_threads", "set_warn_always", "use_deterministic_algorithms",
]  # fmt: skip
