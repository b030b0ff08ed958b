"""Products of matrices and vectors, brought to the matrix multiplication of at least two dims that the IR
has.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from . import dispatch
from .arguments import numbers_first, tensor_argument
from .autocast import full_precision, lower_precision, uncast
from .dispatch import apply, op_named
from .functional_arithmetic import add, mul, sub
from .functional_pointwise import where
from .functional_reductions import sum
from .functional_shape import expand, reshape, unsqueeze
from .functional_slices import diagonal_to_read
from .half_precision import in_float32
from .inplace import finish
from .ir import dtypes
from .ir.dims import product
from .promotion import number_in
from .tape_folded import folded
from .tensor import Tensor
from .vector_norms import p_norm

_MATMUL, _ADDMM = map(op_named, ("matmul", "addmm"))


@lower_precision
def mm(input: Tensor, mat2: Tensor, *, out: Tensor | None = None) -> Tensor:
    """The product of two matrices."""
    tensor_argument(input, "mm")
    if type(input) is not Tensor and input.is_sparse:
        return finish(input.matmul(mat2), out, "mm")
    if input.ndim != 2:
        raise RuntimeError("self must be a matrix")
    if tensor_argument(mat2, "mm", "mat2", 2).ndim != 2:
        raise RuntimeError("mat2 must be a matrix")
    return finish(apply(_MATMUL, (input, mat2), grad_name="MmBackward0"), out, "mm")


@lower_precision
def bmm(input: Tensor, mat2: Tensor, *, out: Tensor | None = None) -> Tensor:
    """Products of matrices, one per batch element."""
    if input.ndim != 3:
        raise RuntimeError("batch1 must be a 3D tensor")
    if mat2.ndim != 3:
        raise RuntimeError("batch2 must be a 3D tensor")
    want, have = [input.shape[0], input.shape[2]], list(mat2.shape[:2])
    if want != have:
        raise RuntimeError(
            f"Expected size for first two dimensions of batch2 tensor to be: {want} but got: {have}."
        )
    return finish(apply(_MATMUL, (input, mat2), grad_name="BmmBackward0"), out, "bmm")


def mv(input: Tensor, vec: Tensor, *, out: Tensor | None = None) -> Tensor:
    """A matrix times a vector."""
    if input.ndim != 2 or vec.ndim != 1:
        raise RuntimeError(f"vector + matrix @ vector expected, got 1, {input.ndim}, {vec.ndim}")
    rows, columns = tuple(input.shape)
    if columns != vec.shape[0]:
        raise RuntimeError(f"size mismatch, got input ({rows}), mat ({rows}x{columns}), vec ({vec.shape[0]})")

    def compute() -> Tensor:
        return reshape(apply(_MATMUL, (input, unsqueeze(vec, 1))), (rows,))

    return finish(folded("MvBackward0", (input, vec), compute), out, "mv")


def dot(input: Tensor, tensor: Tensor, *, out: Tensor | None = None) -> Tensor:
    """The inner product of two vectors."""
    if input.ndim != 1 or tensor.ndim != 1:
        raise RuntimeError(f"1D tensors expected, but got {input.ndim}D and {tensor.ndim}D tensors")
    if input.dtype is not tensor.dtype:
        raise RuntimeError(
            f"dot : expected both vectors to have same dtype, but found {_name(input)} and {_name(tensor)}"
        )
    if input.dtype is dtypes.bool_:
        raise NotImplementedError("\"dot\" not implemented for 'Bool'")
    have, other = input.shape[0], tensor.shape[0]
    if have != other:
        raise RuntimeError(
            f"inconsistent tensor size, expected tensor [{have}] and src [{other}] to have the same number of "
            f"elements, but got {have} and {other} elements respectively"
        )

    def compute() -> Tensor:
        return sum(mul(input, tensor), dtype=input.dtype)

    return finish(folded("DotBackward0", (input, tensor), compute), out, "dot")


def _name(tensor: Tensor) -> str:
    return str(tensor.type()).removeprefix("torch.").removesuffix("Tensor")


@lower_precision
def matmul(input: Tensor, other: Tensor, *, out: Tensor | None = None) -> Tensor:
    """The product by NumPy's rules: vectors as rows or columns, leading dims broadcast."""
    tensor_argument(input, "matmul")
    tensor_argument(other, "matmul", "other", 2)
    if type(input) is not Tensor and input.is_sparse:
        return finish(input.matmul(other), out, "matmul")
    return finish(_matmul(input, other), out, "matmul")


