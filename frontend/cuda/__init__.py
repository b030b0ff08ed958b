"""`torch.cuda`: devices, memory, streams and random numbers. Without a device it answers as a PyTorch without CUDA."""

# ruff: noqa: F403

from __future__ import annotations

from ..runtime.gpu.errors import AcceleratorError as AcceleratorError
from ..runtime.gpu.errors import CudaError as CudaError
from ..runtime.gpu.errors import OutOfMemoryError as OutOfMemoryError
from . import amp as amp
from . import memory as memory
from . import random as random
from . import streams as streams
from .devices import *
from .graphs import *
from .memory import *
from .random import *
from .streams import *

has_half = True
has_magma = False
