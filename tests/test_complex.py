"""Complex tensors, beyond what a sample can say: memory that is shared, errors, gradients against differences, files."""

from __future__ import annotations

import io
import pickle
import warnings

import numpy as np
import pytest

import vitrify as torch
from vitrify.ir import dtypes
from vitrify.ir.builder import GraphBuilder
from vitrify.ir.interpreter import run
from vitrify.ir.parser import parse
from vitrify.ir.printer import to_text
from vitrify.ir.types import TensorType


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    rng = np.random.RandomState(seed)
    return torch.tensor(rng.standard_normal(shape) + 1j * rng.standard_normal(shape))


def test_parts_share_memory():
    z = torch.zeros(2, 3, dtype=torch.complex64)
    z.real.fill_(1)
    z.imag[0] = 2
    z.T.imag[2, 1] = 5
    torch.view_as_real(z)[1, 0, 0] = -1
    assert z.tolist() == [[1 + 2j, 1 + 2j, 1 + 2j], [-1, 1, 1 + 5j]]
    pairs = torch.zeros(3, 2)
    torch.view_as_complex(pairs)[1] = 3 - 4j
    assert pairs.tolist() == [[0, 0], [3, -4], [0, 0]]
    assert z.real.stride() == (6, 2) and z.imag.storage_offset() == 1


def test_parts_may_be_assigned():
    z = drawn(2, 2)
    z.real = torch.ones(2, 2, dtype=torch.float64)
    z.imag = torch.arange(2.0)
    assert z.tolist() == [[1, 1 + 1j], [1, 1 + 1j]]


def test_numpy_shares_memory():
    z = drawn(3)
    z.numpy()[0] = 7j
    assert z[0].item() == 7j
    assert torch.from_numpy(np.array([1j], np.complex64)).dtype is torch.complex64


