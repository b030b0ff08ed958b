"""`torch.functional`: functions of `torch` under an older roof."""

from __future__ import annotations

from .functional_elements import unique, unique_consecutive
from .functional_joining import (
    atleast_1d,
    atleast_2d,
    atleast_3d,
    block_diag,
    cartesian_prod,
    meshgrid,
    unravel_index,
)
from .functional_linalg import lu, norm, pca_lowrank, svd_lowrank
from .functional_matmul import cdist, einsum, tensordot
from .functional_products import chain_matmul
from .functional_shape import broadcast_shapes, broadcast_tensors
from .functional_slices import split
from .spectrograms import istft, stft

__all__ = [
    "atleast_1d", "atleast_2d", "atleast_3d", "block_diag", "broadcast_shapes", "broadcast_tensors", "cartesian_prod",
    "cdist", "chain_matmul", "einsum", "istft", "lu", "meshgrid", "norm", "pca_lowrank", "split", "stft",
    "svd_lowrank", "tensordot", "unique", "unique_consecutive", "unravel_index",
]  # fmt: skip
