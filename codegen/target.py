"""What the code is for: an ISA, its vector width, its registers and its caches; or a GPU.

Lowerings read a `Target` to choose tile sizes and lane counts; the LLVM emitter reads it to choose intrinsics.
"""

from __future__ import annotations

import logging
import os
import platform
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from ..ir.dtypes import DType
from .tile_permission import ask_for_tiles

ISA = Literal["avx512", "avx2", "neon", "sse2"]

# Shared memory of a GPU's block that need not be asked for.
STATIC_SHARED = 48 << 10
# Bytes of a tensor map (CUDA driver API, CUtensorMap), and what its address is a multiple of.
TENSOR_MAP_BYTES, TENSOR_MAP_ALIGNMENT = 128, 64

# Bytes of a line of a CPU's caches.
LINE = 64
# With fewer vector registers code holds less side by side; CPUs have 16 or so many.
MANY_REGISTERS = 32

# Processors with tile registers, by LLVM's names, and those that begin two multiply-adds of 512 bits in a cycle.
TILED = frozenset(("sapphirerapids", "emeraldrapids", "graniterapids", "graniterapids-d", "diamondrapids"))
TWO_WIDE = TILED | {"skylake-avx512", "cascadelake", "cooperlake", "icelake-server", "znver5"}

log = logging.getLogger("vitrify")
_CPU_CACHES = Path("/sys/devices/system/cpu/cpu0/cache")


@dataclass(frozen=True)
class Target:
    """A machine to generate code for. Sizes are bytes; `registers` counts vector registers, `multiply_adds` those of
    vectors that begin in a cycle."""

    name: str
    triple: str
    cpu: str
    features: str
    isa: ISA
    vector_bytes: int
    registers: int
    l1: int = 32 << 10
    l2: int = 1 << 20
    l3: int = 16 << 20
    fma: bool = True
    multiply_adds: int = 2

    def lanes(self, dtype: DType) -> int:
        """Elements of `dtype` in one vector register."""
        return self.vector_bytes // dtype.itemsize

    def has(self, feature: str) -> bool:
        """Whether the machine is known to have a feature beyond its ISA, by LLVM's name for it."""
        return f"+{feature}" in self.features.split(",")

    @property
    def has_scale(self) -> bool:
        """Whether an instruction multiplies floats by powers of two."""
        return self.isa == "avx512"

    def has_dot(self, op: str) -> bool:
        """Whether it has an instruction for a dot product of `codegen/packed.py`."""
        if op == "dot_i16":
            return self.isa in ("avx512", "avx2", "sse2")
        if op == "dot_u8i8":
            return self.has("avx512vnni") or self.has("avxvnni")
        return op == "dot_bf16" and self.has("avx512bf16")

    @property
    def adds_two_widest(self) -> bool:
        """Whether two 512-bit vectors are multiplied and added in a cycle: by Intel's server processors and Zen 5."""
        return self.isa == "avx512" and self.multiply_adds > 1

    @property
    def has_slow_pairs(self) -> bool:
        """Whether vectors of bfloat16 pairs are multiplied at half the rate of float32: one in two cycles, measured on
        Intel's processors with tile registers."""
        return self.cpu in TILED or self.has("amx-tile")

    def has_tiles(self, op: str) -> bool:
        """Whether it has tile registers (AMX), and the instruction there for a dot product of `codegen/packed.py`."""
        feature = {"dot_bf16": "amx-bf16", "dot_u8i8": "amx-int8"}.get(op)
        return feature is not None and self.has("amx-tile") and self.has(feature)

    @staticmethod
    def host() -> Target:
        """The machine this process runs on, with the sizes of its caches."""
        return _host()

    @staticmethod
    def named(name: str) -> Target:
        """A target by name, for looking at code for other machines; KeyError lists the names there are."""
        try:
            return _NAMED[name]
        except KeyError:
            raise KeyError(f"unknown target {name!r}; there are {', '.join(_NAMED)}") from None


@dataclass(frozen=True)
class GpuTarget:
    """An NVIDIA GPU to generate PTX for. `arch` is the architecture as LLVM and `ptxas` name it, `ptx` the version of
    the PTX text; a block has at most `max_threads` threads and `shared_bytes` of shared memory that need not be asked
    for, `most_shared_bytes` if it asks (CUDA programming guide, "Technical Specifications"). `multiprocessors` says how
    many blocks it takes to fill the machine."""

    name: str
    arch: str
    ptx: str = "8.0"
    warp: int = 32
    max_threads: int = 1024
    shared_bytes: int = STATIC_SHARED
    most_shared_bytes: int = STATIC_SHARED
    multiprocessors: int = 108
    fma: bool = True
    isa: Literal["ptx"] = "ptx"
    triple: str = "nvptx64-nvidia-cuda"
    # Of one access, the widest there is.
    vector_bytes: int = 16
    # Of 32 bits, per thread.
    registers: int = 255

    @property
    def capability(self) -> int:
        """As in sm_80: 80."""
        return int("".join(c for c in self.arch if c.isdigit()))

    @property
    def has_mma(self) -> bool:
        """Whether tensor cores multiply f16 and bf16 tiles of 16x8x16."""
        return self.capability >= 80

    @property
    def has_wgmma(self) -> bool:
        """Whether groups of four warps multiply out of shared memory, which a copy engine fills."""
        return self.arch == "sm_90a"

    @property
    def has_bf16(self) -> bool:
        """Whether there is an instruction that rounds to bfloat16."""
        return self.capability >= 80

    @property
    def features(self) -> str:
        """LLVM's names of the features."""
        return f"+ptx{self.ptx.replace('.', '')}"

    def lanes(self, dtype: DType) -> int:
        """Elements of `dtype` in one access of 16 bytes."""
        return self.vector_bytes // dtype.itemsize

    @staticmethod
    def named(name: str) -> GpuTarget:
        """A target by the name of its architecture; KeyError lists the names there are."""
        try:
            return _GPUS[name]
        except KeyError:
            raise KeyError(f"unknown GPU target {name!r}; there are {', '.join(_GPUS)}") from None


