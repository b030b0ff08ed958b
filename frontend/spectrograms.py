"""`stft` and `istft`: Fourier transforms of windows that slide along a signal, and back."""

from __future__ import annotations

from typing import Any

from . import capture, fft
from .autocast import full_precision
from .creation import arange, ones, zeros
from .functional_arithmetic import add, div, mul, pow
from .functional_complex import view_as_real
from .functional_indexing import index_add
from .functional_memory import unfold
from .functional_pointwise import abs
from .functional_reductions import amin
from .functional_shape import expand, reshape, squeeze, transpose, unsqueeze
from .functional_slices import narrow
from .ir import dtypes
from .nn.padding import pad
from .promotion import convert
from .tensor import Tensor


class _Call:
    """The arguments of a call, which the messages of both functions quote."""

    def __init__(self, head: str, window: Tensor | None, n_fft: int, hop: int, length: int):
        shown = "None" if window is None else f"{_kind(window)}{{{_sizes(window)}}}"
        self.text = f"{head}, n_fft={n_fft}, hop_length={hop}, win_length={length}, window={shown}"

    def fail(self, tail: str, problem: str) -> RuntimeError:
        return RuntimeError(f"{self.text}, {tail}{problem}")


def _kind(tensor: Tensor) -> str:
    return str(tensor.type())


def _sizes(tensor: Tensor) -> str:
    return "[" + ", ".join(map(str, tensor.shape)) + "]"


def _centered(window: Tensor | None, length: int, n_fft: int, dtype: Any) -> Tensor | None:
    """The window in the middle of `n_fft` points, zeros around it."""
    if window is None and length == n_fft:
        return None
    given = ones(length, dtype=dtype) if window is None else window
    if length == n_fft:
        return given
    left = (n_fft - length) // 2
    return pad(given, (left, n_fft - length - left))


@full_precision
def stft(
    input: Tensor,
    n_fft: int,
    hop_length: int | None = None,
    win_length: int | None = None,
    window: Tensor | None = None,
    center: bool = True,
    pad_mode: str = "reflect",
    normalized: bool = False,
    onesided: bool | None = None,
    return_complex: bool | None = None,
    align_to_window: bool | None = None,
) -> Tensor:
    """The transforms of windows of `n_fft` points, one every `hop_length`: [..., frequencies, frames].

    See https://docs.pytorch.org/docs/stable/generated/torch.stft.html.
    """
    if center and align_to_window is not None:
        raise RuntimeError("stft align_to_window should only be set when center = false")
    if center:
        side = n_fft // 2
        lead = (1,) * (3 - input.ndim)
        padded = pad(reshape(input, (*lead, *input.shape)), (side, side), pad_mode)
        input = reshape(padded, tuple(padded.shape)[padded.ndim - input.ndim :])
    hop = n_fft // 4 if hop_length is None else hop_length
    length = n_fft if win_length is None else win_length
    call = _Call(f"stft({_kind(input)}{_sizes(input)}", window, n_fft, hop, length)

    def fail(problem: str) -> RuntimeError:
        shown = {True: "1", False: "0", None: "None"}
        tail = (
            f"normalized={int(normalized)}, onesided={shown[onesided]}, return_complex={shown[return_complex]}, "
            f"align_to_window={shown[align_to_window]}) : "
        )
        return call.fail(tail, problem)

    is_complex = input.dtype.is_complex or (window is not None and window.dtype.is_complex)
    if return_complex is None:
        if not is_complex:
            raise RuntimeError(
                "stft requires the return_complex parameter be given for real inputs, and will further require that "
                "return_complex=True in a future PyTorch release."
            )
        return_complex = True
    if input.dtype.kind not in ("float", "complex"):
        raise fail("expected a tensor of floating point or complex values")
    if input.ndim not in (1, 2):
        raise fail("expected a 1D or 2D tensor")
    signal = unsqueeze(input, 0) if input.ndim == 1 else input
    count = signal.shape[1]
    if isinstance(count, int) and not 0 < n_fft <= count:
        raise fail(f"expected 0 < n_fft < {count}, but got n_fft={n_fft}")
    if hop <= 0:
        raise fail(f"expected hop_length > 0, but got hop_length={hop}")
    if not 0 < length <= n_fft:
        raise fail(f"expected 0 < win_length <= n_fft, but got win_length={length}")
    if window is not None and (window.ndim != 1 or window.shape[0] != length):
        raise fail(
            f"expected a 1D window tensor of size equal to win_length={length}, but got window with size "
            f"{_sizes(window)}"
        )
    if onesided is None:
        onesided = not is_complex
    if onesided and is_complex:
        raise RuntimeError("Cannot have onesided output if window or input is complex")
    frames = unfold(signal, 1, n_fft, hop)
    weights = _centered(window, length, n_fft, signal.dtype)
    if weights is not None:
        frames = mul(frames, weights)
    norm = "ortho" if normalized else None
    spectrum = transpose((fft.rfft if onesided else fft.fft)(frames, None, -1, norm), 1, 2)
    if input.ndim == 1:
        spectrum = squeeze(spectrum, 0)
    return spectrum if return_complex else view_as_real(spectrum)


