"""Complex numbers and Fourier transforms in ONNX, whose ops have no complex type: pairs of numbers in one more dim,
the last, as `DFT` takes and gives them.

A complex value of our graph has the name of such pairs. Nodes with a complex operand or result are emitted from a table
of their own; what it does not have is not supported.
"""

from __future__ import annotations

import math

import numpy as np

from ..ir import dtypes
from ..ir.dims import DimLike
from ..ir.dtypes import DType
from ..ir.graph import Node, Value
from . import emitting_shapes  # noqa: F401  (fills the table that is read here)
from .emitting import COMPLEX_EMITTERS, EMITTERS, Emitted, Writer, emits_complex
from .table import ONNXError

_REAL_OF = {dtypes.c64: dtypes.f32, dtypes.c128: dtypes.f64}


def _real(dtype: DType) -> DType:
    return _REAL_OF.get(dtype, dtype)


def _part(w: Writer, value: Value, number: int) -> str:
    return str(w.node("Gather", w.name(value), w.constant(number, np.int64), axis=-1))


def _pair(w: Writer, real: str, imaginary: str) -> str:
    last = w.ints([-1])
    return str(
        w.node("Concat", w.node("Unsqueeze", real, last), w.node("Unsqueeze", imaginary, last), axis=-1)
    )


# -- from and to real numbers -----------------------------------------------------------------------------------------


@emits_complex("view_as_real", "view_as_complex", "detach")
def _same(w: Writer, node: Node) -> Emitted:
    return w.name(node.inputs[0])


@emits_complex("convert")
def _convert(w: Writer, node: Node) -> Emitted:
    (value,), dtype = node.inputs, node.attrs["dtype"]
    if dtype.is_complex and value.type.dtype.is_complex:
        return w.cast(w.name(value), _real(dtype))
    if not dtype.is_complex:
        return w.cast(_part(w, value, 0), dtype)
    real = w.cast(w.name(value), _real(dtype))
    return _pair(w, real, str(w.node("Mul", real, w.scalar(0, _real(dtype)))))


@emits_complex("full")
def _full(w: Writer, node: Node) -> Emitted:
    value, dtype = complex(node.attrs["value"]), node.attrs["dtype"]
    pair = w.constant(np.array([value.real, value.imag]).astype(_real(dtype).numpy))
    return w.expand(pair, (*node.attrs["shape"], 2))


@emits_complex("conj")
def _conj(w: Writer, node: Node) -> Emitted:
    (value,) = node.inputs
    return str(
        w.node("Mul", w.name(value), w.constant(np.array([1, -1]).astype(_real(value.type.dtype).numpy)))
    )


@emits_complex("abs")
def _abs(w: Writer, node: Node) -> Emitted:
    return str(w.node("ReduceL2", w.name(node.inputs[0]), w.ints([-1]), keepdims=0))


@emits_complex("angle")
def _angle(w: Writer, node: Node) -> Emitted:
    (value,) = node.inputs
    return w.angle(_part(w, value, 1), _part(w, value, 0), _real(value.type.dtype))


# -- arithmetic -------------------------------------------------------------------------------------------------------


@emits_complex("neg", "add", "sub")
def _by_parts(w: Writer, node: Node) -> Emitted:
    op_type = {"neg": "Neg", "add": "Add", "sub": "Sub"}[node.op.name]
    return str(w.node(op_type, *map(w.name, node.inputs)))


@emits_complex("mul")
def _mul(w: Writer, node: Node) -> Emitted:
    a, b = node.inputs
    (ar, ai), (br, bi) = ((_part(w, v, 0), _part(w, v, 1)) for v in (a, b))
    times = lambda x, y: w.node("Mul", x, y)
    return _pair(w, w.node("Sub", times(ar, br), times(ai, bi)), w.node("Add", times(ar, bi), times(ai, br)))


@emits_complex("div")
def _div(w: Writer, node: Node) -> Emitted:
    """a times the conjugate of b, by the square of b's absolute value."""
    a, b = node.inputs
    (ar, ai), (br, bi) = ((_part(w, v, 0), _part(w, v, 1)) for v in (a, b))
    times = lambda x, y: w.node("Mul", x, y)
    size = w.node("Add", times(br, br), times(bi, bi))
    real, imaginary = w.node("Add", times(ar, br), times(ai, bi)), w.node("Sub", times(ai, br), times(ar, bi))
    return _pair(w, w.node("Div", real, size), w.node("Div", imaginary, size))


@emits_complex("matmul")
def _matmul(w: Writer, node: Node) -> Emitted:
    a, b = node.inputs
    (ar, ai), (br, bi) = ((_part(w, v, 0), _part(w, v, 1)) for v in (a, b))
    times = lambda x, y: w.node("MatMul", x, y)
    return _pair(w, w.node("Sub", times(ar, br), times(ai, bi)), w.node("Add", times(ar, bi), times(ai, br)))


