"""The loss of text is that of the next token, also of models whose own loss is another."""

import pytest
import torch
from transformers import BartConfig, BartForCausalLM, LlamaConfig, LlamaForCausalLM, PreTrainedModel

import labutils as lab
from labutils.recovery.recovering import choose_loss
from labutils.training.text_loss import text_loss

IDS = torch.randint(3, 40, (3, 7), generator=torch.Generator().manual_seed(0))


def bart() -> PreTrainedModel:
    torch.manual_seed(0)
    config = BartConfig(vocab_size=40, d_model=16, decoder_layers=2, decoder_attention_heads=2, decoder_ffn_dim=24)
    return BartForCausalLM(config).eval()


def llama() -> PreTrainedModel:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=40, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2
    )
    return LlamaForCausalLM(config).eval()


@pytest.mark.parametrize("make", [bart, llama])
def test_the_loss_is_of_the_next_token(make) -> None:
    """Against a loop over rows and tokens in float64."""
    model = make()
    logs = model(input_ids=IDS).logits.double().log_softmax(-1)
    own = [-logs[row, place, IDS[row, place + 1]] for row in range(3) for place in range(6)]
    assert text_loss(model, IDS).item() == pytest.approx(torch.stack(own).mean().item(), abs=1e-6)


def test_decoders_of_barts_kind_do_not_shift_their_labels() -> None:
    """transformers 5.23.0, `BartForCausalLM`: the reason why a model's own loss is not taken."""
    model = bart()
    logs = model(input_ids=IDS).logits.log_softmax(-1)
    copying = -logs.gather(-1, IDS.unsqueeze(-1)).mean()
    assert model(input_ids=IDS, labels=IDS).loss.item() == pytest.approx(copying.item(), abs=1e-5)
    assert llama()(input_ids=IDS, labels=IDS).loss.item() == text_loss(llama(), IDS).item()


def test_training_takes_it() -> None:
    model = bart()
    assert choose_loss("text", None) is text_loss
    before = text_loss(model, IDS).item()
    recovered = lab.recovery.recover(model, IDS, trained="all", steps=1, batch_size=3, learning_rate=1e-4)
    assert recovered.losses[0] == pytest.approx(before, abs=1e-5)
    row = IDS[:1]
    _, losses = lab.tune_lora(bart(), row, steps=1, batch_size=1)  # adapters begin with nothing
    assert losses[0] == pytest.approx(text_loss(bart(), row).item(), abs=1e-5)
