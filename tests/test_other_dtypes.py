"""Functions on integers, bools and mixed dtypes: what PyTorch 2.13 gives for the same calls, values and dtypes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

import vitrify as torch
import vitrify.nn.functional as F

U = torch.tensor([0, 1, 2, 200], dtype=torch.uint8)
I = torch.tensor([-3, -1, 0, 2, 7])
B = torch.tensor([True, False, True])
M = torch.arange(4).reshape(2, 2)
X = torch.arange(6.0).reshape(2, 3) / 4
u8, i32, i64, bf16, bool_ = torch.uint8, torch.int32, torch.int64, torch.bfloat16, torch.bool
index = torch.tensor

GIVEN: dict[str, tuple[Callable[[], Any], Any, Any]] = {
    "clamp wraps negative bounds": (lambda: torch.clamp(U, -1, 1), [1, 1, 1, 1], u8),
    "clamp_min wraps": (lambda: U.clamp_min(-1), [255] * 4, u8),
    "pad bools": (lambda: F.pad(B, (1, 1), value=0.25), [True, True, False, True, True], bool_),
    "searchsorted": (lambda: torch.searchsorted(I, 0.5), 3, i64),
    "bucketize": (lambda: torch.bucketize(0.5, I), 3, i64),
    "addcmul without fractions": (lambda: torch.addcmul(I, I, I, value=1.7), [6, 0, 0, 6, 56], i64),
    "addmm": (lambda: torch.addmm(M, M, M, beta=0.5, alpha=2), [[4, 6], [12, 22]], i64),
    "addmv": (lambda: torch.addmv(M[0], M, M[0], beta=1, alpha=1.7), [1, 4], i64),
    "baddbmm": (lambda: torch.baddbmm(M[None], M[None], M[None], beta=0.5, alpha=2)[0], [[4, 6], [12, 22]], i64),
    "addbmm": (lambda: torch.addbmm(M.int(), M[None].int(), M[None].int()), [[2, 4], [8, 14]], i32),
    "bilinear": (lambda: F.bilinear(M.int(), M.int(), M[None].int()), [[3], [45]], i32),
    "l1_loss sums": (lambda: F.l1_loss(U, U.flip(0), reduction="sum"), 512, i64),
    "gaussian_nll_loss": (lambda: F.gaussian_nll_loss(I, I + 1, 0.5), 0.6534, torch.float32),
    "lerp of bytes": (lambda: U.lerp(U.flip(0), torch.tensor(0.25)), [50, 1.25, 1.75, 150], torch.float32),
    "lerp of bools": (lambda: B.lerp(B.flip(0), torch.tensor(0.25)), [1, 0, 1], torch.float32),
    "vander of bools": (lambda: torch.vander(B, 1), [[1], [1], [1]], i64),
    "threshold": (lambda: F.threshold(I, -0.5, -1.7), [-1, -1, -1, 2, 7], i64),
    "threshold of bytes": (lambda: F.threshold(U, 1, -1), [255, 255, 2, 200], u8),
    "threshold_": (lambda: F.threshold_(I.clone(), 0.1, 20), [20, 20, 20, 2, 7], i64),
    "margin_ranking_loss": (lambda: F.margin_ranking_loss(I, I.flip(0), torch.ones(5).long()), 2.6, torch.float32),
    "logsumexp of bools": (lambda: torch.logsumexp(B, 0), 1.8620, torch.float32),
    "conv1d of bytes": (lambda: F.conv1d(U[None, None], U[None, None, :2]), [[[1, 2, 200]]], u8),
    "conv1d in groups": (
        lambda: F.conv1d(
            I[None, None].expand(1, 4, 5), torch.arange(16).reshape(4, 2, 2), torch.arange(4), 2, 1, 2, 2
        ),
        [[[-4, 6, 4], [-11, 15, 21], [-18, 24, 38], [-25, 33, 55]]],
        i64,
    ),
    "conv2d": (
        lambda: F.conv2d(torch.arange(9).reshape(1, 1, 3, 3), torch.ones(1, 1, 2, 2).long(), padding=1)[0, 0],
        [[0, 1, 3, 2], [3, 8, 12, 7], [9, 20, 24, 13], [6, 13, 15, 8]],
        i64,
    ),
    "scatter_add": (lambda: (~B).scatter_add(0, index([0, 0]), B[[0, 2]]), [True, True, False], bool_),
    "index_add": (lambda: B.index_add(0, index([0, 0]), B[[0, 2]], alpha=-1), [True, False, True], bool_),
    "index_put": (
        lambda: torch.zeros(3).bool().index_put((index([0, 0]),), B[[0, 2]], accumulate=True),
        [True, False, False],
        bool_,
    ),
    "scatter_reduce prod": (lambda: B.scatter_reduce(0, index([0, 0, 1]), B, "prod"), [False, False, True], bool_),
    "scatter_reduce amax": (lambda: B.scatter_reduce(0, index([0, 0, 1]), B, "amax"), [True, True, True], bool_),
    "rms_norm": (lambda: F.rms_norm(X.to(bf16), (3,), torch.ones(3)).dtype, bf16, None),
    "ldexp": (lambda: torch.ldexp(X.to(bf16), index([2, 1, 0])), [[0, 0.5, 0.5], [3, 2, 1.25]], bf16),
    "binary_cross_entropy": (
        lambda: F.binary_cross_entropy(X.to(bf16).sigmoid(), X.to(bf16).sigmoid(), torch.ones(3)).dtype, bf16, None
    ),
    "with_logits": (
        lambda: F.binary_cross_entropy_with_logits(X.to(bf16), X.to(bf16), pos_weight=torch.ones(3)).dtype, bf16, None
    ),
    "sum into float32": (
        lambda: torch.sum(torch.tensor([1.0, 2**-9]).to(bf16), 0, out=torch.zeros(())), 1 + 2**-9, torch.float32
    ),
    "matrix_exp": (lambda: torch.matrix_exp(torch.zeros(2, 2).to(bf16)), [[1, 0], [0, 1]], bf16),
}  # fmt: skip


@pytest.mark.parametrize("name", GIVEN)
@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "compiled"])
def test_values(name: str, compiled: bool) -> None:
    call, value, dtype = GIVEN[name]
    found = torch.compile(call)() if compiled else call()
    if dtype is None:
        assert found is value
        return
    assert found.dtype is dtype
    torch.testing.assert_close(found, torch.tensor(value, dtype=dtype), atol=1e-4, rtol=1e-4)


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "clamp beyond the dtype": (
        lambda: U.clamp(5, 300),
        "value cannot be converted to type uint8_t without overflow",
    ),
    "interpolate": (
        lambda: F.interpolate(I[None, None], 3, mode="linear"),
        "\"linear\" not implemented for 'Long'",
    ),
    "area": (lambda: F.adaptive_avg_pool1d(I[None], 2), "not implemented for 'Long'"),
    "addr": (
        lambda: torch.addr(M, M[0], M[1], alpha=1.5),
        "argument alpha must not be a floating point number",
    ),
    "lerp": (lambda: torch.lerp(I, I, 0.5), "\"lerp_kernel_scalar\" not implemented for 'Long'"),
    "renorm": (lambda: M.renorm(2, 0, 1), "Expected a floating point or complex tensor as input. Got Long"),
    "rrelu": (lambda: F.rrelu(I, training=True), "\"rrelu_with_noise_out_cpu\" not implemented for 'Long'"),
    "orgqr": (lambda: torch.orgqr(M, M[0]), "not implemented for 'Long'"),
    "l1_loss": (lambda: F.l1_loss(I, I), r"mean\(\): could not infer output dtype"),
    "abs": (lambda: B.abs(), "\"abs_cpu\" not implemented for 'Bool'"),
    "trunc": (lambda: B.trunc(), "\"trunc_vml_cpu\" not implemented for 'Bool'"),
    "round": (lambda: B.round(), "\"round_vml_cpu\" not implemented for 'Bool'"),
    "conv": (lambda: F.conv1d(I[None, None], torch.ones(1, 1, 9).long()), "Kernel size can't be greater"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    call, message = REFUSED[name]
    with pytest.raises((RuntimeError, NotImplementedError), match=message):
        call()
