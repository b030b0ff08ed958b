"""Training steps as graphs, built without the front end: forward, loss, gradients, optimizer."""

from __future__ import annotations

import numpy as np

import vitrify.ir.ops  # noqa: F401  (fills the registry)
from vitrify.ir import dtypes
from vitrify.ir.builder import GraphBuilder
from vitrify.ir.dims import DimLike
from vitrify.ir.graph import Graph, Value
from vitrify.ir.types import TensorType
from vitrify.passes.autodiff import append_vjp
from vitrify.passes.base import Rewriter

LENET = {
    "conv1.weight": (6, 1, 5, 5),
    "conv1.bias": (6,),
    "conv2.weight": (16, 6, 5, 5),
    "conv2.bias": (16,),
    "fc1.weight": (120, 400),
    "fc1.bias": (120,),
    "fc2.weight": (84, 120),
    "fc2.bias": (84,),
    "fc3.weight": (10, 84),
    "fc3.bias": (10,),
}
POOL = {"kernel": (2, 2), "stride": (2, 2), "padding": (0, 0), "dilation": (1, 1), "ceil_mode": False}
CONV = {"stride": (1, 1), "padding": (0, 0), "dilation": (1, 1), "groups": 1}


def f32(*shape: DimLike) -> TensorType:
    return TensorType(shape, dtypes.f32)


def lenet_forward(F: GraphBuilder, x: Value, p: dict[str, Value], batch: DimLike) -> Value:
    for layer in ("conv1", "conv2"):
        x = F.convolution(x, p[f"{layer}.weight"], p[f"{layer}.bias"], **CONV)
        x = F.max_pool(F.relu(x), **POOL)
    x = F.reshape(x, shape=(batch, 400))
    for layer in ("fc1", "fc2", "fc3"):
        weight = F.permute(p[f"{layer}.weight"], dims=(1, 0))
        x = F.addmm(p[f"{layer}.bias"], x, weight)
        if layer != "fc3":
            x = F.relu(x)
    return x


def lenet_graph(batch: DimLike = 4) -> Graph:
    """x, parameters → the class scores."""
    F = GraphBuilder("lenet")
    x = F.input("x", f32(batch, 1, 32, 32))
    p = {name: F.input(name, f32(*shape)) for name, shape in LENET.items()}
    return F.finish([lenet_forward(F, x, p, batch)])


def lenet_step(batch: DimLike = 4) -> Graph:
    """x, y, lr, momentum, parameters, momentum buffers → loss, new parameters, new buffers (written to the
    inputs)."""
    F = GraphBuilder("lenet_step")
    x = F.input("x", f32(batch, 1, 32, 32))
    y = F.input("y", TensorType((batch,), dtypes.i64))
    lr, momentum = F.input("lr", f32()), F.input("momentum", f32())
    p = {name: F.input(name, f32(*shape)) for name, shape in LENET.items()}
    state = {name: F.input(f"{name}.momentum", f32(*shape)) for name, shape in LENET.items()}
    logp = F.log_softmax(lenet_forward(F, x, p, batch), dim=1)
    loss = F.nll_loss(logp, y)
    forward = F.finish([loss])
    B = Rewriter(forward)
    for node in forward.nodes:
        B.keep(node)
    grads = append_vjp(B, forward.nodes, [loss], [B.ones_like(loss)], list(p.values()))
    outputs = [loss]
    new_state = [B.add(B.mul(state[n], momentum), g) for n, g in zip(p, grads)]
    outputs += [B.sub(p[n], B.mul(m, lr)) for n, m in zip(p, new_state)]
    outputs += new_state
    positions = {v: i for i, v in enumerate(B.inputs)}
    targets = [*p.values(), *state.values()]
    aliases = {1 + i: positions[v] for i, v in enumerate(targets)}
    return B.finish(outputs, aliases)


def sgd_graph(shapes: tuple[tuple[int, ...], ...] = ((3, 4), (4,), (5, 3))) -> Graph:
    """lr, then (parameter, gradient) pairs → new parameters, written to the inputs."""
    F = GraphBuilder("sgd")
    lr = F.input("lr", f32())
    outputs, aliases = [], {}
    for i, shape in enumerate(shapes):
        aliases[i] = len(F.inputs)
        p, g = F.input(f"p{i}", f32(*shape)), F.input(f"g{i}", f32(*shape))
        outputs.append(F.sub(p, F.mul(g, lr)))
    return F.finish(outputs, aliases)


def step_inputs(graph: Graph, batch: int = 4, seed: int = 0) -> list[np.ndarray]:
    """Arrays for a training step's inputs: small weights, class numbers below 10, lr 0.1 and momentum 0.9."""
    rng = np.random.default_rng(seed)
    arrays = []
    for value in graph.inputs:
        shape = value.type.bind({s.name: batch for s in graph.symbols}).shape
        if value.name == "y":
            arrays.append(rng.integers(0, 10, shape))
        elif not shape:
            arrays.append(np.asarray({"lr": 0.1, "momentum": 0.9}[value.name]))
        else:
            scale = 1.0 if value.name == "x" else 0.1
            arrays.append(rng.normal(size=shape) * scale)
    return [a.astype(v.type.dtype.numpy) for a, v in zip(arrays, graph.inputs)]
