"""The grammar of model formulas: from text to a tree.

Operators, from the one that binds most to the one that binds least, are those of R:

    x^2        power: inside I(...) the arithmetic one; outside, all products of terms up to that order
    -x         sign
    a:b        the interaction of a and b alone
    a*b, a/b   a + b + a:b, and a + a:b
    a + b      both; `- b` takes a term out again, `- 1` and `0` the intercept
    x | g      x varies over the levels of g; `||` without correlations
    y ~ x      y is explained by x

A column whose name is not a plain word is written between backquotes, as `word length`, or `7` for a column called by
that number. Inside a call such as I(...) or log(...) the
operators + - * / ^ are arithmetic.
"""

import re
from dataclasses import dataclass

# How strongly an operator binds its operands; a power binds to the right, everything else to the left.
BINDING = {"~": 1, "|": 2, "||": 2, "+": 3, "-": 3, "*": 4, "/": 4, ":": 5, "^": 7}
SIGN_BINDING = 6
DEEPEST = 100  # parentheses, signs and powers inside one another
_PLAIN_NAME = r"[^\W\d][\w.]*"
_TOKEN = re.compile(
    rf"\s*(?:(?P<number>(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)|(?P<name>{_PLAIN_NAME})|`(?P<quoted>[^`]+)`"
    r"|(?P<operator>\|\||\*\*|[-+*/:^|~()]))"
)


@dataclass(frozen=True)
class Node:
    """One node of the tree.

    Attributes:
        kind: "name" (a column), "number", "call" (of a function of one argument) or "operation".
        text: the column, the digits, the function or the operator.
        parts: the argument, the operands; empty for names and numbers.
    """

    kind: str
    text: str
    parts: tuple["Node", ...] = ()

    def __str__(self) -> str:
        """The spelling that R gives, and by which coefficients are called: "I(age^2)", "log(x + 1)"."""
        if self.kind == "call":
            return f"{self.text}({self.parts[0]})"
        if self.kind != "operation":
            return self.text
        if len(self.parts) == 1:
            return f"{self.text}{self._operand(self.parts[0], SIGN_BINDING)}"
        own = BINDING[self.text]
        left, right = self._operand(self.parts[0], own + (self.text == "^")), self._operand(self.parts[1], own + 1)
        return f"{left}{self.text}{right}" if self.text in (":", "/", "^") else f"{left} {self.text} {right}"

    def _operand(self, part: "Node", least: int) -> str:
        """An operation inside another one keeps its parentheses, unless it binds at least as strongly as `least`."""
        if part.kind != "operation":
            return str(part)
        binding = BINDING[part.text] if len(part.parts) == 2 else SIGN_BINDING
        return str(part) if binding >= least else f"({part})"

    def columns(self) -> list[str]:
        """The columns that the tree names, in order of appearance, each once."""
        if self.kind == "name":
            return [self.text]
        return list(dict.fromkeys(name for part in self.parts for name in part.columns()))


def quote_name(name: str) -> str:
    """A column's name as a formula writes it: between backquotes where it is not a plain word; none may be in it."""
    if "`" in name:
        raise ValueError(f"The column {name!r} has a backquote in its name, which no formula can write: rename it.")
    return name if name.isidentifier() else f"`{name}`"


def parse(text: str) -> Node:
    """The tree of a formula.

    Raises:
        ValueError: the text is not a formula; the message marks the place.
    """
    if not isinstance(text, str):
        raise ValueError(f"A formula is a text such as 'y ~ x + (1 | g)', not {text!r:.80}.")
    parser = _Parser(text)
    tree = parser.expression(0)
    if not parser.at_end():
        raise parser.error("expected an operator or the end (a column's name with a space in it stands in backquotes)")
    return tree


class _Parser:
    """Precedence climbing over the tokens of one text."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens = list(self._split())
        self.position = 0
        self.depth = 0

    def _split(self) -> list[tuple[str, str, int]]:
        """Kind, text and place of every token."""
        tokens, place = [], 0
        while self.text[place:].strip():
            found = _TOKEN.match(self.text, place)
            if found is None:
                place += len(self.text[place:]) - len(self.text[place:].lstrip())
                raise self._error_at(place, "a formula has names, numbers, parentheses and ~ + - * / : ^ |")
            kind = str(found.lastgroup)
            tokens.append((kind, found[kind].replace("**", "^"), found.start(kind)))
            place = found.end()
        return tokens

    def at_end(self) -> bool:
        return self.position == len(self.tokens)

    def peek(self, *operators: str) -> bool:
        """Is the next token one of these operators (any operator, where none is named)?"""
        if self.at_end() or self.tokens[self.position][0] != "operator":
            return False
        return self.tokens[self.position][1] in (operators or BINDING)

    def take(self) -> str:
        self.position += 1
        return self.tokens[self.position - 1][1]

    def expression(self, least: int) -> Node:
        """Everything from here on that is held together by operators binding at least as strongly as `least`."""
        if self.depth == DEEPEST:
            raise self.error(f"more than {DEEPEST} parts are nested in one another")
        self.depth += 1
        left = self.operand()
        while self.peek() and BINDING[self.tokens[self.position][1]] >= least:
            operator = self.take()
            right = self.expression(BINDING[operator] + (operator != "^"))
            left = Node("operation", operator, (left, right))
        self.depth -= 1
        return left

    def operand(self) -> Node:
        if self.peek("+", "-"):
            return Node("operation", self.take(), (self.expression(SIGN_BINDING),))
        if self.peek("~") and self.position == 0:
            raise self.error("the response is missing: write response ~ predictors + (1 | group)")
        if self.peek("("):
            return self.parenthesis()
        if self.at_end() or self.tokens[self.position][0] == "operator":
            raise self.error("expected a column, a number or a parenthesis")
        kind = self.tokens[self.position][0]
        text = self.take()
        if kind == "name" and self.peek("("):
            return Node("call", text, (self.parenthesis(),))
        return Node("number" if kind == "number" else "name", text)

    def parenthesis(self) -> Node:
        self.take()
        inside = self.expression(0)
        if not self.peek(")"):
            raise self.error("expected ')'")
        self.take()
        return inside

    def error(self, what: str) -> ValueError:
        return self._error_at(len(self.text) if self.at_end() else self.tokens[self.position][2], what)

    def _error_at(self, place: int, what: str) -> ValueError:
        return ValueError(f"The formula cannot be read, {what}:\n  {self.text}\n  {' ' * place}^")
