"""Sparse tensors in coordinates, with values and texts of PyTorch 2.13."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest

import vitrify as torch


def sparse(**options: Any) -> Any:
    return torch.sparse_coo_tensor([[0, 1, 1], [2, 0, 2]], [3.0, 4.0, 5.0], (2, 3), **options)


DENSE = [[0.0, 0.0, 3.0], [4.0, 0.0, 5.0]]
MATRIX = torch.arange(12.0).reshape(3, 4)
PRODUCT = [[24.0, 27.0, 30.0, 33.0], [40.0, 49.0, 58.0, 67.0]]


def test_what_it_is() -> None:
    s = sparse()
    assert isinstance(s, torch.Tensor) and s.is_sparse and s.layout is torch.sparse_coo
    assert (s.shape, s.dtype, s.dim(), s.numel(), s._nnz()) == (torch.Size([2, 3]), torch.float32, 2, 6, 3)
    assert (s.sparse_dim(), s.dense_dim(), s.device.type, s.requires_grad) == (2, 0, "cpu", False)
    assert s.to_dense().tolist() == DENSE and s.to_sparse() is s
    assert repr(s) == (
        "tensor(indices=tensor([[0, 1, 1],\n"
        "                       [2, 0, 2]]),\n"
        "       values=tensor([3., 4., 5.]),\n"
        "       size=(2, 3), nnz=3, layout=torch.sparse_coo)"
    )
    dense = torch.tensor(DENSE)
    assert not dense.is_sparse and dense.to_dense() is dense and dense.layout is torch.strided


def test_coalescing_sorts_and_sums() -> None:
    s = torch.sparse_coo_tensor([[1, 1, 0], [0, 0, 1]], [1.0, 2.0, 3.0])
    with pytest.raises(RuntimeError, match="Cannot get indices on an uncoalesced tensor"):
        s.indices()
    once = s.coalesce()
    assert once.indices().tolist() == [[0, 1], [1, 0]] and once.values().tolist() == [3.0, 3.0]
    assert not s.is_coalesced() and once.is_coalesced() and once.coalesce() is once
    assert s.to_dense().tolist() == once.to_dense().tolist() == [[0.0, 3.0], [3.0, 0.0]]


def test_to_sparse_and_back() -> None:
    x = torch.tensor([[[0.0, 1.0], [0.0, 0.0]], [[2.0, 0.0], [0.0, 3.0]]])
    for dims in (1, 2, 3):
        s = x.to_sparse(dims)
        assert (s.sparse_dim(), s.dense_dim()) == (dims, 3 - dims) and s.is_coalesced()
        assert torch.equal(s.to_dense(), x)
    assert x.to_sparse(2).indices().tolist() == [[0, 1, 1], [0, 0, 1]]
    assert torch.zeros(2, 3).to_sparse()._nnz() == 0
    assert torch.equal(torch.sparse_coo_tensor((2, 3)).to_dense(), torch.zeros(2, 3))


@pytest.mark.parametrize(
    "product",
    [
        torch.mm,
        torch.matmul,
        torch.spmm,
        torch.sparse.mm,
        lambda s, d: s @ d,
        lambda s, d: (d.t() @ s.t()).t(),
    ],
)
def test_products_with_dense_matrices(product: Callable[..., Any]) -> None:
    assert product(sparse(), MATRIX).tolist() == PRODUCT
    assert (sparse() @ MATRIX[:, 1]).tolist() == [27.0, 49.0]


@pytest.mark.parametrize(
    ("function", "wanted"),
    [
        (lambda s: s + s, [[0, 0, 6], [8, 0, 10]]),
        (lambda s: s - 2 * s, [[0, 0, -3], [-4, 0, -5]]),
        (lambda s: torch.ones(2, 3) + s, [[1, 1, 4], [5, 1, 6]]),
        (lambda s: s * torch.tensor([[1.0, 2, 3], [4, 5, 6]]), [[0, 0, 9], [16, 0, 30]]),
        (lambda s: s / 2, [[0, 0, 1.5], [2, 0, 2.5]]),
        (lambda s: (-s).abs(), DENSE),
        (lambda s: (-s).relu(), [[0, 0, 0], [0, 0, 0]]),
        (lambda s: s.t(), [[0, 4], [0, 0], [3, 5]]),
        (lambda s: torch.sparse.sum(s), 12),
        (lambda s: torch.sparse.sum(s, 0), [4, 0, 8]),
        (lambda s: torch.sparse.softmax(s, 1), [[0, 0, 1], [0.2689414322376251, 0, 0.7310585975646973]]),
        (lambda s: torch.sparse.log_softmax(s, 1), [[0, 0, 0], [-1.3132617473602295, 0, -0.3132616877555847]]),
        (lambda s: torch.sparse.addmm(torch.ones(2, 4), s, MATRIX, alpha=2.0), [[49, 55, 61, 67], [81, 99, 117, 135]]),
        (lambda s: torch.sparse.FloatTensor(s._indices(), s._values(), s.shape), DENSE),
    ],
)  # fmt: skip
def test_functions(function: Callable[[Any], Any], wanted: Any) -> None:
    torch.testing.assert_close(function(sparse()).to_dense(), torch.tensor(wanted, dtype=torch.float32))


def test_gradients_of_values_and_of_what_is_multiplied() -> None:
    values = torch.tensor([3.0, 4.0, 5.0], requires_grad=True)
    d = MATRIX.clone().requires_grad_()
    s = torch.sparse_coo_tensor([[0, 1, 1], [2, 0, 2]], values, (2, 3))
    (torch.sparse.mm(s, d) ** 2).sum().backward()
    assert s.requires_grad and values.grad.tolist() == [2196.0, 732.0, 4156.0]
    assert d.grad.tolist() == [
        [320.0, 392.0, 464.0, 536.0], [0.0, 0.0, 0.0, 0.0], [544.0, 652.0, 760.0, 868.0],
    ]  # fmt: skip
    x = torch.tensor([[0.0, 2.0], [3.0, 0.0]], requires_grad=True)
    (x.to_sparse() * 2).to_dense().sum().backward()
    assert x.grad.tolist() == [[0.0, 2.0], [2.0, 0.0]]


class Graph(torch.nn.Module):
    """A graph convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("edges", sparse())
        self.linear = torch.nn.Linear(4, 2)

    def forward(self, x: Any) -> Any:
        return torch.spmm(self.edges, self.linear(x)).relu()


