"""Passes as text: `simplify, decompose{keep=[softmax]}, fusion{enabled=false, max_nodes=8}, memory_plan`.

passes = pass ("," pass)* ["," "memory_plan"] | "memory_plan"
pass   = name ["{" [option ("," option)*] "}"]
option = name "=" value
value  = integer | decimal | true | false | none | word | "quoted" | "[" [value ("," value)*] "]"
"""

from __future__ import annotations

import difflib
import json
import re
import types
from collections.abc import Iterable
from dataclasses import MISSING, fields
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from .attention import ChooseAttention
from .attention_match import FindAttention
from .autodiff import Autodiff
from .base import Pass
from .constant_folding import ConstantFolding
from .cse import CommonSubexpressions
from .dce import DeadCodeElimination
from .decompose import Decompose
from .fusion import Fusion
from .precision import RoundMatmulOperands
from .recompute import Recompute
from .reduce_before_reshape import ReduceBeforeReshape
from .reroll import Reroll
from .scan_motion import ScanMotion
from .simplify import Simplify
from .split_rows import SplitRows

_ALL: tuple[Any, ...] = (
    Autodiff, ChooseAttention, CommonSubexpressions, ConstantFolding, DeadCodeElimination, Decompose, FindAttention,
    Fusion, Recompute, ReduceBeforeReshape, Reroll, RoundMatmulOperands, ScanMotion, Simplify,
    SplitRows,
)  # fmt: skip
# Every pass from graph to graph, by name.
PASSES: dict[str, Any] = {cls.name: cls for cls in _ALL}
# Memory is planned after lowering (docs/architecture.md), so this is no pass; it may stand at the end all the same.
MEMORY_PLAN = "memory_plan"
_TOKEN = re.compile(r'\s*(?:(-?\d+(?:\.\d+)?)|([A-Za-z_][\w.]*)|("(?:[^"\\]|\\.)*")|([{}\[\],=]))')
_WORDS = {"true": True, "false": False, "none": None}


class PassSyntaxError(ValueError):
    """The text names no passes. The message says where it is at fault."""


def parse_passes(text: str) -> tuple[Pass, ...]:
    """The passes that the text names, in order."""
    found, plan = parse_pipeline(text)
    if plan:
        raise PassSyntaxError(f"{MEMORY_PLAN} makes no graph of a graph, in {text!r}")
    return found


def parse_pipeline(text: str) -> tuple[tuple[Pass, ...], bool]:
    """The passes that the text names, in order, and whether the memory plan of what they leave is asked for."""
    parser = _Parser(text)
    found: list[Pass] = []
    while not parser.word(MEMORY_PLAN):
        found.append(parser.one_pass())
        if not parser.taken(","):
            parser.end()
            return tuple(found), False
    if parser.taken(","):
        raise parser.fail(f"{MEMORY_PLAN} comes last: it plans the kernels that the graph is lowered to")
    parser.end()
    return tuple(found), True


def passes_text(passes: Iterable[Pass]) -> str:
    """The text of passes, options that are not the default included; `parse_passes` reads it."""
    return ", ".join(map(_pass_text, passes))


def _pass_text(step: Any) -> str:
    options = [
        f"{f.name}={_value_text(getattr(step, f.name))}"
        for f in fields(step)
        if f.default is MISSING or getattr(step, f.name) != f.default
    ]
    return step.name + (f"{{{', '.join(options)}}}" if options else "")


def _value_text(value: Any) -> str:
    match value:
        case None | bool():
            return {None: "none", True: "true", False: "false"}[value]
        case int():
            return str(value)
        case float():
            return f"{value:f}".rstrip("0") + "0" * value.is_integer()
        case str():
            return value if value.isidentifier() and value not in _WORDS else json.dumps(value)
        case tuple():
            return f"[{', '.join(map(_value_text, value))}]"
    raise TypeError(f"a pass's option cannot be a {type(value).__name__}: {value!r}")


