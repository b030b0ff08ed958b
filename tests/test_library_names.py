"""Names outside PyTorch's documented ones that other libraries import, above all Hugging Face's transformers."""

from __future__ import annotations

import typing
from collections import OrderedDict, namedtuple
from pathlib import Path

import numpy as np
import pytest

import vitrify as torch
from vitrify import nn
from vitrify._dynamo.eval_frame import OptimizedModule
from vitrify._higher_order_ops.associative_scan import associative_scan
from vitrify._utils import _flatten_dense_tensors, _unflatten_dense_tensors
from vitrify.nn.attention.flex_attention import AuxRequest, flex_attention
from vitrify.utils import _pytree as pytree
from vitrify.utils.data.distributed import DistributedSampler

Pair = namedtuple("Pair", "a b")


class Held:
    """A class of the user's around a tensor."""

    def __init__(self, inner: torch.Tensor, factor: int):
        self.inner, self.factor = inner, factor


pytree.register_pytree_node(Held, lambda h: ([h.inner], h.factor), lambda children, f: Held(*children, f))


def test_trees() -> None:
    tree = {"a": [1, (2, Pair(3, 4))], "b": OrderedDict(c=5)}
    leaves, spec = pytree.tree_flatten(tree)
    assert leaves == [1, 2, 3, 4, 5]
    assert pytree.tree_unflatten(leaves, spec) == tree
    assert pytree.tree_map(lambda a, b: a + b, tree, tree)["a"] == [2, (4, Pair(6, 8))]
    assert pytree.tree_map_only(int, str, [1, 2.0]) == ["1", 2.0]
    with pytest.raises(ValueError, match="has length 1 but the spec refers to a pytree that holds 5 items"):
        pytree.tree_unflatten([1], spec)
    with pytest.raises(ValueError, match="built differently"):
        pytree.tree_map(max, [1], (1,))
    with pytest.raises(ValueError, match="already registered"):
        pytree.register_pytree_node(Held, list, list)


def test_what_is_registered_is_structure_when_compiled() -> None:
    double = torch.compile(lambda x: Held(x * 2, 3))
    product = torch.compile(lambda held: held.inner * held.factor)
    for _ in range(2):
        found = double(torch.ones(2))
        assert (type(found), found.inner.tolist(), found.factor) == (Held, [2, 2], 3)
        assert product(found).tolist() == [6, 6]
    assert product(Held(torch.ones(2), 5)).tolist() == [5, 5]


def test_tensors_flattened_into_one() -> None:
    tensors = [torch.arange(6.0).reshape(2, 3), torch.ones(()), torch.zeros(0, 2)]
    flat = _flatten_dense_tensors(tensors)
    assert flat.tolist() == [0, 1, 2, 3, 4, 5, 1]
    found = _unflatten_dense_tensors(flat * 2, tensors)
    assert [t.tolist() for t in found] == [(t * 2).tolist() for t in tensors]


def test_custom_ops() -> None:
    @torch.library.custom_op("vitrify_tests::cube", mutates_args=())
    def cube(x: torch.Tensor, factor: float = 1.0) -> torch.Tensor:
        return x**3 * factor

    @cube.register_fake
    def _(x: torch.Tensor, factor: float = 1.0) -> torch.Tensor:
        raise AssertionError("nobody asks for the shape alone")

    x = torch.tensor([2.0, 3.0], requires_grad=True)
    assert torch.ops.vitrify_tests.cube(x.detach()).tolist() == [8, 27]

    def keep(ctx: typing.Any, inputs: typing.Any, output: typing.Any) -> None:
        ctx.save_for_backward(inputs[0])
        ctx.factor = inputs[1]

    # Not the true gradient, to see whose it is.
    torch.library.register_autograd(
        "vitrify_tests::cube",
        lambda ctx, g: (g * ctx.factor * ctx.saved_tensors[0], None),
        setup_context=keep,
    )
    for f in (cube, torch.compile(lambda x, factor: cube(x, factor=factor))):
        x.grad = None
        f(x, factor=10.0).sum().backward()
        assert x.grad is not None and x.grad.tolist() == [20, 30]
    with pytest.raises(ValueError, match="namespace::name"):
        torch.library.custom_op("cube", mutates_args=())
    with pytest.raises(RuntimeError, match="no custom op 'a::b'"):
        torch.library.register_kernel("a::b", "cpu")


def test_a_storage_of_a_file(tmp_path: Path) -> None:
    """As safetensors loads one."""
    path = tmp_path / "bytes"
    path.write_bytes(np.arange(4, dtype=np.float32).tobytes())
    storage = torch.UntypedStorage.from_file(str(path), shared=False, nbytes=16).untyped()
    found = torch.asarray(storage[4:12], dtype=torch.uint8).view(dtype=torch.float32)
    assert (len(storage), found.tolist()) == (16, [1, 2])
    found += 1
    assert path.read_bytes() == np.arange(4, dtype=np.float32).tobytes()
    with pytest.raises((ValueError, OSError)):
        torch.UntypedStorage.from_file(str(path), shared=False, nbytes=32)


