"""Names that libraries import: what cannot work says so where it is used."""

import collections
import importlib
import subprocess
import sys
from typing import Any

import pytest

import vitrify as torch
from vitrify.utils import _pytree as pytree


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("nn.parallel.distributed", "DistributedDataParallel"),
        ("fx", "GraphModule"),
        ("_C", "PyTorchFileReader"),
        ("_subclasses.fake_tensor", "FakeTensor"),
    ],
)
def test_what_is_not_supported_says_so_when_it_is_made(module: str, name: str) -> None:
    kind = getattr(importlib.import_module(f"vitrify.{module}"), name)
    with pytest.raises((NotImplementedError, RuntimeError), match=r"not supported|not in vitrify"):
        kind(None)


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("autograd.profiler", "emit_nvtx"),
        ("_subclasses.fake_tensor", "FakeTensorMode"),
    ],
)
def test_contexts_that_are_not_supported_say_so_when_they_are_entered(module: str, name: str) -> None:
    context = getattr(importlib.import_module(f"vitrify.{module}"), name)()
    with pytest.raises(NotImplementedError, match=r"not in vitrify|not supported"), context:
        pass


def test_what_programs_ask() -> None:
    assert torch.__config__.show().startswith("vitrify")
    assert "threads" in torch.__config__.parallel_info()
    assert torch.profiler.kineto_available() is False
    fake = importlib.import_module("vitrify._subclasses.fake_tensor")
    assert fake.is_fake(torch.ones(1)) is False
    proxies = importlib.import_module("vitrify.fx.experimental.proxy_tensor")
    assert proxies.get_proxy_mode() is None
    assert issubclass(torch.Tensor.__class__, importlib.import_module("vitrify._C")._TensorMeta)


def test_classes_that_are_structure() -> None:
    Pair = collections.namedtuple("Pair", "a b")
    node: Any = {"x": [1, Pair(2, 3)]}
    assert pytree._get_node_type(node) is dict
    assert pytree._get_node_type(Pair(1, 2)) is collections.namedtuple
    assert pytree._get_node_type(3) not in pytree.SUPPORTED_NODES
    children, context = pytree.SUPPORTED_NODES[dict].flatten_fn(node)
    assert (children, context) == ([[1, Pair(2, 3)]], ["x"])
    children, context = pytree.SUPPORTED_NODES[collections.namedtuple].flatten_fn(Pair(1, 2))
    spec = pytree.TreeSpec(collections.namedtuple, context, (pytree.LeafSpec(), pytree.LeafSpec()))
    assert pytree.tree_unflatten(children, spec) == Pair(1, 2)


