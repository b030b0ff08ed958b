"""The CUDA driver as ctypes sees it: `libcuda` with the prototypes of every function that is called, and calls whose
result is checked.

Reference: CUDA Driver API, https://docs.nvidia.com/cuda/cuda-driver-api/. Names with `_v2` are the 64-bit entry points
that the header's macros lead to.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import sys
from ctypes import POINTER, c_char_p, c_float, c_int, c_size_t, c_uint, c_uint64, c_void_p
from typing import Any

from .errors import CudaError

_DEVICE, _ADDRESS, _HANDLE = c_int, c_uint64, c_void_p

# Argument types; every function gives a CUresult.
PROTOTYPES: dict[str, tuple[Any, ...]] = {
    "cuInit": (c_uint,),
    "cuDriverGetVersion": (POINTER(c_int),),
    "cuDeviceGetCount": (POINTER(c_int),),
    "cuDeviceGet": (POINTER(_DEVICE), c_int),
    "cuDeviceGetName": (c_char_p, c_int, _DEVICE),
    "cuDeviceTotalMem_v2": (POINTER(c_size_t), _DEVICE),
    "cuDeviceGetAttribute": (POINTER(c_int), c_int, _DEVICE),
    "cuDevicePrimaryCtxRetain": (POINTER(_HANDLE), _DEVICE),
    "cuCtxSetCurrent": (_HANDLE,),
    "cuCtxSynchronize": (),
    "cuMemGetInfo_v2": (POINTER(c_size_t), POINTER(c_size_t)),
    "cuMemAlloc_v2": (POINTER(_ADDRESS), c_size_t),
    "cuMemFree_v2": (_ADDRESS,),
    "cuMemHostAlloc": (POINTER(c_void_p), c_size_t, c_uint),
    "cuMemFreeHost": (c_void_p,),
    "cuMemcpyHtoDAsync_v2": (_ADDRESS, c_void_p, c_size_t, _HANDLE),
    "cuMemcpyDtoHAsync_v2": (c_void_p, _ADDRESS, c_size_t, _HANDLE),
    "cuMemcpyDtoDAsync_v2": (_ADDRESS, _ADDRESS, c_size_t, _HANDLE),
    "cuMemsetD8Async": (_ADDRESS, ctypes.c_ubyte, c_size_t, _HANDLE),
    "cuMemsetD32Async": (_ADDRESS, c_uint, c_size_t, _HANDLE),
    "cuModuleLoadDataEx": (POINTER(_HANDLE), c_void_p, c_uint, POINTER(c_int), POINTER(c_void_p)),
    "cuModuleUnload": (_HANDLE,),
    "cuModuleGetFunction": (POINTER(_HANDLE), _HANDLE, c_char_p),
    "cuFuncSetAttribute": (_HANDLE, c_int, c_int),
    "cuLaunchKernel": (
        _HANDLE, c_uint, c_uint, c_uint, c_uint, c_uint, c_uint, c_uint, _HANDLE, POINTER(c_void_p), POINTER(c_void_p),
    ),
    "cuLaunchCooperativeKernel": (
        _HANDLE, c_uint, c_uint, c_uint, c_uint, c_uint, c_uint, c_uint, _HANDLE, POINTER(c_void_p),
    ),
    "cuOccupancyMaxActiveBlocksPerMultiprocessor": (POINTER(c_int), _HANDLE, c_int, c_size_t),
    "cuTensorMapEncodeTiled": (
        c_void_p, c_int, c_uint, c_uint64, POINTER(c_uint64), POINTER(c_uint64), POINTER(c_uint), POINTER(c_uint),
        c_int, c_int, c_int, c_int,
    ),
    "cuStreamCreateWithPriority": (POINTER(_HANDLE), c_uint, c_int),
    "cuStreamDestroy_v2": (_HANDLE,),
    "cuStreamSynchronize": (_HANDLE,),
    "cuStreamQuery": (_HANDLE,),
    "cuStreamWaitEvent": (_HANDLE, _HANDLE, c_uint),
    "cuStreamBeginCapture_v2": (_HANDLE, c_int),
    "cuStreamEndCapture": (_HANDLE, POINTER(_HANDLE)),
    "cuEventCreate": (POINTER(_HANDLE), c_uint),
    "cuEventDestroy_v2": (_HANDLE,),
    "cuEventRecord": (_HANDLE, _HANDLE),
    "cuEventQuery": (_HANDLE,),
    "cuEventSynchronize": (_HANDLE,),
    "cuEventElapsedTime": (POINTER(c_float), _HANDLE, _HANDLE),
    "cuGraphInstantiateWithFlags": (POINTER(_HANDLE), _HANDLE, ctypes.c_ulonglong),
    "cuGraphLaunch": (_HANDLE, _HANDLE),
    "cuGraphDestroy": (_HANDLE,),
    "cuGraphExecDestroy": (_HANDLE,),
}  # fmt: skip
# What is done without where a driver lacks it.
OPTIONAL: dict[str, tuple[Any, ...]] = {
    "cuStreamGetCaptureInfo_v2": (
        _HANDLE, POINTER(c_int), POINTER(c_uint64), POINTER(_HANDLE), POINTER(c_void_p), POINTER(c_size_t),
    ),
    "cuGraphExecKernelNodeSetParams_v2": (_HANDLE, _HANDLE, c_void_p),
}  # fmt: skip


class KernelNodeParams(ctypes.Structure):
    """CUDA_KERNEL_NODE_PARAMS_v2."""

    _fields_ = (
        ("function", c_void_p),
        ("grid", c_uint * 3),
        ("block", c_uint * 3),
        ("shared_bytes", c_uint),
        ("params", c_void_p),
        ("extra", c_void_p),
        ("kernel", c_void_p),
        ("context", c_void_p),
    )


class CudaLibrary:
    """The functions of a loaded `libcuda`, or of something that stands for one."""

    def __init__(self, raw: Any):
        """AttributeError names a function that the library lacks."""
        self.functions: dict[str, Any] = {}
        for name, types in (PROTOTYPES | OPTIONAL).items():
            function = getattr(raw, name, None) if name in OPTIONAL else getattr(raw, name)
            if function is not None:
                function.argtypes = types
                function.restype = c_int
                self.functions[name] = function

    def result(self, name: str, *args: Any) -> int:
        """Call the function; its CUresult."""
        return int(self.functions[name](*args))

    def call(self, action: str, name: str, *args: Any) -> None:
        """Call the function; CudaError says what `action` failed."""
        code = self.functions[name](*args)
        if code:
            raise CudaError(code, action, f"({name})")

    def get(self, action: str, kind: Any, name: str, *args: Any) -> Any:
        """Call a function that stores its answer through its first argument; the answer."""
        answer = kind()
        self.call(action, name, ctypes.byref(answer), *args)
        return answer.value


def load_library() -> CudaLibrary | None:
    """The driver's library; None where there is none, or one that lacks functions of CUDA 12."""
    names = ["nvcuda.dll"] if sys.platform == "win32" else ["libcuda.so.1", "libcuda.so"]
    for name in names:
        try:
            return CudaLibrary(ctypes.CDLL(name))
        except (OSError, AttributeError):
            continue
    return None
