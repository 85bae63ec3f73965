"""Reads a criterion: a typed subset of CEL (the Common Expression Language specification, cel.dev).

Taken over: `&& || !`, comparison, `in`, arithmetic, lists, `has()`, `size()`, `duration("5d")`,
`contains startsWith endsWith lower`, indexes, both quotes. Left out: `?:`, macros, regular
expressions, maps that are written out. Length, depth and number of parts have limits, and so does
the time, which is linear.

With `names`, what a criterion asks for has to exist, and types have to fit.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches

from rules.tree import (
    Binary,
    Call,
    Chain,
    Index,
    ListOf,
    Literal,
    Name,
    Node,
    RuleError,
    Unary,
    children,
)
from rules.types import check
from rules.values import read_duration

MAX_LENGTH = 4096
MAX_DEPTH = 50
MAX_NODES = 500

FUNCTIONS = {"has": 1, "size": 1, "duration": 1}
METHODS = {"contains": 1, "startsWith": 1, "endsWith": 1, "lower": 0, "size": 0}
"""With the number of arguments in brackets."""

_TOKEN = re.compile(
    r"""\s*(?:
    (?P<number>[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]{1,3})?)
  | (?P<word>[A-Za-z_][A-Za-z_0-9]*)
  | (?P<text>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')
  | (?P<mark>&&|\|\||==|!=|<=|>=|[-+*/%<>!()\[\],.])
)""",
    re.VERBOSE,
)
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_ESCAPES = {"n": "\n", "t": "\t", "\\": "\\", "'": "'", '"': '"'}
_INSTEAD = {
    "and": "&&", "AND": "&&", "or": "||", "OR": "||", "not": "!", "NOT": "!", "is": "==",
    "True": "true", "False": "false", "None": "null", "NULL": "null",
}  # fmt: skip
_COMPARISONS = ("==", "!=", "<", "<=", ">", ">=", "in")


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    start: int
    end: int


def parse(source: str, names: Mapping[str, str] | None = None) -> Node:
    """The tree of a criterion. Raises `RuleError`.

    `names` are the values that there are with their types (truth, number, text, list, duration,
    time, any); a name that ends in `.*` stands for all below it.
    """
    if len(source) > MAX_LENGTH:
        what = f"The criterion has {len(source)} letters."
        raise RuleError(1, 1, what, f"Keep it under {MAX_LENGTH}.")
    parser = _Parser(source)
    tree = parser.whole()
    if names is not None:
        check(tree, names, parser.error)
    return tree


class _Parser:
    def __init__(self, source: str) -> None:
        self._source = source
        self._tokens = self._split()
        self._here = 0
        self._depth = 0
        self._nodes = 0

    def error(self, start: int, what: str, mend: str) -> RuleError:
        before = self._source[:start]
        line = before.count("\n") + 1
        return RuleError(line, start - (before.rfind("\n") + 1) + 1, what, mend)

    def whole(self) -> Node:
        if self._tokens[0].kind == "end":
            raise self.error(0, "The criterion is empty.", 'Write for example "true".')
        tree = self._expression()
        token = self._token
        if token.kind != "end":
            raise self._unexpected(token)
        waiting = [(tree, 1)]  # A long sum is deep too, though it has no brackets.
        while waiting:
            node, depth = waiting.pop()
            if depth > MAX_DEPTH:
                raise self._too_deep(node.start)
            waiting += [(child, depth + 1) for child in children(node)]
        return tree

    def _split(self) -> list[_Token]:
        tokens: list[_Token] = []
        here, end = 0, len(self._source.rstrip())
        while here < end:
            found = _TOKEN.match(self._source, here, end)
            if found is None:
                here += len(self._source[here:]) - len(self._source[here:].lstrip())
                raise self._unreadable(here)
            kind = found.lastgroup or ""
            tokens.append(_Token(kind, found[kind], found.start(kind), found.end()))
            here = found.end()
        tokens.append(_Token("end", "", end, end))
        return tokens

    def _unreadable(self, here: int) -> RuleError:
        mark = self._source[here]
        if mark in "\"'":
            mend = f"End it with {mark} on the same line."
            return self.error(here, "This text has no end.", mend)
        instead = {"=": "==", "&": "&&", "|": "||", "“": '"', "”": '"', "’": "'"}.get(mark)
        mend = f"Write {instead} here." if instead else "Take it out."
        if mark == "?":
            mend = "There is no ?: here; write two criteria."
        return self.error(here, f'"{mark}" has no meaning here.', mend)

    @property
    def _token(self) -> _Token:
        return self._tokens[self._here]

    def _next(self) -> _Token:
        token = self._token
        self._here += token.kind != "end"
        return token

    def _is(self, *marks: str) -> bool:
        token = self._token
        return token.text in marks and token.kind in ("mark", "word")

    def _expect(self, mark: str, opened: _Token) -> _Token:
        if not self._is(mark):
            line = self.error(opened.start, "", "")
            found = f'"{self._token.text}"' if self._token.text else "the end"
            raise self.error(
                self._token.start,
                f'Here "{mark}" is missing (found {found}).',
                f'Close the "{opened.text}" of column {line.column}.',
            )
        return self._next()

    def _unexpected(self, token: _Token) -> RuleError:
        if token.kind == "end":
            what = "Something is missing at the end."
            return self.error(token.start, what, "Write a value after the last operator.")
        if token.text in _INSTEAD:
            mend = f"Write {_INSTEAD[token.text]} instead."
        elif token.kind in ("number", "text", "word"):
            mend = "Put an operator such as == or && before it."
        else:
            mend = "Put a value before it, or take it out."
        return self.error(token.start, f'"{token.text[:40]}" is not expected here.', mend)

    def _count(self, node: Node) -> Node:
        self._nodes += 1
        if self._nodes > MAX_NODES:
            what = f"The criterion has more than {MAX_NODES} parts."
            raise self.error(node.start, what, "Split it into several.")
        return node

    def _deeper(self) -> None:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise self._too_deep(self._token.start)

    def _too_deep(self, start: int) -> RuleError:
        what = f"This is nested more than {MAX_DEPTH} deep."
        return self.error(start, what, "Split it into several criteria.")

    def _expression(self) -> Node:
        self._deeper()
        node = self._chain("||")
        self._depth -= 1
        return node

    def _chain(self, operator: str) -> Node:
        part = self._comparison if operator == "&&" else lambda: self._chain("&&")
        parts = [part()]
        while self._is(operator):
            self._next()
            parts.append(part())
        if len(parts) == 1:
            return parts[0]
        return self._count(Chain(parts[0].start, parts[-1].end, operator, tuple(parts)))

    def _comparison(self) -> Node:
        left = self._sum()
        if not self._is(*_COMPARISONS):
            return left
        operator = self._next()
        right = self._sum()
        if self._is(*_COMPARISONS):
            raise self.error(
                self._token.start,
                "Two comparisons in a row.",
                f'Write "a {operator.text} b && b {self._token.text} c".',
            )
        return self._count(Binary(left.start, right.end, operator.text, left, right))

    def _sum(self) -> Node:
        node = self._product()
        while self._is("+", "-"):
            operator = self._next().text
            right = self._product()
            node = self._count(Binary(node.start, right.end, operator, node, right))
        return node

    def _product(self) -> Node:
        node = self._unary()
        while self._is("*", "/", "%"):
            operator = self._next().text
            right = self._unary()
            node = self._count(Binary(node.start, right.end, operator, node, right))
        return node

    def _unary(self) -> Node:
        if not self._is("!", "-"):
            return self._member()
        self._deeper()
        mark = self._next()
        of = self._unary()
        self._depth -= 1
        return self._count(Unary(mark.start, of.end, mark.text, of))

    def _member(self) -> Node:
        node = self._primary()
        while self._is(".", "["):
            mark = self._next()
            if mark.text == "[":
                key = self._expression()
                end = self._expect("]", mark).end
                node = self._count(Index(node.start, end, node, key))
                continue
            word = self._next()
            if word.kind != "word":
                mend = "Write the name of a value, or take the dot out."
                raise self.error(word.start, "After the dot a name is missing.", mend)
            if self._is("("):
                node = self._call(word, METHODS, node)
            elif isinstance(node, Name):
                node = Name(node.start, word.end, (*node.path, word.text))
            else:
                key = Literal(word.start, word.end, word.text)
                node = self._count(Index(node.start, word.end, node, key))
        return node

    def _primary(self) -> Node:
        token = self._next()
        if token.kind == "number":
            return self._count(Literal(token.start, token.end, self._number(token)))
        if token.kind == "text":
            return self._count(Literal(token.start, token.end, self._text(token)))
        if token.kind == "word" and token.text not in _INSTEAD and token.text != "in":
            if token.text in ("true", "false", "null"):
                value = {"true": True, "false": False}.get(token.text)
                return self._count(Literal(token.start, token.end, value))
            if self._is("("):
                return self._call(token, FUNCTIONS, None)
            return self._count(Name(token.start, token.end, (token.text,)))
        if token.text == "(" and token.kind == "mark":
            node = self._expression()
            return replace(node, start=token.start, end=self._expect(")", token).end)
        if token.text == "[" and token.kind == "mark":
            items, end = self._list(token, "]")
            return self._count(ListOf(token.start, end, items))
        raise self._unexpected(token)

    def _list(self, opened: _Token, closing: str) -> tuple[tuple[Node, ...], int]:
        items: list[Node] = []
        while not self._is(closing):
            items.append(self._expression())
            if not self._is(","):
                break
            self._next()
        return tuple(items), self._expect(closing, opened).end

    def _call(self, word: _Token, there_are: Mapping[str, int], subject: Node | None) -> Node:
        name, opened = word.text, self._next()
        if name not in there_are:
            near = get_close_matches(name, there_are, 1, 0.5)
            mend = f'Did you mean "{near[0]}"?' if near else f"There are {', '.join(there_are)}."
            if subject is None and name in METHODS:
                mend = f'Write "value.{name}(…)".'
            raise self.error(word.start, f'There is no function "{name}".', mend)
        arguments, end = self._list(opened, ")")
        if len(arguments) != there_are[name]:
            what = f'"{name}" takes {there_are[name]} in its brackets, not {len(arguments)}.'
            raise self.error(word.start, what, "Put in what is missing, or take out the rest.")
        start = word.start
        if subject is not None:
            start, arguments = subject.start, (subject, *arguments)
        if name == "has" and not isinstance(arguments[0], Name | Index):
            mend = 'Write for example "has(contact.name)".'
            raise self.error(arguments[0].start, '"has" asks for a name.', mend)
        if name == "duration":
            self._check_duration(arguments[0])
        return self._count(Call(start, end, name, arguments))

    def _check_duration(self, node: Node) -> None:
        if isinstance(node, Literal) and (
            not isinstance(node.value, str) or read_duration(node.value) is None
        ):
            mend = 'Write a whole number with s, m, h, d or w, for example duration("5d").'
            raise self.error(node.start, "This is not a duration.", mend)

    def _number(self, token: _Token) -> int | float:
        if len(token.text) > 18:
            mend = "Write at most 18 digits."
            raise self.error(token.start, "This number is too long.", mend)
        number = float(token.text) if set(token.text) & set(".eE") else int(token.text)
        if number == float("inf"):
            raise self.error(token.start, "This number is too large.", "Write a smaller one.")
        return number

    def _text(self, token: _Token) -> str:
        def plain(found: re.Match[str]) -> str:
            if found[1] not in _ESCAPES:
                mend = r"There are \n, \t, \\, \' and \"."
                place = token.start + 1 + found.start()
                raise self.error(place, f'"{found[0]}" has no meaning.', mend)
            return _ESCAPES[found[1]]

        return _ESCAPE.sub(plain, token.text[1:-1])
