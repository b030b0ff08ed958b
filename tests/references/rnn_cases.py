"""What the references of recurrent layers and transposed convolutions hold, as functions of a torch-like module
(PyTorch or vitrify): read by the maker and the tests. Random numbers are the same in both."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Draw = Callable[[Any], Any]
LENGTHS = [3, 5, 2, 5]


def flat(value: Any) -> list[Any]:
    """The tensors in nested tuples, packed sequences among them."""
    if value is None:
        return []
    if isinstance(value, tuple | list):
        return [tensor for part in value for tensor in flat(part)]
    return [value]


def layers() -> dict[str, tuple[Draw, Draw]]:
    """name -> (make the module, make its arguments). Compared: all results, and the gradients of arguments and
    parameters."""

    def x(t: Any, *shape: int) -> Any:
        return t.randn(*shape, requires_grad=True)

    def one(*shape: int) -> Draw:
        return lambda t: (x(t, *shape),)

    def states(*shapes: Any) -> Draw:
        return lambda t: (x(t, *shapes[0]), tuple(x(t, *s) for s in shapes[1:]))

    def recurrent(kind: str, *args: Any, **options: Any) -> Draw:
        return lambda t: getattr(t.nn, kind)(*args, **options)

    cases: dict[str, tuple[Draw, Draw]] = {}
    for kind in ("RNN", "LSTM", "GRU"):
        name = kind.lower()
        cases |= {
            name: (recurrent(kind, 4, 5), one(6, 3, 4)),
            f"{name}_all": (
                recurrent(kind, 4, 5, num_layers=2, bidirectional=True, batch_first=True),
                one(3, 6, 4),
            ),
            f"{name}_no_bias": (recurrent(kind, 4, 5, bias=False, num_layers=2), one(6, 3, 4)),
            f"{name}_unbatched": (recurrent(kind, 4, 5, bidirectional=True), one(6, 4)),
            f"{name}_one_step": (recurrent(kind, 4, 5), one(1, 3, 4)),
            f"{name}_cell": (recurrent(kind + "Cell", 4, 5), one(3, 4)),
            f"{name}_cell_no_bias": (recurrent(kind + "Cell", 4, 5, bias=False), one(4)),
        }
    for kind in ("RNN", "GRU"):
        name = kind.lower()
        cases |= {
            f"{name}_state": (recurrent(kind, 4, 5, 2), lambda t: (x(t, 6, 3, 4), x(t, 2, 3, 5))),
            f"{name}_unbatched_state": (recurrent(kind, 4, 5), lambda t: (x(t, 6, 4), x(t, 1, 5))),
            f"{name}_cell_state": (recurrent(kind + "Cell", 4, 5), lambda t: (x(t, 3, 4), x(t, 3, 5))),
        }
    return cases | {
        "rnn_relu": (recurrent("RNN", 4, 5, 2, "relu"), one(6, 3, 4)),
        "rnn_relu_cell": (recurrent("RNNCell", 4, 5, nonlinearity="relu"), one(3, 4)),
        "lstm_20_steps": (recurrent("LSTM", 8, 16), one(20, 4, 8)),
        "lstm_dropout_eval": (lambda t: t.nn.LSTM(4, 5, 2, dropout=0.5).eval(), one(6, 3, 4)),
        "lstm_float64": (
            lambda t: t.nn.LSTM(4, 5, dtype=t.float64),
            lambda t: (t.randn(6, 3, 4, dtype=t.float64, requires_grad=True),),
        ),
        "lstm_projection": (
            recurrent("LSTM", 4, 5, num_layers=2, bidirectional=True, proj_size=3),
            states((6, 3, 4), (4, 3, 3), (4, 3, 5)),
        ),
        "lstm_state": (recurrent("LSTM", 4, 5, 2), states((6, 3, 4), (2, 3, 5), (2, 3, 5))),
        "lstm_unbatched_state": (recurrent("LSTM", 4, 5), states((6, 4), (1, 5), (1, 5))),
        "lstm_cell_state": (recurrent("LSTMCell", 4, 5), states((3, 4), (3, 5), (3, 5))),
        "conv_transpose1d": (lambda t: t.nn.ConvTranspose1d(3, 4, 3), one(2, 3, 7)),
        "conv_transpose1d_all": (
            lambda t: t.nn.ConvTranspose1d(
                4, 6, 3, stride=3, padding=2, output_padding=1, groups=2, dilation=2
            ),
            one(2, 4, 5),
        ),
        "conv_transpose1d_far": (
            lambda t: t.nn.ConvTranspose1d(2, 3, 3, stride=2, padding=1, output_padding=3, dilation=4),
            one(2, 2, 5),
        ),
        "conv_transpose2d": (lambda t: t.nn.ConvTranspose2d(3, 4, 3), one(2, 3, 4, 5)),
        "conv_transpose2d_no_bias": (lambda t: t.nn.ConvTranspose2d(3, 4, 2, 2, bias=False), one(2, 3, 4, 5)),
        "conv_transpose2d_unbatched": (lambda t: t.nn.ConvTranspose2d(3, 4, 4, 2, 1), one(3, 4, 5)),
        "conv_transpose2d_all": (
            lambda t: t.nn.ConvTranspose2d(
                4, 6, (3, 2), stride=(2, 3), padding=(1, 0), output_padding=(1, 2), groups=2, dilation=(1, 2)
            ),
            one(2, 4, 5, 3),
        ),
        "conv_transpose2d_depthwise": (
            lambda t: t.nn.ConvTranspose2d(4, 4, 4, stride=2, padding=1, groups=4, bias=False),
            one(1, 4, 3, 3),
        ),
        "conv_transpose2d_size": (
            lambda t: t.nn.ConvTranspose2d(3, 2, 3, stride=2, padding=1),
            lambda t: (x(t, 1, 3, 4, 4), [8, 7]),
        ),
        "conv_transpose3d": (
            lambda t: t.nn.ConvTranspose3d(2, 3, 2, stride=2, padding=(0, 1, 0)),
            one(1, 2, 2, 3, 3),
        ),
    }


def packed() -> dict[str, Draw]:
    """name -> make the module: run on the sequences of `LENGTHS`, packed, in any order."""
    return {
        "rnn": lambda t: t.nn.RNN(4, 5),
        "rnn_relu": lambda t: t.nn.RNN(4, 5, nonlinearity="relu", bidirectional=True),
        "lstm": lambda t: t.nn.LSTM(4, 5, 2),
        "lstm_bidirectional": lambda t: t.nn.LSTM(4, 5, 2, bidirectional=True),
        "lstm_projection": lambda t: t.nn.LSTM(4, 5, proj_size=2, bidirectional=True),
        "gru": lambda t: t.nn.GRU(4, 5),
        "gru_bidirectional": lambda t: t.nn.GRU(4, 5, 2, bidirectional=True),
    }


def run_packed(t: Any, module: Any, padded: Any) -> list[Any]:
    """(the output padded again, the lengths, the final states)"""
    rnn = t.nn.utils.rnn
    output, final = module(rnn.pack_padded_sequence(padded, LENGTHS, batch_first=True, enforce_sorted=False))
    return flat((rnn.pad_packed_sequence(output, batch_first=True, padding_value=-1.0), final))


def second_derivatives() -> dict[str, Draw]:
    """name -> make the module, of float64: the gradients of the norm of an input's gradient."""
    return {
        "rnn": lambda t: t.nn.RNN(3, 4, dtype=t.float64),
        "gru": lambda t: t.nn.GRU(3, 4, 2, bidirectional=True, dtype=t.float64),
        "lstm": lambda t: t.nn.LSTM(3, 4, proj_size=2, dtype=t.float64),
        "gru_cell": lambda t: t.nn.GRUCell(3, 4, dtype=t.float64),
    }


