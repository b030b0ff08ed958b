"""What the simulator reports: PTX that it cannot read, and what a kernel did wrong, with the place."""

from __future__ import annotations

from ..gpu.errors import AcceleratorError


class PtxError(AcceleratorError):
    """PTX text that is not valid, or holds what the simulator does not know; `line` is the text's (from 1)."""

    def __init__(self, line: int, message: str):
        self.line = line
        super().__init__(f"PTX line {line}: {message}" if line else message)


class LaunchError(AcceleratorError):
    """A launch that no device would take: threads, shared memory, number of arguments."""


class KernelFault(AcceleratorError):
    """A kernel did wrong. The message names kernel, block, thread and PTX line.

    Each kind of fault is a class of its own; `kernel`, `block`, `thread`, `line` say where it was (the first thread,
    by its number, of those that did it).
    """

    def __init__(self, kernel: str, block: int, thread: int, line: int, text: str, message: str):
        self.kernel, self.block, self.thread, self.line = kernel, block, thread, line
        super().__init__(
            f"{message}\n  in kernel {kernel}, block {block}, thread {thread}, PTX line {line}: {text}"
        )


class OutOfBounds(KernelFault):
    """An access outside of every live allocation, shared array or parameter."""


class UseAfterFree(KernelFault):
    """An access to memory that has been freed."""


class Misaligned(KernelFault):
    """An address that is no multiple of the access's size."""


class UninitializedRead(KernelFault):
    """A read of shared memory that no thread of the block has written."""


class Race(KernelFault):
    """Two threads used the same memory with no barrier between, at least one wrote, and it matters."""


class DivergentBarrier(KernelFault):
    """A barrier or warp-wide instruction that not all its threads reach."""


class Trapped(KernelFault):
    """The kernel executed `trap`."""