def _matmul(a: Tensor, b: Tensor) -> Tensor:
    rank_a, rank_b = a.ndim, b.ndim
    if rank_a == 2 and rank_b == 2:
        result: Tensor = apply(_MATMUL, (a, b), grad_name="MmBackward0")
        return result
    if rank_a == 0 or rank_b == 0:
        raise RuntimeError(
            f"both arguments to matmul need to be at least 1D, but they are {rank_a}D and {rank_b}D"
        )
    if rank_a == 1 and rank_b == 1:
        return dot(a, b)
    if rank_b == 1:
        if rank_a == 2:
            return mv(a, b)
        return folded("UnsafeViewBackward0", (a, b), lambda: _dropped(_matmul(a, unsqueeze(b, 1)), -1))
    if rank_a == 1:
        if rank_b == 2:
            row = _matmul(unsqueeze(a, 0), b)
            step = dispatch.view_step("reshape", {"shape": tuple(row.shape)[1:]})
            return dispatch.view(row, (step,), "SqueezeBackward4")
        return folded("UnsafeViewBackward0", (a, b), lambda: _dropped(_matmul(unsqueeze(a, 0), b), -2))
    if rank_b == 2:
        # Many matrices times one: all rows at once.
        lead = tuple(a.shape)[:-1]
        rows = apply(_MATMUL, (reshape(a, (product(lead), a.shape[-1])), b), grad_name="MmBackward0")
        full = apply(op_named("reshape"), (rows,), {"shape": (*lead, b.shape[1])}, "UnsafeViewBackward0")
        full._base = None
        flat: Tensor = full
        return flat
    batched: Tensor = apply(_MATMUL, (a, b), grad_name="UnsafeViewBackward0")
    return batched


def _dropped(value: Tensor, dim: int) -> Tensor:
    shape = list(value.shape)
    del shape[dim]
    return reshape(value, tuple(shape))


@numbers_first("beta", "alpha")
@lower_precision
def addmm(
    input: Tensor, mat1: Tensor, mat2: Tensor, *, beta: Any = 1, alpha: Any = 1, out: Tensor | None = None
) -> Tensor:
    """beta * input + alpha * mat1 @ mat2."""
    if beta == 1 and alpha == 1:
        return finish(apply(_ADDMM, (input, mat1, mat2)), out, "addmm")

    def compute() -> Tensor:
        return _weighted(input, beta, mm, mat1, mat2, alpha)

    return finish(folded("AddmmBackward0", (input, mat1, mat2), compute), out, "addmm")


@in_float32
def _weighted(
    input: Tensor, beta: Any, multiply: Callable[[Tensor, Tensor], Tensor], a: Tensor, b: Tensor, alpha: Any
) -> Tensor:
    """beta * input + alpha * the product of a and b. With beta 0 not even a NaN of the input counts; its gradient is
    0."""
    alpha, beta = number_in(alpha, a.dtype), number_in(beta, a.dtype)
    product = multiply(a, b)
    scaled = product if alpha == 1 else mul(product, alpha)
    if beta == 0:
        return where(dispatch.constant(False, dtypes.bool_), input, scaled)
    return add(input if beta == 1 else mul(input, beta), scaled)


@numbers_first("beta", "alpha")
@lower_precision
def baddbmm(
    input: Tensor,
    batch1: Tensor,
    batch2: Tensor,
    *,
    beta: Any = 1,
    alpha: Any = 1,
    out: Tensor | None = None,
) -> Tensor:
    """beta * input + alpha * batch1 @ batch2."""

    def compute() -> Tensor:
        return _weighted(input, beta, bmm, batch1, batch2, alpha)

    return finish(folded("BaddbmmBackward0", (input, batch1, batch2), compute), out, "baddbmm")


@numbers_first("beta", "alpha")
@uncast
def addmv(
    input: Tensor, mat: Tensor, vec: Tensor, *, beta: Any = 1, alpha: Any = 1, out: Tensor | None = None
) -> Tensor:
    """beta * input + alpha * mat @ vec."""

    def compute() -> Tensor:
        return _weighted(input, beta, mv, mat, vec, alpha)

    return finish(folded("AddmvBackward0", (input, mat, vec), compute), out, "addmv")


def outer(input: Tensor, vec2: Tensor, *, out: Tensor | None = None) -> Tensor:
    """Every product of an element of one vector with one of the other."""
    if input.ndim != 1 or vec2.ndim != 1:
        raise RuntimeError(
            f"outer: Expected 1-D argument {'self' if input.ndim != 1 else 'vec2'}, but got "
            f"{input.ndim if input.ndim != 1 else vec2.ndim}-D"
        )
    return finish(mul(reshape(input, (-1, 1)), vec2), out, "outer")


ger = outer


@full_precision
def trace(input: Tensor) -> Tensor:
    """The sum of a matrix's diagonal."""
    if input.ndim != 2:
        raise RuntimeError(f"trace: expected a matrix, but got tensor with dim {input.ndim}")
    return folded("TraceBackward0", (input,), lambda: sum(diagonal_to_read(input)))


