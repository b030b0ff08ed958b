# ruff: noqa: E501  (a sample is one line)
"""Convolution, pooling, padding, resampling and grids, as functions and as modules."""

from __future__ import annotations

from .nn_shorthand import full
from .table import Family, given, normal, spread, uniform

FAMILY = Family(
    inputs={
        "s1": normal(2, 3, 9),
        "s2": normal(2, 3, 6, 7),
        "s3": normal(1, 2, 4, 5, 6),
        "d1": spread(2, 4, 9),
        "d2": spread(2, 4, 6, 7),
        "d3": spread(1, 2, 4, 5, 6),
        "pos1": uniform(2, 3, 9, low=0.2, high=2.0),
        "pos2": uniform(2, 3, 6, 7, low=0.2, high=2.0),
        "pos3": uniform(1, 2, 4, 5, 6, low=0.2, high=2.0),
        "w1": normal(4, 3, 3),
        "w2": normal(4, 3, 3, 2),
        "w3": normal(3, 2, 2, 2, 3),
        "g1": normal(6, 1, 3),
        "tw1": normal(3, 4, 3),
        "tw2": normal(3, 4, 3, 2),
        "tw3": normal(2, 3, 2, 2, 2),
        "b4": normal(4),
        "b3": normal(3),
        "u4": normal(2, 8, 3, 4),
        "cols": normal(2, 12, 12),
        "grid": uniform(2, 4, 5, 2, low=-1.3, high=1.3),
        "grid3": uniform(1, 3, 2, 4, 3, low=-1.3, high=1.3),
        "theta": normal(2, 2, 3),
        "theta3": normal(1, 3, 4),
        "r2": uniform(2, 4, 2, grad=False),
        "r3": uniform(1, 2, 3, grad=False),
        "go1": normal(2, 4, 7),
        "go2": normal(2, 4, 4, 6),
        "go3": normal(1, 3, 3, 4, 4),
        "places": given([[[1, 4, 7]] * 4] * 2, "int64"),
        "bytes": given(
            [
                [
                    [[(41 * i * i + 67 * j + 89 * c) % 256 for j in range(9)] for i in range(7)]
                    for c in range(3)
                ]
            ],
            "uint8",
        ),
    },
    samples=full("""
    F.conv1d(s1, w1)
    F.conv1d(s1, w1, b4, stride=2, padding=1)
    F.conv1d(s1, w1, padding='same', dilation=2)
    F.conv1d(s1[0], g1, groups=3)
    F.conv2d(s2, w2)
    F.conv2d(s2, w2, b4, stride=(2, 1), padding=(1, 0), dilation=(1, 2))
    F.conv2d(s2, w2, padding='same')
    F.conv2d(s2[0], w2, b4)
    F.conv3d(s3, w3)
    F.conv3d(s3, w3, b3, stride=(1, 2, 1), padding=1)
    F.conv_transpose1d(s1, tw1)
    F.conv_transpose1d(s1, tw1, b4, stride=3, padding=1, output_padding=2)
    F.conv_transpose2d(s2, tw2)
    F.conv_transpose2d(s2, tw2, b4, stride=(2, 1), dilation=(1, 2))
    F.conv_transpose3d(s3, tw3)
    F.conv_transpose3d(s3, tw3, b3, stride=2, output_padding=1)
    torch.convolution(s1, w1, b4, [2], [1], [1], False, [0], 1)
    torch.convolution(s2, tw2, None, [2, 1], [0, 0], [1, 1], True, [1, 0], 1)
    nn.grad.conv1d_input(s1.shape, w1, go1)
    nn.grad.conv1d_weight(s1, w1.shape, go1)
    nn.grad.conv2d_input(s2.shape, w2, go2)
    nn.grad.conv2d_weight(s2, w2.shape, go2)
    nn.grad.conv3d_input(s3.shape, w3, go3)
    nn.grad.conv3d_weight(s3, w3.shape, go3)
    F.unfold(s2, 2)
    F.unfold(s2, (3, 2), dilation=(1, 2), padding=(1, 0), stride=(2, 1))
    F.fold(cols, (4, 5), (2, 2))
    F.fold(cols, 6, (2, 3), padding=1, stride=(2, 2))

    F.max_pool1d(d1, 3)
    F.max_pool1d(d1, 2, stride=3, padding=1, ceil_mode=True)
    F.max_pool1d(d1, 2, return_indices=True)
    F.max_pool1d_with_indices(d1, 3, 2)
    F.max_pool2d(d2, 2)
    F.max_pool2d(d2, (3, 2), stride=(1, 2), padding=1, dilation=(1, 2))
    F.max_pool2d_with_indices(d2, 3, 2)
    F.max_pool2d(d2[0], 2, ceil_mode=True)
    F.max_pool3d(d3, 2)
    F.max_pool3d(d3, (2, 3, 2), stride=1, padding=1)
    F.max_pool3d_with_indices(d3, 2)
    F.avg_pool1d(s1, 3)
    F.avg_pool1d(s1, 4, 2, padding=1, count_include_pad=False)
    F.avg_pool2d(s2, 2)
    F.avg_pool2d(s2, (3, 2), stride=2, padding=1, ceil_mode=True)
    F.avg_pool2d(s2, 2, divisor_override=3)
    F.avg_pool2d(s2, 4, 3, padding=1, ceil_mode=True, divisor_override=5)
    F.avg_pool3d(s3, 2)
    F.avg_pool3d(s3, 2, stride=1, padding=1, count_include_pad=False)
    F.avg_pool3d(s3, 3, stride=2, ceil_mode=True, divisor_override=7)
    F.adaptive_avg_pool1d(s1, 3)
    F.adaptive_avg_pool1d(s1, 4)
    F.adaptive_avg_pool2d(s2, (3, 4))
    F.adaptive_avg_pool2d(s2, (None, 1))
    F.adaptive_avg_pool3d(s3, 2)
    F.adaptive_avg_pool3d(s3[0], (3, None, 2))
    F.adaptive_max_pool1d(d1, 3)
    F.adaptive_max_pool1d(d1, 4, return_indices=True)
    F.adaptive_max_pool1d_with_indices(d1, 5)
    F.adaptive_max_pool2d(d2, (3, 4))
    F.adaptive_max_pool2d_with_indices(d2, 2)
    F.adaptive_max_pool2d(d2, (None, 3), return_indices=True)
    F.adaptive_max_pool3d(d3, 2)
    F.adaptive_max_pool3d_with_indices(d3, (2, 3, 4))
    F.lp_pool1d(pos1, 2, 3)
    F.lp_pool1d(pos1, 3.0, 2, stride=1)
    F.lp_pool2d(pos2, 2, 2)
    F.lp_pool2d(pos2, 1.5, (3, 2), stride=(1, 2), ceil_mode=True)
    F.lp_pool3d(pos3, 2, 2)
    F.lp_pool3d(pos3, 3, 2, 1)
    z, i = F.max_pool1d(d1, 2, return_indices=True); F.max_unpool1d(z, i, 2)
    F.max_unpool1d(d1[:, :, :3], places, 3, output_size=[11])
    z, i = F.max_pool2d(d2, 2, return_indices=True); F.max_unpool2d(z, i, 2, output_size=d2.shape)
    z, i = F.max_pool3d(d3, 2, return_indices=True); F.max_unpool3d(z, i, 2, output_size=(4, 5, 6))
    F.fractional_max_pool2d(d2, 2, output_size=(3, 4), _random_samples=r2)
    F.fractional_max_pool2d(d2, (2, 3), output_ratio=(0.5, 0.5), _random_samples=r2, return_indices=True)
    F.fractional_max_pool2d_with_indices(d2, 2, 3, _random_samples=r2)
    F.fractional_max_pool3d(d3, 2, output_size=(2, 3, 4), _random_samples=r3)
    F.fractional_max_pool3d_with_indices(d3, (1, 2, 2), output_ratio=(0.6, 0.5, 0.5), _random_samples=r3)
    torch.adaptive_max_pool1d(d1, 4)
    torch.max_pool1d_with_indices(d1, 3, 2)

    F.pad(s1, (1, 2))
    F.pad(s2, (1, 0, 0, 2, 1, 1), value=2.5)
    F.pad(s2, (-1, 2, 0, -2))
    F.pad(s1, (2, 3), mode='reflect')
    F.pad(s2, (1, 2, 3, 0), mode='replicate')
    F.pad(s2, (1, 2, 2, 1), mode='circular')
    F.pad(s3, (1, 2, 1, 1, 0, 2), mode='reflect')
    F.pad(s3, (1, 1, 1, 1, 2, 1), 'replicate')

    F.interpolate(s1, 5)
    F.interpolate(s1, scale_factor=2.5, mode='linear')
    F.interpolate(s2, scale_factor=2)
    F.interpolate(s2, (9, 5), mode='bilinear')
    F.interpolate(s2, (9, 5), mode='bilinear', align_corners=True)
    F.interpolate(s2, scale_factor=(1.6, 0.7), mode='bicubic')
    F.interpolate(s2, (4, 9), mode='bicubic', align_corners=True)
    F.interpolate(s2, (4, 9), mode='nearest-exact')
    F.interpolate(s2, (4, 3), mode='area')
    F.interpolate(s3, (5, 4, 3), mode='trilinear')
    F.interpolate(s3, scale_factor=1.7, mode='nearest')
    F.interpolate(s2, scale_factor=1.4, mode='bilinear', recompute_scale_factor=True)
    F.interpolate(s2, (3, 4), mode='bilinear', antialias=True)
    F.interpolate(s2, (3, 9), mode='bicubic', antialias=True)
    F.interpolate(s2, (3, 3), mode='bilinear', align_corners=True, antialias=True)
    F.interpolate(bytes, (3, 4), mode='bilinear')
    F.interpolate(bytes, (11, 9), mode='bilinear', align_corners=True)
    F.interpolate(bytes, (5, 20), mode='bicubic')
    F.interpolate(bytes, (3, 4), mode='bilinear', antialias=True)
    F.interpolate(bytes, (4, 14), mode='bicubic', antialias=True)
    F.upsample(s2, scale_factor=2)
    F.upsample(s2, (5, 5), mode='bilinear')
    F.upsample_nearest(s2, scale_factor=2)
    F.upsample_nearest(s1, 4)
    F.upsample_bilinear(s2, scale_factor=2)
    F.upsample_bilinear(s2, (4, 9))
    F.pixel_shuffle(u4, 2)
    F.pixel_shuffle(u4[0], 2)
    F.pixel_unshuffle(s2[:, :, :, :6], 2)
    F.pixel_unshuffle(s2[:, :, :, :6], 3)
    F.channel_shuffle(u4, 2)
    F.channel_shuffle(d1, 4)
    F.native_channel_shuffle(u4, 4)
    torch.native_channel_shuffle(d2, 2)
    F.grid_sample(s2, grid, align_corners=False)
    F.grid_sample(s2, grid, padding_mode='border', align_corners=True)
    F.grid_sample(s2, grid, padding_mode='reflection', align_corners=False)
    F.grid_sample(s2, grid, 'nearest', align_corners=False)
    F.grid_sample(s2, grid, 'nearest', 'reflection', True)
    F.grid_sample(s2, grid, 'bicubic', align_corners=False)
    F.grid_sample(s2, grid, 'bicubic', 'border', align_corners=True)
    F.grid_sample(s3, grid3, align_corners=True)
    F.grid_sample(s3, grid3, 'nearest', 'border', align_corners=False)
    F.grid_sample(s3, grid3, 'bilinear', 'reflection', align_corners=False)
    torch.grid_sampler(s2, grid, 0, 1, False)
    torch.grid_sampler_2d(s2, grid, 2, 2, True)
    torch.grid_sampler_3d(s3, grid3, 0, 0, True)
    F.affine_grid(theta, (2, 3, 4, 5), align_corners=False)
    F.affine_grid(theta, (2, 1, 3, 3), align_corners=True)
    F.affine_grid(theta3, (1, 1, 2, 3, 4), align_corners=False)
    torch.affine_grid_generator(theta, (2, 3, 4, 5), True)
    """),
    modules=full("""
    nn.Conv1d(3, 4, 3) <- s1
    nn.Conv1d(3, 6, 2, stride=2, padding=1, groups=3, bias=False) <- s1[0]
    nn.Conv1d(3, 4, 3, padding=2, padding_mode='circular') <- s1
    nn.Conv2d(3, 4, (3, 2), padding='same', dilation=2) <- s2
    nn.Conv2d(3, 4, 3, padding=1, padding_mode='reflect') <- s2
    nn.Conv2d(3, 6, 2, stride=(2, 1), groups=3) <- s2
    nn.Conv3d(2, 3, 2) <- s3
    nn.Conv3d(2, 4, (1, 2, 3), padding=(0, 1, 1), padding_mode='replicate', groups=2) <- s3
    nn.ConvTranspose1d(3, 4, 3, stride=2) <- s1
    nn.ConvTranspose1d(3, 3, 2, groups=3, output_padding=1, stride=2, bias=False) <- s1
    nn.ConvTranspose2d(3, 4, 3) <- s2
    nn.ConvTranspose2d(3, 4, 3, stride=2, padding=1) <- s2, [12, 14]
    nn.ConvTranspose3d(2, 3, 2, stride=(1, 2, 1)) <- s3
    nn.ConvTranspose3d(2, 2, 2, groups=2, dilation=2) <- s3
    nn.LazyConv1d(4, 3) <- s1
    nn.LazyConv1d(6, 2, stride=2, groups=3, bias=False) <- s1[0]
    nn.LazyConv2d(4, (3, 2), padding=1) <- s2
    nn.LazyConv2d(6, 3, stride=(2, 1), padding_mode='circular', padding=1, groups=3, bias=False) <- s2[0]
    nn.LazyConv3d(3, 2) <- s3
    nn.LazyConv3d(2, (1, 3, 2), stride=(2, 1, 1), dilation=(1, 1, 2), bias=False) <- s3[0]
    nn.LazyConvTranspose1d(4, 3, stride=2) <- s1
    nn.LazyConvTranspose1d(6, 2, stride=3, output_padding=2, groups=3, bias=False) <- s1[0]
    nn.LazyConvTranspose2d(4, 3, bias=False) <- s2
    nn.LazyConvTranspose2d(3, (2, 3), stride=(1, 2), padding=(0, 1), dilation=(2, 1), groups=3) <- s2[0]
    nn.LazyConvTranspose3d(3, 2) <- s3
    nn.LazyConvTranspose3d(2, (1, 2, 3), stride=(1, 2, 1), padding=(0, 0, 1), bias=False) <- s3[0]
    nn.MaxPool1d(2) <- d1
    nn.MaxPool1d(3, 2, padding=1, return_indices=True) <- d1
    nn.MaxPool2d(2) <- d2
    nn.MaxPool2d((3, 2), stride=1, dilation=(1, 2), ceil_mode=True) <- d2
    nn.MaxPool3d(2) <- d3
    nn.MaxPool3d((2, 1, 3), padding=(1, 0, 1), return_indices=True) <- d3
    nn.AvgPool1d(3) <- s1
    nn.AvgPool1d(2, 1, 1, count_include_pad=False) <- s1
    nn.AvgPool2d(2) <- s2
    nn.AvgPool2d((3, 2), 2, 1, divisor_override=4) <- s2
    nn.AvgPool3d(2) <- s3
    nn.AvgPool3d((2, 3, 2), ceil_mode=True) <- s3
    nn.AdaptiveAvgPool1d(4) <- s1
    nn.AdaptiveAvgPool1d(1) <- s1[0]
    nn.AdaptiveAvgPool2d((3, None)) <- s2
    nn.AdaptiveAvgPool2d(1) <- s2
    nn.AdaptiveAvgPool3d((2, 3, 4)) <- s3
    nn.AdaptiveAvgPool3d(1) <- s3[0]
    nn.AdaptiveAvgPool3d((None, 2, 4)) <- s3
    nn.AdaptiveMaxPool1d(4) <- d1
    nn.AdaptiveMaxPool1d(3, return_indices=True) <- d1
    nn.AdaptiveMaxPool2d((3, 4)) <- d2
    nn.AdaptiveMaxPool2d(2, True) <- d2
    nn.AdaptiveMaxPool3d((2, None, 3)) <- d3
    nn.AdaptiveMaxPool3d(3, return_indices=True) <- d3[0]
    nn.LPPool1d(2, 3) <- pos1
    nn.LPPool1d(1.5, 2, stride=1, ceil_mode=True) <- pos1
    nn.LPPool2d(2, 3) <- pos2
    nn.LPPool2d(3, (2, 3), stride=(2, 1)) <- pos2
    nn.LPPool3d(2, 2) <- pos3
    nn.LPPool3d(3.0, (1, 2, 3), stride=1, ceil_mode=True) <- pos3[0]
    nn.MaxUnpool1d(3) <- d1[:, :, :3], places
    nn.MaxUnpool1d(2, 3, padding=1) <- *torch.nn.functional.max_pool1d(d1[0], 2, 3, 1, return_indices=True), [9]
    nn.MaxUnpool2d(2, stride=2) <- *torch.nn.functional.max_pool2d(d2, 2, return_indices=True), d2.shape
    nn.MaxUnpool2d((3, 2), (2, 3), 1) <- *torch.nn.functional.max_pool2d(d2[0], (3, 2), (2, 3), 1, return_indices=True), (6, 7)
    nn.MaxUnpool3d(2) <- *torch.nn.functional.max_pool3d(d3, 2, return_indices=True), d3.shape
    nn.MaxUnpool3d((1, 2, 3)) <- *torch.nn.functional.max_pool3d(d3[0], (1, 2, 3), return_indices=True), (4, 5, 6)
    nn.FractionalMaxPool2d(2, output_size=(3, 4), _random_samples=r2) <- d2
    nn.FractionalMaxPool2d(3, output_ratio=(0.5, 0.6), _random_samples=r2, return_indices=True) <- d2
    nn.FractionalMaxPool3d(2, output_ratio=0.5, _random_samples=r3) <- d3
    nn.FractionalMaxPool3d((1, 2, 3), output_size=2, _random_samples=r3) <- d3
    nn.ConstantPad1d((1, 2), 3.5) <- s1
    nn.ConstantPad1d((-2, 3), -1.0) <- s1[0]
    nn.ConstantPad2d(1, -1) <- s2
    nn.ConstantPad2d((2, -1, 0, 1), 0.25) <- s2[0]
    nn.ConstantPad3d((1, 0, 2, 1, 0, 1), 0.5) <- s3
    nn.ConstantPad3d(1, -2.0) <- s3[0]
    nn.ZeroPad1d(2) <- s1
    nn.ZeroPad1d((0, 3)) <- s1[0]
    nn.ZeroPad2d((1, 0, 2, -1)) <- s2
    nn.ZeroPad2d(2) <- s2[0]
    nn.ZeroPad3d(1) <- s3
    nn.ZeroPad3d((0, 2, -1, 1, 1, -2)) <- s3[0]
    nn.ReflectionPad1d((2, 1)) <- s1
    nn.ReflectionPad1d(8) <- s1[0]
    nn.ReflectionPad2d(2) <- s2
    nn.ReflectionPad2d((6, 0, 1, 5)) <- s2[0]
    nn.ReflectionPad3d((1, 2, 1, 0, 1, 1)) <- s3
    nn.ReflectionPad3d(3) <- s3[0]
    nn.ReplicationPad1d(3) <- s1
    nn.ReplicationPad1d((0, 12)) <- s1[0]
    nn.ReplicationPad2d((1, 2, 0, 3)) <- s2
    nn.ReplicationPad2d(4) <- s2[0]
    nn.ReplicationPad3d(1) <- s3
    nn.ReplicationPad3d((0, 2, 3, 0, 1, 5)) <- s3[0]
    nn.CircularPad1d((2, 3)) <- s1
    nn.CircularPad1d(9) <- s1[0]
    nn.CircularPad2d(2) <- s2[0]
    nn.CircularPad2d((7, 0, 1, 6)) <- s2
    nn.CircularPad3d((1, 0, 2, 1, 1, 1)) <- s3
    nn.CircularPad3d(2) <- s3[0]
    nn.Upsample(scale_factor=2) <- s2
    nn.Upsample((5, 9), mode='bilinear', align_corners=True) <- s2
    nn.Upsample(scale_factor=1.5, mode='linear') <- s1
    nn.UpsamplingNearest2d(scale_factor=2) <- s2
    nn.UpsamplingNearest2d((3, 5)) <- s2
    nn.UpsamplingBilinear2d(scale_factor=2) <- s2
    nn.UpsamplingBilinear2d(size=(4, 9)) <- s2
    nn.PixelShuffle(2) <- u4
    nn.PixelShuffle(1) <- u4[0]
    nn.PixelShuffle(2) <- u4[0].reshape(1, 2, 4, 3, 4)
    nn.PixelUnshuffle(2) <- s2[:, :, :, :6]
    nn.PixelUnshuffle(3) <- s2[0, :, :, 1:]
    nn.ChannelShuffle(2) <- u4
    nn.ChannelShuffle(4) <- d1
    nn.Unfold((2, 3), padding=1) <- s2
    nn.Unfold(2, dilation=2, stride=(1, 2)) <- s2
    nn.Fold((4, 5), 2) <- cols
    nn.Fold(6, (2, 3), padding=1, stride=2) <- cols
    """),
    forward_only={
        full("F.native_channel_shuffle(u4, 4)"): "PyTorch's has no gradient",
        full("torch.native_channel_shuffle(d2, 2)"): "PyTorch's has no gradient",
    },
    exact={
        full("nn.AdaptiveAvgPool3d(2) <- s3 [bfloat16]"): "value 1.9, here 0.23",
        full(
            "nn.Conv2d(3, 4, 3, dtype=torch.float16) <- d2[:, :3] [float16]"
        ): "gradient of d2 7.7, here 0.45",
        full(
            "F.grid_sample(s2, grid, 'bicubic', align_corners=False)"
        ): "gradient of the grid 1.2, here 0.48",
    },
    variants={
        "float64": full("""
        F.conv2d(s2, w2, b4, stride=(2, 1), padding=(1, 0), dilation=(1, 2))
        F.grid_sample(s2, grid, align_corners=False)
        F.interpolate(s2, (9, 5), mode='bilinear')
        F.adaptive_avg_pool2d(s2, (3, 4))
        nn.Conv3d(2, 3, 2, dtype=torch.float64) <- s3
        nn.LazyConvTranspose2d(4, 3, stride=2, dtype=torch.float64) <- s2
        nn.LPPool3d(2, 2) <- pos3
        nn.AdaptiveMaxPool3d(2) <- d3
        nn.ReflectionPad3d(2) <- s3
        nn.Upsample(scale_factor=1.5, mode='bicubic') <- s2
        """),
        "bfloat16": full("""
        nn.Conv1d(3, 4, 3, dtype=torch.bfloat16) <- s1
        nn.ConvTranspose2d(3, 4, 3, stride=2, dtype=torch.bfloat16) <- s2
        nn.LazyConv3d(3, 2, dtype=torch.bfloat16) <- s3
        nn.AvgPool2d(2) <- s2
        nn.AdaptiveAvgPool3d(2) <- s3
        nn.AdaptiveMaxPool2d(3) <- d2
        nn.MaxPool3d(2, return_indices=True) <- d3
        nn.LPPool2d(2, 2) <- pos2
        nn.ReflectionPad2d(2) <- s2
        nn.ReplicationPad3d(1) <- s3
        nn.CircularPad1d(2) <- s1
        nn.ConstantPad2d(1, 2.5) <- s2
        nn.PixelShuffle(2) <- u4
        nn.Upsample(scale_factor=2) <- s2
        nn.Upsample((5, 9), mode='bilinear') <- s2
        nn.Fold((4, 5), 2) <- cols
        """),
        "float16": full("""
        nn.Conv2d(3, 4, 3, dtype=torch.float16) <- d2[:, :3]
        nn.AvgPool1d(3) <- s1
        nn.MaxPool2d(2) <- d2
        nn.ZeroPad2d(1) <- s2
        nn.PixelUnshuffle(2) <- s2[:, :, :, :6]
        """),
    },
)
