"""Order, counts and places: what PyTorch says of arguments that do not fit."""

from __future__ import annotations

import pytest

import vitrify as torch

X = torch.arange(6.0).reshape(2, 3)
J = torch.tensor([1, 2])


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: torch.topk(X, 4), RuntimeError, "selected index k out of range"),
        (lambda: torch.kthvalue(X, 0), RuntimeError, "selected number k out of range for dimension 1"),
        (lambda: torch.sort(X, 2), IndexError, r"expected to be in range of \[-2, 1\], but got 2"),
        (
            lambda: torch.median(torch.empty(0, 3), 0),
            IndexError,
            "Expected reduction dim 0 to have non-zero size",
        ),
        (
            lambda: torch.mode(torch.empty(0, 3), 0),
            IndexError,
            "Expected reduction dim 0 to have non-zero size",
        ),
        (
            lambda: torch.bucketize(X, X),
            RuntimeError,
            r"boundaries tensor must be 1 dimension, but got dim\(2\)",
        ),
        (
            lambda: torch.searchsorted(X, X[0], side="middle"),
            RuntimeError,
            "side can only be 'left' or 'right'",
        ),
        (
            lambda: torch.searchsorted(X[0], X, right=True, side="left"),
            RuntimeError,
            "side and right can't be set to opposites",
        ),
        (
            lambda: torch.searchsorted(torch.zeros(3, 3), X),
            RuntimeError,
            "first N-1 dimensions of boundaries tensor",
        ),
        (lambda: torch.isclose(X, J), RuntimeError, "Float did not match Long"),
        (
            lambda: torch.isclose(X, X, rtol=-1),
            RuntimeError,
            "rtol must be greater than or equal to zero, but got -1",
        ),
        (lambda: torch.bincount(X), NotImplementedError, "\"bincount_cpu\" not implemented for 'Float'"),
        (lambda: torch.bincount(-J), RuntimeError, "only supports 1-d non-negative integral inputs"),
        (
            lambda: torch.bincount(J, X[0]),
            RuntimeError,
            "weights should be 1-d and have the same length as input",
        ),
        (lambda: torch.bincount(J, minlength=-1), RuntimeError, "minlength should be >= 0"),
        (
            lambda: torch.repeat_interleave(X, J, 1),
            RuntimeError,
            r"repeats.size\(0\) = 2 and input.size\(1\) = 3",
        ),
        (lambda: torch.repeat_interleave(X, -J, 0), RuntimeError, "repeats can not be negative"),
        (
            lambda: torch.repeat_interleave(X, J, 0, output_size=9),
            RuntimeError,
            "does not match required size",
        ),
        (lambda: torch.histc(X, 0), RuntimeError, "bins must be > 0"),
        (lambda: torch.histc(X, 3, 2, 1), RuntimeError, "max must be larger than min"),
        (lambda: torch.isin(3, 4), TypeError, "received an invalid combination of arguments"),
    ],
)
def test_refusals(call, error, text):
    with pytest.raises(error, match=text):
        call()


def test_median_of_nothing_is_nan():
    assert torch.median(torch.empty(0)).isnan()


def test_results_are_named():
    assert torch.sort(X).values.shape == torch.sort(X).indices.shape
    assert repr(torch.histogram(X, 2)).startswith(
        "torch.return_types.histogram(\nhist=tensor([3., 3.]),\nbin_edges="
    )
