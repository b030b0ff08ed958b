"""PTX text as tokens (PTX ISA, "Syntax": source format, comments, identifiers, constants)."""

from __future__ import annotations

import re
from typing import NamedTuple

from .errors import PtxError

_TOKEN = re.compile(
    r"""[ \t\r]*(?:
       (?P<newline>\n)
      |(?P<comment>//[^\n]*|/\*.*?\*/)
      |(?P<name>[%$_A-Za-z][\w$]*(?:\.[A-Za-z_]\w*|\.\d\w*|::\w+)*)
      |(?P<bits>0[fF][0-9a-fA-F]{8}|0[dD][0-9a-fA-F]{16})
      |(?P<float>(?:\d+\.\d*|\.\d+)(?:[eE][+-]?\d+)?|\d+[eE][+-]?\d+)
      |(?P<int>0[xX][0-9a-fA-F]+U?|0[bB][01]+U?|\d+U?)
      |(?P<directive>\.\w+)
      |(?P<string>"[^"]*")
      |(?P<mark>[{}()\[\],;:=+\-|!@<>*~&])
      |(?P<bad>[^ \t\r])
    )""",
    re.VERBOSE | re.DOTALL,
)


class Token(NamedTuple):
    kind: str
    text: str
    line: int


def _tokens(text: str) -> list[Token]:
    found, line = [], 1
    for match in _TOKEN.finditer(text.rstrip("\x00")):  # the driver's texts end with a zero
        kind = match.lastgroup or ""
        if kind == "newline":
            line += 1
        elif kind == "comment":
            line += match[0].count("\n")
        elif kind == "bad":
            raise PtxError(line, f"unexpected character {match[kind]!r}")
        else:
            found.append(Token(kind, match[kind], line))
    found.append(Token("end", "", line))
    return found


class Tokens:
    """A text's tokens, read one by one; PtxError with the line for one that does not belong there."""

    def __init__(self, text: str):
        self.tokens = _tokens(text)
        self.at = 0

    @property
    def token(self) -> Token:
        return self.tokens[self.at]

    def next(self) -> Token:
        found = self.tokens[self.at]
        if found.kind == "end":
            raise PtxError(found.line, "the text ends in the middle of something")
        self.at += 1
        return found

    def accept(self, text: str) -> bool:
        if self.tokens[self.at].text == text:
            self.at += 1
            return True
        return False

    def expect(self, text: str) -> Token:
        if self.token.text != text:
            raise PtxError(self.token.line, f"expected {text!r}, found {self.token.text or 'the end'!r}")
        return self.next()

    def name(self) -> str:
        if self.token.kind != "name":
            raise PtxError(self.token.line, f"expected a name, found {self.token.text or 'the end'!r}")
        return self.next().text

    def integer(self) -> int:
        sign = -1 if self.accept("-") else 1
        if self.token.kind != "int":
            raise PtxError(self.token.line, f"expected an integer, found {self.token.text!r}")
        return sign * int(self.next().text.rstrip("U"), 0)

    def skip_line(self, line: int) -> None:
        while self.token.line == line and self.token.kind != "end":
            self.next()

    def skip_statement(self) -> None:
        while not self.accept(";"):
            self.next()
