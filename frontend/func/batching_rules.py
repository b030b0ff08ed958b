"""Batching rules of the regular kinds: pointwise ops, views, reductions, and composites that behave like them."""

from __future__ import annotations

from typing import Any

from ..dispatch import TENSORS as F
from ..tensor import Tensor
from .batching import BY_LOWERING, Call, rule

# Pointwise


def aligned(call: Call) -> list[Tensor]:
    """The operands so that they broadcast: a batched one gets the dims that it lacks between batch and sample."""
    rank = max(call.rank(i) for i in range(len(call.values)))
    found = []
    for value, batched in zip(call.values, call.batched):
        lacks = rank - value.ndim + 1
        if batched and lacks:
            shape = tuple(value.shape)
            value = F.reshape(value, shape=(shape[0], *(1,) * lacks, *shape[1:]))
        found.append(value)
    return found


def pointwise(call: Call) -> Any:
    return call.apply(call.values if len(call.values) == 1 else aligned(call))


BY_LOWERING["pointwise"] = pointwise
rule(
    "relu", "gelu", "silu", "leaky_relu", "elu", "softplus", "clamp", "celu", "hardsigmoid", "hardswish", "mish",
    "hardshrink", "softshrink", "threshold", "check_index", "detach", "airy_ai", "angle", "conj", "gcd", "igamma",
    "igammac", "lcm", "orthogonal_polynomial", "polygamma", "sgn", "zeta",
)(pointwise)  # fmt: skip

# Views


@rule("reshape", "missing_derivative")
def _with_shape(call: Call) -> Any:
    return call.apply(call.values, shape=(call.size, *call.attrs["shape"]))


@rule("expand")
def _expand(call: Call) -> Any:
    (value,), shape = call.values, call.attrs["shape"]
    lacks = len(shape) + 1 - value.ndim
    if lacks:
        have = tuple(value.shape)
        value = F.reshape(value, shape=(have[0], *(1,) * lacks, *have[1:]))
    return call.apply((value,), shape=(call.size, *shape))


@rule("permute")
def _permute(call: Call) -> Any:
    return call.apply(call.values, dims=(0, *(d + 1 for d in call.attrs["dims"])))


def _whole_batch(call: Call) -> dict[str, Any]:
    """`starts`, `stops` and `steps` that take all samples."""
    attrs = call.attrs
    return {
        "starts": (0, *attrs["starts"]),
        "stops": (call.size, *attrs["stops"]),
        "steps": (1, *attrs["steps"]),
    }


@rule("slice")
def _slice(call: Call) -> Any:
    return call.apply(call.values, **_whole_batch(call))


@rule("update_slice")
def _update_slice(call: Call) -> Any:
    return call.apply(call.all_full(), **_whole_batch(call))


@rule("flip")
def _flip(call: Call) -> Any:
    return call.apply(call.values, dims=tuple(d + 1 for d in call.attrs["dims"]) if call.rank(0) else ())


@rule("unfold")
def _unfold(call: Call) -> Any:
    found = call.apply((with_a_dim(call, call.values[0]),), dim=call.attrs["dim"] + 1)
    return found if call.rank(0) else F.reshape(found, shape=(call.size, *tuple(found.shape)[2:]))


@rule("strided")
def _strided(call: Call) -> Any:
    """Its operand is memory, of one dim; that of the samples lies one after the other in the batch."""
    (count,) = call.shape(0)
    memory = F.reshape(call.values[0], shape=(call.size * count,))
    return call.apply((memory,), size=(call.size, *call.attrs["size"]), stride=(count, *call.attrs["stride"]))


@rule("pad")
def _pad(call: Call) -> Any:
    return call.apply(call.values, low=(0, *call.attrs["low"]), high=(0, *call.attrs["high"]))


@rule("concat")
def _concat(call: Call) -> Any:
    return call.apply(call.all_full(), dim=call.attrs["dim"] + 1)


# Along one dim or several


def with_a_dim(call: Call, value: Tensor) -> Tensor:
    """A batched value whose samples, if they are 0-d, have a dim: PyTorch lets one name dim 0 of a 0-d tensor."""
    return F.reshape(value, shape=(call.size, 1)) if value.ndim == 1 else value


def along_dim(call: Call) -> Any:
    """Rule of ops of one operand that work along `dim` and keep the shape."""
    value = with_a_dim(call, call.values[0])
    found = call.apply((value,), dim=call.attrs["dim"] + 1)
    if call.rank(0):
        return found
    one = tuple(F.reshape(r, shape=(call.size,)) for r in (found if isinstance(found, tuple) else (found,)))
    return one if isinstance(found, tuple) else one[0]


rule("softmax", "log_softmax", "argsort")(along_dim)


def reduction(call: Call) -> Any:
    """Rule of ops that reduce over `dims`, or over `dim`."""
    attrs = call.attrs
    if not call.rank(0):
        value = with_a_dim(call, call.values[0])
        if "dims" in attrs:
            return call.apply((value,), dims=(1,), keepdim=False)
        return call.apply((value,), dim=1, keepdim=False)
    if "dims" in attrs:
        return call.apply(call.values, dims=tuple(d + 1 for d in attrs["dims"]))
    return call.apply(call.values, dim=attrs["dim"] + 1)


