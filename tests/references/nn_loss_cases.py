"""More losses for nn_cases.py: those of (input, target), and as layers those of three tensors and more."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nn_attention_cases import _module

Draw = Callable[[Any], Any]


def _signs(t: Any, *shape: int) -> Any:
    return t.randint(0, 2, shape).float() * 2 - 1


def more_losses() -> dict[str, tuple[Callable[..., Any], Draw]]:
    """As `nn_cases.losses`."""

    def real(*shape: int) -> Draw:
        return lambda t: (t.randn(*shape, requires_grad=True), t.randn(*shape))

    def counts(t: Any) -> Any:
        return t.rand(5, 3, requires_grad=True), t.randint(0, 6, (5, 3)).float()

    def signs(*shape: int) -> Draw:
        return lambda t: (t.randn(*shape, requires_grad=True), _signs(t, *shape))

    def classes(t: Any) -> Any:
        return t.randn(5, 4, requires_grad=True), t.randint(0, 4, (5,))

    def labels(t: Any) -> Any:
        return t.randn(3, 4, requires_grad=True), t.tensor([[3, 0, -1, 1], [-1, 1, 2, 0], [2, 1, 0, 3]])

    def bits(t: Any) -> Any:
        return t.randn(5, 3, requires_grad=True), t.randint(0, 2, (5, 3)).float()

    def weight(t: Any, count: int) -> Any:
        return t.tensor([0.5, 2.0, 1.25, 0.75][:count])

    return {
        "poisson": (lambda t, r: t.nn.PoissonNLLLoss(reduction=r), counts),
        "poisson_full": (lambda t, r: t.nn.PoissonNLLLoss(log_input=False, full=True, reduction=r), counts),
        "hinge_embedding": (lambda t, r: t.nn.HingeEmbeddingLoss(0.8, reduction=r), signs(5, 3)),
        "soft_margin": (lambda t, r: t.nn.SoftMarginLoss(reduction=r), signs(5, 3)),
        "multi_margin": (lambda t, r: t.nn.MultiMarginLoss(reduction=r), classes),
        "multi_margin_all": (
            lambda t, r: t.nn.MultiMarginLoss(p=2, margin=0.7, weight=weight(t, 4), reduction=r),
            classes,
        ),
        "multi_margin_one": (
            lambda t, r: t.nn.MultiMarginLoss(reduction=r),
            lambda t: (t.randn(4, requires_grad=True), t.tensor(2)),
        ),
        "multilabel_margin": (lambda t, r: t.nn.MultiLabelMarginLoss(reduction=r), labels),
        "multilabel_soft_margin": (lambda t, r: t.nn.MultiLabelSoftMarginLoss(reduction=r), bits),
        "multilabel_soft_margin_weight": (
            lambda t, r: t.nn.MultiLabelSoftMarginLoss(weight(t, 3), reduction=r),
            bits,
        ),
        "gaussian_number": (
            lambda t, r: _module(
                t, lambda self, x, y: self.loss(x, y, 0.3), loss=t.nn.GaussianNLLLoss(full=True, reduction=r)
            ),
            real(5, 3),
        ),
    }


def loss_layers() -> dict[str, tuple[Draw, Draw]]:
    """As `nn_cases.layers`: losses of more tensors, each reduction a case."""

    def triplet(t: Any) -> Any:
        return tuple(t.randn(5, 3, requires_grad=True) for _ in range(3))

    def ranked(t: Any) -> Any:
        return t.randn(6, requires_grad=True), t.randn(6, requires_grad=True), _signs(t, 6)

    def embedded(t: Any) -> Any:
        return t.randn(6, 4, requires_grad=True), t.randn(6, 4, requires_grad=True), _signs(t, 6)

    def normal(*shape: int) -> Draw:
        return lambda t: (
            t.randn(5, 3, requires_grad=True),
            t.randn(5, 3, requires_grad=True),
            t.rand(*shape).requires_grad_(),
        )

    def sequences(t: Any) -> Any:
        return (
            t.randn(7, 3, 5).log_softmax(2).detach().requires_grad_(),
            t.tensor([[1, 2, 2], [3, 1, 4], [4, 4, 0]]),
            t.tensor([7, 6, 4]),
            t.tensor([3, 3, 2]),
        )

    def impossible(t: Any) -> Any:
        return (
            t.randn(3, 2, 4).log_softmax(2).detach().requires_grad_(),
            t.tensor([[1, 1, 1], [2, 0, 0]]),
            t.tensor([3, 3]),
            t.tensor([3, 1]),
        )

    makers: dict[str, tuple[Callable[..., Any], Draw]] = {
        "margin_ranking": (lambda t, r: t.nn.MarginRankingLoss(0.3, reduction=r), ranked),
        "cosine_embedding": (lambda t, r: t.nn.CosineEmbeddingLoss(0.1, reduction=r), embedded),
        "triplet": (lambda t, r: t.nn.TripletMarginLoss(reduction=r), triplet),
        "triplet_swap": (lambda t, r: t.nn.TripletMarginLoss(2.0, p=1.0, swap=True, reduction=r), triplet),
        "triplet_distance": (
            lambda t, r: t.nn.TripletMarginWithDistanceLoss(margin=0.7, reduction=r),
            triplet,
        ),
        "gaussian": (lambda t, r: t.nn.GaussianNLLLoss(reduction=r), normal(5, 3)),
        "gaussian_row": (lambda t, r: t.nn.GaussianNLLLoss(full=True, eps=0.3, reduction=r), normal(5)),
        "ctc": (lambda t, r: t.nn.CTCLoss(reduction=r), sequences),
        "ctc_blank": (lambda t, r: t.nn.CTCLoss(blank=0, zero_infinity=True, reduction=r), impossible),
    }
    return {
        f"{name}_{reduction}": ((lambda t, make=make, r=reduction: make(t, r)), draw)
        for name, (make, draw) in makers.items()
        for reduction in ("mean", "sum", "none")
    }
