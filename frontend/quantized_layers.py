"""Layers with short weights, made from float ones by `optimize_for_inference`.

An int8 weight has a scale for each output channel, the largest element divided by 127, symmetric around 0 (Jacob et
al. 2018, "Quantization and training of neural networks for efficient integer-arithmetic-only inference"). With
float activations the weight is widened where it is used; `dynamic` also rounds each row of activations to 255
steps, found from that row (of a convolution: each image), and the products are those of integers: uint8 rows, in which
128 stands for zero, with int8 columns, as processors multiply them.
"""

from __future__ import annotations

from collections.abc import Sequence

from .autograd.grad_mode import no_grad
from .creation import full_like
from .dispatch import apply, op_named
from .functional_host import host_array
from .functional_pointwise import where
from .ir.dtypes import bf16, f32, i8, i32, u8
from .nn import functional as F
from .nn.modules.conv import _ConvNd
from .nn.modules.linear import Linear
from .nn.modules.module import Module
from .nn.modules.sparse import Embedding
from .nn.windows import batched
from .placement import is_on_device
from .runtime import lasting
from .tensor import Tensor, wrap

_STEPS = 127
WORD = 4  # products of 8-bit integers that processors add up at once


def quantized(weight: Tensor) -> tuple[Tensor, Tensor]:
    """(int8 weight, scale [channels]): scale * weight is near what was given; the channels are dim 0."""
    with no_grad():
        flat = weight.detach().to(f32).flatten(1)
        scale = flat.abs().amax(1) / _STEPS
        scale = where(scale == 0, full_like(scale, 1.0), scale)
        steps = (flat / scale.unsqueeze(1)).round().clamp(-_STEPS, _STEPS)
        return lasting_copy(steps.to(i8).reshape(weight.shape)), scale


def lasting_copy(weight: Tensor) -> Tensor:
    """The weight where it can be read fast, which it was not made for."""
    if is_on_device(weight):
        return weight
    return wrap(lasting.copy(host_array(weight, "optimize_for_inference")))


def halved(weight: Tensor) -> Tensor:
    """The weight in bfloat16."""
    return lasting_copy(weight.detach().to(bf16))


ZERO = 128


def _steps(largest: Tensor) -> Tensor:
    """The 127th part of the largest number, 1 where all are zeros."""
    return where(largest == 0, full_like(largest, 1.0), largest / _STEPS)


def rounded_rows(x: Tensor) -> tuple[Tensor, Tensor]:
    """Each row (the last dim) in steps of its largest element's 127th part, as uint8 around 128, and those parts."""
    wide = x.to(f32)
    scale = _steps(wide.abs().amax(-1, keepdim=True))
    return ((wide / scale).round() + ZERO).to(u8), scale


def rounded_images(x: Tensor) -> tuple[Tensor, Tensor]:
    """Each image [channels, ...] in steps of its largest element's 127th part, as uint8 around 128, and those parts."""
    wide = x.to(f32)
    scale = _steps(wide.abs().amax(tuple(range(1, x.ndim)), keepdim=True))
    return ((wide * (1 / scale)).round() + ZERO).to(u8), scale


class Int8Linear(Module):
    """A linear layer of int8 weights. With float activations it is, of one row, one sum for each output, which reads
    the int8 weight only; of several it widens the weight first. `shift`, where activations are rounded, is what their
    zero of 128 adds to each sum."""

    weight: Tensor
    scale: Tensor
    shift: Tensor | None
    bias: Tensor | None

    def __init__(self, layer: Linear, dynamic: bool = False):
        super().__init__()
        self.in_features, self.out_features, self.dynamic = layer.in_features, layer.out_features, dynamic
        weight, scale = quantized(layer.weight)
        self.register_buffer("weight", weight)
        self.register_buffer("scale", scale)
        self.register_buffer("shift", weight.to(i32).sum(1, dtype=i32) * ZERO if dynamic else None)
        self.register_buffer("bias", None if layer.bias is None else layer.bias.detach())

    def forward(self, input: Tensor) -> Tensor:
        y = self._of_floats(input) if self.shift is None else self._of_integers(input, self.shift)
        return y if self.bias is None else y + self.bias

    def _of_floats(self, x: Tensor) -> Tensor:
        one_row = all(isinstance(n, int) and n == 1 for n in x.shape[:-1])
        wide = self.weight.to(x.dtype)
        return ((x.unsqueeze(-2) * wide).sum(-1) if one_row else F.linear(x, wide)) * self.scale

    def _of_integers(self, input: Tensor, shift: Tensor) -> Tensor:
        x, rows = rounded_rows(input)
        sums = F.linear(x.to(i32), self.weight.to(i32)) - shift
        return (sums.to(f32) * (rows * self.scale)).to(input.dtype)

    def extra_repr(self) -> str:
        kind = ", activations=int8" if self.dynamic else ""
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}{kind}"


class BFloat16Linear(Module):
    """A linear layer in bfloat16, the result in the input's dtype."""

    weight: Tensor
    bias: Tensor | None

    def __init__(self, layer: Linear):
        super().__init__()
        self.in_features, self.out_features = layer.in_features, layer.out_features
        self.register_buffer("weight", halved(layer.weight))
        self.register_buffer("bias", None if layer.bias is None else layer.bias.detach())

    def forward(self, input: Tensor) -> Tensor:
        y = F.linear(input.to(bf16), self.weight).to(input.dtype)
        return y if self.bias is None else y + self.bias

    def extra_repr(self) -> str:
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"
        )