def test_as_torch_the_package_has_its_name() -> None:
    program = (
        "import vitrify; alias = vitrify.as_torch()\n"
        "import torch; from torch import hub, Tensor; from torch.nn.parallel.scatter_gather import scatter\n"
        "assert torch.__name__ == 'torch' and torch.torch is torch\n"
        "alias.close()\n"
        "assert vitrify.__name__ == 'vitrify' and not hasattr(vitrify, 'torch')\n"
        "from vitrify import signal\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_what_torchvision_asks_when_it_is_imported() -> None:
    with pytest.raises(OSError, match=r"image\.so: compiled ops for PyTorch cannot be loaded"):
        torch.ops.load_library("torchvision/image.so")

    @torch.library.register_fake("torchvision::nms")
    def shape(boxes: Any) -> Any:
        return boxes

    assert shape(3) == 3
    assert torch.onnx.register_custom_op_symbolic("torchvision::nms", shape, 11) is None
    helper = importlib.import_module("vitrify.onnx.symbolic_helper")
    assert helper.parse_args("v", "f")(shape) is shape
    annotations = importlib.import_module("vitrify.jit.annotations")
    assert annotations.BroadcastingList2[int] == int | list[int]
    assert torch.jit._script_if_tracing(shape) is shape and torch.jit._overload_method(shape) is shape
    assert torch._shape_as_tensor(torch.ones(2, 3)).tolist() == [2, 3]
    assert importlib.import_module("vitrify._dynamo.utils").is_compile_supported("cpu") is True


def test_excluding_a_key_of_automatic_casts_switches_them_off() -> None:
    keys = torch._C.DispatchKeySet(torch._C.DispatchKey.AutocastCPU)
    keys = keys | torch._C.DispatchKeySet(torch._C.DispatchKey.AutocastCUDA)
    x = torch.ones(2, 2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert (x @ x).dtype == torch.bfloat16
        with torch._C._ExcludeDispatchKeyGuard(keys):
            assert (x @ x).dtype == torch.float32
        assert (x @ x).dtype == torch.bfloat16


def test_the_float_half_of_a_model_that_could_be_quantized() -> None:
    class Net(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.begin, self.end = torch.ao.quantization.QuantStub(), torch.ao.quantization.DeQuantStub()
            self.sums = torch.nn.quantized.FloatFunctional()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.begin(x)
            x = self.sums.add_relu(x, self.sums.mul_scalar(self.sums.mul(x, x), 0.5))
            return self.end(self.sums.cat([self.sums.add(x, x), self.sums.add_scalar(x, 1.0)], 1))

    x = torch.tensor([[-4.0, -1.0, 2.0]])
    wanted = [[8.0, 0.0, 8.0, 5.0, 1.0, 5.0]]
    assert Net()(x).tolist() == wanted and torch.compile(Net())(x).tolist() == wanted
    with pytest.raises(RuntimeError, match="not intended to use the 'forward'"):
        torch.nn.quantized.FloatFunctional()(x)


def test_a_progress_bar_without_its_package() -> None:
    bar = importlib.import_module("vitrify.no_progress").NoProgress
    assert list(bar([1, 2])) == [1, 2]
    with bar(total=3) as counting:
        counting.update(2)
        assert counting.n == 2


def test_what_containers_hold() -> None:
    check, Tensor = torch.jit.isinstance, torch.Tensor
    x = torch.ones(1)
    assert check([x], list[Tensor]) and not check([x, 1], list[Tensor]) and not check((x,), list[Tensor])
    assert check({"a": 1}, dict[str, int]) and not check({"a": "b"}, dict[str, int])
    assert check((1, x), tuple[int, Tensor]) and not check((1, x, x), tuple[int, Tensor])
    assert check((1, 2, 3), tuple[int, ...]) and check(None, Tensor | None) and not check(1, Tensor | None)
    assert check(1, (list[int], int)) and check(x, Any)


@pytest.mark.parametrize(
    ("module", "name"),
    [("device_mesh", "DeviceMesh"), ("tensor", "DTensor"), ("one_process", "ProcessGroup")],
)
def test_there_is_one_process(module: str, name: str) -> None:
    kind = getattr(importlib.import_module(f"vitrify.distributed.{module}"), name)
    with pytest.raises(RuntimeError, match="Requires distributed package"):
        kind()


def test_names_of_pytorchs_compiled_part() -> None:
    assert torch._C._get_tracing_state() is None
    x = torch.ones(2)
    assert not torch._C._are_functorch_transforms_active()
    assert torch.vmap(lambda v: v * torch._C._are_functorch_transforms_active())(x).tolist() == [1, 1]
    assert torch.func.grad(lambda v: v.sum() * torch._C._are_functorch_transforms_active())(x).tolist() == [
        1,
        1,
    ]
    with torch.autograd.graph.allow_mutation_on_saved_tensors():
        assert not torch._C._are_functorch_transforms_active()
    parse = torch._C._nn._parse_to
    assert parse("cpu", torch.half, True) == (torch.device("cpu"), torch.half, True, None)
    assert parse(x.double(), memory_format=torch.channels_last)[1::2] == (torch.double, torch.channels_last)
    assert parse() == (None, None, False, None)
    with pytest.raises(TypeError, match="invalid keyword argument 'place'"):
        torch.nn.Linear(1, 1).to(place="cpu")
    assert len({x._cdata, torch.ones(2)._cdata, x._cdata}) == 2


def test_types_that_no_tensor_is_of() -> None:
    assert torch.complex32.is_complex
    assert (torch.complex32.itemsize, torch.finfo(torch.complex32).dtype) == (4, "float16")
    with pytest.raises(TypeError, match="no tensors of it"):
        torch.zeros(1, dtype=torch.complex32)
    assert not isinstance(3, torch.SymInt)
    assert not isinstance(3.0, torch.SymFloat)


def test_asserted_elements() -> None:
    torch._assert_async(torch.tensor(1))
    with pytest.raises(RuntimeError, match="got zero"):
        torch._assert_async(torch.tensor(0))
    with pytest.raises(RuntimeError, match="too small"):
        torch._assert_async(torch.tensor(0.0), "too small")


def test_pytorchs_own_ops_are_names() -> None:
    add = torch.ops.aten.add.Tensor
    assert add is torch.ops.aten.add.Tensor
    assert (str(add), add.__name__) == ("aten.add.Tensor", "aten.add.Tensor")
    with pytest.raises(NotImplementedError, match=r"torch\.ops\.aten\.add\.Tensor"):
        add(torch.ones(1), torch.ones(1))


def test_layouts_are_names() -> None:
    assert torch.ones(2).layout not in (torch.sparse_coo, torch.sparse_csr, torch.sparse_csc)
    assert torch.ones(2, layout=torch.strided).tolist() == [1, 1]
    with pytest.raises(NotImplementedError, match=r"ones\(\): tensors of layout torch.sparse_coo"):
        torch.ones(2, layout=torch.sparse_coo)


def test_text_of_numbers() -> None:
    assert torch._tensor_str._tensor_str(torch.tensor([[1.0, 2.0], [3.0, 4.5]]), 4) == (
        "[[1.0000, 2.0000],\n     [3.0000, 4.5000]]"
    )
    with torch.printoptions(threshold=7):
        assert torch._tensor_str.PRINT_OPTS.threshold == 7


def test_declarations_for_torchscript_are_left_alone() -> None:
    def declared() -> None:
        pass

    assert torch.jit._overload(declared) is torch.jit._overload_method(declared) is declared
    assert importlib.import_module("vitrify.distributed.rpc").is_available() is False
