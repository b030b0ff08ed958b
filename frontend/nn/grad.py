"""`torch.nn.grad`: the gradients of convolutions by name."""

from __future__ import annotations

from collections.abc import Sequence

from ..dispatch import apply, op_named
from ..tensor import Tensor
from .windows import Ints, spread


def _options(rank: int, stride: Ints, padding: Ints, dilation: Ints, groups: int) -> dict[str, object]:
    given = {"stride": stride, "padding": padding, "dilation": dilation}
    return {**{name: spread(value, rank, name) for name, value in given.items()}, "groups": int(groups)}


def _input(rank: int, size: Sequence[int], weight: Tensor, grad: Tensor, *options: Ints) -> Tensor:
    attrs = {"input_size": tuple(size), **_options(rank, *options)}  # type: ignore[arg-type]
    found: Tensor = apply(op_named("conv_input_grad"), (grad, weight), attrs, "ConvolutionBackwardBackward0")
    return found


def _weight(rank: int, input: Tensor, size: Sequence[int], grad: Tensor, *options: Ints) -> Tensor:
    attrs = {"weight_size": tuple(size), **_options(rank, *options)}  # type: ignore[arg-type]
    found: Tensor = apply(op_named("conv_weight_grad"), (input, grad), attrs, "ConvolutionBackwardBackward0")
    return found


def conv1d_input(
    input_size: Sequence[int],
    weight: Tensor,
    grad_output: Tensor,
    stride: Ints = 1,
    padding: Ints = 0,
    dilation: Ints = 1,
    groups: int = 1,
) -> Tensor:
    """The gradient of `conv1d`'s input, of shape `input_size`."""
    return _input(1, input_size, weight, grad_output, stride, padding, dilation, groups)


def conv1d_weight(
    input: Tensor,
    weight_size: Sequence[int],
    grad_output: Tensor,
    stride: Ints = 1,
    padding: Ints = 0,
    dilation: Ints = 1,
    groups: int = 1,
) -> Tensor:
    """The gradient of `conv1d`'s weight, of shape `weight_size`."""
    return _weight(1, input, weight_size, grad_output, stride, padding, dilation, groups)


def conv2d_input(
    input_size: Sequence[int],
    weight: Tensor,
    grad_output: Tensor,
    stride: Ints = 1,
    padding: Ints = 0,
    dilation: Ints = 1,
    groups: int = 1,
) -> Tensor:
    """The gradient of `conv2d`'s input, of shape `input_size`."""
    return _input(2, input_size, weight, grad_output, stride, padding, dilation, groups)


def conv2d_weight(
    input: Tensor,
    weight_size: Sequence[int],
    grad_output: Tensor,
    stride: Ints = 1,
    padding: Ints = 0,
    dilation: Ints = 1,
    groups: int = 1,
) -> Tensor:
    """The gradient of `conv2d`'s weight, of shape `weight_size`."""
    return _weight(2, input, weight_size, grad_output, stride, padding, dilation, groups)


def conv3d_input(
    input_size: Sequence[int],
    weight: Tensor,
    grad_output: Tensor,
    stride: Ints = 1,
    padding: Ints = 0,
    dilation: Ints = 1,
    groups: int = 1,
) -> Tensor:
    """The gradient of `conv3d`'s input, of shape `input_size`."""
    return _input(3, input_size, weight, grad_output, stride, padding, dilation, groups)


def conv3d_weight(
    input: Tensor,
    weight_size: Sequence[int],
    grad_output: Tensor,
    stride: Ints = 1,
    padding: Ints = 0,
    dilation: Ints = 1,
    groups: int = 1,
) -> Tensor:
    """The gradient of `conv3d`'s weight, of shape `weight_size`."""
    return _weight(3, input, weight_size, grad_output, stride, padding, dilation, groups)
