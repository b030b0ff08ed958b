"""`optimize_for_inference`: what it folds and replaces, what it leaves, and the error it reports."""

from __future__ import annotations

import numpy as np
import pytest

import vitrify as torch
import vitrify.nn as nn
import vitrify.nn.functional as F


def r(*shape: int) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(sum(shape)).normal(size=shape).astype(np.float32))


def trained(net: nn.Module, *shape: int) -> nn.Module:
    """With statistics and weights in its batch norms that do something."""
    for module in net.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.affine:
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.5, 0.5)
    with torch.no_grad():
        for _ in range(3):
            net.train()(r(*shape))
    return net.eval()


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(4, 4, 3, padding=1, bias=False)
        self.first_norm = nn.BatchNorm2d(4)
        self.second = nn.Conv2d(4, 4, 3, padding=1)
        self.second_norm = nn.BatchNorm2d(4, affine=False)
        self.shared_norm = nn.BatchNorm2d(4)
        self.drop = nn.Dropout2d()

    def forward(self, x):
        x = F.relu(self.first_norm(self.first(x)))
        y = self.second(x)
        y = self.second_norm(y) + y  # what the convolution gives is read twice: stays
        y = self.shared_norm(y)
        return self.drop(self.shared_norm(y))


@pytest.mark.parametrize(
    "make, shape, folded",
    [
        (lambda: nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU()), (2, 3, 6, 6), {"1": "0"}),
        (lambda: nn.Sequential(nn.Conv1d(4, 6, 3, groups=2), nn.BatchNorm1d(6)), (2, 4, 6), {"1": "0"}),
        (lambda: nn.Sequential(nn.ConvTranspose2d(3, 4, 3, stride=2), nn.BatchNorm2d(4)), (2, 3, 4, 4), {"1": "0"}),
        (lambda: nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Tanh()), (5, 3), {"1": "0"}),
        (lambda: nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 4)), (5, 3), {}),
        (Residual, (2, 4, 5, 5), {"first_norm": "first"}),
    ],
    ids=["conv", "groups", "transposed", "linear", "before", "residual"],
)  # fmt: skip
def test_batch_norms_are_folded(make, shape, folded):
    net = trained(make(), *shape)
    x = r(*shape)
    fast = torch.optimize_for_inference(net, x)
    assert fast.optimization.folded == folded
    with torch.no_grad():
        wanted = net(x).numpy()
        np.testing.assert_allclose(fast(x).numpy(), wanted, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(torch.compile(fast)(x).numpy(), wanted, rtol=1e-4, atol=1e-5)
    assert fast.optimization.errors[0].largest < 1e-5
    assert not any(p.requires_grad for p in fast.parameters()) and not fast.training


class Words(nn.Module):
    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(50, 32)
        self.tied = nn.Embedding(50, 32)
        self.inner = nn.Sequential(nn.Linear(32, 64), nn.GELU(), nn.Linear(64, 32, bias=False))
        self.lstm = nn.LSTM(32, 32, batch_first=True)

    def forward(self, tokens):
        x = self.words(tokens) + self.tied(tokens)
        return self.lstm(self.inner(x))[0][:, -1] @ self.tied.weight.T


@pytest.mark.parametrize("options, worst", [({"precision": "bf16"}, 0.02), ({"precision": "int8"}, 0.04),
                                            ({"precision": "int8", "activations": "float"}, 0.03)],
                         ids=["bf16", "int8", "weights"])  # fmt: skip
def test_short_weights(options, worst):
    torch.manual_seed(0)
    net = Words().eval()
    samples = [(torch.tensor([[3, 5, 7]]),), (torch.tensor([[1, 2, 3, 4], [5, 6, 7, 49]]),)]
    fast = torch.optimize_for_inference(net, samples, **options)
    found = fast.optimization
    assert set(found.replaced) == {"words", "inner.0", "inner.2"} and found.samples == 2
    assert found.left == {
        "tied": "its weight is also read in the model itself", "lstm": "there is no short form of LSTM",
    }  # fmt: skip
    (error,) = found.errors
    assert 0 < error.relative < worst
    with torch.no_grad():
        largest = max(float((fast(*s) - net(*s)).abs().max()) for s in samples)
        assert largest == pytest.approx(error.largest)
        for sample in samples:
            np.testing.assert_allclose(
                torch.compile(fast)(*sample).numpy(), fast(*sample).numpy(), rtol=2e-2, atol=2e-3
            )
    stored = 4 if options["precision"] == "int8" else 2
    assert fast.inner[0].weight.element_size() * stored == 4
    assert found.bytes_after < found.bytes_before
    text = str(found)
    assert (
        "left                lstm: there is no short form of LSTM" in text
        and "measured on         2 calls" in text
    )


def test_what_was_folded_exports(tmp_path):
    net = trained(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout()), 2, 3, 5, 5)
    x = r(2, 3, 5, 5)
    fast = torch.optimize_for_inference(net, x)
    assert not any(m.training for m in fast.modules())
    torch.export(fast, x, tmp_path / "net.so")


