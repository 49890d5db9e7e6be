"""The reference: a page per room with every public name, in reStructuredText for Sphinx's autodoc."""

import inspect
from types import ModuleType

HEAD = """Reference
=========

Every public name, by the room that it lives in. At the top of the package, as ``labutils.<name>``, stand the names that
most work begins with: {top}.

.. toctree::
   :maxdepth: 1

{pages}
"""


def public_names(module: ModuleType) -> dict[str, object]:
    """The public names of a room, and of the rooms inside it, by their path in the package.

    >>> list(public_names(labutils.pruning))[:2]
    ['pruning.Allocation', 'pruning.MatrixMethod']
    """
    found = {}
    for name in sorted(module.__all__):
        value = getattr(module, name)
        if inspect.ismodule(value):
            if hasattr(value, "__all__"):
                found |= public_names(value)
        else:
            found[f"{module.__name__.removeprefix('labutils.')}.{name}"] = value
    return found


def rooms(package: ModuleType) -> dict[str, ModuleType]:
    """The rooms of the package in its own order.

    >>> list(rooms(labutils))[:2]
    ['core', 'stats']
    """
    return {name: getattr(package, name) for name in package._ROOMS}


def write_index(package: ModuleType) -> str:
    """The first page of the reference."""
    homes = {id(value): path for room in rooms(package).values() for path, value in public_names(room).items()}
    top = [name for name in sorted(package.__all__) if name not in rooms(package)]
    told = [f":py:obj:`~labutils.{homes.get(id(getattr(package, name)), name)}`" for name in top]
    return HEAD.format(top=", ".join(told), pages="\n".join(f"   {name}" for name in rooms(package)))


def write_room(name: str, room: ModuleType) -> str:
    """The page of one room: what it is for, then a directive per name."""
    lines = [name, "=" * len(name), "", f".. automodule:: {room.__name__}", "   :no-members:", ""]
    for path, value in public_names(room).items():
        lines += _directive(f"labutils.{path}", value)
    return "\n".join(lines) + "\n"


def _directive(path: str, value: object) -> list[str]:
    short = path.rpartition(".")[2]
    heading = [short, "-" * len(short), ""]
    if inspect.isclass(value):
        return [*heading, f".. autoclass:: {path}", "   :members:", ""]
    if callable(value):
        return [*heading, f".. autofunction:: {path}", ""]
    return [*heading, f".. py:data:: {path}", "", f"   ``{_short(value)}``", ""]


def _short(value: object) -> str:
    text = " ".join(repr(value).split()).replace("`", "'")
    return text if len(text) <= 200 else text[:200] + " …"
