"""A conversation with SmolLM2 135M on the CPU, its key/value cache kept between turns.

    make models
    python examples/chat.py [--precision bf16|int8] [--greedy]

The prompt of a turn is one compiled call, each token of the answer another; both are compiled once, for all lengths. It
is a very small model: its answers are fluent, and often wrong.
"""

import argparse
import sys

import llama

import vitrify as torch

START, END = 1, 2  # <|im_start|>, <|im_end|>
SYSTEM = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"


def turn(tokenizer, role, text):
    """What somebody said, as the model was trained to see it."""
    return [START, *tokenizer.encode(f"{role}\n{text}"), END, *tokenizer.encode("\n")]


def chooser(temperature=0.5, among=40):
    """Draws one of the `among` likeliest tokens."""

    def choose(scores):
        best, numbers = scores.topk(among)
        return numbers[torch.multinomial((best / temperature).softmax(0), 1)[0]]

    return choose


class Chat:
    def __init__(self, net, tokenizer, context=1024, choose=torch.argmax):
        self.session = llama.Session(net, context)
        self.tokenizer, self.choose = tokenizer, choose
        self.pending = turn(tokenizer, "system", SYSTEM)

    def answer(self, text, most=300):
        """The answer's bytes, as they come."""
        tokens = [
            *self.pending,
            *turn(self.tokenizer, "user", text),
            START,
            *self.tokenizer.encode("assistant\n"),
        ]
        for token in self.session.write(tokens, most, stop=(END,), choose=self.choose):
            yield self.tokenizer.bytes(token)
        self.pending = [*self.session.unread, END, *self.tokenizer.encode("\n")]


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--precision", choices=["bf16", "int8"], help="of the weights (default: float32)")
    parser.add_argument("--greedy", action="store_true", help="always the likeliest token")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    print("loading and compiling ...", file=sys.stderr)
    net, tokenizer = llama.smollm()
    if options.precision:
        net = llama.shortened(net, options.precision)
    chat = Chat(net, tokenizer, choose=torch.argmax if options.greedy else chooser())
    print("An empty line ends the conversation.", file=sys.stderr)
    while True:
        try:
            text = input("> ")
        except EOFError:
            break
        if not text.strip():
            break
        try:
            for part in chat.answer(text):
                sys.stdout.buffer.write(part)
                sys.stdout.flush()
            print()
        except ValueError as error:
            print(f"\n{error}: the conversation is over", file=sys.stderr)
            break


if __name__ == "__main__":
    try:
        main()
    except FileNotFoundError as error:  # no model files
        sys.exit(str(error))
