"""`axis` and `keepdims`, as programs that come from NumPy say `dim` and `keepdim`."""

import pytest

import vitrify as torch

X = torch.arange(12.0).reshape(3, 4)


def test_functions_and_methods_take_axis() -> None:
    assert torch.equal(X.sum(axis=0), X.sum(0))
    assert torch.equal(torch.max(X, axis=1).values, X.amax(1))
    assert torch.equal(X.std(axis=(0, 1), keepdims=True), X.std((0, 1), keepdim=True))
    assert torch.equal(torch.linalg.norm(X, axis=1), torch.linalg.norm(X, dim=1))
    assert torch.equal(torch.fft.fft(X, axis=0), torch.fft.fft(X, dim=0))
    assert torch.equal(X.clone().cumsum_(axis=1), X.cumsum(1))


def test_shape_methods_in_place_take_keywords() -> None:
    assert X.clone().unsqueeze_(dim=0).shape == (1, 3, 4)
    assert X.clone().transpose_(dim0=0, dim1=1).shape == (4, 3)
    assert X.clone().lt_(other=5.0).sum() == 5


@pytest.mark.parametrize("call", [lambda: X.sum(dim=0, axis=0), lambda: torch.cat([X], keepdims=True)])
def test_names_that_do_not_fit_are_refused(call: object) -> None:
    with pytest.raises(TypeError, match=r"unexpected keyword argument '(axis|keepdims)'"):
        call()  # type: ignore[operator]
