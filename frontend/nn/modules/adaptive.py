"""Softmax over many classes of which few are frequent. E. Grave et al., "Efficient softmax approximation for GPUs",
2017."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from ... import capture
from ... import functional_pointwise as pointwise
from ...creation import zeros
from ...functional_indexing import gather
from ...functional_shape import cat
from ...ir.dtypes import DType
from ...tensor import Tensor
from .. import functional as F
from .container import ModuleList, Sequential
from .linear import Linear
from .module import Module


class _ASMoutput(NamedTuple):
    """The log likelihood of each row's target, and the mean of their negatives."""

    output: Tensor
    loss: Tensor


_ASMoutput.__name__ = "ASMoutput"


class AdaptiveLogSoftmaxWithLoss(Module):
    """Classes sorted by frequency, those before `cutoffs[0]` in the head; the rest in clusters, each with a projection
    to `in_features / div_value**i` features. input[n, in_features], target[n] -> (log likelihoods[n], loss)."""

    head: Linear
    tail: ModuleList

    def __init__(
        self,
        in_features: int,
        n_classes: int,
        cutoffs: Sequence[int],
        div_value: float = 4.0,
        head_bias: bool = False,
        device: Any = None,
        dtype: DType | None = None,
    ) -> None:
        super().__init__()
        cutoffs = list(cutoffs)
        if not cutoffs:
            raise ValueError("cutoffs should be a sequence of length larger than 0")
        whole = all(int(c) == c for c in cutoffs)
        if not whole or cutoffs != sorted(set(cutoffs)) or cutoffs[0] <= 0 or cutoffs[-1] > n_classes - 1:
            raise ValueError(
                "cutoffs should be a sequence of unique, positive integers sorted in an increasing order, where each "
                "value is between 1 and n_classes-1"
            )
        self.in_features = in_features
        self.n_classes = n_classes
        self.cutoffs = [*cutoffs, n_classes]
        self.div_value = div_value
        self.head_bias = head_bias
        self.shortlist_size = self.cutoffs[0]
        self.n_clusters = len(self.cutoffs) - 1
        self.head_size = self.shortlist_size + self.n_clusters
        self.head = Linear(in_features, self.head_size, head_bias, device, dtype)
        self.tail = ModuleList()
        for number, (low, high) in enumerate(pairwise(self.cutoffs), 1):
            width = int(in_features // div_value**number)
            self.tail.append(
                Sequential(
                    Linear(in_features, width, False, device, dtype),
                    Linear(width, high - low, False, device, dtype),
                )
            )

    def reset_parameters(self) -> None:
        """Anew the parameters of the head and of the clusters."""
        self.head.reset_parameters()
        for narrow, wide in self.tail:
            narrow.reset_parameters()
            wide.reset_parameters()

    def _check(self, input: Tensor, target: Tensor) -> None:
        if target.ndim > 1:
            raise RuntimeError("0D or 1D target tensor expected, multi-target not supported")
        if target.ndim and input.shape[0] != target.shape[0]:
            raise RuntimeError("Input and target should have the same size in the batch dimension.")
        if input.ndim != target.ndim + 1:
            raise RuntimeError(
                f"{target.ndim}D target tensor expects {target.ndim + 1}D input tensors, but found inputs with size "
                f"{input.shape}"
            )

    def forward(self, input_: Tensor, target_: Tensor) -> _ASMoutput:
        self._check(input_, target_)
        lone = target_.ndim == 0
        input = input_.unsqueeze(0) if lone else input_
        target = target_.unsqueeze(0) if lone else target_
        count = target.shape[0]
        within = zeros((count,), dtype=input.dtype)
        column = pointwise.where(target < self.shortlist_size, target, 0)
        traced = capture.active() is not None
        if not traced and bool(((target < 0) | (target >= self.n_classes)).any()):
            raise RuntimeError(
                f"Target values should be in [0, {self.n_classes - 1}], but values in range "
                f"[{target.min().item()}, {target.max().item()}] were found. "
            )
        for number, (low, high) in enumerate(pairwise(self.cutoffs)):
            member = (target >= low).logical_and(target < high)
            column = pointwise.where(member, self.shortlist_size + number, column)
            if traced:
                # Shapes cannot depend on values there: every row goes through every cluster.
                local = pointwise.where(member, target - low, 0)
                logp = F.log_softmax(self.tail[number](input), 1)
                found = gather(logp, 1, local.unsqueeze(1)).squeeze(1)
                within = pointwise.where(member, found, within)
                continue
            rows = member.nonzero().reshape(-1)
            if not rows.numel():
                continue
            logp = F.log_softmax(self.tail[number](input.index_select(0, rows)), 1)
            local = target.index_select(0, rows) - low
            within = within.index_add(0, rows, gather(logp, 1, local.unsqueeze(1)).squeeze(1))
        head = F.log_softmax(self.head(input), 1)
        output = within + gather(head, 1, column.unsqueeze(1)).squeeze(1)
        loss = (-output).mean()
        return _ASMoutput(output.squeeze(0) if lone else output, loss)

    def _get_full_log_prob(self, input: Tensor, head_output: Tensor) -> Tensor:
        head = F.log_softmax(head_output, 1)
        parts = [head[:, : self.shortlist_size]]
        for number, cluster in enumerate(self.tail):
            at = self.shortlist_size + number
            parts.append(F.log_softmax(cluster(input), 1) + head[:, at : at + 1])
        return cat(parts, 1)

    def log_prob(self, input: Tensor) -> Tensor:
        """The log likelihoods of all classes, [n, n_classes]."""
        return self._get_full_log_prob(input, self.head(input))

    def predict(self, input: Tensor) -> Tensor:
        """The likeliest class of each row."""
        head = self.head(input)
        best = head.argmax(1)
        in_cluster = best >= self.shortlist_size
        if capture.active() is not None:
            return pointwise.where(in_cluster, self._get_full_log_prob(input, head).argmax(1), best)
        rows = in_cluster.nonzero().reshape(-1)
        if not rows.numel():
            return best
        full_log_prob = self._get_full_log_prob(input.index_select(0, rows), head.index_select(0, rows))
        return best.index_copy(0, rows, full_log_prob.argmax(1))


__all__ = ["AdaptiveLogSoftmaxWithLoss"]
