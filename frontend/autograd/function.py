"""`autograd.Function`: operations whose gradient the user writes.

    class Exp(Function):
        @staticmethod
        def forward(ctx, x):
            y = x.exp()
            ctx.save_for_backward(y)
            return y

        @staticmethod
        def backward(ctx, dy):
            (y,) = ctx.saved_tensors
            return dy * y

    y = Exp.apply(x)

The other form splits `forward(x)` from `setup_context(ctx, inputs, output)`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .. import capture
from ..ir.builder import OpBuilder
from ..ir.op import op_named
from ..ir.types import TensorType
from ..state import local
from ..tape import FREED, Edge, Node, gradient_edge
from ..tape_ops import SavedTensor, save
from ..tensor import Tensor


class FunctionCtx:
    """What `forward` and `backward` share; `backward` receives it as its first argument. It is the node
    itself.
    """

    def save_for_backward(self, *tensors: Tensor | None) -> None:
        """Keep tensors for `backward`, which finds them in `saved_tensors`."""
        self._to_save = tensors

    def save_for_forward(self, *tensors: Tensor | None) -> None:
        """Keep tensors for `jvp`, which is not called here: forward derivatives come from `backward`."""
        self.saved_for_forward = tensors

    def mark_dirty(self, *tensors: Tensor) -> None:
        """Say which inputs `forward` changed in place; they must be among its outputs."""
        self._dirty = tensors

    def mark_non_differentiable(self, *tensors: Tensor) -> None:
        """Say which outputs have no gradient."""
        self._non_differentiable = tensors

    def set_materialize_grads(self, value: bool) -> None:
        """Whether `backward` gets zeros, or None, for outputs that nothing flows into."""
        self._materialize = value

    _to_save: tuple[Tensor | None, ...] = ()
    _dirty: tuple[Tensor, ...] = ()
    _non_differentiable: tuple[Tensor, ...] = ()
    _materialize = True
    needs_input_grad: tuple[bool, ...] = ()


class BackwardNode(Node, FunctionCtx):
    """The node of a user's Function; subclasses are called `<its name>Backward`."""

    function: type[Function]
    _saved: list[SavedTensor | None] | None = None
    _count = 0  # of arguments to forward
    _tensor_positions: tuple[int, ...] = ()

    @property
    def saved_tensors(self) -> tuple[Tensor | None, ...]:
        """What `save_for_backward` kept; RuntimeError if it was changed in place since, or is freed."""
        if self._saved is None:
            if not hasattr(self, "edges"):
                return ()
            raise RuntimeError(FREED)
        return tuple(None if s is None else s.unpack(self) for s in self._saved)

    saved_variables = saved_tensors

    def __repr__(self) -> str:
        return f"<torch.autograd.function.{type(self).__name__} object at {hex(id(self))}>"

    def run(self, F: OpBuilder, grads: Sequence[Any], needs: tuple[bool, ...]) -> Sequence[Any]:
        flags = [False] * self._count
        for position, need in zip(self._tensor_positions, needs):
            flags[position] = need
        self.needs_input_grad = tuple(flags)
        if self._materialize:
            grads = [
                F.apply(_FULL, (), {"shape": t.shape, "value": 0, "dtype": t.dtype}) if g is None else g
                for g, t in zip(grads, self.result_types)
            ]
        found = self.function.backward(self, *grads)
        results = list(found) if isinstance(found, tuple) else [found]
        name = type(self).__name__
        while len(results) > self._count and results[-1] is None:
            results.pop()
        if len(results) != self._count:
            raise RuntimeError(
                f"function {name} returned an incorrect number of gradients (expected {self._count}, got "
                f"{len(results)})"
            )
        return [
            self._checked(F, results[position], number) if need else None
            for number, (position, need) in enumerate(zip(self._tensor_positions, needs))
        ]

    def _checked(self, F: OpBuilder, grad: Any, number: int) -> Any:
        if grad is None:
            return None
        position = self._tensor_positions[number]
        if not isinstance(grad, Tensor):
            raise TypeError(
                f"{type(self).__name__}.backward returned a {type(grad).__name__} as gradient {position}, expected "
                "a Tensor or None"
            )
        wanted = self._input_types[number]
        if tuple(grad.shape) != wanted.shape:
            lead = grad.ndim - len(wanted.shape)
            fits = lead >= 0 and all(w in (1, h) for w, h in zip(wanted.shape, tuple(grad.shape)[lead:]))
            if not fits:
                raise RuntimeError(
                    f"Function {type(self).__name__} returned an invalid gradient at index {position} - got "
                    f"{list(grad.shape)} but expected shape compatible with {list(wanted.shape)}"
                )
            grad = F.sum_to(grad, wanted.shape)
        return grad if grad.dtype is wanted.dtype else grad.to(wanted.dtype)

    _input_types: tuple[TensorType, ...] = ()

    def release(self) -> None:
        if self._saved:
            self._saved = None


_FULL = op_named("full")


class _FunctionMeta(type):
    def __init__(cls, name: str, bases: tuple[type, ...], members: dict[str, Any]):
        super().__init__(name, bases, members)
        cls._node_class = type(name + "Backward", (BackwardNode,), {"function": cls})


