# ruff: noqa: E501  (a sample is one line)
"""`torch.nn.init`, `torch.nn.utils`, `torch.nn.parameter`, and the recurrent functions of `torch` itself."""

from __future__ import annotations

from .nn_shorthand import full
from .table import Family, given, normal

_MADE_INSIDE = "modules or parameters are made inside it"

FAMILY = Family(
    inputs={
        "x": normal(3, 4),
        "y": normal(3, 4),
        "w": normal(5, 4),
        "conv_w": normal(4, 3, 2, 2),
        "conv_b": normal(4),
        "mean": normal(4, grad=False),
        "var": given([0.5, 1.0, 2.0, 0.7]),
        "scale": normal(4),
        "shift": normal(4),
        "seq": normal(5, 2, 4),
        "h": normal(1, 2, 3),
        "h2": normal(2, 2, 3),
        "c2": normal(2, 2, 3),
        "g_ih": normal(9, 4),
        "g_hh": normal(9, 3),
        "g_b": normal(9),
        "l_ih": normal(12, 4),
        "l_hh": normal(12, 3),
        "l_b": normal(12),
        "r_ih": normal(3, 4),
        "r_hh": normal(3, 3),
        "r_b": normal(3),
        "step": normal(2, 4),
        "hs": normal(2, 3),
        "cs": normal(2, 3),
        "tbc": normal(6, 2, 3),
        "tbc_w": normal(2, 3, 4),
        "a": normal(6, 8),
        "b": normal(2, 8, 4),
        "ends": given([2, 6], "int32"),
        "order": given([2, 0, 1], "int64"),
    },
    samples=full("""
    z = x * 1; F.celu_(z)
    z = x * 1; F.selu_(z)
    F.grouped_mm(a, b, offs=ends)
    F.assert_int_or_pair(3, 'stride', '{} must be one or two'), F.assert_int_or_pair([1, 2], 'stride', '{}')
    torch.conv_tbc(tbc, tbc_w, conv_b)
    torch.conv_tbc(tbc, tbc_w, conv_b, 1)
    torch.gru(seq, h, [g_ih, g_hh, g_b, g_b], True, 1, 0.0, False, False, False)
    torch.gru(seq, h, [g_ih, g_hh], False, 1, 0.0, False, False, False)
    torch.lstm(seq, (h2, c2), [l_ih, l_hh, l_b, l_b, l_ih, l_hh, l_b, l_b], True, 1, 0.0, False, True, False)
    torch.lstm(seq.transpose(0, 1), (h, h), [l_ih, l_hh], False, 1, 0.0, False, False, True)
    torch.rnn_tanh(seq, h, [r_ih, r_hh, r_b, r_b], True, 1, 0.0, False, False, False)
    torch.rnn_tanh(seq, h2, [r_ih, r_hh, r_ih, r_hh], False, 1, 0.0, False, True, False)
    torch.rnn_relu(seq, h, [r_ih, r_hh, r_b, r_b], True, 1, 0.0, False, False, False)
    torch.rnn_relu(seq, h2, [r_ih, r_hh, r_ih, r_hh], False, 1, 0.0, False, True, False)
    torch.gru_cell(step, hs, g_ih, g_hh, g_b, g_b)
    torch.gru_cell(step, hs, g_ih, g_hh)
    torch.lstm_cell(step, (hs, cs), l_ih, l_hh, l_b, l_b)
    torch.lstm_cell(step, [hs, cs], l_ih, l_hh)
    torch.rnn_tanh_cell(step, hs, r_ih, r_hh, r_b, r_b)
    torch.rnn_tanh_cell(step, hs, r_ih, r_hh)
    torch.rnn_relu_cell(step, hs, r_ih, r_hh, r_b, r_b)
    torch.rnn_relu_cell(step, hs, r_ih, r_hh)
    torch.embedding_renorm_(w.detach().clone(), order, 1.0, 2.0)
    nn.utils.rnn.invert_permutation(order)
    nn.utils.rnn.PackedSequence(x, torch.tensor([2, 1])).data
    nn.factory_kwargs({'dtype': torch.float64, 'factory_kwargs': {'device': 'cpu'}})
    """),
    programs={
        "init": full("""
def made(*shape):
    return torch.zeros(*shape)

i = nn.init
torch.manual_seed(5)
result = [
    nn.init.uniform_(made(3, 4), -1, 2), nn.init.normal_(made(3, 4), 1, 2), nn.init.constant_(made(3), 2.5),
    nn.init.ones_(made(2)), nn.init.zeros_(torch.ones(2)), nn.init.eye_(made(3, 4)), nn.init.dirac_(made(4, 2, 3), 2),
    nn.init.xavier_uniform_(made(4, 3), 2.0), nn.init.xavier_normal_(made(4, 3)),
    nn.init.kaiming_uniform_(made(4, 3), mode='fan_out', nonlinearity='relu'), nn.init.kaiming_normal_(made(4, 3, 2), 0.1),
    nn.init.trunc_normal_(made(5, 4), 0.0, 1.0, -0.5, 0.5), nn.init.trunc_normal_(made(4), 1.0),
    nn.init.orthogonal_(made(4, 3)), nn.init.sparse_(made(6, 3), 0.4),
    [nn.init.calculate_gain(n) for n in ('linear', 'tanh', 'relu', 'selu')], nn.init.calculate_gain('leaky_relu', 0.2),
]
"""),
        "deprecated init": full("""
def made(*shape):
    return torch.zeros(*shape)

torch.manual_seed(6)
result = [
    nn.init.uniform(made(3)), nn.init.normal(made(3)), nn.init.constant(made(2), 3), nn.init.eye(made(2, 2)),
    nn.init.dirac(made(2, 2, 3)), nn.init.xavier_uniform(made(2, 3)), nn.init.xavier_normal(made(2, 3)),
    nn.init.kaiming_uniform(made(2, 3)), nn.init.kaiming_normal(made(2, 3)), nn.init.orthogonal(made(3, 3)),
    nn.init.sparse(made(4, 2), 0.5),
]
"""),
        "fused weights": full("""
cw, cb = nn.utils.fuse_conv_bn_weights(conv_w, conv_b, mean, var, 1e-5, scale, shift)
tw, tb = nn.utils.fuse_conv_bn_weights(conv_w.transpose(0, 1), None, mean, var, 1e-5, scale, shift, transpose=True)
lw, lb = nn.utils.fuse_linear_bn_weights(w[:4], None, mean, var, 1e-5, scale, shift)
result = cw.detach(), cb.detach(), tw.detach(), tb.detach(), lw.detach(), lb.detach()
"""),
        "old and skipped": full("""
p = x.detach().clone().requires_grad_()
(p ** 2).sum().backward()
total = nn.utils.clip_grad_norm([p], 1.0)
before = torch.get_rng_state()
m = nn.utils.skip_init(nn.Linear, 3, 2)
result = total, p.grad, m.weight.shape, bool((torch.get_rng_state() == before).all())
"""),
        "pruning": full("""
torch.manual_seed(4)
prune = nn.utils.prune
a, b = nn.Linear(4, 6), nn.Linear(6, 2)
nn.utils.prune.global_unstructured([(a, 'weight'), (b, 'weight')], nn.utils.prune.RandomUnstructured, amount=7)
nn.utils.prune.LnStructured.apply(a, 'weight', 1, 1, 0)
nn.utils.prune.RandomStructured.apply(b, 'weight', 1, 0)
nn.utils.prune.CustomFromMask.apply(b, 'bias', torch.tensor([1, 0]))
hook = next(iter(a._forward_pre_hooks.values()))
kinds = isinstance(hook, nn.utils.prune.PruningContainer), isinstance(hook[0], nn.utils.prune.BasePruningMethod), len(hook)
method = nn.utils.prune.L1Unstructured(2)
result = a.weight_mask, b.weight_mask, b.bias_mask, kinds, method.prune(x), nn.utils.prune.is_pruned(nn.Sequential(a))
"""),
        "parametrize": full("""
class Twice(nn.Module):
    def forward(self, t):
        return t * 2

class Parts(nn.Module):
    def forward(self, u, v):
        return u.unsqueeze(1) * v

    def right_inverse(self, t):
        return t[:, 0], t[0]

p = nn.utils.parametrize
a, b = nn.Linear(4, 3), nn.Linear(4, 3)
nn.utils.parametrize.register_parametrization(a, 'weight', Twice())
nn.utils.parametrize.register_parametrization(a, 'weight', Twice())
nn.utils.parametrize.transfer_parametrizations_and_params(a, b)
c = nn.Linear(4, 3)
nn.utils.parametrize.register_parametrization(c, 'weight', Parts())
entry = c.parametrizations.weight
result = (
    a(x), b(x) - b.bias + a.bias, c(x), list(a.state_dict()), list(c.state_dict()),
    nn.utils.parametrize.type_before_parametrizations(a).__name__,
    isinstance(entry, nn.utils.parametrize.ParametrizationList), entry.ntensors, entry.is_tensor, repr(c),
)
"""),
        "parameters": full("""
class Own(nn.Module):
    def __init__(self):
        super().__init__()
        self.kept = nn.Buffer(torch.ones(2))
        self.lost = nn.Buffer(torch.ones(1), persistent=False)
        self.late = nn.UninitializedParameter()
        self.late_buffer = nn.UninitializedBuffer()

m = Own()
before = repr(m.late), nn.parameter.is_lazy(m.late), nn.parameter.is_lazy(m.late_buffer)
m.late.materialize((2, 3)); m.late_buffer.materialize((4,))
after = type(m.late).__name__, m.late.shape, m.late.requires_grad, m.late_buffer.shape, nn.parameter.is_lazy(m.late)
result = list(m.state_dict()), before, after, sorted(n for n, _ in m.named_buffers())
"""),
        "attention backends": full("""
with nn.attention.sdpa_kernel([nn.attention.SDPBackend.MATH]):
    z = F.scaled_dot_product_attention(seq, seq, seq)
result = z, int(nn.attention.SDPBackend.FLASH_ATTENTION), nn.attention.SDPBackend.MATH.name
"""),
    },
    eager_only=dict.fromkeys(("init", "deprecated init", "fused weights", "old and skipped", "pruning", "parametrize", "parameters"), _MADE_INSIDE),
)  # fmt: skip