BY_LOWERING["reduce"] = reduction
rule("mean", "var")(reduction)


@rule("fft_c2c", "fft_c2r", "fft_r2c")
def _along_dims(call: Call) -> Any:
    return call.apply(call.values, dims=tuple(d + 1 for d in call.attrs["dims"]))


@rule("mode_position")
def _without_dim(call: Call) -> Any:
    found = call.apply((with_a_dim(call, call.values[0]),), dim=call.attrs["dim"] + 1)
    return found if call.rank(0) else F.reshape(found, shape=(call.size,))


def _to_the_first(call: Call) -> list[Tensor]:
    """The operands of an op whose first one has the shape that the others broadcast to."""
    values, batched = list(call.values), list(call.batched)
    if not batched[0]:
        values[0], batched[0] = call.full(0), True
    return aligned(Call(call.backend, call.op, values, batched, call.attrs))


@rule("standardize", "rms_norm")
def _normalize(call: Call) -> Any:
    return call.apply(_to_the_first(call), dims=tuple(d + 1 for d in call.attrs["dims"]))


@rule("prelu")
def _prelu(call: Call) -> Any:
    return call.apply(_to_the_first(call))


# Matrices: any number of dims stand before the last two.


def matrices(call: Call) -> Any:
    """Rule of linear algebra: the batch is one more of the leading dims."""
    full = Call(call.backend, call.op, call.all_full(), [True] * len(call.values), call.attrs)
    found = call.apply(aligned(full))
    if call.op.name == "linalg_qr" and call.attrs["mode"] == "r":  # its empty Q has no batch
        return (F.expand(found[0], shape=(call.size, *found[0].shape)), found[1])
    if call.op.name == "linalg_solve":  # its second result has the dims of the first operand alone
        return (found[0], F.reshape(found[1], shape=(call.size, *call.shape(0)[:-2])))
    return found


@rule("linalg_pinv")
def _pinv(call: Call) -> Any:
    """A matrix, and its two tolerances in a last dim."""
    matrix, tolerance = call.all_full()
    lacks = matrix.ndim - tolerance.ndim - 1
    if lacks:
        shape = tuple(tolerance.shape)
        tolerance = F.reshape(tolerance, shape=(shape[0], *(1,) * lacks, *shape[1:]))
    return call.apply((matrix, tolerance))


rule(
    "linalg_cholesky", "linalg_cholesky_inverse", "linalg_cholesky_solve", "linalg_det", "linalg_eig", "linalg_eigh",
    "linalg_eigvals", "linalg_eigvalsh", "linalg_geqrf", "linalg_inv", "linalg_inverse_order",
    "linalg_lu_factor", "linalg_lu_order", "linalg_matrix_exp", "linalg_qr", "linalg_slogdet",
    "linalg_ldl_factor", "linalg_solve",
    "linalg_solve_triangular", "linalg_svd", "linalg_svdvals", "view_as_complex", "view_as_real",
)(matrices)  # fmt: skip


# Pooling: any number of dims stand before those of the windows.


def every_operand_full(call: Call) -> Any:
    return call.apply(call.all_full())


rule(
    "max_pool",
    "max_pool_grad",
    "max_pool_gather",
    "avg_pool",
    "linalg_lstsq",
    "linalg_ldl_solve",
    "dirichlet_grad",
    "standard_gamma_grad",
)(every_operand_full)


@rule("avg_pool_grad")
def _avg_pool_grad(call: Call) -> Any:
    return call.apply(call.values, input_size=(call.size, *call.attrs["input_size"]))


@rule("nonzero", "unique", "unique_consecutive", "repeated_positions", "nms")
def _of_unknown_size(call: Call) -> Any:
    name = {"unique": "_unique2"}.get(call.op.name, call.op.name)
    raise RuntimeError(
        "vmap: We do not support batching operators that can output dynamic shape. Attempted to vmap over "
        f"aten::{name}. Please file an issue at https://github.com/pytorch/pytorch/issues if you need this feature."
    )


# Random ops: a state that is spread draws for all samples at once; another draws the same for each.


@rule("random_uniform")
def _random_uniform(call: Call) -> Any:
    if call.batched[0]:
        return call.sample_by_sample()
    return call.apply(call.values, shape=(call.size, *call.attrs["shape"]))


@rule("random_draw")
def _random_draw(call: Call) -> Any:
    state, *parameters = call.values
    if not call.spread[0]:
        return call.sample_by_sample()
    return call.apply((state, *(call.full(i) for i in range(1, len(parameters) + 1))))


@rule("dropout")
def _dropout(call: Call) -> Any:
    x, state = call.values
    if call.batched[1]:
        return call.sample_by_sample()
    if not call.batched[0]:
        return call.apply((call.full(0), state))
    if any(call.spread):
        return call.apply((x, state))
    ones = F.full(shape=tuple(x.shape)[1:], value=1, dtype=x.dtype)
    return F.mul(x, call.apply((ones, state)))