_GPUS = {
    t.name: t
    for t in (
        GpuTarget("sm_70", "sm_70", most_shared_bytes=96 << 10, multiprocessors=80),
        GpuTarget("sm_75", "sm_75", most_shared_bytes=64 << 10, multiprocessors=40),
        GpuTarget("sm_80", "sm_80", most_shared_bytes=163 << 10, multiprocessors=108),
        GpuTarget("sm_86", "sm_86", most_shared_bytes=99 << 10, multiprocessors=84),
        GpuTarget("sm_89", "sm_89", most_shared_bytes=99 << 10, multiprocessors=128),
        GpuTarget("sm_90", "sm_90", most_shared_bytes=227 << 10, multiprocessors=132),
        GpuTarget("sm_90a", "sm_90a", most_shared_bytes=227 << 10, multiprocessors=132),
    )
}

_NAMED = {
    t.name: t
    for t in (
        Target(
            "x86-64-avx512", "x86_64-unknown-linux-gnu", "x86-64-v4", "", "avx512", 64, 32, multiply_adds=1
        ),
        Target(
            "x86-64-avx512-dot",
            "x86_64-unknown-linux-gnu",
            "x86-64-v4",
            "+avx512bf16,+avx512vnni",
            "avx512",
            64,
            32,
            multiply_adds=1,
        ),
        Target(
            "x86-64-amx",
            "x86_64-unknown-linux-gnu",
            "x86-64-v4",
            "+amx-tile,+amx-bf16,+amx-int8,+avx512bf16,+avx512vnni",
            "avx512",
            64,
            32,
            l1=48 << 10,
            l2=2 << 20,
        ),
        Target("x86-64-avx2", "x86_64-unknown-linux-gnu", "x86-64-v3", "", "avx2", 32, 16),
        Target("x86-64-avx2-dot", "x86_64-unknown-linux-gnu", "x86-64-v3", "+avxvnni", "avx2", 32, 16),
        Target("x86-64-sse2", "x86_64-unknown-linux-gnu", "x86-64", "", "sse2", 16, 16, fma=False),
        Target("aarch64-neon", "aarch64-unknown-linux-gnu", "generic", "+neon", "neon", 16, 32),
    )
}


@cache
def _host() -> Target:
    from llvmlite import binding

    features = binding.get_host_cpu_features()
    leave_out_tiles(features)
    triple = binding.get_process_triple()
    machine = platform.machine().lower()
    if machine in ("x86_64", "amd64"):
        if all(features.get(f) for f in ("avx512f", "avx512bw", "avx512dq", "avx512vl", "fma")):
            isa, width, registers = "avx512", 64, 32
        elif features.get("avx2") and features.get("fma"):
            isa, width, registers = "avx2", 32, 16
        else:
            isa, width, registers = "sse2", 16, 16
        fma = bool(features.get("fma"))
    elif machine in ("aarch64", "arm64"):
        isa, width, registers, fma = "neon", 16, 32, True
    else:
        raise RuntimeError(
            f"no code generation for the machine {machine!r}; supported are x86-64 and AArch64"
        )
    sizes = _cache_sizes()
    cpu = _cpu(binding.get_host_cpu_name(), features)
    return Target(
        name=f"{machine.replace('_', '-')}-{isa}",
        triple=triple,
        cpu=cpu,
        features=features.flatten(),
        isa=isa,  # type: ignore[arg-type]
        vector_bytes=width,
        registers=registers,
        l1=sizes.get(1, 32 << 10),
        l2=sizes.get(2, 1 << 20),
        l3=sizes.get(3, 16 << 20),
        fma=fma,
        multiply_adds=2 if isa != "avx512" or cpu in TWO_WIDE else 1,
    )


def _cpu(name: str, features: Mapping[str, bool]) -> str:
    """LLVM's name for a processor. A virtual machine may call it by the name of an older one without tile registers."""
    if not features.get("amx-tile") or name in TILED:
        return name
    return "graniterapids" if features.get("avx10.1") or features.get("amx-fp16") else "sapphirerapids"


def leave_out_tiles(features: MutableMapping[str, bool]) -> None:
    """Take tile registers (AMX) out of the machine's features where the system does not give them to this process."""
    if not features.get("amx-tile"):
        return
    reason = ask_for_tiles()
    if not reason:
        return
    log.info("tile registers (AMX) are not used: %s", reason)
    for name in list(features):
        if name.startswith("amx-"):
            features[name] = False


def _cache_sizes() -> dict[int, int]:
    """Bytes of the data or unified cache of each level; levels that the system does not tell are absent."""
    found: dict[int, int] = {}
    if not _CPU_CACHES.is_dir():
        return found
    for index in sorted(os.listdir(_CPU_CACHES)):
        folder = _CPU_CACHES / index
        try:
            if (folder / "type").read_text().strip() == "Instruction":
                continue
            level = int((folder / "level").read_text())
            text = (folder / "size").read_text().strip()
        except (OSError, ValueError):
            continue
        unit = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}.get(text[-1:], 1)
        digits = text.rstrip("KMG")
        if digits.isdigit():
            found[level] = int(digits) * unit
    return found
