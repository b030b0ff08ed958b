"""From text to graph: the reader of what `printer.py` writes.

    text   = ["dims" name "in" int ".." (int | "inf") {"," ...}] block("graph")
    block  = keyword name "(" [typed {"," typed}] ")" "->" types "{" {node} return "}"
    typed  = %name ":" type
    types  = type | "(" [type {"," type}] ")"
    type   = dtype "[" [dim {"," dim}] "]"
    node   = typed {"," typed} "=" op "(" [%name {"," %name}] ")" [attrs] {block("region")}
    attrs  = "{" [name "=" value {"," ...}] "}"
    return = "return" [%name ["->" %name] {"," ...}]
    dim    = int | name | sums and products of dims | "(" dim "//" int ")" | "(" dim "%" int ")"
           | "min(" dim "," dim ")"

A comment runs from `#` to the end of its line; the one on a node's line, `# file:line · module`, is its
location.

Text may come from anyone: whatever it holds, `parse` gives a verified graph or raises `IRSyntaxError`.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from . import dims, dtypes, ops
from .dims import DimLike, Expr
from .dtypes import DType
from .graph import Graph, IRError, Location, Node, Provenance, Value
from .op import Attr, Op, all_ops, op_named
from .types import TensorType
from .verifier import RULE_ERRORS, verify, verify_region

__all__ = ["IRSyntaxError", "ops", "parse", "parse_region"]

MAX_DEPTH = 60  # nested regions and parentheses: below Python's own recursion limit
MAX_TERMS = 256  # terms of a dim's polynomial
MAX_DIGITS = 20  # of an integer: 64 bits, signed or not


class IRSyntaxError(IRError):
    """IR text with a fault: `line` and `column` (from 1), and the line itself with a mark under the place."""

    def __init__(self, problem: str, line: int, column: int, text: str):
        self.problem = problem
        self.line = line
        self.column = column
        start = max(0, column - 61)
        shown = text[start : start + 120]
        mark = "".join("\t" if c == "\t" else " " for c in shown[: column - 1 - start]) + "^"
        super().__init__(f"line {line}, column {column}: {problem}\n  {shown}\n  {mark}")


@dataclass(frozen=True)
class Token:
    kind: str  # "value", "name", "int", "float", "string", "end", or the punctuation itself
    text: str
    line: int
    column: int

    def __str__(self) -> str:
        return "the end of the text" if self.kind == "end" else repr(self.text)


_TOKEN = re.compile(
    r"""
    (?P<space>[ \t\r\n]+)
  | (?P<comment>\#[^\n]*)
  | (?P<value>%(?:\w+(?:\.\w+)*|"(?:[^"\\\n]|\\[^\n])*"))
  | (?P<string>"(?:[^"\\\n]|\\[^\n])*")
  | (?P<float>[0-9]+(?:\.[0-9]+(?:e[+-]?[0-9]+)?|e[+-]?[0-9]+))
  | (?P<int>[0-9]+)
  | (?P<name>[^\W\d]\w*(?:\.\w+)*)
  | (?P<punctuation>->|//|\.\.|[(){}\[\],:=+\-*%])
    """,
    re.VERBOSE,
)
_LOCATION = re.compile(r"#\s*(.+?):([0-9]{1,9})(?: · (.*))?")


def parse(text: str) -> Graph:
    """The graph that the text describes, verified. IRSyntaxError says where the text is at fault and what
    it should have been."""
    return _Parser(text).graph()


def parse_region(text: str) -> Graph:
    """`parse` for a graph that stands inside another: its `dims` are that one's, its inputs need not bind them."""
    return _Parser(text).graph(region=True)


class _Parser:
    def __init__(self, text: str):
        self.lines = text.split("\n")
        self.locations: dict[int, Location] = {}
        self.tokens = self._tokenise(text)
        self.at = 0
        self.symbols: dict[str, Expr] = {}
        self.depth = 0

    # Tokens

    def _tokenise(self, text: str) -> list[Token]:
        tokens: list[Token] = []
        position, line, line_start = 0, 1, 0
        while position < len(text):
            match = _TOKEN.match(text, position)
            here = Token("", text[position], line, position - line_start + 1)
            if match is None:
                problem = (
                    "a string is not closed" if text[position] == '"' else f"unexpected character {here}"
                )
                self.fail(problem, here)
            kind = match.lastgroup or ""
            found = match.group()
            if kind == "comment":
                self._note_location(found, line)
            elif kind == "space":
                breaks = found.count("\n")
                if breaks:
                    line += breaks
                    line_start = position + found.rindex("\n") + 1
            else:
                kind = found if kind == "punctuation" else kind
                tokens.append(Token(kind, found, line, here.column))
            position = match.end()
        tokens.append(Token("end", "", line, position - line_start + 1))
        return tokens

    def _note_location(self, comment: str, line: int) -> None:
        match = _LOCATION.fullmatch(comment.rstrip())
        if match is not None:
            self.locations[line] = Location(match[1], int(match[2]), match[3] or "")

    @property
    def token(self) -> Token:
        return self.tokens[self.at]

    def advance(self) -> Token:
        token = self.token
        self.at = min(self.at + 1, len(self.tokens) - 1)
        return token

    def accept(self, kind: str) -> bool:
        """Is the next token of this kind? If so, go past it."""
        if self.token.kind != kind:
            return False
        self.advance()
        return True

    def expect(self, kind: str, what: str = "") -> Token:
        if self.token.kind != kind:
            self.fail(f"expected {what or repr(kind)}, found {self.token}")
        return self.advance()

    def expect_word(self, word: str) -> Token:
        if self.token.kind != "name" or self.token.text != word:
            self.fail(f"expected {word!r}, found {self.token}")
        return self.advance()

    def fail(self, problem: str, token: Token | None = None, cause: BaseException | None = None) -> NoReturn:
        at = token or self.token
        raise IRSyntaxError(problem, at.line, at.column, self.lines[at.line - 1]) from cause

    def separated(self, close: str) -> Iterable[None]:
        """One turn per item of a comma-separated list; goes past the closing token."""
        if self.accept(close):
            return
        while True:
            yield
            if self.accept(close):
                return
            if self.token.kind != ",":
                self.fail(f"expected ',' or {close!r}, found {self.token}")
            self.advance()

    def deeper(self) -> None:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            self.fail(f"nested more than {MAX_DEPTH} levels deep")

    # Blocks

    def graph(self, region: bool = False) -> Graph:
        if self.token.text == "dims":
            self._symbol_bounds()
        start = self.token
        graph = self._block("graph")
        if self.token.kind != "end":
            self.fail(f"expected the end of the text after the graph, found {self.token}")
        try:
            if region:
                return verify_region(
                    graph, {name: dims.symbols(dim)[0] for name, dim in self.symbols.items()}
                )
            return verify(graph)
        except IRError as error:
            self.fail(str(error), start, error)

    def _symbol_bounds(self) -> None:
        self.advance()
        while True:
            name = self.expect("name", "the name of a dim")
            if name.text in self.symbols:
                self.fail(f"dim {name.text} is declared twice", name)
            if not name.text.isidentifier():
                self.fail("the name of a dim is one word", name)
            self.expect_word("in")
            low = self._integer()
            self.expect("..")
            high = dims.INFINITY
            if self.token.text == "inf":
                self.advance()
            else:
                high = min(self._integer(), dims.INFINITY)
            if not low <= high:
                self.fail(f"dim {name.text}: {low}..{high} holds no number", name)
            self.symbols[name.text] = dims.symbol(name.text, low, high)
            if not self.accept(","):
                return

    def _block(self, keyword: str) -> Graph:
        self.deeper()
        self.expect_word(keyword)
        name = self._graph_name()
        values: dict[str, Value] = {}
        self.expect("(")
        for _ in self.separated(")"):
            self._definition({}, values)
        inputs = list(values.values())
        self.expect("->")
        at_types = self.token
        types = self._result_types()
        self.expect("{")
        nodes: list[Node] = []
        while self.token.kind == "value":
            nodes.append(self._node(values))
        if self.token.text != "return":
            self.fail(f"expected a node (`%name: type = op(...)`) or 'return', found {self.token}")
        outputs, aliases = self._return(values, inputs)
        self.expect("}", "'}' after the values returned")
        stated, returned = (", ".join(map(str, t)) for t in (types, [v.type for v in outputs]))
        if stated != returned:
            self.fail(f"{keyword} {name} returns ({returned}), its head says ({stated})", at_types)
        self.depth -= 1
        return Graph(name, tuple(inputs), tuple(nodes), tuple(outputs), aliases, Provenance("parsed"))

    def _graph_name(self) -> str:
        if self.token.kind == "string":
            return self._string()
        return self.expect("name", "a name").text

    def _result_types(self) -> list[TensorType]:
        if not self.accept("("):
            return [self._type()]
        return [self._type() for _ in self.separated(")")]

    def _return(self, values: Mapping[str, Value], inputs: list[Value]) -> tuple[list[Value], dict[int, int]]:
        self.expect_word("return")
        outputs: list[Value] = []
        aliases: dict[int, int] = {}
        while self.token.kind == "value":
            outputs.append(self._use(values))
            if self.accept("->"):
                token = self.token
                target = self._use(values)
                if target not in inputs:
                    self.fail(f"{token.text} is not an input; an output can only be written to one", token)
                aliases[len(outputs) - 1] = inputs.index(target)
            if not self.accept(","):
                break
            if self.token.kind != "value":
                self.fail(f"expected a value, found {self.token}")
        return outputs, aliases

    # Values and types

    def _value_name(self) -> str:
        token = self.expect("value", "a value (%name)")
        quoted = token.text[1:]
        return self._unquote(quoted, token) if quoted.startswith('"') else quoted

    def _definition(self, known: Mapping[str, Value], new: dict[str, Value]) -> Token:
        """`%name: type`, entered into `new`; gives the token where the type starts."""
        token = self.token
        name = self._value_name()
        if name in known or name in new:
            self.fail(f"{token.text} is defined twice", token)
        self.expect(":")
        at_type = self.token
        new[name] = Value(name, self._type())
        return at_type

    def _use(self, values: Mapping[str, Value]) -> Value:
        token = self.token
        name = self._value_name()
        if name not in values:
            self.fail(f"{token.text} is not defined{_near(name, values, '%')}", token)
        return values[name]

    def _type(self) -> TensorType:
        dtype = self._dtype()
        self.expect("[")
        shape = tuple(self._size() for _ in self.separated("]"))
        return TensorType(shape, dtype)

    def _dtype(self) -> DType:
        token = self.expect("name", "a dtype")
        try:
            return dtypes.dtype_named(token.text)
        except KeyError as error:
            self.fail(error.args[0], token)

    def _size(self) -> DimLike:
        token = self.token
        size = self._dim()
        if isinstance(size, int) and size < 0:
            self.fail(f"a dim cannot be {size}", token)
        return size

    # Dims

    def _dim(self) -> DimLike:
        self.deeper()
        negative = self.accept("-")
        total = self._dim_product()
        if negative:
            total = -total
        while self.token.kind in ("+", "-"):
            sign = 1 if self.advance().kind == "+" else -1
            total = self._limited(total + self._dim_product() * sign)
        self.depth -= 1
        return total

    def _dim_product(self) -> DimLike:
        total = self._dim_atom()
        while self.token.kind in ("*", "//", "%", "value"):
            if self.token.kind == "value":
                self.fail(
                    f"expected an operator, found {self.token}; a remainder is written `x % 4`, with spaces"
                )
            operator = self.advance()
            if operator.kind == "*":
                other = self._dim_atom()
                if _terms(total) * _terms(other) > MAX_TERMS:
                    self.fail("this product has too many terms", operator)
                total = self._limited(total * other)
                continue
            token = self.token
            divisor = self._integer()
            if divisor == 0:
                self.fail("a dim cannot be divided by 0", token)
            total = dims.floordiv(total, divisor) if operator.kind == "//" else dims.mod(total, divisor)
        return total

    def _limited(self, value: DimLike) -> DimLike:
        if _terms(value) > MAX_TERMS:
            self.fail("this sum has too many terms")
        return value

    def _dim_atom(self) -> DimLike:
        token = self.token
        if token.kind == "int":
            return self._integer()
        if self.accept("("):
            inner = self._dim()
            self.expect(")")
            return inner
        if token.kind != "name":
            self.fail(f"expected a dim: a number, a name or an expression, found {token}")
        self.advance()
        if token.text == "min" and self.accept("("):
            left = self._dim()
            self.expect(",")
            right = self._dim()
            self.expect(")")
            return dims.minimum(left, right)
        if token.text not in self.symbols:
            hint = (
                _near(token.text, self.symbols) or "; declare it: `dims name in low..high` before the graph"
            )
            self.fail(f"unknown dim {token.text}{hint}", token)
        return self.symbols[token.text]

    def _integer(self) -> int:
        token = self.expect("int", "an integer")
        if len(token.text) > MAX_DIGITS:
            self.fail(f"an integer of {len(token.text)} digits is out of range", token)
        return int(token.text)

    # Nodes

    def _node(self, values: dict[str, Value]) -> Node:
        location = self.locations.get(self.token.line)
        defined: dict[str, Value] = {}
        at_types = [self._definition(values, defined)]
        while self.accept(","):
            at_types.append(self._definition(values, defined))
        self.expect("=", "'=' or ','")
        op_token = self.expect("name", "the name of an op")
        op = self._op(op_token)
        self.expect("(")
        operands = tuple(self._use(values) for _ in self.separated(")"))
        attrs = self._attrs(op, op_token)
        regions: list[Graph] = []
        while self.token.text == "region":
            regions.append(self._block("region"))
        node = Node(op, operands, attrs, tuple(defined.values()), location, tuple(regions))
        if op.lowering != "region":
            self._check_types(node, op_token, at_types)
        values.update(defined)
        return node

    def _op(self, token: Token) -> Op:
        try:
            return op_named(token.text)
        except KeyError:
            self.fail(f"unknown op {token.text!r}{_near(token.text, [op.name for op in all_ops()])}", token)

    def _check_types(self, node: Node, op_token: Token, type_tokens: list[Token]) -> None:
        try:
            inferred = node.op.infer_types([v.type for v in node.inputs], node.attrs)
        except RULE_ERRORS as error:
            self.fail(f"{node.op.name} does not accept these operands: {error}", op_token, error)
        if len(inferred) != len(node.outputs):
            self.fail(f"{node.op.name} has {len(inferred)} results, not {len(node.outputs)}", op_token)
        for value, type_, token in zip(node.outputs, inferred, type_tokens):
            if value.type != type_:
                self.fail(f"{node.op.name} gives {type_} here, not {value.type}", token)

    def _attrs(self, op: Op, op_token: Token) -> dict[str, Any]:
        given: dict[str, Any] = {}
        if self.accept("{"):
            for _ in self.separated("}"):
                token = self.expect("name", "the name of an attribute")
                declared = op.attrs.get(token.text)
                if declared is None:
                    known = ", ".join(op.attrs) or "none"
                    self.fail(f"{op.name} has no attribute {token.text!r}; it has {known}", token)
                if token.text in given:
                    self.fail(f"attribute {token.text} is given twice", token)
                self.expect("=")
                given[token.text] = self._attr(declared)
        try:
            return op.normalise_attrs(given)
        except TypeError as error:
            self.fail(str(error), op_token, error)

    def _attr(self, declared: Attr) -> Any:
        if self.token.text == "none" and (declared.default is None or declared.kind == "optional_int"):
            self.advance()
            return None
        match declared.kind:
            case "int" | "optional_int":
                return self._signed(self.accept("-"))
            case "ints":
                self.expect("[", "a list of integers")
                return tuple(self._signed(self.accept("-")) for _ in self.separated("]"))
            case "dim":
                return self._dim()
            case "dims":
                self.expect("[", "a list of dims")
                return tuple(self._dim() for _ in self.separated("]"))
            case "bool":
                return self._bool()
            case "str":
                return self._string()
            case "dtype":
                return self._dtype()
            case "scalar" if self.token.text in ("true", "false"):
                return self._bool()
            case "scalar" if self.token.text == "complex":
                return self._complex()
        return self._number(declared.kind == "float")

    def _signed(self, negative: bool) -> int:
        number = self._integer()
        return -number if negative else number

    def _bool(self) -> bool:
        if self.token.kind != "name" or self.token.text not in ("true", "false"):
            self.fail(f"expected true or false, found {self.token}")
        return self.advance().text == "true"

    def _number(self, must_be_float: bool) -> int | float:
        negative = self.accept("-")
        token = self.token
        if token.kind == "int" and not must_be_float:
            return self._signed(negative)
        if token.kind not in ("int", "float") and token.text not in ("inf", "nan"):
            self.fail(f"expected a number, inf or nan, found {token}")
        self.advance()
        number = float(token.text)
        return -number if negative else number

    def _complex(self) -> complex:
        self.advance()
        self.expect("(")
        real = self._number(True)
        self.expect(",")
        imag = self._number(True)
        self.expect(")")
        return complex(real, imag)

    def _string(self) -> str:
        token = self.expect("string", "a string")
        return self._unquote(token.text, token)

    def _unquote(self, quoted: str, token: Token) -> str:
        try:
            return str(json.loads(quoted, strict=False))
        except ValueError as error:
            self.fail(f"not a valid string: {error}", token)


def _terms(value: DimLike) -> int:
    return len(value.terms) if isinstance(value, Expr) else 1


def _near(name: str, known: Iterable[str], mark: str = "") -> str:
    """`; did you mean ...?` where a known name is near."""
    found = difflib.get_close_matches(name, list(known), 3)
    return f"; did you mean {' or '.join(mark + n for n in found)}?" if found else ""
