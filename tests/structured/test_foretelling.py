"""Size and speed of smaller models, told before they are made: exact sizes, and the same refusals."""

from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from transformers import MixtralConfig, MixtralForCausalLM

import labutils as lab

TOKENS = torch.randint(64, (4, 12), generator=torch.Generator().manual_seed(1))
CALLS = {"n_blocks": lab.drop_blocks, "blocks": lab.drop_blocks, "share": lab.shrink, "n_experts": lab.drop_experts}


@pytest.fixture
def tiny_mixtral() -> MixtralForCausalLM:
    torch.manual_seed(0)
    config = MixtralConfig(
        vocab_size=64, hidden_size=16, intermediate_size=24, num_hidden_layers=3, num_attention_heads=2,
        num_key_value_heads=1, num_local_experts=4, max_position_embeddings=64, initializer_range=0.3,
    )  # fmt: skip
    return MixtralForCausalLM(config).eval()


def make(model, asked: dict):
    """The smaller model itself."""
    call = CALLS[next(name for name in asked if name in CALLS)]
    return call(model, **asked) if "blocks" in asked else call(model, TOKENS, **asked)


def stored_bytes(model, folder: Path) -> int:
    """Of all tensors in the file that transformers writes."""
    model.save_pretrained(folder)
    with safe_open(folder / "model.safetensors", "pt") as file:
        return sum(file.get_tensor(name).nbytes for name in file.keys())  # noqa: SIM118


EVERYWHERE = [
    {"n_blocks": 1},
    {"n_blocks": 2, "method": "greedy", "spare_ends": False},
    {"n_blocks": 1, "method": "shallowest"},
    {"blocks": [0, 2]},
]
NARROWER = [
    {"share": 0.2},
    {"share": 0.3, "method": "flap", "allocation": "uniform", "repair": "none"},
    {"share": 0.25, "method": "taylor"},
]


@pytest.mark.parametrize(
    ("name", "asked"),
    [
        *[("tiny_llama", asked) for asked in (*EVERYWHERE, *NARROWER)],
        *[("tiny_gpt2", asked) for asked in (*EVERYWHERE[::3], NARROWER[0])],
        *[("tiny_mixtral", asked) for asked in EVERYWHERE[::3]],
        ("tiny_llama", {"share": 0.4, "units": ["neurons", "groups"], "method": "magnitude"}),
        ("tiny_gpt2", {"share": 0.2, "method": "flap", "allocation": "uniform"}),
        ("tiny_mixtral", {"n_experts": 1}),
        ("tiny_mixtral", {"n_experts": 2, "method": "frequency"}),
        ("tiny_mixtral", {"share": 0.1, "units": ["groups"], "method": "magnitude"}),
    ],
)
def test_sizes_are_those_of_the_result(name, asked, request, tmp_path) -> None:
    model = request.getfixturevalue(name)
    before = {name: each.clone() for name, each in model.state_dict().items()}
    try:
        smaller = make(model, asked).model
    except (LookupError, ValueError) as refused:  # refused requests are refused alike
        with pytest.raises(type(refused)) as told:
            lab.forecast_smaller(model, **asked)
        assert str(told.value) == str(refused)
        return
    found = lab.forecast_smaller(model, **asked)
    assert found.exact and found.parameters == sum(each.numel() for each in smaller.parameters())
    assert found.parameters_before == sum(each.numel() for each in model.parameters())
    assert found.bytes == stored_bytes(smaller, tmp_path / "smaller")
    assert found.bytes_before == stored_bytes(model, tmp_path / "dense")
    assert all(each.equal(before[name]) for name, each in model.state_dict().items())
    assert f"{found.parameters:,} of {found.parameters_before:,} parameters" in str(found)


@pytest.mark.parametrize(
    ("asked", "kind"),
    [
        ({"n_blocks": 3}, ValueError),
        ({"n_blocks": 0}, ValueError),
        ({"n_blocks": True}, ValueError),
        ({"n_blocks": 1, "method": "deepset"}, LookupError),
        ({"n_blocks": 1, "race": 3.0}, ValueError),
        ({"n_blocks": 1, "method": "greedy", "race": -1.0}, ValueError),
        ({"n_blocks": 1, "blocks": [0]}, ValueError),
        ({"blocks": [0, 0]}, ValueError),
        ({"blocks": [0], "method": "angular"}, ValueError),
        ({"share": 1.2}, ValueError),
        ({"share": 0.9}, ValueError),
        ({"share": 1e-6}, ValueError),
        ({"share": 0.2, "units": "neurons"}, ValueError),
        ({"share": 0.2, "units": ["experts"]}, ValueError),
        ({"share": 0.2, "method": "flop"}, LookupError),
        ({"share": 0.2, "method": "2ssp", "units": ["groups"]}, LookupError),
        ({"share": 0.2, "allocation": "even"}, LookupError),
        ({"share": 0.2, "repair": "glue"}, ValueError),
        ({"n_experts": 1}, LookupError),
    ],
)
def test_refused_requests_are_refused_alike(asked, kind, tiny_llama) -> None:
    with pytest.raises(kind) as refused:
        make(tiny_llama, asked)
    with pytest.raises(kind) as told:
        lab.forecast_smaller(tiny_llama, **asked)
    assert str(told.value) == str(refused.value)


def test_a_model_that_no_folder_could_hold_is_refused_alike(tiny_llama) -> None:
    with torch.no_grad():
        tiny_llama.lm_head.weight[0, 0] = float("nan")
    for call in (lambda: lab.drop_blocks(tiny_llama, n_blocks=1, method="deepest"),
                 lambda: lab.forecast_smaller(tiny_llama, n_blocks=1, method="deepest")):  # fmt: skip
        with pytest.raises(ValueError, match="finite|NaN"):
            call()


@pytest.mark.parametrize("asked", [{}, {"share": 0.2, "n_blocks": 1}, {"share": 0.2, "n_experts": 1}])
def test_one_thing_is_asked_at_a_time(asked, tiny_llama) -> None:
    with pytest.raises(ValueError, match="give one of n_blocks or blocks"):
        lab.forecast_smaller(tiny_llama, **asked)


def test_shapes_and_options_that_there_are_not(tiny_llama) -> None:
    for shape in ((4,), (0, 8), (2, -1)):
        with pytest.raises(ValueError, match="two positive integers"):
            lab.forecast_smaller(tiny_llama, shape, n_blocks=1)
    with pytest.raises(TypeError, match="unit"):
        lab.forecast_smaller(tiny_llama, share=0.2, unit="neurons")


def test_unequal_blocks_are_told_as_roughly_known(tiny_llama) -> None:
    found = lab.forecast_smaller(tiny_llama, share=0.2, method="wanda-sp", allocation="global")
    made = lab.shrink(tiny_llama, TOKENS, share=0.2, method="wanda-sp", allocation="global")
    assert not found.exact and found.parameters <= made.report.parameters_after < found.parameters_before


def test_fewer_blocks_take_less_time_and_the_head_stays() -> None:
    torch.manual_seed(0)
    model, _ = lab.load_model("lab-llama")
    n_blocks = len(lab.find_blocks(model)[1])
    halves = lab.forecast_smaller(model, (1, 64), n_blocks=n_blocks // 2)
    fewer = lab.forecast_smaller(model, (1, 64), n_blocks=1)
    for ratio, other in ((halves.prefill, fewer.prefill), (halves.decoding, fewer.decoding)):
        assert 0.5 < ratio < 0.85 and ratio < other < 1.0
