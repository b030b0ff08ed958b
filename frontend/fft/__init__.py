"""Discrete Fourier transforms: the functions of `torch.fft`, over NumPy's."""

from ..arguments import name_keywords
from ..tensor import Tensor
from .helpers import fftfreq, fftshift, ifftshift, rfftfreq
from .many import fft2, fftn, hfft2, hfftn, ifft2, ifftn, ihfft2, ihfftn, irfft2, irfftn, rfft2, rfftn
from .one import fft, hfft, ifft, ihfft, irfft, rfft

__all__ = [
    "Tensor", "fft", "fft2", "fftfreq", "fftn", "fftshift", "hfft", "hfft2", "hfftn", "ifft", "ifft2", "ifftn",
    "ifftshift", "ihfft", "ihfft2", "ihfftn", "irfft", "irfft2", "irfftn", "rfft", "rfft2", "rfftfreq", "rfftn",
]  # fmt: skip

name_keywords(globals(), __all__)
