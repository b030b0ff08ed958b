"""torch.signal.windows. https://docs.pytorch.org/docs/stable/signal.html

Every window has M points; `sym=False` gives the first M of a symmetric one with M + 1."""

from . import windows
from .windows import (
    bartlett,
    blackman,
    cosine,
    exponential,
    gaussian,
    general_cosine,
    general_hamming,
    hamming,
    hann,
    kaiser,
    nuttall,
)

__all__ = [
    "bartlett", "blackman", "cosine", "exponential", "gaussian", "general_cosine", "general_hamming", "hamming",
    "hann", "kaiser", "nuttall", "windows",
]  # fmt: skip