def istft(
    input: Tensor,
    n_fft: int,
    hop_length: int | None = None,
    win_length: int | None = None,
    window: Tensor | None = None,
    center: bool = True,
    normalized: bool = False,
    onesided: bool | None = None,
    length: int | None = None,
    return_complex: bool = False,
) -> Tensor:
    """The signal whose `stft` is the input: overlapping frames added, and divided by what their windows add up to.

    See https://docs.pytorch.org/docs/stable/generated/torch.istft.html.
    """
    hop = n_fft // 4 if hop_length is None else hop_length
    size = n_fft if win_length is None else win_length
    if not input.dtype.is_complex:
        raise RuntimeError(
            "istft requires a complex-valued input tensor matching the output from stft with return_complex=True."
        )
    call = _Call(f"istft(CPU{input.dtype.scalar_type}Type{_sizes(input)}", window, n_fft, hop, size)

    def fail(problem: str) -> RuntimeError:
        shown = "None" if onesided is None else str(int(onesided))
        tail = (
            f"center={int(center)}, normalized={int(normalized)}, onesided={shown}, length={length}, "
            f"return_complex={int(return_complex)}) "
        )
        return call.fail(tail, problem)

    if not input._type.numel:
        raise fail(": input tensor cannot be empty.")
    if input.ndim not in (2, 3):
        raise fail(f": expected a tensor with 3 or 4 dimensions, but got {input.ndim + 1}")
    half = onesided if onesided is not None else input.shape[-2] != n_fft
    if half and input.shape[-2] != n_fft // 2 + 1:
        raise fail(
            ": expected the frequency dimension (3rd to the last) of the input tensor to match n_fft / 2 + 1 when "
            f"onesided=True, but got {input.shape[-2]}"
        )
    if not half and input.shape[-2] != n_fft:
        raise fail(
            ": expected the frequency dimension (3rd to the last) of the input tensor to match n_fft when "
            f"onesided=False, but got {input.shape[-2]}"
        )
    if not 0 < hop <= size:
        raise fail(": expected 0 < hop_length <= win_length")
    if not 0 < size <= n_fft:
        raise fail(": expected 0 < win_length <= n_fft")
    if window is not None and (window.ndim != 1 or window.shape[0] != size):
        raise fail(": Invalid window shape. window has to be 1D and length of `win_length`")
    if return_complex and half:
        raise RuntimeError("Cannot have onesided output if window or input is complex")
    if window is not None and window.dtype.is_complex and not return_complex:
        raise RuntimeError("Complex windows are incompatible with return_complex=False")
    spectrum = unsqueeze(input, 0) if input.ndim == 2 else input
    frames_first = transpose(spectrum, 1, 2)
    norm = "ortho" if normalized else None
    if return_complex:
        frames = fft.ifft(frames_first, None, -1, norm)
    else:
        if not half:
            frames_first = narrow(frames_first, -1, 0, n_fft // 2 + 1)
        frames = fft.irfft(frames_first, n_fft, -1, norm)
    weights = _centered(window, size, n_fft, input.dtype.to_real())
    if weights is None:
        weights = ones(n_fft, dtype=input.dtype.to_real())
    count = frames.shape[1]
    total = n_fft + hop * (count - 1)
    place = reshape(add(unsqueeze(mul(arange(count), hop), 1), arange(n_fft)), (-1,))

    def overlapped(parts: Tensor) -> Tensor:
        base = zeros((parts.shape[0], total), dtype=parts.dtype)
        return index_add(base, 1, place, reshape(parts, (parts.shape[0], count * n_fft)))

    signal = overlapped(mul(frames, weights))
    squares = expand(pow(weights, 2), (1, count, n_fft))
    envelope = overlapped(squares)
    start = n_fft // 2 if center else 0
    if length is not None:
        stop = start + length
    else:
        stop = total - n_fft // 2 if center else total
    kept = (stop if stop < total else total) - start
    signal, envelope = narrow(signal, 1, start, kept), narrow(envelope, 1, start, kept)
    if capture.active() is None:
        lowest = convert(amin(abs(envelope)), dtypes.f64).item()
        if not lowest > 1e-11:
            raise fail("window overlap add min: 1\n[ CPUBoolType{} ]")
    signal = div(signal, envelope)
    if stop > total:
        signal = pad(signal, (0, stop - total))
    return squeeze(signal, 0) if input.ndim == 2 else signal


# The names of `torch` that are defined here.
__all__ = ["istft", "stft"]
