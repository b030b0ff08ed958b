"""`torch.quasirandom.SobolEngine`: PyTorch's points, to the bit."""

import pytest

import vitrify as torch
from vitrify.quasirandom import SobolEngine


def integers(points: torch.Tensor) -> torch.Tensor:
    """The points times 2^30: whole numbers, below 2^24 of the highest bits in float32."""
    return (points.double() * 2**30).long()


def test_points_are_pytorchs() -> None:
    points = integers(SobolEngine(3).draw(8))
    assert points[0].tolist() == [0, 0, 0]
    assert points[5:].tolist() == [
        [939524096, 939524096, 134217728],
        [671088640, 134217728, 939524096],
        [134217728, 671088640, 402653184],
    ]
    many = integers(SobolEngine(1111).draw(40))
    assert many.sum() == 23251208110080
    assert many[39, [500, 1110]].tolist() == [452984832, 251658240]


def test_scrambled_points_are_pytorchs() -> None:
    points = integers(SobolEngine(4, scramble=True, seed=7).draw(6))
    assert points[3:].tolist() == [
        [411085280, 873397312, 362497184, 837527360],
        [373188992, 392421888, 77905264, 940692160],
        [925660288, 965785920, 637333184, 338013696],
    ]
    assert integers(SobolEngine(200, scramble=True, seed=7).draw(9)).sum() == 970004302776
    torch.manual_seed(3)
    points = integers(SobolEngine(2, scramble=True).draw(2))
    assert points.tolist() == [[73513872, 241084000], [667314816, 776405504]]


@pytest.mark.parametrize("scramble", [False, True])
def test_points_do_not_depend_on_how_they_are_drawn(scramble: bool) -> None:
    engine = SobolEngine(5, scramble, seed=1)
    whole = engine.draw(20, dtype=torch.float64)
    engine.reset()
    parts = [engine.draw(n, dtype=torch.float64) for n in (1, 1, 6, 12)]
    assert torch.equal(torch.cat(parts), whole)
    assert torch.equal(engine.reset().fast_forward(7).draw(13), whole[7:].float())
    out = torch.empty(0)
    assert engine.reset().draw(3, out=out) is out
    assert torch.equal(out, whole[:3].float())
    assert engine.num_generated == 3


def test_powers_of_two_and_dimensions_are_checked() -> None:
    engine = SobolEngine(2, scramble=True, seed=4)
    assert repr(engine) == "SobolEngine(dimension=2, scramble=True, seed=4)"
    assert engine.draw_base2(3).shape == (8, 2)
    with pytest.raises(ValueError, match=r"n=8\+2\*\*2=12"):
        engine.draw_base2(2)
    with pytest.raises(ValueError, match=r"\[1, 1111\]"):
        SobolEngine(1112)
