"""Matrix work that the multivariate distributions share. Batches of matrices, lower Cholesky factors."""

from __future__ import annotations

from .. import linalg
from ..creation import eye
from ..functional_shape import broadcast_shapes
from ..tensor import Tensor


def cholesky(matrix: Tensor) -> Tensor:
    """The lower Cholesky factor of each matrix."""
    found: Tensor = linalg.cholesky(matrix)
    return found


def solve_lower(factor: Tensor, right: Tensor) -> Tensor:
    """x of factor @ x = right, the factor lower triangular."""
    found: Tensor = linalg.solve_triangular(factor, right, upper=False)
    return found


def batch_mv(matrix: Tensor, vector: Tensor) -> Tensor:
    """matrix @ vector, over broadcast batches."""
    return (matrix @ vector.unsqueeze(-1)).squeeze(-1)


def mahalanobis(factor: Tensor, x: Tensor) -> Tensor:
    """|factor^-1 x|**2: factor [batch, n, n], x [more, n], the batches broadcast."""
    n = x.shape[-1]
    batch = broadcast_shapes(factor.shape[:-2], x.shape[:-1])
    extra = len(batch) - (factor.ndim - 2)
    if all(size == 1 for size in factor.shape[:-2]):
        # One factor: all the vectors are columns of one right side.
        columns = x.reshape(-1, n).mT
        return solve_lower(factor.reshape(n, n), columns).pow(2).sum(-2).reshape(tuple(batch))
    # Samples stand before the factor's batch: move them to the columns, so that each factor is used once.
    factors = factor.expand((*batch[extra:], n, n))
    vectors = x.expand((*batch, n)).reshape((-1, *batch[extra:], n)).movedim(0, -1)
    return solve_lower(factors, vectors).pow(2).sum(-2).movedim(-1, 0).reshape(tuple(batch))


def log_diagonal(factor: Tensor) -> Tensor:
    """The sum of the logarithms of the diagonal: half the log-determinant of factor @ factor^T."""
    return factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)


def on_diagonal(values: Tensor) -> Tensor:
    """Vectors as diagonal matrices."""
    return values.unsqueeze(-1) * eye(values.shape[-1], dtype=values.dtype)


def precision_to_scale_tril(precision: Tensor) -> Tensor:
    """The Cholesky factor of precision^-1, without the inverse: the factor of the flipped matrix, flipped back, is an
    upper factor U with U U^T = precision, and U^-T is the one wanted."""
    flipped = cholesky(precision.flip((-2, -1))).flip((-2, -1)).mT
    return solve_lower(flipped, eye(precision.shape[-1], dtype=precision.dtype))


def inverse_of_product(factor: Tensor) -> Tensor:
    """(factor @ factor^T)^-1."""
    inverse = solve_lower(factor, eye(factor.shape[-1], dtype=factor.dtype).expand(factor.shape))
    return inverse.mT @ inverse


def squared_norm(matrix: Tensor) -> Tensor:
    """The sum of the squares of all elements of each matrix: trace(M M^T)."""
    return matrix.pow(2).sum((-2, -1))


def the_given(error: type[Exception], **matrices: Tensor | None) -> tuple[str, Tensor]:
    """The name and the value of the one matrix that a user gave; `error` when it is not one."""
    found = [(name, matrix) for name, matrix in matrices.items() if matrix is not None]
    if len(found) != 1:
        raise error("Exactly one of covariance_matrix or precision_matrix or scale_tril may be specified.")
    return found[0]


def factor_of(name: str, matrix: Tensor) -> Tensor:
    """The Cholesky factor of the covariance, from the matrix of that name."""
    if name == "scale_tril":
        return matrix
    return cholesky(matrix) if name == "covariance_matrix" else precision_to_scale_tril(matrix)


# Low rank plus diagonal: covariance W W^T + D


def capacitance_tril(factor: Tensor, diag: Tensor) -> Tensor:
    """The Cholesky factor of I + W^T D^-1 W."""
    m = factor.shape[-1]
    return cholesky((factor.mT / diag.unsqueeze(-2)) @ factor + eye(m, dtype=factor.dtype))


def lowrank_logdet(diag: Tensor, capacitance: Tensor) -> Tensor:
    """log |W W^T + D|, by the matrix determinant lemma."""
    return 2 * log_diagonal(capacitance) + diag.log().sum(-1)


def lowrank_mahalanobis(factor: Tensor, diag: Tensor, x: Tensor, capacitance: Tensor) -> Tensor:
    """x^T (W W^T + D)^-1 x, by the Woodbury identity."""
    scaled = batch_mv(factor.mT / diag.unsqueeze(-2), x)
    return (x.pow(2) / diag).sum(-1) - mahalanobis(capacitance, scaled)