def run_second_derivative(t: Any, name: str) -> list[Any]:
    t.manual_seed(3)
    module = second_derivatives()[name](t)
    x = t.randn(*(2, 3) if name.endswith("cell") else (5, 2, 3), dtype=t.float64, requires_grad=True)
    (slope,) = t.autograd.grad(flat(module(x))[0].pow(2).sum(), x, create_graph=True)
    slope.pow(2).sum().backward()
    return [slope, x.grad, *(p.grad for p in module.parameters())]


def sequences() -> dict[str, Draw]:
    """name -> what a function over sequences of several lengths gives, as tensors."""

    def some(t: Any) -> list[Any]:
        return [t.arange(2.0 * n).reshape(n, 2) + 10 * i for i, n in enumerate((4, 2, 1))]

    def mixed(t: Any) -> list[Any]:
        return [some(t)[i] for i in (1, 0, 2)]

    def r(t: Any) -> Any:
        return t.nn.utils.rnn

    return {
        "pack_sequence": lambda t: r(t).pack_sequence(some(t)),
        "pack_sequence_unsorted": lambda t: r(t).pack_sequence(mixed(t), enforce_sorted=False),
        "pack_padded": lambda t: r(t).pack_padded_sequence(t.arange(24.0).reshape(4, 3, 2), [4, 4, 1]),
        "pack_padded_first": lambda t: r(t).pack_padded_sequence(
            t.arange(24.0).reshape(3, 4, 2), t.tensor([1, 3, 2]), batch_first=True, enforce_sorted=False
        ),
        "pad_packed": lambda t: r(t).pad_packed_sequence(r(t).pack_sequence(some(t)), padding_value=-1.0),
        "pad_packed_long": lambda t: r(t).pad_packed_sequence(
            r(t).pack_sequence(mixed(t), enforce_sorted=False), batch_first=True, total_length=6
        ),
        "pad_sequence": lambda t: r(t).pad_sequence(mixed(t)),
        "pad_sequence_first": lambda t: r(t).pad_sequence(mixed(t), batch_first=True, padding_value=9.0),
        "pad_sequence_left": lambda t: r(t).pad_sequence(mixed(t), batch_first=True, padding_side="left"),
        "unpack_sequence": lambda t: r(t).unpack_sequence(r(t).pack_sequence(mixed(t), enforce_sorted=False)),
        "unpad_sequence": lambda t: r(t).unpad_sequence(r(t).pad_sequence(mixed(t)), t.tensor([2, 4, 1])),
        "invert_permutation": lambda t: r(t).invert_permutation(t.tensor([2, 0, 3, 1])),
    }


