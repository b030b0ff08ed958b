"""Products of groups of matrices, convolution of sequences laid out [time, batch, channels], distances of rows."""

from __future__ import annotations

import numpy as np

from .. import functional_pointwise as pointwise
from ..autocast import lower_precision
from ..creation import counted
from ..functional_matmul import cdist
from ..functional_shape import cat, stack
from ..ir import dtypes
from ..ir.dtypes import DType
from ..tensor import Tensor, wrap
from .windows import conv1d


@lower_precision
def conv_tbc(input: Tensor, weight: Tensor, bias: Tensor, pad: int = 0) -> Tensor:
    """input[t, n, c] with weight[k, c, o] and bias[o] -> [t', n, o]."""
    if input.ndim != 3:
        raise RuntimeError("Input must have 3 dims: time, batch, in_channel")
    if weight.ndim != 3:
        raise RuntimeError("Weight tensor must have 3 dims: kernel_width, in_channels, out_channels.")
    if bias.ndim != 1:
        raise RuntimeError("Bias must be 1-D")
    if input.shape[2] != weight.shape[1]:
        raise RuntimeError("Input dim 2 (input channels) is not == dim 1 in the weight tensor")
    if weight.shape[2] != bias.shape[0]:
        raise RuntimeError("Bias size must equal dim 2 in the weight tensor (output channels).")
    return conv1d(input.permute(1, 2, 0), weight.permute(2, 1, 0), bias, padding=pad).permute(2, 0, 1)


def pdist(input: Tensor, p: float = 2.0) -> Tensor:
    """The p-norm distances of all pairs of rows of input[n, m]: the upper triangle of `cdist(input, input, p)` in one
    row of n (n - 1) / 2."""
    if input.ndim != 2:
        raise RuntimeError(f"pdist only supports 2D tensors, got: {input.ndim}D")
    if p < 0:
        raise RuntimeError("pdist only supports non-negative p values")
    first, second = np.triu_indices(int(input.shape[0]), 1)
    rows = [input.index_select(0, wrap(which.astype(np.int64))) for which in (first, second)]
    return cdist(rows[0].unsqueeze(1), rows[1].unsqueeze(1), p).reshape(len(first))


def grouped_mm(
    mat_a: Tensor,
    mat_b: Tensor,
    *,
    offs: Tensor | None = None,
    bias: Tensor | None = None,
    out_dtype: DType | None = None,
) -> Tensor:
    """Products of groups of matrices of different sizes: group g goes from offs[g - 1] to offs[g].

    [rows, k] x [groups, k, n] -> [rows, n]; [groups, m, k] x [k, columns] -> [m, columns];
    [m, k] x [k, n], k in groups -> [groups, m, n]; [groups, m, k] x [groups, k, n] without `offs` -> [groups, m, n].
    """
    if mat_a.ndim not in (2, 3):
        raise RuntimeError(f"mat_a has to be 2 or 3d, got {mat_a.ndim}d")
    if mat_b.ndim not in (2, 3):
        raise RuntimeError(f"mat_b has to be 2 or 3d, got {mat_b.ndim}d")
    if mat_a.shape[-1] != mat_b.shape[-2]:
        raise RuntimeError("contraction dimension of mat_a and mat_b must match")
    if mat_a.ndim == mat_b.ndim == 3:
        if offs is not None:
            raise RuntimeError("offs provided but both mat_a and mat_b are 3d; offs has to be None")
        result = mat_a.matmul(mat_b)
    elif offs is None:
        raise RuntimeError("Have to provide offsets if there is a 2d matrix")
    elif mat_a.ndim == mat_b.ndim:
        parts = [a.matmul(b) for a, b in zip(_groups(mat_a, offs, 1, False), _groups(mat_b, offs, 0, False))]
        result = stack(parts)
    elif mat_a.ndim == 2:
        result = _joined([a.matmul(mat_b[g]) for g, a in enumerate(_groups(mat_a, offs, 0))], offs, 0)
    else:
        result = _joined([mat_a[g].matmul(b) for g, b in enumerate(_groups(mat_b, offs, 1))], offs, 1)
    if bias is not None:
        result = result + bias
    return result if out_dtype is None else result.to(out_dtype)


def _groups(matrix: Tensor, offs: Tensor, dim: int, whole: bool = True) -> list[Tensor]:
    """The groups along `dim`. In a compiled function, which does not know the offsets, each has the matrix's size and
    zeros outside the group (`whole`: or the whole matrix, where the caller selects)."""
    count = int(offs.shape[0])
    if offs._array is None:
        if whole:
            return [matrix] * count
        return [pointwise.where(_member(offs, g, matrix.shape[dim], dim), matrix, 0.0) for g in range(count)]
    ends = [int(end) for end in offs.tolist()]
    return [matrix.narrow(dim, start, end - start) for start, end in zip([0, *ends], ends)]


def _member(offs: Tensor, group: int, size: int, dim: int) -> Tensor:
    """bool, broadcast along `dim` of a matrix: which places are in the group."""
    place = counted(size, 0, 1, dtypes.i64)
    within = place < offs[group]
    if group:
        within = within.logical_and(place >= offs[group - 1])
    return within.unsqueeze(1 - dim)


def _joined(parts: list[Tensor], offs: Tensor, dim: int) -> Tensor:
    if offs._array is not None:
        return cat(parts, dim)
    total = parts[0] * 0
    for group, part in enumerate(parts):
        total = pointwise.where(_member(offs, group, part.shape[dim], dim), part, total)
    return total
