"""`torch.nn.attention`: which kernels `scaled_dot_product_attention` may use, and causal masks as objects.

There is one implementation here, and it is correct under every choice; `sdpa_kernel` keeps the choice for those who ask.
"""

from __future__ import annotations

import contextlib
import enum
import threading
from collections.abc import Iterator

from . import bias, flex_attention


class SDPBackend(enum.IntEnum):
    """PyTorch's implementations of attention."""

    ERROR = -1
    MATH = 0
    FLASH_ATTENTION = 1
    EFFICIENT_ATTENTION = 2
    CUDNN_ATTENTION = 3
    OVERRIDEABLE = 4


_ALL = (
    SDPBackend.CUDNN_ATTENTION,
    SDPBackend.FLASH_ATTENTION,
    SDPBackend.EFFICIENT_ATTENTION,
    SDPBackend.MATH,
    SDPBackend.OVERRIDEABLE,
)
WARN_FOR_UNFUSED_KERNELS = False


class _Chosen(threading.local):
    backends: tuple[SDPBackend, ...] = _ALL


_chosen = _Chosen()


@contextlib.contextmanager
def sdpa_kernel(
    backends: list[SDPBackend] | SDPBackend, set_priority: bool = False
) -> Iterator[dict[str, object]]:
    """Choose the implementations for the block. All of PyTorch's are one here, so nothing changes but the choice."""
    if not isinstance(backends, list | SDPBackend):
        raise AssertionError(
            "Backend must be an instance of SDPBackend or a list of SDPBackend instances, got "
            f"{type(backends).__name__}"
        )
    wanted = (backends,) if isinstance(backends, SDPBackend) else tuple(dict.fromkeys(backends))
    before, _chosen.backends = _chosen.backends, wanted
    try:
        yield {}
    finally:
        _chosen.backends = before


def _cur_sdpa_kernel_backends(with_priority: bool = False) -> list[SDPBackend]:
    """What was chosen."""
    return list(_chosen.backends) if with_priority else [b for b in _ALL if b in _chosen.backends]


__all__ = ["WARN_FOR_UNFUSED_KERNELS", "SDPBackend", "bias", "flex_attention", "sdpa_kernel"]
