"""The named tuples that linear algebra functions return; they print as `torch.return_types.linalg_svd(...)`."""

from __future__ import annotations

from collections import namedtuple
from typing import Any


def _result(name: str, fields: str) -> Any:
    """A tuple with named fields, called and printed as PyTorch's."""

    def __repr__(self: Any) -> str:
        parts = ",\n".join(f"{field}={value!r}" for field, value in zip(self._fields, self))
        return f"torch.return_types.{name}(\n{parts})"

    base = namedtuple(name, fields)  # type: ignore[misc]
    return type(name, (base,), {"__repr__": __repr__, "__slots__": (), "__module__": "torch.return_types"})


RESULTS = {
    name: _result(name, fields)
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
