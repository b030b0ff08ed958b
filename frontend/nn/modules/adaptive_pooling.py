"""Pooling layers whose windows follow from the result's size, by norms, and the inverse of max pooling."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ...tensor import Tensor
from .. import functional as F
from .module import Module


class _AdaptiveAvgPoolNd(Module):
    function: Callable[..., Tensor]

    def __init__(self, output_size: Any) -> None:
        super().__init__()
        self.output_size = output_size

    def forward(self, input: Tensor) -> Tensor:
        return type(self).function(input, self.output_size)

    def extra_repr(self) -> str:
        return f"output_size={self.output_size}"


class AdaptiveAvgPool1d(_AdaptiveAvgPoolNd):
    """Means over windows that divide [(n,) c, l] into `output_size` places."""

    function = staticmethod(F.adaptive_avg_pool1d)


class AdaptiveAvgPool2d(_AdaptiveAvgPoolNd):
    """Means over windows that divide [(n,) c, h, w] into `output_size` places; None keeps a size."""

    function = staticmethod(F.adaptive_avg_pool2d)


class AdaptiveAvgPool3d(_AdaptiveAvgPoolNd):
    """Means over windows that divide [(n,) c, d, h, w] into `output_size` places; None keeps a size."""

    function = staticmethod(F.adaptive_avg_pool3d)


class _AdaptiveMaxPoolNd(Module):
    function: Callable[..., Any]

    def __init__(self, output_size: Any, return_indices: bool = False) -> None:
        super().__init__()
        self.output_size = output_size
        self.return_indices = return_indices

    def forward(self, input: Tensor) -> Any:
        return type(self).function(input, self.output_size, self.return_indices)

    def extra_repr(self) -> str:
        return f"output_size={self.output_size}"


class AdaptiveMaxPool1d(_AdaptiveMaxPoolNd):
    """Maxima over windows that divide [(n,) c, l] into `output_size` places, and where asked their indices."""

    function = staticmethod(F.adaptive_max_pool1d)


class AdaptiveMaxPool2d(_AdaptiveMaxPoolNd):
    """Maxima over windows that divide [(n,) c, h, w] into `output_size` places; None keeps a size."""

    function = staticmethod(F.adaptive_max_pool2d)


class AdaptiveMaxPool3d(_AdaptiveMaxPoolNd):
    """Maxima over windows that divide [(n,) c, d, h, w] into `output_size` places; None keeps a size."""

    function = staticmethod(F.adaptive_max_pool3d)


class _LPPoolNd(Module):
    function: Callable[..., Tensor]

    def __init__(
        self, norm_type: float, kernel_size: Any, stride: Any = None, ceil_mode: bool = False
    ) -> None:
        super().__init__()
        self.norm_type = norm_type
        self.kernel_size = kernel_size
        self.stride = stride
        self.ceil_mode = ceil_mode

    def forward(self, input: Tensor) -> Tensor:
        return type(self).function(
            input, float(self.norm_type), self.kernel_size, self.stride, self.ceil_mode
        )

    def extra_repr(self) -> str:
        return (
            f"norm_type={self.norm_type}, kernel_size={self.kernel_size}, stride={self.stride}, "
            f"ceil_mode={self.ceil_mode}"
        )


class LPPool1d(_LPPoolNd):
    """(sum x^p)^(1/p) over the windows of [(n,) c, l]."""

    function = staticmethod(F.lp_pool1d)


class LPPool2d(_LPPoolNd):
    """(sum x^p)^(1/p) over the windows of [(n,) c, h, w]."""

    function = staticmethod(F.lp_pool2d)


class LPPool3d(_LPPoolNd):
    """(sum x^p)^(1/p) over the windows of [(n,) c, d, h, w]."""

    function = staticmethod(F.lp_pool3d)


class _MaxUnpoolNd(Module):
    rank: int
    function: Callable[..., Tensor]

    def __init__(self, kernel_size: Any, stride: Any = None, padding: Any = 0) -> None:
        super().__init__()

        def spread(value: int | Sequence[int]) -> tuple[int, ...]:
            return (value,) * self.rank if isinstance(value, int) else tuple(value)

        self.kernel_size = spread(kernel_size)
        self.stride = spread(stride if stride is not None else kernel_size)
        self.padding = spread(padding)

    def forward(self, input: Tensor, indices: Tensor, output_size: Sequence[int] | None = None) -> Tensor:
        return type(self).function(input, indices, self.kernel_size, self.stride, self.padding, output_size)

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class MaxUnpool1d(_MaxUnpoolNd):
    """The maxima of `MaxPool1d` put back at their indices, zeros elsewhere."""

    rank = 1
    function = staticmethod(F.max_unpool1d)


class MaxUnpool2d(_MaxUnpoolNd):
    """The maxima of `MaxPool2d` put back at their indices, zeros elsewhere."""

    rank = 2
    function = staticmethod(F.max_unpool2d)


class MaxUnpool3d(_MaxUnpoolNd):
    """The maxima of `MaxPool3d` put back at their indices, zeros elsewhere."""

    rank = 3
    function = staticmethod(F.max_unpool3d)
