"""`torch.utils.flop_counter`: PyTorch's counts."""

import pytest

import vitrify as torch
from vitrify import nn
from vitrify.utils.flop_counter import FlopCounterMode


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3, groups=2, stride=2))
        self.b = nn.Linear(72, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.b(self.a(x).flatten(1))


# Forward, and forward with backward, as PyTorch 2.13 counts.
@pytest.mark.parametrize(
    ("make", "shape", "forward", "both"),
    [
        (lambda: nn.Linear(3, 4), (5, 3), 120, 240),
        (lambda: nn.Linear(3, 4, bias=False), (2, 5, 3), 240, 480),
        (lambda: nn.Conv2d(3, 4, 3, padding=1), (2, 3, 8, 8), 27648, 55296),
        (lambda: nn.ConvTranspose2d(3, 4, 3), (2, 3, 8, 8), 27648, 55296),
        (lambda: nn.MultiheadAttention(8, 2, batch_first=True), (2, 5, 8), 6720, 16320),
    ],
)
def test_counts_are_pytorchs(make: object, shape: tuple[int, ...], forward: int, both: int) -> None:
    module, x = make(), torch.ones(shape)  # type: ignore[operator]
    with FlopCounterMode(display=False) as counter:
        out = module(x, x, x)[0] if isinstance(module, nn.MultiheadAttention) else module(x)
        assert counter.get_total_flops() == forward
        out.sum().backward()
    assert counter.get_total_flops() == both
    module(x, x, x) if isinstance(module, nn.MultiheadAttention) else module(x)
    assert counter.get_total_flops() == both  # nothing counts after the block


def test_counts_by_module(capsys: pytest.CaptureFixture[str]) -> None:
    with FlopCounterMode() as counter:
        Net()(torch.ones(2, 3, 9, 9))
    found = {name: sum(counts.values()) for name, counts in counter.get_flop_counts().items()}
    wanted = {
        "Global": 54144,
        "Net": 54144,
        "Net.a": 52704,
        "Net.a.0": 42336,
        "Net.a.2": 10368,
        "Net.b": 1440,
    }
    assert found == wanted
    assert "Net.a " in capsys.readouterr().out


def test_a_failure_inside_leaves_no_trace() -> None:
    with pytest.raises(RuntimeError), FlopCounterMode(display=False) as counter:
        nn.Sequential(nn.Linear(3, 4))(torch.ones(5, 5))
    with counter:
        nn.Linear(3, 4)(torch.ones(5, 3))
    assert counter.get_flop_counts()["Linear"] == {"aten.addmm": 120}
