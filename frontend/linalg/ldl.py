"""L D L^T of symmetric matrices, and solutions by it. PyTorch has no gradients for these, so neither are there here."""

from __future__ import annotations

from typing import Any

from ..dispatch import apply, op_named
from ..functional_host import host_array
from ..inplace import finish
from ..ir import dtypes
from ..promotion import convert
from ..tape_folded import without_gradient
from ..tensor import Tensor
from .common import named

_FACTOR, _SOLVE = map(op_named, ("linalg_ldl_factor", "linalg_ldl_solve"))


def ldl_factor_ex(A: Tensor, *, hermitian: bool = False, check_errors: bool = False, out: Any = None) -> Any:
    """`ldl_factor`, and info: 0, or the column of D that is zero."""
    LD, pivots, info = apply(_FACTOR, (A,), {"hermitian": hermitian})
    if check_errors:
        _check("torch.linalg.ldl_factor_ex", info)
    without_gradient("linalg_ldl_factor_ex", (A,), LD)
    return named("linalg_ldl_factor_ex", (LD, pivots, info), out)


def _check(name: str, info: Tensor) -> None:
    found = host_array(info, name)
    if found.any():
        number = int(found.reshape(-1)[found.reshape(-1) != 0][0])
        raise RuntimeError(
            f"{name}: D[{number},{number}] is zero, so that the factorization cannot be used to solve"
        )


def ldl_factor(A: Tensor, *, hermitian: bool = False, out: Any = None) -> Any:
    """L and D of A = L D L^T in one matrix, and the row exchanges; RuntimeError where D is singular."""
    LD, pivots, info = ldl_factor_ex(A, hermitian=hermitian)
    if info._array is not None:
        _check("torch.linalg.ldl_factor", info)
    return named("linalg_ldl_factor", (LD, pivots), out)


def ldl_solve(
    LD: Tensor, pivots: Tensor, B: Tensor, *, hermitian: bool = False, out: Tensor | None = None
) -> Tensor:
    """X of A X = B, from the factors of A."""
    result = apply(_SOLVE, (LD, convert(pivots, dtypes.i32), B), {"hermitian": hermitian})
    without_gradient("linalg_ldl_solve", (LD, B), result)
    return finish(result, out, "linalg_ldl_solve")
