"""`vitrify.optimize_for_inference`: a trained model made smaller or faster, with the error that this costs.

    fast = vitrify.optimize_for_inference(net, (images,), precision="int8")
    print(fast.optimization)  # what was folded, replaced and left, bytes, error against the model as it was

docs/models.md says which precision is faster where.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np

from .autograd.grad_mode import no_grad
from .compile import pytree
from .compile.compiled import CompiledFunction
from .compile.sources import TensorSource
from .compile.trace import Trace
from .ir.graph import Node
from .nn.modules.batchnorm import _BatchNorm
from .nn.modules.container import Sequential
from .nn.modules.conv import Conv1d, Conv2d, Conv3d, _ConvNd, _ConvTransposeNd
from .nn.modules.dropout import _DropoutNd
from .nn.modules.linear import Identity, Linear
from .nn.modules.module import Module
from .nn.modules.sparse import Embedding
from .nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval
from .quantized_layers import BFloat16Linear, Int8Conv, Int8Linear, ShortConv, ShortEmbedding
from .tensor import Tensor

PRECISIONS = ("fp32", "bf16", "int8")


def _short_conv(layer: _ConvNd, int8: bool, dynamic: bool) -> Module:
    return Int8Conv(layer) if dynamic and Int8Conv.takes(layer) else ShortConv(layer, int8)


_PRODUCTS = ("convolution", "conv", "conv_transpose", "addmm", "matmul")
# (layer, int8 or bfloat16, int8 activations) -> the short layer.
_SHORT: dict[type, Callable[[Any, bool, bool], Module]] = {
    Linear: lambda layer, int8, dynamic: Int8Linear(layer, dynamic) if int8 else BFloat16Linear(layer),
    **dict.fromkeys((Conv1d, Conv2d, Conv3d), _short_conv),
    Embedding: lambda layer, int8, dynamic: ShortEmbedding(layer, int8),
}

Samples = Tensor | tuple[Any, ...] | Sequence[tuple[Any, ...]]


@dataclass(frozen=True)
class OutputError:
    """How far an output is from the model's as it was, over all samples: the largest difference, and that relative
    to the largest number in the output."""

    output: str
    largest: float
    relative: float


@dataclass(frozen=True)
class Optimization:
    """What was done to a model. `folded`: batch norms by path, and the layers that they went into; `replaced`:
    layers by path, and what stands there now; `left`: layers that stayed as they were, and why; bytes are those of
    parameters and buffers."""

    precision: str
    folded: Mapping[str, str]
    replaced: Mapping[str, str]
    left: Mapping[str, str]
    bytes_before: int
    bytes_after: int
    samples: int
    errors: tuple[OutputError, ...]

    def __str__(self) -> str:
        kinds = Counter(self.replaced.values())
        lines = [
            f"optimized for inference: {self.precision}",
            f"  batch norms folded  {len(self.folded)}",
            f"  layers replaced     {', '.join(f'{n} {kind}' for kind, n in kinds.items()) or 'none'}",
            *(f"  left                {path}: {why}" for path, why in self.left.items()),
            f"  weights             {self.bytes_before:,} to {self.bytes_after:,} bytes",
            *(
                f"  error of {e.output}  at most {e.largest:.3g}, {e.relative:.2%} of the largest number"
                for e in self.errors
            ),
            f"  measured on         {self.samples} call{'s' if self.samples > 1 else ''}",
        ]
        return "\n".join(lines)


def optimize_for_inference(
    model: Module, samples: Samples, *, precision: str = "fp32", activations: str | None = None
) -> Module:
    """A copy of the model in eval mode, without gradients, made for inference; the model stays as it is.

    samples: the arguments of a call (a tensor or a tuple), or a list of such tuples: inputs as the model will see
    them. The first one is traced to find out which layer follows which; on all of them the result is compared with
    the model.
    precision:
        "fp32": batch norms are folded into the convolutions and linear layers before them, dropout is taken out.
        "bf16": the same, and linear layers compute in bfloat16, convolutions and embeddings store it.
        "int8": the same, and their weights are int8 with a scale for each output channel.
    activations: with precision="int8" the rows that go into linear layers and the images that go into convolutions
    (depthwise ones excepted) are rounded to 8 bits too, each by its own range, and multiplied as integers; "float"
    leaves them, and widens the weights instead.

    What was done and the error are in `.optimization` of the result, which prints as a table. A layer stays as it
    is where its weight is read by other code than the layer's own. ValueError for another precision; TypeError for
    something else than a Module.
    """
    if not isinstance(model, Module):
        raise TypeError(f"optimize_for_inference takes a Module, got {type(model).__name__}")
    if precision not in PRECISIONS:
        raise ValueError(f"precision={precision!r}: there are {', '.join(PRECISIONS)}")
    if activations is None:
        activations = "int8" if precision == "int8" else "float"
    if activations not in ("float", "int8") or (activations == "int8" and precision != "int8"):
        raise ValueError(f"activations={activations!r}: 'float', or with precision='int8' also 'int8'")
    calls = _calls(samples)
    with no_grad():
        reference = copy.deepcopy(model).eval()
        found = copy.deepcopy(reference).requires_grad_(False)
        if type(found) in _SHORT:  # so that every layer has a place of its own in a module
            found = Sequential(found)
        found, graphs = _with_graphs(found, precision, activations == "int8")
        trace, ran = _traced(found, calls[0])
        folded = _fold(found, trace, ran)
        _drop_dropout(found)
        readers = _readers(found, trace)
        replaced, left = _replace(found, readers, precision, activations == "int8", folded, graphs.paths)
        errors = _errors(reference, found, calls)
    found.optimization = Optimization(
        precision,
        graphs.folded | folded,
        graphs.replaced | replaced,
        graphs.left | left,
        _bytes(reference),
        _bytes(found),
        len(calls),
        errors,
    )
    return found


def _calls(samples: Samples) -> list[tuple[Any, ...]]:
    if isinstance(samples, Tensor):
        return [(samples,)]
    if isinstance(samples, tuple):
        return [samples]
    calls = [call if isinstance(call, tuple) else (call,) for call in samples]
    if not calls:
        raise ValueError("optimize_for_inference needs at least one sample: the error is measured on them")
    return calls


@dataclass
class _Graphs:
    """Modules of ONNX files, optimized as graphs: their paths, and what was done to their nodes and weights."""

    paths: set[str] = field(default_factory=set)
    folded: dict[str, str] = field(default_factory=dict)
    replaced: dict[str, str] = field(default_factory=dict)
    left: dict[str, str] = field(default_factory=dict)


def _with_graphs(model: Module, precision: str, dynamic: bool) -> tuple[Module, _Graphs]:
    done = _Graphs()
    for path, module in list(model.named_modules()):
        optimize = getattr(module, "optimized_for_inference", None)
        if optimize is None:
            continue
        new, found = optimize(precision, dynamic)
        new.requires_grad_(False)
        scope = f"{path}." if path else ""
        done.paths.add(path)
        done.folded |= {scope + name: scope + layer for name, layer in found.folded.items()}
        done.replaced |= {scope + name: kind for name, kind in found.replaced.items()}
        done.left |= {scope + name: why for name, why in found.left.items()}
        if path:
            model.set_submodule(path, new)
        else:
            model = new
    return model, done


def _traced(model: Module, call: tuple[Any, ...]) -> tuple[Trace, Mapping[str, int]]:
    """The model's graph, and how often each module runs in it."""
    ran: Counter[str] = Counter()
    hooks = [
        module.register_forward_pre_hook(lambda module, args, path=path: ran.update([path]))
        for path, module in model.named_modules()
    ]
    try:
        return CompiledFunction(model, name=type(model).__name__).trace(*call), ran
    finally:
        for hook in hooks:
            hook.remove()


