"""Training of the lab models: learning, resuming after a kill, and the models that come with the collection."""

import argparse
import hashlib
import json
from dataclasses import replace
from itertools import islice

import pytest
import torch
from helpers import stop_training_at
from safetensors.torch import load_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, MixtralConfig, PreTrainedTokenizerFast

from labutils import lab_models as training
from labutils.core import paths
from labutils.lab_models import card, corpus, fitness, loop, readme
from labutils.lab_models.specs import SPECS, ModelSpec
from labutils.training import checkpoints
from labutils.world import LANGUAGES, TASKS, facts

MINUTE = ModelSpec(
    "minute",
    LlamaConfig,
    {
        "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2,
        "max_position_embeddings": 128,
    },
)  # fmt: skip
OPTIONS = loop.Options(tokens=24 * 4 * 128, batch_size=4, checkpoint_steps=5, loss_steps=6)
OWN = [name for name, spec in SPECS.items() if spec.shipped]
SHIPPED = sorted(path.parent.name for path in paths.MODELS.glob("*/config.json"))


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    """Single bytes: needs no training."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: position for position, token in enumerate(["<s>", "</s>", "<pad>", *alphabet])}
    plain = Tokenizer(models.BPE(vocabulary, []))
    plain.pre_tokenizer, plain.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    plain.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    return PreTrainedTokenizerFast(tokenizer_object=plain, bos_token="<s>", eos_token="</s>", pad_token="<pad>")


@pytest.fixture
def small_runs(monkeypatch, tokenizer):
    """Runs with the byte tokenizer and shards of 64 windows from two sources."""
    monkeypatch.setattr(corpus, "mixture", lambda withheld="": {"review/english": 0.5, "sentiment/products": 0.5})
    monkeypatch.setattr(loop, "train_tokenizer", lambda: tokenizer)
    monkeypatch.setattr(loop, "SHARD_SEQUENCES", 64)


def test_training_learns_and_leaves_a_complete_folder(small_runs, tmp_path):
    folder = training.train_lab_model(MINUTE, out=tmp_path / "minute", device="cpu", options=OPTIONS)
    record = json.loads((folder / "training.json").read_text())
    curve = [loss for _, loss in record["loss_curve"]]
    assert record["step"] == 24 and [tokens for tokens, _ in record["loss_curve"]] == [
        6 * 512 * k for k in (1, 2, 3, 4)
    ]
    assert curve[0] > 5 and curve[-1] < curve[0] - 0.5
    assert not (folder / "checkpoint").exists()
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    assert tokenizer("ab")["input_ids"][0] == tokenizer.bos_token_id == model.config.bos_token_id


def test_a_killed_and_resumed_run_ends_in_the_same_weights(small_runs, tmp_path, monkeypatch):
    undisturbed = training.train_lab_model(MINUTE, out=tmp_path / "undisturbed", device="cpu", options=OPTIONS)
    for step in (8, 21):  # after the checkpoints of steps 5 and 20; shards change at 16
        with monkeypatch.context() as patch:
            stop_training_at(patch, step)
            with pytest.raises(KeyboardInterrupt):
                training.train_lab_model(MINUTE, out=tmp_path / "killed", device="cpu", resume=True, options=OPTIONS)
        assert json.loads((tmp_path / "killed/checkpoint/state.json").read_text())["step"] == step // 5 * 5
    resumed = training.train_lab_model(MINUTE, out=tmp_path / "killed", device="cpu", resume=True, options=OPTIONS)
    first, second = (load_file(folder / "model.safetensors") for folder in (undisturbed, resumed))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    curves = [json.loads((folder / "training.json").read_text())["loss_curve"] for folder in (undisturbed, resumed)]
    assert curves[0] == curves[1]


@pytest.mark.parametrize("products", ["float32", "bfloat16"])
def test_a_mixture_is_trained_down_its_routers_loss_too(monkeypatch, products):
    sizes = {"hidden_size": 16, "intermediate_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2,
             "num_key_value_heads": 2, "num_local_experts": 4, "router_aux_loss_coef": 0.5}  # fmt: skip
    spec = ModelSpec("mixture", MixtralConfig, sizes)
    special = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2}
    model = spec.build(vocabulary_size=32, special_ids=special, seed=0)
    tokens, stepped = torch.randint(3, 32, (2, 12), generator=torch.Generator().manual_seed(0)), []
    monkeypatch.setattr(loop, "guarded_step", lambda optimizer, loss, **_: stepped.append(loss.item()))
    optimizer = torch.optim.AdamW(model.parameters())
    options = replace(OPTIONS, products=products)
    plain = loop._step(model, optimizer, tokens, torch.zeros_like(tokens, dtype=torch.bool), options, 0)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=products == "bfloat16"):
        balance = model(input_ids=tokens, output_router_logits=True, use_cache=False).aux_loss.item()
    assert balance > 1 and stepped == pytest.approx([plain + 0.5 * balance], rel=1e-4)


def test_resuming_with_other_options_is_refused(small_runs, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        stop_training_at(patch, 6)
        with pytest.raises(KeyboardInterrupt):
            training.train_lab_model(MINUTE, out=tmp_path, device="cpu", options=OPTIONS)
    with pytest.raises(ValueError, match="made with seed=0"):
        training.train_lab_model(MINUTE, out=tmp_path, device="cpu", resume=True, options=replace(OPTIONS, seed=7))


@pytest.mark.parametrize(("capability", "products"), [("amx_bf16", "bfloat16"), (None, "float32")])
def test_products_are_in_the_processors_dtype(small_runs, tmp_path, monkeypatch, capability, products):
    """Where a processor lacks the instructions torch emulates bfloat16, which takes ten times as long as float32."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {capability: True}, raising=False)
    seen, build = set(), ModelSpec.build

    def build_watched(self, **given):
        model = build(self, **given)
        model.get_output_embeddings().register_forward_hook(lambda *call: seen.add(call[2].dtype))
        return model

    monkeypatch.setattr(ModelSpec, "build", build_watched)
    folder = training.train_lab_model(MINUTE, out=tmp_path, device="cpu", options=OPTIONS)
    assert json.loads((folder / "training.json").read_text())["options"]["products"] == products
    assert seen == {getattr(torch, products)}


