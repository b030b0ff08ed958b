"""`vitrify.onnx.export`: checked by onnx.checker, read back by our loader, run by ONNX Runtime where it is there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import vitrify as torch
import vitrify.nn as nn
import vitrify.nn.functional as F

onnx = pytest.importorskip("onnx", reason="the onnx package is not installed")

from vitrify.onnx import ONNXError  # noqa: E402

BATCH = {0: torch.Dim("batch", 1, 16)}


class LastStep(nn.Module):
    def __init__(self, layer):
        super().__init__()
        self.layer = layer
        self.head = nn.Linear(layer.hidden_size * (1 + layer.bidirectional), 2)

    def forward(self, x):
        return self.head(self.layer(x)[0][:, -1])


class Packed(nn.Module):
    """Sequences of 5, 4 and 2 steps, which ONNX's own layers cannot tell apart: loops."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        packed = nn.utils.rnn.pack_padded_sequence(x, [5, 4, 2], batch_first=True)
        y, state = self.layer(packed)
        return nn.utils.rnn.pad_packed_sequence(y, batch_first=True)[0], state


class WithState(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.LSTM(3, 4, num_layers=2)

    def forward(self, x, h, c):
        y, (h, c) = self.layer(x, (h, c))
        return y, h, c


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(4, 4, 3, padding=1, groups=2, bias=False)
        self.norm = nn.BatchNorm2d(4)
        self.down = nn.Conv2d(4, 6, 3, stride=2, dilation=2, padding=2)
        self.head = nn.Linear(6, 3)
        self.norm.running_mean.copy_(torch.tensor([0.1, -0.2, 0.3, 0.0]))

    def forward(self, x):
        x = F.relu(self.norm(self.conv(x)) + x)
        x = F.max_pool2d(self.down(x), 3, 2, ceil_mode=True)
        return self.head(F.adaptive_avg_pool2d(x, 1).flatten(1))


class TinyBert(nn.Module):
    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(20, 8, padding_idx=0)
        self.places = nn.Embedding(10, 8)
        self.layer = nn.TransformerEncoderLayer(
            8, 2, 16, activation="gelu", batch_first=True, norm_first=True
        )

    def forward(self, tokens):
        x = self.words(tokens) + self.places(torch.arange(tokens.shape[1]))
        x = self.layer(x, src_key_padding_mask=tokens == 0)
        there = (tokens != 0).unsqueeze(-1)
        return (x * there).sum(1) / there.sum(1).clamp(min=1)


def r(*shape: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(sum(shape)).normal(size=shape).astype(np.float32))


WAVE = torch.complex(r(5), r(5))
TOKENS = torch.tensor([[1, 2, 3, 4], [5, 6, 0, 0], [7, 8, 9, 0]])
BOTH = {0: torch.Dim("batch", 1, 16), 1: torch.Dim("length", 2, 10)}

MODELS: dict[str, tuple[Callable[[], Any], tuple[Any, ...], dict[str, Any]]] = {
    "mlp": (
        lambda: nn.Sequential(nn.Linear(5, 7), nn.GELU(), nn.LayerNorm(7), nn.Linear(7, 3), nn.LogSoftmax(1)),
        (r(4, 5),), {"input": BATCH},
    ),
    "residual": (Residual, (r(2, 4, 9, 9),), {"x": BATCH}),
    "any height": (
        lambda: nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.PReLU(4), nn.MaxPool2d(2), nn.Conv2d(4, 2, 1)),
        (r(2, 3, 8, 8),), {"input": {0: torch.Dim("batch", 1, 16), 2: 2 * torch.Dim("half", 1, 50)}},
    ),
    "bert": (TinyBert, (TOKENS,), {"tokens": BOTH}),
    "lstm": (lambda: LastStep(nn.LSTM(3, 4, num_layers=2, batch_first=True)), (r(2, 5, 3),), {"x": BATCH}),
    "both ways": (lambda: LastStep(nn.LSTM(3, 4, bidirectional=True, batch_first=True)), (r(2, 5, 3),), {}),
    "gru": (lambda: LastStep(nn.GRU(3, 4, batch_first=True)), (r(2, 5, 3),), {"x": BATCH}),
    "gru without bias": (lambda: LastStep(nn.GRU(3, 4, bias=False, batch_first=True)), (r(2, 5, 3),), {}),
    "rnn": (lambda: LastStep(nn.RNN(3, 4, nonlinearity="relu", batch_first=True)), (r(2, 5, 3),), {}),
    "state": (WithState, (r(5, 2, 3), r(2, 2, 4), r(2, 2, 4)), {}),
    "packed": (lambda: Packed(nn.LSTM(3, 4, proj_size=2, batch_first=True)), (r(3, 5, 3),), {}),
    "packed both ways": (lambda: Packed(nn.GRU(3, 4, bidirectional=True, batch_first=True)), (r(3, 5, 3),), {}),
    "decoder": (
        lambda: nn.Sequential(nn.ConvTranspose2d(3, 4, 3, stride=2, padding=1, output_padding=1), nn.InstanceNorm2d(4),
                              nn.GroupNorm(2, 4), nn.Upsample(scale_factor=2), nn.ReflectionPad2d(1), nn.Tanh()),
        (r(2, 3, 5, 5),), {},
    ),
    "attention": (lambda: nn.MultiheadAttention(8, 2, batch_first=True), (r(2, 4, 8),) * 3, {}),
}  # fmt: skip

