"""`torch._dynamo.utils`: where compiled code can run."""

from __future__ import annotations

from .. import cuda


def is_compile_supported(device_type: str) -> bool:
    """Whether `torch.compile` has code for the kind of device here."""
    return device_type == "cpu" or (device_type == "cuda" and cuda.is_available())


__all__ = ["is_compile_supported"]
