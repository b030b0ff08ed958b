"""PTX text to `syntax.Module` (PTX ISA, "Syntax", "State Spaces, Types, and Variables", "Directives").

Read is what LLVM's NVPTX backend prints and what people write by hand for kernels. Registers and labels declared in
an inner `{ }` get the scope's number behind their name, so that a function has one flat name space. Debug sections,
`.loc`, `.file` and pragmas are passed over.
"""

from __future__ import annotations

from dataclasses import replace

from .constants import SIZES, initial_bytes
from .errors import PtxError
from .syntax import (
    Address,
    Function,
    Group,
    Immediate,
    Instruction,
    Label,
    Module,
    Negated,
    Operand,
    Pair,
    Register,
    Sink,
    Special,
    Symbol,
    Variable,
    Vector,
)
from .tokens import Tokens

_SPACES = {".global", ".const", ".shared", ".local", ".param"}
_LINKING = {".visible", ".extern", ".weak", ".common"}
_PERFORMANCE = {".maxntid", ".reqntid", ".minnctapersm", ".maxnreg", ".maxnctapersm", ".noreturn", ".explicitcluster",
                ".maxclusterrank", ".reqnctapercluster", ".abi_preserve", ".abi_preserve_control"}  # fmt: skip


def parse(text: str) -> Module:
    """The module; PtxError with the line for what is not understood."""
    return _Parser(text).module()