REFUSED = [
    (lambda z: z < z, NotImplementedError, "\"lt_cpu\" not implemented for 'ComplexDouble'"),
    (lambda z: z // 2, NotImplementedError, "\"div_floor_cpu\" not implemented for 'ComplexDouble'"),
    (lambda z: z % 2, NotImplementedError, "\"remainder_cpu\" not implemented for 'ComplexDouble'"),
    (torch.floor, NotImplementedError, "floor is not supported for complex inputs"),
    (torch.round, NotImplementedError, "\"round_vml_cpu\" not implemented for 'ComplexDouble'"),
    (torch.relu, NotImplementedError, "clamp is not supported for complex types"),
    (torch.erf, NotImplementedError, "\"erf_vml_cpu\" not implemented for 'ComplexDouble'"),
    (lambda z: z.clamp(0, 1), NotImplementedError, "clamp is not supported for complex types"),
    (torch.sign, NotImplementedError, "Please use torch.sgn instead."),
    (lambda z: torch.maximum(z, z), RuntimeError, "maximum not implemented for complex tensors."),
    (lambda z: z.max(0), RuntimeError, "max(): does not support complex input"),
    (lambda z: z.argmax(), RuntimeError, "argmax(): does not support complex input"),
    (
        lambda z: z.softmax(0),
        NotImplementedError,
        "\"softmax_lastdim_kernel_impl\" not implemented for 'ComplexDouble'",
    ),
    (lambda z: float(z[0]), RuntimeError, "value cannot be converted to type double without overflow"),
    (lambda z: int(z[0]), RuntimeError, "value cannot be converted to type int64_t without overflow"),
    (
        lambda z: torch.imag(z.real),
        RuntimeError,
        "imag is not implemented for tensors with non-complex dtypes.",
    ),
    (
        lambda z: torch.view_as_real(z.real),
        RuntimeError,
        "view_as_real is only supported for complex tensors",
    ),
    (lambda z: torch.view_as_complex(z.abs()), RuntimeError, "Tensor must have a last dimension of size 2"),
    (lambda z: z.H, RuntimeError, "tensor.H is only supported on matrices (2-D tensors). Got 1-D tensor."),
    (
        lambda z: z.mH,
        RuntimeError,
        "tensor.mH is only supported on matrices or batches of matrices. Got 1-D tensor.",
    ),
    (lambda z: torch.ones(3).add_(z), RuntimeError, "can't be cast to the desired output type Float"),
    (lambda z: torch.tensor([1j], dtype=torch.float32), TypeError, "must be real number, not complex"),
    (lambda z: torch.arange(3, dtype=z.dtype), NotImplementedError, '"arange_cpu" not implemented'),
    (
        lambda z: torch.full((2,), 1j, dtype=torch.float32),
        RuntimeError,
        "value cannot be converted to type float without overflow",
    ),
    (
        lambda z: torch.complex(torch.ones(1), torch.ones(1, dtype=torch.float64)),
        RuntimeError,
        "Expected object of scalar type Float but got scalar type Double for second argument",
    ),
    (
        lambda z: z.clone().requires_grad_().sum().backward(),
        RuntimeError,
        "grad can be implicitly created only for real scalar outputs but got torch.complex128",
    ),
]


@pytest.mark.parametrize(("call", "error", "text"), REFUSED)
def test_refusals(call, error, text):
    with pytest.raises(error) as caught:
        call(drawn(3))
    assert text in str(caught.value)


FUNCTIONS = {
    "product": lambda z, w: z * w.conj(),
    "quotient": lambda z, w: z / w,
    "power": lambda z, w: z**w,
    "exp": lambda z, w: z.exp(),
    "tanh": lambda z, w: z.tanh(),
    "rsqrt": lambda z, w: z.rsqrt(),
    "log1p": lambda z, w: z.log1p(),
    "abs": lambda z, w: z.abs(),
    "angle": lambda z, w: z.angle(),
    "sgn": lambda z, w: z.sgn(),
    "parts": lambda z, w: z.real * w.imag,
    "mixed": lambda z, w: z * w.real,
    "matmul": lambda z, w: z @ w.mH,
    "prod": lambda z, w: z.prod(0),
    "var": lambda z, w: z.var(1),
    "norm": lambda z, w: torch.linalg.vector_norm(z, 3, dim=0),
    "inv": lambda z, w: torch.linalg.inv(z @ z.mH + torch.eye(2)),
    "svd": lambda z, w: torch.linalg.svdvals(z),
    "fft": lambda z, w: torch.fft.fft(z, 5),
    "irfft": lambda z, w: torch.fft.irfft(z, 5),
    "hfft": lambda z, w: torch.fft.hfft(z, norm="ortho"),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_gradients_match_differences(name: str):
    inputs = (drawn(2, 3, seed=1).requires_grad_(), drawn(2, 3, seed=2).requires_grad_())
    assert torch.autograd.gradcheck(FUNCTIONS[name], inputs)


@pytest.mark.parametrize("name", ["product", "quotient", "exp", "abs", "parts", "matmul", "irfft"])
def test_second_derivatives_match_differences(name: str):
    inputs = (drawn(2, 2, seed=1).requires_grad_(), drawn(2, 2, seed=2).requires_grad_())
    assert torch.autograd.gradgradcheck(FUNCTIONS[name], inputs)


def test_gradcheck_notices_a_missing_conjugate():
    class Wrong(torch.autograd.Function):
        @staticmethod
        def forward(ctx, z):
            ctx.save_for_backward(z)
            return z * z

        @staticmethod
        def backward(ctx, grad):
            (z,) = ctx.saved_tensors
            return grad * 2 * z

    with pytest.raises(RuntimeError, match="Jacobian mismatch"):
        torch.autograd.gradcheck(Wrong.apply, drawn(2).requires_grad_())


def test_gradients_of_real_leaves_are_real():
    x = torch.ones(3, requires_grad=True)
    ((x * 1j + 2) ** 2).real.sum().backward()
    assert x.grad.dtype is torch.float32
    assert x.grad.tolist() == [-2, -2, -2]


def test_gradient_nodes_have_pytorchs_names():
    z = drawn(2, 2).requires_grad_()
    names = {
        "ConjBackward0": z.conj(),
        "SelectBackward0": z.imag,
        "ViewAsRealBackward0": torch.view_as_real(z),
        "AngleBackward0": z.angle(),
        "SgnBackward0": z.sgn(),
        "AbsBackward0": z.abs(),
    }
    assert {name: type(t.grad_fn).__name__ for name, t in names.items()} == {name: name for name in names}


def test_pickles_and_checkpoints():
    z = drawn(2, 2)
    assert torch.equal(pickle.loads(pickle.dumps(z)), z)
    file = io.BytesIO()
    torch.save({"z": z}, file)
    file.seek(0)
    assert torch.equal(torch.load(file)["z"], z)


def test_complex_modules_train():
    torch.manual_seed(0)
    layer = torch.nn.Linear(3, 2, dtype=torch.complex64)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.05)
    x, wanted = drawn(8, 3).to(torch.complex64), drawn(8, 2, seed=3).to(torch.complex64)
    losses = []
    for _ in range(20):
        optimizer.zero_grad()
        loss = (layer(x) - wanted).abs().pow(2).mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 1.5


def test_conversion_to_real_keeps_the_real_part():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        z = torch.tensor([1 + 2j, -3j])
        assert z.real.tolist() == [1, 0]
        assert z.bool().tolist() == [True, True]


OPTIMIZERS = {
    "Adam": [1.464597 + 1.941435j, 0.100242 + 1.568238j],
    "RMSprop": [-1.80641 - 1.335898j, -4.099231 - 1.428362j],
    "Adagrad": [1.539416 + 2.016239j, 0.172407 + 1.643696j],
    "Adamax": [1.470883 + 1.947692j, 0.101205 + 1.575766j],
    "NAdam": [1.511049 + 1.987869j, 0.14369 + 1.615421j],
    "Rprop": [1.400052 + 1.876893j, 0.036157 + 1.503558j],
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizers_update_both_parts_by_themselves(name: str):
    """Parameters after three steps, as PyTorch 2.13.0 gives them."""
    rng = np.random.RandomState(0)
    z = torch.tensor(rng.randn(3) + 1j * rng.randn(3)).requires_grad_()
    w = torch.tensor(rng.randn(3) + 1j * rng.randn(3))
    options = {"momentum": 0.9} if name == "RMSprop" else {}
    optimizer = getattr(torch.optim, name)([z], lr=0.1, **options)
    for _ in range(3):
        optimizer.zero_grad()
        ((z * w).abs() ** 2 + (z - w).real).sum().backward()
        optimizer.step()
    np.testing.assert_allclose(z.detach().numpy()[:2], OPTIMIZERS[name], atol=2e-6)
    assert all(s.dtype is z.dtype for k, s in optimizer.state[z].items() if s.ndim)


def test_gradient_clipping_counts_both_parts():
    z = torch.tensor([3 + 4j, 1j]).requires_grad_()
    (z.abs() ** 2).sum().backward()
    assert torch.nn.utils.clip_grad_norm_([z], 1.0).item() == pytest.approx(104**0.5)
    assert torch.linalg.vector_norm(z.grad).item() == pytest.approx(1.0)


def test_complex_constants_have_a_text_form():
    builder = GraphBuilder("g")
    z = builder.input("z", TensorType((2,), dtypes.c64))
    graph = builder.finish([builder.mul(z, 1.5 - 2j), builder.add(z, complex(-0.0, float("inf")))])
    assert "value=complex(1.5, -2.0)" in to_text(graph)
    assert parse(to_text(graph)) == graph
    [product, _] = run(graph, [np.array([1, 1j], np.complex64)])
    assert product.tolist() == [1.5 - 2j, 2 + 1.5j]
