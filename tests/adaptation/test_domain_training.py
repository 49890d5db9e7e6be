"""Adaptation: losses against slow loops, what is trained, what is left alone, and failures."""

import math

import pytest
import torch
import torch.nn.functional as F
from helpers import poison
from small_models import causal_base, masked_base, same, save, state_of, texts

from labutils.adaptation import training
from labutils.adaptation.configurations import Adaptation
from labutils.adaptation.training import adapt_model, cut_windows, language_loss, load_base
from labutils.evaluation.losses import sequence_losses
from labutils.training import steps as training_steps

BASES = [causal_base, masked_base]


def windows_for(base, n: int = 12):
    return cut_windows(texts(n, seed=9), base.tokenizer, 16)


def test_windows_are_the_joined_texts_in_frames():
    base = causal_base()
    windows = cut_windows(["w0 w1 w2", "w3 w4"], base.tokenizer, 4)
    ids = base.tokenizer.convert_tokens_to_ids
    assert windows.tolist() == [[0, *ids(["w0", "w1", "w2"])], [0, 1, *ids(["w3", "w4"])]]  # </s> fills no window more
    encoder = masked_base().tokenizer
    (row,) = cut_windows(["w0 w1", "w2"], encoder, 4).tolist()[:1]
    assert row == encoder.convert_tokens_to_ids(["[CLS]", "w0", "w1", "[SEP]"])
    with pytest.raises(ValueError, match="lower seq_len"):
        cut_windows(["w0"], base.tokenizer, 16)


def test_the_loss_of_a_causal_model_is_that_of_the_evaluation():
    base = causal_base()
    windows = windows_for(base)
    expected = sequence_losses(base.model, windows).mean().item()
    assert language_loss(base, windows) == pytest.approx(expected, rel=1e-5)


def test_the_loss_of_an_encoder_counts_its_masked_tokens_alone():
    """Whole logits in float64, position by position, on the batches that the collator makes."""
    base = masked_base()
    windows = windows_for(base, 20)
    collator = training._collator(base, seed=0)
    losses = []
    slow = masked_base().model.double()
    for rows in windows.split(training.HELDOUT_BATCH):
        batch = collator([{"input_ids": row} for row in rows])
        with torch.no_grad():
            logits = slow(input_ids=batch["input_ids"], attention_mask=torch.ones_like(batch["input_ids"])).logits
        for row, labels in enumerate(batch["labels"].tolist()):
            for position, label in enumerate(labels):
                if label != -100:
                    losses.append(-torch.log_softmax(logits[row, position], -1)[label].item())
    assert 0.05 < len(losses) / windows.numel() < 0.25
    assert language_loss(base, windows) == pytest.approx(sum(losses) / len(losses), rel=1e-5)
    assert language_loss(base, windows) == language_loss(base, windows)


@pytest.mark.parametrize("make", BASES)
@pytest.mark.parametrize("method", ["full", "lora"])
def test_adaptation_learns_the_text_and_leaves_an_ordinary_model(make, method):
    base = make()
    before, heldout = state_of(base), windows_for(base)
    record = adapt_model(base, texts(40), Adaptation.read(f"{method} rate=2e-2 steps=60"), heldout=heldout, seq_len=16)
    after = state_of(base)
    assert after.keys() == before.keys() and not same(after, before)
    least = 0.3 if method == "full" else 0.05  # the embeddings, tied to the outputs, are no part of a LoRA
    assert record.heldout_after < record.heldout_before - least and math.isfinite(record.training_loss)
    assert record.heldout_after == pytest.approx(language_loss(base, heldout))
    n_windows = len(cut_windows(texts(40), base.tokenizer, 16))
    assert record.tokens == 60 * 8 * 16 and record.passes == pytest.approx(480 / n_windows)
    assert all(parameter.requires_grad for parameter in base.model.parameters()) and not base.model.training
    embeddings = [model.get_input_embeddings().weight for model in (base.model, make().model)]
    assert torch.equal(*embeddings) == (method == "lora")  # its update is in the linear layers alone


@pytest.mark.parametrize("method", ["full", "lora"])
def test_a_seed_decides_all(method):
    states = []
    for seed in (3, 3, 4):
        base = masked_base()
        torch.rand(seed)  # the state of torch's own generator must not matter
        line = Adaptation.read(f"{method} rate=1e-2 steps=3")
        adapt_model(base, texts(20), line, heldout=windows_for(base), seq_len=16, seed=seed)
        states.append(state_of(base))
    assert same(states[0], states[1]) and not same(states[0], states[2])


def test_all_windows_are_read_before_any_is_read_again():
    base = causal_base()
    windows = windows_for(base)
    batches = training._random_batches(base, windows, len(windows), 2, seed=1)
    rows = [tuple(row) for batch in batches for row in batch["input_ids"].tolist()]
    first, second = rows[: len(windows)], rows[len(windows) :]
    assert sorted(first) == sorted(second) == sorted(map(tuple, windows.tolist())) and first != second


def test_a_fresh_head_is_trained_before_the_body(monkeypatch):
    base = masked_base(fresh_head=True)
    trained = []
    whole = training.minimise

    def watched(parameters, batches, loss_of, **options):
        before = state_of(base)
        losses = whole(parameters, batches, loss_of, **options)
        after = state_of(base)
        trained.append({name for name in before if not torch.equal(before[name], after[name])})
        return losses

    monkeypatch.setattr(training, "minimise", watched)
    adapt_model(base, texts(20), Adaptation("full", steps=3), heldout=windows_for(base), seq_len=16)
    first, second = trained
    assert first and all(name.startswith("cls.") and "decoder.weight" not in name for name in first)
    assert any(name.startswith("bert.") for name in second)


