"""Attention in sixteen-bit numbers, of sizes that its kernels take: the function, written out, and under autocast."""

from __future__ import annotations

from .table import Family, booleans, normal, uniform

SAMPLES = """
torch.nn.functional.scaled_dot_product_attention(q, k, v)
torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=seen, scale=0.3)
torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=bias)
torch.nn.functional.scaled_dot_product_attention(many, k, v, enable_gqa=True)
torch.nn.functional.scaled_dot_product_attention(q[..., :15], k[..., :15], v[..., :7])
torch.softmax(q @ k.transpose(-2, -1) * 0.25 + bias, -1) @ v
torch.softmax((q @ k.transpose(-2, -1) * 0.25).masked_fill(~seen, -float('inf')), -1) @ v
"""
_CANCELS = (
    "gradients of query and key are differences of nearly equal numbers, and tolerances of sixteen bits are for "
    "numbers, not differences; tests/test_lower_attention.py compares them with float64"
)

FAMILY = Family(
    inputs={
        "q": normal(2, 2, 35, 16),
        "many": normal(2, 4, 35, 16),
        "k": normal(2, 2, 41, 16),
        "v": uniform(2, 2, 41, 16, low=0.5, high=1.5),
        "bias": normal(35, 41),
        "seen": booleans(35, 41),
    },
    variants={"bfloat16": SAMPLES, "float16": SAMPLES},
    forward_only=dict.fromkeys(filter(None, SAMPLES.splitlines()), _CANCELS),
)
