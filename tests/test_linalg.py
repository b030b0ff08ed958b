"""Linear algebra, beyond what a sample can say: errors, info, sizes that take the blocked paths, second derivatives."""

from __future__ import annotations

import re

import numpy as np
import pytest

import vitrify as torch
from vitrify import linalg
from vitrify.functional_products import cheapest
from vitrify.ir.ops.linalg_common import lu_arrays, permutation_array, triangular_solve_array

Z = torch.zeros(2, 2)
BATCH = torch.stack([torch.eye(2), torch.zeros(2, 2)])
WIDE = torch.ones(2, 3)
INTEGERS = torch.ones(2, 2, dtype=torch.int64)

ERRORS = [
    (
        lambda: linalg.inv(Z),
        linalg.LinAlgError,
        "linalg.inv: The diagonal element 1 is zero, the inversion could not be completed because the input matrix is "
        "singular.",
    ),
    (
        lambda: linalg.inv(BATCH),
        linalg.LinAlgError,
        "linalg.inv: (Batch element 1): The diagonal element 1 is zero",
    ),
    (
        lambda: linalg.inv_ex(Z, check_errors=True),
        linalg.LinAlgError,
        "linalg.inv_ex: The diagonal element 1 is zero",
    ),
    (lambda: torch.inverse(Z), linalg.LinAlgError, "linalg.inv: The diagonal element 1 is zero"),
    (
        lambda: linalg.solve(BATCH, BATCH),
        linalg.LinAlgError,
        "torch.linalg.solve: (Batch element 1): The solver failed because the input matrix is singular.",
    ),
    (
        lambda: linalg.cholesky(torch.tensor([[1.0, 2], [2, 1]])),
        linalg.LinAlgError,
        "linalg.cholesky: The factorization could not be completed because the input is not positive-definite (the "
        "leading minor of order 2 is not positive-definite).",
    ),
    (
        lambda: linalg.svd(torch.full((2, 2), float("nan"))),
        linalg.LinAlgError,
        "linalg.svd: The algorithm failed to converge because the input matrix contained non-finite values.",
    ),
    (
        lambda: linalg.eig(torch.full((2, 2), float("nan"))),
        RuntimeError,
        "torch.linalg.eig: input tensor should not contain infs or NaNs.",
    ),
    (
        lambda: linalg.lu_factor(Z),
        RuntimeError,
        "torch.linalg.lu_factor: U[1,1] is zero and using it on lu_solve would result in a division by zero.",
    ),
    (
        lambda: linalg.lu_factor(Z, pivot=False),
        RuntimeError,
        "linalg.lu_factor: LU without pivoting is not implemented on the CPU",
    ),
    (
        lambda: linalg.inv(WIDE),
        RuntimeError,
        "linalg.inv: A must be batches of square matrices, but they are 2 by 3 matrices",
    ),
    (
        lambda: linalg.inv(torch.ones(2)),
        RuntimeError,
        "linalg.inv: The input tensor A must have at least 2 dimensions.",
    ),
    (
        lambda: linalg.det(INTEGERS),
        RuntimeError,
        "linalg.det: Expected a floating point or complex tensor as input. Got Long",
    ),
    (
        lambda: linalg.inv(Z.half()),
        RuntimeError,
        "linalg.inv: Low precision dtypes not supported. Got Half",
    ),
    (
        lambda: linalg.solve(torch.eye(2), torch.ones(3)),
        RuntimeError,
        "linalg.solve: Incompatible shapes of A and B for the equation AX = B (2x2 and 3x1)",
    ),
    (
        lambda: linalg.solve(torch.eye(2), torch.ones(2, 3, dtype=torch.float64)),
        RuntimeError,
        "linalg.solve: Expected A and B to have the same dtype, but found A of type Float and B of type Double instead",
    ),
    (
        lambda: linalg.qr(WIDE, "foo"),
        RuntimeError,
        "qr received unrecognized mode 'foo' but expected one of 'reduced' (default), 'r', or 'complete'",
    ),
    (lambda: linalg.eigh(Z, "X"), RuntimeError, "Expected UPLO argument to be 'L' or 'U', but got X"),
    (
        lambda: linalg.lstsq(WIDE, torch.ones(3, 1)),
        RuntimeError,
        "torch.linalg.lstsq: input.size(-2) should match other.size(-2)",
    ),
    (
        lambda: linalg.lstsq(WIDE.mT, torch.ones(3, 1), driver="gels"),
        linalg.LinAlgError,
        "torch.linalg.lstsq: The least squares solution could not be computed because the input matrix does not have "
        "full rank (error code: 2).",
    ),
    (
        lambda: linalg.matrix_norm(Z, "foo"),
        RuntimeError,
        "linalg.matrix_norm: Order foo not supported.",
    ),
    (
        lambda: linalg.norm(torch.ones(2, 2, 2), "fro"),
        RuntimeError,
        "linalg.norm: If dim is not specified but ord is, the input must be 1D or 2D. Got 3D.",
    ),
    (
        lambda: linalg.vector_norm(INTEGERS),
        RuntimeError,
        "linalg.vector_norm: Expected a floating point or complex tensor as input. Got Long",
    ),
    (
        lambda: linalg.cond(WIDE, 1),
        RuntimeError,
        "linalg.cond(ord=1): A must be batches of square matrices, but they are 2 by 3 matrices",
    ),
    (lambda: linalg.cond(Z, "foo"), RuntimeError, "linalg.cond got an invalid norm type: foo"),
    (
        lambda: linalg.multi_dot([WIDE, WIDE]),
        RuntimeError,
        "multi_dot(): tensors 0 and 1 with shapes [2, 3] and [2, 3] cannot be multiplied",
    ),
    (
        lambda: linalg.cross(torch.ones(2), torch.ones(2)),
        RuntimeError,
        "linalg.cross: inputs dimension -1 must have length 3. Got 2 and 2",
    ),
    (
        lambda: linalg.tensorinv(torch.ones(2, 3)),
        RuntimeError,
        "Expected self to satisfy the requirement prod(self.shape[ind:]) == prod(self.shape[:ind]), but got 1 != 6",
    ),
    (
        lambda: linalg.matrix_power(Z, 1.5),
        TypeError,
        "linalg_matrix_power(): argument 'n' (position 2) must be int, not float",
    ),
    (
        lambda: linalg.lu_solve(torch.eye(2), torch.tensor([0, 2], dtype=torch.int32), Z),
        RuntimeError,
        "Pivots given to lu_solve must all be greater or equal to 1.",
    ),
    (
        lambda: torch.cholesky_solve(torch.ones(2, 1), WIDE),
        RuntimeError,
        "A must be batches of square matrices, but they are 2 by 3 matrices",
    ),
    (
        lambda: linalg.qr(torch.ones(3, 2, requires_grad=True), "complete").Q.sum().backward(),
        RuntimeError,
        "The QR decomposition is not differentiable when mode='complete' and nrows > ncols",
    ),
    (
        lambda: torch.geqrf(torch.ones(3, 2, requires_grad=True)).a.sum().backward(),
        RuntimeError,
        "derivative for aten::geqrf is not implemented",
    ),
]


