"""`torch.nn.grad`: the gradients of convolutions by name."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..dispatch import apply, op_named
from ..tensor import Tensor
from .windows import Ints, spread


def _options(rank: int, stride: Ints, padding: Ints, dilation: Ints, groups: int) -> dict[str, object]:
    given = {"stride": stride, "padding": padding, "dilation": dilation}
    return {**{name: spread(value, rank, name) for name, value in given.items()}, "groups": int(groups)}


def _of_input(rank: int) -> Callable[..., Tensor]:
    def gradient(
        input_size: Sequence[int],
        weight: Tensor,
        grad_output: Tensor,
        stride: Ints = 1,
        padding: Ints = 0,
        dilation: Ints = 1,
        groups: int = 1,
    ) -> Tensor:
        attrs = {"input_size": tuple(input_size), **_options(rank, stride, padding, dilation, groups)}
        found: Tensor = apply(
            op_named("conv_input_grad"), (grad_output, weight), attrs, "ConvolutionBackwardBackward0"
        )
        return found

    gradient.__name__ = gradient.__qualname__ = f"conv{rank}d_input"
    gradient.__doc__ = f"The gradient of `conv{rank}d`'s input, of shape `input_size`."
    return gradient


def _of_weight(rank: int) -> Callable[..., Tensor]:
    def gradient(
        input: Tensor,
        weight_size: Sequence[int],
        grad_output: Tensor,
        stride: Ints = 1,
        padding: Ints = 0,
        dilation: Ints = 1,
        groups: int = 1,
    ) -> Tensor:
        attrs = {"weight_size": tuple(weight_size), **_options(rank, stride, padding, dilation, groups)}
        found: Tensor = apply(
            op_named("conv_weight_grad"), (input, grad_output), attrs, "ConvolutionBackwardBackward0"
        )
        return found

    gradient.__name__ = gradient.__qualname__ = f"conv{rank}d_weight"
    gradient.__doc__ = f"The gradient of `conv{rank}d`'s weight, of shape `weight_size`."
    return gradient


conv1d_input, conv2d_input, conv3d_input = map(_of_input, (1, 2, 3))
conv1d_weight, conv2d_weight, conv3d_weight = map(_of_weight, (1, 2, 3))