@pytest.mark.parametrize("steps", [1, 2, 5, 20, 100])
def test_no_step_has_a_rate_of_zero(steps):
    shares = [training_steps.rate_share(step, steps) for step in range(steps)]
    assert max(shares) == 1 and min(shares) > 0
    peak = shares.index(1)
    assert peak == max(0, round(steps / 10) - 1)
    assert shares[: peak + 1] == sorted(shares[: peak + 1]) and shares[peak:] == sorted(shares[peak:], reverse=True)


def test_steps_are_those_of_adamw():
    """`minimise` against the update written out: Loshchilov & Hutter 2019, without decay; warm-up, then linear."""
    torch.manual_seed(0)
    start, target = torch.randn(5, dtype=torch.float64), torch.randn(5, dtype=torch.float64)
    weight = torch.nn.Parameter(start.clone())
    steps, rate = 20, 0.1
    losses = training_steps.minimise(
        [weight], range(steps), lambda _: ((weight - target) ** 2).sum(), learning_rate=rate, steps=steps
    )
    slow, first, second = start.clone(), torch.zeros(5, dtype=torch.float64), torch.zeros(5, dtype=torch.float64)
    for step in range(steps):
        assert losses[step] == pytest.approx(((slow - target) ** 2).sum().item(), rel=1e-9)
        gradient = 2 * (slow - target)
        gradient = gradient * min(1.0, 1.0 / (gradient.norm().item() + 1e-6))
        first = 0.9 * first + 0.1 * gradient
        second = 0.999 * second + 0.001 * gradient**2
        share = (step + 1) / 2 if step < 2 else (20 - step) / 19
        corrected = first / (1 - 0.9 ** (step + 1)), second / (1 - 0.999 ** (step + 1))
        slow = slow - rate * share * corrected[0] / (corrected[1].sqrt() + 1e-8)
    torch.testing.assert_close(weight.detach(), slow, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("method", ["full", "lora"])
def test_a_loss_that_is_not_finite_stops_and_leaves_no_adapter(method):
    base = causal_base()
    names = list(state_of(base))
    poison(base.model, base.tokenizer.convert_tokens_to_ids("w5"), math.nan)
    heldout = cut_windows(["w30 w31 w32"] * 8, base.tokenizer, 8)
    with pytest.raises(ValueError, match="loss at step 0 is nan.*lower the learning rate"):
        adapt_model(base, ["w5 w5 w5 w5"] * 20, Adaptation(method, steps=4), heldout=heldout, seq_len=8)
    assert list(state_of(base)) == names and same(state_of(base), state_of(causal_base()))


def test_windows_longer_than_the_context_are_refused():
    base = causal_base()
    with pytest.raises(ValueError, match="65 tokens exceed the model's context of 64"):
        adapt_model(base, texts(40), Adaptation(), heldout=windows_for(base), seq_len=65)


def test_models_are_loaded_with_their_heads(tmp_path):
    causal = load_base(save(causal_base(), tmp_path / "causal"))
    assert not causal.fresh_head and same(state_of(causal), state_of(causal_base()))
    masked = load_base(save(masked_base(), tmp_path / "masked"))
    assert not masked.fresh_head and same(state_of(masked), state_of(masked_base()))
    bare = masked_base()
    bare.model.bert.save_pretrained(tmp_path / "bare")
    bare.tokenizer.save_pretrained(tmp_path / "bare")
    first, second = (load_base(str(tmp_path / "bare")) for _ in range(2))
    assert first.fresh_head and same(state_of(first), state_of(second))
    ids = windows_for(bare)[:2]
    expected = bare.model.base_model(input_ids=ids).last_hidden_state
    torch.testing.assert_close(first.model.base_model(input_ids=ids).last_hidden_state, expected)
    unmasked = masked_base()
    unmasked.tokenizer.mask_token = None
    with pytest.raises(LookupError, match="no mask token"):
        load_base(save(unmasked, tmp_path / "unmasked"))


def test_the_merged_update_computes_what_the_adapter_computed():
    base = causal_base()
    windows = windows_for(base)
    with training_steps.trainable(base.model, "lora", rank=8, seed=0) as parameters:
        for parameter in parameters:
            torch.nn.init.normal_(parameter, std=0.1)
        with torch.no_grad():
            inside = base.model.eval()(input_ids=windows).logits
    outside = base.model(input_ids=windows).logits
    torch.testing.assert_close(outside, inside, rtol=1e-4, atol=1e-4)
    plain = causal_base().model(input_ids=windows).logits
    assert F.mse_loss(outside, plain) > 1e-4


@pytest.mark.parametrize("name", ["tiny_llama", "tiny_gpt2", "tiny_opt", "tiny_bert"])
def test_a_low_rank_update_reaches_every_architecture(name, request):
    """GPT-2 keeps its weights transposed; OPT has biases; BERT is an encoder without a head."""
    model = request.getfixturevalue(name)
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    ids = torch.randint(0, 64, (3, 7), generator=torch.Generator().manual_seed(0))
    with training_steps.trainable(model, "lora", rank=2, seed=0) as parameters:
        assert len(parameters) >= 3 * 4 * 2  # two factors of four layers or more in each of three blocks
        training_steps.minimise(
            parameters, range(2), lambda _: model.base_model(input_ids=ids).last_hidden_state[..., 0].square().mean(),
            learning_rate=1e-2, steps=2,
        )  # fmt: skip
    after = model.state_dict()
    changed = [key for key in before if not torch.equal(before[key], after[key])]
    assert after.keys() == before.keys() and changed
    assert all(before[key].ndim == 2 and "embed" not in key and "wte" not in key for key in changed)
