"""Sizes of arguments that keep changing: one program for all of them, and guards where code asks."""

from __future__ import annotations

import copy

import numpy as np
import pytest

import vitrify as torch
import vitrify.nn.functional as F
from vitrify import nn


class Attends(nn.Module):
    """A block of the kind of nanoGPT's, with tables of positions and a mask that it cuts to the length."""

    def __init__(self, width: int = 16, heads: int = 2, longest: int = 64):
        super().__init__()
        self.longest, self.heads = longest, heads
        self.tokens, self.places = nn.Embedding(20, width), nn.Embedding(longest, width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, 20)
        self.register_buffer("mask", torch.tril(torch.ones(longest, longest)).view(1, 1, longest, longest))

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        rows, length = ids.size()
        if length > self.longest:
            raise ValueError(f"{length} tokens are too many")
        x = self.tokens(ids) + self.places(torch.arange(length))
        q, k, v = (
            t.view(rows, length, self.heads, -1).transpose(1, 2)
            for t in self.qkv(x).split(x.shape[-1], dim=2)
        )
        scores = (q @ k.transpose(-2, -1)) / k.size(-1) ** 0.5
        scores = scores.masked_fill(self.mask[:, :, :length, :length] == 0, float("-inf"))
        return self.out((scores.softmax(-1) @ v).transpose(1, 2).contiguous().view(rows, length, -1))


def tokens(*shape: int) -> torch.Tensor:
    return torch.randint(0, 20, shape)


def agree(got: torch.Tensor, want: torch.Tensor) -> None:
    assert got.shape == want.shape
    np.testing.assert_allclose(got.detach().numpy(), want.detach().numpy(), rtol=1e-4, atol=1e-5)


def programs(compiled) -> int:
    return len(getattr(compiled, "_compiled", compiled).history.compiles)


def test_growing_lengths_are_one_program_from_the_third_on():
    model = Attends()
    compiled = torch.compile(model)
    for length in (5, 6, 7, 8, 20, 64, 2, 6):
        ids = tokens(1, length)
        agree(compiled(ids), model(ids))
    assert programs(compiled) == 3
    guards = {g["name"]: g["value"] for g in compiled.explain().to_dict()["guards"]}
    assert guards["argument ids"] == "i64[1,6]"  # the latest call's own program
    ids = tokens(1, 9)
    compiled(ids)
    guards = {g["name"]: g["value"] for g in compiled.explain().to_dict()["guards"]}
    assert guards["argument ids"] == "i64[1,s0]" and guards["`s0 > 64`"] == "False"

    # A length of 1 broadcasts, so it has a program of its own; the batch is another axis.
    agree(compiled(ids[:, :1]), model(ids[:, :1]))
    assert programs(compiled) == 4
    for rows in (2, 3, 4, 5):
        ids = tokens(rows, 8 + rows)
        agree(compiled(ids), model(ids))
    assert programs(compiled) <= 7


def test_an_error_of_the_user_is_the_users_and_changes_nothing():
    model = Attends(longest=16)
    compiled = torch.compile(model)
    for length in (5, 6, 7):
        compiled(tokens(1, length))
    with pytest.raises(ValueError, match="17 tokens are too many"):
        compiled(tokens(1, 17))
    compiled(tokens(1, 9))
    assert programs(compiled) == 3


def test_dynamic_says_when():
    def fn(x):
        return (x * 2).sum(0)

    always, never = torch.compile(fn, dynamic=True), torch.compile(fn, dynamic=False)
    decorated = torch.compile(dynamic=True)(fn)
    for rows in (2, 3, 4, 5, 6):
        x = torch.randn(rows, 3)
        for compiled in (always, never, decorated):
            agree(compiled(x), fn(x))
    assert [programs(c) for c in (always, decorated, never)] == [1, 1, 5]
    with pytest.raises(ValueError, match=r"has dynamic=True, which strict numerics do not go with"):
        torch.compile(fn, dynamic=True, options={"numerics": "strict"})


def test_axes_that_are_always_equal_share_a_symbol():
    compiled = torch.compile(lambda x, y: x + y)
    for rows in (2, 3, 4, 5):
        compiled(torch.ones(rows, 3), torch.ones(rows, 3))
    assert programs(compiled) == 3
    # Until they are not: then it is a broadcast.
    agree(compiled(torch.ones(5, 3), torch.ones(1, 3)), torch.ones(5, 3) * 2)
    with pytest.raises(
        RuntimeError, match=r"The size of tensor a \(5\) must match the size of tensor b \(4\)"
    ):
        compiled(torch.ones(5, 3), torch.ones(4, 3))


