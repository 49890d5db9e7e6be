"""Options in dataclasses: defaults, and names that are not known."""

from dataclasses import dataclass

import pytest

from labutils.core.options import read_options


@dataclass(frozen=True)
class Sizes:
    width: int = 3
    height: int = 4

    def __post_init__(self) -> None:
        if self.width < 1:
            raise ValueError(f"width={self.width} must be at least 1.")


def test_what_is_not_given_has_its_default() -> None:
    assert (
        read_options(Sizes, {"height": 5}, of="a box") == Sizes(3, 5) and read_options(Sizes, {}, of="a box") == Sizes()
    )


def test_what_cannot_be_used_is_refused() -> None:
    with pytest.raises(
        ValueError, match=r"a box has no option 'widht'\. Did you mean 'width'\? Options: width, height"
    ):
        read_options(Sizes, {"widht": 5}, of="a box")
    with pytest.raises(ValueError, match=r"has no option 'q'\. Options"):
        read_options(Sizes, {"q": 5}, of="a box")
    with pytest.raises(ValueError, match="width=0"):
        read_options(Sizes, {"width": 0}, of="a box")