class _Parser(Tokens):
    def __init__(self, text: str):
        super().__init__(text)
        self.scopes: list[dict[str, str]] = []  # name as written -> name in the function
        self.scope_count = 0
        self.function: Function | None = None

    # Module scope.

    def module(self) -> Module:
        module = Module((0, 0), "", {}, {})
        while self.token.kind != "end":
            token = self.token
            if token.text == ".version":
                self.next()
                major, _, minor = self.next().text.partition(".")
                module.version = (int(major), int(minor or 0))
            elif token.text == ".target":
                self.next()
                module.target = self.name()
                while self.accept(","):
                    self.name()
            elif token.text == ".address_size":
                self.next()
                if self.integer() != 64:
                    raise PtxError(token.line, "only .address_size 64 is supported")
            elif token.text in (".file", ".loc"):
                self.skip_line(token.line)
            elif token.text == ".section":
                while not self.accept("}"):
                    self.next()
            elif token.text == ".pragma":
                self.skip_statement()
            else:
                self.definition(module)
        return module

    def definition(self, module: Module) -> None:
        while self.token.text in _LINKING:
            self.next()
        if self.token.text in (".entry", ".func"):
            function = self.function_definition()
            known = module.functions.get(function.name)
            if known is None or not known.defined:
                module.functions[function.name] = function
            elif function.defined:
                raise PtxError(function.line, f"{function.name} is defined twice")
        elif self.token.text in _SPACES:
            for variable in self.variable():
                module.variables[variable.name] = variable
        elif self.accept(".alias"):
            self.skip_statement()
        else:
            raise PtxError(self.token.line, f"unknown directive {self.token.text!r}")

    def function_definition(self) -> Function:
        token = self.next()
        function = Function("", token.text == ".entry", token.line)
        self.function = function
        if not function.is_kernel and self.token.text == "(":
            function.results = self.parameters()
        function.name = self.name()
        if self.token.text == "(":
            function.parameters = self.parameters()
        while self.token.text in _PERFORMANCE:
            key = self.next().text[1:]
            numbers: list[int] = []
            while self.token.kind == "int":
                numbers.append(self.integer())
                self.accept(",")
            function.limits[key] = tuple(numbers)
        if self.accept(";"):
            function.defined = False
        else:
            self.block()
        self.function = None
        return function

    def parameters(self) -> list[Variable]:
        found: list[Variable] = []
        self.expect("(")
        while not self.accept(")"):
            if self.token.text == ".reg":
                raise PtxError(self.token.line, "parameters in .reg are not supported, use .param")
            found += self.variable(terminated=False)
            self.accept(",")
        return found

    def variable(self, terminated: bool = True) -> list[Variable]:
        """A declaration `.space .align n .type name[size] = {...}, ...;`."""
        line = self.token.line
        space = self.next().text[1:]
        align, kind, vector = 0, "", 1
        while self.token.kind == "directive":
            word = self.next().text[1:]
            if word == "align":
                align = self.integer()
            elif word in SIZES:
                kind = word
            elif word in ("v2", "v4"):
                vector = int(word[1])
            elif word not in ("ptr", "global", "shared", "const", "local", "attribute", "unified", "managed"):
                raise PtxError(line, f"unknown attribute .{word} of a variable")
        if not kind:
            raise PtxError(line, "a variable without a type")
        item = SIZES[kind] * vector
        found = []
        while True:
            name = self.name()
            size: int | None = item
            while self.accept("["):
                if self.accept("]"):
                    size = None
                else:
                    size = (size or item) * self.integer()
                    self.expect("]")
            data: bytes | None = None
            pointers: tuple[tuple[int, Symbol], ...] = ()
            if self.accept("="):
                values = self.initializer()
                if size is None:
                    size = item * len(values)
                data, pointers = initial_bytes(values, SIZES[kind], kind, size, line)
            found.append(Variable(name, space, kind, size, align or item, line, data, pointers))
            if not terminated:
                return found
            if not self.accept(","):
                break
        self.expect(";")
        return found

    def initializer(self) -> list[Operand]:
        if self.accept("{"):
            values: list[Operand] = []
            while not self.accept("}"):
                values += self.initializer()
                self.accept(",")
            return values
        if self.token.kind == "name" and self.token.text in ("generic", "mask"):
            self.next()
            self.expect("(")
            value = self.operand()
            self.expect(")")
            return [value]
        return [self.operand()]

    # Function scope.

    def block(self) -> None:
        opened = self.expect("{").line
        self.scopes.append({})
        self.scope_count += 1
        if len(self.scopes) > 1:
            self.declare_labels()
        while not self.accept("}"):
            if self.token.kind == "end":
                raise PtxError(opened, "the block that begins here is not closed")
            self.statement()
        self.scopes.pop()

    def declare(self, name: str) -> str:
        inner = name if len(self.scopes) == 1 else f"{name}@{self.scope_count}"
        self.scopes[-1][name] = inner
        return inner

    def declare_labels(self) -> None:
        """The labels of an inner scope, before its branches: those of inline assembly may repeat."""
        depth, at = 1, self.at
        while depth and self.tokens[at].kind != "end":
            token = self.tokens[at]
            depth += {"{": 1, "}": -1}.get(token.text, 0)
            if depth == 1 and token.kind == "name" and self.tokens[at + 1].text == ":":
                self.declare(token.text)
            at += 1

    def resolve(self, name: str) -> str:
        for scope in reversed(self.scopes):
            if name in scope:
                return scope[name]
        return name

    def statement(self) -> None:
        assert self.function is not None
        token = self.token
        if token.text == "{":
            self.block()
        elif token.text == ".reg":
            self.register_declaration()
        elif token.text in _SPACES:
            for variable in self.variable():
                self.function.variables.append(replace(variable, name=self.declare(variable.name)))
        elif token.text in (".loc", ".file"):
            self.skip_line(token.line)
        elif token.text == ".pragma":
            self.skip_statement()
        elif token.text == ";":
            self.next()
        elif token.kind == "name" and self.tokens[self.at + 1].text == ":":
            self.next()
            self.next()
            if self.accept(".branchtargets"):
                targets = [self.name()]
                while self.accept(","):
                    targets.append(self.name())
                self.expect(";")
                self.function.tables[token.text] = tuple(targets)
            elif self.accept(".callprototype") or self.accept(".calltargets"):
                self.skip_statement()
            else:
                self.function.body.append(Label(self.resolve(token.text), token.line))
        elif token.text == "@" or token.kind == "name":
            self.function.body.append(self.instruction())
        else:
            raise PtxError(token.line, f"unexpected {token.text!r}")

    def register_declaration(self) -> None:
        assert self.function is not None
        line = self.next().line
        kind = self.next().text[1:]
        vector = 1
        if kind in ("v2", "v4"):
            vector, kind = int(kind[1]), self.next().text[1:]
        if kind not in SIZES or vector != 1:
            raise PtxError(line, f"registers of type .{kind} are not supported")
        while True:
            name = self.name()
            names = [name]
            if self.accept("<"):
                names = [f"{name}{i}" for i in range(self.integer())]
                self.expect(">")
            for each in names:
                self.function.registers[self.declare(each)] = kind
            if not self.accept(","):
                break
        self.expect(";")

    def instruction(self) -> Instruction:
        line, guard, negated = self.token.line, None, False
        if self.accept("@"):
            negated = self.accept("!")
            guard = Register(self.resolve(self.name()))
        opcode = tuple(self.name().split("."))
        while self.token.kind == "directive":
            opcode += tuple(self.next().text[1:].split("."))
        operands: list[Operand] = []
        while not self.accept(";"):
            operands.append(self.operand())
            if not self.accept(",") and self.token.text != ";":
                raise PtxError(self.token.line, f"expected ',' or ';', found {self.token.text!r}")
        return Instruction(opcode, tuple(operands), line, guard, negated)

    def operand(self) -> Operand:
        token = self.token
        if token.text == "{":
            self.next()
            return Vector(self.list("}"))
        if token.text == "(":
            self.next()
            return Group(self.list(")"))
        if token.text == "[":
            self.next()
            return self.address()
        if token.text == "!":
            self.next()
            return Negated(Register(self.resolve(self.name())))
        if token.text in ("-", "+") or token.kind in ("int", "float", "bits"):
            return self.number()
        if token.kind != "name":
            raise PtxError(token.line, f"expected an operand, found {token.text or 'the end'!r}")
        first = self.named()
        if self.accept("|"):
            second = self.named()
            if not isinstance(first, Register | Sink) or not isinstance(second, Register | Sink):
                raise PtxError(token.line, "only registers can stand around '|'")
            return Pair(first, second)
        if isinstance(first, Symbol) and self.token.text in ("+", "-"):
            sign = -1 if self.next().text == "-" else 1
            return Symbol(first.name, sign * self.integer())
        return first

    def list(self, end: str) -> tuple[Operand, ...]:
        found: list[Operand] = []
        while not self.accept(end):
            found.append(self.operand())
            if not self.accept(",") and self.token.text != end:
                raise PtxError(self.token.line, f"expected ',' or {end!r}, found {self.token.text!r}")
        return tuple(found)

    def named(self) -> Register | Special | Symbol | Sink:
        written = self.name()
        if written == "_":
            return Sink()
        name = self.resolve(written)
        if self.function is not None and name in self.function.registers:
            return Register(name)
        if written.startswith("%") or written in ("WARP_SZ",):
            return Special(written)
        return Symbol(name)

    def number(self) -> Immediate:
        negative = False
        while self.token.text in ("-", "+"):
            negative ^= self.next().text == "-"
        token = self.next()
        if token.kind == "bits":
            bits, width = int(token.text[2:], 16), 32 if token.text[1] in "fF" else 64
            return Immediate(bits ^ (1 << (width - 1)) if negative else bits, width)
        if token.kind == "float":
            return Immediate(-float(token.text) if negative else float(token.text))
        if token.kind != "int":
            raise PtxError(token.line, f"expected a number, found {token.text!r}")
        value = int(token.text.rstrip("U"), 0)
        return Immediate(-value if negative else value)

    def address(self) -> Address:
        line = self.token.line
        base: Register | Symbol | Immediate
        if self.token.kind == "name":
            found = self.named()
            if not isinstance(found, Register | Symbol):
                raise PtxError(line, "an address starts with a register or a variable")
            base = found
        else:
            base = self.number()
        offset = 0
        while self.token.text in ("+", "-"):
            sign = -1 if self.next().text == "-" else 1
            offset += sign * self.integer()
        coordinates: tuple[Operand, ...] = ()
        if self.accept(","):
            self.expect("{")
            coordinates = self.list("}")
        self.expect("]")
        return Address(base, offset, coordinates)
