"""What an op is: one declaration from which everything else is derived.

A declaration (in `ir/ops/<family>.py`) says what the op is called, which attributes it takes, how the types of its
results follow from those of its operands, what it means (a NumPy rule: slow, obvious, trusted), its gradient, and how
it is lowered. Eager execution, tracing, autodiff, the verifier, the printer and parser, the interpreter, the op table
in the docs and the op tests read it; none of them knows an op by name.

Two levels. A *composite* is an op of the framework (`log_softmax`, `addmm`, `max_pool2d`): it has its own numerically
good gradient and a decomposition into other ops. A *primitive* has no decomposition; codegen knows its `lowering`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import index
from typing import Any, Literal

from .dims import Expr
from .dtypes import DType
from .types import TensorType

AttrKind = Literal["int", "ints", "float", "bool", "str", "dtype", "dim", "dims", "scalar", "optional_int"]

REQUIRED: Any = object()


@dataclass(frozen=True)
class Attr:
    """An attribute: plain data, checked and normalised when a node is built.

    kinds: `int`; `ints`: a tuple of ints; `dims`: a tuple of ints or symbolic dims; `float`; `bool`; `str`; `dtype`;
    `scalar`: an int, float, bool or complex; `optional_int`: an int or None.
    """

    kind: AttrKind
    default: Any = REQUIRED

    def normalise(self, op: str, name: str, value: Any) -> Any:
        """The value in its one stored form; TypeError says what was expected."""
        if value is None and self.default is None:
            return None
        if self.kind in ("ints", "dims") and type(value) is tuple and all(type(v) is int for v in value):
            return value  # the usual case, on every eager call
        match self.kind:
            case "int" if isinstance(value, int) and not isinstance(value, bool):
                return index(value)
            case "optional_int" if value is None or (isinstance(value, int) and not isinstance(value, bool)):
                return None if value is None else index(value)
            case "ints" if isinstance(value, Sequence) and not isinstance(value, str):
                if all(isinstance(v, int) for v in value):
                    return tuple(int(v) for v in value)
            case "dim" if isinstance(value, int | Expr) and not isinstance(value, bool):
                return value if isinstance(value, Expr) else index(value)
            case "dims" if isinstance(value, Sequence) and not isinstance(value, str):
                if all(isinstance(v, int | Expr) for v in value):
                    return tuple(v if isinstance(v, Expr) else index(v) for v in value)
            case "float" if isinstance(value, int | float) and not isinstance(value, bool):
                return float(value)
            case "bool" if isinstance(value, bool):
                return value
            case "str" if isinstance(value, str):
                return value
            case "dtype" if isinstance(value, DType):
                return value
            case "scalar" if isinstance(value, int | float | bool | complex):
                return value
        raise TypeError(f"{op}: attribute {name} must be {self.kind}, got {value!r}")


Infer = Callable[..., TensorType | tuple[TensorType, ...]]
Lowering = Literal[
    "constant",  # a fill: `full`, `iota`
    "pointwise",  # one result element from the elements at the same (broadcast) index; has `scalar`
    "view",  # a result element is one operand element at another index; has `index_map`
    "reduce",  # an associative combination over dims; has `combine`
    "contraction",  # sums of products: matmul and convolutions
    "window",  # pooling: a reduction over a small window of each element
    "attention",  # products, the softmax between them, and their gradients, block by block
    "gather",  # an operand element at an index read from another operand
    "running",  # an associative combination of all elements so far along a dim
    "scatter",  # operand elements added or written at indices that are read or computed
    "check",  # its operand, after a test that may fail at run time
    "random",  # counter-based random bits
    "host",  # NumPy computes it in compiled code too: the program calls back (order, linear algebra, FFT)
    "region",  # the body is the node's region
    "none",  # never reaches codegen
]


@dataclass(frozen=True)
class Sample:
    """One row of an op's test table: operands (arrays, made by `make(rng)`) and attributes.

    `gradient=False` where the gradient is not defined at the sample's points (ties, integer operands).
    `tolerance` scales the dtype's default tolerance.
    """

    make: Callable[[Any], Sequence[Any]]
    attrs: Mapping[str, Any] = field(default_factory=dict)
    gradient: bool = True
    tolerance: float = 1.0
    label: str = ""


@dataclass(frozen=True)
class RegionRule:
    """What an op with a region is. `types(operand types, types of the body's results, attrs)` gives the types that the
    body takes and those of the op's results; RuntimeError where the operands or the body do not fit the attributes.
    `numpy(body, arrays, attrs)` is its meaning, `body` being a function from arrays to a tuple of arrays."""

    types: Callable[..., tuple[tuple[TensorType, ...], tuple[TensorType, ...]]]
    numpy: Callable[..., tuple[Any, ...]]


@dataclass(frozen=True)
class VJPContext:
    """What a gradient rule sees of the call it differentiates.

    `inputs` and `outputs` are whatever the driver computes with (arrays, tensors or graph values); `needs[i]` says
    whether the cotangent of operand i is wanted.
    """

    inputs: tuple[Any, ...]
    outputs: tuple[Any, ...]
    attrs: Mapping[str, Any]
    needs: tuple[bool, ...]


@dataclass(frozen=True, eq=False)
class Op:
    """An op's declaration. See the module docstring; the rows of docs/ops.md are printed from it.

    infer(*operand types, **attrs) -> result type(s); raises RuntimeError/TypeError/IndexError with PyTorch's sense
    numpy(*arrays, **attrs) -> array or tuple of arrays; view ops return NumPy views where NumPy can
    vjp(F, ctx, *cotangents) -> one cotangent (or None) per operand, as ordinary code over ops, `F` being the driver's
        builder. A cotangent may be None where nothing flows into that result. A rule need not undo broadcasting: the
        driver sums a cotangent back to its operand's shape.
    decompose(F, *operands, **attrs) -> result(s): for composites
    scalar(s, *exprs, **attrs) -> expr: for pointwise ops, over the scalar protocol of `codegen/scalar.py`
    index_map(operand types, result type, index, **attrs) -> operand indices: for view ops; where element `index` of the
        result comes from
    write_back(F, base, view, **attrs) -> the base with the view's elements replaced: for view ops that may be written
    saves: which operands/results the gradient reads, e.g. ("input:0", "output:0"); the eager tape keeps only those,
        and of the others the gradient rule may ask the type (`F.type_of`) and nothing else
    sizes: for ops whose result's size depends on data: the `dims` attribute that names the dims only a run tells, one
        symbol each, () where nobody needs names (eager). A run reads them off the results' shapes.
    size_bounds(*operand types, **attrs) -> (low, high) of each such dim
    flops(*operand types, **attrs) -> the work in floating point operations, where it is more than one per element
    region: for ops of the lowering "region", in place of `infer` and `numpy`
    """

    name: str
    doc: str
    infer: Infer
    numpy: Callable[..., Any]
    attrs: Mapping[str, Attr] = field(default_factory=dict)
    arity: tuple[int, int] = (1, 1)
    results: int = 1
    level: Literal["composite", "primitive"] = "primitive"
    lowering: Lowering = "none"
    vjp: Callable[..., Sequence[Any]] | None = None
    decompose: Callable[..., Any] | None = None
    scalar: Callable[..., Any] | None = None
    index_map: Callable[..., Any] | None = None
    write_back: Callable[..., Any] | None = None
    combine: str | None = None
    saves: tuple[str, ...] = ()
    grad_name: str = ""
    flops: Callable[..., Any] | None = None
    samples: tuple[Sample, ...] = ()
    region: RegionRule | None = None
    sizes: str = ""
    size_bounds: Callable[..., Sequence[tuple[int, int]]] | None = None

    def normalise_attrs(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Every declared attribute in declared order, defaults filled in; TypeError for unknown or missing ones."""
        unknown = [name for name in given if name not in self.attrs]
        if unknown:
            raise TypeError(f"{self.name} has no attribute {unknown[0]!r}; it has {list(self.attrs)}")
        full: dict[str, Any] = {}
        for name, attr in self.attrs.items():
            value = given.get(name, attr.default)
            if value is REQUIRED:
                raise TypeError(f"{self.name}: attribute {name!r} is missing")
            if name in given and not (value is None and attr.default is None):
                value = attr.normalise(self.name, name, value)
            full[name] = value
        return full

    def infer_types(self, operands: Sequence[TensorType], attrs: Mapping[str, Any]) -> tuple[TensorType, ...]:
        """Result types for operand types, the operand count checked; `attrs` must be normalised."""
        low, high = self.arity
        if not low <= len(operands) <= high:
            wanted = str(low) if low == high else f"{low} to {high}"
            raise TypeError(f"{self.name} takes {wanted} operands, got {len(operands)}")
        result = self.infer(*operands, **attrs)
        return result if isinstance(result, tuple) else (result,)

    def __repr__(self) -> str:
        return f"<op {self.name}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return op_named, (self.name,)


VARIADIC = 1 << 30
_registry: dict[str, Op] = {}


def declare(op: Op) -> Op:
    """Enter the op in the registry; ValueError for a second op of the same name."""
    if op.name in _registry:
        raise ValueError(f"op {op.name!r} is declared twice")
    _registry[op.name] = op
    return op


def op_named(name: str) -> Op:
    """The declared op; KeyError's message names near ones."""
    found = _registry.get(name)
    if found is None:
        import difflib

        near = difflib.get_close_matches(name, _registry, 3)
        hint = f"; did you mean {' or '.join(near)}?" if near else ""
        raise KeyError(f"unknown op {name!r}{hint}")
    return found


def all_ops() -> tuple[Op, ...]:
    """Every declared op, by name."""
    return tuple(_registry[name] for name in sorted(_registry))