@pytest.mark.parametrize(
    ("options", "wanted"),
    [  # PyTorch 2.13 gave these
        ({"seed": 1}, [6, 0, 3, 5]),
        ({"shuffle": False}, [1, 4, 7, 0]),
        ({"shuffle": False, "drop_last": True}, [1, 4, 7]),
    ],
)
def test_a_process_s_share_of_a_dataset(options: dict[str, typing.Any], wanted: list[int]) -> None:
    sampler = DistributedSampler(range(10), 3, 1, **options)
    assert (list(sampler), len(sampler)) == (wanted, len(wanted))
    with pytest.raises(RuntimeError, match="distributed package"):
        DistributedSampler(range(10))


@pytest.mark.parametrize("count", [1, 2, 5, 8])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("mode", ["pointwise", "generic"])
def test_associative_scan(count: int, reverse: bool, mode: str) -> None:
    a, b = (torch.from_numpy(np.random.default_rng(0).normal(size=(3, count, 2))) for _ in range(2))

    def then(first: typing.Any, second: typing.Any) -> typing.Any:
        return first[0] * second[0], second[0] * first[1] + second[1]

    found = associative_scan(then, (a, b), 1, reverse, mode)
    order = range(count)[::-1] if reverse else range(count)
    x, y = torch.ones(3, 2, dtype=torch.float64), torch.zeros(3, 2, dtype=torch.float64)
    for i in order:
        x, y = then((x, y), (a[:, i], b[:, i]))
        torch.testing.assert_close(found[0][:, i], x)
        torch.testing.assert_close(found[1][:, i], y)


def test_limits_of_dtypes_that_are_names_alone() -> None:
    limits = torch.finfo(torch.float8_e4m3fn)
    assert (limits.min, limits.max, limits.eps, limits.bits) == (-448, 448, 0.125, 8)
    assert torch.float8_e5m2.itemsize == 1
    for make in (lambda t: torch.zeros(2, dtype=t), lambda t: torch.ones(2).to(t), torch.ones(4).view):
        with pytest.raises(
            TypeError, match=r"float8_e4m3fn: vitrify has the name of this dtype and its limits"
        ):
            make(torch.float8_e4m3fn)


def test_hints_of_modules_can_be_read() -> None:
    assert "training" in typing.get_type_hints(nn.Linear)
    assert "_modules" in typing.get_type_hints(nn.TransformerEncoderLayer)


def test_what_flex_attention_gives_besides() -> None:
    torch.manual_seed(0)
    q, k, v = torch.randn(3, 1, 2, 4, 8)
    output, beside = flex_attention(q, k, v, return_aux=AuxRequest(lse=True, max_scores=True))
    scores = q @ k.transpose(-2, -1) / 8**0.5
    torch.testing.assert_close(beside.lse, scores.logsumexp(-1))
    torch.testing.assert_close(beside.max_scores, scores.amax(-1))
    torch.testing.assert_close(output, scores.softmax(-1) @ v)


def test_what_there_is_no_use_for_says_so() -> None:
    assert isinstance(torch.compile(nn.Linear(2, 2)), OptimizedModule)
    with pytest.raises(NotImplementedError, match="captures a program as a CUDA graph by itself"):
        torch.cuda.CUDAGraph()
    with pytest.raises(NotImplementedError, match="Compile the function"):
        torch.cuda.graph(None)


def test_an_optimizer_around_another() -> None:
    class Around(torch.optim.Optimizer):
        def __init__(self, inner: torch.optim.Optimizer):
            self.inner = inner

        def step(self, closure: typing.Any = None) -> None:
            self.inner.step()

    p = nn.Parameter(torch.ones(2))
    p.sum().backward()
    Around(torch.optim.SGD([p], lr=0.5)).step()
    assert p.tolist() == [0.5, 0.5]


def test_shapes_and_dims_by_name() -> None:
    x = torch.arange(6.0).reshape(shape=(2, 3))
    assert x.flip(dims=[0]).tolist() == torch.flip(x, (0,)).tolist() == [[3, 4, 5], [0, 1, 2]]
    assert torch.permute(x, dims=(1, 0)).shape == x.view(size=(3, 2)).shape == (3, 2)
    assert x.view(dtype=torch.int32).dtype == torch.int32
    assert x.expand(size=(4, 2, 3)).shape == (4, 2, 3)
    assert x.repeat(repeats=(2, 1)).shape == x.tile(dims=(2, 1)).shape == (4, 3)
