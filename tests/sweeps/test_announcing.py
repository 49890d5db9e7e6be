"""A long sweep tells beforehand what it takes; a short one says nothing."""

import logging

import pytest

import labutils as lab
from labutils.pruning.grid import expand_requests
from labutils.sweeps import announcing


@pytest.fixture(scope="module")
def model():
    return lab.load_model("lab-llama")[0]


def test_a_long_sweep_is_announced_with_its_counts(model, caplog, monkeypatch):
    monkeypatch.setattr(announcing, "LONG_SECONDS", 1.0)
    combinations = [(method, None, "unstructured") for method in ("magnitude", "wanda", "optiprune")]
    requests = sum(expand_requests(combinations, [0.3, 0.7], options={}), [])
    with caplog.at_level(logging.WARNING, logger="labutils"):
        announcing.announce_sweep("lab-llama", model, (8, 64), requests, n_draws=3, evaluation_seconds=2.0)
    # magnitude is pruned once per sparsity, the others in every draw; and the dense model is evaluated too
    assert "sweep lab-llama: 14 prunings and 15 evaluations, about 00:3" in caplog.text and "MB" in caplog.text


def test_a_short_sweep_is_not(model, caplog):
    requests = expand_requests([("wanda", None, "unstructured")], [0.5], options={})[0]
    announcing.announce_sweep("lab-llama", model, (8, 64), requests, n_draws=3, evaluation_seconds=0.1)
    assert caplog.text == ""
