"""Fourier transforms: one dim and several, sizes, norms, gradients; frequencies; `stft` and `istft`."""

from __future__ import annotations

from .table import Family, complexes, integers, normal, uniform

SAMPLES = """
torch.fft.fft(x)
torch.fft.fft(z)
torch.fft.fft(z, 5)
torch.fft.fft(z, n=9, dim=0, norm="ortho")
torch.fft.fft(x, norm="forward")
torch.fft.fft(i)
torch.fft.fft(o)
torch.fft.ifft(z)
torch.fft.ifft(x, 4, dim=0)
torch.fft.ifft(z, norm="forward")
torch.fft.ifft(o, norm="ortho")
torch.fft.rfft(x)
torch.fft.rfft(x, 5)
torch.fft.rfft(x, n=9, dim=0, norm="ortho")
torch.fft.rfft(o)
torch.fft.rfft(i, norm="forward")
torch.fft.irfft(z)
torch.fft.irfft(z, 7)
torch.fft.irfft(z, n=5, dim=0, norm="ortho")
torch.fft.irfft(z, 20, norm="forward")
torch.fft.irfft(torch.fft.rfft(o), 7)
torch.fft.irfft(x)
torch.fft.hfft(z)
torch.fft.hfft(z, 7, norm="ortho")
torch.fft.hfft(x, n=5, dim=0)
torch.fft.ihfft(x)
torch.fft.ihfft(o, 5, norm="forward")
torch.fft.ihfft(x, dim=0, norm="ortho")
torch.fft.fft2(b)
torch.fft.fft2(zb, s=(3, 6), norm="ortho")
torch.fft.fft2(zb, dim=(0, 2))
torch.fft.ifft2(zb)
torch.fft.ifft2(b, s=(5, 3), dim=(1, 0), norm="forward")
torch.fft.rfft2(b)
torch.fft.rfft2(b, s=(5, 3), norm="ortho")
torch.fft.rfft2(b, dim=(2, 0))
torch.fft.irfft2(zb)
torch.fft.irfft2(zb, s=(3, 5), norm="ortho")
torch.fft.irfft2(zb, s=(4, 7), dim=(0, 1))
torch.fft.hfft2(zb)
torch.fft.hfft2(zb, s=(3, 5), norm="ortho")
torch.fft.ihfft2(b)
torch.fft.ihfft2(b, s=(3, 5), norm="forward")
torch.fft.fftn(b)
torch.fft.fftn(zb, s=(2, 5))
torch.fft.fftn(zb, dim=(1,), norm="ortho")
torch.fft.fftn(zb, s=(2, -1, 3))
torch.fft.ifftn(zb)
torch.fft.ifftn(zb, s=(5,), dim=(0,), norm="ortho")
torch.fft.rfftn(b)
torch.fft.rfftn(b, s=(3, 5), dim=(0, 1), norm="forward")
torch.fft.irfftn(zb)
torch.fft.irfftn(zb, s=(3, 4, 5), norm="ortho")
torch.fft.irfftn(zb, dim=(2, 1))
torch.fft.hfftn(zb)
torch.fft.hfftn(zb, s=(3, 4), dim=(1, 0), norm="ortho")
torch.fft.ihfftn(b)
torch.fft.ihfftn(b, s=(3, 4), dim=(1, 0), norm="ortho")
torch.fft.fftfreq(5)
torch.fft.fftfreq(8, d=0.25)
torch.fft.fftfreq(4, 2, dtype=torch.float64)
torch.fft.rfftfreq(5)
torch.fft.rfftfreq(8, 0.5, dtype=torch.float64)
torch.fft.fftshift(x)
torch.fft.fftshift(o, dim=-1)
torch.fft.fftshift(b, dim=(0, 1))
torch.fft.ifftshift(x)
torch.fft.ifftshift(o)
torch.fft.ifftshift(zb, dim=(0, 2))
torch.fft.fft(x).abs().pow(2).sum()
torch.fft.rfft(o).angle()
torch.fft.ifft(torch.fft.fft(x) * torch.fft.fft(x, norm="ortho")).real
torch.stft(g, 8, return_complex=True)
torch.stft(g, 8, hop_length=3, win_length=6, window=w6, return_complex=True)
torch.stft(g[0], 8, center=False, normalized=True, return_complex=True)
torch.stft(g, 8, pad_mode="constant", onesided=False, return_complex=True)
torch.stft(g, 8, window=w8, return_complex=False)
torch.stft(gz, 8, window=w8)
g.stft(7, return_complex=True)
torch.istft(s, 8)
torch.istft(s, 8, window=w8, length=20)
torch.istft(s, 8, hop_length=3, win_length=6, window=w6, normalized=True)
torch.istft(s[0], 8, length=30)
torch.istft(s8, 8, onesided=False, return_complex=True)
torch.istft(torch.stft(g, 8, window=w8, return_complex=True), 8, window=w8, length=30)
s.istft(8)
"""

DOUBLE = """
torch.fft.fft(z, 7)
torch.fft.ifft(x)
torch.fft.rfft(o)
torch.fft.irfft(z, 7)
torch.fft.hfft(z)
torch.fft.ihfft(o)
torch.fft.fft2(zb)
torch.fft.rfftn(b)
torch.fft.irfftn(zb)
torch.stft(g, 8, window=w8, return_complex=True)
torch.istft(s, 8, window=w8)
"""

FAMILY = Family(
    inputs={
        "x": normal(4, 6),
        "o": normal(7),
        "z": complexes(4, 6),
        "b": normal(2, 3, 4),
        "zb": complexes(2, 3, 4),
        "i": integers(5),
        "g": normal(2, 30),
        "gz": complexes(20),
        "w6": uniform(6, low=0.5, high=1.5),
        "w8": uniform(8, low=0.5, high=1.5),
        "s": complexes(2, 5, 9),
        "s8": complexes(8, 9),
    },
    samples=SAMPLES,
    variants={"float64": DOUBLE},
)
