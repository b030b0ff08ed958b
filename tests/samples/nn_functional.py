# ruff: noqa: E501  (a sample is one line)
"""`torch.nn.functional`: activations, linear functions, normalization, attention, embeddings, dropout."""

from __future__ import annotations

from .nn_shorthand import full
from .table import Family, booleans, given, integers, normal, spread, uniform

_RANDOM = "a compiled function has its own stream of random numbers"

FAMILY = Family(
    inputs={
        "x": normal(3, 4),
        "y": normal(3, 4),
        "t": spread(3, 4),
        "m": normal(5, 4),
        "b5": normal(5),
        "v": normal(4),
        "v2": normal(4),
        "one": normal(1),
        "c3": normal(2, 3, 4),
        "w3": normal(2, 3, 4),
        "scale3": normal(3),
        "shift3": normal(3),
        "mean3": normal(3, grad=False),
        "var3": uniform(3, low=0.5, high=1.5, grad=False),
        "im": normal(2, 4, 3, 5),
        "scale4": normal(4),
        "shift4": normal(4),
        "q": normal(2, 2, 3, 4),
        "k": normal(2, 2, 5, 4),
        "val": normal(2, 2, 5, 6),
        "q4": normal(2, 4, 3, 4),
        "mask": booleans(3, 5),
        "bias": normal(3, 5),
        "i": integers(2, 3, low=0, high=5),
        "flat": given([1, 2, 4, 4, 0, 3], "int64"),
        "off": given([0, 2, 2, 5], "int64"),
        "bag_w": normal(6),
        "pw": normal(2, 3),
        "l1": normal(2, 3),
        "l2": normal(2, 4),
        "lw": normal(5, 3, 4),
        "tbc": normal(6, 2, 3),
        "tbc_w": normal(2, 3, 4),
        "seq": normal(4, 2, 6),
        "in_w": normal(18, 6),
        "in_b": normal(18),
        "out_w": normal(6, 6),
        "out_b": normal(6),
        "pad_mask": given([[False, False, False, True], [False, False, True, True]], bool),
    },
    samples=full("""
    F.relu(x)
    F.relu(im)
    z = x * 1; F.relu(z, inplace=True); z
    z = x * 1; F.relu_(z); z
    F.relu6(x * 5)
    F.relu6(t * 8)
    F.gelu(x)
    F.gelu(x, approximate='tanh')
    F.silu(x)
    z = x * 1; F.silu(z, inplace=True)
    F.elu(x)
    F.elu(x, alpha=0.3)
    z = x * 1; F.elu_(z, 0.5)
    F.selu(x)
    z = x * 1; F.selu(z, inplace=True)
    F.celu(x)
    F.celu(x, 0.7)
    z = x * 1; F.celu(z, 2.0, inplace=True)
    F.leaky_relu(x)
    F.leaky_relu(x, 0.3)
    z = x * 1; F.leaky_relu_(z, 0.2)
    F.rrelu(x)
    F.rrelu(x, 0.2, 0.4)
    F.rrelu(x, training=True)
    z = x * 1; F.rrelu_(z)
    F.prelu(x, v)
    F.prelu(x, one)
    F.prelu(v, one)
    F.hardtanh(x)
    F.hardtanh(x, -0.5, 0.8)
    z = x * 1; F.hardtanh_(z, 0.0, 0.5)
    F.hardswish(x * 3)
    F.hardsigmoid(x * 3)
    F.hardshrink(x)
    F.hardshrink(x, 0.1)
    F.softshrink(x)
    F.softshrink(x, 0.2)
    F.tanhshrink(x)
    F.softsign(x)
    F.softplus(x)
    F.softplus(x * 8, beta=2, threshold=5)
    F.logsigmoid(x)
    F.logsigmoid(x * 30)
    F.mish(x)
    z = x * 1; F.mish(z, inplace=True)
    F.sigmoid(x)
    F.tanh(x)
    F.threshold(x, 0.1, 20)
    F.threshold(x, -0.5, -1.0)
    z = x * 1; F.threshold_(z, 0.1, 3)
    F.glu(x)
    F.glu(im, 1)
    F.softmax(x, 1)
    F.softmax(im, dim=-2)
    F.softmax(x, -1, dtype=torch.float64)
    F.softmin(x, 1)
    F.softmin(im, 0)
    F.log_softmax(x, 0)
    F.log_softmax(im, dim=1)
    F.gumbel_softmax(x)
    F.gumbel_softmax(x, 0.5, hard=True)

    F.linear(x, m)
    F.linear(x, m, b5)
    F.linear(im.transpose(1, 3), m, b5)
    F.linear(v, m, b5)
    F.linear(x, v)
    F.bilinear(l1, l2, lw)
    F.bilinear(l1, l2, lw, b5)
    F.conv_tbc(tbc, tbc_w, v)
    F.conv_tbc(tbc, tbc_w, v, pad=1)

    F.layer_norm(x, (4,))
    F.layer_norm(x, (4,), v, v2)
    F.layer_norm(im, (3, 5), eps=1e-3)
    F.layer_norm(x, (3, 4), y)
    F.rms_norm(x, (4,))
    F.rms_norm(x, (4,), v, eps=1e-3)
    F.rms_norm(im, (3, 5))
    F.group_norm(im, 2)
    F.group_norm(im, 4, scale4, shift4, eps=1e-3)
    F.batch_norm(c3, None, None, training=True)
    F.batch_norm(c3, mean3, var3, scale3, shift3)
    F.batch_norm(c3, mean3.clone(), var3.clone(), scale3, shift3, training=True, momentum=0.3)
    F.instance_norm(c3)
    F.instance_norm(im, weight=scale4, bias=shift4)
    F.instance_norm(c3, mean3, var3, use_input_stats=False)
    F.local_response_norm(im, 3)
    F.local_response_norm(c3, 2, alpha=0.1, beta=0.5, k=2.0)
    F.normalize(x)
    F.normalize(x.detach(), out=torch.zeros(3, 4))
    F.normalize(im, p=1, dim=2)
    F.normalize(x, p=3.0, dim=0, eps=1e-3)
    F.cosine_similarity(x, y)
    F.cosine_similarity(x, y, dim=0, eps=1e-2)
    F.cosine_similarity(x, v)
    F.pairwise_distance(x, y)
    F.pairwise_distance(x, y, p=1, keepdim=True)
    F.pairwise_distance(x, y, p=3.0, eps=1e-3)
    F.pdist(x)
    F.pdist(m, p=1)
    F.pdist(m, 3.0)

    F.scaled_dot_product_attention(q, k, val)
    F.scaled_dot_product_attention(q, k, val, attn_mask=mask)
    F.scaled_dot_product_attention(q, k, val, attn_mask=bias, scale=0.3)
    F.scaled_dot_product_attention(q, k, val, is_causal=True)
    F.scaled_dot_product_attention(q4, k, val, enable_gqa=True)
    F.scaled_dot_product_attention(q[0, 0], k[0, 0], val[0, 0])
    F.multi_head_attention_forward(seq, seq, seq, 6, 2, in_w, in_b, None, None, False, 0.0, out_w, out_b)
    F.multi_head_attention_forward(seq, seq, seq, 6, 3, in_w, in_b, None, None, True, 0., out_w, out_b, need_weights=False)
    F.multi_head_attention_forward(seq, seq, seq, 6, 2, in_w, None, None, None, False, 0.0, out_w, None, key_padding_mask=pad_mask, average_attn_weights=False)

    F.embedding(i, m)
    F.embedding(i, m, padding_idx=2)
    F.embedding(i, m, padding_idx=-1)
    F.embedding(i, m, max_norm=1.0)
    z = m.detach().clone(); F.embedding(i, z, max_norm=1.0, norm_type=1.0), z
    F.embedding(i, m, scale_grad_by_freq=True)
    F.embedding_bag(i, m)
    F.embedding_bag(i, m, mode='sum')
    F.embedding_bag(i, m, mode='max')
    F.embedding_bag(i, m, mode='sum', per_sample_weights=pw)
    F.embedding_bag(i, m, mode='mean', padding_idx=1)
    F.embedding_bag(flat, m, off)
    F.embedding_bag(flat, m, off, mode='sum', per_sample_weights=bag_w)
    F.embedding_bag(flat, m, off, mode='max')
    F.embedding_bag(flat, m, off, mode='sum', include_last_offset=True)
    F.embedding_bag(flat, m, off, mode='mean', padding_idx=4)
    F.embedding_bag(flat, m, off, mode='max', padding_idx=4)
    F.embedding_bag(flat, m, off, scale_grad_by_freq=True)
    F.one_hot(i)
    F.one_hot(i, 7)

    F.dropout(x, 0.3)
    F.dropout(x, 0.3, training=False)
    z = x * 1; F.dropout(z, 1.0, inplace=True)
    F.dropout1d(c3, 0.4)
    F.dropout1d(c3, 0.4, False)
    F.dropout2d(im, 0.4)
    F.dropout2d(im, 0.4, training=False)
    F.dropout3d(im.unsqueeze(2), 0.4)
    F.dropout3d(im.unsqueeze(2), 0.4, False)
    F.alpha_dropout(x, 0.3, training=True)
    F.alpha_dropout(x, 0.3)
    F.feature_alpha_dropout(im, 0.3, training=True)
    F.feature_alpha_dropout(im, 0.3)
    """),
    variants={
        "float64": full("""
        F.relu(x)
        F.gelu(x)
        F.softmax(x, 1)
        F.layer_norm(x, (4,), v, v2)
        F.scaled_dot_product_attention(q, k, val, attn_mask=mask)
        F.cosine_similarity(x, y)
        F.embedding_bag(flat, m, off)
        """),
        "bfloat16": full("""
        F.relu(x)
        F.silu(t)
        F.elu(t)
        F.mish(t)
        F.softmax(t, 1)
        F.log_softmax(t, 0)
        F.softplus(t)
        F.hardswish(t)
        F.linear(t, v)
        F.leaky_relu(t, 0.5)
        """),
    },
    forward_only={
        full("F.embedding_bag(flat, m, off, mode='sum', include_last_offset=True)"): (
            "PyTorch reads memory that is not its own for the element behind the last offset"
        ),
    },
    eager_only={
        full("F.one_hot(i)"): "the number of classes is read from the values",
        **{
            full(line): _RANDOM
            for line in (
                "F.rrelu(x, training=True)", "F.gumbel_softmax(x)", "F.gumbel_softmax(x, 0.5, hard=True)",
                "F.dropout(x, 0.3)", "F.dropout1d(c3, 0.4)", "F.dropout2d(im, 0.4)",
                "F.dropout3d(im.unsqueeze(2), 0.4)", "F.alpha_dropout(x, 0.3, training=True)",
                "F.feature_alpha_dropout(im, 0.3, training=True)",
            )
        },
    },
)  # fmt: skip
