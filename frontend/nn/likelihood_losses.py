"""Negative log likelihoods of a Poisson and a normal distribution, and of a labelling without alignment (CTC)."""

from __future__ import annotations

import math
from collections.abc import Sequence

from .. import functional_pointwise as pointwise
from ..autocast import full_precision
from ..creation import counted, tensor
from ..creation import full as filled
from ..dispatch import apply, op_named
from ..functional_indexing import gather
from ..functional_shape import cat
from ..half_precision import in_float32
from ..ir import dtypes
from ..ir.ops.alignments import NOWHERE
from ..tensor import Tensor, scalar_type_name
from .padding import pad
from .reduction import check, legacy, reduced


@full_precision
@in_float32
def poisson_nll_loss(
    input: Tensor,
    target: Tensor,
    log_input: bool = True,
    full: bool = False,
    size_average: bool | None = None,
    eps: float = 1e-8,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """rate - target * log(rate), the input being the rate or its logarithm; `full` adds Stirling's formula for
    log(target!) where the target exceeds 1."""
    reduction = legacy(size_average, reduce, reduction)
    if log_input:
        losses = input.exp() - target * input
    else:
        losses = input - target * (input + eps).log()
    if full:
        above = target > 1
        safe = pointwise.where(above, target, 2.0)
        stirling = safe * safe.log() - safe + (safe * (2 * math.pi)).log() * 0.5
        losses = losses + pointwise.where(above, stirling, 0.0)
    return reduced(losses, reduction)


@in_float32
def gaussian_nll_loss(
    input: Tensor,
    target: Tensor,
    var: Tensor | float,
    full: bool = False,
    eps: float = 1e-6,
    reduction: str = "mean",
) -> Tensor:
    """(log(var) + (input - target)**2 / var) / 2, the variance at least `eps`; `full` adds log(2 pi) / 2. In a
    compiled function a negative variance is not noticed."""
    if isinstance(var, int | float):
        if var < 0:
            raise ValueError("var has negative entry/entries")
        dtype = input.dtype if input.dtype.is_floating_point else None
        spread: Tensor = tensor(float(var), dtype=dtype).expand(input.shape)
    else:
        if var._array is not None and bool((var < 0).any()):
            raise ValueError("var has negative entry/entries")
        spread = var
    have, want = tuple(spread.shape), tuple(input.shape)
    if have != want:
        if want[:-1] == have:
            spread = spread.unsqueeze(-1)
        elif len(have) != len(want) or [v for v, n in zip(have, want) if v != n] != [1]:
            raise ValueError("var is of incorrect size")
    if reduction not in ("none", "mean", "sum"):
        raise ValueError(reduction + " is not valid")
    # The bound changes the value but not the gradient.
    bounded = spread + (spread.clamp(min=eps) - spread).detach()
    losses = (bounded.log() + (input - target) ** 2 / bounded) * 0.5
    if full:
        losses = losses + 0.5 * math.log(2 * math.pi)
    return reduced(losses, reduction)


_CTC_STATES = op_named("ctc_states")


def _logaddexp(a: Tensor, b: Tensor) -> Tensor:
    largest = a.detach().maximum(b.detach())
    return largest + ((a - largest).exp() + (b - largest).exp()).log()


def _lengths(lengths: Tensor | Sequence[int]) -> Tensor:
    return lengths if isinstance(lengths, Tensor) else tensor(list(lengths), dtype=dtypes.i64)


def _rows(targets: Tensor, lengths: Tensor) -> Tensor:
    """Targets [n, longest] from [n, longest] or from all in one row."""
    if targets.ndim == 2:
        return targets
    counts: list[int] = lengths.tolist()
    longest = max(counts, default=0)
    parts = [pad(part, (0, longest - len(part))) for part in targets.split(counts)]
    return cat([part.unsqueeze(0) for part in parts])


@full_precision
def ctc_loss(
    log_probs: Tensor,
    targets: Tensor,
    input_lengths: Tensor | Sequence[int],
    target_lengths: Tensor | Sequence[int],
    blank: int = 0,
    reduction: str = "mean",
    zero_infinity: bool = False,
) -> Tensor:
    """The negative log likelihood of the targets under log_probs[t, n, c], summed over all alignments; "mean" first
    divides by the targets' lengths. A. Graves et al., "Connectionist temporal classification", 2006."""
    check(reduction)
    if log_probs.dtype not in (dtypes.f32, dtypes.f64):
        raise NotImplementedError(
            f"\"ctc_loss_cpu\" not implemented for '{scalar_type_name(log_probs.dtype)}'"
        )
    if log_probs.ndim == 2:
        loss = ctc_loss(
            log_probs.unsqueeze(1),
            targets.unsqueeze(0) if targets.ndim == 1 else targets,
            _lengths(input_lengths).reshape(1),
            _lengths(target_lengths).reshape(1),
            blank,
            reduction,
            zero_infinity,
        )
        return loss.squeeze(0) if loss.ndim else loss
    inputs, counts = _lengths(input_lengths), _lengths(target_lengths)
    rows = _rows(targets, counts)
    steps, batch, longest = int(log_probs.shape[0]), log_probs.shape[1], int(rows.shape[1])
    if blank < 0 or blank >= log_probs.shape[2]:
        raise RuntimeError("blank must be in label range")
    # The labels with blanks between and around them, [n, 2 * longest + 1].
    blanks = filled((batch, longest, 1), blank, dtype=dtypes.i64)
    pairs = cat([blanks, rows.to(dtypes.i64).unsqueeze(2)], 2).reshape(batch, 2 * longest)
    labels = cat([pairs, blanks[:, :1, 0] if longest else filled((batch, 1), blank, dtype=dtypes.i64)], 1)
    width = 2 * longest + 1
    emitted = gather(log_probs, 2, labels.unsqueeze(0).expand(steps, batch, width))
    before = pad(labels, (2, 0), value=blank)[:, :width]
    may_skip = (labels != blank).logical_and(labels != before)

    state = apply(_CTC_STATES, (emitted, may_skip, inputs.to(dtypes.i64)))[-1]
    position = counted(width, 0, 1, dtypes.i64)
    last = (counts * 2).unsqueeze(1)
    ends = position == last, position == last - 1
    at_end = [pointwise.where(end, state, 0.0).sum(1) for end in ends]
    likelihood = pointwise.where(counts > 0, _logaddexp(*at_end), at_end[0])
    losses = -likelihood
    # PyTorch's gradient is that of normalized probabilities: as if each step's sum of them were a term.
    valid = (counted(steps, 0, 1, dtypes.i64).unsqueeze(1) < inputs).unsqueeze(2)
    mass = pointwise.where(valid, log_probs.exp(), 0.0).sum((0, 2))
    losses = losses + (mass - mass.detach())
    impossible = losses > -0.5 * NOWHERE
    losses = pointwise.where(impossible, 0.0 if zero_infinity else math.inf, losses)
    if reduction == "mean":
        return (losses / counts.clamp(min=1).to(losses.dtype)).mean()
    return reduced(losses, reduction)
