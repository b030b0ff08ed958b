"""Pools, padding, resampling and shuffles for nn_cases.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nn_attention_cases import _module

Draw = Callable[[Any], Any]


def _indexed(pool: Draw) -> Draw:
    """The pool's values and, as numbers, the positions it gives."""

    def make(t: Any) -> Any:
        def forward(self: Any, x: Any) -> Any:
            values, indices = self.pool(x)
            return t.cat([values.reshape(-1), indices.reshape(-1).float()])

        return _module(t, forward, pool=pool(t))

    return make


def _unpooled(rank: int) -> Draw:
    def make(t: Any) -> Any:
        pool, unpool = getattr(t.nn, f"MaxPool{rank}d"), getattr(t.nn, f"MaxUnpool{rank}d")
        return _module(
            t, lambda self, x: self.unpool(*self.pool(x)), pool=pool(2, return_indices=True), unpool=unpool(2)
        )

    return make


def _in_place(name: str, *args: float) -> Draw:
    """An activation that overwrites a copy of its input."""
    return lambda t: _module(t, lambda self, x: getattr(t.nn.functional, name)(x * 1.0, *args))


def shape_layers() -> dict[str, tuple[Draw, Draw]]:
    """As `nn_cases.layers`."""

    def image(*shape: int) -> Draw:
        return lambda t: (t.randn(*shape, requires_grad=True),)

    def positive(*shape: int) -> Draw:
        return lambda t: (t.rand(*shape).add(0.1).requires_grad_(),)

    def resized(**options: Any) -> Draw:
        return lambda t: t.nn.Upsample(**options)

    small = image(2, 3, 4, 5)
    return {
        "adaptive_avg_pool1d": (lambda t: t.nn.AdaptiveAvgPool1d(4), image(2, 3, 8)),
        "adaptive_avg_pool1d_uneven": (lambda t: t.nn.AdaptiveAvgPool1d(3), image(2, 3, 7)),
        "adaptive_avg_pool2d": (lambda t: t.nn.AdaptiveAvgPool2d(1), image(2, 3, 6, 5)),
        "adaptive_avg_pool2d_uneven": (lambda t: t.nn.AdaptiveAvgPool2d((3, 4)), image(2, 3, 7, 5)),
        "adaptive_avg_pool2d_larger": (lambda t: t.nn.AdaptiveAvgPool2d((5, None)), image(2, 3, 4, 3)),
        "adaptive_avg_pool3d": (lambda t: t.nn.AdaptiveAvgPool3d((1, 2, 3)), image(1, 2, 3, 4, 5)),
        "adaptive_max_pool1d": (lambda t: t.nn.AdaptiveMaxPool1d(3), image(2, 3, 7)),
        "adaptive_max_pool2d": (lambda t: t.nn.AdaptiveMaxPool2d((3, 2)), image(2, 3, 6, 4)),
        "adaptive_max_pool2d_uneven": (lambda t: t.nn.AdaptiveMaxPool2d((3, None)), image(2, 3, 7, 4)),
        "adaptive_max_pool2d_indices": (
            _indexed(lambda t: t.nn.AdaptiveMaxPool2d((3, 2), return_indices=True)),
            image(2, 3, 7, 5),
        ),
        "adaptive_max_pool3d": (lambda t: t.nn.AdaptiveMaxPool3d((2, 2, 3)), image(1, 2, 3, 4, 5)),
        "avg_pool2d_divisor": (lambda t: t.nn.AvgPool2d(2, divisor_override=3), image(2, 3, 6, 7)),
        "avg_pool3d": (lambda t: t.nn.AvgPool3d(2, padding=1), image(1, 2, 4, 5, 4)),
        "max_pool3d": (lambda t: t.nn.MaxPool3d(2), image(1, 2, 4, 5, 4)),
        "max_pool1d_indices": (_indexed(lambda t: t.nn.MaxPool1d(2, return_indices=True)), image(2, 3, 8)),
        "max_pool2d_indices": (
            _indexed(lambda t: t.nn.MaxPool2d(3, 2, padding=1, return_indices=True)),
            image(2, 3, 6, 7),
        ),
        "max_pool3d_indices": (
            _indexed(lambda t: t.nn.MaxPool3d(2, return_indices=True)),
            image(1, 2, 4, 5, 4),
        ),
        "max_unpool1d": (_unpooled(1), image(2, 3, 8)),
        "max_unpool2d": (_unpooled(2), image(2, 3, 6, 4)),
        "lp_pool1d": (lambda t: t.nn.LPPool1d(3, 2), positive(2, 3, 8)),
        "lp_pool2d": (lambda t: t.nn.LPPool2d(2, (3, 2), stride=2), positive(2, 3, 7, 6)),
        "lp_pool3d": (lambda t: t.nn.LPPool3d(2, 2), positive(1, 2, 4, 4, 4)),
        "upsample_nearest": (resized(scale_factor=2), small),
        "upsample_nearest_1d": (resized(size=7), image(2, 3, 4)),
        "upsample_nearest_down": (resized(scale_factor=0.6), image(2, 3, 7, 5)),
        "upsample_nearest_exact": (resized(size=(7, 3), mode="nearest-exact"), small),
        "upsample_nearest_3d": (resized(scale_factor=(1.0, 2.0, 3.0)), image(1, 2, 2, 3, 2)),
        "upsample_linear": (resized(scale_factor=2, mode="linear"), image(2, 3, 5)),
        "upsample_bilinear": (resized(scale_factor=2, mode="bilinear"), small),
        "upsample_bilinear_corners": (resized(size=(7, 9), mode="bilinear", align_corners=True), small),
        "upsample_bilinear_factor": (resized(scale_factor=1.7, mode="bilinear"), small),
        "upsample_bilinear_down": (resized(size=(3, 2), mode="bilinear"), small),
        "upsample_trilinear": (resized(scale_factor=2, mode="trilinear"), image(1, 2, 2, 3, 2)),
        "upsample_bicubic": (resized(scale_factor=2, mode="bicubic"), small),
        "upsample_bicubic_corners": (resized(size=(7, 3), mode="bicubic", align_corners=True), small),
        "upsample_area": (resized(size=(3, 2), mode="area"), small),
        "upsampling_nearest2d": (lambda t: t.nn.UpsamplingNearest2d(scale_factor=2), small),
        "upsampling_bilinear2d": (lambda t: t.nn.UpsamplingBilinear2d(scale_factor=2), small),
        "pixel_shuffle": (lambda t: t.nn.PixelShuffle(2), image(2, 8, 3, 2)),
        "pixel_unshuffle": (lambda t: t.nn.PixelUnshuffle(2), image(2, 2, 4, 6)),
        "channel_shuffle": (lambda t: t.nn.ChannelShuffle(3), image(2, 6, 3, 2)),
        "unfold": (lambda t: t.nn.Unfold((2, 3)), small),
        "unfold_all": (lambda t: t.nn.Unfold(2, dilation=2, padding=1, stride=2), small),
        "fold": (lambda t: t.nn.Fold((4, 5), (2, 3)), image(2, 12, 9)),
        "fold_all": (lambda t: t.nn.Fold((4, 5), 2, dilation=2, padding=1, stride=2), image(2, 8, 6)),
        "zero_pad1d": (lambda t: t.nn.ZeroPad1d(2), image(2, 3, 4)),
        "zero_pad2d": (lambda t: t.nn.ZeroPad2d((1, 2, 0, 3)), small),
        "zero_pad3d": (lambda t: t.nn.ZeroPad3d(1), image(1, 2, 2, 3, 2)),
        "constant_pad1d": (lambda t: t.nn.ConstantPad1d((1, 2), 3.5), image(2, 3, 4)),
        "constant_pad2d": (lambda t: t.nn.ConstantPad2d((1, -1, 2, 0), 0.5), small),
        "constant_pad3d": (lambda t: t.nn.ConstantPad3d(1, -1.0), image(1, 2, 2, 3, 2)),
        "reflection_pad1d": (lambda t: t.nn.ReflectionPad1d(2), image(2, 3, 4)),
        "reflection_pad2d": (lambda t: t.nn.ReflectionPad2d((1, 2, 0, 3)), small),
        "reflection_pad3d": (lambda t: t.nn.ReflectionPad3d(1), image(1, 2, 2, 3, 2)),
        "replication_pad1d": (lambda t: t.nn.ReplicationPad1d(2), image(2, 3, 4)),
        "replication_pad2d": (lambda t: t.nn.ReplicationPad2d((1, 2, 0, 3)), small),
        "replication_pad3d": (lambda t: t.nn.ReplicationPad3d(1), image(1, 2, 2, 3, 2)),
        "circular_pad1d": (lambda t: t.nn.CircularPad1d(2), image(2, 3, 4)),
        "circular_pad2d": (lambda t: t.nn.CircularPad2d((1, 2, 0, 3)), small),
    }


