"""Llama-style language models with a key/value cache, compiled for prompts and for single tokens.

    make models
    python examples/llama.py "Gravity is"

The Module has the names of GGUF files; what else a model needs (its sizes, its tokenizer) is in the file, too.
The model is SmolLM2 135M (Q4_1, 98 MB), or with --tiny one of 0.8 million parameters that knows one book.
"""

import argparse
import itertools
import json
import re
import sys
import time
import unicodedata
from dataclasses import dataclass

import model_files
import numpy as np

import vitrify as torch
import vitrify.nn as nn
import vitrify.nn.functional as F
from vitrify.serialization import load_gguf


@dataclass(frozen=True)
class Config:
    words: int
    features: int
    layers: int
    heads: int
    kv_heads: int
    hidden: int
    context: int
    rope_base: float
    eps: float


class Attention(nn.Module):
    """Attention of new tokens to those in the cache and to each other; heads share keys and values in groups."""

    def __init__(self, config):
        super().__init__()
        self.kv_heads, self.size = config.kv_heads, config.features // config.heads
        self.attn_q = nn.Linear(config.features, config.features, bias=False)
        self.attn_k = nn.Linear(config.features, self.kv_heads * self.size, bias=False)
        self.attn_v = nn.Linear(config.features, self.kv_heads * self.size, bias=False)
        self.attn_output = nn.Linear(config.features, config.features, bias=False)

    def forward(self, x, cached, rotation, seen):
        """x [new, features], cached [2, kv_heads, past, size], seen [new, past + new] -> what to add to x, and
        [2, kv_heads, new, size]."""
        new = x.shape[0]
        split = lambda y: y.reshape(new, -1, self.size).transpose(0, 1)
        q, k, v = (
            rotated(split(self.attn_q(x)), rotation),
            rotated(split(self.attn_k(x)), rotation),
            split(self.attn_v(x)),
        )
        keys, values = torch.cat([cached[0], k], 1), torch.cat([cached[1], v], 1)
        grouped = q.reshape(self.kv_heads, -1, new, self.size)
        scores = grouped @ keys[:, None].transpose(2, 3) * self.size**-0.5
        weights = scores.masked_fill(~seen, -torch.inf).softmax(-1)
        mixed = (weights @ values[:, None]).reshape(-1, new, self.size).transpose(0, 1).reshape(new, -1)
        return self.attn_output(mixed), torch.stack([k, v])


def rotated(x, rotation):
    """Each pair of neighbours in x [heads, new, size] turned by its position's angle (Su et al. 2021, RoFormer)."""
    cos, sin = rotation
    even, odd = x[..., 0::2], x[..., 1::2]
    return torch.stack([even * cos - odd * sin, even * sin + odd * cos], -1).flatten(-2)


class Block(Attention):
    def __init__(self, config):
        super().__init__(config)
        self.attn_norm = nn.RMSNorm(config.features, eps=config.eps)
        self.ffn_norm = nn.RMSNorm(config.features, eps=config.eps)
        self.ffn_gate = nn.Linear(config.features, config.hidden, bias=False)
        self.ffn_up = nn.Linear(config.features, config.hidden, bias=False)
        self.ffn_down = nn.Linear(config.hidden, config.features, bias=False)

    def forward(self, x, cached, rotation, seen):
        update, entry = super().forward(self.attn_norm(x), cached, rotation, seen)
        x = x + update
        y = self.ffn_norm(x)
        return x + self.ffn_down(F.silu(self.ffn_gate(y)) * self.ffn_up(y)), entry


class Llama(nn.Module):
    """(tokens [new], cache [layers, 2, kv_heads, context, size], start, past) -> (scores of the next token [words], what
    goes into the cache at start: [layers, 2, kv_heads, new, size]).

    `start`, a tensor, says how many tokens the cache holds. `past`, [n] with start <= n and n >= 1, is there for its
    size: only the first n places of the cache are read.
    """

    def __init__(self, config):
        super().__init__()
        self.config = config
        self.token_embd = nn.Embedding(config.words, config.features)
        self.blk = nn.ModuleList(Block(config) for _ in range(config.layers))
        self.output_norm = nn.RMSNorm(config.features, eps=config.eps)
        self.output = nn.Linear(config.features, config.words, bias=False)

    def forward(self, tokens, cache, start, past):
        x = self.token_embd(tokens)
        size = cache.shape[-1]
        new, places = torch.arange(tokens.shape[0]), torch.arange(past.shape[0])
        frequencies = self.config.rope_base ** (torch.arange(0, size, 2) / -size)
        angles = (new + start)[:, None] * frequencies
        rotation = angles.cos(), angles.sin()
        held = (places < start).expand(tokens.shape[0], -1)
        seen = torch.cat([held, new <= new[:, None]], 1)
        entries = []
        for block, cached in zip(self.blk, cache[:, :, :, : past.shape[0]]):
            x, entry = block(x, cached, rotation, seen)
            entries.append(entry)
        return self.output(self.output_norm(x[-1:]))[0], torch.stack(entries)

    def load(self, tensors):
        """Take the tensors themselves; a file without an output layer has the embedding for it."""
        embedding = tensors["token_embd.weight"]
        self.load_state_dict({"output.weight": embedding, **tensors}, assign=True)
        if "output.weight" not in tensors:
            self.output.weight = self.token_embd.weight
        return self.eval()


