"""What the nn references hold, as functions of a torch-like module (PyTorch or vitrify): read by the maker
and the tests.

Random numbers are the same in both, so the cases draw their own weights and inputs.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from nn_attention_cases import attention_layers
from nn_loss_cases import loss_layers, more_losses
from nn_norm_cases import norm_layers
from nn_shape_cases import activation_layers, shape_layers

Draw = Callable[[Any], Any]


def layers() -> dict[str, tuple[Draw, Draw]]:
    """name -> (make the module, make its inputs). Compared: the output, and the gradients of inputs and
    parameters."""

    def image(*shape: int) -> Draw:
        return lambda t: (t.randn(*shape, requires_grad=True),)

    return (
        {
            "linear": (lambda t: t.nn.Linear(5, 3), image(4, 5)),
            "linear_no_bias": (lambda t: t.nn.Linear(5, 3, bias=False), image(4, 5)),
            "linear_vector": (lambda t: t.nn.Linear(5, 3), image(5)),
            "linear_vector_no_bias": (lambda t: t.nn.Linear(5, 3, bias=False), image(5)),
            "linear_3d": (lambda t: t.nn.Linear(5, 3), image(2, 4, 5)),
            "linear_3d_no_bias": (lambda t: t.nn.Linear(5, 3, bias=False), image(2, 4, 5)),
            "bilinear": (
                lambda t: t.nn.Bilinear(3, 4, 2),
                lambda t: (t.randn(6, 3, requires_grad=True), t.randn(6, 4, requires_grad=True)),
            ),
            "identity": (lambda t: t.nn.Identity(54, unused=1), image(3)),
            "conv1d": (lambda t: t.nn.Conv1d(3, 4, 3), image(2, 3, 9)),
            "conv1d_all": (
                lambda t: t.nn.Conv1d(4, 6, 3, stride=2, padding=2, dilation=2, groups=2),
                image(2, 4, 11),
            ),
            "conv1d_same_even": (lambda t: t.nn.Conv1d(2, 3, 4, padding="same"), image(2, 2, 7)),
            "conv2d": (lambda t: t.nn.Conv2d(3, 4, 3), image(2, 3, 6, 7)),
            "conv2d_no_bias": (lambda t: t.nn.Conv2d(3, 4, 3, bias=False), image(2, 3, 6, 7)),
            "conv2d_unbatched": (lambda t: t.nn.Conv2d(3, 4, 3), image(3, 6, 7)),
            "conv2d_all": (
                lambda t: t.nn.Conv2d(4, 6, (3, 2), stride=(2, 1), padding=(1, 2), dilation=(1, 2), groups=2),
                image(2, 4, 8, 7),
            ),
            "conv2d_same": (lambda t: t.nn.Conv2d(2, 3, 3, padding="same", dilation=2), image(1, 2, 6, 6)),
            "conv2d_same_even": (lambda t: t.nn.Conv2d(2, 3, (2, 4), padding="same"), image(1, 2, 6, 6)),
            "conv2d_valid": (lambda t: t.nn.Conv2d(2, 3, 3, padding="valid", stride=2), image(1, 2, 7, 7)),
            "conv2d_depthwise": (lambda t: t.nn.Conv2d(4, 8, 3, groups=4, padding=1), image(2, 4, 5, 5)),
            "conv2d_reflect": (
                lambda t: t.nn.Conv2d(2, 3, 3, padding=1, padding_mode="reflect"),
                image(1, 2, 5, 5),
            ),
            "conv2d_circular": (
                lambda t: t.nn.Conv2d(2, 3, 3, padding=(1, 2), padding_mode="circular"),
                image(1, 2, 5, 5),
            ),
            "conv2d_replicate": (
                lambda t: t.nn.Conv2d(2, 3, 4, padding="same", padding_mode="replicate"),
                image(1, 2, 5, 5),
            ),
            "conv3d": (lambda t: t.nn.Conv3d(2, 3, 2, padding=1), image(1, 2, 3, 4, 3)),
            "max_pool1d": (lambda t: t.nn.MaxPool1d(3, 2, padding=1), image(2, 3, 9)),
            "max_pool2d": (lambda t: t.nn.MaxPool2d(2), image(2, 3, 6, 7)),
            "max_pool2d_all": (
                lambda t: t.nn.MaxPool2d((3, 2), stride=(2, 1), padding=1, dilation=(1, 2), ceil_mode=True),
                image(2, 3, 7, 8),
            ),
            "max_pool2d_unbatched": (lambda t: t.nn.MaxPool2d(2), image(3, 6, 7)),
            "avg_pool1d": (lambda t: t.nn.AvgPool1d(3, 2, padding=1), image(2, 3, 9)),
            "avg_pool2d": (lambda t: t.nn.AvgPool2d(2), image(2, 3, 6, 7)),
            "avg_pool2d_all": (
                lambda t: t.nn.AvgPool2d(3, stride=2, padding=1, ceil_mode=True, count_include_pad=False),
                image(2, 3, 8, 7),
            ),
            "relu": (lambda t: t.nn.ReLU(), image(3, 4)),
            "relu6": (lambda t: t.nn.ReLU6(), image(3, 4)),
            "sigmoid": (lambda t: t.nn.Sigmoid(), image(3, 4)),
            "log_sigmoid": (lambda t: t.nn.LogSigmoid(), image(3, 4)),
            "tanh": (lambda t: t.nn.Tanh(), image(3, 4)),
            "gelu": (lambda t: t.nn.GELU(), image(3, 4)),
            "gelu_tanh": (lambda t: t.nn.GELU(approximate="tanh"), image(3, 4)),
            "silu": (lambda t: t.nn.SiLU(), image(3, 4)),
            "leaky_relu": (lambda t: t.nn.LeakyReLU(0.2), image(3, 4)),
            "elu": (lambda t: t.nn.ELU(0.7), image(3, 4)),
            "selu": (lambda t: t.nn.SELU(), image(3, 4)),
            "softplus": (lambda t: t.nn.Softplus(2.0, 1.0), image(3, 4)),
            "hardtanh": (lambda t: t.nn.Hardtanh(-0.5, 0.7), image(3, 4)),
            "softmax": (lambda t: t.nn.Softmax(dim=1), image(3, 4)),
            "softmax_0": (lambda t: t.nn.Softmax(dim=0), image(3, 4, 2)),
            "log_softmax": (lambda t: t.nn.LogSoftmax(dim=-1), image(2, 3, 4)),
            "flatten": (lambda t: t.nn.Flatten(), image(2, 3, 4)),
            "unflatten": (lambda t: t.nn.Unflatten(1, (2, 3)), image(2, 6)),
            "embedding": (lambda t: t.nn.Embedding(7, 3), lambda t: (t.randint(7, (2, 5)),)),
            "embedding_padding": (
                lambda t: t.nn.Embedding(5, 3, padding_idx=-2),
                lambda t: (t.randint(5, (12,)),),
            ),
            "dropout_eval": (lambda t: t.nn.Dropout(0.5).eval(), image(3, 4)),
            "sequential": (
                lambda t: t.nn.Sequential(t.nn.Linear(4, 6), t.nn.Tanh(), t.nn.Linear(6, 2)),
                image(3, 4),
            ),
            "in_place_relu": (
                lambda t: t.nn.Sequential(t.nn.Linear(4, 6), t.nn.ReLU(inplace=True), t.nn.Linear(6, 2)),
                image(3, 4),
            ),
        }
        | norm_layers()
        | attention_layers()
        | shape_layers()
        | activation_layers()
        | loss_layers()
    )


def losses() -> dict[str, tuple[Draw, Draw]]:
    """name -> (make the loss, make (input, target)); each is compared under every reduction."""

    def real(*shape: int) -> Draw:
        return lambda t: (t.randn(*shape, requires_grad=True), t.randn(*shape))

    def classes(*shape: int, low: int = 0) -> Draw:
        return lambda t: (
            t.randn(*shape, requires_grad=True),
            t.randint(low, shape[1], (shape[0], *shape[2:])),
        )

    def probabilities(t: Any) -> Any:
        return t.rand(5, 3, requires_grad=True), t.rand(5, 3)

    def soft(t: Any) -> Any:
        return t.randn(5, 3, requires_grad=True), t.softmax(t.randn(5, 3), 1)

    def weight(t: Any) -> Any:
        return t.tensor([0.5, 2.0, 1.25])

    return {
        "l1": (lambda t, r: t.nn.L1Loss(reduction=r), real(4, 3)),
        "mse": (lambda t, r: t.nn.MSELoss(reduction=r), real(4, 3)),
        "smooth_l1": (lambda t, r: t.nn.SmoothL1Loss(reduction=r, beta=0.7), real(4, 3)),
        "smooth_l1_zero": (lambda t, r: t.nn.SmoothL1Loss(reduction=r, beta=0.0), real(4, 3)),
        "huber": (lambda t, r: t.nn.HuberLoss(reduction=r, delta=0.7), real(4, 3)),
        "kl_div": (lambda t, r: t.nn.KLDivLoss(reduction=r), probabilities),
        "cross_entropy": (lambda t, r: t.nn.CrossEntropyLoss(reduction=r), classes(5, 3)),
        "cross_entropy_weight": (lambda t, r: t.nn.CrossEntropyLoss(weight(t), reduction=r), classes(5, 3)),
        "cross_entropy_ignore": (
            lambda t, r: t.nn.CrossEntropyLoss(weight(t), ignore_index=1, reduction=r),
            classes(9, 3),
        ),
        "cross_entropy_smoothing": (
            lambda t, r: t.nn.CrossEntropyLoss(reduction=r, label_smoothing=0.1),
            classes(5, 3),
        ),
        "cross_entropy_smoothing_all": (
            lambda t, r: t.nn.CrossEntropyLoss(weight(t), ignore_index=1, reduction=r, label_smoothing=0.1),
            classes(9, 3),
        ),
        "cross_entropy_images": (lambda t, r: t.nn.CrossEntropyLoss(reduction=r), classes(2, 3, 4, 5)),
        "cross_entropy_one": (
            lambda t, r: t.nn.CrossEntropyLoss(reduction=r),
            lambda t: (t.randn(4, requires_grad=True), t.tensor(2)),
        ),
        "cross_entropy_soft": (lambda t, r: t.nn.CrossEntropyLoss(reduction=r), soft),
        "cross_entropy_soft_all": (
            lambda t, r: t.nn.CrossEntropyLoss(weight(t), reduction=r, label_smoothing=0.1),
            soft,
        ),
        "nll": (lambda t, r: t.nn.NLLLoss(weight(t), reduction=r), classes(5, 3)),
        "bce": (lambda t, r: t.nn.BCELoss(reduction=r), probabilities),
        "bce_weight": (lambda t, r: t.nn.BCELoss(weight(t), reduction=r), probabilities),
        "bce_logits": (lambda t, r: t.nn.BCEWithLogitsLoss(reduction=r), lambda t: probabilities(t)),
        "bce_logits_weight": (
            lambda t, r: t.nn.BCEWithLogitsLoss(weight(t), reduction=r, pos_weight=weight(t) * 2),
            real(4, 3),
        ),
    } | more_losses()


def initialisers() -> dict[str, Draw]:
    """name -> fill a tensor and return it."""

    def on(*shape: int) -> Callable[[Any], Any]:
        return lambda t: t.empty(*shape)

    return {
        "uniform": lambda t: t.nn.init.uniform_(on(3, 7)(t), -1, 2),
        "normal": lambda t: t.nn.init.normal_(on(3, 7)(t), 1, 2),
        "trunc_normal": lambda t: t.nn.init.trunc_normal_(on(30, 7)(t), std=1.5),
        "trunc_normal_narrow": lambda t: t.nn.init.trunc_normal_(on(30, 7)(t), std=4.0, a=-0.5, b=0.5),
        "constant": lambda t: t.nn.init.constant_(on(3, 4)(t), 0.25),
        "ones": lambda t: t.nn.init.ones_(on(3, 4)(t)),
        "zeros": lambda t: t.nn.init.zeros_(on(3, 4)(t)),
        "eye": lambda t: t.nn.init.eye_(on(3, 5)(t)),
        "dirac": lambda t: t.nn.init.dirac_(on(4, 3, 3, 3)(t), groups=2),
        "xavier_uniform": lambda t: t.nn.init.xavier_uniform_(on(4, 6, 3)(t), gain=2.0),
        "xavier_normal": lambda t: t.nn.init.xavier_normal_(on(4, 6, 3)(t)),
        "kaiming_uniform": lambda t: t.nn.init.kaiming_uniform_(
            on(4, 6)(t), mode="fan_out", nonlinearity="relu"
        ),
        "kaiming_normal": lambda t: t.nn.init.kaiming_normal_(on(4, 6)(t), a=0.2),
        "orthogonal_wide": lambda t: t.nn.init.orthogonal_(on(3, 7)(t), gain=1.5),
        "orthogonal_tall": lambda t: t.nn.init.orthogonal_(on(7, 2, 2)(t)),
        "sparse": lambda t: t.nn.init.sparse_(on(10, 4)(t), 0.3),
    }


def make_lenet(t: Any) -> Any:
    """LeCun et al., 1998, with ReLU and max pooling."""
    nn = t.nn
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(1, 6, 5), relu1=nn.ReLU(), pool1=nn.MaxPool2d(2),
            conv2=nn.Conv2d(6, 16, 5), relu2=nn.ReLU(), pool2=nn.MaxPool2d(2),
            flatten=nn.Flatten(), fc1=nn.Linear(400, 120), relu3=nn.ReLU(),
            fc2=nn.Linear(120, 84), relu4=nn.ReLU(), fc3=nn.Linear(84, 10),
        )
    )  # fmt: skip


def make_mlp(t: Any) -> Any:
    nn = t.nn
    return nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 3))


OPTIMIZERS: dict[str, Callable[[Any, Any], Any]] = {
    "sgd": lambda t, p: t.optim.SGD(p, lr=0.1),
    "sgd_momentum": lambda t, p: t.optim.SGD(p, lr=0.05, momentum=0.9),
    "sgd_all": lambda t, p: t.optim.SGD(p, lr=0.05, momentum=0.9, dampening=0.3, weight_decay=0.01),
    "sgd_nesterov": lambda t, p: t.optim.SGD(p, lr=0.05, momentum=0.8, nesterov=True, weight_decay=0.01),
    "sgd_tensor_lr": lambda t, p: t.optim.SGD(p, lr=t.tensor(0.1)),
    "adam": lambda t, p: t.optim.Adam(p, lr=0.01),
    "adam_all": lambda t, p: t.optim.Adam(p, lr=0.01, betas=(0.8, 0.95), eps=1e-6, weight_decay=0.1),
    "adam_amsgrad": lambda t, p: t.optim.Adam(p, lr=0.01, amsgrad=True),
    "adamw": lambda t, p: t.optim.AdamW(p, lr=0.01, weight_decay=0.1),
    "adamw_amsgrad": lambda t, p: t.optim.AdamW(p, lr=0.01, amsgrad=True),
}


def train_mlp(t: Any, optimizer: str, steps: int = 20) -> tuple[list[float], Any]:
    """(losses, the trained network)."""
    t.manual_seed(0)
    net = make_mlp(t)
    opt = OPTIMIZERS[optimizer](t, net.parameters())
    x, y = t.randn(32, 8), t.randint(3, (32,))
    found = []
    for _ in range(steps):
        opt.zero_grad()
        loss = t.nn.functional.cross_entropy(net(x), y)
        loss.backward()
        opt.step()
        found.append(loss.item())
    return found, net


def train_lenet(t: Any, optimizer: str, steps: int = 20) -> tuple[list[float], Any]:
    t.manual_seed(0)
    net = make_lenet(t)
    opt = OPTIMIZERS[optimizer](t, net.parameters())
    x, y = t.randn(16, 1, 32, 32), t.randint(10, (16,))
    found = []
    for _ in range(steps):
        opt.zero_grad()
        loss = t.nn.functional.cross_entropy(net(x), y)
        loss.backward()
        opt.step()
        found.append(loss.item())
    return found, net


def loader_orders() -> dict[str, Draw]:
    """name -> the values in the order in which a loader gives them, over two epochs, and a number drawn
    after."""

    def over(**options: Any) -> Draw:
        def run(t: Any) -> Any:
            data = t.utils.data.TensorDataset(t.arange(23))
            if "sampler" in options:
                options["sampler"] = options["sampler_of"](t, data)
            given = {k: v for k, v in options.items() if k != "sampler_of"}
            if given.get("generator") is True:
                given["generator"] = t.Generator().manual_seed(5)
            loader = t.utils.data.DataLoader(data, **given)
            found = [batch[0].tolist() for _ in range(2) for batch in loader]
            return [found, t.randint(1000, (3,)).tolist()]

        return run

    def split(t: Any) -> Any:
        data = t.utils.data.TensorDataset(t.arange(23))
        parts = t.utils.data.random_split(data, [10, 8, 5])
        fractions = t.utils.data.random_split(data, [0.5, 0.3, 0.2], generator=t.Generator().manual_seed(1))
        return [[p.indices for p in parts], [p.indices for p in fractions]]

    d = "utils"
    return {
        "plain": over(batch_size=4),
        "shuffled": over(batch_size=4, shuffle=True),
        "shuffled_drop_last": over(batch_size=5, shuffle=True, drop_last=True),
        "shuffled_generator": over(batch_size=4, shuffle=True, generator=True),
        "replacement": over(
            batch_size=8,
            sampler=None,
            sampler_of=lambda t, data: getattr(t, d).data.RandomSampler(
                data, replacement=True, num_samples=40
            ),
        ),
        "subset": over(
            batch_size=3,
            sampler=None,
            sampler_of=lambda t, data: getattr(t, d).data.SubsetRandomSampler([1, 5, 7, 9, 11]),
        ),
        "weighted": over(
            batch_size=3,
            sampler=None,
            sampler_of=lambda t, data: getattr(t, d).data.WeightedRandomSampler([0.1, 0.4, 0.5], 9),
        ),
        "random_split": split,
    }
