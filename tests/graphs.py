"""Random well-typed graphs, and inputs for them: the same for the same seed.

    graph = random_graph(seed)
    arrays = random_inputs(graph, seed)

Every op of the registry may occur unless `ops` says which; `tame=True` keeps to ops that neither overflow
nor magnify rounding, for comparing two ways of computing. `symbolic=True` gives inputs a leading dim
`batch`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection

import numpy as np

import vitrify.ir.ops  # noqa: F401  (fills the registry)
from vitrify.ir import dtypes
from vitrify.ir.builder import GraphBuilder
from vitrify.ir.dims import Dim, DimLike
from vitrify.ir.dtypes import DType
from vitrify.ir.graph import Graph, Location, Value
from vitrify.ir.op import Op, all_ops
from vitrify.ir.types import TensorType

TAME_OPS = """
    neg abs tanh sigmoid sin cos add sub mul maximum minimum where relu gelu silu leaky_relu elu clamp
    floor convert
    lt le gt ge eq ne logical_and logical_or logical_not
    reshape permute expand slice flip pad concat update_slice detach full iota
    sum mean amax amin any all softmax log_softmax
    matmul addmm conv convolution max_pool avg_pool gather index_select
"""
TAME = frozenset(TAME_OPS.split())
# What a type rule raises for operands that the op does not take.
REFUSALS = (TypeError, RuntimeError, IndexError, ValueError)
SIZES = (1, 2, 3, 4, 5, 8)
BATCH = Dim("batch", 1, 64)


def random_graph(
    seed: int | random.Random,
    nodes: int = 12,
    ops: Collection[str] | None = None,
    tame: bool = False,
    symbolic: bool = False,
    dtype: DType = dtypes.f32,
) -> Graph:
    """A graph of about `nodes` nodes, most of them of `dtype`, every value used or returned. In the seed's place may
    stand what makes the choices: hypothesis' own `Random`, which can shrink a graph."""
    allowed = TAME if tame and ops is None else ops
    rng = seed if isinstance(seed, random.Random) else random.Random(seed)
    maker = _Maker(rng, allowed, symbolic, dtype)
    return maker.make(nodes)


def random_inputs(graph: Graph, seed: int = 0, batch: int = 3) -> list[np.ndarray]:
    """Arrays for the graph's inputs. Inputs whose name starts with `index` hold 0 and 1, `state` inputs a
    seed and a call number; floats lie in [-2, 2)."""
    rng = np.random.default_rng(seed)
    arrays = []
    for value in graph.inputs:
        type_ = value.type.bind({s.name: batch for s in graph.symbols})
        if type_.dtype.kind == "bool" or value.name.startswith("index"):
            array = rng.integers(0, 2, type_.shape)
        elif value.name.startswith("state"):
            array = rng.integers(0, 1000, type_.shape)
        elif type_.dtype.is_integral:
            array = rng.integers(0 if type_.dtype.kind == "uint" else -9, 10, type_.shape)
        else:
            array = rng.uniform(-2, 2, type_.shape)
        arrays.append(np.asarray(array).astype(type_.dtype.numpy))
    return arrays


