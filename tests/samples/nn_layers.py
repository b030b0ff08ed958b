# ruff: noqa: E501  (a sample is one line)
"""Modules: activations, linear layers, normalization, dropout, recurrent layers, attention, transformers, containers."""

from __future__ import annotations

from .nn_shorthand import full
from .table import Family, booleans, given, integers, normal, spread

_RANDOM = "a compiled function has its own stream of random numbers"

FAMILY = Family(
    inputs={
        "x": normal(3, 4),
        "y": normal(3, 4),
        "t": spread(3, 4),
        "v": normal(4),
        "b3": normal(2, 3, 4),
        "im": normal(2, 4, 3, 5),
        "vol": normal(2, 2, 3, 2, 4),
        "l1": normal(2, 3),
        "l2": normal(2, 4),
        "i": integers(2, 3, low=0, high=5),
        "flat": given([1, 2, 4, 4, 0, 3], "int64"),
        "off": given([0, 2, 2, 5], "int64"),
        "pw": normal(2, 3),
        "seq": normal(5, 2, 4),
        "h1": normal(1, 2, 3),
        "h2": normal(4, 2, 3),
        "c2": normal(4, 2, 3),
        "h21": normal(2, 2, 2),
        "c22": normal(2, 2, 3),
        "step": normal(2, 4),
        "hs": normal(2, 3),
        "cs": normal(2, 3),
        "q": normal(4, 2, 6),
        "kv": normal(5, 2, 6),
        "k8": normal(5, 2, 8),
        "v10": normal(5, 2, 10),
        "bf": normal(2, 4, 6),
        "hide": booleans(4, 5),
        "causal": given([[0.0 if k <= q else float("-inf") for k in range(4)] for q in range(4)]),
        "pad": given([[False, False, False, False, True], [False, False, True, True, True]], bool),
        "pad4": given([[False, False, False, True], [False, False, True, True]], bool),
    },
    modules=full("""
    nn.Identity(3, unused=1) <- x
    nn.Linear(4, 5) <- x
    nn.Linear(4, 2, bias=False) <- im.transpose(1, 3)
    nn.Linear(4, 3, dtype=torch.float64) <- v.double()
    nn.Bilinear(3, 4, 5) <- l1, l2
    nn.Bilinear(3, 4, 2, bias=False) <- l1, l2
    nn.LazyLinear(5) <- x
    nn.LazyLinear(2, bias=False) <- b3
    nn.Flatten() <- im
    nn.Flatten(1, 2) <- im
    nn.Unflatten(1, (2, 2)) <- x
    nn.Unflatten(-1, torch.Size([4, 1])) <- b3

    nn.ReLU() <- x
    nn.ReLU(inplace=True) <- x * 1
    nn.ReLU6() <- t * 8
    nn.ReLU6(inplace=True) <- im * 8
    nn.RReLU(0.1, 0.3) <- x
    nn.RReLU().eval() <- x
    nn.Hardtanh() <- x
    nn.Hardtanh(-0.5, 0.7) <- x
    nn.Sigmoid() <- x
    nn.Sigmoid() <- v * 40
    nn.Hardsigmoid() <- x * 3
    nn.Hardsigmoid(inplace=True) <- im * 4
    nn.Tanh() <- x
    nn.SiLU() <- x
    nn.SiLU(inplace=True) <- x * 1
    nn.Mish() <- x
    nn.Mish(inplace=True) <- im * 30
    nn.Hardswish() <- x * 3
    nn.Hardswish(inplace=True) <- im * 4
    nn.ELU() <- x
    nn.ELU(0.5, inplace=True) <- x * 1
    nn.CELU() <- x
    nn.CELU(0.5) <- x
    nn.SELU() <- x
    nn.SELU(inplace=True) <- v * 10
    nn.GLU() <- x
    nn.GLU(1) <- im
    nn.GELU() <- x
    nn.GELU('tanh') <- x
    nn.Hardshrink() <- x
    nn.Hardshrink(0.2) <- x
    nn.LeakyReLU() <- x
    nn.LeakyReLU(0.3, inplace=True) <- x * 1
    nn.LogSigmoid() <- x
    nn.LogSigmoid() <- im * 50
    nn.Softplus() <- x
    nn.Softplus(2, 5) <- x * 4
    nn.Softshrink() <- x
    nn.Softshrink(0.3) <- x
    nn.PReLU() <- x
    nn.PReLU(4, init=0.1) <- im
    nn.Softsign() <- x
    nn.Softsign() <- v[1] * 100
    nn.Tanhshrink() <- x
    nn.Tanhshrink() <- im * 5
    nn.Softmin(1) <- x
    nn.Softmin(dim=-3) <- im * 20
    nn.Softmin() <- b3
    nn.Softmax(dim=-1) <- x
    nn.Softmax(0) <- im
    nn.Softmax2d() <- im
    nn.Softmax2d() <- im[0] * 30
    nn.LogSoftmax(1) <- x
    nn.LogSoftmax(dim=2) <- im
    nn.Threshold(0.1, 20) <- x
    nn.Threshold(-0.2, 5.0, inplace=True) <- x * 1
    nn.CosineSimilarity() <- x, y
    nn.CosineSimilarity(dim=0, eps=1e-3) <- x, y
    nn.PairwiseDistance() <- x, y
    nn.PairwiseDistance(p=1, keepdim=True) <- x, y

    nn.BatchNorm1d(4) <- x
    nn.BatchNorm1d(3, eps=1e-3, momentum=0.3).eval() <- b3
    nn.BatchNorm1d(4, affine=False, track_running_stats=False) <- x
    nn.BatchNorm2d(4) <- im
    nn.BatchNorm2d(4, momentum=None, bias=False) <- im
    nn.BatchNorm3d(2) <- vol
    nn.BatchNorm3d(2).eval() <- vol
    nn.SyncBatchNorm(4, affine=False).eval() <- im
    nn.SyncBatchNorm(3, momentum=None).eval() <- b3
    nn.InstanceNorm1d(3) <- b3
    nn.InstanceNorm1d(3, affine=True, track_running_stats=True) <- b3
    nn.InstanceNorm2d(4, affine=True) <- im
    nn.InstanceNorm2d(4) <- im[0]
    nn.InstanceNorm3d(2) <- vol
    nn.InstanceNorm3d(2, track_running_stats=True).eval() <- vol
    nn.LazyBatchNorm1d() <- x
    nn.LazyBatchNorm1d(affine=False) <- b3
    nn.LazyBatchNorm2d(momentum=0.5) <- im
    nn.LazyBatchNorm2d(affine=False, track_running_stats=False) <- im
    nn.LazyBatchNorm3d() <- vol
    nn.LazyBatchNorm3d(eps=0.1, momentum=None) <- vol
    nn.LazyInstanceNorm1d(affine=True) <- b3
    nn.LazyInstanceNorm1d(eps=0.1) <- b3
    nn.LazyInstanceNorm2d(affine=True, track_running_stats=True) <- im
    nn.LazyInstanceNorm2d(eps=1e-2) <- im[1:]
    nn.LazyInstanceNorm3d(affine=True) <- vol
    nn.LazyInstanceNorm3d(track_running_stats=True) <- vol
    nn.LayerNorm(4) <- x
    nn.LayerNorm((3, 5), eps=1e-3, bias=False) <- im
    nn.LayerNorm([4], elementwise_affine=False) <- b3
    nn.GroupNorm(2, 4) <- im
    nn.GroupNorm(3, 3, affine=False) <- b3
    nn.RMSNorm(4) <- x
    nn.RMSNorm((3, 5), eps=1e-3, elementwise_affine=False) <- im
    nn.LocalResponseNorm(2) <- im
    nn.LocalResponseNorm(3, alpha=0.1, beta=0.5, k=2) <- b3

    nn.Embedding(5, 3) <- i
    nn.Embedding(5, 3, padding_idx=1, scale_grad_by_freq=True) <- i
    nn.Embedding(5, 3, max_norm=1.0, norm_type=1.0) <- i
    nn.Embedding.from_pretrained(torch.arange(10.).reshape(5, 2), freeze=False) <- i
    nn.EmbeddingBag(5, 3) <- i
    nn.EmbeddingBag(5, 3, mode='sum', padding_idx=2) <- flat, off
    nn.EmbeddingBag(5, 3, mode='max') <- flat, off
    nn.EmbeddingBag(5, 3, mode='sum') <- i, None, pw
    nn.EmbeddingBag(5, 3, max_norm=1.0) <- i
    nn.EmbeddingBag.from_pretrained(torch.arange(10.).reshape(5, 2), mode='sum', freeze=False) <- flat, off

    nn.Dropout(0.3) <- x
    nn.Dropout().eval() <- x
    nn.Dropout1d(0.4).eval() <- b3
    nn.Dropout1d(0.4) <- b3
    nn.Dropout2d(0.4) <- im
    nn.Dropout2d(0.2, inplace=True).eval() <- im
    nn.Dropout3d(0.4) <- vol
    nn.Dropout3d().eval() <- vol
    nn.AlphaDropout(0.3) <- x
    nn.AlphaDropout(0.3).eval() <- x
    nn.FeatureAlphaDropout(0.3) <- im
    nn.FeatureAlphaDropout().eval() <- im

    nn.RNN(4, 3) <- seq
    nn.RNN(4, 3, 2, nonlinearity='relu', bidirectional=True, batch_first=True) <- seq.transpose(0, 1)
    nn.RNN(4, 3, bias=False) <- seq, h1
    nn.LSTM(4, 3) <- seq
    nn.LSTM(4, 3, 2, bidirectional=True) <- seq, (h2, c2)
    nn.LSTM(4, 3, 2, proj_size=2) <- seq, (h21, c22)
    nn.LSTM(4, 3, batch_first=True, bias=False) <- seq[:, 0]
    nn.GRU(4, 3) <- seq, h1
    nn.GRU(4, 3, num_layers=2, bidirectional=True) <- seq
    nn.RNNCell(4, 3) <- step
    nn.RNNCell(4, 3, nonlinearity='relu') <- step, hs
    nn.LSTMCell(4, 3) <- step
    nn.LSTMCell(4, 3, bias=False) <- step, (hs, cs)
    nn.GRUCell(4, 3) <- step, hs
    nn.GRUCell(4, 3, False) <- step[0]

    nn.MultiheadAttention(6, 2) <- q, q, q
    nn.MultiheadAttention(6, 3, bias=False) <- q, kv, kv, pad
    nn.MultiheadAttention(6, 2, add_bias_kv=True, add_zero_attn=True) <- q, kv, kv, pad, False
    nn.MultiheadAttention(6, 2, kdim=8, vdim=10) <- q, k8, v10, None, True, hide, False
    nn.MultiheadAttention(6, 2, batch_first=True) <- bf, bf, bf, None, True, causal, True, True
    nn.MultiheadAttention(6, 2).eval() <- q[:, 0], kv[:, 0], kv[:, 0]
    nn.TransformerEncoderLayer(6, 2, 8, dropout=0.0) <- q
    nn.TransformerEncoderLayer(6, 3, 8, 0.0, 'gelu', batch_first=True, norm_first=True, bias=False) <- bf, causal
    nn.TransformerEncoderLayer(6, 2, 8).eval() <- q, None, pad4
    nn.TransformerDecoderLayer(6, 2, 8, dropout=0.0) <- q, kv
    nn.TransformerDecoderLayer(6, 2, 8, 0.0, norm_first=True) <- q, kv, causal, None, pad4, pad
    nn.TransformerEncoder(nn.TransformerEncoderLayer(6, 2, 8, 0.0), 2, norm=nn.LayerNorm(6)) <- q, causal
    nn.TransformerEncoder(nn.TransformerEncoderLayer(6, 3, 4, 0.0, batch_first=True), 1).eval() <- bf, None, pad4
    nn.TransformerEncoder(nn.TransformerEncoderLayer(6, 1, 5, 0.0, norm_first=True, bias=False), 2, enable_nested_tensor=False) <- q[:, 0]
    nn.TransformerDecoder(nn.TransformerDecoderLayer(6, 2, 8, 0.0), 2) <- q, kv
    nn.TransformerDecoder(nn.TransformerDecoderLayer(6, 3, 4, 0.0, 'gelu'), 1, norm=nn.LayerNorm(6)) <- q, kv, causal, None, pad4, pad
    nn.TransformerDecoder(nn.TransformerDecoderLayer(6, 2, 5, batch_first=True, bias=False), 2).eval() <- bf[0], kv[:, 1]
    nn.Transformer(6, 2, 1, 1, 8, 0.0) <- q, q
    nn.Transformer(6, 2, 1, 2, 8, 0.0, 'gelu', batch_first=True, norm_first=True) <- bf, bf, None, causal

    nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 2)) <- x
    nn.Sequential(*[nn.Linear(4, 4) for _ in range(2)], nn.Sequential(nn.Tanh(), nn.Flatten(0))) <- x
    nn.utils.parametrizations.weight_norm(nn.Linear(4, 3)) <- x
    nn.utils.parametrizations.weight_norm(nn.Conv2d(4, 3, 2), dim=1) <- im
    nn.utils.parametrizations.spectral_norm(nn.Linear(4, 3)).eval() <- x
    nn.utils.parametrizations.spectral_norm(nn.ConvTranspose2d(4, 3, 2), n_power_iterations=2) <- im
    nn.utils.parametrizations.orthogonal(nn.Linear(4, 4)) <- x
    nn.utils.parametrizations.orthogonal(nn.Linear(4, 3), orthogonal_map='cayley') <- x
    nn.utils.parametrizations.orthogonal(nn.Linear(4, 6)) <- x
    nn.utils.weight_norm(nn.Linear(4, 3)) <- x
    nn.utils.weight_norm(nn.Conv2d(4, 3, 2), dim=None) <- im
    nn.utils.spectral_norm(nn.Linear(4, 3)).eval() <- x
    nn.utils.spectral_norm(nn.Conv2d(4, 3, 2)) <- im
    nn.utils.prune.l1_unstructured(nn.Linear(4, 3), 'weight', 5) <- x
    nn.utils.prune.random_unstructured(nn.Linear(4, 3), 'bias', 0.4) <- x
    nn.utils.prune.ln_structured(nn.Linear(4, 3), 'weight', 1, 2, 0) <- x
    nn.utils.prune.random_structured(nn.Linear(4, 3), 'weight', 0.5, dim=1) <- x
    nn.utils.prune.identity(nn.Linear(4, 3), 'weight') <- x
    nn.utils.prune.custom_from_mask(nn.Linear(4, 3), 'bias', torch.tensor([1, 0, 1])) <- x
    nn.utils.fuse_conv_bn_eval(nn.Conv2d(4, 3, 2).eval(), nn.BatchNorm2d(3).eval()) <- im
    nn.utils.fuse_linear_bn_eval(nn.Linear(4, 3).eval(), nn.BatchNorm1d(3).eval()) <- x
    nn.utils.remove_weight_norm(nn.utils.weight_norm(nn.Linear(4, 3))) <- x
    nn.utils.remove_spectral_norm(nn.utils.spectral_norm(nn.Linear(4, 3))) <- x
    nn.utils.prune.remove(nn.utils.prune.l1_unstructured(nn.Linear(4, 3), 'weight', 0.5), 'weight') <- x
    nn.utils.convert_conv2d_weight_memory_format(nn.Conv2d(4, 3, 2), torch.channels_last) <- im
    nn.utils.convert_conv3d_weight_memory_format(nn.Conv3d(2, 3, 2), torch.contiguous_format) <- vol
    """),
    samples=full("""
    torch.embedding(x, i % 3)
    torch.embedding(x, i % 3, 1)
    torch.embedding_bag(im[0, 0], flat % 3, off)[0]
    torch.batch_norm(x, None, None, None, None, True, 0.1, 1e-5, False)
    torch.instance_norm(b3, None, None, None, None, True, 0.1, 1e-5, False)
    torch.layer_norm(x, (4,), v, None)
    torch.group_norm(im, 2)
    torch.native_layer_norm(x, (4,), v, v, 1e-5)
    torch.native_group_norm(im, None, None, 2, 4, 15, 2, 1e-5)
    torch.native_batch_norm(x, v, v, None, None, True, 0.1, 1e-5)
    torch.norm_except_dim(b3, 2, 1)
    torch.norm_except_dim(x, 2, 0)
    torch.dropout(x, 0.3, False)
    torch.alpha_dropout(x, 0.3, False)
    torch.feature_dropout(im, 0.3, False)
    torch.feature_alpha_dropout(im, 0.3, False)
    torch.dropout_(x * 1, 0.3, False)
    torch.alpha_dropout_(x * 1, 0.3, False)
    torch.feature_dropout_(im * 1, 0.3, False)
    torch.feature_alpha_dropout_(im * 1, 0.3, False)
    torch.native_dropout(x, 0.3, False)
    torch.pdist(x)
    nn.utils.parameters_to_vector([x, v])
    z = x.detach().clone(); nn.utils.vector_to_parameters(torch.arange(12.), [z]); z
    nn.utils.rnn.pad_sequence([x, y[:2]])
    nn.utils.rnn.pad_sequence([x, y[:2]], batch_first=True, padding_value=2.0)
    nn.utils.rnn.pack_padded_sequence(seq, [5, 3]).data
    nn.utils.rnn.pad_packed_sequence(nn.utils.rnn.pack_padded_sequence(seq, [5, 3]))
    nn.utils.rnn.pack_sequence([x, y[:2]]).data
    nn.utils.rnn.unpad_sequence(seq * 1, torch.tensor([5, 3]))
    nn.utils.rnn.unpack_sequence(nn.utils.rnn.pack_sequence([x, y[:2]]))
    z = bf.detach().unsqueeze(1); nn.attention.flex_attention.flex_attention(z, z, z, scale=0.5)
    """),
    programs={
        "parametrize": full("""
class Symmetric(nn.Module):
    def forward(self, x):
        return x.triu() + x.triu(1).transpose(-1, -2)

    def right_inverse(self, a):
        return a.triu()

layer = nn.Linear(4, 4)
nn.utils.parametrize.register_parametrization(layer, 'weight', Symmetric())
with nn.utils.parametrize.cached():
    first = layer(x), layer.weight is layer.weight
layer.weight = torch.eye(4)
names = list(layer.state_dict()), nn.utils.parametrize.is_parametrized(layer, 'weight')
second = layer(x)
nn.utils.parametrize.remove_parametrizations(layer, 'weight')
result = first, second, names, layer(x), repr(layer)
"""),
        "functional_call": full("""
layer = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))
given = {name: torch.ones_like(t) for name, t in layer.state_dict().items()}
given['0.weight'] = y[:, :].clone()
result = nn.utils.stateless.functional_call(layer, given, (x,)), layer[1].running_mean, given['1.running_mean']
"""),
        "clip": full("""
a, b = x.detach().clone().requires_grad_(), v.detach().clone().requires_grad_()
((a * b) ** 2).sum().backward()
norm = nn.utils.get_total_norm([a.grad, b.grad], float('inf'))
nn.utils.clip_grads_with_norm_([a], 0.5, norm)
total = nn.utils.clip_grad_norm_([a, b], 0.3, norm_type=1.0)
nn.utils.clip_grad_value_([b], 0.01)
result = norm, total, a.grad, b.grad
"""),
        "global pruning": full("""
torch.manual_seed(3)
a, b = nn.Linear(4, 3), nn.Linear(3, 2)
prune = nn.utils.prune
prune.global_unstructured([(a, 'weight'), (b, 'weight')], nn.utils.prune.L1Unstructured, amount=0.5)
prune.l1_unstructured(a, 'weight', amount=2)
result = a.weight_mask, b.weight_mask, b(a(x)), prune.is_pruned(a), list(a.state_dict())
"""),
        "containers": full("""
torch.manual_seed(2)
layers = nn.ModuleList([nn.Linear(4, 4), nn.Tanh()])
layers.append(nn.Linear(4, 2)); layers.insert(1, nn.ReLU())
named = nn.ModuleDict({'a': nn.Linear(4, 4), 'b': nn.Identity()}); named.update({'c': nn.Linear(4, 1)})
values = nn.ParameterList([torch.ones(2), nn.Parameter(torch.zeros(3))]); values.append(torch.ones(1))
table = nn.ParameterDict({'p': torch.ones(2)}); table['q'] = nn.Parameter(torch.full((2,), 2.0))
z = x
for layer in layers:
    z = layer(z)
for name, layer in named.items():
    x = layer(x) if name != 'c' else x
result = z, x, repr(layers), repr(named), repr(values), repr(table), [len(c) for c in (layers, named, values, table)]
"""),
        "containers changed": full("""
torch.manual_seed(3)
layers = nn.ModuleList(nn.Linear(4, n) for n in (4, 3, 2))
layers.extend([nn.ReLU(), nn.Tanh()])
last = layers.pop(-1)
del layers[1]
layers[1] = nn.Linear(4, 1)
named = nn.ModuleDict([('a', nn.Linear(4, 3)), ('b', layers[0])])
popped = named.pop('a')
named['d'] = last
joined = nn.ModuleList([layers[0]]) + layers[-2:]
result = (
    [layer(x) for layer in layers], [type(layer).__name__ for layer in layers[:2]], popped(x), list(named), 'a' in named,
    list(layers.state_dict()), list(named.state_dict()), len(joined), [name for name, _ in joined.named_modules()],
)
"""),
        "parameter containers changed": full("""
values = nn.ParameterList([x.detach(), nn.Parameter(y.detach()), 'text'])
values.extend([v.detach()]); values[0] = torch.ones(4)
part = values[1:]
table = nn.ParameterDict([('a', x.detach()), ('b', 5)])
table.update({'c': nn.Parameter(v.detach(), requires_grad=False)})
table.setdefault('d', torch.zeros(2)); popped = table.pop('a')
both = table | nn.ParameterDict({'e': torch.ones(1)})
out = (values[0] * part[0]).sum() + (table['c'] * 2).sum()
out.backward()
result = (
    out.detach(), values[0].grad, part[0].grad, table['c'].grad, popped, table.get('b'), list(both), len(part),
    list(values.state_dict()), list(table.state_dict()), repr(values), repr(both), table.fromkeys(['u'], 1.0)['u'],
)
"""),
        "parameters of one's own": full("""
class Scaled(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.full((4,), 2.0))
        self.fixed = nn.Parameter(torch.ones(4), requires_grad=False)
        self.seen = nn.Buffer(torch.zeros(4))
        self.late = nn.UninitializedParameter(dtype=torch.float64)
        self.late_seen = nn.UninitializedBuffer(requires_grad=False)

    def forward(self, x):
        if nn.parameter.is_lazy(self.late):
            self.late.materialize(x.shape[-1:]); self.late_seen.materialize((2,), dtype=torch.int64)
            with torch.no_grad():
                self.late.fill_(0.5); self.late_seen.zero_()
        self.seen += x.detach().sum(0)
        return x * self.scale + self.fixed + self.late.float()

m = Scaled()
out = m(x)
out.backward(torch.ones_like(out))
m.seen = nn.Buffer(torch.ones(4), persistent=False)
result = (
    out.detach(), m.scale.grad, m.fixed.grad, m.late.grad, repr(m.fixed), m.late_seen, list(m.state_dict()),
    [n for n, _ in m.named_parameters()], [n for n, _ in m.named_buffers()], isinstance(m.seen, nn.Buffer),
    isinstance(m.scale, nn.Parameter), isinstance(m.scale.data, nn.Parameter), type(m.late).__name__,
)
"""),
    },
    variants={
        "bfloat16": full("""
        nn.Linear(4, 5, dtype=torch.bfloat16) <- t
        nn.Conv2d(4, 3, 2, dtype=torch.bfloat16) <- im
        nn.LayerNorm(4, dtype=torch.bfloat16) <- t
        nn.RMSNorm(4, dtype=torch.bfloat16) <- t
        nn.GroupNorm(2, 4, dtype=torch.bfloat16) <- im
        nn.BatchNorm2d(4) <- im
        nn.BatchNorm2d(4).bfloat16().eval() <- im
        nn.InstanceNorm2d(4) <- im
        nn.Embedding(5, 3, dtype=torch.bfloat16) <- i
        nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 2)).bfloat16() <- t
        nn.MaxPool2d(2) <- im
        nn.Sigmoid() <- x
        nn.Tanh() <- x
        nn.SiLU() <- x
        nn.Mish() <- x
        nn.SELU() <- x
        nn.LogSigmoid() <- x
        nn.Softsign() <- x
        nn.Tanhshrink() <- x
        nn.Softplus() <- x
        nn.Hardswish() <- t
        nn.Hardsigmoid() <- t
        nn.Softmin(1) <- t
        nn.LogSoftmax(1) <- t
        nn.PReLU(dtype=torch.bfloat16) <- t
        nn.GLU() <- t
        nn.CosineSimilarity() <- x, y
        nn.PairwiseDistance() <- x, y
        nn.Bilinear(3, 4, 5, dtype=torch.bfloat16) <- l1, l2
        nn.LocalResponseNorm(2) <- b3
        nn.EmbeddingBag(5, 3, dtype=torch.bfloat16) <- i
        nn.LazyInstanceNorm1d(affine=True) <- b3
        """),
        "float16": full("""
        nn.RMSNorm(4, dtype=torch.float16) <- t
        nn.GroupNorm(2, 4, dtype=torch.float16) <- im
        nn.ReLU6() <- t
        nn.SELU() <- t
        nn.LeakyReLU(0.3) <- t
        nn.Linear(4, 5, dtype=torch.float16) <- t
        nn.ReLU() <- t
        nn.LayerNorm(4, dtype=torch.float16) <- t
        nn.Softmax(1) <- t
        nn.GELU() <- t
        """),
        "float64": full("""
        nn.LSTM(4, 3, 2, bidirectional=True).double() <- seq, (h2, c2)
        nn.MultiheadAttention(6, 2).double() <- q, kv, kv
        nn.BatchNorm2d(4).double() <- im
        nn.TransformerEncoderLayer(6, 2, 8, dropout=0.0).double() <- q
        nn.TransformerDecoder(nn.TransformerDecoderLayer(6, 2, 8, 0.0), 2).double() <- q, kv
        nn.Mish() <- x
        nn.LazyBatchNorm3d(dtype=torch.float64) <- vol
        nn.GRUCell(4, 3, dtype=torch.float64) <- step, hs
        nn.RMSNorm(4, dtype=torch.float64) <- x
        nn.Bilinear(3, 4, 5, dtype=torch.float64) <- l1, l2
        """),
    },
    exact={
        full("nn.LayerNorm(4, dtype=torch.bfloat16) <- t [bfloat16]"): "gradient of t 2.2, here 0.23",
        full("nn.GroupNorm(2, 4, dtype=torch.bfloat16) <- im [bfloat16]"): "gradient of im 3.3, here 0.24",
        full("nn.InstanceNorm2d(4) <- im [bfloat16]"): "gradient of im 15, here 0.22",
        full("nn.Softmin(1) <- t [bfloat16]"): "gradient of t 1.3, here 0.19",
        full("nn.LogSoftmax(1) <- t [bfloat16]"): "gradient of t 2.6, here 0.18",
        full("nn.CosineSimilarity() <- x, y [bfloat16]"): "gradient of y 18, here 0.17",
        full("nn.Bilinear(3, 4, 5, dtype=torch.bfloat16) <- l1, l2 [bfloat16]"): "gradient of l2 6.2, here 0.22",
        full("nn.GroupNorm(2, 4, dtype=torch.float16) <- im [float16]"): "gradient of im 5.5, here 0.48",
        full("nn.LayerNorm(4, dtype=torch.float16) <- t [float16]"): "gradient of the weight 2.2, here 0.43",
    },
    eager_only={
        "parametrize": "modules are made and changed inside it",
        "functional_call": "a module is made inside it",
        "clip": "gradients are taken inside it",
        "global pruning": "modules are made inside it",
        "containers": "modules are made inside it",
        "containers changed": "modules are made inside it",
        "parameter containers changed": "parameters are made inside it",
        "parameters of one's own": "a module is made inside it",
        full("nn.Tanhshrink() <- x") + " [bfloat16]": "tanh is not rounded before it is taken off, so x's digits are kept",
        full("z = x.detach().clone(); nn.utils.vector_to_parameters(torch.arange(12.), [z]); z"): "data is assigned",
        **{
            full(line): _RANDOM
            for line in (
                "nn.RReLU(0.1, 0.3) <- x", "nn.Dropout(0.3) <- x", "nn.Dropout1d(0.4) <- b3", "nn.Dropout2d(0.4) <- im",
                "nn.Dropout3d(0.4) <- vol", "nn.AlphaDropout(0.3) <- x", "nn.FeatureAlphaDropout(0.3) <- im",
            )
        },
    },
)  # fmt: skip