class Function(metaclass=_FunctionMeta):
    """Base class of user-defined differentiable operations. See the module docstring."""

    _node_class: type[BackwardNode]

    @staticmethod
    def forward(*args: Any, **kwargs: Any) -> Any:
        """`forward(ctx, *args)`, or `forward(*args)` where `setup_context` is defined."""
        raise NotImplementedError("You must implement the forward function for custom autograd.Function.")

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> Any:
        """Keep on `ctx` what `backward` needs, when `forward` takes no ctx."""
        raise NotImplementedError("setup_context is not implemented.")

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> Any:
        """One gradient (or None) per argument of `forward`."""
        raise NotImplementedError(
            "You must implement either the backward or vjp method for your custom autograd.Function to use it with "
            "backward mode AD."
        )

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], *args: Any) -> Any:
        """The results for a batch and where their batch dims are, given where those of the arguments are."""
        raise NotImplementedError(
            "To use autograd.Function with vmap, you must either override the vmap staticmethod or set "
            "generate_vmap_rule=True."
        )

    @staticmethod
    def jvp(ctx: Any, *grad_inputs: Any) -> Any:
        """PyTorch's forward derivative. Not called: here forward derivatives come from `backward`."""
        raise NotImplementedError(
            "You must implement the jvp function for custom autograd.Function to use it with forward mode AD."
        )

    # Whether vmap may run `forward` and `backward` on single samples, in place of the `vmap` staticmethod.
    generate_vmap_rule = False

    def __init__(self, *args: Any, **kwargs: Any):
        raise RuntimeError(
            f"{type(self)} should not be instantiated. Methods on autograd functions are all static, so you should "
            "invoke them on the class itself. Instantiating an autograd function will raise an error in a future "
            "version of PyTorch."
        )

    @classmethod
    def apply(cls, *args: Any, **kwargs: Any) -> Any:
        """Run `forward` and put the node on the tape."""
        node: BackwardNode = object.__new__(cls._node_class)
        tensors = [(i, a) for i, a in enumerate(args) if isinstance(a, Tensor)]
        tracked = local.grad_enabled and any(t.requires_grad for _, t in tensors)
        edges: tuple[Edge | None, ...] = tuple(gradient_edge(t) if tracked else None for _, t in tensors)
        flags = [isinstance(a, Tensor) and a.requires_grad and local.grad_enabled for a in args]
        node.needs_input_grad = tuple(flags)
        splits = cls.setup_context is not Function.setup_context
        vmap = capture.vmap()
        batched = vmap is not None and any(vmap.differs(t) for _, t in tensors)
        before, local.grad_enabled = local.grad_enabled, False
        try:
            if batched:
                local.grad_enabled = before
                output = vmap.function(cls, args)
                local.grad_enabled = False
            else:
                output = cls.forward(*args, **kwargs) if splits else cls.forward(node, *args, **kwargs)
            if splits:
                cls.setup_context(node, args, output)
        finally:
            local.grad_enabled = before
        single = not isinstance(output, tuple)
        outputs: list[Any] = [output] if single else list(output)
        if tracked:
            _attach(node, edges, tensors, outputs, len(args))
        return outputs[0] if single else tuple(outputs)


def _attach(
    node: BackwardNode,
    edges: tuple[Edge | None, ...],
    tensors: list[tuple[int, Tensor]],
    outputs: list[Any],
    count: int,
) -> None:
    """Make the node the history of the outputs, and save what `forward` asked for."""
    given = {id(t) for _, t in tensors}
    dirty = {id(t) for t in node._dirty}
    plain = {id(t) for t in node._non_differentiable}
    for number, output in enumerate(outputs):
        # An input handed through gets a tensor of its own, so that it can have a history of its own.
        if isinstance(output, Tensor) and id(output) in given and id(output) not in dirty:
            alias = output._alias()
            node._to_save = tuple(alias if t is output else t for t in node._to_save)
            outputs[number] = alias
            if id(output) in plain:
                plain.add(id(alias))
    types = [o._type if isinstance(o, Tensor) else None for o in outputs]
    Node.__init__(node, edges, tuple(types))  # type: ignore[arg-type]
    node._tensor_positions = tuple(i for i, _ in tensors)
    node._input_types = tuple(t._type for _, t in tensors)
    node._count = count
    for number, output in enumerate(outputs):
        if (
            isinstance(output, Tensor)
            and id(output) not in plain
            and output.dtype.kind in ("float", "complex")
        ):
            output._grad_fn, output._output_nr, output._requires_grad = node, number, True
    made = {id(o): n for n, o in enumerate(outputs) if isinstance(o, Tensor)}
    node._saved = [
        None if t is None else save(t, id(t) in made and t._grad_fn is node, made.get(id(t), 0))
        for t in node._to_save
    ]
    node._to_save = ()


def once_differentiable(function: Any) -> Any:
    """For a `backward` that is itself not differentiable: it runs without recording."""

    def wrapper(ctx: Any, *grads: Any) -> Any:
        before, local.grad_enabled = local.grad_enabled, False
        try:
            found = function(ctx, *grads)
        finally:
            local.grad_enabled = before
        if not before or not any(isinstance(g, Tensor) and g.requires_grad for g in grads):
            return found
        many = isinstance(found, tuple)
        results = [_differentiated(r, grads) for r in (found if many else (found,))]
        return tuple(results) if many else results[0]

    return wrapper


class _DifferentiatedOnce(Node):
    """Behind the result of a `once_differentiable` backward: an error if it is differentiated."""

    __slots__ = ()

    def name(self) -> str:
        return "torch::autograd::Error"

    def run(self, F: OpBuilder, grads: Sequence[Any], needs: tuple[bool, ...]) -> Sequence[Any]:
        raise RuntimeError(
            "trying to differentiate twice a function that was marked with @once_differentiable"
        )


def _differentiated(result: Any, grads: Sequence[Any]) -> Any:
    if not isinstance(result, Tensor):
        return result
    alias = result._alias()
    edges = tuple(gradient_edge(g) if isinstance(g, Tensor) else None for g in grads)
    alias._grad_fn, alias._requires_grad = _DifferentiatedOnce(edges, (result._type,)), True
    return alias
