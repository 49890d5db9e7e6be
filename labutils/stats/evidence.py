"""What an interval was computed from, kept with it: any reader can compute it once more from these rows alone."""

import functools
import importlib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, is_dataclass, replace
from typing import Any, TypeVar

import pandas as pd

PACKAGE = "labutils."
STATISTICS = "labutils.stats."  # where functions and values stand that may be arguments
MARK = "keeps_evidence"  # attribute of functions that evidence may name

Made = TypeVar("Made")


@dataclass(frozen=True)
class Evidence:
    """A function of a frame, with the frame and all other arguments.

    Attributes:
        function: its dotted name; one that `keeps_evidence`.
        part: the attribute of the result that is the interval; empty where the result is.
        options: the other arguments, as JSON can hold them.
        more: further tables among the arguments, by the argument's name.
    """

    function: str
    part: str
    frame: pd.DataFrame
    options: Mapping[str, Any]
    more: Mapping[str, pd.DataFrame] = field(default_factory=dict)

    def recompute(self) -> Any:
        """The interval once more.

        Raises:
            ValueError: the function named is none of the package's that keep evidence.
        """
        function = _find(self.function)
        options = {name: _revive(value) for name, value in self.options.items()}
        made = function(self.frame, **options, **self.more)
        return getattr(made, self.part) if self.part else made

    def parameters(self) -> list[str]:
        """The names of all arguments that the function takes beside the frame; raises as `recompute`."""
        return list(inspect.signature(_find(self.function)).parameters)[1:]


def keeps_evidence(part: str = "") -> Callable[[Callable[..., Made]], Callable[..., Made]]:
    """Decorator of a function from a frame to an interval, which then carries its evidence.

        @keeps_evidence()
        def crossed_bootstrap(differences, statistic="mean", *, level=0.95): ...

    Where an argument is a function of one's own, which no file can hold, the interval carries none.

    Args:
        part: where the function returns more than the interval, the attribute that is it.
    """

    def decorate(function: Callable[..., Made]) -> Callable[..., Made]:
        signature = inspect.signature(function)
        name = f"{function.__module__}.{function.__qualname__}"

        @functools.wraps(function)
        def call(*arguments: Any, **options: Any) -> Made:
            made = function(*arguments, **options)
            bound = dict(signature.bind(*arguments, **options).arguments)
            frame = bound.pop(next(iter(signature.parameters)))
            more = {name: value for name, value in bound.items() if isinstance(value, pd.DataFrame)}
            plain = {name: _plain(value) for name, value in bound.items() if name not in more}
            kept = None if _holds_none(plain) else Evidence(name, part, frame, plain, more)
            return _with_evidence(made, part, kept)

        setattr(call, MARK, True)
        return call

    return decorate


def _with_evidence(made: Any, part: str, evidence: Evidence | None) -> Any:
    if not part:
        return replace(made, evidence=evidence)
    interval = replace(getattr(made, part), evidence=evidence)
    return replace(made, **{part: interval}) if is_dataclass(made) else made._replace(**{part: interval})


_NONE = "no file can hold this"


def _plain(value: Any) -> Any:
    """An argument as JSON can hold it: a statistic of the package is written by its name and fields."""
    if is_dataclass(value) and type(value).__module__.startswith(STATISTICS):
        return {"made by": f"{type(value).__module__}.{type(value).__qualname__}", **asdict(value)}
    if callable(value):
        name = f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', '')}"
        return {"function": name} if name.startswith(STATISTICS) and "<" not in name else _NONE
    if isinstance(value, Mapping):
        return {key: _plain(entry) for key, entry in value.items()}
    value = value.tolist() if hasattr(value, "tolist") else value
    if isinstance(value, list | tuple | set):
        return [_plain(entry) for entry in value]
    return value if value is None or isinstance(value, str | int | float | bool) else _NONE


def _holds_none(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(map(_holds_none, value.values()))
    return any(map(_holds_none, value)) if isinstance(value, list) else value == _NONE


def _revive(value: Any) -> Any:
    if isinstance(value, Mapping) and "made by" in value:
        made = _statistic(value["made by"])
        if not (isinstance(made, type) and is_dataclass(made)):
            raise ValueError(f"{value['made by']} is not a statistic that rows can be judged by")
        return made(**{name: _revive(entry) for name, entry in value.items() if name != "made by"})
    if isinstance(value, Mapping) and set(value) == {"function"}:
        return _statistic(value["function"])
    return tuple(map(_revive, value)) if isinstance(value, list) else value


def _find(name: str) -> Callable[..., Any]:
    found = _named(name)
    if not getattr(found, MARK, False):
        raise ValueError(f"{name} makes no interval from kept rows")
    return found


def _statistic(name: str) -> Callable[..., Any]:
    """A statistic of `labutils.stats`: kept rows may name nothing else, since what they name is called."""
    module = name.rpartition(".")[0]
    if not module.startswith(STATISTICS) or getattr(found := _named(name), "__module__", "") != module:
        raise ValueError(f"{name} is not a statistic that rows can be judged by")
    return found


def _named(name: str) -> Callable[..., Any]:
    module, _, attribute = name.rpartition(".")
    if not module.startswith(PACKAGE):
        raise ValueError(f"{name} is not a function of this package")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"{name} is not there; these rows were kept by another version") from error