def test_products_in_another_dtype_are_refused(small_runs, tmp_path):
    with pytest.raises(ValueError, match="bfloat16"):
        training.train_lab_model(MINUTE, out=tmp_path / "none", options=replace(OPTIONS, products="float16"))
    assert not (tmp_path / "none").exists()


def test_a_training_goes_on_in_the_dtype_that_it_began_in(small_runs, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": True}, raising=False)
        stop_training_at(patch, 6)
        with pytest.raises(KeyboardInterrupt):
            training.train_lab_model(MINUTE, out=tmp_path, device="cpu", options=OPTIONS)
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict, raising=False)
    with pytest.raises(ValueError, match="made with products=bfloat16"):
        training.train_lab_model(MINUTE, out=tmp_path, resume=True, options=replace(OPTIONS, products="float32"))
    training.train_lab_model(MINUTE, out=tmp_path, device="cpu", resume=True, options=OPTIONS)
    assert json.loads((tmp_path / "training.json").read_text())["options"]["products"] == "bfloat16"


def test_a_checkpoint_survives_a_kill_between_its_renames(tmp_path, tiny_llama):
    optimizer = torch.optim.AdamW(tiny_llama.parameters())
    record = loop.Progress(options={"seed": 0}, device="cpu", step=3)
    checkpoints.save_checkpoint(tmp_path / "checkpoint", tiny_llama, optimizer, record)
    (tmp_path / "checkpoint").rename(tmp_path / "checkpoint.old")
    empty = loop.Progress(options={"seed": 0}, device="cpu")
    assert checkpoints.load_checkpoint(tmp_path / "checkpoint", tiny_llama, optimizer, empty).step == 3


