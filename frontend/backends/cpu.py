"""`torch.backends.cpu`."""

from __future__ import annotations

from ..codegen.target import Target

_NAMES = {"avx512": "AVX512", "avx2": "AVX2", "neon": "NEON"}


def get_cpu_capability() -> str:
    """The widest vectors that compiled code uses: DEFAULT, AVX2, AVX512 or NEON."""
    return _NAMES.get(Target.host().isa, "DEFAULT")


__all__ = ["get_cpu_capability"]
