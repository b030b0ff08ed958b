"""A function's derivative at a point as a linear map: its tape from outputs to inputs, run either way.

Forwards it is the derivative of the way backwards: with v a stand-in for the cotangent, v -> J^T v is linear, so its own
backward at a tangent t is J t (J. Townsend, "A new trick for calculating Jacobian vector products", 2017). Every op
whose gradient rule is differentiable has a forward derivative by that, and vmap of it pushes many tangents at once.
"""

from __future__ import annotations

from collections.abc import Sequence

from ..autograd import api
from ..autograd.grad_mode import set_grad_enabled
from ..dispatch import TENSORS
from ..state import local
from ..tensor import Tensor
from .batched import lower_history
from .levels import Level


class LinearMap:
    """J, for a function that was called with `level.input(...)` tensors `inputs` and returned `outputs`."""

    def __init__(self, level: Level, inputs: Sequence[Tensor], outputs: Sequence[Tensor]):
        self.level = level
        self.inputs = inputs
        self.outputs = outputs
        self._seen = level.sees_outside(outputs)
        self._forwards: tuple[list[Tensor], list[int], list[Tensor]] | None = None

    def pull(
        self,
        cotangents: Sequence[Tensor] | None,
        retain_graph: bool = True,
        create_graph: bool | None = None,
    ) -> list[Tensor]:
        """J^T v: one gradient per input, zeros where nothing flows."""
        kept = [i for i, out in enumerate(self.outputs) if out.requires_grad]
        if not kept:
            return [TENSORS.zeros_like(x) for x in self.inputs]
        given = None if cotangents is None else [cotangents[i] for i in kept]
        if create_graph is None:
            create_graph = local.grad_enabled and (self._seen or _tracked(given or ()))
        return [self.level.result(g) for g in self._gradients(kept, given, retain_graph, create_graph)]

    def _gradients(
        self, kept: Sequence[int], given: Sequence[Tensor] | None, retain_graph: bool, create_graph: bool
    ) -> list[Tensor]:
        found = api.grad(
            [self.outputs[i] for i in kept],
            list(self.inputs),
            given,
            retain_graph=retain_graph or create_graph,
            create_graph=create_graph,
            allow_unused=True,
        )
        return [TENSORS.zeros_like(x) if g is None else g for g, x in zip(found, self.inputs)]

    def push(self, tangents: Sequence[Tensor]) -> list[Tensor | None]:
        """J t: one tangent per output, None where the output does not depend on the inputs."""
        stands, kept, gradients = self._ready_forwards()
        found: list[Tensor | None] = [None] * len(self.outputs)
        flowing = [(g, t) for g, t in zip(gradients, tangents) if g.requires_grad]
        if not flowing:
            return found
        create_graph = local.grad_enabled and (self._seen or _tracked(tangents))
        pushed = api.grad(
            [g for g, _ in flowing],
            stands,
            [t for _, t in flowing],
            retain_graph=True,
            create_graph=create_graph,
            allow_unused=True,
        )
        for i, tangent in zip(kept, pushed):
            found[i] = self.level.result(tangent)
        return found

    def _ready_forwards(self) -> tuple[list[Tensor], list[int], list[Tensor]]:
        """The stand-ins for the cotangents, the outputs that they belong to, and J^T of them."""
        if self._forwards is None:
            kept = [i for i, out in enumerate(self.outputs) if out.requires_grad]
            with set_grad_enabled(True):
                stands = [self.level.input(TENSORS.zeros_like(self.outputs[i])) for i in kept]
                gradients = self._gradients(kept, stands, True, True) if kept else []
            self._forwards = stands, kept, gradients
        return self._forwards


def _tracked(tensors: Sequence[Tensor]) -> bool:
    return any(t.requires_grad or lower_history(t) for t in tensors)
