"""`torch.version`: which release this is, and which vendor libraries it was made with: none."""

from __future__ import annotations

__version__ = "0.1.0"
debug = False
cuda: str | None = None
hip: str | None = None
xpu: str | None = None
git_version: str | None = None

__all__ = ["__version__", "cuda", "debug", "git_version", "hip", "xpu"]
