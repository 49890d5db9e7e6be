"""Published values are whole, and those that can be measured here come out as the file says."""

import pytest
import yaml

import labutils as lab
from labutils.claims.published import PAGE, VALUES, published_page, published_values

CONTENT = yaml.safe_load(VALUES.read_text())
MEASURED = [entry for entry in CONTENT["values"] if "measured" in entry]


def test_every_value_says_where_it_is_from_and_how_it_was_found():
    table = published_values()
    assert len(table) == len(CONTENT["values"]) and table[["setting", "source"]].map(len).min().min() > 10
    assert not table.duplicated(["model", "quantity", "pruning", "setting"]).any()
    assert set(CONTENT["settings"]) == {entry["setting"] for entry in CONTENT["values"]}
    assert set(CONTENT["sources"]) == {entry["source"] for entry in CONTENT["values"]}


def test_perplexities_and_shares_are_of_the_right_size():
    table = published_values()
    perplexity = table["quantity"] == "perplexity"
    assert (table.loc[perplexity, "value"] > 1).all() and table.loc[~perplexity, "value"].between(0, 1).all()
    for _, group in table[perplexity].groupby(["model", "setting"]):
        dense = group.loc[group["pruning"] == "dense", "value"]
        assert dense.empty or dense.item() == group["value"].min()


def test_the_page_is_fresh():
    assert PAGE.read_text() == published_page()


def test_an_unknown_model_is_refused_with_the_nearest():
    with pytest.raises(LookupError, match="opt-125m"):
        published_values("facebook/opt125m")


def test_a_setting_that_is_not_explained_is_refused(tmp_path):
    entry = CONTENT["values"][0] | {"setting": "as usual"}
    (tmp_path / "values.yaml").write_text(yaml.safe_dump(CONTENT | {"values": [entry]}))
    with pytest.raises(ValueError, match="'as usual' is not among its settings"):
        published_values(path=tmp_path / "values.yaml")


@pytest.mark.parametrize("entry", MEASURED, ids=lambda entry: entry["quantity"])
def test_what_can_be_measured_here_comes_out_as_stated(entry, real_data):
    """Float32 sums in another order leave Spearman's ρ alone but for a swap of near ties: 2e-4 of 100 pairs."""
    source = entry["measured"]["model"]
    pytest.importorskip(source.removeprefix("package:").replace("-", "_"))
    model, tokenizer = lab.load_model(source)
    scores = lab.score_similarity(model, tokenizer, lab.load_task(entry["measured"]["task"]).items)
    found = scores["gold"].corr(scores["predicted"], method="spearman")
    assert found == pytest.approx(entry["measured"]["value"], abs=2e-4)