def _path(node: Node) -> str:
    return node.location.module if node.location else ""


def _fold(model: Module, trace: Trace, ran: Mapping[str, int]) -> dict[str, str]:
    """Fold each batch norm into the layer before it, if nothing else reads what that layer gives and both run
    once."""
    modules = dict(model.named_modules())
    uses = trace.graph.uses()
    folded: dict[str, str] = {}
    outputs = set(trace.graph.outputs)
    for node in trace.graph.nodes:
        layer, path = modules.get(_path(node)), _path(node)
        if node.op.name not in _PRODUCTS or not isinstance(layer, _ConvNd | Linear):
            continue
        if ran[path] != 1 or outputs & set(node.outputs):
            continue
        after = {_path(user) for value in node.outputs for user in uses[value]}
        if len(after) != 1:
            continue
        (norm_path,) = after
        norm = modules.get(norm_path)
        if not isinstance(norm, _BatchNorm) or norm.running_mean is None or ran[norm_path] != 1:
            continue
        if isinstance(layer, Linear):
            fused: Module = fuse_linear_bn_eval(layer, norm)
        else:
            fused = fuse_conv_bn_eval(layer, norm, isinstance(layer, _ConvTransposeNd))
        model.set_submodule(path, fused.requires_grad_(False))
        model.set_submodule(norm_path, Identity().eval())
        folded[norm_path] = path
    return folded