@emits_complex("sum", "mean")
def _sum(w: Writer, node: Node) -> Emitted:
    dims = node.attrs["dims"]
    op_type = {"sum": "ReduceSum", "mean": "ReduceMean"}[node.op.name]
    name = w.name(node.inputs[0])
    return str(w.node(op_type, name, w.ints(dims), keepdims=int(node.attrs["keepdim"]))) if dims else name


# -- moves ------------------------------------------------------------------------------------------------------------


@emits_complex("reshape")
def _reshape(w: Writer, node: Node) -> Emitted:
    return w.reshape(w.name(node.inputs[0]), (*node.attrs["shape"], 2))


@emits_complex("expand")
def _expand(w: Writer, node: Node) -> Emitted:
    return w.expand(w.name(node.inputs[0]), (*node.attrs["shape"], 2))


@emits_complex("permute")
def _permute(w: Writer, node: Node) -> Emitted:
    dims = node.attrs["dims"]
    return str(w.node("Transpose", w.name(node.inputs[0]), perm=[*dims, len(dims)]))


@emits_complex("pad")
def _pad(w: Writer, node: Node) -> Emitted:
    if node.attrs["value"]:
        raise ONNXError("padding of complex numbers with other than 0")
    around = w.ints([*node.attrs["low"], 0, *node.attrs["high"], 0])
    return str(w.node("Pad", w.name(node.inputs[0]), around, w.scalar(0, _real(node.inputs[0].type.dtype))))


for _name in ("slice", "flip", "concat", "index_select"):  # these count dims from the first
    COMPLEX_EMITTERS[_name] = EMITTERS[_name]


# -- transforms -------------------------------------------------------------------------------------------------------


@emits_complex("fft_r2c")
def _r2c(w: Writer, node: Node) -> Emitted:
    """The half spectrum along the last of the dims, then whole ones along the others."""
    (x,) = node.inputs
    *others, last = node.attrs["dims"]
    shape = x.type.shape
    name = str(w.node("Unsqueeze", w.name(x), w.ints([-1])))
    name = _dft(w, name, last, len(shape), False, onesided=True)
    for dim in others:
        name = _dft(w, name, dim, len(shape), False)
    return _scaled(w, name, node, [shape[d] for d in node.attrs["dims"]], True)


@emits_complex("fft_c2c")
def _c2c(w: Writer, node: Node) -> Emitted:
    (x,), forward = node.inputs, node.attrs["forward"]
    name, shape = w.name(x), x.type.shape
    for dim in node.attrs["dims"]:
        name = _dft(w, name, dim, len(shape), not forward)
    return _scaled(w, name, node, [shape[d] for d in node.attrs["dims"]], forward)


@emits_complex("fft_c2r")
def _c2r(w: Writer, node: Node) -> Emitted:
    """Whole transforms along the other dims; along the last one the other half of the spectrum mirrors the first."""
    (x,), size = node.inputs, node.attrs["size"]
    *others, last = node.attrs["dims"]
    shape = x.type.shape
    if not isinstance(size, int):
        raise ONNXError("a result of symbolic size")
    name = w.name(x)
    for dim in others:
        name = _dft(w, name, dim, len(shape), True)
    cut = lambda start, stop, step: w.node(
        "Slice", name, w.ints([start]), w.ints([stop]), w.ints([last]), w.ints([step])
    )
    sign = w.constant(np.array([1, -1]).astype(_real(x.type.dtype).numpy))
    if (size - 1) // 2:
        mirrored = w.node("Mul", cut((size - 1) // 2, 0, -1), sign)
        name = str(w.node("Concat", name, mirrored, axis=last))
    name = _dft(w, name, last, len(shape), True)
    name = str(w.node("Gather", name, w.constant(0, np.int64), axis=-1))
    return _scaled(w, name, node, [*(shape[d] for d in others), size], False)


def _dft(w: Writer, name: str, dim: int, rank: int, inverse: bool, onesided: bool = False) -> str:
    """Along one dim of pairs; the inverse divides by the number of points. A signal alone is given as a batch of one."""
    alone = rank == 1
    if alone:
        name, dim = str(w.node("Unsqueeze", name, w.ints([0]))), dim + 1
    flags = {"inverse": int(inverse), "onesided": int(onesided)}
    if w.opset >= 20:
        name = str(w.node("DFT", name, "", w.constant(dim, np.int64), **flags))
    else:
        name = str(w.node("DFT", name, axis=dim, **flags))
    return str(w.node("Squeeze", name, w.ints([0]))) if alone else name


def _scaled(w: Writer, name: str, node: Node, sizes: list[DimLike], forward: bool) -> str:
    """What `norm` asks for, where ONNX's inverse divides and its forward transform does not."""
    norm = node.attrs["norm"]
    if norm == "backward":
        return name
    if not all(isinstance(n, int) for n in sizes):
        raise ONNXError(f"norm={norm!r} over symbolic sizes")
    points = math.prod(int(n) for n in sizes)
    power = {"ortho": 0.5, "forward": 1.0}[norm]
    factor = points**-power if forward else points**power
    return str(w.node("Mul", name, w.scalar(factor, _real(node.inputs[0].type.dtype))))
