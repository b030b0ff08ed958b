"""PTX modules in the CUDA driver, their kernels, and which driver takes which PTX."""

from __future__ import annotations

import ctypes
import re
from ctypes import addressof, byref, c_int, c_void_p
from typing import TYPE_CHECKING, Any

from ...codegen.target import STATIC_SHARED
from .errors import NOT_FOUND, UNSUPPORTED_PTX, CudaError, UnsupportedDeviceError

if TYPE_CHECKING:
    from .driver import CudaDevice

# CUjit_option
_INFO_BUFFER, _INFO_SIZE, _ERROR_BUFFER, _ERROR_SIZE = 3, 4, 5, 6
_LOG_BYTES = 1 << 14

# CUDA versions and the newest PTX that their drivers take (PTX ISA, "Release Notes").
PTX_OF_CUDA = (
    ((13, 0), (9, 0)), ((12, 9), (8, 8)), ((12, 8), (8, 7)), ((12, 7), (8, 6)), ((12, 5), (8, 5)), ((12, 4), (8, 4)),
    ((12, 3), (8, 3)), ((12, 2), (8, 2)), ((12, 1), (8, 1)), ((12, 0), (8, 0)), ((11, 8), (7, 8)), ((11, 7), (7, 7)),
    ((11, 6), (7, 6)), ((11, 5), (7, 5)), ((11, 4), (7, 4)), ((11, 3), (7, 3)), ((11, 2), (7, 2)), ((11, 1), (7, 1)),
    ((11, 0), (7, 0)),
)  # fmt: skip


class CudaModule:
    """A loaded module. Its code stays as long as this object, or a function of it, lives."""

    def __init__(self, device: CudaDevice, ptx: str):
        """UnsupportedDeviceError where the driver is too old for the PTX; what the assembler says is in the error."""
        self.device = device
        self.handle = 0
        _check_version(ptx, device.driver_version)
        data = ptx.encode() + b"\0"
        info, errors = (ctypes.create_string_buffer(_LOG_BYTES) for _ in range(2))
        kinds = (c_int * 4)(_INFO_BUFFER, _INFO_SIZE, _ERROR_BUFFER, _ERROR_SIZE)
        values = (c_void_p * 4)(addressof(info), _LOG_BYTES, addressof(errors), _LOG_BYTES)
        try:
            self.handle = int(
                device.get("loading a PTX module", c_void_p, "cuModuleLoadDataEx", data, 4, kinds, values)
            )
        except CudaError as error:
            if error.code == UNSUPPORTED_PTX:
                raise UnsupportedDeviceError(_too_old(_ptx_version(ptx), device.driver_version)) from error
            log = errors.value.decode("utf-8", "replace") or info.value.decode("utf-8", "replace")
            raise CudaError(error.code, error.action, log) from error

    def function(self, name: str) -> CudaFunction:
        handle = c_void_p()
        try:
            action = f"looking up the kernel {name}"
            self.device.call(action, "cuModuleGetFunction", byref(handle), self.handle, name.encode())
        except CudaError as error:
            if error.code == NOT_FOUND:
                raise KeyError(f"the module has no kernel {name!r}") from error
            raise
        return CudaFunction(self, int(handle.value or 0), name)

    def __del__(self) -> None:
        if self.handle:
            self.device.drop("cuModuleUnload", self.handle)


class CudaFunction:
    """A kernel of a loaded module."""

    def __init__(self, module: CudaModule, handle: int, name: str):
        self.module = module
        self.handle = handle
        self.name = name
        self.launching = f"launching {name}"
        self.shared_bytes = STATIC_SHARED  # what may be had; more must be asked for
        # Memory for the parameters of launches to come: values, and their addresses.
        self.parameters: list[tuple[Any, Any]] = []


Version = tuple[int, int]


def _check_version(ptx: str, driver: Version) -> None:
    newest = next((takes for cuda, takes in PTX_OF_CUDA if driver >= cuda), (0, 0))
    wanted = _ptx_version(ptx)
    # A driver that is newer than this table takes what it does not list.
    if wanted > newest and driver < PTX_OF_CUDA[0][0]:
        raise UnsupportedDeviceError(_too_old(wanted, driver))


def _too_old(wanted: Version, driver: Version) -> str:
    needed = min((cuda for cuda, takes in PTX_OF_CUDA if takes >= wanted), default=PTX_OF_CUDA[0][0])
    return (
        f"The NVIDIA driver on your system is too old (it supports CUDA {_dotted(driver)}): PTX {_dotted(wanted)} needs "
        f"a driver for CUDA {_dotted(needed)} or newer. Please update your GPU driver."
    )


def _ptx_version(ptx: str) -> Version:
    found = re.search(r"^\s*\.version\s+(\d+)\.(\d+)", ptx, re.MULTILINE)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def _dotted(version: Version) -> str:
    return f"{version[0]}.{version[1]}"