def _drop_dropout(model: Module) -> None:
    for path, module in list(model.named_modules()):
        if isinstance(module, _DropoutNd) and path:
            model.set_submodule(path, Identity().eval())


def _readers(model: Module, trace: Trace) -> dict[int, set[str]]:
    """For the storage of each tensor that the graph reads the paths of the modules whose code reads it."""
    uses = trace.graph.uses()
    found: dict[int, set[str]] = {}
    for value, source in zip(trace.graph.inputs, trace.sources):
        if isinstance(source, TensorSource):
            readers = found.setdefault(id(source.tensor._storage), set())
            readers.update(_path(node) for node in uses[value])
    return found


def _replace(
    model: Module,
    readers: Mapping[int, set[str]],
    precision: str,
    dynamic: bool,
    folded: Mapping[str, str],
    graphs: set[str],
) -> tuple[dict[str, str], dict[str, str]]:
    """Put short layers in the places of float ones: (what stands where, what was left and why)."""
    replaced: dict[str, str] = {}
    left: dict[str, str] = {}
    if precision == "fp32":
        return replaced, left
    int8 = precision == "int8"
    modules = list(model.named_modules())
    # Layers that share a weight read it as their own; each gets a short one.
    owners = {
        path: id(m.weight._storage) for path, m in modules if isinstance(getattr(m, "weight", None), Tensor)
    }
    for path, module in modules:
        make = _SHORT.get(type(module))
        if make is None:
            in_graph = any(path == g or not g or path.startswith(f"{g}.") for g in graphs)
            if _holds_matrix(module) and not in_graph:
                left[path] = f"there is no short form of {type(module).__name__}"
            continue
        if path not in folded.values():
            storage = cast(Tensor, module.weight)._storage
            who = readers.get(id(storage), set())
            if other := sorted(r for r in who - {path} if owners.get(r) != id(storage)):
                left[path] = f"its weight is also read in {other[0] or 'the model itself'}"
                continue
        new = make(module, int8, dynamic).eval()
        model.set_submodule(path, new)
        replaced[path] = type(new).__name__
    return replaced, left


def _holds_matrix(module: Module) -> bool:
    return any(p.ndim > 1 for p in module.parameters(recurse=False))


def _errors(reference: Module, found: Module, calls: Sequence[tuple[Any, ...]]) -> tuple[OutputError, ...]:
    largest: dict[str, float] = {}
    scale: dict[str, float] = {}
    for call in calls:
        wanted, got = reference(*copy.deepcopy(call)), found(*copy.deepcopy(call))
        names = pytree.paths(pytree.flatten(wanted)[1], "output")
        for name, a, b in zip(names, pytree.flatten(wanted)[0], pytree.flatten(got)[0], strict=True):
            if isinstance(a, Tensor) and a.numel():
                x, y = (np.asarray(t.double().numpy()) for t in (a, b))
                largest[name] = max(largest.get(name, 0.0), float(np.abs(x - y).max()))
                scale[name] = max(scale.get(name, 0.0), float(np.abs(x).max()))
    return tuple(OutputError(n, e, e / scale[n] if scale[n] else e) for n, e in largest.items())


def _bytes(model: Module) -> int:
    tensors = {id(t._storage): t for t in [*model.parameters(), *model.buffers()]}
    return sum(t.numel() * t.element_size() for t in tensors.values())


__all__ = ["Optimization", "OutputError", "optimize_for_inference"]
