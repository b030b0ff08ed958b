"""The named tuples that linear algebra functions return; they print as `torch.return_types.linalg_svd(...)`."""

from __future__ import annotations

from collections import namedtuple

from ..result_types import named_tuple

RESULTS = {
    name: named_tuple(name, namedtuple(name, fields))
    for name, fields in {
        "linalg_cholesky_ex": "L info",
        "linalg_eig": "eigenvalues eigenvectors",
        "linalg_eigh": "eigenvalues eigenvectors",
        "linalg_inv_ex": "inverse info",
        "linalg_ldl_factor": "LD pivots",
        "linalg_ldl_factor_ex": "LD pivots info",
        "linalg_lstsq": "solution residuals rank singular_values",
        "linalg_lu": "P L U",
        "linalg_lu_factor": "LU pivots",
        "linalg_lu_factor_ex": "LU pivots info",
        "linalg_qr": "Q R",
        "linalg_slogdet": "sign logabsdet",
        "linalg_solve_ex": "result info",
        "linalg_svd": "U S Vh",
        "_lu_with_info": "LU pivots info",
        "geqrf": "a tau",
        "lu_unpack": "P L U",
        "qr": "Q R",
        "slogdet": "sign logabsdet",
        "svd": "U S V",
        "triangular_solve": "solution cloned_coefficient",
    }.items()
}