@pytest.mark.parametrize(("call", "error", "text"), ERRORS)
def test_errors_are_pytorchs(call, error, text):
    with pytest.raises(error, match=re.escape(text)) as caught:
        call()
    assert isinstance(caught.value, RuntimeError) or error is TypeError


def test_info_instead_of_errors():
    inverse, info = linalg.inv_ex(BATCH)
    assert info.tolist() == [0, 1] and info.dtype is torch.int32
    assert inverse[0].tolist() == [[1, 0], [0, 1]]
    assert linalg.cholesky_ex(torch.tensor([[1.0, 2], [2, 1]])).info.item() == 2
    assert linalg.cholesky_ex(torch.tensor([[1.0, 2], [2, 1]])).L.tolist() == [[1, 0], [2, -3]]
    assert linalg.lu_factor_ex(Z).info.item() == 1
    assert linalg.solve_ex(Z, Z).info.item() == 1


def test_singular_triangles_give_infinities():
    x = linalg.solve_triangular(torch.zeros(2, 2), torch.ones(2, 1), upper=True)
    assert not torch.isfinite(x).any()


def test_named_tuples_print_as_pytorchs():
    assert repr(linalg.slogdet(torch.eye(2))) == (
        "torch.return_types.linalg_slogdet(\nsign=tensor(1.),\nlogabsdet=tensor(0.))"
    )
    q, _ = linalg.qr(torch.eye(2))
    assert linalg.qr(torch.eye(2)).Q.tolist() == q.tolist()