FUNCTIONS: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
    "elementwise": (lambda x: (x.exp().log1p() * x.sin() / (x.abs() + 1).rsqrt()).erf() - x.expm1(), (r(3, 4),)),
    "activations": (
        lambda x: F.silu(x) + F.elu(x) + F.celu(x, 0.7) + F.leaky_relu(x) + F.hardswish(x) + F.hardsigmoid(x) + F.mish(x)
        + F.softplus(x, 2) + F.relu6(x) + F.selu(x) + F.gelu(x, approximate="tanh") + F.softshrink(x),
        (r(3, 4),),
    ),
    "rounding": (lambda x: x.round() + 2 * x.trunc() + 3 * x.floor() + x % 1.5 + (x // 0.7) + x.ceil(), (r(3, 4) * 5,)),
    "whole numbers": (
        lambda x: (x % 3 + x // 3, torch.div(x, 3, rounding_mode="trunc"), -x, x & 5, ~x, x.sign()),
        (torch.arange(-6, 6).reshape(3, 4),),
    ),
    "comparisons": (
        lambda x: (x > 0, (x <= 0.5) & ~(x != x[0]), torch.where(x < 0, x, 0.0), (x > 0).any(1), (x > -5).all(),
                   torch.isfinite(x / 0), x.isnan()),
        (r(3, 4),),
    ),
    "reductions": (
        lambda x: (x.sum(), x.mean((0, 2)), x.amax(1, keepdim=True), x.var(2), x.argmax(1), x.min(0).values, x.norm(),
                   x.logsumexp(1), x.cumsum(1), x.prod(2), (x > 0).sum(0), x.std()),
        (r(2, 3, 4),),
    ),
    "shapes": (
        lambda x: (x.flip(0, 2), x[:, ::2, 1:], x.transpose(0, 2).flatten(1), torch.cat([x, -x], 1), x.roll(1, 2),
                   F.pad(x, (1, 2)), x.unfold(2, 2, 1),
                   torch.stack([x, x]), x[..., None].expand(-1, -1, -1, 2), x.tril(),
                   x.repeat(1, 2, 1), x.reshape(-1), torch.meshgrid(x[0, 0], x[0, 1], indexing="ij")[0]),
        (r(2, 3, 4),),
    ),
    "indexing": (
        lambda x, i: (x[i], x[:, i], x.gather(0, i[None, :].expand(2, -1)), x.index_add(0, i[:2], x[:2]),
                      torch.zeros(3, 3).scatter(0, i[None, :3], x[:1, :3]), x.topk(2, dim=1), x.sort(1, descending=True),
                      F.one_hot(i, 4), F.embedding(i, x)),
        (r(3, 4), torch.tensor([0, 2, 1])),
    ),
    "searching": (
        lambda x, i: (torch.searchsorted(x[0].sort().values, x), torch.bucketize(i, torch.arange(3), right=True),
                      torch.unique(i, return_inverse=True, return_counts=True), torch.unique(i), torch.atan2(x, -x[0]),
                      torch.linalg.det(x[:, :3]), F.max_pool1d(x[None], 2, return_indices=True), (i << i, i - 9 >> 1),
                      x.repeat_interleave(2, 1), x.repeat_interleave(i[0, :3], 0)),
        (r(3, 4), torch.tensor([[0, 2, 1, 2], [70, 0, 0, 1]])),
    ),
    "transforms": (
        lambda x, v: (torch.fft.rfft(x).abs(), torch.fft.irfft(torch.fft.rfft(x, norm="ortho") * WAVE, 8, norm="ortho"),
                      torch.fft.ifft(torch.fft.fft(x, dim=0), norm="forward").real, torch.fft.irfft2(torch.fft.rfft2(x)),
                      torch.stft(v, 8, 2, window=torch.hann_window(8), return_complex=True).abs().log1p(),
                      torch.istft(torch.stft(v, 8, return_complex=True), 8), torch.fft.irfft(torch.fft.rfft(v[:7]), 7)),
        (r(2, 3, 8), r(24)),
    ),
    "complex numbers": (
        lambda x: (torch.view_as_real(torch.complex(x, x + 1) * torch.polar(x.abs(), x).conj() / (2 + 1j)),
                   torch.view_as_real(torch.cat([torch.complex(x, x), torch.complex(x, -x).flip(1)], 1)[:, 1:].sum(0)),
                   torch.complex(x, -x).angle(), torch.view_as_real(torch.complex(x, x + 1) @ torch.complex(x, x).mT)),
        (r(3, 4),),
    ),
    "writing": (lambda x: _written(x), (r(4, 5),)),
    "pools": (
        lambda x: (F.max_pool2d(x, 3, 2, padding=1), F.avg_pool2d(x, 3, 2, padding=1, count_include_pad=False),
                   F.max_pool2d(x, 2, 2, ceil_mode=True), F.adaptive_max_pool2d(x, 1), F.avg_pool2d(x, 2),
                   F.interpolate(x, size=(6, 5), mode="bilinear"), F.pixel_shuffle(x, 2)),
        (r(1, 4, 7, 7),),
    ),
    "products": (
        lambda x, y: (x @ y, torch.einsum("bij,bjk->ki", x, y), torch.bmm(x, y), F.scaled_dot_product_attention(x, x, x),
                      F.cosine_similarity(x, x + 1), torch.linalg.vector_norm(x, dim=1), F.normalize(x, dim=2),
                      F.rms_norm(x, (4,))),
        (r(2, 3, 4), r(2, 4, 5)),
    ),
    "losses": (
        lambda x, t: (F.cross_entropy(x, t), F.mse_loss(x, x + 1), F.smooth_l1_loss(x, x * 2),
                      F.kl_div(x, F.softmax(x, 1))),
        (r(3, 4), torch.tensor([0, 3, 1])),
    ),
}  # fmt: skip


def _written(x: torch.Tensor) -> torch.Tensor:
    x = x.clone()
    x[1:3, 2:] = 0.5
    x[::2, 1] += 1
    x[torch.tensor([0, 3])] = x[1]
    return x


def flat(value: Any) -> list[np.ndarray[Any, Any]]:
    if isinstance(value, list | tuple):
        return [a for v in value for a in flat(v)]
    return [] if value is None else [value.numpy()]


def check(run: Callable[..., Any], proto: Any, args: tuple[Any, ...]) -> None:
    """Our loader's Module, and ONNX Runtime, compute what the model does."""
    expected = flat(run(*args))
    results = {"loaded": flat(torch.onnx.load(proto)(*args))}
    try:
        import onnxruntime
    except ImportError:
        pass
    else:
        session = onnxruntime.InferenceSession(proto.SerializeToString())
        names = [i.name for i in session.get_inputs()]
        results["onnxruntime"] = session.run(None, {n: a.numpy() for n, a in zip(names, args)})
    for arrays in results.values():
        for found, wanted in zip(arrays, expected, strict=True):
            assert found.dtype == wanted.dtype and found.shape == wanted.shape
            np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


@pytest.fixture(autouse=True)
def inference():
    with torch.no_grad():
        yield


@pytest.mark.parametrize("name", MODELS)
def test_model(name):
    make, args, dynamic = MODELS[name]
    torch.manual_seed(0)
    net = make().eval()
    proto = torch.onnx.export(net, args, dynamic_shapes=dynamic)
    check(net, proto, args)
    if dynamic:  # the same file for another batch
        for batch in (1, 5):
            other = tuple(a.repeat(3, *[1] * (a.ndim - 1))[:batch] for a in args)
            check(net, proto, other)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_function(name):
    fn, args = FUNCTIONS[name]
    check(fn, torch.onnx.export(fn, args), args)


def test_names_and_nodes_read_well():
    net = nn.Sequential(nn.Linear(5, 7), nn.ReLU(), nn.Linear(7, 3)).eval()
    proto = torch.onnx.export(
        net, r(4, 5), input_names=["x"], output_names=["scores"], dynamic_shapes={"input": BATCH}
    )
    assert [(n.op_type, n.name) for n in proto.graph.node] == [
        ("Gemm", "/0/Gemm"), ("Relu", "/1/Relu"), ("Gemm", "/2/Gemm"),
    ]  # fmt: skip
    assert {t.name for t in proto.graph.initializer} == {"0.weight", "0.bias", "2.weight", "2.bias"}
    assert [i.name for i in proto.graph.input] == ["x"] and [o.name for o in proto.graph.output] == ["scores"]
    assert proto.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"
    again = torch.onnx.load(proto)
    assert sorted(n for n, _ in again.named_parameters()) == ["0.bias", "0.weight", "2.bias", "2.weight"]


def test_shapes_are_computed_from_symbolic_dims():
    def fn(x):
        rows, columns = x.shape
        places = torch.arange(rows)[:, None] * torch.ones(columns // 2)
        return x.reshape(rows // 2, 2 * columns), places, x[rows // 2 :], torch.zeros(rows + columns, 3)

    rows, columns = 2 * torch.Dim("rows", 1, 9), 2 * torch.Dim("columns", 1, 9)
    proto = torch.onnx.export(fn, r(4, 6), dynamic_shapes={"x": {0: rows, 1: columns}})
    for shape in ((4, 6), (2, 2), (8, 10)):
        check(fn, proto, (r(*shape),))


def test_a_call_as_older_programs_write_it(tmp_path):
    net = nn.Bilinear(3, 4, 2).eval()
    axes = {"left": {0: "batch size"}, "right": {0: "batch size"}, "out": {0: "batch size"}}
    with pytest.warns(UserWarning, match="operator set 18 is written"):
        proto = torch.onnx.export(
            net, (r(5, 3), r(5, 4)), str(tmp_path / "net.onnx"), export_params=True, opset_version=11,
            do_constant_folding=True, input_names=["left", "right"], output_names=["out"], dynamic_axes=axes,
        )  # fmt: skip
    assert proto.opset_import[0].version == 18
    assert proto.graph.output[0].type.tensor_type.shape.dim[0].dim_param == "batch_size"
    check(net, proto, (r(7, 3), r(7, 4)))
    proto = torch.onnx.export(nn.Tanh().eval(), r(2, 3), dynamic_axes={"input": [1]})
    check(nn.Tanh(), proto, (r(2, 5),))


def test_files(tmp_path):
    net = nn.Linear(300, 4).eval()
    x = r(2, 300)
    for external in (False, True):
        for _ in range(2):  # written over
            torch.onnx.export(net, x, tmp_path / "m.onnx", external_data=external)
        assert np.allclose(torch.onnx.load(tmp_path / "m.onnx")(x).numpy(), net(x).numpy(), atol=1e-6)
    assert (tmp_path / "m.onnx.data").stat().st_size < 10_000


def test_what_cannot_be_written_is_listed_at_once():
    def fn(x):
        return torch.linalg.inv(x) + torch.special.i0(x), torch.lgamma(x)

    with pytest.raises(
        ONNXError, match=r"(?s)nothing for.*i0 at test_onnx.*lgamma at .*linalg_inv at test_onnx_export"
    ):
        torch.onnx.export(fn, r(3, 3))
    with pytest.raises(
        torch.compiler.ExportError if hasattr(torch.compiler, "ExportError") else RuntimeError, match="eval"
    ):
        torch.onnx.export(nn.Dropout(), r(3))
    with pytest.raises(ONNXError, match=r"output is complex, .*view_as_real"):
        torch.onnx.export(torch.fft.fft, r(4))
    with pytest.raises(ONNXError, match=r"linalg_inv of complex numbers"):
        torch.onnx.export(lambda x: torch.linalg.inv(torch.fft.fft(x)).abs(), r(3, 3))
    with pytest.raises(ValueError, match="18 to 23"):
        torch.onnx.export(nn.Identity().eval(), r(3), opset_version=24)
    with pytest.raises(NotImplementedError, match="with their parameters"):
        torch.onnx.export(nn.Identity().eval(), r(3), export_params=False)
    with pytest.raises(ValueError, match="input_names has 2 names"):
        torch.onnx.export(nn.Identity().eval(), r(3), input_names=["a", "b"])
