"""`torch.autograd.profiler`: the older names of `torch.profiler`."""

from __future__ import annotations

from typing import Any

from ..profiler.averages import EventList
from ..profiler.session import profile as _profile
from ..profiler.session import record_function


class profile(_profile):
    """`torch.profiler.profile` that can be turned off: with `enabled=False` nothing is recorded.

    https://docs.pytorch.org/docs/stable/autograd.html#profiler
    """

    def __init__(
        self,
        enabled: bool = True,
        *,
        use_cuda: bool = False,
        use_device: str | None = None,
        record_shapes: bool = False,
        with_flops: bool = False,
        profile_memory: bool = False,
        with_stack: bool = False,
        with_modules: bool = False,
        use_kineto: bool = False,
        use_cpu: bool = True,
        experimental_config: Any = None,
        acc_events: bool = False,
        custom_trace_id_callback: Any = None,
        post_processing_timeout_s: float | None = None,
    ):
        super().__init__(record_shapes=record_shapes, experimental_config=experimental_config)
        self.enabled = enabled

    def start(self) -> None:
        """Begin, where it is enabled."""
        if self.enabled:
            super().start()


class emit_nvtx:
    """Marks for NVIDIA's profilers: NotImplementedError where it is entered."""

    def __init__(self, enabled: bool = True, record_shapes: bool = False):
        self.enabled = enabled

    def __enter__(self) -> emit_nvtx:
        if self.enabled:
            raise NotImplementedError("torch.autograd.profiler.emit_nvtx is not in vitrify")
        return self

    def __exit__(self, *exc: object) -> None:
        pass


__all__ = ["EventList", "emit_nvtx", "profile", "record_function"]
