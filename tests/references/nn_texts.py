"""Texts that must read as PyTorch's: printed forms, state_dict keys, error messages. Functions of a
torch-like module."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from nn_cases import OPTIMIZERS, layers, losses, make_lenet, make_mlp
from nn_error_cases import more_errors

Text = Callable[[Any], str]


def printed() -> dict[str, Text]:
    """name -> repr of something."""
    found: dict[str, Text] = {}
    for name, (make, _) in layers().items():
        found[f"layer_{name}"] = lambda t, make=make: repr(make(t))
    for name, (make, _) in losses().items():
        found[f"loss_{name}"] = lambda t, make=make: repr(make(t, "mean"))
    for name, make in OPTIMIZERS.items():
        found[f"optimizer_{name}"] = lambda t, make=make: repr(make(t, t.nn.Linear(2, 2).parameters()))
    found |= {
        "lenet": lambda t: repr(make_lenet(t)),
        "mlp": lambda t: repr(make_mlp(t)),
        "conv_same": lambda t: repr(t.nn.Conv2d(1, 2, 3, padding="same", bias=False, padding_mode="reflect")),
        "relu_inplace": lambda t: repr(t.nn.ReLU(inplace=True)),
        "leaky_inplace": lambda t: repr(t.nn.LeakyReLU(inplace=True)),
        "empty": lambda t: repr(t.nn.Sequential()) + repr(t.nn.ModuleList()) + repr(t.nn.ModuleDict()),
        "module_list": lambda t: repr(
            t.nn.ModuleList([t.nn.Linear(2, 2), t.nn.Linear(2, 2), t.nn.ReLU(), make_mlp(t), make_mlp(t)])
        ),
        "module_dict": lambda t: repr(
            t.nn.ModuleDict({"a": t.nn.Linear(1, 2), "b": t.nn.Sequential(t.nn.ReLU())})
        ),
        "parameter_list": lambda t: repr(t.nn.ParameterList([t.zeros(2, 3), t.ones(4, dtype=t.float64), 5])),
        "parameter_dict": lambda t: repr(t.nn.ParameterDict({"b": t.zeros(2, 3), "a": "x"})),
        "nested": lambda t: repr(t.nn.Sequential(OrderedDict(inner=make_mlp(t), drop=t.nn.Dropout(0.1)))),
        "parameter": lambda t: repr(t.nn.Parameter(t.arange(6.0).reshape(2, 3))),
        "parameter_frozen": lambda t: repr(t.nn.Parameter(t.zeros(2), requires_grad=False)),
        "optimizer_groups": lambda t: repr(
            t.optim.SGD(
                [{"params": [t.nn.Parameter(t.zeros(1))], "lr": 0.5}, {"params": [t.nn.Parameter(t.ones(1))]}]
            )
        ),
        "state_keys": lambda t: repr(list(make_lenet(t).state_dict())),
        "state_metadata": lambda t: repr(dict(make_mlp(t).state_dict()._metadata)),
        "optimizer_state": lambda t: repr(t.optim.Adam([t.nn.Parameter(t.zeros(1))]).state_dict()),
        "loaded": lambda t: repr(make_mlp(t).load_state_dict(make_mlp(t).state_dict())),
        "loaded_loosely": lambda t: repr(
            t.nn.Linear(2, 2).load_state_dict({"weight": t.zeros(2, 2), "c": 1}, False)
        ),
        "dir": lambda t: repr([n for n in dir(t.nn.Linear(1, 1)) if n in ("weight", "bias", "in_features")]),
        "grad_fns": lambda t: " ".join(
            _grad_fn(fn(t))
            for fn in (
                lambda t: t.nn.Linear(3, 2)(t.ones(4, 3)),
                lambda t: t.nn.Linear(3, 2, bias=False)(t.ones(4, 3)),
                lambda t: t.nn.Linear(3, 2)(t.ones(2, 4, 3)),
                lambda t: t.nn.Conv2d(1, 2, 3)(t.ones(1, 1, 5, 5)),
                lambda t: t.nn.MaxPool2d(2)(t.ones(1, 1, 4, 4, requires_grad=True)),
                lambda t: t.nn.AvgPool2d(2)(t.ones(1, 1, 4, 4, requires_grad=True)),
                lambda t: t.nn.ReLU()(t.ones(2, requires_grad=True)),
                lambda t: t.nn.GELU()(t.ones(2, requires_grad=True)),
                lambda t: t.nn.SiLU()(t.ones(2, requires_grad=True)),
                lambda t: t.nn.ELU()(t.ones(2, requires_grad=True)),
                lambda t: t.nn.Softplus()(t.ones(2, requires_grad=True)),
                lambda t: t.nn.LeakyReLU()(t.ones(2, requires_grad=True)),
                lambda t: t.nn.Softmax(0)(t.ones(2, requires_grad=True)),
                lambda t: t.nn.LogSoftmax(0)(t.ones(2, requires_grad=True)),
                lambda t: t.nn.Flatten()(t.ones(2, 3, 4, requires_grad=True)),
                lambda t: t.nn.Embedding(3, 2)(t.tensor([0, 1])),
                lambda t: t.nn.Dropout(0.5)(t.ones(2, requires_grad=True)),
                lambda t: t.nn.CrossEntropyLoss()(t.ones(2, 3, requires_grad=True), t.tensor([0, 1])),
                lambda t: t.nn.CrossEntropyLoss()(
                    t.ones(2, 3, 4, requires_grad=True), t.zeros(2, 4, dtype=t.int64)
                ),
                lambda t: t.nn.NLLLoss()(t.ones(2, 3, requires_grad=True), t.tensor([0, 1])),
                lambda t: t.nn.MSELoss()(t.ones(2, requires_grad=True), t.zeros(2)),
                lambda t: t.nn.L1Loss()(t.ones(2, requires_grad=True), t.zeros(2)),
                lambda t: t.nn.SmoothL1Loss()(t.ones(2, requires_grad=True), t.zeros(2)),
                lambda t: t.nn.HuberLoss()(t.ones(2, requires_grad=True), t.zeros(2)),
                lambda t: t.nn.BCELoss()(t.ones(2, requires_grad=True), t.zeros(2)),
                lambda t: t.nn.BCEWithLogitsLoss()(t.ones(2, requires_grad=True), t.zeros(2)),
            )
        ),
    }
    return found


def _grad_fn(tensor: Any) -> str:
    return tensor.grad_fn.name()


def _module(t: Any) -> Any:
    return t.nn.Linear(2, 3)


def _uninitialised(t: Any, value: Any) -> Any:
    class Net(t.nn.Module):
        def __init__(self) -> None:
            self.x = value

    return Net()


def _class(t: Any, **members: Any) -> Any:
    return type("Net", (t.nn.Module,), members)()


def errors() -> dict[str, Callable[[Any], Any]]:
    """name -> code that raises: the type's name and the text are compared."""
    zeros = lambda t, *s: t.zeros(*s)
    return {
        "parameter_before_init": lambda t: _uninitialised(t, t.nn.Parameter(zeros(t, 1))),
        "module_before_init": lambda t: _uninitialised(t, t.nn.Linear(1, 1)),
        "unknown_attribute": lambda t: _module(t).missing,
        "assign_tensor_to_parameter": lambda t: setattr(_module(t), "weight", zeros(t, 3, 2)),
        "assign_number_to_parameter": lambda t: setattr(_module(t), "weight", 3),
        "assign_number_to_module": lambda t: setattr(t.nn.Sequential(t.nn.ReLU()), "0", 3),
        "register_number": lambda t: _module(t).register_parameter("p", 3),
        "register_tensor": lambda t: _module(t).register_parameter("p", zeros(t, 1)),
        "register_dotted": lambda t: _module(t).register_parameter("a.b", t.nn.Parameter(zeros(t, 1))),
        "register_empty": lambda t: _module(t).register_parameter("", t.nn.Parameter(zeros(t, 1))),
        "register_twice": lambda t: _module(t).register_parameter("in_features", t.nn.Parameter(zeros(t, 1))),
        "register_not_a_name": lambda t: _module(t).register_parameter(3, None),
        "register_computed": lambda t: _module(t).register_parameter("p", _computed(t)),
        "buffer_number": lambda t: _module(t).register_buffer("b", 3),
        "buffer_dotted": lambda t: _module(t).register_buffer("a.b", None),
        "buffer_taken": lambda t: _module(t).register_buffer("weight", None),
        "buffer_assign_number": lambda t: _assign_buffer(t),
        "add_number": lambda t: _module(t).add_module("m", 3),
        "add_dotted": lambda t: _module(t).add_module("a.b", t.nn.ReLU()),
        "add_empty": lambda t: _module(t).add_module("", t.nn.ReLU()),
        "add_taken": lambda t: _module(t).add_module("weight", t.nn.ReLU()),
        "submodule_missing": lambda t: t.nn.Sequential(t.nn.ReLU()).get_submodule("0.x"),
        "submodule_not_one": lambda t: _module(t).get_submodule("weight"),
        "get_parameter_missing": lambda t: _module(t).get_parameter("w"),
        "get_parameter_not_one": lambda t: _module(t).get_parameter("in_features"),
        "get_buffer_not_one": lambda t: _module(t).get_buffer("weight"),
        "no_forward": lambda t: _class(t)(1),
        "init_argument": lambda t: t.nn.Module(1),
        "init_keyword": lambda t: t.nn.Module(a=1),
        "train_mode": lambda t: _module(t).train("yes"),
        "to_integer": lambda t: _module(t).to(t.int64),
        "two_kinds_of_backward_hooks": lambda t: _two_kinds(t),
        "bad_pre_hook": lambda t: _bad_pre_hook(t),
        "load_not_a_dict": lambda t: _module(t).load_state_dict([1]),
        "load_missing": lambda t: _module(t).load_state_dict({"weight": zeros(t, 3, 2)}),
        "load_unexpected": lambda t: _module(t).load_state_dict(
            {"weight": zeros(t, 3, 2), "bias": zeros(t, 3), "a": zeros(t, 1), "b.c": zeros(t, 1)}
        ),
        "load_sizes": lambda t: _module(t).load_state_dict({"weight": zeros(t, 2, 3), "bias": zeros(t, 4)}),
        "load_everything": lambda t: t.nn.Sequential(_module(t), _module(t)).load_state_dict(
            {"0.weight": zeros(t, 1), "1.bias": zeros(t, 3), "2.bias": zeros(t, 1), "0.x": zeros(t, 1)}
        ),
        "sequential_index": lambda t: t.nn.Sequential(t.nn.ReLU())[1],
        "sequential_add": lambda t: t.nn.Sequential() + 3,
        "sequential_times_zero": lambda t: t.nn.Sequential() * 0,
        "list_index": lambda t: t.nn.ModuleList()[0],
        "list_extend": lambda t: t.nn.ModuleList().extend(3),
        "dict_update": lambda t: t.nn.ModuleDict().update([("a", t.nn.ReLU()), ("b",)]),
        "dict_number": lambda t: t.nn.ModuleDict({"a": 3}),
        "parameter_list_call": lambda t: t.nn.ParameterList()(),
        "parameter_dict_key": lambda t: t.nn.ParameterDict()[3],
        "conv_groups": lambda t: t.nn.Conv2d(3, 4, 1, groups=2),
        "conv_out_groups": lambda t: t.nn.Conv2d(4, 3, 1, groups=2),
        "conv_no_groups": lambda t: t.nn.Conv2d(4, 3, 1, groups=0),
        "conv_same_strided": lambda t: t.nn.Conv2d(1, 1, 3, stride=2, padding="same"),
        "conv_rank": lambda t: t.nn.Conv2d(1, 1, 3)(zeros(t, 5, 5)),
        "conv_channels": lambda t: t.nn.Conv2d(1, 6, 5)(zeros(t, 2, 3, 8, 8)),
        "conv_dtype": lambda t: t.nn.Conv2d(1, 1, 3)(zeros(t, 1, 1, 5, 5).double()),
        "conv_too_small": lambda t: t.nn.Conv2d(1, 1, 5)(zeros(t, 1, 1, 3, 3)),
        "linear_size": lambda t: t.nn.Linear(3, 4)(zeros(t, 2, 5)),
        "linear_size_3d": lambda t: t.nn.Linear(3, 4)(zeros(t, 2, 2, 5)),
        "linear_dtype": lambda t: t.nn.Linear(3, 4)(zeros(t, 2, 3).double()),
        "pool_padding": lambda t: t.nn.MaxPool2d(2, padding=2)(zeros(t, 1, 1, 4, 4)),
        "dropout_p": lambda t: t.nn.Dropout(1.5),
        "dropout_function_p": lambda t: t.nn.functional.dropout(zeros(t, 1), -0.1),
        "embedding_padding": lambda t: t.nn.Embedding(3, 2, padding_idx=3),
        "embedding_index": lambda t: t.nn.Embedding(3, 2)(t.tensor([3])),
        "embedding_float": lambda t: t.nn.Embedding(3, 2)(zeros(t, 2)),
        "unflatten": lambda t: t.nn.Unflatten(1, 3),
        "reduction": lambda t: t.nn.functional.mse_loss(zeros(t, 1), zeros(t, 1), reduction="all"),
        "cross_entropy_batch": lambda t: t.nn.functional.cross_entropy(zeros(t, 2, 3), t.tensor([0, 1, 2])),
        "cross_entropy_target": lambda t: t.nn.functional.cross_entropy(zeros(t, 2, 3), t.tensor([0, 3])),
        "cross_entropy_float": lambda t: t.nn.functional.cross_entropy(zeros(t, 2, 3), zeros(t, 2)),
        "cross_entropy_smoothing": lambda t: t.nn.functional.cross_entropy(
            zeros(t, 2, 3), t.tensor([0, 1]), label_smoothing=2.0
        ),
        "bce_size": lambda t: t.nn.functional.binary_cross_entropy(zeros(t, 2), zeros(t, 3)),
        "bce_logits_size": lambda t: t.nn.functional.binary_cross_entropy_with_logits(
            zeros(t, 2), zeros(t, 3)
        ),
        "fan": lambda t: t.nn.init.kaiming_uniform_(zeros(t, 3)),
        "fan_mode": lambda t: t.nn.init.kaiming_uniform_(zeros(t, 3, 3), mode="both"),
        "gain": lambda t: t.nn.init.calculate_gain("nothing"),
        "eye_rank": lambda t: t.nn.init.eye_(zeros(t, 3)),
        "dirac_groups": lambda t: t.nn.init.dirac_(zeros(t, 3, 3, 3), groups=2),
        "sgd_lr": lambda t: t.optim.SGD([t.nn.Parameter(zeros(t, 1))], lr=-1.0),
        "sgd_nesterov": lambda t: t.optim.SGD([t.nn.Parameter(zeros(t, 1))], lr=1.0, nesterov=True),
        "adam_betas": lambda t: t.optim.Adam([t.nn.Parameter(zeros(t, 1))], betas=(0.9, 1.0)),
        "optimizer_empty": lambda t: t.optim.SGD([], lr=0.1),
        "optimizer_tensor": lambda t: t.optim.SGD(t.nn.Parameter(zeros(t, 1)), lr=0.1),
        "optimizer_number": lambda t: t.optim.SGD([3], lr=0.1),
        "optimizer_computed": lambda t: t.optim.SGD([_computed(t)], lr=0.1),
        "optimizer_set": lambda t: t.optim.SGD([{"params": {t.nn.Parameter(zeros(t, 1))}}], lr=0.1),
        "optimizer_shared": lambda t: _shared_parameter(t),
        "optimizer_load_groups": lambda t: t.optim.SGD([t.nn.Parameter(zeros(t, 1))]).load_state_dict(
            {"state": {}, "param_groups": []}
        ),
        "optimizer_load_sizes": lambda t: t.optim.SGD([t.nn.Parameter(zeros(t, 1))]).load_state_dict(
            {"state": {}, "param_groups": [{"params": [0, 1]}]}
        ),
        "randint_empty": lambda t: t.randint(5, 5, (2,)),
        "random_bounds": lambda t: t.zeros(2, dtype=t.uint8).random_(0, 300),
        "uniform_bounds": lambda t: t.zeros(2).uniform_(3, 1),
        "normal_std": lambda t: t.zeros(2).normal_(0, -1),
        "uniform_integer": lambda t: t.zeros(2, dtype=t.int64).uniform_(),
        "rand_negative": lambda t: t.rand(-1),
        "seed_range": lambda t: t.manual_seed(1 << 64),
        "state_type": lambda t: t.set_rng_state(t.zeros(3)),
        "state_size": lambda t: t.set_rng_state(t.zeros(3, dtype=t.uint8)),
        "loader_batch": lambda t: t.utils.data.DataLoader([1], batch_size=0),
        "loader_sampler": lambda t: t.utils.data.DataLoader([1], shuffle=True, sampler=[0]),
        "loader_fixed": lambda t: setattr(t.utils.data.DataLoader([1]), "batch_size", 3),
        "loader_empty_shuffle": lambda t: t.utils.data.DataLoader([], shuffle=True),
        "tensor_dataset": lambda t: t.utils.data.TensorDataset(zeros(t, 2), zeros(t, 3)),
        "split": lambda t: t.utils.data.random_split([1, 2, 3], [1, 1]),
        "collate": lambda t: t.utils.data.default_collate([object()]),
        "collate_sizes": lambda t: t.utils.data.default_collate([[1], [1, 2]]),
    } | more_errors()


def _computed(t: Any) -> Any:
    """A parameter that is not a leaf."""
    p = t.nn.Parameter(t.zeros(2))
    with t.enable_grad():
        p2 = p * 2
    return p2


def _assign_buffer(t: Any) -> None:
    m = _module(t)
    m.register_buffer("b", t.zeros(1))
    m.b = 3


def _two_kinds(t: Any) -> None:
    m = _module(t)
    m.register_full_backward_hook(lambda *a: None)
    m.register_backward_hook(lambda *a: None)


def _bad_pre_hook(t: Any) -> None:
    m = _module(t)
    m.register_forward_pre_hook(lambda m, a, k: 3, with_kwargs=True)
    m(t.zeros(1, 2))


def _shared_parameter(t: Any) -> None:
    p = t.nn.Parameter(t.zeros(1))
    t.optim.SGD([{"params": [p]}, {"params": [p]}], lr=0.1)


def raised(code: Callable[[Any], Any], t: Any) -> list[str]:
    """[type name, text] of what the code raises."""
    try:
        code(t)
    except Exception as error:
        return [type(error).__name__, str(error)]
    return ["nothing", ""]