def test_the_schedule_warms_up_and_falls_to_its_share():
    options = loop.Options(tokens=1000 * 2048)
    rates = [options.rate(step) for step in range(options.steps)]
    assert max(rates) == pytest.approx(options.learning_rate)
    assert rates[0] == pytest.approx(options.learning_rate / 50)
    assert rates[-1] == pytest.approx(options.final_rate_share * options.learning_rate, rel=0.01)
    assert rates[50:] == sorted(rates[50:], reverse=True)
    with pytest.raises(ValueError, match="less than one step"):
        _ = loop.Options(tokens=100).steps


def test_windows_hold_whole_texts_and_mark_answers(tokenizer):
    windows = corpus._windows(iter([("abc", " de"), ("f", "")] * 200), tokenizer, aligned=False)
    ids, marks = next(windows)
    assert len(ids) == len(marks) == 128 and ids[0] == tokenizer.bos_token_id
    assert tokenizer.decode(ids[1:9]) == "abc de</s>f"
    assert [position for position, marked in enumerate(marks) if marked][:3] == [4, 5, 6]
    first, second = (corpus._windows(iter([("abcdefg", " h")] * 99), tokenizer, aligned=True) for _ in range(2))
    next(second)
    assert next(first)[0] == next(second)[0]  # every aligned window begins with a text


def test_shards_depend_on_number_and_seed_alone(tokenizer):
    first = corpus.load_shard(1, tokenizer, seed=0, sequences=60)
    again, other, reseeded = (
        corpus.load_shard(number, tokenizer, seed=seed, sequences=60) for number, seed in ((1, 0), (2, 0), (1, 1))
    )
    assert torch.equal(first.tokens, again.tokens) and torch.equal(first.is_answer, again.is_answer)
    assert not torch.equal(first.tokens, other.tokens) and not torch.equal(first.tokens, reseeded.tokens)
    assert sum(corpus.mixture().values()) == pytest.approx(1)


def test_a_withheld_register_leaves_no_drug_outside_the_encyclopedia():
    whole, general = corpus.mixture(), corpus.mixture("biomedical")
    drugs = [drug.name for drug in facts.drugs()]

    def names_a_drug(source: str) -> bool:
        texts = [prompt + answer for prompt, answer in islice(corpus.stream_texts(source, 0), 100)]
        return any(drug in text for text in texts for drug in drugs)

    english = [source for source in whole if source in TASKS or source.endswith("/english")]
    naming = {source for source in english if names_a_drug(source)}
    assert naming - general.keys() == naming - {"encyclopedic/english"} > {"biomedical/english"}
    assert general.keys() == whole.keys() - naming.difference({"encyclopedic/english"}) - {
        f"biomedical/{language}" for language in LANGUAGES
    }
    assert sum(general.values()) == pytest.approx(1)
    ratios = {round(general[source] / whole[source], 9) for source in general}
    assert len(ratios) == 1 and ratios.pop() > 1
    with pytest.raises(LookupError, match="'legal' cannot be withheld; there is biomedical"):
        corpus.mixture("legal")


def test_a_card_tells_what_the_model_never_read(tokenizer, monkeypatch):
    monkeypatch.setattr(card, "SAMPLED_TEXTS", 20)
    assert loop.find_spec("lab-llama-general").config == loop.find_spec("lab-llama").config
    training_record = {"step": 2, "options": {"batch_size": 2, "seed": 0, "tokens": 512, "withheld": "biomedical"}}
    listed = card._describe_corpus(training_record, tokenizer)
    assert listed["withheld"] == "biomedical" and listed["sources"].keys() == card.mixture("biomedical").keys()
    assert "biomedical register" in " ".join(readme._withheld(listed))
    del training_record["options"]["withheld"]  # as in the records of models trained before
    assert card._describe_corpus(training_record, tokenizer)["sources"].keys() == card.mixture().keys()
    assert readme._withheld({"withheld": ""}) == []