def shortened(net, precision):
    """The net with bfloat16 or int8 weights, which a single token's step reads faster."""
    config = net.config
    cache = torch.zeros(config.layers, 2, config.kv_heads, 8, config.features // config.heads)
    tokens = torch.arange(4) + 100
    short = torch.optimize_for_inference(
        net, (tokens, cache, torch.tensor(0), torch.zeros(1, dtype=torch.int8)), precision=precision
    )
    print(short.optimization, file=sys.stderr)
    return short


class Session:
    """A conversation: tokens in, scores of the next token out. What was said stays in the cache."""

    def __init__(self, net, context=None, compiled=True):
        config = net.config
        self.context = min(context or config.context, config.context)
        self.cache = torch.zeros(
            config.layers, 2, config.kv_heads, self.context, config.features // config.heads
        )
        past = {"past": {0: torch.Dim("past", 1, self.context)}}
        self.step = torch.compile(net, dynamic_shapes=past) if compiled else net
        several = {"tokens": {0: torch.Dim("new", 2, self.context)}, **past}
        self.prompt = torch.compile(net, dynamic_shapes=several) if compiled else net
        self.start = 0
        self.unread = []  # what was written but is not in the cache yet

    def __call__(self, tokens):
        count = len(tokens)
        if self.start + count > self.context:
            raise ValueError(f"{self.start} + {count} tokens do not fit into {self.context}")
        run = self.step if count == 1 else self.prompt
        start, past = torch.tensor(self.start), torch.zeros(max(1, self.start), dtype=torch.int8)
        with torch.no_grad():
            scores, entry = run(torch.tensor(tokens), self.cache, start, past)
            self.cache[:, :, :, self.start : self.start + count] = entry
        self.start += count
        self.unread = []
        return scores

    def write(self, tokens, most, stop=(), choose=torch.argmax):
        """Up to `most` tokens that go on from these, one after another; ValueError where the context ends."""
        for _ in range(most):
            token = choose(self(tokens)).item()
            if token in stop:
                return
            self.unread = tokens = [token]
            yield token


class PairTokenizer:
    """Text to numbers and back by byte-pair merges: in each chunk the pair of neighbours that was learned first is
    joined, until none is left. `letters` maps what a text is made of to the letters of the vocabulary."""

    def __init__(self, tokens, merges, chunks, letters):
        self.tokens, self.chunks, self.letters = tokens, re.compile(chunks), letters
        self.numbers = {token: number for number, token in enumerate(tokens)}
        self.ranks = {tuple(merge): rank for rank, merge in enumerate(merges)}
        self.back = {letter: original for original, letter in letters.items()}

    def merged(self, chunk):
        parts = list(chunk)
        while len(parts) > 1:
            pairs = list(itertools.pairwise(parts))
            best = min(pairs, key=lambda pair: self.ranks.get(pair, len(self.ranks)))
            if best not in self.ranks:
                break
            joined, at = [], 0
            while at < len(parts):
                both = at < len(pairs) and pairs[at] == best
                joined.append("".join(best) if both else parts[at])
                at += 2 if both else 1
            parts = joined
        return parts


class BytePairs(PairTokenizer):
    """GPT-2's tokenizer: merges of bytes, each byte written as a printable letter; digits stay alone."""

    def __init__(self, tokens, merges):
        plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
        others = [byte for byte in range(256) if byte not in plain]
        letters = {byte: chr(byte) for byte in plain} | {byte: chr(256 + i) for i, byte in enumerate(others)}
        chunks = r"'(?:[sdmt]|ll|ve|re)| ?[^\W\d_]+|\d| ?(?:[^\s\w]|_)+|\s+(?!\S)|\s+"
        super().__init__(tokens, [m.split(" ") for m in merges], chunks, letters)

    def encode(self, text):
        spelled = ("".join(self.letters[b] for b in chunk.encode()) for chunk in self.chunks.findall(text))
        return [self.numbers[part] for chunk in spelled for part in self.merged(chunk)]

    def bytes(self, number):
        """What a token stands for, which need not be whole characters."""
        token = self.tokens[number]
        known = all(letter in self.back for letter in token)
        return bytes(self.back[letter] for letter in token) if known else token.encode()


class CharacterPairs(PairTokenizer):
    """The tokenizer of the tiny model: merges of characters, a space is written as a low line."""

    def __init__(self, alphabet, merges):
        tokens = ["<pad>", "<unk>", "<bos>", "<eos>", *alphabet, *("".join(m) for m in merges)]
        super().__init__(tokens, merges, "\n|\u2581*[^\u2581\n]+|\u2581+", {" ": "\u2581"})

    def encode(self, text):
        text = unicodedata.normalize("NFC", text).replace(" ", self.letters[" "])
        return [
            self.numbers.get(part, 1) for chunk in self.chunks.findall(text) for part in self.merged(chunk)
        ]

    def bytes(self, number):
        return self.tokens[number].replace(self.letters[" "], " ").encode()


def tiny():
    """The net of the package glassllm, and its tokenizer."""
    with np.load(model_files.find("en.npz")) as file:
        arrays = {name: file[name] for name in file.files}
    sizes = json.loads(str(arrays.pop("__config__")))
    features = sizes["d_model"]
    net = Llama(
        Config(
            sizes["vocab_size"], features, sizes["n_layers"], sizes["n_heads"], sizes["n_kv_heads"],
            int(8 * features / 3), sizes["max_len"], sizes["rope_base"], sizes["eps"],
        )
    )  # fmt: skip
    names = {
        "E": "token_embd.weight", "norm_f.gamma": "output_norm.weight", "norm1.gamma": "attn_norm.weight",
        "norm2.gamma": "ffn_norm.weight", "attn.W_Q": "attn_q.weight", "attn.W_K": "attn_k.weight",
        "attn.W_V": "attn_v.weight", "attn.W_O": "attn_output.weight", "ffn.W1": "ffn_gate.weight",
        "ffn.W3": "ffn_up.weight", "ffn.W2": "ffn_down.weight",
    }  # fmt: skip
    state = {}
    for name, array in arrays.items():
        scope, number, own = name.split(".", 2) if name.startswith("blocks.") else ("", "", name)
        prefix = f"blk.{number}." if scope else ""
        turned = array.T if own.rpartition(".")[2].startswith("W") else array
        state[prefix + names[own]] = torch.from_numpy(np.ascontiguousarray(turned, np.float32))
    net.load(state)
    vocabulary = json.loads(model_files.find("en.tokenizer.json").read_text(encoding="utf-8"))
    return net, CharacterPairs(vocabulary["alphabet"], vocabulary["merges"])


def smollm():
    """SmolLM2 135M, and its tokenizer."""
    tensors, about = load_gguf(model_files.find("SmolLM2-135M-Instruct.Q4_1.gguf"))
    size = lambda key: about["llama." + key]
    config = Config(
        size("vocab_size"), size("embedding_length"), size("block_count"), size("attention.head_count"),
        size("attention.head_count_kv"), size("feed_forward_length"), size("context_length"),
        size("rope.freq_base"), size("attention.layer_norm_rms_epsilon"),
    )  # fmt: skip
    net = Llama(config).load(tensors)
    return net, BytePairs(about["tokenizer.ggml.tokens"], about["tokenizer.ggml.merges"])


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("text", nargs="?", default="Gravity is", help="what the model goes on from")
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--tokens", type=int, default=60, help="how many to write")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--precision", choices=["bf16", "int8"], help="of the weights (default: float32)")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    start = time.perf_counter()
    net, tokenizer = tiny() if options.tiny else smollm()
    if options.precision:
        net = shortened(net, options.precision)
    session = Session(net, 1024)
    session([0, 0])  # compiles both
    session([0])
    session.start = 0
    print(f"loaded and compiled in {time.perf_counter() - start:.1f} s", file=sys.stderr)
    print(options.text, end="", flush=True)
    times = [time.perf_counter()]
    for token in session.write(tokenizer.encode(options.text), options.tokens, stop=(0, 2)):
        sys.stdout.buffer.write(tokenizer.bytes(token))
        sys.stdout.flush()
        times.append(time.perf_counter())
    rate = (len(times) - 2) / (times[-1] - times[1]) if len(times) > 2 else 0.0
    print(
        f"\nfirst token after {times[min(1, len(times) - 1)] - times[0]:.3f} s, then {rate:.1f} tokens/s",
        file=sys.stderr,
    )


if __name__ == "__main__":
    try:
        main()
    except FileNotFoundError as error:  # no model files
        sys.exit(str(error))
