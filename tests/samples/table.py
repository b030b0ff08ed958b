"""The sample table: calls of public names as text, run by either library as `torch`.

A family is a file of this folder with a `FAMILY = Family(...)`. `make.py` runs its samples with PyTorch and stores the
results beside it (`<family>.npz`); `tests/test_samples.py` runs them here, eagerly and compiled, and compares values
and gradients. `docs/coverage.md` counts a name as covered when a sample calls it.

A sample is one line: statements separated by `; `, the last one an expression whose value is compared. It sees `torch`,
`np`, and the family's inputs as fresh leaf tensors:

    torch.atan2(x, y)
    z = x.clone(); z.abs_(); z

A module sample has the module before `<-` and the call's arguments after it. The module is made outside the compiled
function, after `torch.manual_seed(0)`; its repr, its state_dict's keys and its parameters' gradients are compared too:

    torch.nn.Bilinear(3, 4, 5) <- x, y

A program is several lines of text that set `result`.
"""

from __future__ import annotations

import ast
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Input:
    """One input: how its values are drawn. `grad`: whether it is a leaf that requires grad (float and complex only)."""

    draw: Callable[[np.random.RandomState], Array]
    grad: bool


def normal(*shape: int, grad: bool = True) -> Input:
    """float32, standard normal."""
    return Input(lambda rng: rng.standard_normal(shape).astype(np.float32), grad)


def uniform(*shape: int, low: float = 0.0, high: float = 1.0, grad: bool = True) -> Input:
    """float32, uniform in [low, high)."""
    return Input(lambda rng: rng.uniform(low, high, shape).astype(np.float32), grad)


def spread(*shape: int, grad: bool = True) -> Input:
    """float32, distinct multiples of 1/4 around 0 in random order: no ties, exact in every float type."""
    count = int(np.prod(shape))
    return Input(
        lambda rng: ((rng.permutation(count) - count // 2) / 4).astype(np.float32).reshape(shape), grad
    )


def complexes(*shape: int, grad: bool = True) -> Input:
    """complex64, both parts standard normal."""
    return Input(
        lambda rng: (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)).astype(np.complex64), grad
    )


def integers(*shape: int, low: int = 0, high: int = 10) -> Input:
    """int64 in [low, high)."""
    return Input(lambda rng: rng.randint(low, high, shape), False)


def booleans(*shape: int) -> Input:
    return Input(lambda rng: rng.rand(*shape) > 0.4, False)


def given(value: Any, dtype: Any = np.float32, grad: bool = False) -> Input:
    """These very numbers."""
    return Input(lambda rng: np.array(value, dtype), grad)


@dataclass(frozen=True)
class Family:
    """A table of samples over common inputs. The text fields hold one sample per line; blank lines and lines that
    start with `#` are skipped.

    variants: dtype name ("float64", "bfloat16", "float16", "int64", "bool", ...) -> samples for which the float32
        inputs are converted to that dtype first (to int64 after a multiplication by 3; complex ones stay, but become
        complex128 for "float64").
    programs: name -> several lines that set `result`.
    eager_only: sample (its text, or a program's name) -> why its compiled half is not run.
    exact: sample -> how far PyTorch's own result is from the exact one, and how far the one here, in tolerances.
        Values and gradients are compared, at PyTorch's tolerances for the sample's dtype, with those that PyTorch gives
        for the same numbers in float64 (`mpmath_functions.py` where it is inexact even then).
    forward_only: samples whose gradients are not compared, with the reason.
    """

    inputs: Mapping[str, Input]
    samples: str = ""
    modules: str = ""
    programs: Mapping[str, str] = field(default_factory=dict)
    variants: Mapping[str, str] = field(default_factory=dict)
    eager_only: Mapping[str, str] = field(default_factory=dict)
    forward_only: Mapping[str, str] = field(default_factory=dict)
    exact: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Sample:
    """One row. `dtype` is "" for the inputs as they are; `kind` says how `text` is to be read."""

    family: str
    kind: str
    text: str
    dtype: str = ""
    name: str = ""

    @property
    def key(self) -> str:
        """Identifies the sample within its family."""
        label = self.name or self.text
        return f"{label} [{self.dtype}]" if self.dtype else label


def _lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip() and not line.strip().startswith("#")]


