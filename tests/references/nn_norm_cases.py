"""Normalization layers and distances for nn_cases.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Draw = Callable[[Any], Any]


def _affine(t: Any, module: Any) -> Any:
    """The module with a scale and a shift that are not 1 and 0."""
    with t.no_grad():
        for parameter in module.parameters():
            parameter.copy_(t.randn(*parameter.shape))
    return module


def _running(t: Any, module: Any) -> Any:
    """The module, in evaluation, with running statistics that are not 0 and 1."""
    with t.no_grad():
        module.running_mean.copy_(t.randn(*module.running_mean.shape))
        module.running_var.copy_(t.rand(*module.running_var.shape) + 0.5)
    return _affine(t, module).eval()


def norm_layers() -> dict[str, tuple[Draw, Draw]]:
    """As `nn_cases.layers`."""

    def image(*shape: int) -> Draw:
        return lambda t: (t.randn(*shape, requires_grad=True),)

    def pair(*shape: int) -> Draw:
        return lambda t: (t.randn(*shape, requires_grad=True), t.randn(*shape, requires_grad=True))

    return {
        "batch_norm1d": (lambda t: _affine(t, t.nn.BatchNorm1d(3)), image(7, 3)),
        "batch_norm1d_length": (lambda t: _affine(t, t.nn.BatchNorm1d(3, eps=1e-3)), image(4, 3, 5)),
        "batch_norm1d_eval": (lambda t: _running(t, t.nn.BatchNorm1d(3)), image(7, 3)),
        "batch_norm2d": (lambda t: _affine(t, t.nn.BatchNorm2d(3)), image(2, 3, 4, 5)),
        "batch_norm2d_plain": (lambda t: t.nn.BatchNorm2d(3, affine=False), image(2, 3, 4, 5)),
        "batch_norm2d_untracked": (
            lambda t: _affine(t, t.nn.BatchNorm2d(3, track_running_stats=False)).eval(),
            image(2, 3, 4, 5),
        ),
        "batch_norm2d_no_bias": (lambda t: _affine(t, t.nn.BatchNorm2d(3, bias=False)), image(2, 3, 4, 5)),
        "batch_norm2d_eval": (lambda t: _running(t, t.nn.BatchNorm2d(3)), image(2, 3, 4, 5)),
        "batch_norm3d": (lambda t: _affine(t, t.nn.BatchNorm3d(2)), image(2, 2, 3, 4, 2)),
        "layer_norm": (lambda t: _affine(t, t.nn.LayerNorm(8)), image(3, 8)),
        "layer_norm_3d": (lambda t: _affine(t, t.nn.LayerNorm(8, eps=1e-3)), image(2, 3, 8)),
        "layer_norm_two_dims": (lambda t: _affine(t, t.nn.LayerNorm([3, 4])), image(2, 3, 4)),
        "layer_norm_plain": (lambda t: t.nn.LayerNorm(6, elementwise_affine=False), image(4, 6)),
        "layer_norm_no_bias": (lambda t: _affine(t, t.nn.LayerNorm(6, bias=False)), image(4, 6)),
        "group_norm": (lambda t: _affine(t, t.nn.GroupNorm(2, 6)), image(3, 6, 4, 5)),
        "group_norm_flat": (lambda t: _affine(t, t.nn.GroupNorm(2, 8)), image(4, 8)),
        "group_norm_plain": (lambda t: t.nn.GroupNorm(2, 4, affine=False), image(2, 4, 5)),
        "instance_norm1d": (lambda t: t.nn.InstanceNorm1d(3), image(2, 3, 7)),
        "instance_norm1d_unbatched": (lambda t: t.nn.InstanceNorm1d(3), image(3, 7)),
        "instance_norm2d": (lambda t: _affine(t, t.nn.InstanceNorm2d(3, affine=True)), image(2, 3, 4, 5)),
        "instance_norm2d_tracked": (
            lambda t: _affine(t, t.nn.InstanceNorm2d(3, affine=True, track_running_stats=True)),
            image(2, 3, 4, 5),
        ),
        "instance_norm2d_eval": (
            lambda t: _running(t, t.nn.InstanceNorm2d(3, affine=True, track_running_stats=True)),
            image(2, 3, 4, 5),
        ),
        "instance_norm3d": (lambda t: t.nn.InstanceNorm3d(2), image(2, 2, 3, 2, 3)),
        "rms_norm": (lambda t: _affine(t, t.nn.RMSNorm(8)), image(3, 8)),
        "rms_norm_two_dims": (lambda t: _affine(t, t.nn.RMSNorm((3, 4), eps=1e-2)), image(2, 3, 4)),
        "rms_norm_plain": (lambda t: t.nn.RMSNorm(5, elementwise_affine=False), image(2, 3, 5)),
        "local_response_norm": (lambda t: t.nn.LocalResponseNorm(3, alpha=0.5), image(2, 5, 3, 4)),
        "local_response_norm_even": (lambda t: t.nn.LocalResponseNorm(2, 0.1, 0.5, 2.0), image(2, 4, 6)),
        "cosine_similarity": (lambda t: t.nn.CosineSimilarity(), pair(4, 5)),
        "cosine_similarity_dim": (lambda t: t.nn.CosineSimilarity(dim=2, eps=1e-6), pair(2, 3, 4)),
        "pairwise_distance": (lambda t: t.nn.PairwiseDistance(), pair(4, 5)),
        "pairwise_distance_1": (lambda t: t.nn.PairwiseDistance(p=1.0, keepdim=True), pair(4, 5)),
    }


# name -> (the layer between two others, the shape of a batch)
BATCH_NORMS: dict[str, tuple[Draw, tuple[int, ...]]] = {
    "momentum": (lambda t: t.nn.BatchNorm1d(6), (8, 4)),
    "cumulative": (lambda t: t.nn.BatchNorm1d(6, momentum=None), (8, 4)),
    "images": (lambda t: t.nn.BatchNorm2d(6, momentum=0.3), (4, 4, 5, 5)),
}


def train_batch_norm(t: Any, name: str, compile: Callable[[Any], Any], steps: int = 6) -> dict[str, Any]:
    """Losses, running statistics and the output in evaluation after a few SGD steps."""
    t.manual_seed(0)
    make, shape = BATCH_NORMS[name]
    first = t.nn.Conv2d(4, 6, 3) if len(shape) == 4 else t.nn.Linear(4, 6)
    norm = make(t)
    net = t.nn.Sequential(first, norm, t.nn.ReLU(), t.nn.Flatten())
    optimizer = t.optim.SGD(net.parameters(), lr=0.1)

    def step(x: Any) -> Any:
        optimizer.zero_grad()
        loss = (net(x) - 1.0).square().mean()
        loss.backward()
        optimizer.step()
        return loss

    run = compile(step)
    found: dict[str, Any] = {"losses": [run(t.randn(*shape)).item() for _ in range(steps)]}
    found["mean"], found["var"] = norm.running_mean.tolist(), norm.running_var.tolist()
    found["batches"] = norm.num_batches_tracked.item()
    found["evaluated"] = net.eval()(t.randn(*shape)).detach().reshape(-1).tolist()
    return found