class ShortEmbedding(Module):
    """An embedding whose rows are int8 with a scale each, or bfloat16; what comes out is float32."""

    weight: Tensor
    scale: Tensor | None

    def __init__(self, layer: Embedding, int8: bool):
        super().__init__()
        weight, scale = quantized(layer.weight) if int8 else (halved(layer.weight), None)
        self.register_buffer("weight", weight)
        self.register_buffer("scale", scale)

    def forward(self, input: Tensor) -> Tensor:
        rows = F.embedding(input, self.weight).to(f32)
        return rows if self.scale is None else rows * self.scale[input].unsqueeze(-1)

    def extra_repr(self) -> str:
        return ", ".join(map(str, [*self.weight.shape, self.weight.dtype]))


def fits_words(channels: int, groups: int) -> bool:
    """Whether a convolution gains by integers: channels of a group make whole words, or can be filled up to them."""
    return groups == 1 or channels // groups % WORD == 0


def sums_of_integers(
    x: Tensor, weight: Tensor, stride: Sequence[int], dilation: Sequence[int], groups: int
) -> Tensor:
    """The convolution of 8-bit numbers, without a border, in int32."""
    attrs = {
        "stride": tuple(stride),
        "padding": (0,) * (x.ndim - 2),
        "dilation": tuple(dilation),
        "groups": groups,
    }
    found: Tensor = apply(op_named("conv"), (x.to(i32), weight.to(i32)), attrs)
    return found


def convolved(
    images: Tensor,
    weight: Tensor,
    scale: Tensor,
    shift: Tensor,
    border: Sequence[int],
    stride: Sequence[int],
    dilation: Sequence[int],
    groups: int,
) -> Tensor:
    """Images rounded to 8 bits, convolved with an int8 weight of such a scale. `shift` is what the zero of 128 adds to
    each sum, which is also what lies outside an image; `border` as in `F.pad`. Channels are filled up to whole words."""
    x, steps = rounded_images(images)
    rank = weight.ndim - 2
    more = 0 if groups > 1 else -int(weight.shape[1]) % WORD
    x = F.pad(x, [*border, 0, more], value=ZERO)
    if more:
        weight = F.pad(weight, [0, 0] * rank + [0, more])
    sums = sums_of_integers(x, weight, stride, dilation, groups)
    spread = (-1, *(1,) * rank)
    return ((sums - shift.reshape(spread)).to(f32) * (steps * scale.reshape(spread))).to(images.dtype)


class Int8Conv(Module):
    """A convolution of int8 weights and of images rounded to 8 bits, each image by its own range."""

    weight: Tensor
    scale: Tensor
    shift: Tensor
    bias: Tensor | None

    def __init__(self, layer: _ConvNd):
        super().__init__()
        weight, scale = quantized(layer.weight)
        self.register_buffer("weight", weight)
        self.register_buffer("scale", scale)
        self.register_buffer("shift", weight.to(i32).flatten(1).sum(1, dtype=i32) * ZERO)
        self.register_buffer("bias", None if layer.bias is None else layer.bias.detach())
        layer.weight = layer.bias = None  # type: ignore[assignment]
        self.layer = layer

    @staticmethod
    def takes(layer: _ConvNd) -> bool:
        """Whether there is such a form of the layer, and it gains by it."""
        return layer.padding_mode == "zeros" and fits_words(layer.in_channels, layer.groups)

    def forward(self, input: Tensor) -> Tensor:
        layer, rank = self.layer, self.weight.ndim - 2
        x, lone = batched(input, rank, f"conv{rank}d")
        border = layer._reversed_padding_repeated_twice
        y = convolved(
            x, self.weight, self.scale, self.shift, border, layer.stride, layer.dilation, layer.groups
        )
        y = y if self.bias is None else y + self.bias.reshape(-1, *(1,) * rank)
        return y.squeeze(0) if lone else y

    def extra_repr(self) -> str:
        return "weight=int8, activations=int8"


class ShortConv(Module):
    """A convolution whose weight is stored as int8 with a scale for each output channel, and widened where it is used;
    or one in bfloat16, the result in the input's dtype. The layer, which does the rest, is kept without them."""

    weight: Tensor
    scale: Tensor | None
    bias: Tensor | None

    def __init__(self, layer: _ConvNd, int8: bool):
        super().__init__()
        weight, scale = quantized(layer.weight) if int8 else (halved(layer.weight), None)
        self.register_buffer("weight", weight)
        self.register_buffer("scale", scale)
        self.register_buffer("bias", None if layer.bias is None else layer.bias.detach())
        layer.weight = layer.bias = None  # type: ignore[assignment]
        self.layer = layer

    def forward(self, input: Tensor) -> Tensor:
        ones = (1,) * (self.weight.ndim - 1)
        if self.scale is not None:
            wide = self.weight.to(input.dtype) * self.scale.reshape(-1, *ones)
            return self.layer._conv_forward(input, wide, self.bias)
        y = self.layer._conv_forward(input.to(bf16), self.weight, None).to(input.dtype)
        return y if self.bias is None else y + self.bias.reshape(-1, *ones[1:])

    def extra_repr(self) -> str:
        return f"weight={self.weight.dtype}"
