"""`torch.utils.flop_counter`: the floating-point operations of matrix products and convolutions that run eagerly.

PyTorch counts these and no others. What an op takes its declaration says (`Op.flops`, as the profiler shows it)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any

from ..dispatch import use_backend
from ..ir.op import Op
from ..nn.modules.hooks import register_module_forward_hook, register_module_forward_pre_hook
from ..nn.modules.module import Module
from ..state import local
from ..tensor import Tensor

# By what name PyTorch shows them.
_COUNTED = {
    "matmul": "aten.mm", "addmm": "aten.addmm", "convolution": "aten.convolution", "conv_transpose": "aten.convolution",
    "conv_weight_grad": "aten.convolution_backward", "conv_input_grad": "aten.convolution_backward",
    "attention": "aten._scaled_dot_product_attention",
    "attention_grad": "aten._scaled_dot_product_attention_backward",
}  # fmt: skip


class _Counting:
    """The backend that was active, telling the counter of each op."""

    def __init__(self, below: Any, counter: FlopCounterMode):
        self._below, self._counter = below, counter

    def __getattr__(self, name: str) -> Any:
        return getattr(self._below, name)

    def apply(self, op: Op, operands: Sequence[Tensor], attrs: Mapping[str, Any]) -> tuple[Tensor, ...]:
        results: tuple[Tensor, ...] = self._below.apply(op, operands, attrs)
        if op.name in _COUNTED and op.flops is not None:
            self._counter._add(_COUNTED[op.name], int(op.flops(*[t._type for t in operands], **attrs)))
        return results


class FlopCounterMode:
    """`with FlopCounterMode() as counter: model(x).sum().backward()` counts, in all ("Global") and by the modules whose
    forward it was. Unlike PyTorch, backward counts for "Global" alone, attention counts on the CPU too, and the weight's
    gradient of a convolution in groups counts once. Recurrent layers beyond their products with the input, and compiled
    functions, do not count."""

    def __init__(
        self,
        mods: Module | list[Module] | None = None,
        depth: int = 2,
        display: bool = True,
        custom_mapping: Any = None,
    ):
        if custom_mapping:
            raise NotImplementedError("FlopCounterMode: custom_mapping is about PyTorch's own ops")
        self.depth, self.display = depth, display
        self.flop_counts: dict[str, dict[str, int]] = {}
        self._modules: list[str] = []
        self._names: dict[int, str] = {}
        self._open = ExitStack()

    def _add(self, name: str, flops: int) -> None:
        for module in {"Global", *self._modules}:
            self.flop_counts[module][name] += flops

    def _enter_module(self, module: Module, inputs: Any) -> None:
        if not self._modules:
            root = type(module).__name__
            self._names = {id(m): f"{root}.{path}" if path else root for path, m in module.named_modules()}
        self._modules.append(self._names.get(id(module), type(module).__name__))

    def _leave_module(self, module: Module, inputs: Any, output: Any) -> None:
        self._modules.pop()

    def __enter__(self) -> FlopCounterMode:
        self.flop_counts = defaultdict(lambda: defaultdict(int), Global=defaultdict(int))
        self._modules = []
        with ExitStack() as opened:
            opened.callback(register_module_forward_pre_hook(self._enter_module).remove)
            opened.callback(register_module_forward_hook(self._leave_module, always_call=True).remove)
            opened.enter_context(use_backend(_Counting(local.backend, self)))
            self._open = opened.pop_all()
        return self

    def __exit__(self, *exc: object) -> None:
        self._open.close()
        if self.display:
            print(self.get_table(self.depth))

    def get_total_flops(self) -> int:
        """All of them."""
        return sum(self.flop_counts.get("Global", {}).values())

    def get_flop_counts(self) -> dict[str, dict[str, int]]:
        """Module to op to FLOPs. The ops are names here."""
        return {module: dict(counts) for module, counts in self.flop_counts.items()}

    def get_table(self, depth: int | None = None) -> str:
        """A line for each module down to the depth, and for each of its ops."""
        depth = self.depth if depth is None else depth
        lines = []
        for module, counts in self.flop_counts.items():
            if module.count(".") < depth:
                lines.append(f"{module:<40} {sum(counts.values()):>16,}")
                lines += [f" - {name:<37} {flops:>16,}" for name, flops in counts.items()]
        return "\n".join(lines)


__all__ = ["FlopCounterMode"]
