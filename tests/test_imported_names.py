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
        ("utils.flop_counter", "FlopCounterMode"),
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