# What programs ask of sizes. How many programs five sizes take.
QUESTIONS = {
    "order": (lambda x: x * 2 if x.shape[0] > 100 else x + 1, 3),
    "order twice": (lambda x: x * 2 if x.shape[0] > 9 else x + 1, 4),
    "parity": (lambda x: x * 2 if x.shape[0] % 2 else x + 1, 5),
    "equality": (lambda x: x * 2 if x.shape[0] == 8 else x + 1, 4),
    "number": (lambda x: x / x.shape[0] + 1.0 / x.size(0), 5),
    "length": (lambda x: x * len(x), 5),
    "range": (lambda x: sum((x[i] * i for i in range(x.shape[0])), x[0]), 5),
    "arange": (lambda x: x + torch.arange(x.shape[0])[:, None], 3),
    "pad": (lambda x: F.pad(x, (0, 0, 0, 16 - x.shape[0])), 5),
    "reshape": (lambda x: x.reshape(-1, 3).flatten(), 3),
    "halves": (lambda x: x[: x.shape[0] // 2], 3),
    "step": (lambda x: x[::2] + x.mean(), 3),
    "mask": (lambda x: x[x > 0].sum(), 3),
    "square": (lambda x: x @ x.T + torch.eye(x.shape[0]), 3),
    "repeat": (lambda x: x.repeat(2, 1), 3),
    "chunk": (lambda x: x.chunk(2)[0], 5),
    "same": (lambda x: x + 1 if x.shape == (8, 3) else x, 4),
}


@pytest.mark.parametrize("name", QUESTIONS)
def test_questions_about_sizes(name):
    fn, expected = QUESTIONS[name]
    compiled = torch.compile(fn)
    for rows in (5, 7, 8, 9, 12):
        x = torch.randn(rows, 3)
        agree(compiled(x), fn(x))
    for rows in (8, 9, 12, 5):
        x = torch.randn(rows, 3)
        agree(compiled(x), fn(x))
    assert programs(compiled) <= expected


def test_what_does_not_fit_all_sizes_keeps_its_sizes(caplog):
    compiled = torch.compile(lambda x: x + torch.linspace(0, 1, x.shape[0]))
    with caplog.at_level("INFO", logger="vitrify"):
        for size in (4, 5, 6, 7):
            x = torch.randn(size)
            agree(compiled(x), x + torch.linspace(0, 1, size))
    assert programs(compiled) == 4
    (message,) = (r.getMessage() for r in caplog.records if "keep their numbers" in r.getMessage())
    assert "The size of tensor a (s0) must match" in message


def test_declared_dims_count_and_keep_their_names():
    compiled = torch.compile(
        lambda s0, y: s0.sum(0) + y.sum(), dynamic_shapes={"s0": {-2: torch.Dim("s0", 1, 9)}}
    )
    for rows in (1, 2, 3, 4):
        x, y = torch.randn(rows, 3), torch.randn(rows + 2)
        agree(compiled(x, y), x.sum(0) + y.sum())
    assert programs(compiled) == 3
    assert "argument y: f32[s1]" in str(compiled.explain())


def test_an_axis_that_an_argument_does_not_have_is_refused():
    for axis in (2, -3):
        compiled = torch.compile(lambda x: x + 1, dynamic_shapes={"x": {axis: torch.Dim("n", 1, 9)}})
        with pytest.raises(ValueError, match=f"dynamic_shapes names dim {axis} of a 2-d tensor"):
            compiled(torch.ones(3, 4))


@pytest.mark.parametrize("inside", [True, False], ids=["the whole step", "forward"])
def test_training_with_a_smaller_last_batch_and_more(inside):
    torch.manual_seed(1)
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 5), nn.Dropout(0.0)
    )
    eager = copy.deepcopy(model)

    def make(net):
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)

        def step(x, t):
            optimizer.zero_grad()
            loss = F.cross_entropy(net(x), t)
            loss.backward()
            optimizer.step()
            return loss

        return step

    ours, theirs = make(torch.compile(model)), make(eager)
    if inside:
        ours = torch.compile(make(model))
    for rows in (8, 3, 5, 6, 8, 13, 2):
        x, t = torch.randn(rows, 1, 8, 8), torch.randint(0, 5, (rows,))
        agree(ours(x, t), theirs(x, t))
    for p, q in zip(model.parameters(), eager.parameters()):
        agree(p, q)
    if inside:
        assert programs(ours) == 3


def test_images_of_any_size():
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 8, 3, stride=2), nn.AdaptiveAvgPool2d(1)
    ).eval()
    compiled = torch.compile(model)
    with torch.no_grad():
        for size in (8, 9, 11, 16, 21):
            x = torch.randn(2, 3, size, size + 1)
            agree(compiled(x), model(x))
    assert programs(compiled) == 3


def test_gradients_of_arguments_of_any_size():
    compiled = torch.compile(lambda x: (x.softmax(-1) ** 2).sum())
    for rows in (3, 4, 5, 6):
        ours = torch.randn(rows, 7, requires_grad=True)
        theirs = ours.detach().clone().requires_grad_()
        compiled(ours).backward()
        (theirs.softmax(-1) ** 2).sum().backward()
        agree(ours.grad, theirs.grad)
    assert programs(compiled) == 3


def test_numbers_and_sizes_at_once():
    compiled = torch.compile(lambda x, s: x * s + x.mean())
    for n in range(2, 9):
        x = torch.randn(n, 3)
        agree(compiled(x, n / 2), x * (n / 2) + x.mean())
    assert programs(compiled) == 3
