"""Tables of this collection, compared as logs are: the same numbers from frame and file, and what is refused."""

import numpy as np
import pandas as pd
import pytest

import labutils as lab


def own_table(seed: int, n: int = 30) -> pd.DataFrame:
    generator = np.random.default_rng(seed)
    right = generator.random(n) < 0.6
    return pd.DataFrame(
        {"item": range(n), "gold": np.arange(n) % 4, "correct": right, "margin": generator.normal(size=n)}
    )


@pytest.mark.parametrize(("added", "p"), [(0.0, 1.0), (0.25, 2.0**-29), (-0.25, 2.0**-29)])
def test_items_that_all_differ_alike_have_no_spread_to_resample(added: float, p: float) -> None:
    a = own_table(0)
    row = lab.compare_logs(a, a.assign(margin=a["margin"] + added), metrics=["margin"]).table.iloc[0]
    assert row["difference"] == pytest.approx(added) and row["p"] == pytest.approx(p)
    assert row[["low", "high", "smallest_visible"]].isna().all()
    clustered = lab.compare_logs(a.assign(passage=a["item"] // 3), a.assign(passage=0), cluster="passage").table
    assert clustered[["low", "high", "smallest_visible"]].isna().all(axis=None)


def test_tables_of_this_collection_are_logs_too(tmp_path) -> None:
    a, b = own_table(0), own_table(1)
    found = lab.compare_logs(a, b, metrics=["correct", "margin"])
    first = found.table.set_index("metric").loc["correct"]
    assert first["lost"] == (a["correct"] & ~b["correct"]).sum()
    assert found.table.set_index("metric").loc["margin", "difference"] == pytest.approx(
        (b["margin"] - a["margin"]).mean()
    )
    a.to_parquet(tmp_path / "a.parquet")
    b.to_csv(tmp_path / "b.csv", index=False)
    again = lab.compare_logs(tmp_path / "a.parquet", tmp_path / "b.csv")
    assert again.table["difference"].iloc[0] == first["difference"]


def test_tables_of_other_items_are_refused() -> None:
    a, b = own_table(0), own_table(1)
    with pytest.raises(ValueError, match="different items: one id stands for two"):
        lab.compare_logs(a, b.assign(gold=0))
    with pytest.raises(ValueError, match="1 values are only in A"):
        lab.compare_logs(a, b.iloc[1:])
    with pytest.raises(ValueError, match="choose one sparsity first"):
        lab.compare_logs(a, pd.concat([b.assign(sparsity=s) for s in (0.5, 0.6)]))
    with pytest.raises(LookupError, match="'margins'. Did you mean 'margin'"):
        lab.compare_logs(a, b, metrics=["margins"])
    with pytest.raises(LookupError, match="neither score nor correct"):
        lab.compare_logs(a[["item", "margin"]], b)
    with pytest.raises(ValueError, match="not finite"):
        lab.compare_logs(a, b.assign(correct=np.nan))
    with pytest.raises(ValueError, match="one item alone"):
        lab.compare_logs(a.iloc[:1], b.iloc[:1])


def test_tables_that_tell_of_items_nothing_but_ids_say_so_and_those_that_tell_more_are_checked() -> None:
    a, b = (own_table(seed).drop(columns="gold") for seed in (0, 1))
    assert "could not be checked" in str(lab.compare_logs(a, b))
    prompts = [f"question {number}" for number in range(len(a))]
    asked = [frame.assign(prompt=prompts) for frame in (a, b)]
    assert not lab.compare_logs(*asked).unchecked
    with pytest.raises(ValueError, match="different items: one id stands for two"):
        lab.compare_logs(asked[0], asked[1].assign(prompt=prompts[::-1]))
    listed = a.assign(choices=[["yes", "no"]] * len(a))
    assert not lab.compare_logs(listed, listed.assign(choices=[np.array(["yes", "no"])] * len(a))).unchecked
