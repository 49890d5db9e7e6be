"""Public names of a package that are loaded when first used, and names that have moved."""

import warnings
from collections.abc import Callable, Collection, Mapping
from importlib import import_module

import lazy_loader

from labutils.core.options import suggest

Homes = Mapping[str, Collection[str]]


def attach(
    package: str,
    homes: Homes,
    *,
    rooms: Collection[str] = (),
    moved: Mapping[str, str] | None = None,
    gone: Mapping[str, str] | None = None,
) -> tuple[Callable[[str], object], Callable[[], list[str]], list[str]]:
    """`__getattr__`, `__dir__` and `__all__` of a package, as `lazy_loader.attach` makes them.

        __getattr__, __dir__, __all__ = attach(__name__, {"loading": ["load_model"]}, rooms=["modes"])

    Args:
        package: its `__name__`.
        homes: module inside the package → the public names that it defines.
        rooms: submodules that are public themselves.
        moved: names that are no longer public here → where they are now, as "stats" (a room, by the same name) or
            "sweeps:SweepSizes" (by another). They keep working, with a DeprecationWarning that says so.
        gone: names that work no more → what takes their place, for the message.
    """
    moved, gone = moved or {}, gone or {}
    load, listed, public = lazy_loader.attach(
        package, submodules=rooms, submod_attrs={m: [*n] for m, n in homes.items()}
    )

    def find(name: str) -> object:
        if name in moved:
            room, _, renamed = moved[name].partition(":")
            warnings.warn(
                f"{package}.{name} is now labutils.{room}.{renamed or name}", DeprecationWarning, stacklevel=2
            )
            return getattr(import_module(f"labutils.{room}"), renamed or name)
        if name in gone:
            raise AttributeError(f"{package}.{name} is gone. Use {gone[name]}.")
        if name not in public:
            hint = suggest(name, public)
            raise AttributeError(f"{package} has no {name!r}.{hint} Public names: {', '.join(public)}.")
        return load(name)

    return find, listed, public