def activation_layers() -> dict[str, tuple[Draw, Draw]]:
    """As `nn_cases.layers`."""

    def wide(*shape: int) -> Draw:
        return lambda t: (t.randn(*shape).mul(3).requires_grad_(),)

    matrix = wide(3, 7)
    return {
        "hardswish": (lambda t: t.nn.Hardswish(), matrix),
        "hardsigmoid": (lambda t: t.nn.Hardsigmoid(), matrix),
        "mish": (lambda t: t.nn.Mish(), matrix),
        "celu": (lambda t: t.nn.CELU(0.7), matrix),
        "prelu": (lambda t: t.nn.PReLU(), matrix),
        "prelu_channels": (lambda t: t.nn.PReLU(3, 0.1), wide(2, 3, 4)),
        "prelu_vector": (lambda t: t.nn.PReLU(), wide(5)),
        "rrelu_eval": (lambda t: t.nn.RReLU(0.1, 0.4).eval(), matrix),
        "softsign": (lambda t: t.nn.Softsign(), matrix),
        "softmin": (lambda t: t.nn.Softmin(dim=1), matrix),
        "softmax2d": (lambda t: t.nn.Softmax2d(), wide(2, 3, 4, 5)),
        "tanhshrink": (lambda t: t.nn.Tanhshrink(), matrix),
        "hardshrink": (lambda t: t.nn.Hardshrink(1.2), matrix),
        "softshrink": (lambda t: t.nn.Softshrink(1.2), matrix),
        "threshold": (lambda t: t.nn.Threshold(0.5, -3.0), matrix),
        "glu": (lambda t: t.nn.GLU(), wide(3, 8)),
        "glu_dim": (lambda t: t.nn.GLU(1), wide(2, 4, 3)),
        "elu_in_place": (_in_place("elu_"), matrix),
        "selu_in_place": (_in_place("selu_"), matrix),
        "celu_in_place": (_in_place("celu_"), matrix),
        "leaky_relu_in_place": (_in_place("leaky_relu_"), matrix),
        "hardtanh_in_place": (_in_place("hardtanh_"), matrix),
        "threshold_in_place": (_in_place("threshold_", 0.3, -1.0), matrix),
        "rrelu_in_place": (_in_place("rrelu_"), matrix),
        "dropout1d_eval": (lambda t: t.nn.Dropout1d(0.3).eval(), wide(2, 3, 4)),
        "dropout2d_eval": (lambda t: t.nn.Dropout2d(0.3).eval(), wide(2, 3, 4, 5)),
        "dropout3d_none": (lambda t: t.nn.Dropout3d(0.0), wide(1, 2, 2, 3, 2)),
        "alpha_dropout_eval": (lambda t: t.nn.AlphaDropout(0.3).eval(), matrix),
        "feature_alpha_dropout_eval": (lambda t: t.nn.FeatureAlphaDropout(0.3).eval(), wide(2, 3, 4)),
    }
