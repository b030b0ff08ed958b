"""Attention and Transformer layers for nn_cases.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Draw = Callable[[Any], Any]


def _module(t: Any, forward: Callable[..., Any], **parts: Any) -> Any:
    """A module whose forward is the function, with submodules."""

    class Net(t.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            for name, part in parts.items():
                setattr(self, name, part)

        def forward(self, *inputs: Any) -> Any:
            return forward(self, *inputs)

    return Net()


def _attention(*sizes: int, flat: bool = False, call: dict[str, Any] | None = None, **options: Any) -> Draw:
    """Self-attention of one input; masks, functions of t, as `call`. Output and weights side by side if `flat`."""

    def make(t: Any) -> Any:
        given = {k: v(t) if callable(v) else v for k, v in (call or {}).items()}

        def forward(self: Any, x: Any) -> Any:
            output, weights = self.attention(x, x, x, **given)
            return t.cat([output.reshape(-1), weights.reshape(-1)]) if flat else output

        return _module(t, forward, attention=t.nn.MultiheadAttention(*sizes, **options))

    return make


def _cross(*sizes: int, **options: Any) -> Draw:
    return lambda t: _module(
        t,
        lambda self, q, k, v: self.attention(q, k, v)[0],
        attention=t.nn.MultiheadAttention(*sizes, **options),
    )


def _product(**options: Any) -> Draw:
    def make(t: Any) -> Any:
        given = {k: v(t) if callable(v) else v for k, v in options.items()}
        return _module(t, lambda self, *qkv: t.nn.functional.scaled_dot_product_attention(*qkv, **given))

    return make


def _causal(size: int) -> Draw:
    return lambda t: t.nn.Transformer.generate_square_subsequent_mask(size)


def _later(rows: int, columns: int) -> Draw:
    """bool, True above the diagonal."""
    return lambda t: t.ones(rows, columns).triu(1) > 0


def _padding(t: Any) -> Any:
    return t.tensor([[False, False, False, True], [False, True, True, True], [False, False, False, False]])


def attention_layers() -> dict[str, tuple[Draw, Draw]]:
    """As `nn_cases.layers`."""

    def real(*shapes: tuple[int, ...]) -> Draw:
        return lambda t: tuple(t.randn(*shape, requires_grad=True) for shape in shapes)

    heads = real((2, 3, 4, 8), (2, 3, 5, 8), (2, 3, 5, 6))
    layer = {"dim_feedforward": 12, "dropout": 0.0}
    return {
        "sdpa": (_product(), heads),
        "sdpa_scale": (_product(scale=0.3), heads),
        "sdpa_causal": (_product(is_causal=True), heads),
        "sdpa_bool_mask": (_product(attn_mask=lambda t: ~_later(4, 5)(t)), heads),
        "sdpa_float_mask": (_product(attn_mask=lambda t: t.arange(20.0).reshape(4, 5) / 7), heads),
        "sdpa_hidden_row": (_product(attn_mask=lambda t: t.arange(4).reshape(4, 1) > 0), heads),
        "sdpa_grouped": (_product(enable_gqa=True), real((2, 6, 4, 8), (2, 2, 5, 8), (2, 2, 5, 8))),
        "sdpa_3d": (_product(), real((3, 4, 8), (3, 5, 8), (3, 5, 8))),
        "attention": (_attention(8, 2), real((4, 3, 8))),
        "attention_weights": (_attention(8, 2, flat=True), real((4, 3, 8))),
        "attention_head_weights": (
            _attention(8, 2, flat=True, call={"average_attn_weights": False}),
            real((4, 3, 8)),
        ),
        "attention_no_weights": (_attention(8, 2, call={"need_weights": False}), real((4, 3, 8))),
        "attention_batch_first": (_attention(8, 4, batch_first=True), real((3, 4, 8))),
        "attention_unbatched": (_attention(8, 2), real((4, 8))),
        "attention_no_bias": (_attention(8, 2, bias=False), real((4, 3, 8))),
        "attention_bias_kv": (_attention(8, 2, add_bias_kv=True, add_zero_attn=True), real((4, 3, 8))),
        "attention_causal": (
            _attention(8, 2, call={"attn_mask": _causal(4), "is_causal": True, "need_weights": False}),
            real((4, 3, 8)),
        ),
        "attention_mask": (_attention(8, 2, call={"attn_mask": _later(4, 4)}), real((4, 3, 8))),
        "attention_padding": (_attention(8, 2, call={"key_padding_mask": _padding}), real((4, 3, 8))),
        "attention_padding_no_weights": (
            _attention(
                8,
                2,
                call={"key_padding_mask": _padding, "attn_mask": _later(4, 4), "need_weights": False},
                batch_first=True,
            ),
            real((3, 4, 8)),
        ),
        "attention_cross": (_cross(8, 2), real((4, 3, 8), (5, 3, 8), (5, 3, 8))),
        "attention_sizes": (_cross(8, 2, kdim=6, vdim=5), real((4, 3, 8), (5, 3, 6), (5, 3, 5))),
        "encoder_layer": (lambda t: t.nn.TransformerEncoderLayer(8, 2, **layer), real((4, 3, 8))),
        "encoder_layer_first": (
            lambda t: t.nn.TransformerEncoderLayer(
                8, 2, activation="gelu", batch_first=True, norm_first=True, **layer
            ),
            real((3, 4, 8)),
        ),
        "encoder_layer_no_bias": (
            lambda t: t.nn.TransformerEncoderLayer(8, 2, bias=False, **layer),
            real((4, 3, 8)),
        ),
        "decoder_layer": (lambda t: t.nn.TransformerDecoderLayer(8, 2, **layer), real((4, 3, 8), (5, 3, 8))),
        "decoder_layer_first": (
            lambda t: t.nn.TransformerDecoderLayer(8, 2, norm_first=True, batch_first=True, **layer),
            real((3, 4, 8), (3, 5, 8)),
        ),
        "encoder": (
            lambda t: _module(
                t,
                lambda self, x: self.encoder(x, mask=_causal(4)(t), src_key_padding_mask=_padding(t).float()),
                encoder=t.nn.TransformerEncoder(
                    t.nn.TransformerEncoderLayer(8, 2, batch_first=True, **layer), 2, t.nn.LayerNorm(8)
                ),
            ),
            real((3, 4, 8)),
        ),
        "transformer": (
            lambda t: t.nn.Transformer(8, 2, 1, 2, batch_first=True, **layer),
            real((2, 4, 8), (2, 3, 8)),
        ),
    }
