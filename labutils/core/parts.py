"""The part behind the `#` of a name: a split of a data set, or a whole file; names of files may hold the sign too."""

from labutils.core import paths


def split_part(name: str) -> tuple[str, str]:
    """A name and what stands behind its last `#`; the part is empty where there is none.

    A file or folder that has the whole name wins, and a part never holds a slash.

    >>> split_part("owner/corpus#validation")
    ('owner/corpus', 'validation')
    """
    before, sign, part = name.rpartition("#")
    if not sign or "/" in part or _exists(name):
        return name, ""
    return before, part


def _exists(name: str) -> bool:
    try:
        paths.find_file(name)
    except (LookupError, OSError, ValueError):  # nothing there, or no possible name: too long, a NUL in it
        return False
    return True
