"""Matrix exponentials."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..op import Op, declare
from ..types import TensorType
from .common import Array, shape_of
from .contraction import adjoint
from .linalg_common import check_floating, check_square, columns, rows
from .linalg_solve import well

# N. Higham, "The scaling and squaring method for the matrix exponential revisited" (2005): the coefficients of the
# Pade approximant of degree 13 and the norm up to which it is exact in double precision.
_PADE = (
    64764752532480000.0, 32382376266240000.0, 7771770303897600.0, 1187353796428800.0, 129060195264000.0,
    10559470521600.0, 670442572800.0, 33522128640.0, 1323241920.0, 40840800.0, 960960.0, 16380.0, 182.0, 1.0,
)  # fmt: skip
_PADE_NORM = 5.371920351148152


def _exp_array(a: Array) -> Array:
    wide = a.astype(np.complex128 if a.dtype.kind == "c" else np.float64)
    norms = np.abs(wide).sum(-2).max(-1, initial=0.0)
    finite = np.where(np.isfinite(norms) & (norms > 0), norms, 1.0)
    squarings = np.maximum(np.ceil(np.log2(finite / _PADE_NORM)), 0).astype(int)
    x = wide / (2.0**squarings)[..., None, None]
    one = np.eye(a.shape[-1])
    b, x2 = _PADE, x @ x
    x4 = x2 @ x2
    x6 = x4 @ x2
    odd = x @ (x6 @ (b[13] * x6 + b[11] * x4 + b[9] * x2) + b[7] * x6 + b[5] * x4 + b[3] * x2 + b[1] * one)
    even = x6 @ (b[12] * x6 + b[10] * x4 + b[8] * x2) + b[6] * x6 + b[4] * x4 + b[2] * x2 + b[0] * one
    result = np.linalg.solve(even - odd, even + odd)
    for step in range(int(squarings.max(initial=0))):
        again = (squarings > step)[..., None, None]
        result = np.where(again, result @ result, result)
    return result.astype(a.dtype)


def _exp_infer(a: TensorType) -> TensorType:
    check_square("linalg.matrix_exp", a)
    check_floating("linalg.matrix_exp", a)
    return a


def _exp_vjp(F: Any, ctx: Any, dy: Any) -> list[Any]:
    """The upper right block of exp([[A^H, dy], [0, A^H]])."""
    ah = adjoint(F, ctx.inputs[0])
    rank, n = len(shape_of(F, ah)), shape_of(F, ah)[-1]
    upper = F.concat(ah, dy, dim=rank - 1)
    lower = F.concat(F.zeros_like(ah), ah, dim=rank - 1)
    whole = F.linalg_matrix_exp(F.concat(upper, lower, dim=rank - 2))
    return [columns(F, rows(F, whole, 0, n), n, n + n)]


declare(
    Op(
        "linalg_matrix_exp",
        "Matrix exponentials. https://docs.pytorch.org/docs/stable/generated/torch.linalg.matrix_exp.html",
        infer=_exp_infer,
        numpy=_exp_array,
        lowering="host",
        vjp=_exp_vjp,
        saves=("input:0",),
        grad_name="LinalgMatrixExpBackward0",
        samples=(well((3, 3)), well((2, 2, 2)), well((0, 0))),
    )
)
