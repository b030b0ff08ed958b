"""How much sentences have in common: a trained BERT encoder from its safetensors file, compiled.

    make models
    python examples/sentence_embeddings.py "a cat sits there" "a kitten is sitting" "the stock market fell"

The weights are all-MiniLM-L6-v2 (six layers, 384 features), memory-mapped. The Module has the checkpoint's names, so
`load_state_dict` takes the file as it is. One compile serves every number and every length of sentences.
"""

import sys
import time
import unicodedata

import model_files

import vitrify as torch
import vitrify.nn as nn
import vitrify.nn.functional as F
from vitrify.serialization import load_file


class Embeddings(nn.Module):
    def __init__(self, words, features, positions):
        super().__init__()
        self.word_embeddings = nn.Embedding(words, features, padding_idx=0)
        self.position_embeddings = nn.Embedding(positions, features)
        self.token_type_embeddings = nn.Embedding(2, features)
        self.LayerNorm = nn.LayerNorm(features, eps=1e-12)

    def forward(self, tokens):
        places = torch.arange(tokens.shape[1])
        kind = self.token_type_embeddings.weight[0]
        return self.LayerNorm(self.word_embeddings(tokens) + self.position_embeddings(places) + kind)


class SelfAttention(nn.Module):
    def __init__(self, features, heads):
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(features, features)
        self.key = nn.Linear(features, features)
        self.value = nn.Linear(features, features)

    def forward(self, x, mask):
        q, k, v = (
            layer(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for layer in (self.query, self.key, self.value)
        )
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2).flatten(2)


class AddAndNorm(nn.Module):
    """A linear layer whose result is added to what came before, then normalized."""

    def __init__(self, inputs, features):
        super().__init__()
        self.dense = nn.Linear(inputs, features)
        self.LayerNorm = nn.LayerNorm(features, eps=1e-12)

    def forward(self, x, before):
        return self.LayerNorm(self.dense(x) + before)


class Layer(nn.Module):
    def __init__(self, features, heads, hidden):
        super().__init__()
        self.attention = nn.ModuleDict(
            {"self": SelfAttention(features, heads), "output": AddAndNorm(features, features)}
        )
        self.intermediate = nn.ModuleDict({"dense": nn.Linear(features, hidden)})
        self.output = AddAndNorm(hidden, features)

    def forward(self, x, mask):
        x = self.attention["output"](self.attention["self"](x, mask), x)
        return self.output(F.gelu(self.intermediate["dense"](x)), x)


class BertEncoder(nn.Module):
    """Tokens [sentences, length], 0 where a sentence has ended -> unit vectors [sentences, features]: the mean over a
    sentence's tokens, as sentence-transformers pools this model."""

    def __init__(self, words=30522, features=384, layers=6, heads=12, hidden=1536, positions=512):
        super().__init__()
        self.embeddings = Embeddings(words, features, positions)
        self.encoder = nn.ModuleDict(
            {"layer": nn.ModuleList(Layer(features, heads, hidden) for _ in range(layers))}
        )

    def forward(self, tokens):
        there = tokens != 0
        x = self.embeddings(tokens)
        for layer in self.encoder["layer"]:
            x = layer(x, there[:, None, None, :])
        weights = there.unsqueeze(-1).to(x.dtype)
        return F.normalize((x * weights).sum(1) / weights.sum(1), dim=1)


def load():
    net = BertEncoder().eval()
    state = load_file(model_files.find("model.safetensors"))
    unused = {"embeddings.position_ids", "pooler.dense.weight", "pooler.dense.bias"}
    net.load_state_dict({k: v for k, v in state.items() if k not in unused}, assign=True)
    return net


class WordPieces:
    """BERT's lower-case tokenizer: words and punctuation, then for each word the longest pieces in the vocabulary."""

    def __init__(self, path):
        with open(path, encoding="utf-8") as file:
            self.numbers = {line.rstrip("\n"): number for number, line in enumerate(file)}

    def __call__(self, text, most=128):
        """The numbers of the text's tokens, between [CLS] and [SEP]."""
        pieces = [piece for word in words(text) for piece in self.split(word)]
        return [self.numbers[piece] for piece in ["[CLS]", *pieces[: most - 2], "[SEP]"]]

    def split(self, word):
        pieces, start = [], 0
        while start < len(word):
            mark = "##" if start else ""
            ends = range(len(word), start, -1)
            end = next((e for e in ends if mark + word[start:e] in self.numbers), None)
            if end is None or len(word) > 100:
                return ["[UNK]"]
            pieces.append(mark + word[start:end])
            start = end
        return pieces


def words(text):
    """The text in lower case without accents, cut at spaces, punctuation and Chinese characters."""
    spaced = []
    for c in unicodedata.normalize("NFD", text.lower()):
        kind = unicodedata.category(c)
        if kind == "Mn" or (kind[0] == "C" and c not in "\t\n\r"):
            continue
        alone = kind[0] == "P" or c in "$+<=>^`|~" or "\u4e00" <= c <= "\u9fff"
        spaced.append(f" {c} " if alone else c)
    return "".join(spaced).split()


def batch(token_lists):
    """One tensor of all the lists, filled up with 0."""
    longest = max(map(len, token_lists))
    return torch.tensor([tokens + [0] * (longest - len(tokens)) for tokens in token_lists])


def main():
    sentences = sys.argv[1:] or [
        "A cat sits on the mat.",
        "A kitten is sitting on a rug.",
        "Shares fell today.",
    ]
    start = time.perf_counter()
    net, pieces = load(), WordPieces(model_files.find("vocab.txt"))
    shapes = {"tokens": {0: torch.Dim("sentences", 1, 64), 1: torch.Dim("length", 3, 128)}}
    encode = torch.compile(net, dynamic_shapes=shapes)
    tokens = batch([pieces(s) for s in sentences])
    with torch.no_grad():
        vectors = encode(tokens)
        ready = time.perf_counter()
        encode(tokens)
        print(f"loaded and compiled in {ready - start:.2f} s; encoded in {time.perf_counter() - ready:.4f} s")
    for sentence, row in zip(sentences, (vectors @ vectors.T).tolist()):
        print(" ".join(f"{score:5.2f}" for score in row), sentence, sep="  ")


if __name__ == "__main__":
    try:
        main()
    except FileNotFoundError as error:  # no model files
        sys.exit(str(error))
