"""Rules of Fourier transforms, random numbers, and what a detector does with boxes."""

from __future__ import annotations

from typing import Any

import numpy as np

import vitrify as torch

from ..ir.dtypes import DType
from ..tensor import Tensor
from .table import Call, ONNXError, as_array, dtype_of, rule


@rule("DFT", static=(1, 2))
def dft(call: Call) -> Tensor:
    """The last dim holds real and imaginary part, or the real part alone."""
    x = call.tensor(0)
    axis = call.attr("axis", 1) if call.version < 20 else int(call.number(2, -2))
    axis = axis + x.ndim if axis < 0 else axis
    length = int(call.number(1, x.shape[axis]))
    inverse, onesided = bool(call.attr("inverse", 0)), bool(call.attr("onesided", 0))
    real = x.shape[-1] == 1
    signal = x[..., 0] if real else torch.view_as_complex(x.contiguous())
    if inverse and onesided:
        whole = length if call.has(1) else 2 * (length - 1)
        return torch.fft.irfft(signal, n=whole, dim=axis).unsqueeze(-1)
    if onesided:
        if not real:
            raise ONNXError("a one-sided transform needs a real signal")
        return torch.view_as_real(torch.fft.rfft(signal, n=length, dim=axis))
    transform = torch.fft.ifft if inverse else torch.fft.fft
    return torch.view_as_real(transform(signal, n=length, dim=axis))


@rule("STFT", static=(1, 3))
def stft(call: Call) -> Tensor:
    """[batch, frames, bins, 2]."""
    x, step = call.tensor(0), int(call.number(1))
    window = call.optional(2)
    length = int(call.number(3)) if call.has(3) else int(window.shape[0]) if window is not None else 0
    if length <= 0:
        raise ONNXError("frame_length or window must be given")
    real = x.ndim == 2 or x.shape[-1] == 1
    if real:
        x = x if x.ndim == 2 else x[..., 0]
    else:
        x = torch.view_as_complex(x.contiguous())
    frames = x.unfold(1, length, step)
    if window is not None:
        frames = frames * window
    if real and call.attr("onesided", 1):
        return torch.view_as_real(torch.fft.rfft(frames, dim=-1))
    return torch.view_as_real(torch.fft.fft(frames, dim=-1))


# Random numbers are those of this package's generator; `seed` names a stream of another runtime's and is not used.


def _form(call: Call) -> tuple[Any, DType]:
    """The shape and dtype to draw: attributes, or those of the input."""
    if not call.inputs:
        return call.required("shape"), dtype_of(call.attr("dtype", 1))
    x = call.tensor(0)
    return x.shape, dtype_of(call.attrs["dtype"]) if "dtype" in call.attrs else x.dtype


@rule("RandomUniform", "RandomUniformLike", folds=False)
def random_uniform(call: Call) -> Tensor:
    shape, dtype = _form(call)
    low, high = call.attr("low", 0.0), call.attr("high", 1.0)
    return torch.rand(shape, dtype=dtype) * (high - low) + low


@rule("RandomNormal", "RandomNormalLike", folds=False)
def random_normal(call: Call) -> Tensor:
    shape, dtype = _form(call)
    return torch.randn(shape, dtype=dtype) * call.attr("scale", 1.0) + call.attr("mean", 0.0)


@rule("Multinomial", folds=False)
def multinomial(call: Call) -> Tensor:
    found = torch.multinomial(
        torch.softmax(call.tensor(0), dim=-1), call.attr("sample_size", 1), replacement=True
    )
    return found.to(dtype_of(call.attr("dtype", 6)))


@rule("NonMaxSuppression", static=(2, 3, 4))
def non_max_suppression(call: Call) -> Tensor:
    """Triples (sample, class, box). How many is not known before, so compiled code cannot do it."""
    boxes, scores = (as_array(call.tensor(i)) for i in range(2))
    limit, overlap = int(call.number(2, 0)), float(call.number(3, 0.0))
    least = call.number(4)
    corners = _corners(boxes, bool(call.attr("center_point_box", 0)))
    found = []
    for sample in range(scores.shape[0]):
        for kind in range(scores.shape[1]):
            kept: list[int] = []
            for box in np.argsort(-scores[sample, kind], kind="stable").tolist():
                if len(kept) >= limit or (least is not None and scores[sample, kind, box] <= least):
                    break
                if all(_overlap(corners[sample, box], corners[sample, other]) <= overlap for other in kept):
                    kept.append(box)
            found += [(sample, kind, box) for box in kept]
    return torch.from_numpy(np.array(found, dtype=np.int64).reshape(-1, 3))


def _corners(boxes: np.ndarray[Any, Any], centred: bool) -> np.ndarray[Any, Any]:
    """(low, low, high, high) of boxes given by any two opposite corners, or by centre and size."""
    first, second = boxes[..., :2], boxes[..., 2:]
    if centred:
        first, second = first - second / 2, first + second / 2
    return np.concatenate([np.minimum(first, second), np.maximum(first, second)], axis=-1)


def _overlap(a: np.ndarray[Any, Any], b: np.ndarray[Any, Any]) -> float:
    inner = np.prod(np.maximum(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0))
    whole = np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - inner
    return float(inner / whole) if whole > 0 else 0.0


@rule("MelWeightMatrix", static=(0, 1, 2, 3, 4))
def mel_weight_matrix(call: Call) -> Tensor:
    """Triangles between points that lie evenly on the mel scale, by FFT bin."""
    count, length, rate, low, high = (call.number(i) for i in range(5))
    first, last = (2595 * np.log10(1 + f / 700) for f in (low, high))
    mels = first + (last - first) / (count + 2) * np.arange(count + 2)
    bins = np.floor((length + 1) * 700 * (10 ** (mels / 2595) - 1) / rate).astype(np.int64)
    weights = np.zeros((length // 2 + 1, count))
    for i in range(count):
        left, middle, right = bins[i : i + 3]
        if middle == left:
            weights[middle, i] = 1
        else:
            weights[left : middle + 1, i] = (np.arange(left, middle + 1) - left) / (middle - left)
        if right > middle:
            weights[middle:right, i] = (right - np.arange(middle, right)) / (right - middle)
    return torch.from_numpy(weights).to(dtype_of(call.attr("output_datatype", 1)))