def test_exported_files_are_small(tmp_path):
    net = nn.Sequential(nn.Linear(500, 400), nn.ReLU(), nn.Linear(400, 4)).eval()
    x = r(1, 500)
    fast = torch.optimize_for_inference(net, x, precision="int8")
    torch.export(fast, x, tmp_path / "net.so")
    assert (tmp_path / "net.so").stat().st_size < 300_000  # 806 kB in float32
    with torch.no_grad():
        np.testing.assert_allclose(
            torch.load_exported(tmp_path / "net.so")(x).numpy(), fast(x).numpy(), atol=1e-5
        )
        pytest.importorskip("onnx", reason="the onnx package is not installed")
        proto = torch.onnx.export(fast, x)
        assert len(proto.SerializeToString()) < 220_000
        np.testing.assert_allclose(torch.onnx.load(proto)(x).numpy(), fast(x).numpy(), atol=1e-5)


def test_layers_that_share_a_weight():
    words = nn.Embedding(30, 16)
    head = nn.Linear(16, 30, bias=False)
    head.weight = words.weight
    net = nn.Sequential(words, nn.Tanh(), head)
    fast = torch.optimize_for_inference(net, torch.tensor([[1, 2]]), precision="int8")
    assert fast.optimization.replaced == {"0": "ShortEmbedding", "2": "Int8Linear"}
    assert fast.optimization.bytes_before == 30 * 16 * 4 and fast.optimization.errors[0].relative < 0.03


def test_one_row_and_several_agree():
    layer = nn.Linear(20, 6)
    fast = torch.optimize_for_inference(layer, r(1, 20), precision="int8")[0]
    rows = r(5, 20)
    with torch.no_grad():
        one_by_one = torch.cat([fast(row[None]) for row in rows])
        np.testing.assert_allclose(fast(rows).numpy(), one_by_one.numpy(), rtol=1e-5, atol=1e-6)
        assert fast(rows[0]).shape == (6,)
        assert float((fast(rows) - layer(rows)).abs().max()) < 0.05


def test_convolutions_store_short_weights_and_state_dicts_load(tmp_path):
    net = trained(nn.Sequential(nn.Conv2d(3, 8, 3, padding="same"), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(),
                                nn.Linear(512, 4)), 2, 3, 8, 8)  # fmt: skip
    x = r(2, 3, 8, 8)
    fast = torch.optimize_for_inference(net, x, precision="int8")
    assert fast.optimization.folded == {"1": "0"} and fast.optimization.errors[0].relative < 0.02
    torch.save(fast.state_dict(), tmp_path / "small.pt")
    assert (tmp_path / "small.pt").stat().st_size < 8000  # 2.3 kB of weights
    nn.init.zeros_(net[4].weight)
    other = torch.optimize_for_inference(net, x, precision="int8")
    other.load_state_dict(torch.load(tmp_path / "small.pt"))
    with torch.no_grad():
        assert torch.equal(other(x), fast(x))


