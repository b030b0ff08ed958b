"""What PyTorch computes for the op samples: results, gradients, the names of the gradients' nodes; and how
dtypes promote.

    python tests/references/make_op_references.py        (needs PyTorch 2.13; writes op_references.npz and
    promotions.json beside itself)

Every case of `tests/op_cases.py` that PyTorch has an equivalent for is run in float32 on the sample's
operands; the gradients are for the cotangents that `Case.cotangents` draws. All numbers lie in one flat
array; `index`, a JSON text, says where and of which shape and dtype they are.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as functional

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from op_cases import CASES, Case

from vitrify.ir import dtypes

HERE = Path(__file__).resolve().parent
Tensor = torch.Tensor


def by_rank(name: str) -> Callable[..., Any]:
    """max_pool and avg_pool by the number of spatial dims."""

    def pool(x: Tensor, kernel: tuple[int, ...], **attrs: Any) -> Tensor:
        return getattr(functional, f"{name}{len(kernel)}d")(x, kernel, **attrs)

    return pool


def convolution(x: Tensor, w: Tensor, bias: Tensor | None = None, **attrs: Any) -> Tensor:
    rank = w.ndim - 2
    geometry = attrs["stride"], attrs["padding"], attrs["dilation"]
    return torch.convolution(x, w, bias, *geometry, False, (0,) * rank, attrs["groups"])


def conv_transpose(x: Tensor, w: Tensor, bias: Tensor | None = None, **attrs: Any) -> Tensor:
    geometry = attrs["stride"], attrs["padding"], attrs["dilation"]
    return torch.convolution(x, w, bias, *geometry, True, attrs["output_padding"], attrs["groups"])


def gradient(function: Callable[..., Tensor], of: Tensor, dy: Tensor) -> Tensor:
    """The gradient of `function` at `of`, itself differentiable."""
    return torch.autograd.grad(function(of), of, dy, create_graph=True)[0]


def conv_input_grad(dy: Tensor, w: Tensor, input_size: tuple[int, ...], **attrs: Any) -> Tensor:
    x = torch.zeros(input_size, requires_grad=True)
    return gradient(lambda x: convolution(x, w, **attrs), x, dy)


def conv_weight_grad(x: Tensor, dy: Tensor, weight_size: tuple[int, ...], **attrs: Any) -> Tensor:
    w = torch.zeros(weight_size, requires_grad=True)
    return gradient(lambda w: convolution(x, w, **attrs), w, dy)


def max_pool_grad(x: Tensor, dy: Tensor, **attrs: Any) -> Tensor:
    at = x.detach().requires_grad_()
    return gradient(lambda x: by_rank("max_pool")(x, **attrs), at, dy)


def avg_pool_grad(dy: Tensor, input_size: tuple[int, ...], **attrs: Any) -> Tensor:
    x = torch.zeros(input_size, requires_grad=True)
    return gradient(lambda x: by_rank("avg_pool")(x, **attrs), x, dy)


def slices(starts: Any, stops: Any, steps: Any) -> tuple[Any, ...]:
    return (*map(slice, starts, stops, steps), ...)


def update_slice(base: Tensor, new: Tensor, **attrs: Any) -> Tensor:
    result = base.clone()
    result[slices(**attrs)] = new
    return result


def pad(x: Tensor, low: Any, high: Any, value: float) -> Tensor:
    return functional.pad(x, [n for pair in zip(reversed(low), reversed(high)) for n in pair], value=value)


def prod(x: Tensor, dims: tuple[int, ...], keepdim: bool) -> Tensor:
    for dim in sorted(dims, reverse=True):
        x = x.prod(dim, keepdim, dtype=x.dtype)
    return x


def index_select(x: Tensor, index: Tensor, dim: int) -> Tensor:
    return torch.index_select(x, dim, index) if index.ndim == 1 else x[(*(slice(None),) * dim, index)]


def index_add(base: Tensor, index: Tensor, src: Tensor, dim: int) -> Tensor:
    if index.ndim == 1:
        return base.index_add(dim, index, src)
    return base.index_put((index,), src, accumulate=True)


def scatter_add(base: Tensor, index: Tensor, src: Tensor, dim: int) -> Tensor:
    used = src[(*map(slice, index.shape), ...)]  # PyTorch's gradient fails on a src larger than the index
    return base.scatter_add(dim, index, used)


def iota(shape: tuple[int, ...], dim: int, dtype: torch.dtype) -> Tensor:
    along = torch.arange(shape[dim], dtype=dtype)
    return along.reshape([-1 if i == dim else 1 for i in range(len(shape))]).expand(shape)


def reduction(name: str) -> Callable[..., Tensor]:
    return lambda x, dims, keepdim, **attrs: getattr(torch, name)(x, dim=dims, keepdim=keepdim, **attrs)


NAMESAKES = [
    "neg",
    "abs",
    "exp",
    "expm1",
    "log",
    "log1p",
    "sqrt",
    "rsqrt",
    "reciprocal",
    "sin",
    "cos",
    "tan",
    "tanh",
    "erf",
    "sigmoid",
    "floor",
    "ceil",
    "round",
    "trunc",
    "sign",
    "add",
    "sub",
    "mul",
    "remainder",
    "pow",
    "maximum",
    "minimum",
    "lt",
    "le",
    "gt",
    "ge",
    "eq",
    "ne",
    "logical_and",
    "logical_or",
    "logical_xor",
    "logical_not",
    "bitwise_and",
    "bitwise_or",
    "bitwise_xor",
    "bitwise_not",
    "isnan",
    "isinf",
    "isfinite",
    "where",
    "clamp",
    "permute",
    "flip",
    "full",
    "matmul",
    "addmm",
    "softmax",
    "log_softmax",
    "argmax",
    "argmin",
    "reshape",
]
FUNCTIONS = [
    "relu", "gelu", "silu", "leaky_relu", "elu", "softplus", "nll_loss", "mse_loss", "celu", "hardsigmoid",
    "hardswish", "mish", "hardshrink", "softshrink", "threshold",
]  # fmt: skip
EQUIVALENTS: dict[str, Callable[..., Tensor]] = {
    **{name: getattr(torch, name) for name in NAMESAKES},
    **{name: getattr(functional, name) for name in FUNCTIONS},
    **{name: reduction(name) for name in ("amax", "amin", "any", "all", "mean", "var")},
    "prelu": torch._prelu_kernel,
    "div": lambda a, b: a / b if a.is_floating_point() else torch.div(a, b, rounding_mode="trunc"),
    "floor_divide": lambda a, b: torch.div(a, b, rounding_mode="floor"),
    "convert": lambda x, dtype: x.to(dtype),
    "expand": lambda x, shape: x.expand(shape),
    "slice": lambda x, **attrs: x[slices(**attrs)],
    "update_slice": update_slice,
    "pad": pad,
    "concat": lambda *xs, dim: torch.cat(xs, dim),
    "iota": iota,
    "prod": prod,
    "sum": lambda x, dims, keepdim: torch.sum(x, dims, keepdim, dtype=x.dtype),
    "conv": convolution,
    "convolution": convolution,
    "conv_transpose": conv_transpose,
    "conv_input_grad": conv_input_grad,
    "conv_weight_grad": conv_weight_grad,
    "max_pool": by_rank("max_pool"),
    "max_pool_grad": max_pool_grad,
    "avg_pool": by_rank("avg_pool"),
    "avg_pool_grad": avg_pool_grad,
    "gather": lambda x, index, dim: torch.gather(x, dim, index),
    "scatter_add": scatter_add,
    "index_select": index_select,
    "index_add": index_add,
}
RENAMED = {"full": {"shape": "size", "value": "fill_value"}}


def comparable(case: Case) -> bool:
    """Left out: an empty tuple of dims, which reduces nothing here and everything there."""
    return case.op.name in EQUIVALENTS and case.sample.attrs.get("dims", None) != ()


def torch_attrs(case: Case) -> dict[str, Any]:
    renamed = RENAMED.get(case.op.name, {})
    attrs = {renamed.get(name, name): value for name, value in case.attrs.items()}
    return {
        name: getattr(torch, value.torch_name) if isinstance(value, dtypes.DType) else value
        for name, value in attrs.items()
    }


def call(case: Case, operands: list[Tensor]) -> Tensor:
    attrs = torch_attrs(case)
    if case.op.name == "nll_loss" and len(operands) == 3:
        attrs["weight"] = operands.pop()
    return EQUIVALENTS[case.op.name](*operands, **attrs)


def reference(case: Case) -> dict[str, Any]:
    """Operands, results and gradients (one per operand that has one) as arrays."""
    arrays = [np.array(a, order="C") for a in case.operands(dtypes.f32)]
    tensors = [torch.from_numpy(a.copy()) for a in arrays]
    found: dict[str, Any] = {"x": arrays, "g": [], "name": ""}
    differentiate = case.sample.gradient and case.op.vjp is not None
    for t in tensors:
        t.requires_grad_(differentiate and t.is_floating_point())
    if case.op.name == "nll_loss" and len(tensors) == 3:
        tensors[2].requires_grad_(False)  # PyTorch refuses it
    y = call(case, list(tensors))
    found["y"] = [y.detach().to(torch.float32 if y.is_floating_point() else y.dtype).numpy()]
    wanted = [t for t in tensors if t.requires_grad]
    if y.requires_grad and wanted:
        found["name"] = type(y.grad_fn).__name__
        [dy] = case.cotangents((y.detach().numpy(),))
        grads = torch.autograd.grad(y, wanted, torch.from_numpy(dy).reshape(y.shape), allow_unused=True)
        found["g"] = [
            np.zeros(t.shape, np.float32) if g is None else g.numpy() for g, t in zip(grads, wanted)
        ]
    return found


def promotions() -> list[list[str]]:
    """Every pair of dtypes with the one they promote to, "" where PyTorch refuses."""
    rows = []
    for a in dtypes.ALL:
        for b in dtypes.ALL:
            try:
                joined = torch.promote_types(getattr(torch, a.torch_name), getattr(torch, b.torch_name))
                rows.append([a.torch_name, b.torch_name, str(joined).removeprefix("torch.")])
            except RuntimeError:
                rows.append([a.torch_name, b.torch_name, ""])
    return rows


def main() -> None:
    numbers: list[np.ndarray] = []
    index: dict[str, Any] = {}
    for case in filter(comparable, CASES):
        entry: dict[str, Any] = {"attrs": repr(case.attrs)}
        found = reference(case)
        for kind in "xyg":
            entry[kind] = [[str(a.dtype), list(a.shape)] for a in found[kind]]
            numbers.extend(np.asarray(a, np.float64).reshape(-1) for a in found[kind])
        entry["name"] = found["name"]
        index[case.id] = entry
    flat = np.concatenate(numbers)
    single = flat.astype(np.float32)
    # Everything was float32 or a small integer.
    assert np.array_equal(single.astype(np.float64), flat, equal_nan=True)
    path = HERE / "op_references.npz"
    np.savez_compressed(path, numbers=single, index=np.array(json.dumps(index)))
    (HERE / "promotions.json").write_text(json.dumps(promotions(), indent=0))
    print(f"{len(index)} cases, {flat.size} numbers, {path.stat().st_size / 1024:.0f} KiB")


if __name__ == "__main__":
    main()