class _Maker:
    def __init__(self, rng: random.Random, allowed: Collection[str] | None, symbolic: bool, dtype: DType):
        self.rng = rng
        self.symbolic = symbolic
        self.dtype = dtype
        self.F = GraphBuilder("random")
        self.values: list[Value] = []
        self.ops = [op for op in all_ops() if allowed is None or op.name in allowed]
        self.names = {op.name for op in self.ops}

    def make(self, nodes: int) -> Graph:
        if self.symbolic:
            self.input((BATCH, *self.shape(0, 3)), self.dtype)
        for _ in range(self.rng.randint(1, 3)):
            self.input(self.shape(), self.dtype)
        makers: list[tuple[Callable[[], Value | None], int]] = [
            (self.elementwise, 8),
            (self.compare, 1),
            (self.where, 1),
            (self.view, 6),
            (self.reduce, 4),
            (self.constant, 1),
            (self.contract, 2),
            (self.convolve, 1),
            (self.window, 1),
            (self.pick, 1),
            (self.normalise, 1),
            (self.draw, 1),
        ]
        steps, weights = zip(*makers)
        for _ in range(20 * nodes):
            if len(self.F.nodes) >= nodes:
                break
            self.F.location = self.location()
            made = len(self.F.nodes)
            try:
                result = self.rng.choices(steps, weights)[0]()
            except REFUSALS:
                self.take_back(made)
                continue
            if result is not None:
                self.values.append(result)
        return self.finish()

    def take_back(self, made: int) -> None:
        """Forget the nodes of a step that failed, and what else knows of them."""
        gone = {v for node in self.F.nodes[made:] for v in node.outputs}
        del self.F.nodes[made:]
        self.values = [v for v in self.values if v not in gone]
        self.F._constants.clear()

    def finish(self) -> Graph:
        used = {v for node in self.F.nodes for v in node.inputs}
        outputs = [v for node in self.F.nodes for v in node.outputs if v not in used]
        outputs += self.rng.sample(self.values, min(len(self.values), 2))
        return self.F.finish(dict.fromkeys(outputs), made_by="random")

    def location(self) -> Location | None:
        if self.rng.random() < 0.2:
            return None
        return Location("model.py", self.rng.randint(1, 99), self.rng.choice(["", "conv1", "layers.0.fc"]))

    # Operands

    def shape(self, low: int = 0, high: int = 4) -> tuple[DimLike, ...]:
        shape: list[DimLike] = [self.rng.choice(SIZES) for _ in range(self.rng.randint(low, high))]
        if self.symbolic and shape and self.rng.random() < 0.7:
            shape[0] = BATCH
        return tuple(shape)

    def input(self, shape: tuple[DimLike, ...], dtype: DType, name: str = "x") -> Value:
        value = self.F.input(name, TensorType(shape, dtype))
        self.values.append(value)
        return value

    def any_value(self, *kinds: str, rank: tuple[int, int] = (0, 9)) -> Value:
        """A value of one of these dtype kinds (default: float) and a rank in the range; a new input if
        there is none."""
        kinds = kinds or ("float",)
        found = [v for v in self.values if v.type.dtype.kind in kinds and rank[0] <= v.type.rank <= rank[1]]
        if found and self.rng.random() < 0.95:
            # Recent values more often, so that graphs are deep.
            return self.rng.choice(found[-4:] if self.rng.random() < 0.6 else found)
        dtype = {"float": self.dtype, "int": dtypes.i64, "bool": dtypes.bool_}.get(kinds[0], self.dtype)
        return self.input(self.shape(rank[0], min(rank[1], 4)), dtype)

    def partner(self, value: Value) -> Value:
        """An operand that broadcasts with the value."""
        choice = self.rng.random()
        same = [v for v in self.values if v.type == value.type]
        if choice < 0.6:
            return self.rng.choice(same)
        if choice < 0.75:
            number = self.rng.choice([0.0, 1.0, -1.0, 0.5, 2.0, -0.0, 3.0])
            dtype = value.type.dtype
            return self.F.constant(
                number if dtype.is_floating_point else bool(number) if dtype.kind == "bool" else int(number),
                dtype,
            )
        shape = tuple(1 if self.rng.random() < 0.4 else d for d in value.type.shape)
        return self.input(shape[self.rng.randint(0, len(shape)) :], value.type.dtype)

    def op(self, accept: Callable[[Op], bool]) -> Op | None:
        found = [op for op in self.ops if accept(op)]
        return self.rng.choice(found) if found else None

    def named(self, *names: str) -> str | None:
        """One of the op names that is allowed."""
        found = [name for name in names if name in self.names]
        return self.rng.choice(found) if found else None

    # One step each; RuntimeError and its like from a shape rule means: not this one

    def elementwise(self) -> Value | None:
        op = self.op(
            lambda op: (
                op.results == 1
                and op.arity in ((1, 1), (2, 2))
                and op.name != "where"
                and (op.lowering == "pointwise" or (op.level == "composite" and all_defaults(op)))
            )
        )
        if op is None:
            return None
        kinds = (
            ("bool",)
            if op.name.startswith("logical")
            else ("int", "bool")
            if op.name.startswith("bitwise")
            else ()
        )
        # Integer division by zero is an error.
        total = op.name not in ("div", "floor_divide", "remainder", "pow")
        if not kinds and total and self.rng.random() < 0.15:
            kinds = ("int",)
        attrs = {}
        if "dtype" in op.attrs:
            attrs["dtype"] = self.rng.choice(
                [self.dtype, self.dtype, dtypes.f64, dtypes.i64, dtypes.bool_, dtypes.i32]
            )
        elif not all_defaults(op):
            return None
        value = self.any_value(*kinds)
        operands = [value] if op.arity == (1, 1) else [value, self.partner(value)]
        return self.F.apply(op, operands, attrs)

    def compare(self) -> Value | None:
        name = self.named("lt", "le", "gt", "ge", "eq", "ne")
        if name is None:
            return None
        value = self.any_value("float", "int")
        return getattr(self.F, name)(value, self.partner(value))

    def where(self) -> Value | None:
        if "where" not in self.names:
            return None
        value = self.any_value("float", "int")
        conditions = [
            v for v in self.values if v.type.dtype.kind == "bool" and v.type.shape == value.type.shape
        ]
        condition = self.rng.choice(conditions) if conditions else self.F.gt(value, 0)
        return self.F.where(condition, value, self.partner(value))

    def constant(self) -> Value | None:
        if self.rng.random() < 0.3 and "iota" in self.names:
            shape = self.shape(1)
            return self.F.iota(
                shape=shape,
                dim=self.rng.randrange(len(shape)),
                dtype=self.rng.choice([dtypes.i64, self.dtype]),
            )
        if "full" not in self.names:
            return None
        return self.F.full(shape=self.shape(), value=self.rng.choice([0.0, 1.0, -2.5, 2.0]), dtype=self.dtype)

    def view(self) -> Value | None:
        name = self.named(
            "reshape", "permute", "expand", "slice", "flip", "pad", "concat", "update_slice", "detach"
        )
        if name is None:
            return None
        value = self.any_value("float", "float", "int", "bool")
        shape, rng = value.type.shape, self.rng
        match name:
            case "reshape":
                return self.F.reshape(value, shape=self.regrouped(shape))
            case "permute":
                return self.F.permute(value, dims=tuple(rng.sample(range(len(shape)), len(shape))))
            case "expand":
                target = tuple(rng.choice(SIZES) if d == 1 else d for d in shape)
                return self.F.expand(value, shape=(rng.choice(SIZES),) * rng.randint(0, 1) + target)
            case "slice":
                return self.F.slice(value, **self.ranges(shape))
            case "update_slice":
                ranges = self.ranges(shape)
                return self.F.update_slice(value, self.F.slice(value, **ranges), **ranges)
            case "flip":
                return self.F.flip(value, dims=tuple(d for d in range(len(shape)) if rng.random() < 0.5))
            case "pad":
                low = tuple(rng.randint(0, 2) for _ in shape)
                high = tuple(rng.randint(0, 2) for _ in shape)
                return self.F.pad(value, low=low, high=high, value=self.number(value.type.dtype))
            case "concat":
                parts = [v for v in self.values if v.type == value.type]
                return self.F.concat(
                    *rng.choices(parts, k=rng.randint(1, 3)), dim=rng.randrange(max(1, len(shape)))
                )
        return self.F.detach(value)

    def number(self, dtype: DType) -> float | int | bool:
        if dtype.kind == "bool":
            return self.rng.random() < 0.5
        return self.rng.choice([0, 1, 7]) if dtype.is_integral else self.rng.choice([0.0, -1.5, 7.0])

    def regrouped(self, shape: tuple[DimLike, ...]) -> tuple[DimLike, ...]:
        """Dims merged with their neighbour, split, or with a 1 beside them."""
        result: list[DimLike] = []
        for dim in shape:
            choice = self.rng.random()
            if choice < 0.3 and result:
                result[-1] = result[-1] * dim
            elif choice < 0.45:
                result += [1, dim]
            elif choice < 0.7 and isinstance(dim, int) and dim % 2 == 0:
                result += [2, dim // 2]
            else:
                result.append(dim)
        return tuple(result)

    def ranges(self, shape: tuple[DimLike, ...]) -> dict[str, tuple[DimLike, ...]]:
        starts: list[DimLike] = []
        stops: list[DimLike] = []
        steps = []
        for dim in shape:
            start = self.rng.randint(0, dim - 1) if isinstance(dim, int) and dim else 0
            starts.append(start)
            stops.append(
                self.rng.randint(start, dim) if isinstance(dim, int) and self.rng.random() < 0.5 else dim
            )
            steps.append(self.rng.choice([1, 1, 1, 2]) if isinstance(dim, int) else 1)
        return {"starts": tuple(starts), "stops": tuple(stops), "steps": tuple(steps)}

    def reduce(self) -> Value | None:
        op = self.op(lambda op: "keepdim" in op.attrs)
        if op is None:
            return None
        value = self.any_value("bool") if op.name in ("any", "all") else self.any_value(rank=(1, 9))
        rank = value.type.rank
        keepdim = self.rng.random() < 0.5
        if "dim" in op.attrs:
            return self.F.apply(op, [value], {"dim": self.rng.randrange(rank), "keepdim": keepdim})
        dims = tuple(sorted(self.rng.sample(range(rank), self.rng.randint(1, rank)))) if rank else ()
        attrs = {"dims": dims, "keepdim": keepdim}
        if "correction" in op.attrs:
            attrs["correction"] = self.rng.randint(0, 1)
        result = self.F.apply(op, [value], attrs)
        if keepdim and self.rng.random() < 0.5 and "sub" in self.names and op.name in ("mean", "amax", "sum"):
            self.values.append(result)
            return self.F.sub(value, result)
        return result

    def contract(self) -> Value | None:
        name = self.named("matmul", "addmm")
        if name is None:
            return None
        a = self.any_value(rank=(2, 4))
        if self.rng.random() < 0.3:
            last = a.type.rank - 1
            b = self.F.permute(a, dims=(*range(last - 1), last, last - 1))
        else:
            b = self.input((a.type.shape[-1], self.rng.choice(SIZES)), a.type.dtype, "w")
        if name == "matmul":
            return self.F.matmul(a, b)
        return self.F.addmm(self.input((b.type.shape[-1],), a.type.dtype, "b"), a, b)

    def convolve(self) -> Value | None:
        if self.named("conv", "convolution") is None:
            return None
        channels, spatial = self.rng.choice([1, 2, 4]), self.rng.choice([5, 8])
        batch = BATCH if self.symbolic else self.rng.choice([1, 3])
        x = self.input((batch, channels, spatial, spatial), self.dtype)
        groups = self.rng.choice([1, channels])
        out = groups * self.rng.choice([1, 2])
        w = self.input((out, channels // groups, 3, self.rng.choice([1, 3])), self.dtype, "w")
        attrs = {
            "stride": (self.rng.choice([1, 2]),) * 2,
            "padding": (self.rng.choice([0, 1]),) * 2,
            "dilation": (1, 1),
            "groups": groups,
        }
        if "convolution" in self.names and self.rng.random() < 0.5:
            return self.F.convolution(x, w, self.input((out,), self.dtype, "b"), **attrs)
        return self.F.conv(x, w, **attrs)

    def window(self) -> Value | None:
        name = self.named("max_pool", "avg_pool")
        if name is None:
            return None
        x = self.any_value(rank=(4, 4))
        attrs = {"kernel": (2, 2), "stride": (self.rng.choice([1, 2]),) * 2}
        attrs["padding"] = (self.rng.choice([0, 1]),) * 2
        if name == "max_pool":
            attrs["dilation"] = (1, 1)
        return getattr(self.F, name)(x, **attrs)

    def pick(self) -> Value | None:
        name = self.named("gather", "index_select", "scatter_add", "index_add")
        if name is None:
            return None
        x = self.any_value(rank=(1, 4))
        dims = [d for d, size in enumerate(x.type.shape) if isinstance(size, int) and size >= 2]
        if not dims:
            return None
        dim = self.rng.choice(dims)
        if name in ("gather", "scatter_add"):
            index = self.input(x.type.shape, dtypes.i64, "index")
            if name == "gather":
                return self.F.gather(x, index, dim=dim)
            return self.F.scatter_add(x, index, self.partner_of(x.type.shape), dim=dim)
        index = self.input((self.rng.choice(SIZES),), dtypes.i64, "index")
        if name == "index_select":
            return self.F.index_select(x, index, dim=dim)
        source = (*x.type.shape[:dim], index.type.shape[0], *x.type.shape[dim + 1 :])
        return self.F.index_add(x, index, self.partner_of(source), dim=dim)

    def partner_of(self, shape: tuple[DimLike, ...]) -> Value:
        found = [v for v in self.values if v.type == TensorType(shape, self.dtype)]
        return self.rng.choice(found) if found else self.input(shape, self.dtype)

    def normalise(self) -> Value | None:
        name = self.named("softmax", "log_softmax")
        if name is None:
            return None
        x = self.any_value(rank=(1, 4))
        return getattr(self.F, name)(x, dim=self.rng.randrange(x.type.rank))

    def draw(self) -> Value | None:
        name = self.named("random_uniform", "dropout")
        if name is None:
            return None
        state = next((v for v in self.F.inputs if v.name.startswith("state")), None)
        state = state or self.input((2,), dtypes.i64, "state")
        stream = self.rng.randint(0, 1)
        if name == "random_uniform":
            return self.F.random_uniform(state, shape=self.shape(), dtype=self.dtype, stream=stream)
        return self.F.dropout(self.any_value(), state, p=0.5, stream=stream)


def all_defaults(op: Op) -> bool:
    try:
        op.normalise_attrs({})
    except TypeError:
        return False
    return True