def test_a_module_with_a_sparse_buffer_compiles_and_converts() -> None:
    torch.manual_seed(0)
    net = Graph()
    again = copy.deepcopy(net)
    wanted, found = net(MATRIX), torch.compile(again)(MATRIX)
    torch.testing.assert_close(found, wanted)
    wanted.sum().backward()
    found.sum().backward()
    torch.testing.assert_close(again.linear.weight.grad, net.linear.weight.grad)
    assert net.double().edges.dtype is torch.float64 and again.edges.dtype is torch.float32


def test_as_an_argument_and_a_result_of_compiled_code() -> None:
    product = torch.compile(lambda s, x: s @ x)
    assert product(sparse(), MATRIX).tolist() == PRODUCT
    assert product(torch.eye(3).to_sparse(), MATRIX).tolist() == MATRIX.tolist()
    twice = torch.compile(lambda s: s * 2)(sparse())
    assert twice.is_sparse and twice.to_dense().tolist() == [[0.0, 0.0, 6.0], [8.0, 0.0, 10.0]]


def test_copies() -> None:
    s = sparse()
    for same in (copy.deepcopy(s), pickle.loads(pickle.dumps(s)), s.clone(), s.detach()):
        assert same.is_sparse and same.to_dense().tolist() == DENSE
    assert s.to(torch.float64).dtype is s.double().dtype is torch.float64


@pytest.mark.parametrize(
    "call",
    [
        lambda s: s.exp(), lambda s: torch.cat([s, s]), lambda s: s[0], lambda s: s.add_(1), lambda s: s.reshape(6),
        lambda s: torch.add(torch.ones(2, 3), s), lambda s: s.tolist(), list, lambda s: s.requires_grad_(),
        lambda s: s.to_sparse(layout=torch.sparse_csr), lambda s: sparse(requires_grad=True),
    ],
)  # fmt: skip
def test_what_cannot_be_done_says_so(call: Callable[[Any], Any]) -> None:
    with pytest.raises(NotImplementedError, match=r"to_dense|values that require grad|sparse_coo"):
        call(sparse())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (([[0, 2]], [1.0, 2.0], (2,)), r"\[2\] does not hold \[3\]"),
        (([[0, -1]], [1.0, 2.0], (2,)), "one is negative"),
        (([[0, 1]], [1.0]), r"elements of indices \(2\) and of values \(1\)"),
        (([[0, 1]], [1.0, 2.0], (2, 2)), r"sparse_dim \(1\) \+ dense_dim \(0\), but got 2"),
        (([[0, 1]], [[1.0], [2.0]], (2, 3)), r"expected \[3\], got \[1\]"),
        (([0, 1], [1.0, 2.0]), "must be a matrix of integers"),
    ],
)
def test_bad_parts(arguments: tuple[Any, ...], said: str) -> None:
    with pytest.raises(RuntimeError, match=said):
        torch.sparse_coo_tensor(*arguments)


def test_bad_products() -> None:
    with pytest.raises(RuntimeError, match=r"cannot be multiplied \(\[2, 3\] and \[4, 3\]\)"):
        torch.spmm(sparse(), MATRIX.t())
    with pytest.raises(RuntimeError, match="both of one dtype, but got: Float and Double"):
        sparse() @ MATRIX.double()
    with pytest.raises(TypeError, match="expected a sparse tensor"):
        torch.sparse.mm(MATRIX, MATRIX)
    with pytest.raises(TypeError, match="to_dense"):
        sparse().numpy()
