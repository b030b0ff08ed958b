"""torch.signal: window functions. https://docs.pytorch.org/docs/stable/signal.html"""

from . import windows

__all__ = ["windows"]
