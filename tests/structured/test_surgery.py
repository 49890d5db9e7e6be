"""Smaller models of every architecture against the dense one with the units switched off, in memory and reloaded."""

import copy
import json
import os
import subprocess
import sys

import pytest
import torch
from architectures import ARCHITECTURES, GROUPED, SIZES, Architecture
from torch import Tensor
from transformers import AutoModel, AutoModelForCausalLM, PreTrainedModel

import labutils as lab
from labutils.models.structure import find_blocks
from labutils.structured import Removal, carve, masked, plan_surgery

BLOCKS, GROUPS = 4, 2
DEPTH = {"blocks": (1, 2)}
NEURONS = {"neurons": {block: (0, 3, 23 - block) for block in range(BLOCKS)}}
UNEQUAL = {"neurons": {0: (5,), 2: (0, 1, 2, 9)}}
HEADS = {"groups": {block: (block % 2,) for block in range(BLOCKS)}}
TAKES_HEADS = ("llama", "mistral", "qwen2", "qwen3", "gemma2", "phi3", "mixtral", "qwen3-moe")
MIXTURES = ("mixtral", "qwen3-moe")
ALL = (*TAKES_HEADS, "gpt2", "opt", "gpt-neox", "bert")


def build(name: str) -> PreTrainedModel:
    """Four blocks, four query heads, two key-value heads where they are told apart; no parameter at a constant."""
    base = ARCHITECTURES[name]
    options = {**base.options}
    if name == "gpt2":
        options |= {"n_layer": BLOCKS, "n_head": 4}
    else:
        options |= {"num_hidden_layers": BLOCKS, "num_attention_heads": 4}
    if base.options.items() >= {**GROUPED}.items() - SIZES.items() and "num_key_value_heads" in base.options:
        options["num_key_value_heads"] = GROUPS
    if name == "llama":
        options["num_key_value_heads"] = GROUPS
    return Architecture(base.model, base.config, options).build()


def logits(model: PreTrainedModel, ids: Tensor) -> Tensor:
    with torch.no_grad():
        return model(input_ids=ids)[0]


def ids_for(model: PreTrainedModel) -> Tensor:
    return torch.randint(3, 60, (2, 18), generator=torch.Generator().manual_seed(5))


def cases() -> list[tuple[str, str, Removal]]:
    found = [(name, "depth", Removal(**DEPTH)) for name in ALL]
    for name in ALL:
        width = {} if name in MIXTURES else NEURONS
        heads = HEADS if name in TAKES_HEADS else {}
        found.append((name, "width", Removal(**width, **heads)))
        unequal = {} if name in MIXTURES else UNEQUAL
        found.append((name, "sublayers", Removal(sublayers=((0, "attention"), (2, "mlp")), blocks=(1,), **unequal)))
    return [*found, ("phi3", "width", Removal(**NEURONS, **HEADS, blocks=(3,)))]


@pytest.mark.parametrize(
    ("name", "what", "removal"), cases(), ids=lambda value: value if isinstance(value, str) else ""
)
def test_a_smaller_model_computes_what_the_dense_one_does_without_the_units(name, what, removal, tmp_path) -> None:
    model = build(name)
    before = copy.deepcopy(model.state_dict())
    ids = ids_for(model)
    with masked(model, removal):
        expected = logits(model, ids)
    smaller = carve(model, removal)
    torch.testing.assert_close(logits(smaller, ids), expected, atol=1e-5, rtol=1e-5)
    assert (expected - logits(model, ids)).abs().max() > 1e-3  # the units mattered
    assert all(torch.equal(tensor, before[key]) for key, tensor in model.state_dict().items())
    if what == "sublayers":
        return
    smaller.save_pretrained(tmp_path / "smaller")
    auto = AutoModelForCausalLM if model.can_generate() else AutoModel
    again = auto.from_pretrained(tmp_path / "smaller").eval()
    torch.testing.assert_close(logits(again, ids), expected, atol=1e-5, rtol=1e-5)
    assert sum(p.numel() for p in again.parameters()) == plan_surgery(model, removal).parameters
    if model.can_generate():
        check_cache(again, ids[:, :5])


def check_cache(model: PreTrainedModel, ids: Tensor) -> None:
    """Token by token with a cache, the logits are those without one; the cache has a slot for each block left."""
    past, found = None, []
    with torch.no_grad():
        for place in range(ids.shape[1]):
            output = model(input_ids=ids[:, place : place + 1], past_key_values=past, use_cache=True)
            past = output.past_key_values
            found.append(output.logits)
    torch.testing.assert_close(torch.cat(found, dim=1), logits(model, ids), atol=1e-5, rtol=1e-5)
    assert past.get_seq_length() == ids.shape[1]
    assert len(past.layers) == len(find_blocks(model)[1])
    options = {"max_new_tokens": 4, "do_sample": False, "pad_token_id": 0}
    assert model.generate(ids, **options).equal(model.generate(ids, use_cache=False, **options))


def test_parameters_are_as_counted_by_hand() -> None:
    model = build("llama")
    total = sum(p.numel() for p in model.parameters())
    hidden, width, head = 16, 24, 4
    block = hidden * (4 * head * 2 + 2 * head * 2) + 3 * hidden * width + 2 * hidden
    assert total - plan_surgery(model, Removal(blocks=(0, 2))).parameters == 2 * block
    assert total - plan_surgery(model, Removal(**NEURONS)).parameters == 4 * 3 * 3 * hidden
    assert total - plan_surgery(model, Removal(**HEADS)).parameters == 4 * hidden * (2 * head * 2 + head * 2)
    # 1 and 4 neurons out of two blocks and none of the others: padded to the widest, nothing is saved
    assert plan_surgery(model, Removal(**UNEQUAL)).parameters == total
    unequal = Removal(neurons={0: (5, 6), 1: (1, 2), 2: (0, 1, 2, 9), 3: (1, 2, 3)})
    assert total - plan_surgery(model, unequal).parameters == 4 * 2 * 3 * hidden


