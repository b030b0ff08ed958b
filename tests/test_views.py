"""Views: they share memory, their strides are NumPy's, and writes travel through any chain of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import vitrify as torch
from vitrify import memory_layout
from vitrify.dispatch import TENSORS
from vitrify.ir.dtypes import f32
from vitrify.ir.types import TensorType
from vitrify.tensor import view_of, without_array
from vitrify.views import apply_views, write_through


@st.composite
def chains(draw: Any) -> tuple[tuple[int, ...], list[Any]]:
    """A shape, and view functions that can be applied one after the other."""
    shape = tuple(draw(st.lists(st.integers(1, 4), min_size=1, max_size=4)))
    probe = np.empty(shape)
    steps: list[Any] = []
    for _ in range(draw(st.integers(1, 5))):
        kind = draw(st.sampled_from(["slice", "select", "permute", "unsqueeze", "squeeze", "reshape"]))
        rank = probe.ndim
        if kind == "slice" and rank:
            dim = draw(st.integers(0, rank - 1))
            size = probe.shape[dim]
            start = draw(st.integers(0, size - 1))
            stop, step = draw(st.integers(start + 1, size)), draw(st.integers(1, 3))
            index = (slice(None),) * dim + (slice(start, stop, step),)
            steps.append(lambda x, index=index: x[index])
        elif kind == "select" and rank:
            dim = draw(st.integers(0, rank - 1))
            index = (slice(None),) * dim + (draw(st.integers(-probe.shape[dim], probe.shape[dim] - 1)),)
            steps.append(lambda x, index=index: x[index])
        elif kind == "permute":
            order = tuple(draw(st.permutations(range(rank))))
            steps.append(
                lambda x, order=order: x.permute(order) if isinstance(x, torch.Tensor) else x.transpose(order)
            )
        elif kind == "unsqueeze":
            index = (slice(None),) * draw(st.integers(0, rank)) + (None,)
            steps.append(lambda x, index=index: x[index])
        elif kind == "squeeze":
            steps.append(lambda x: x.squeeze())
        elif kind == "reshape" and rank and _viewable(probe, (-1,)) is not None:
            steps.append(lambda x: x.view(-1) if isinstance(x, torch.Tensor) else _viewable(x, (-1,)))
        else:
            continue
        probe = steps[-1](probe)
    return shape, steps


def _viewable(array: np.ndarray[Any, Any], shape: tuple[int, ...]) -> Any:
    """The array over the same memory in another shape, or None: NumPy's own judgement."""
    seen = array.view()
    try:
        seen.shape = tuple(array.size if s == -1 else s for s in shape)
    except AttributeError:
        return None
    return seen