class _Parser:
    def __init__(self, text: str):
        self.text = text
        self.at = 0

    def fail(self, what: str) -> PassSyntaxError:
        return PassSyntaxError(f"{what}, at column {self.at + 1} of {self.text!r}")

    def token(self) -> tuple[str, Any, int]:
        """Kind, value and end of what comes next; kind "" at the end."""
        match = _TOKEN.match(self.text, self.at)
        if match is None:
            if self.text[self.at :].strip():
                raise self.fail(f"unexpected {self.text[self.at :].strip()[0]!r}")
            return "", "the end", len(self.text)
        number, word, quoted, mark = match.groups()
        if number is not None:
            return "number", float(number) if "." in number else int(number), match.end()
        if word is not None:
            return "word", word, match.end()
        if quoted is not None:
            try:
                return "quoted", json.loads(quoted), match.end()
            except ValueError:
                raise self.fail(f"{quoted} is no string") from None
        return "mark", mark, match.end()

    def taken(self, mark: str) -> bool:
        kind, value, end = self.token()
        if kind == "mark" and value == mark:
            self.at = end
            return True
        return False

    def word(self, name: str) -> bool:
        """Whether the word comes next; then it is taken."""
        kind, value, end = self.token()
        if kind == "word" and value == name:
            self.at = end
            return True
        return False

    def expect(self, mark: str) -> None:
        if not self.taken(mark):
            raise self.fail(f"expected {mark!r}, found {self.token()[1]!r}")

    def end(self) -> None:
        kind, value, _ = self.token()
        if kind:
            raise self.fail(f"expected ',' or the end, found {value!r}")

    def name(self, what: str) -> str:
        kind, value, end = self.token()
        if kind != "word":
            raise self.fail(f"expected the name of {what}, found {value!r}")
        self.at = end
        return str(value)

    def one_pass(self) -> Pass:
        name = self.name("a pass")
        if name not in PASSES:
            raise self.fail(_unknown("pass", name, (*PASSES, MEMORY_PLAN)))
        cls = PASSES[name]
        known = {f.name: f for f in fields(cls)}
        hints = get_type_hints(cls)
        options: dict[str, Any] = {}
        if self.taken("{") and not self.taken("}"):
            while True:
                option = self.name(f"an option of {name}")
                if option not in known:
                    raise self.fail(_unknown(f"option of {name}", option, known))
                if option in options:
                    raise self.fail(f"{name} has {option} twice")
                self.expect("=")
                options[option] = value = self.value()
                if not _fits(value, hints[option]):
                    raise self.fail(
                        f"{name}'s {option} cannot be {_value_text(value)}: it is {known[option].type}"
                    )
                if self.taken("}"):
                    break
                self.expect(",")
        missing = [f.name for f in fields(cls) if f.default is MISSING and f.name not in options]
        if missing:
            raise self.fail(f"{name} needs {', '.join(missing)}")
        found: Pass = cls(**options)
        return found

    def value(self) -> Any:
        if self.taken("["):
            items: list[Any] = []
            if self.taken("]"):
                return ()
            while True:
                items.append(self.value())
                if self.taken("]"):
                    return tuple(items)
                self.expect(",")
        kind, value, end = self.token()
        if kind not in ("number", "word", "quoted"):
            raise self.fail(f"expected a value, found {value!r}")
        self.at = end
        return _WORDS.get(value, value) if kind == "word" else value


def _fits(value: Any, hint: Any) -> bool:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Literal:
        return value in arguments
    if origin in (Union, types.UnionType):
        return any(_fits(value, each) for each in arguments)
    if origin is tuple:
        return isinstance(value, tuple) and all(_fits(item, arguments[0]) for item in value)
    return value is None if hint is type(None) else type(value) is hint


def _unknown(what: str, name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, known, 1)
    hint = f"; did you mean {near[0]}?" if near else f"; there are {', '.join(sorted(known)) or 'none'}"
    return f"no {what} {name!r}{hint}"
