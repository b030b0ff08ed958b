"""A line search for a step that satisfies the strong Wolfe conditions."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from ..tensor import Tensor


@dataclass(frozen=True)
class Point:
    """A step along the direction: the loss there, its gradient, the gradient's component along the direction."""

    step: float
    loss: float
    grad: Tensor
    slope: float


def strong_wolfe(
    evaluate: Callable[[float], tuple[float, Tensor]],
    step: float,
    direction: Tensor,
    loss: float,
    grad: Tensor,
    slope: float,
    *,
    max_steps: int,
    c1: float = 1e-4,
    c2: float = 0.9,
    tolerance_change: float = 1e-9,
) -> tuple[float, Tensor, float, int]:
    """Loss, gradient and length of a step with enough decrease (c1) and a small enough slope (c2), and how often the
    function was evaluated (`max_steps` times and once more at most). J. Nocedal, S. Wright, "Numerical Optimization",
    2006, algorithms 3.5 and 3.6.

    `evaluate(step)` gives loss and gradient; `loss`, `grad`, `slope` are those at 0.
    """
    largest = float(direction.abs().max())
    evaluations = 0

    def at(length: float) -> Point:
        nonlocal evaluations
        evaluations += 1
        value, gradient = evaluate(length)
        return Point(length, value, gradient.clone(), float(gradient.dot(direction)))

    def too_high(point: Point) -> bool:
        return point.loss > loss + c1 * point.step * slope

    start = Point(0.0, loss, grad.clone(), slope)
    previous, now = start, at(step)
    bracket: list[Point] = []
    found = False
    for count in range(max_steps):
        if too_high(now) or (count > 0 and now.loss >= previous.loss):
            bracket = [previous, now]
            break
        if abs(now.slope) <= -c2 * slope:
            bracket, found = [now], True
            break
        if now.slope >= 0:
            bracket = [previous, now]
            break
        least = now.step + 0.01 * (now.step - previous.step)
        longer = cubic_minimum(previous, now, (least, now.step * 10))
        previous, now = now, at(longer)
    else:
        bracket = [start, now]

    count = evaluations - 1
    stuck = False
    low, high = (0, 1) if bracket[0].loss <= bracket[-1].loss else (1, 0)
    while not found and count < max_steps:
        ends = sorted(point.step for point in bracket)
        width = ends[1] - ends[0]
        if width * largest < tolerance_change:
            break
        middle = cubic_minimum(bracket[0], bracket[1])
        # A step too close to an end of the bracket hardly narrows it: once it may, then it is moved inside.
        if min(ends[1] - middle, middle - ends[0]) / width < 0.1:
            if stuck or middle >= ends[1] or middle <= ends[0]:
                near_top = abs(middle - ends[1]) < abs(middle - ends[0])
                middle = ends[1] - 0.1 * width if near_top else ends[0] + 0.1 * width
                stuck = False
            else:
                stuck = True
        else:
            stuck = False
        point = at(middle)
        count += 1
        if too_high(point) or point.loss >= bracket[low].loss:
            bracket[high] = point
            low, high = (0, 1) if bracket[0].loss <= bracket[1].loss else (1, 0)
            continue
        if abs(point.slope) <= -c2 * slope:
            found = True
        elif point.slope * (bracket[high].step - bracket[low].step) >= 0:
            bracket[high] = bracket[low]
        bracket[low] = point
    best = bracket[low] if len(bracket) > 1 else bracket[0]
    return best.loss, best.grad, best.step, evaluations


def cubic_minimum(a: Point, b: Point, bounds: tuple[float, float] | None = None) -> float:
    """Where the cubic through two points with their slopes has its minimum, within bounds (by default the points)."""
    lowest, highest = bounds or (min(a.step, b.step), max(a.step, b.step))
    d1 = a.slope + b.slope - 3 * (a.loss - b.loss) / (a.step - b.step)
    square = d1**2 - a.slope * b.slope
    if square < 0:
        return (lowest + highest) / 2.0
    d2 = math.sqrt(square)
    if a.step <= b.step:
        place = b.step - (b.step - a.step) * ((b.slope + d2 - d1) / (b.slope - a.slope + 2 * d2))
    else:
        place = a.step - (a.step - b.step) * ((a.slope + d2 - d1) / (a.slope - b.slope + 2 * d2))
    return min(max(place, lowest), highest)
