"""`torch.fx.experimental.proxy_tensor`: whether PyTorch's `make_fx` is tracing, which it never is."""

from __future__ import annotations


def get_proxy_mode() -> None:
    """None: nothing is traced with proxies. A function is captured by `vitrify.compile`."""


__all__ = ["get_proxy_mode"]