@pytest.mark.parametrize("shape", [(70, 70), (3, 40, 65), (90, 33)])
@pytest.mark.parametrize("dtype", [np.float64, np.complex128])
def test_blocked_lu(shape: tuple[int, ...], dtype: type):
    rng = np.random.RandomState(0)
    a = rng.standard_normal(shape).astype(dtype)
    if dtype is np.complex128:
        a = a + 1j * rng.standard_normal(shape)
    lu, pivots, info = lu_arrays(a)
    m, n = shape[-2:]
    k = min(m, n)
    lower = np.tril(lu[..., :k], -1) + np.eye(m, k)
    product = lower @ np.triu(lu[..., :k, :])
    order = permutation_array(pivots, m)
    np.testing.assert_allclose(product, np.take_along_axis(a, order[..., None], -2), atol=1e-11)
    assert np.abs(lower).max() <= 1 + 1e-12 or dtype is np.complex128  # there |re| + |im| chooses the pivot
    assert not info.any()


@pytest.mark.parametrize("upper", [True, False])
@pytest.mark.parametrize("unit", [True, False])
def test_triangular_solves(upper: bool, unit: bool):
    rng = np.random.RandomState(0)
    a = rng.standard_normal((2, 20, 20)) * 0.2 + np.eye(20)
    b = rng.standard_normal((20, 3))
    x = triangular_solve_array(a, b, upper, unit)
    triangle = np.triu(a) if upper else np.tril(a)
    if unit:
        triangle[..., range(20), range(20)] = 1
    np.testing.assert_allclose(triangle @ x, np.broadcast_to(b, x.shape), atol=1e-10)


def symmetric(x: torch.Tensor) -> torch.Tensor:
    return x @ x.mT + torch.eye(x.shape[-1], dtype=x.dtype)


SECOND = {
    "cholesky": lambda x: linalg.cholesky(symmetric(x)),
    "eigvalsh": lambda x: linalg.eigvalsh(symmetric(x)),
    "eigh": lambda x: linalg.eigh(symmetric(x))[1].abs(),
    "eigvals": lambda x: linalg.eigvals(x).abs(),
    "svd": lambda x: linalg.svd(x, full_matrices=False)[0].abs(),
    "pinv": lambda x: linalg.pinv(x[:2]),
    "lstsq": lambda x: linalg.lstsq(x[:, :2], x[:, 2:]).solution,
    "solve": lambda x: linalg.solve(symmetric(x), x),
    "lu": lambda x: linalg.lu(x)[2],
    "matrix_exp": lambda x: linalg.matrix_exp(x * 0.2),
    "slogdet": lambda x: linalg.slogdet(x)[1],
    "householder": lambda x: linalg.householder_product(x, x[0]),
    "nuclear norm": lambda x: linalg.matrix_norm(x, "nuc"),
}


@pytest.mark.parametrize("name", SECOND)
def test_second_derivatives_match_differences(name: str):
    rng = np.random.RandomState(1)
    x = torch.tensor(rng.standard_normal((3, 3)) + np.diag([1.0, 2.5, 4.0])).requires_grad_()
    assert torch.autograd.gradcheck(SECOND[name], x)
    assert torch.autograd.gradgradcheck(SECOND[name], x)


def test_low_rank_approximations():
    torch.manual_seed(0)
    a = torch.randn(20, 3) @ torch.randn(3, 10)
    u, s, v = torch.svd_lowrank(a, q=4)
    assert torch.allclose((u * s) @ v.mT, a, atol=1e-4)
    u, s, v = torch.pca_lowrank(a, q=3)
    centered = a - a.mean(0)
    assert torch.allclose((u * s) @ v.mT, centered, atol=1e-4)
    with pytest.raises(ValueError, match="must be non-negative integer and not greater than min"):
        torch.pca_lowrank(a, q=11)


def test_multi_dot_multiplies_in_the_cheapest_order():
    known: dict = {}
    assert cheapest([10, 100, 5, 50], 0, 2, known) == (7500, 1)


def test_errors_inside_compiled_functions():
    @torch.compile
    def solved(a, b):
        return linalg.solve(a, b) * 2

    assert solved(torch.eye(2), torch.ones(2)).tolist() == [2, 2]
    with pytest.raises(RuntimeError, match="The solver failed because the input matrix is singular"):
        solved(torch.zeros(2, 2), torch.ones(2))