def printed() -> dict[str, Draw]:
    """name -> a text."""
    nn = {
        "rnn": lambda n: n.RNN(3, 4),
        "rnn_relu": lambda n: n.RNN(3, 4, 2, "relu", bias=False),
        "lstm_all": lambda n: n.LSTM(
            3, 4, 2, bias=False, batch_first=True, dropout=0.25, bidirectional=True, proj_size=2
        ),
        "gru": lambda n: n.GRU(3, 4, batch_first=True),
        "rnn_cell": lambda n: n.RNNCell(3, 4, nonlinearity="relu"),
        "lstm_cell": lambda n: n.LSTMCell(3, 4, bias=False),
        "gru_cell": lambda n: n.GRUCell(3, 4),
        "conv_transpose1d": lambda n: n.ConvTranspose1d(4, 6, 3),
        "conv_transpose2d": lambda n: n.ConvTranspose2d(
            4, 6, 3, stride=2, padding=1, output_padding=1, groups=2, bias=False, dilation=2
        ),
        "conv_transpose3d": lambda n: n.ConvTranspose3d(4, 6, (1, 2, 3), 2),
    }
    return {
        **{name: lambda t, make=make: repr(make(t.nn)) for name, make in nn.items()},
        "parameter_names": lambda t: str(
            [n for n, _ in t.nn.LSTM(3, 4, 2, bidirectional=True, proj_size=2).named_parameters()]
        ),
        "parameter_shapes": lambda t: str(
            [tuple(p.shape) for p in t.nn.LSTM(3, 4, 2, bidirectional=True, proj_size=2).parameters()]
        ),
        "packed_sequence": lambda t: str(t.nn.utils.rnn.pack_sequence([t.arange(3), t.arange(2)])),
        "all_weights": lambda t: str([[tuple(p.shape) for p in ps] for ps in t.nn.GRU(3, 4, 2).all_weights]),
    }


