"""YAML as its version 1.2 reads it, for parameters, profiles, registries and lists of words.

PyYAML resolves YAML 1.1, in which `no` is False, `1:30` is 90, `010` is 8 and `1e-3` is a text. Here scalars are those
of the core schema (YAML 1.2.2, section 10.3.2).
"""

import re
from collections.abc import Hashable
from typing import Any

import yaml

# Python refuses to write or read longer whole numbers in decimal digits.
MOST_DIGITS = 1000
NULL, BOOL = r"~|null|Null|NULL|", r"true|True|TRUE|false|False|FALSE"
INT = r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+"
FLOAT = r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"
NUMBERS = (("int", INT, "-+0123456789"), ("float", FLOAT, "-+.0123456789"))


def parse_yaml(text: str, *, name: str = "", words: bool = False) -> Any:
    """Parse YAML 1.2 scalars and collections, in which `no` is a word and `1e-3` a number.

    >>> parse_yaml("{rates: [010, 1e-3, 0x10], ask: no}")
    {'rates': [10, 0.001, 16], 'ask': 'no'}

    Args:
        name: of the file the text comes from, for messages.
        words: `null` and `true` are words like others, as in a list of words.

    Raises:
        ValueError: the text is no YAML, or a mapping has a key twice; the message names file and line.
    """
    try:
        return yaml.load(text, Loader=_WordLoader if words else _CoreLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"line {mark.line + 1}, column {mark.column + 1}" if mark else "its end"
        told = " ".join(filter(None, [error.context, error.problem]))
        raise ValueError(f"{f'{name}, ' if name else 'not valid YAML: '}{place}: {told}") from None
    except yaml.YAMLError as error:  # a character that YAML does not allow
        raise ValueError(f"{name or 'not valid YAML'}: {' '.join(str(error).split())}") from None
    except RecursionError:
        raise ValueError(f"{name or 'not valid YAML'}: lists or mappings stand too deep inside each other") from None


class _NumberLoader(yaml.SafeLoader):
    """Resolves the numbers of the core schema; PyYAML's own constructors read them by YAML 1.1."""

    yaml_implicit_resolvers: dict = {}

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """A mapping, in which no key may stand twice: of two values one would be lost without a word."""
        seen = set()
        for key_node, _ in node.value:
            key = (key_node.tag, key_node.value) if isinstance(key_node, yaml.ScalarNode) else None
            if key is not None and key in seen:
                told = f"the key {key_node.value!r} stands here a second time"
                raise yaml.constructor.ConstructorError(None, None, told, key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        """Decimal, `0o17` or `0x1f`; a leading zero alone says nothing."""
        digits = self._scalar(node, INT, "a whole number")
        if len(digits) > MOST_DIGITS:
            told = f"a whole number of {len(digits)} digits; at most {MOST_DIGITS} are read"
            raise yaml.constructor.ConstructorError(None, None, told, node.start_mark)
        return int(digits, {"0o": 8, "0x": 16}.get(digits[:2], 10))

    def construct_yaml_float(self, node: yaml.ScalarNode) -> float:
        """Decimal, `.inf` or `.nan`."""
        return float(re.sub(r"\.(?=[iInN])", "", self._scalar(node, f"{INT}|{FLOAT}", "a number")))

    def construct_yaml_bool(self, node: yaml.ScalarNode) -> bool:
        """`true` or `false`."""
        return self._scalar(node, BOOL, "true or false").lower() == "true"

    def _scalar(self, node: yaml.ScalarNode, pattern: str, what: str) -> str:
        """The text of a scalar; a tag written by hand, as in `!!int x`, may promise what the text does not hold."""
        text = self.construct_scalar(node)
        if not re.fullmatch(pattern, text):
            raise yaml.constructor.ConstructorError(None, None, f"{text!r} is not {what}", node.start_mark)
        return text


class _WordLoader(_NumberLoader):
    """Numbers are numbers; all else is a word."""


class _CoreLoader(_NumberLoader):
    """The core schema."""


for _loader, _scalars in (
    (_CoreLoader, (("null", NULL, ["~", "n", "N", ""]), ("bool", BOOL, [*"tTfF"]), *NUMBERS)),
    (_WordLoader, NUMBERS),
):
    for _kind, _pattern, _first in _scalars:
        _loader.add_implicit_resolver(f"tag:yaml.org,2002:{_kind}", re.compile(rf"(?:{_pattern})\Z"), [*_first])
# Tags that the core schema does not have, such as PyYAML's `!!timestamp`, are unknown.
_KINDS = ("null", "bool", "int", "float", "str", "seq", "map")
_CONSTRUCT = {kind: getattr(_NumberLoader, f"construct_yaml_{kind}") for kind in _KINDS}
_NumberLoader.yaml_constructors = {f"tag:yaml.org,2002:{kind}": construct for kind, construct in _CONSTRUCT.items()}
_NumberLoader.add_constructor(None, _NumberLoader.construct_undefined)