INTEGER_CONVOLUTIONS = [
    (nn.Conv2d(3, 8, 5, 2, 2), (2, 3, 17, 15)),
    (nn.Conv2d(8, 20, 1), (3, 8, 7, 7)),
    (nn.Conv2d(7, 5, 3, padding="same", bias=False), (1, 7, 6, 20)),
    (nn.Conv2d(16, 8, (3, 2), (1, 2), (2, 0), dilation=2, groups=4), (2, 16, 11, 9)),
    (nn.Conv2d(4, 4, 4, padding="same"), (1, 4, 9, 9)),
    (nn.Conv1d(5, 6, 3, padding=1), (2, 5, 40)),
    (nn.Conv3d(4, 6, 3, padding=1), (1, 4, 5, 6, 7)),
]


@pytest.mark.parametrize("layer, shape", INTEGER_CONVOLUTIONS, ids=lambda x: str(x))
def test_convolutions_of_integers(layer, shape):
    """Eager, compiled for any number of threads, and of each image alone: the same sums."""
    torch.manual_seed(0)
    x = torch.randn(shape)
    fast = torch.optimize_for_inference(layer, x, precision="int8")
    assert fast.optimization.replaced == {"0": "Int8Conv"}
    assert 0 < fast.optimization.errors[0].relative < 0.02
    with torch.no_grad():
        eager, compiled = fast(x), torch.compile(fast)
        before = torch.get_num_threads()
        try:
            for threads in (1, 2, 3):
                torch.set_num_threads(threads)
                np.testing.assert_allclose(compiled(x).numpy(), eager.numpy(), rtol=1e-6, atol=1e-6)
        finally:
            torch.set_num_threads(before)
        for image, found in zip(x, eager):
            np.testing.assert_allclose(fast(image).numpy(), found.numpy(), rtol=1e-6, atol=1e-6)


def test_convolutions_that_stay_float_inside():
    net = nn.Sequential(
        nn.Conv2d(6, 6, 3, groups=6), nn.Conv2d(6, 4, 3, groups=2), nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect")
    ).eval()  # fmt: skip
    found = torch.optimize_for_inference(net, r(1, 6, 9, 9), precision="int8").optimization
    assert set(found.replaced.values()) == {"ShortConv"} and found.errors[0].relative < 0.02


def test_an_image_of_zeros_and_one_batch_of_very_different_images():
    torch.manual_seed(0)
    layer = nn.Conv2d(4, 3, 3, padding=1)
    x = torch.randn(3, 4, 8, 8) * torch.tensor([1e-6, 1.0, 1e6]).reshape(3, 1, 1, 1)
    fast = torch.optimize_for_inference(layer, x, precision="int8")
    with torch.no_grad():
        np.testing.assert_array_equal(
            fast(x * 0).numpy(), np.broadcast_to(layer.bias.detach().numpy()[:, None, None], (3, 3, 8, 8))
        )
        for image in x:
            want = layer(image)
            assert float((fast(image) - want).abs().max()) < 0.02 * float(want.abs().max())


def test_integer_convolutions_export_to_onnx():
    pytest.importorskip("onnx", reason="the onnx package is not installed")
    net, x = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 4, 1)).eval(), r(2, 3, 9, 9)
    fast = torch.optimize_for_inference(net, x, precision="int8")
    proto = torch.onnx.export(fast, x)
    assert [n.op_type for n in proto.graph.node].count("ConvInteger") == 2
    with torch.no_grad():
        np.testing.assert_allclose(torch.onnx.load(proto)(x).numpy(), fast(x).numpy(), rtol=1e-5, atol=1e-5)


def test_wrong_arguments():
    with pytest.raises(ValueError, match="there are fp32, bf16, int8"):
        torch.optimize_for_inference(nn.Identity(), r(1), precision="int4")
    with pytest.raises(ValueError, match="activations='int8'"):
        torch.optimize_for_inference(nn.Identity(), r(1), activations="int8")
    with pytest.raises(ValueError, match="at least one sample"):
        torch.optimize_for_inference(nn.Identity(), [])
    with pytest.raises(TypeError, match="takes a Module, got function"):
        torch.optimize_for_inference(lambda x: x, r(1))