def samples_of(name: str, family: Family) -> list[Sample]:
    """All rows of the family, in order; ValueError for a row that is there twice, or a note about none."""
    rows = [Sample(name, "expression", line) for line in _lines(family.samples)]
    rows += [Sample(name, "module", line) for line in _lines(family.modules)]
    rows += [Sample(name, "program", text, name=label) for label, text in family.programs.items()]
    for dtype, text in family.variants.items():
        for line in _lines(text):
            rows.append(Sample(name, "module" if "<-" in line else "expression", line, dtype))
    keys = [row.key for row in rows]
    twice = {key for key in keys if keys.count(key) > 1} if len(set(keys)) < len(keys) else set()
    known = {*keys, *(row.text for row in rows)}
    notes = {*family.eager_only, *family.forward_only, *family.exact} - known
    if twice or notes:
        raise ValueError(f"samples of {name}: twice {sorted(twice)}, notes about none {sorted(notes)}")
    return rows


def note(notes: Mapping[str, Any], sample: Sample) -> Any:
    """What the family notes about the sample, by its key or, for all dtypes, by its text; None for nothing."""
    return notes.get(sample.key, notes.get(sample.text))


@cache
def _drawn(family: str, name: str, spec: Input) -> np.ndarray[Any, Any]:
    return np.asarray(spec.draw(np.random.RandomState(zlib.crc32(f"{family}.{name}".encode()))))


def leaves(torch: Any, family: Family, sample: Sample, exact: bool = False) -> dict[str, Any]:
    """The family's inputs as fresh tensors, in the sample's dtype; `exact`: these numbers, but in float64."""
    made = {}
    for name, spec in family.inputs.items():
        tensor = torch.tensor(_drawn(sample.family, name, spec))
        if sample.dtype and tensor.dtype is torch.float32:
            dtype = getattr(torch, sample.dtype)
            tensor = (tensor if dtype.is_floating_point or dtype.is_complex else tensor * 3).to(dtype)
        elif sample.dtype == "float64" and tensor.dtype is torch.complex64:
            tensor = tensor.to(torch.complex128)
        if exact:
            tensor = _wide(torch, tensor)
        if spec.grad and (tensor.is_floating_point() or tensor.is_complex()):
            tensor.requires_grad_()
        made[name] = tensor
    return made


