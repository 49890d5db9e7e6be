"""Tables as Parquet files: columns of several kinds become text, in full and in slim files alike."""

import pandas as pd
import pytest

from labutils.core.parquet import frame_to_parquet, read_slim, slim_parquet

MIXED = [
    (["uniform", [0.5, 0.6]], ["uniform", "[0.5, 0.6]"]),
    ([1, "two"], ["1", "two"]),
    ([True, 0.5], ["true", "0.5"]),
    ([None, "a", {"b": 1}], [None, "a", '{"b": 1}']),
    (["text", b"bytes"], ["text", "\"b'bytes'\""]),
]


@pytest.mark.parametrize(("values", "texts"), MIXED)
def test_a_column_of_several_kinds_is_written_as_text(values: list, texts: list) -> None:
    frame = pd.DataFrame({"mixed": pd.Series(values, dtype=object), "loss": 0.1})
    found = read_slim(slim_parquet(frame))
    assert [value if isinstance(value, str) else None for value in found["mixed"]] == texts
    assert found["loss"].tolist() == [0.1] * len(values)
    assert frame["mixed"].tolist() == values  # the table that was given is not changed


@pytest.mark.parametrize("write", [frame_to_parquet, slim_parquet])
def test_what_parquet_cannot_hold_is_named(write) -> None:
    with pytest.raises(ValueError, match=r"the rows fit no Parquet file: .*odd"):
        write(pd.DataFrame({"odd": [[1, "a"]]}))
    with pytest.raises(ValueError, match=r"the rows fit no Parquet file: .*odd"):
        write(pd.DataFrame({"odd": [object(), object()]}))


def test_two_columns_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="two columns are named 'loss'"):
        slim_parquet(pd.DataFrame([[0.1, 0.2]], columns=["loss", "loss"]))