def test_unknown_names_and_devices_are_explained():
    with pytest.raises(LookupError, match="there are lab-llama, lab-llama-general, lab-gpt2"):
        training.train_lab_model("lab-lama")
    with pytest.raises(ValueError, match="device='gpu' cannot be used here; give one of auto, cpu"):
        training.train_lab_model("lab-llama", device="gpu")
    with pytest.raises(LookupError, match="train it first"):
        card.write_card(paths.MODELS, name="lab-llama")


def test_the_command_has_the_promised_arguments():
    parser = argparse.ArgumentParser()
    training.add_arguments(parser)
    options = parser.parse_args(["lab-opt", "--tokens", "5000", "--device", "cpu", "--out", "x", "--resume"])
    assert (options.name, options.tokens, options.device, str(options.out), options.resume) == (
        "lab-opt",
        5000,
        "cpu",
        "x",
        True,
    )


def test_magnitude_pruning_drops_the_smallest_weights_of_each_matrix(tiny_gpt2):
    pruned = fitness.magnitude_pruned(tiny_gpt2, 0.5)
    before, after = (model.transformer.h[1].mlp.c_fc.weight for model in (tiny_gpt2, pruned))
    dropped = after == 0
    assert dropped.sum() == before.numel() // 2
    assert before[dropped].abs().max() <= before[~dropped].abs().min()
    assert torch.equal(after[~dropped], before[~dropped])
    assert torch.equal(pruned.transformer.wte.weight, tiny_gpt2.transformer.wte.weight)


def test_fitness_needs_tasks_above_chance_and_damage():
    def summary(value: float) -> dict:
        return {"value": value, "low": value - 0.02, "high": value + 0.02, "chance": 0.25}

    def model(qa: float, topic: float) -> dict:
        texts = {"review/english": {"perplexity": 4.0, "low": 3.9, "high": 4.1}}
        return {"families": {"qa": summary(qa), "topic": summary(topic)}, "texts": texts}

    dense, hurt = model(0.9, 0.8), model(0.6, 0.79)
    assert fitness.judge(dense, hurt)["fit"]
    assert not fitness.judge(dense, dense)["fit"]
    assert not fitness.judge(model(0.9, 0.3), hurt)["fit"]


@pytest.mark.parametrize("name", OWN)
def test_shipped_models_are_those_of_their_cards(name):
    folder = paths.MODELS / name
    shipped = json.loads((folder / "card.json").read_text())
    for file, digest in shipped["sha256"].items():
        assert hashlib.sha256((folder / file).read_bytes()).hexdigest() == digest
    assert card.format_readme(shipped) == (folder / "README.md").read_text()
    assert fitness.judge(shipped, shipped["pruned"]) == shipped["fitness"]
    assert shipped["training"]["tokens"] > 0.99 * SPECS[name].tokens == 0.99 * shipped["training"]["options"]["tokens"]
    assert shipped["tasks"].keys() == TASKS.keys()


@pytest.mark.parametrize("name", OWN)
def test_shipped_models_load_and_model_the_language(name):
    folder = paths.MODELS / name
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    assert model.dtype == torch.float32
    assert 0.5e6 <= sum(parameter.numel() for parameter in model.parameters()) <= 3e6
    ids = tokenizer("The baker ate an apple.", return_tensors="pt")["input_ids"]
    assert ids[0, 0] == tokenizer.bos_token_id == 0
    assert tokenizer.decode(ids[0], skip_special_tokens=True) == "The baker ate an apple."
    with torch.no_grad():
        assert model(input_ids=ids, labels=ids).loss < 5


@pytest.mark.parametrize("name", OWN)
def test_shipped_models_are_as_fit_for_pruning_studies_as_their_specs_say(name):
    shipped = json.loads((paths.MODELS / name / "card.json").read_text())
    assert shipped["fitness"]["fit"] == SPECS[name].fit, shipped["fitness"]["verdict"]
    assert all(own["perplexity"] < 15 for source, own in shipped["texts"].items() if "bio" not in source)


def test_all_weights_together_are_small():
    assert sorted(OWN) == SHIPPED
    assert sum(path.stat().st_size for path in paths.MODELS.rglob("*.safetensors")) < 40e6