def run(
    torch: Any,
    family: Family,
    sample: Sample,
    compile: bool = False,
    options: Any = None,
    exact_for: Any = None,
) -> dict[str, Any]:
    """Everything about one sample: value, gradients of the inputs it uses, and a module's repr, keys and gradients.

    An exception of the call itself is the result {"error": "Type: first line"}. `options` are those of torch.compile.
    With `exact_for`, a result of this function, the same numbers go in (inputs, parameters, cotangents) but everything
    is computed in float64.
    """
    torch.manual_seed(0)
    inputs = leaves(torch, family, sample, exact_for is not None)
    code, module_text = _code(sample)
    used = [name for name in inputs if name in code.names]
    base: dict[str, Any] = {"torch": torch, "np": np}
    found: dict[str, Any] = {}
    parameters: list[tuple[str, Any]] = []
    if module_text:
        module = base["module_"] = eval(module_text, {**base, **inputs})
        found["repr"] = repr(module)
        if exact_for is not None:
            module.double()

    def call(*arguments: Any) -> Any:
        names = {**base, **dict(zip(used, arguments))}
        exec(code.body, names)
        return names["result"]

    try:
        value = (torch.compile(call, options=options) if compile else call)(*[inputs[name] for name in used])
    except Exception as error:
        return {"error": f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"}
    if module_text:
        found["state"] = list(module.state_dict())
        parameters = list(module.named_parameters())
    tensors = list(_tensors(value))
    dtypes = [t.dtype for t in (tensors if exact_for is None else _tensors(exact_for["value"]))]
    outputs = [t for t in tensors if t.requires_grad]
    cotangents = [_cotangent(torch, t, dtype) for t, dtype in zip(tensors, dtypes) if t.requires_grad]
    found["value"] = _detached(value)
    if outputs and note(family.forward_only, sample) is None:
        try:
            torch.autograd.backward(outputs, cotangents)
        except RuntimeError as error:
            found["backward error"] = (str(error).splitlines() or [""])[0]
        found["gradients"] = {name: inputs[name].grad for name in used if inputs[name].requires_grad}
        found["gradients"].update((f"parameter {name}", p.grad) for name, p in parameters)
    return found


@dataclass(frozen=True)
class _Code:
    body: Any
    names: frozenset[str]


def _code(sample: Sample) -> tuple[_Code, str]:
    """The compiled text, which sets `result`, and the text that makes the module, if any."""
    module_text, text = "", sample.text
    if sample.kind == "module":
        module_text, arguments = (part.strip() for part in sample.text.split("<-"))
        text = f"module_({arguments})"
    tree = ast.parse(text)
    if sample.kind != "program":
        last = tree.body[-1]
        if not isinstance(last, ast.Expr):
            raise ValueError(f"the last statement of a sample is its result: {sample.text}")
        assignment = ast.Assign([ast.Name("result", ast.Store())], last.value)
        tree.body[-1] = ast.copy_location(assignment, last)
        ast.fix_missing_locations(tree)
    names = frozenset(node.id for node in ast.walk(tree) if isinstance(node, ast.Name))
    return _Code(compile(tree, f"<sample {sample.key}>", "exec"), names), module_text


def _tensors(value: Any) -> Iterator[Any]:
    if hasattr(value, "grad_fn"):
        yield value
    elif isinstance(value, dict):
        for part in value.values():
            yield from _tensors(part)
    elif isinstance(value, tuple | list):
        for part in value:
            yield from _tensors(part)


def _detached(value: Any) -> Any:
    """The value with tensors cut off from their history (a later backward cannot change them)."""
    if hasattr(value, "grad_fn"):
        return value.detach()
    if isinstance(value, dict):
        return {k: _detached(v) for k, v in value.items()}
    if isinstance(value, tuple | list) and type(value).__name__ != "Size":
        return [_detached(v) for v in value]
    return value


def _wide(torch: Any, tensor: Any) -> Any:
    """The tensor in float64 or complex128, if it is not of integers."""
    if tensor.is_complex():
        return tensor.to(torch.complex128)
    return tensor.double() if tensor.is_floating_point() else tensor


def _cotangent(torch: Any, tensor: Any, dtype: Any) -> Any:
    """A fixed cotangent without symmetry, exact in `dtype`."""
    values = np.linspace(-1, 2, tensor.numel())
    if tensor.is_complex():
        values = values * (1 + 0.5j)
    return torch.tensor(values).reshape(tuple(tensor.shape)).to(dtype).to(tensor.dtype)


def encode(value: Any, arrays: list[Array]) -> Any:
    """The value as JSON; tensors and arrays go to `arrays` and leave their number."""
    if hasattr(value, "grad_fn"):
        dtype = str(value.dtype)
        stored = value.detach()
        if dtype in ("torch.bfloat16", "torch.float16"):
            stored = stored.float()
        if stored.is_complex():
            stored = stored.resolve_conj()
        arrays.append(
            np.array(stored.clone().numpy())
        )  # a clone: PyTorch has tensors of zeros without memory
        return {"tensor": len(arrays) - 1, "dtype": dtype}
    if isinstance(value, np.ndarray):
        arrays.append(value.copy())
        return {"array": len(arrays) - 1}
    if isinstance(value, dict):
        return {str(k): encode(v, arrays) for k, v in value.items()}
    if isinstance(value, tuple | list) and type(value).__name__ != "Size":
        return [encode(v, arrays) for v in value]
    return value if isinstance(value, bool | int | str) or value is None else repr(value)
