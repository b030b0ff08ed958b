"""CUDA devices: which there are, which one is current, and what they can do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .. import device as torch_device
from ..placement import enable
from ..runtime.gpu import arrays
from ..runtime.gpu import device as gpu_device
from ..runtime.gpu.arrays import Gpu
from ..state import local

Device = Any  # a torch.device, its text, a number, or None for the current one


def is_available() -> bool:
    """Whether there is a CUDA device: the driver's, or the simulator (VITRIFY_CUDA=simulator)."""
    return arrays.gpu_count() > 0


def device_count() -> int:
    """How many CUDA devices there are."""
    return arrays.gpu_count()


def is_initialized() -> bool:
    """Whether a device has been used."""
    return bool(arrays.known_gpus())


def init() -> None:
    """Get ready to use devices; AssertionError where there are none."""
    require()
    enable()


def require() -> None:
    """AssertionError where there is no device, as PyTorch without CUDA raises it."""
    if not arrays.gpu_count():
        raise AssertionError("Torch not compiled with CUDA enabled")


def index_of(device: Device = None, optional: bool = True) -> int:
    """The number of the device that the argument names; ValueError for one that is no CUDA device."""
    require()
    if device is None and optional:
        return torch_device.current_index()
    if isinstance(device, int):
        return device
    found = torch_device.device(device)
    if found.type != "cuda":
        raise ValueError(f"Expected a cuda device, but got: {device}")
    return torch_device.current_index() if found.index is None else found.index


def gpu_for(device: Device = None) -> Gpu:
    """The device's own object."""
    return torch_device.checked_gpu(index_of(device))


def current_device() -> int:
    """The number of this thread's device."""
    require()
    return torch_device.current_index()


def set_device(device: Device) -> None:
    """Make it this thread's device; negative numbers do nothing."""
    index = index_of(device, optional=False)
    if index >= 0:
        torch_device.checked_gpu(index)
        local.__dict__["cuda_index"] = index


class device:
    """`with torch.cuda.device(1):` makes it this thread's device inside the block."""

    def __init__(self, device: Device):
        self.idx = index_of(device)
        self.prev_idx = -1

    def __enter__(self) -> None:
        self.prev_idx = torch_device.current_index()
        set_device(self.idx)

    def __exit__(self, type: Any, value: Any, traceback: Any) -> None:
        set_device(self.prev_idx)


class device_of(device):
    """`with torch.cuda.device_of(t):` makes the tensor's device current; nothing for a tensor on the CPU."""

    def __init__(self, obj: Any):
        super().__init__(obj.get_device() if obj.is_cuda else -1)


@dataclass(frozen=True)
class DeviceProperties:
    """What `get_device_properties` gives. Sizes are bytes."""

    name: str
    major: int
    minor: int
    total_memory: int
    multi_processor_count: int
    warp_size: int = 32

    def __repr__(self) -> str:
        return (
            f"_CudaDeviceProperties(name='{self.name}', major={self.major}, minor={self.minor}, "
            f"total_memory={self.total_memory >> 20}MB, multi_processor_count={self.multi_processor_count})"
        )


def get_device_properties(device: Device = None) -> DeviceProperties:
    """Name, capability, memory and multiprocessors."""
    found = gpu_for(device).device
    return DeviceProperties(found.name, *found.capability, found.total_memory, found.multiprocessors)


def get_device_name(device: Device = None) -> str:
    """The device's name, as its driver tells it."""
    return gpu_for(device).device.name


def get_device_capability(device: Device = None) -> tuple[int, int]:
    """(major, minor) compute capability."""
    return gpu_for(device).device.capability


def get_arch_list() -> list[str]:
    """The architectures that programs are compiled for; empty where there is no device."""
    if not is_available():
        return []
    return [f"sm_{major}{minor}" for major, minor in gpu_device.CAPABILITIES]


def is_bf16_supported(including_emulation: bool = True) -> bool:
    """Whether bfloat16 is computed in hardware; with emulation, whether at all."""
    return is_available() and (including_emulation or get_device_capability() >= (8, 0))


def is_tf32_supported() -> bool:
    """Whether tensor cores take float32 operands as TF32."""
    return is_available() and get_device_capability() >= (8, 0)


def can_device_access_peer(device: Device, peer_device: Device) -> bool:
    """Whether one device reads the other's memory: copies between devices go through the host."""
    for each in (device, peer_device):
        gpu_for(each)
    return False


def synchronize(device: Device = None) -> None:
    """Wait for all that was asked of the device; raises what a kernel did wrong."""
    gpu_for(device).device.synchronize()


def ipc_collect() -> None:
    """Nothing to do: memory is not shared with other processes."""
    require()


# The names of `torch.cuda` that are defined here.
__all__ = [
    "can_device_access_peer", "current_device", "device", "device_count", "device_of", "get_arch_list",
    "get_device_capability", "get_device_name", "get_device_properties", "init", "ipc_collect", "is_available",
    "is_bf16_supported", "is_initialized", "is_tf32_supported", "set_device", "synchronize",
]  # fmt: skip
