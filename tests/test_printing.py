"""Tensors print character for character as PyTorch prints them."""

from __future__ import annotations

import json
import pathlib
import sys

import pytest

import vitrify as torch
from vitrify import printing

REFERENCES = pathlib.Path(__file__).parent / "references"
sys.path.insert(0, str(REFERENCES))
from printing_cases import cases  # noqa: E402

EXPECTED = json.loads((REFERENCES / "printing.json").read_text())


@pytest.mark.parametrize("name", cases())
def test_arrays(name):
    array, options = cases()[name]
    with printing.printoptions(profile="default"), printing.printoptions(**options):
        assert repr(torch.as_tensor(array)) == EXPECTED[name]


def test_autograd_suffixes():
    leaf = torch.tensor([1.0, 2.0], requires_grad=True)
    assert repr(leaf) == "tensor([1., 2.], requires_grad=True)"
    assert repr(leaf * 2) == "tensor([2., 4.], grad_fn=<MulBackward0>)"
    assert repr(leaf.double()) == "tensor([1., 2.], dtype=torch.float64, grad_fn=<ToCopyBackward0>)"
    assert repr(leaf.detach()) == "tensor([1., 2.])"


def test_long_suffixes_go_to_the_next_line():
    row = torch.arange(12.0).reshape(1, 12).requires_grad_()
    assert repr(row.sum(0)) == (
        "tensor([ 0.,  1.,  2.,  3.,  4.,  5.,  6.,  7.,  8.,  9., 10., 11.],\n       grad_fn=<SumBackward1>)"
    )


def test_default_dtype_is_not_named():
    torch.set_default_dtype(torch.float64)
    try:
        assert repr(torch.tensor([1.5])) == "tensor([1.5000])"
        assert repr(torch.tensor([1.5], dtype=torch.float32)) == "tensor([1.5000], dtype=torch.float32)"
    finally:
        torch.set_default_dtype(torch.float32)


def test_format_of_a_number():
    assert f"{torch.tensor(1.23456):.2f}" == "1.23"
    assert f"{torch.tensor([1, 2])}" == "tensor([1, 2])"


def test_unknown_profile():
    with pytest.raises(ValueError, match="unknown print profile 'wide'"):
        torch.set_printoptions(profile="wide")
