"""Public names of a package that are loaded when first used, and names that have moved."""

import warnings
from collections.abc import Callable, Collection, Mapping
from importlib import import_module

import lazy_loader

Homes = Mapping[str, Collection[str]]


def attach(
    package: str, homes: Homes, *, rooms: Collection[str] = (), moved: Mapping[str, str] | None = None
) -> tuple[Callable[[str], object], Callable[[], list[str]], list[str]]:
    """`__getattr__`, `__dir__` and `__all__` of a package, as `lazy_loader.attach` makes them.

        __getattr__, __dir__, __all__ = attach(__name__, {"loading": ["load_model"]}, rooms=["modes"])

    Args:
        package: its `__name__`.
        homes: module inside the package → the public names that it defines.
        rooms: submodules that are public themselves.
        moved: names that are no longer public here → the room of `labutils` that has them now. They keep working, with
            a DeprecationWarning that says so.
    """
    moved = moved or {}
    load, listed, public = lazy_loader.attach(
        package, submodules=rooms, submod_attrs={m: [*n] for m, n in homes.items()}
    )

    def find(name: str) -> object:
        if name in moved:
            warnings.warn(f"{package}.{name} is now labutils.{moved[name]}.{name}", DeprecationWarning, stacklevel=2)
            return getattr(import_module(f"labutils.{moved[name]}"), name)
        if name not in public:
            raise AttributeError(f"{package} has no {name!r}. Public names: {', '.join(public)}.")
        return load(name)

    return find, listed, public