def numbered(shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    return np.arange(np.prod(shape, dtype=int), dtype=np.float32).reshape(shape)


@given(chains())
@settings(max_examples=150, deadline=None)
def test_a_chain_of_views_shares_memory_and_strides_with_numpys(chain: Any) -> None:
    shape, steps = chain
    array = numbered(shape)
    tensor, expected = torch.from_numpy(array), array
    for step in steps:
        tensor, expected = step(tensor), step(expected)
    np.testing.assert_array_equal(tensor.numpy(), expected)
    assert np.shares_memory(tensor.numpy(), array)
    assert tensor.is_contiguous() == expected.flags.c_contiguous
    # The same chain without arrays, as inside a compiled function: strides follow from the views.
    bare = without_array(TensorType(shape, f32), None)
    for view in tensor._views:
        bare = view_of(bare, view, None, view.op.infer_types([bare._type], view.attrs)[0])
    for size, derived, real in zip(expected.shape, memory_layout.strides(bare), expected.strides):
        assert size == 1 or derived == real // 4


@given(chains())
@settings(max_examples=100, deadline=None)
def test_a_write_through_a_chain_equals_the_functional_one(chain: Any) -> None:
    shape, steps = chain
    base = torch.from_numpy(numbered(shape))
    before = base.clone()
    view = base
    for step in steps:
        view = step(view)
    new = view.clone() * 10 + 1
    functional = write_through(TENSORS, before, view._views, new)
    version = base._version
    view.copy_(new)
    np.testing.assert_array_equal(base.numpy(), functional.numpy())
    np.testing.assert_array_equal(apply_views(TENSORS, functional, view._views).numpy(), new.numpy())
    assert base._version == view._version == version + 1


@given(
    st.lists(st.integers(1, 4), min_size=1, max_size=4),
    st.data(),
)
@settings(max_examples=150, deadline=None)
def test_which_shapes_can_be_viewed_is_numpys_judgement(shape: list[int], data: Any) -> None:
    order = data.draw(st.permutations(range(len(shape))))
    array = numbered(tuple(shape)).transpose(order)
    flat = int(array.size)
    first = data.draw(st.sampled_from([n for n in range(1, flat + 1) if flat % n == 0]))
    wanted = (first, flat // first)
    tensor = torch.from_numpy(np.ascontiguousarray(array.transpose(np.argsort(order)))).permute(tuple(order))
    assert memory_layout.can_view(tensor, wanted) == (_viewable(array, wanted) is not None)
    np.testing.assert_array_equal(tensor.reshape(wanted).numpy(), array.reshape(wanted))


@pytest.mark.parametrize(
    "make",
    [
        lambda x: x[0],
        lambda x: x[1:, ::2],
        lambda x: x.t(),
        lambda x: x.T,
        lambda x: x.view(2, 6),
        lambda x: x.reshape(12),
        lambda x: x.unsqueeze(0),
        lambda x: x.squeeze(),
        lambda x: x.narrow(1, 1, 2),
        lambda x: x.unbind(1)[2],
        lambda x: x.split(2, 1)[0],
        lambda x: x.chunk(3)[1],
        lambda x: x.diagonal(),
        lambda x: x.expand(2, 3, 4)[1],
        lambda x: x.detach(),
        lambda x: x.data,
        lambda x: x.flatten(),
        lambda x: x.permute(1, 0).transpose(0, 1),
        lambda x: x[...],
        lambda x: x.contiguous(),
    ],
)
def test_views_share_memory(make: Any) -> None:
    x = torch.zeros(3, 4)
    view = make(x)
    x.fill_(7)
    assert (view == 7).all()
    assert view._storage is x._storage


@pytest.mark.parametrize(
    "make",
    [
        lambda x: x[[0, 1]],
        lambda x: x[x == 0],
        lambda x: x.clone(),
        lambda x: x.flip(0),
        lambda x: x.t().reshape(12),
        lambda x: x.t().contiguous(),
        lambda x: x.repeat(2, 1),
        lambda x: x + 0,
        lambda x: x.sum(()),
        lambda x: x.double(),
        lambda x: torch.cat([x]),
        lambda x: x.relu(),
        lambda x: x.roll(0, 0),
        lambda x: torch.tensor(x.numpy()),
    ],
)
def test_copies_do_not_share_memory(make: Any) -> None:
    x = torch.zeros(3, 4)
    copy = make(x)
    x.fill_(7)
    assert not (copy == 7).any()


def test_a_view_knows_its_base_and_the_base_knows_nothing() -> None:
    x = torch.zeros(3, 4)
    v = x[0]
    assert v._is_view() and v._base is x and not x._is_view()
    assert v[1:]._base is x
    assert v.detach()._base is None


def test_writes_through_detached_memory_are_noticed() -> None:
    x = torch.ones(3, requires_grad=True)
    y = x * 1
    z = y * y
    y.detach().mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        z.sum().backward()


def test_data_is_a_back_door() -> None:
    x = torch.ones(3, requires_grad=True)
    y = x * 1
    z = y * y
    y.data[0:1].mul_(5)
    z.sum().backward()
    assert x.grad.tolist() == [10.0, 2.0, 2.0]


def test_zero_sized_and_zero_dim_views() -> None:
    assert torch.zeros(0, 3).view(3, 0).shape == (3, 0)
    assert torch.zeros(2, 3)[2:].shape == (0, 3)
    assert torch.zeros(2, 3)[1:0].shape == (0, 3)
    assert torch.tensor(3.0).view(1, 1).shape == (1, 1)
    assert torch.tensor(3.0)[None].shape == (1,)
    assert torch.zeros(0).split(2)[0].shape == (0,)


@pytest.mark.parametrize(
    "diagonal_of",
    [
        lambda b: b.diagonal(dim1=-1, dim2=-2),
        lambda b: b.t().diagonal(1),
        lambda b: b[1:, 1:].diagonal(),
        lambda b: b[1:, :2].diagonal(-1),
        lambda b: b.reshape(3, 3, 1).movedim(2, 0).diagonal(0, 2, 1)[0],
    ],
)
def test_a_diagonal_is_a_view_however_the_matrix_lies(diagonal_of) -> None:
    want, b = np.zeros((3, 3)), torch.zeros(3, 3, dtype=torch.float64, requires_grad=True)
    c = b * 1
    seen = diagonal_of(c.detach())
    seen.fill_(2.0)
    places = c.detach().numpy() == 2
    assert places.sum() == seen.numel() > 0
    c = b * 1
    diagonal_of(c).mul_(3.0)
    c.sum().backward()
    want[:] = np.where(places, 3, 1)
    np.testing.assert_array_equal(b.grad.numpy(), want)