_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"


def _from_sublists(arguments: list[Any]) -> tuple[str, list[Tensor]]:
    """The equation of the form `einsum(a, [0, 1], b, [1, 2], [0, 2])`, and its operands."""

    def term(numbers: Any) -> str:
        for n in numbers:
            if n is not Ellipsis and not 0 <= int(n) < len(_LETTERS):
                raise ValueError(f"einsum: subscript {n} is not within the valid range [0, 52)")
        return "".join("..." if n is Ellipsis else _LETTERS[int(n)] for n in numbers)

    tensors = arguments[: len(arguments) // 2 * 2 : 2]
    equation = ",".join(term(numbers) for numbers in arguments[1::2])
    return (equation + "->" + term(arguments[-1]) if len(arguments) % 2 else equation), tensors


@lower_precision
def einsum(equation: Any, *operands: Any) -> Tensor:
    """Einstein summation: products of the operands, summed over the letters that the result does not name."""
    if isinstance(equation, Tensor):
        equation, found = _from_sublists([equation, *operands])
        operands = tuple(found)
    tensors = (
        list(operands[0]) if len(operands) == 1 and isinstance(operands[0], list | tuple) else list(operands)
    )
    inputs, arrow, output = equation.replace(" ", "").partition("->")
    terms = inputs.split(",")
    if len(terms) != len(tensors):
        raise RuntimeError(
            f"einsum(): {'fewer' if len(tensors) < len(terms) else 'more'} operands were provided than specified in the "
            "equation"
        )
    if "." in inputs:
        terms, output = _named_ellipsis(terms, tensors, output, bool(arrow))
    if not arrow:
        letters = "".join(terms)
        output = "".join(sorted(c for c in set(letters) if letters.count(c) == 1))
    _check_sizes(terms, tensors)
    result, labels = _diagonal_free(tensors[0], terms[0], 0)
    for number in range(1, len(terms)):
        later = set("".join(terms[number + 1 :])) | set(output)
        right, right_labels = _diagonal_free(tensors[number], terms[number], number)
        result, labels = _contract(result, labels, right, right_labels, later)
    gone = tuple(i for i, c in enumerate(labels) if c not in output)
    if gone:
        result = sum(result, gone)
        labels = "".join(c for c in labels if c in output)
    missing = [c for c in output if c not in labels]
    if missing:
        raise RuntimeError(
            f"einsum(): output subscript {missing[0]} does not appear in the equation for any input operand"
        )
    return result.permute(tuple(labels.index(c) for c in output)) if labels != output else result


def _check_sizes(terms: list[str], tensors: list[Tensor]) -> None:
    """RuntimeError for a letter that stands for two sizes, neither of them 1."""
    size: dict[str, Any] = {}
    for number, (term, tensor) in enumerate(zip(terms, tensors)):
        for letter, n in zip(term, tensor.shape):
            seen = size.get(letter, 1)
            if seen == 1:
                size[letter] = n
            elif n not in (1, seen):
                raise RuntimeError(
                    f"einsum(): subscript {letter} has size {n} for operand {number} which does not broadcast with "
                    f"previously seen size {seen}"
                )


def _named_ellipsis(
    terms: list[str], tensors: list[Tensor], output: str, explicit: bool
) -> tuple[list[str], str]:
    """Letters of their own for the dims that `...` stands for."""
    used = set("".join(terms) + output)
    spare = [c for c in "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz" if c not in used]
    widths = [t.ndim - len(term.replace("...", "")) for term, t in zip(terms, tensors) if "..." in term]
    names = "".join(spare[: max(widths)])
    found = []
    for term, tensor in zip(terms, tensors):
        width = tensor.ndim - len(term.replace("...", ""))
        found.append(term.replace("...", names[len(names) - width :] if width else ""))
    if not explicit:
        letters = "".join(found)
        output = names + "".join(sorted(c for c in set(letters) - set(names) if letters.count(c) == 1))
    return found, output.replace("...", names)


def _diagonal_free(tensor: Tensor, labels: str, number: int) -> tuple[Tensor, str]:
    if tensor.ndim != len(labels):
        raise RuntimeError(
            f"einsum(): the number of subscripts in the equation ({len(labels)}) does not match the number of "
            f"dimensions ({tensor.ndim}) for operand {number} and no ellipsis was given"
        )
    for label in dict.fromkeys(labels):
        while labels.count(label) > 1:
            first = labels.index(label)
            second = labels.index(label, first + 1)
            tensor = diagonal_to_read(tensor, 0, first, second)
            labels = labels[:first] + labels[first + 1 : second] + labels[second + 1 :] + label
    return tensor, labels


def _contract(a: Tensor, la: str, b: Tensor, lb: str, later: set[str]) -> tuple[Tensor, str]:
    """One product, as a batched matrix multiplication: labels in both and later are batch, in both only are
    summed.
    """
    batch = "".join(c for c in la if c in lb and c in later)
    summed = "".join(c for c in la if c in lb and c not in later)
    left = "".join(c for c in la if c not in lb)
    right = "".join(c for c in lb if c not in la)
    size: dict[str, Any] = {}
    for labels, tensor in ((la, a), (lb, b)):
        for c, n in zip(labels, tensor.shape):
            if size.setdefault(c, n) == 1:
                size[c] = n

    def arranged(tensor: Tensor, labels: str, order: str, shape: tuple[Any, ...]) -> Tensor:
        moved = tensor.permute(tuple(labels.index(c) for c in order))
        return reshape(expand(moved, tuple(size[c] for c in order)), shape)

    def count(labels: str) -> Any:
        return product(size[c] for c in labels)

    lead = tuple(size[c] for c in batch)
    first = arranged(a, la, batch + left + summed, (*lead, count(left), count(summed)))
    second = arranged(b, lb, batch + summed + right, (*lead, count(summed), count(right)))
    result = reshape(apply(_MATMUL, (first, second)), tuple(size[c] for c in batch + left + right))
    return result, batch + left + right


@lower_precision
def tensordot(a: Tensor, b: Tensor, dims: Any = 2, out: Tensor | None = None) -> Tensor:
    """The product summed over the last `dims` of a and the first of b, or over two lists of dims."""
    if isinstance(dims, Tensor):
        dims = int(dims.item()) if dims._type.numel == 1 else dims.tolist()
    if isinstance(dims, int):
        dims = (list(range(a.ndim - dims, a.ndim)), list(range(dims)))
    left, right = ([d % t.ndim for d in ds] for ds, t in zip(dims, (a, b)))
    for i, j in zip(left, right):
        have, other = a.shape[i], b.shape[j]
        if have != other and 1 not in (have, other):
            raise RuntimeError(
                f"contracted dimensions need to match, but first has size {have} in dim {i - a.ndim} and second has "
                f"size {other} in dim {j}"
            )
    letters = "abcdefghijklmnopqrstuvwxyz"
    names_a = letters[: a.ndim]
    fresh = iter(letters[a.ndim :])
    names_b = "".join(names_a[left[right.index(i)]] if i in right else next(fresh) for i in range(b.ndim))
    kept = [c for i, c in enumerate(names_a) if i not in left] + [
        c for i, c in enumerate(names_b) if i not in right
    ]
    return finish(einsum(f"{names_a},{names_b}->{''.join(kept)}", a, b), out, "tensordot")


def inner(input: Tensor, other: Tensor, *, out: Tensor | None = None) -> Tensor:
    """The products summed over the last dim of both."""
    if not input.ndim or not other.ndim:
        return mul(input, other, out=out)
    if input.shape[-1] != other.shape[-1]:
        raise RuntimeError(
            "inner() the last dimension must match on both input tensors but got shapes "
            f"{list(input.shape)} and {list(other.shape)}"
        )
    return tensordot(input, other, ([input.ndim - 1], [other.ndim - 1]), out=out)


@full_precision
def cdist(
    x1: Tensor, x2: Tensor, p: float = 2.0, compute_mode: str = "use_mm_for_euclid_dist_if_necessary"
) -> Tensor:
    """The p-norm distance of every row of x1 to every row of x2. `compute_mode` may allow sums of products in place of
    differences: these are always differences."""
    if compute_mode not in _DISTANCE_MODES:
        raise ValueError(f"{compute_mode} is not a valid value for compute_mode")
    if p < 0:
        raise RuntimeError("cdist only supports non-negative p values")
    if x1.ndim < 2 or x2.ndim < 2:
        raise RuntimeError("cdist only supports at least 2D tensors, X1 got: " + f"{x1.ndim}D")
    if x1.shape[-1] != x2.shape[-1]:
        raise RuntimeError(
            f"X1 and X2 must have the same number of columns. X1: {x1.shape[-1]} X2: {x2.shape[-1]}"
        )
    return folded(
        "CdistBackward0",
        (x1, x2),
        lambda: p_norm(sub(unsqueeze(x1, -2), unsqueeze(x2, -3)), float(p), (x1.ndim,), False),
    )


_DISTANCE_MODES = (
    "use_mm_for_euclid_dist_if_necessary",
    "use_mm_for_euclid_dist",
    "donot_use_mm_for_euclid_dist",
)


# The names of `torch` that are defined here.
__all__ = [
    "addmm", "addmv", "baddbmm", "bmm", "cdist", "dot", "einsum", "ger", "inner", "matmul", "mm",
    "mv", "outer", "tensordot", "trace",
]  # fmt: skip
