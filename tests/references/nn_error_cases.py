"""Code that raises in normalization, attention, resampling, losses and schedules, for nn_texts.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def more_errors() -> dict[str, Callable[[Any], Any]]:
    """As `nn_texts.errors`."""
    zeros = lambda t, *s: t.zeros(*s)
    F = lambda t: t.nn.functional
    sgd = lambda t, **options: t.optim.SGD([t.nn.Parameter(t.zeros(1))], lr=0.1, **options)
    schedules = lambda t: t.optim.lr_scheduler
    return {
        "batch_norm_rank": lambda t: t.nn.BatchNorm2d(3)(zeros(t, 2, 3)),
        "batch_norm1d_rank": lambda t: t.nn.BatchNorm1d(3)(zeros(t, 2, 3, 4, 5)),
        "batch_norm3d_rank": lambda t: t.nn.BatchNorm3d(3)(zeros(t, 2, 3, 4, 5)),
        "batch_norm_one": lambda t: t.nn.BatchNorm1d(3)(zeros(t, 1, 3)),
        "batch_norm_channels": lambda t: t.nn.BatchNorm1d(3)(zeros(t, 2, 4)),
        "batch_norm_eps": lambda t: t.nn.BatchNorm1d(3, eps=-1.0)(zeros(t, 2, 3)),
        "instance_norm_rank": lambda t: t.nn.InstanceNorm2d(3)(zeros(t, 2, 3)),
        "instance_norm_one": lambda t: t.nn.InstanceNorm1d(3)(zeros(t, 2, 3, 1)),
        "instance_norm_channels": lambda t: t.nn.InstanceNorm1d(3, affine=True)(zeros(t, 2, 4, 5)),
        "layer_norm_shape": lambda t: t.nn.LayerNorm(5)(zeros(t, 2, 4)),
        "layer_norm_weight": lambda t: F(t).layer_norm(zeros(t, 2, 4), (4,), zeros(t, 3)),
        "rms_norm_shape": lambda t: t.nn.RMSNorm((3, 4))(zeros(t, 2, 4)),
        "group_norm_groups": lambda t: t.nn.GroupNorm(2, 5),
        "group_norm_channels": lambda t: F(t).group_norm(zeros(t, 2, 5, 3), 2),
        "local_response_rank": lambda t: t.nn.LocalResponseNorm(2)(zeros(t, 2, 4)),
        "attention_heads": lambda t: t.nn.MultiheadAttention(5, 2),
        "attention_sizes": lambda t: t.nn.MultiheadAttention(0, 2),
        "attention_rank": lambda t: t.nn.MultiheadAttention(4, 2)(*[zeros(t, 4)] * 3),
        "attention_key_rank": lambda t: t.nn.MultiheadAttention(4, 2)(
            zeros(t, 3, 2, 4), zeros(t, 3, 4), zeros(t, 3, 4)
        ),
        "attention_size": lambda t: t.nn.MultiheadAttention(4, 2)(*[zeros(t, 3, 2, 6)] * 3),
        "attention_mask": lambda t: t.nn.MultiheadAttention(4, 2)(
            *[zeros(t, 3, 2, 4)] * 3, attn_mask=zeros(t, 3, 4)
        ),
        "attention_mask_type": lambda t: t.nn.MultiheadAttention(4, 2)(
            *[zeros(t, 3, 2, 4)] * 3, attn_mask=zeros(t, 3, 3).long()
        ),
        "attention_padding": lambda t: t.nn.MultiheadAttention(4, 2)(
            *[zeros(t, 3, 2, 4)] * 3, key_padding_mask=zeros(t, 2, 4) > 0
        ),
        "attention_causal": lambda t: t.nn.MultiheadAttention(4, 2)(*[zeros(t, 3, 2, 4)] * 3, is_causal=True),
        "transformer_activation": lambda t: t.nn.TransformerEncoderLayer(4, 2, activation="tanh"),
        "transformer_batch": lambda t: t.nn.Transformer(4, 2, 1, 1, 4)(zeros(t, 3, 2, 4), zeros(t, 3, 1, 4)),
        "transformer_size": lambda t: t.nn.Transformer(4, 2, 1, 1, 4)(zeros(t, 3, 2, 4), zeros(t, 3, 2, 5)),
        "interpolate_nothing": lambda t: F(t).interpolate(zeros(t, 1, 1, 2)),
        "interpolate_both": lambda t: F(t).interpolate(zeros(t, 1, 1, 2), 3, 2.0),
        "interpolate_corners": lambda t: F(t).interpolate(zeros(t, 1, 1, 2), 3, align_corners=True),
        "interpolate_mode": lambda t: F(t).interpolate(zeros(t, 1, 1, 2), 3, mode="bilinear"),
        "interpolate_sizes": lambda t: F(t).interpolate(zeros(t, 1, 1, 2, 2), [3]),
        "interpolate_factors": lambda t: F(t).interpolate(zeros(t, 1, 1, 2, 2), scale_factor=[3.0]),
        "pixel_shuffle": lambda t: t.nn.PixelShuffle(2)(zeros(t, 1, 6, 2, 2)),
        "pixel_shuffle_rank": lambda t: t.nn.PixelShuffle(2)(zeros(t, 6, 2)),
        "pixel_unshuffle": lambda t: t.nn.PixelUnshuffle(2)(zeros(t, 1, 6, 3, 2)),
        "channel_shuffle": lambda t: t.nn.ChannelShuffle(4)(zeros(t, 1, 6, 3, 2)),
        "glu": lambda t: t.nn.GLU()(zeros(t, 2, 3)),
        "prelu": lambda t: t.nn.PReLU(3)(zeros(t, 2, 4)),
        "softmax2d": lambda t: t.nn.Softmax2d()(zeros(t, 2, 3)),
        "softshrink": lambda t: t.nn.Softshrink(-1.0)(zeros(t, 2)),
        "alpha_dropout": lambda t: t.nn.AlphaDropout(2.0),
        "margin_ranking": lambda t: t.nn.MarginRankingLoss()(zeros(t, 2), zeros(t, 2), zeros(t, 2, 2)),
        "triplet_margin": lambda t: t.nn.TripletMarginLoss(-1.0),
        "triplet_function": lambda t: F(t).triplet_margin_loss(*[zeros(t, 2, 3)] * 3, margin=0),
        "multi_margin_p": lambda t: t.nn.MultiMarginLoss(p=3),
        "gaussian_var": lambda t: t.nn.GaussianNLLLoss()(zeros(t, 2), zeros(t, 2), -t.ones(2)),
        "gaussian_size": lambda t: t.nn.GaussianNLLLoss()(zeros(t, 2, 3), zeros(t, 2, 3), t.ones(3)),
        "poisson_reduction": lambda t: F(t).poisson_nll_loss(zeros(t, 2), zeros(t, 2), reduction="all"),
        "constant_factor": lambda t: schedules(t).ConstantLR(sgd(t), 2.0),
        "linear_start": lambda t: schedules(t).LinearLR(sgd(t), 0.0),
        "linear_end": lambda t: schedules(t).LinearLR(sgd(t), 0.5, 2.0),
        "restarts_length": lambda t: schedules(t).CosineAnnealingWarmRestarts(sgd(t), 0),
        "restarts_factor": lambda t: schedules(t).CosineAnnealingWarmRestarts(sgd(t), 1, 0),
        "cyclic_mode": lambda t: schedules(t).CyclicLR(sgd(t), 0.1, 0.2, mode="square"),
        "cyclic_rates": lambda t: schedules(t).CyclicLR(sgd(t), [0.1, 0.2], 0.2),
        "one_cycle_steps": lambda t: schedules(t).OneCycleLR(sgd(t), 0.1),
        "one_cycle_strategy": lambda t: schedules(t).OneCycleLR(sgd(t), 0.1, 5, anneal_strategy="step"),
        "one_cycle_start": lambda t: schedules(t).OneCycleLR(sgd(t), 0.1, 5, pct_start=2),
        "plateau_factor": lambda t: schedules(t).ReduceLROnPlateau(sgd(t), factor=1.0),
        "plateau_mode": lambda t: schedules(t).ReduceLROnPlateau(sgd(t), "least"),
        "plateau_rates": lambda t: schedules(t).ReduceLROnPlateau(sgd(t), min_lr=[0.0, 0.1]),
        "sequence_empty": lambda t: schedules(t).SequentialLR(sgd(t), [], []),
        "sequence_milestones": lambda t: schedules(t).SequentialLR(
            (o := sgd(t)), [schedules(t).ConstantLR(o)], [1]
        ),
        "chain_empty": lambda t: schedules(t).ChainedScheduler([]),
    }