@pytest.mark.parametrize("name", ["gpt2", "opt", "gpt-neox", "bert"])
def test_heads_that_a_configuration_cannot_count_are_refused(name: str) -> None:
    model = build(name)
    removal = Removal(groups={block: (1,) for block in range(BLOCKS)})
    with pytest.raises(LookupError, match="cannot express it: .* key-value groups only where"):
        carve(model, removal)


@pytest.mark.parametrize(
    ("removal", "error", "message"),
    [
        (Removal(blocks=(4,)), ValueError, "no block 4; the model has 4, numbered 0 to 3"),
        (Removal(blocks=(1, 1)), ValueError, "named twice"),
        (Removal(blocks=(0, 1, 2, 3)), ValueError, "at least one must stay"),
        (Removal(neurons={1: tuple(range(24))}), ValueError, "all 24 of a kind"),
        (Removal(neurons={1: (24,)}), ValueError, "no neuron of block 1 24"),
        (Removal(groups={9: (0,)}), ValueError, "no block 9"),
        (Removal(sublayers=((0, "norm"),)), ValueError, "attention, mlp"),
        (Removal(experts={0: (0,)}), LookupError, "it has neurons, key-value groups"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_what_cannot_be_taken_out_is_refused(removal, error, message) -> None:
    model = build("llama")
    with pytest.raises(error, match=message):
        carve(model, removal)


def test_blocks_that_depend_on_their_number_are_refused() -> None:
    base = ARCHITECTURES["gpt2"]
    options = {**base.options, "n_layer": BLOCKS, "scale_attn_by_inverse_layer_idx": True}
    model = Architecture(base.model, base.config, options).build()
    with pytest.raises(LookupError, match="number of their block"):
        carve(model, Removal(blocks=(1,)))
    assert carve(model, Removal(blocks=(3,))).config.n_layer == 3


def test_neurons_of_a_mixture_and_unequal_experts_are_refused() -> None:
    model = build("mixtral")
    with pytest.raises(LookupError, match="key-value groups, experts"):
        carve(model, Removal(neurons={0: (1,)}))
    with pytest.raises(ValueError, match="equally many"):
        carve(model, Removal(experts={0: (1,)}))
    with pytest.raises(ValueError, match="every token is sent to 2"):
        carve(model, Removal(experts={block: (0, 1, 2, 3) for block in range(BLOCKS)}))


def test_half_precision_is_carved_and_proved_in_itself_and_folded_without_losing_digits() -> None:
    model = build("llama").bfloat16()
    smaller = carve(model, Removal(**NEURONS, **HEADS, blocks=(1,)))
    assert smaller.dtype == torch.bfloat16
    with masked(model, Removal(**NEURONS, **HEADS, blocks=(1,))):
        expected = logits(model, ids_for(model))
    found = logits(smaller, ids_for(model))
    assert (found - expected).abs().max() <= 0.05 * expected.abs().max()
    blocks = [block.mlp.up_proj.weight for block in find_blocks(model)[1]]
    merged = find_blocks(lab.structured.collapse_blocks(model, [0, 1, 2]))[1][0].mlp.up_proj.weight
    exact = sum(weight.double() for weight in blocks[1:3]) - blocks[0].double()
    assert merged.equal(exact.bfloat16())  # rounded once, at the end


def test_adapters_are_refused_with_the_way_out() -> None:
    peft = pytest.importorskip("peft")
    adapted = peft.get_peft_model(build("llama"), peft.LoraConfig(target_modules=["q_proj"], r=2))
    with pytest.raises(ValueError, match="merge_and_unload"):
        lab.drop_blocks(adapted, blocks=[1])


def test_masks_of_units_that_are_not_there_are_refused() -> None:
    with pytest.raises(ValueError, match="no block 7"), masked(build("llama"), Removal(blocks=(7,))):
        pass


def test_the_smaller_model_has_memory_of_its_own() -> None:
    model = build("llama")
    smaller = carve(model, Removal(blocks=(1,)))
    with torch.no_grad():
        for parameter in smaller.parameters():
            parameter.zero_()
    assert all(parameter.abs().sum() > 0 for parameter in model.parameters())


RELOADER = """
import json, sys, torch
from transformers import AutoModelForCausalLM
found = {}
for folder in sys.argv[1:]:
    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    ids = torch.randint(3, 60, (2, 18), generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        found[folder] = model(input_ids=ids).logits.sum(-1).tolist()
assert "labutils" not in sys.modules
print(json.dumps(found))
"""


def test_folders_load_in_a_process_that_knows_nothing_of_labutils(tmp_path) -> None:
    expected = {}
    for name in ("llama", "qwen3", "phi3", "gpt2"):
        model = build(name)
        smaller = carve(model, Removal(**NEURONS, **(HEADS if name in TAKES_HEADS else {}), blocks=(1,)))
        smaller.save_pretrained(tmp_path / name)
        expected[str(tmp_path / name)] = logits(smaller, ids_for(model)).sum(-1).tolist()
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    command = [sys.executable, "-c", RELOADER, *expected]
    printed = subprocess.run(command, check=True, capture_output=True, text=True, env=environment, cwd=tmp_path).stdout
    found = json.loads(printed)
    for folder, values in expected.items():
        torch.testing.assert_close(torch.tensor(found[folder]), torch.tensor(values), atol=1e-4, rtol=1e-5)
