"""Names of scores, methods and allocations, and what they stand for."""

import dataclasses
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from numbers import Integral, Real
from typing import Generic, TypeVar

from labutils.core.options import suggest

Item = TypeVar("Item")
NO_OPTION = {"option": False}  # metadata of a field that is no option of `prune`


class Registry(Mapping[str, Item], Generic[Item]):
    """A mapping from names to what is registered under them; an unknown name is answered with the nearest one."""

    def __init__(self, noun: str):
        """`noun` says in messages what is registered here: "score"."""
        self.noun, self._items = noun, {}

    def __getitem__(self, name: str) -> Item:
        if name not in self._items:
            raise LookupError(self.explain_unknown(name, self._items))
        return self._items[name]

    def __contains__(self, name: object) -> bool:
        return name in self._items

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def add(self, name: str, item: Item) -> None:
        """Register; raises ValueError where the name is taken."""
        self.refuse_taken(name)
        self._items[name] = item

    def refuse_taken(self, name: str) -> None:
        """Raises a ValueError where the name is taken."""
        if name in self._items:
            raise ValueError(
                f"There is a {self.noun} {name!r} already. Choose another name. Registered: {', '.join(self._items)}."
            )

    def replace(self, items: Mapping[str, Item]) -> None:
        """Let exactly these be registered."""
        self._items = dict(items)

    @contextmanager
    def restored(self) -> Iterator[None]:
        """What is registered while this lasts is forgotten afterwards."""
        before = dict(self._items)
        try:
            yield
        finally:
            self._items = before

    def explain_unknown(self, name: str, known: Mapping | list[str], end: str = "") -> str:
        """The message about a name that is not known."""
        return f"There is no {self.noun} {name!r}.{suggest(name, known)} Known: {', '.join(known)}{end}."


def option_names(kind: object) -> list[str]:
    """The options of a method or an allocation: the fields of its dataclass; none where it is no dataclass.

    Of a `partial` of a class these are the fields that are left to choose.
    """
    return [field.name for field in _option_fields(kind)]


def _option_fields(kind: object) -> list[dataclasses.Field]:
    made, given = (kind.func, len(kind.args)) if isinstance(kind, partial) else (kind, 0)
    if not dataclasses.is_dataclass(made):
        return []
    return [field for field in dataclasses.fields(made)[given:] if field.metadata.get("option", True)]


def own_options(item: object) -> dict[str, object]:
    """The values of these options."""
    return {name: getattr(item, name) for name in option_names(item)}


def check_values(kind: object, given: Mapping[str, object]) -> None:
    """Refuse a value that is not of its option's type, which its default tells; an option without one may be anything.

    Raises:
        ValueError: it says what the option must be.
    """
    for field in _option_fields(kind):
        if field.name not in given:
            continue
        value, default = given[field.name], field.default
        if isinstance(default, bool):
            fits, what = isinstance(value, bool), "True or False"
        elif isinstance(default, str):
            fits, what = isinstance(value, str), "a string"
        elif isinstance(default, Real):
            whole = field.type in (int, "int")
            fits = isinstance(value, Integral if whole else Real) and not isinstance(value, bool)
            what = "a whole number" if whole else "a number"
        elif field.type in (bool | None, "bool | None"):
            fits, what = value is None or isinstance(value, bool), "True, False or None"
        else:
            continue
        if not fits:
            raise ValueError(f"{field.name}={value!r} must be {what}.")
