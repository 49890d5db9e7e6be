"""Models with any head: pruned by measurement too, by what the head says."""

import copy

import pytest
import torch
import torch.nn.functional as F
import transformers
from torch import nn

import labutils as lab
from labutils.pruning.calibration import BlockWalk
from labutils.pruning.output_divergence import DenseOutput, read_output

SIZES = {
    "vocab_size": 64, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2,
    "max_position_embeddings": 32, "pad_token_id": 0, "initializer_range": 0.3,
}  # fmt: skip
IDS = torch.randint(3, 64, (4, 8), generator=torch.Generator().manual_seed(1))
MASK = torch.ones_like(IDS)
MASK[1, 5:] = 0
INPUTS = {"input_ids": IDS, "attention_mask": MASK}
HEADS = {
    "BertForSequenceClassification": ({}, (4, 1, 2)),
    "BertForSequenceClassification of one number": ({"num_labels": 1}, (4, 1, 1)),
    "BertForTokenClassification": ({"num_labels": 3}, (4, 8, 3)),
    "BertForQuestionAnswering": ({}, (4, 2, 8)),
    "BertForMaskedLM": ({}, (4, 8, 64)),
    "BertForMultipleChoice": ({}, (4, 1, 1)),
    "BertForNextSentencePrediction": ({}, (4, 1, 2)),
    "BertForPreTraining": ({}, (4, 8, 64)),
    "BertModel": ({}, (4, 16)),
    "ElectraForPreTraining": ({"embedding_size": 16}, (4, 8, 1)),
    "LlamaForSequenceClassification": ({"num_labels": 3}, (4, 1, 3)),
    "LlamaForCausalLM": ({}, (4, 8, 64)),
}  # fmt: skip


def build(name: str) -> nn.Module:
    torch.manual_seed(0)
    kind = name.split()[0]
    config = getattr(transformers, f"{kind.partition('For')[0].removesuffix('Model')}Config")
    return getattr(transformers, kind)(config(**SIZES | HEADS[name][0])).eval()


@pytest.mark.parametrize("name", HEADS)
def test_what_a_head_says_is_its_own_behind_any_block(name: str) -> None:
    model = build(name)
    given = {key: value.unsqueeze(1) for key, value in INPUTS.items()} if "Choice" in name else INPUTS
    with torch.no_grad():
        own = read_output(model, model(**given), INPUTS)
    assert own.shape == HEADS[name][1] and own.isfinite().all()
    walk = BlockWalk(model, INPUTS)
    torch.testing.assert_close(walk.outputs_from(0, 0), own)
    walk.advance(0)
    torch.testing.assert_close(walk.outputs_from(1, 0), own)


@pytest.mark.parametrize("name", HEADS)
def test_pruned_by_measurement(name: str) -> None:
    report = lab.prune(build(name), INPUTS, method="optiprune-auto", sparsity=0.5)
    assert report.sparsity == pytest.approx(0.5, abs=0.02)
    assert (report.candidates["damage"] > 0).all() and len(report.candidates) == 2 * len(report.block_sparsity)


def test_divergence_of_each_kind_equals_a_slow_loop() -> None:
    generator = torch.Generator().manual_seed(3)
    dense, pruned = torch.randn(2, 4, 8, 5, generator=generator)
    by_token = [
        F.kl_div(q.log_softmax(0), p.log_softmax(0), reduction="sum", log_target=True).item()
        for p_row, q_row, mask in zip(dense, pruned, MASK, strict=True)
        for p, q, told in zip(p_row, q_row, mask, strict=True) if told
    ]  # fmt: skip
    found = DenseOutput(dense.log_softmax(-1), INPUTS).divergence(pruned.log_softmax(-1))
    assert found == pytest.approx(sum(by_token) / len(by_token), rel=1e-5)
    one, other = dense[:, :1], pruned[:, :1]  # of sequences: padding does not weigh them
    by_sequence = F.kl_div(other.log_softmax(-1), one.log_softmax(-1), reduction="none", log_target=True).sum(-1).mean()
    found = DenseOutput(one.log_softmax(-1), INPUTS).divergence(other.log_softmax(-1))
    assert found == pytest.approx(by_sequence.item(), rel=1e-5)
    numbers, others = dense[:, :1, :1], pruned[:, :1, :1]
    found = DenseOutput(numbers, INPUTS).divergence(others)
    assert found == pytest.approx(((numbers - others) ** 2).mean().item() / 2, rel=1e-5)


def test_a_span_lies_among_tokens() -> None:
    """What padding would score is no part of a span."""
    model = build("BertForQuestionAnswering")
    with torch.no_grad():
        found = read_output(model, model(**INPUTS), INPUTS).exp()
    assert (found[1, :, 5:] == 0).all()
    torch.testing.assert_close(found.sum(-1), torch.ones(4, 2))


def test_a_head_of_an_unknown_kind() -> None:
    model = build("BertModel")
    with pytest.raises(LookupError, match="BertModel puts out votes.*Choose another allocation than measured"):
        read_output(model, transformers.utils.ModelOutput(votes=torch.ones(4)), INPUTS)


def test_a_head_that_reads_more_than_the_last_block() -> None:
    """Here it reads the embeddings too, which a replay from the last block's states cannot bring."""
    model = build("BertForTokenClassification")
    embedded: list[torch.Tensor] = []
    first = model.bert.encoder.layer[0]
    first.register_forward_hook(lambda layer, args, output: embedded.append(output))
    model.classifier.register_forward_pre_hook(lambda layer, args: (args[0] + embedded[-1],))
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(LookupError, match="BertForTokenClassification: its output, computed from what its last block"):
        lab.prune(model, IDS, method="optiprune-auto", sparsity=0.5)
    assert all(tensor.equal(before[name]) for name, tensor in model.state_dict().items())
    lab.prune(model, IDS, method="wanda", sparsity=0.5)  # which reads the blocks alone