def errors() -> dict[str, Callable[[Any], Any]]:
    """name -> code that raises."""

    def pack(t: Any, *args: Any, **options: Any) -> Any:
        return t.nn.utils.rnn.pack_padded_sequence(*args, **options)

    return {
        "dropout": lambda t: t.nn.LSTM(3, 4, dropout=1.5),
        "dropout_type": lambda t: t.nn.LSTM(3, 4, dropout=True),
        "bias_type": lambda t: t.nn.LSTM(3, 4, bias=1),
        "batch_first_type": lambda t: t.nn.LSTM(3, 4, batch_first="yes"),
        "input_size_type": lambda t: t.nn.GRU(3.0, 4),
        "input_size": lambda t: t.nn.GRU(0, 4),
        "hidden_size_type": lambda t: t.nn.GRU(3, 4.5),
        "hidden_size": lambda t: t.nn.GRU(3, -1),
        "num_layers": lambda t: t.nn.RNN(3, 4, 0),
        "nonlinearity": lambda t: t.nn.RNN(3, 4, nonlinearity="selu"),
        "proj_size_of_gru": lambda t: t.nn.GRU(3, 4, proj_size=2),
        "proj_size_of_rnn": lambda t: t.nn.RNN(3, 4, proj_size=2),
        "proj_size_negative": lambda t: t.nn.LSTM(3, 4, proj_size=-2),
        "proj_size_large": lambda t: t.nn.LSTM(3, 4, proj_size=4),
        "mode": lambda t: t.nn.RNNBase("ELMAN", 3, 4),
        "lstm_dims": lambda t: t.nn.LSTM(3, 4)(t.zeros(2, 2, 2, 3)),
        "gru_dims": lambda t: t.nn.GRU(3, 4)(t.zeros(3)),
        "rnn_dims": lambda t: t.nn.RNN(3, 4)(t.zeros(3)),
        "lstm_width": lambda t: t.nn.LSTM(3, 4)(t.zeros(2, 2, 5)),
        "lstm_dtype": lambda t: t.nn.LSTM(3, 4)(t.zeros(2, 2, 3, dtype=t.float64)),
        "lstm_empty": lambda t: t.nn.LSTM(3, 4)(t.zeros(0, 2, 3)),
        "gru_state_dims": lambda t: t.nn.GRU(3, 4)(t.zeros(2, 2, 3), t.zeros(2, 4)),
        "gru_unbatched_state_dims": lambda t: t.nn.GRU(3, 4)(t.zeros(2, 3), t.zeros(1, 1, 4)),
        "gru_state_size": lambda t: t.nn.GRU(3, 4)(t.zeros(2, 2, 3), t.zeros(1, 2, 5)),
        "lstm_state_dims": lambda t: t.nn.LSTM(3, 4)(t.zeros(2, 2, 3), (t.zeros(2, 4), t.zeros(1, 2, 4))),
        "lstm_unbatched_state_dims": lambda t: t.nn.LSTM(3, 4)(
            t.zeros(2, 3), (t.zeros(1, 4), t.zeros(1, 1, 4))
        ),
        "lstm_h_size": lambda t: t.nn.LSTM(3, 4)(t.zeros(2, 2, 3), (t.zeros(1, 3, 4), t.zeros(1, 2, 4))),
        "lstm_c_size": lambda t: t.nn.LSTM(3, 4)(t.zeros(2, 2, 3), (t.zeros(1, 2, 4), t.zeros(1, 2, 3))),
        "cell_dims": lambda t: t.nn.GRUCell(3, 4)(t.zeros(1, 2, 3)),
        "cell_state_dims": lambda t: t.nn.RNNCell(3, 4)(t.zeros(2, 3), t.zeros(1, 2, 4)),
        "lstm_cell_state_dims": lambda t: t.nn.LSTMCell(3, 4)(
            t.zeros(2, 3), (t.zeros(2, 4), t.zeros(1, 2, 4))
        ),
        "cell_width": lambda t: t.nn.GRUCell(3, 4)(t.zeros(2, 5)),
        "cell_state_width": lambda t: t.nn.GRUCell(3, 4)(t.zeros(2, 3), t.zeros(2, 5)),
        "cell_state_batch": lambda t: t.nn.LSTMCell(3, 4)(t.zeros(2, 3), (t.zeros(3, 4), t.zeros(2, 4))),
        "cell_nonlinearity": lambda t: t.nn.RNNCell(3, 4, nonlinearity="selu")(t.zeros(2, 3)),
        "pack_unsorted": lambda t: pack(t, t.zeros(3, 2), [2, 3]),
        "pack_zero": lambda t: pack(t, t.zeros(3, 2), [2, 0]),
        "pack_count": lambda t: pack(t, t.zeros(3, 2), [3, 2, 1]),
        "pack_empty": lambda t: pack(t, t.zeros(0, 2), [1, 1]),
        "pack_sequence_unsorted": lambda t: t.nn.utils.rnn.pack_sequence([t.zeros(1), t.zeros(2)]),
        "pad_short": lambda t: t.nn.utils.rnn.pad_packed_sequence(
            t.nn.utils.rnn.pack_sequence([t.zeros(3)]), total_length=2
        ),
        "pad_type": lambda t: t.nn.utils.rnn.pad_sequence(3),
        "transpose_padding_mode": lambda t: t.nn.ConvTranspose2d(2, 3, 3, padding_mode="reflect"),
        "transpose_groups": lambda t: t.nn.ConvTranspose2d(2, 3, 3, groups=2),
        "transpose_channels": lambda t: t.nn.ConvTranspose2d(2, 3, 3)(t.zeros(1, 4, 5, 5)),
        "transpose_dims": lambda t: t.nn.ConvTranspose2d(2, 3, 3)(t.zeros(1, 1, 4, 5, 5)),
        "transpose_output_padding": lambda t: t.nn.ConvTranspose2d(2, 3, 3, 2, output_padding=2)(
            t.zeros(1, 2, 5, 5)
        ),
        "transpose_output_size": lambda t: t.nn.ConvTranspose2d(2, 3, 3, 2)(t.zeros(1, 2, 5, 5), [20, 20]),
        "transpose_output_size_count": lambda t: t.nn.ConvTranspose2d(2, 3, 3, 2)(t.zeros(1, 2, 5, 5), [12]),
        "transpose_small": lambda t: t.nn.ConvTranspose1d(2, 3, 1, padding=3)(t.zeros(1, 2, 5)),
    }


def train_characters(t: Any, wrap: Callable[[Any], Any] = lambda step: step) -> list[float]:
    """Losses of a small character model: embedding, LSTM, linear, cross entropy, gradients clipped, Adam."""
    t.manual_seed(5)
    embed, lstm, head = t.nn.Embedding(11, 8), t.nn.LSTM(8, 16, batch_first=True), t.nn.Linear(16, 11)
    parameters = [*embed.parameters(), *lstm.parameters(), *head.parameters()]
    optimizer = t.optim.Adam(parameters, lr=0.02)
    text = t.randint(11, (4, 13))

    def step(text: Any) -> Any:
        optimizer.zero_grad()
        output, _ = lstm(embed(text[:, :-1]))
        loss = t.nn.functional.cross_entropy(head(output).reshape(-1, 11), text[:, 1:].reshape(-1))
        loss.backward()
        t.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        return loss

    run = wrap(step)
    return [run(text).item() for _ in range(12)]
