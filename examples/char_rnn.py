"""A character LSTM that learns to write like a text, then writes: a few steps eagerly, the rest compiled.

    python examples/char_rnn.py [TEXT FILE ...] [--steps N] [--threads N]

Without files it reads this repository's own documents. The compiled step is the whole step: embedding, LSTM through its
time steps, cross entropy, backward, gradient clipping and Adam are one graph and one native call.
"""

import argparse
import statistics
import sys
import time
from pathlib import Path

import vitrify as torch
import vitrify.nn as nn
import vitrify.nn.functional as F

DOCUMENTS = sorted((Path(__file__).parent.parent / "docs").glob("*.md"))
LENGTH, BATCH = 32, 32


class CharRNN(nn.Module):
    """Characters by number, [batch, time] -> scores of the next character, [batch, time, characters]."""

    def __init__(self, characters, hidden=128):
        super().__init__()
        self.embed = nn.Embedding(characters, 32)
        self.lstm = nn.LSTM(32, hidden, batch_first=True)
        self.head = nn.Linear(hidden, characters)

    def forward(self, x, state=None):
        output, state = self.lstm(self.embed(x), state)
        return self.head(output), state


def sample(net, alphabet, start, count, temperature=0.6):
    """`start`, continued by `count` characters, each drawn from what the net expects."""
    number = {c: i for i, c in enumerate(alphabet)}
    text, state = start, None
    x = torch.tensor([[number[c] for c in start]])
    with torch.no_grad():
        for _ in range(count):
            scores, state = net(x, state)
            chances = F.softmax(scores[0, -1] / temperature, dim=0)
            x = torch.multinomial(chances, 1).reshape(1, 1)
            text += alphabet[x.item()]
    return text


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", nargs="*", type=Path, default=DOCUMENTS)
    parser.add_argument("--steps", type=int, default=1500, help="compiled steps, after 20 eager ones")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)

    text = "\n".join(path.read_text(encoding="utf-8") for path in options.files)
    if len(text) <= LENGTH + 1:
        raise SystemExit(f"the text has {len(text)} characters, a training sequence alone {LENGTH + 1}")
    alphabet = sorted(set(text))
    number = {c: i for i, c in enumerate(alphabet)}
    data = torch.tensor([number[c] for c in text])
    print(f"{len(text):,} characters, {len(alphabet)} different ones, of {len(options.files)} files")

    net = CharRNN(len(alphabet))
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)

    def step(x, y):
        optimizer.zero_grad()
        scores, _ = net(x)
        loss = F.cross_entropy(scores.reshape(-1, len(alphabet)), y.reshape(-1))
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        return loss

    def train(step, count, title):
        """Runs `step` on random pieces of the text; the milliseconds of each."""
        times, losses = [], []
        for i in range(1, count + 1):
            starts = torch.randint(len(data) - LENGTH, (BATCH, 1))
            pieces = data[starts + torch.arange(LENGTH + 1)]
            x, y = pieces[:, :-1].contiguous(), pieces[:, 1:].contiguous()
            begin = time.perf_counter()
            losses.append(step(x, y).item())
            times.append((time.perf_counter() - begin) * 1e3)
            if i % 250 == 0 or i == count:
                print(f"{title} step {i:5}: loss {statistics.mean(losses[-250:]):.3f}")
        return times

    eager = train(step, 20, "eager   ")
    print("compiling ...", end=" ", flush=True)
    compiled = torch.compile(step)
    times = train(compiled, options.steps, "compiled")
    report = compiled.report()
    source = "from disk" if report.from_cache else "cold"
    print(
        f"\neager {statistics.median(eager):.2f} ms a step, compiled {statistics.median(times):.2f} ms (medians); "
        f"compiled once in {report.compile_seconds:.1f} s ({source}), {len(report.kernels())} kernels\n"
    )
    start = text[: text.find("\n", 1)] or text[0]
    print(sample(net, alphabet, start, 400))


if __name__ == "__main__":
    try:
        main()
    except OSError as error:  # no such text
        sys.exit(str(error))
