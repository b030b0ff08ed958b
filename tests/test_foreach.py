"""`torch._foreach_...`: PyTorch's functions on lists of tensors."""

import pytest

import vitrify as torch


def lists() -> list[torch.Tensor]:
    return [torch.tensor([4.0, 9.0]), torch.tensor([1.0])]


@pytest.mark.parametrize(
    ("call", "wanted"),
    [
        (lambda a: torch._foreach_sqrt(a), ([2.0, 3.0], [1.0])),
        (lambda a: torch._foreach_add(a, 1), ([5.0, 10.0], [2.0])),
        (lambda a: torch._foreach_add(a, [1.0, 2.0]), ([5.0, 10.0], [3.0])),
        (lambda a: torch._foreach_add(a, a, alpha=3), ([16.0, 36.0], [4.0])),
        (lambda a: torch._foreach_mul(a, torch.tensor(2.0)), ([8.0, 18.0], [2.0])),
        (lambda a: torch._foreach_div(a, scalars=[2, 4]), ([2.0, 4.5], [0.25])),
        (lambda a: torch._foreach_addcmul(a, a, a, [1.0, 2.0]), ([20.0, 90.0], [3.0])),
        (lambda a: torch._foreach_addcmul(a, a, a, torch.tensor([1.0, 2.0])), ([20.0, 90.0], [3.0])),
        (lambda a: torch._foreach_addcdiv(a, a, a, value=3), ([7.0, 12.0], [4.0])),
        (lambda a: torch._foreach_lerp(a, [x * 0 for x in a], weight=[0.5, 1.0]), ([2.0, 4.5], [0.0])),
        (lambda a: torch._foreach_pow(2, a), ([16.0, 512.0], [2.0])),
        (lambda a: torch._foreach_maximum(a, 5), ([5.0, 9.0], [5.0])),
        (lambda a: torch._foreach_norm(a, 1), (13.0, 1.0)),
        (lambda a: torch._foreach_max(a), (9.0, 1.0)),
    ],
)
def test_each_tensor_of_a_list(call: object, wanted: tuple[object, ...]) -> None:
    found = call(lists())  # type: ignore[operator]
    assert isinstance(found, tuple)
    assert [x.tolist() for x in found] == list(wanted)


def test_in_place_the_list_comes_back() -> None:
    a, zeros = lists(), [torch.zeros(2), torch.zeros(1)]
    assert torch._foreach_lerp_(a, zeros, 0.25) is a
    assert [x.tolist() for x in a] == [[3.0, 6.75], [0.75]]
    torch._foreach_copy_(zeros, src=a)
    torch._foreach_zero_(a)
    assert (zeros[0].tolist(), a[0].tolist()) == ([3.0, 6.75], [0.0, 0.0])


def test_lists_of_other_lengths_are_refused() -> None:
    with pytest.raises(RuntimeError, match="same number of tensors, got 2 and 1"):
        torch._foreach_add(lists(), [1.0])
    with pytest.raises(RuntimeError, match="at least one tensor"):
        torch._foreach_neg([])
