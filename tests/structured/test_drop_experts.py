"""Scores of experts against a literal loop over tokens, and mixtures with fewer experts against a literal mixture."""

import pytest
import torch
from architectures import ARCHITECTURES
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, PreTrainedModel

import labutils as lab
from labutils.models.structure import find_blocks
from labutils.structured import Removal, carve, masked, slices
from labutils.structured.experts import EXPERT_SCORES

MIXTURES = ("mixtral", "qwen3-moe", "qwen2-moe")
EXPERTS, CHOSEN = 5, 2


@pytest.fixture(scope="module")
def tokens() -> Tensor:
    return torch.randint(3, 60, (4, 9), generator=torch.Generator().manual_seed(3))


def output_of(experts: nn.Module, index: int, token: Tensor) -> Tensor:
    """One expert on one token."""
    both = experts.gate_up_proj[index] @ token
    gate, up = both[: len(both) // 2], both[len(both) // 2 :]
    return experts.down_proj[index] @ (gate * torch.sigmoid(gate) * up)


def routes(model: PreTrainedModel, mixture: nn.Module, token: Tensor, kept: list[int]) -> dict[int, float]:
    """The experts that one token is sent to among those kept, with the weights that the model gives them."""
    logits = (mixture.gate.weight[kept] @ token).double()
    shares = logits.softmax(dim=0)
    best = shares.topk(CHOSEN)
    normalised = getattr(model.config, "norm_topk_prob", True)
    weights = best.values / best.values.sum() if normalised else best.values
    return {kept[place]: weight.item() for place, weight in zip(best.indices.tolist(), weights, strict=True)}


def reads(model: PreTrainedModel, block: int, tokens: Tensor) -> list[Tensor]:
    found: list[Tensor] = []
    hook = find_blocks(model)[1][block].mlp.register_forward_pre_hook(
        lambda _, args: found.extend(args[0].flatten(0, -2))
    )
    with torch.no_grad():
        model(input_ids=tokens)
    hook.remove()
    return found


@pytest.mark.parametrize("name", MIXTURES)
def test_scores_against_a_loop_over_tokens(tokens, name) -> None:
    model = ARCHITECTURES[name].build()
    expected = {score: [[0.0] * EXPERTS for _ in range(2)] for score in EXPERT_SCORES}
    for block in range(2):
        mixture, counts = find_blocks(model)[1][block].mlp, [0] * EXPERTS
        for token in reads(model, block, tokens):
            chosen = routes(model, mixture, token, list(range(EXPERTS)))
            for expert, weight in chosen.items():
                gate = weight / sum(chosen.values())
                norm = output_of(mixture.experts, expert, token).norm().item()
                counts[expert] += 1
                for score, value in (
                    ("reap", gate * norm),
                    ("mean-norm", norm),
                    ("router-weighted", gate),
                    ("frequency", 1),
                ):
                    expected[score][block][expert] += value
        for score in ("reap", "mean-norm"):
            expected[score][block] = [
                total / max(n, 1) for total, n in zip(expected[score][block], counts, strict=True)
            ]
    for score, values in expected.items():
        table = lab.drop_experts(model, tokens, n_experts=2, method=score, batch_size=3).report.table
        for block in range(2):
            own = table[table["block"] == block]
            assert own["score"].tolist() == pytest.approx(values[block], rel=1e-4), score
            lowest = sorted(range(EXPERTS), key=values[block].__getitem__)[:2]
            assert set(own[own["removed"]]["expert"]) == set(lowest)


@pytest.mark.parametrize("name", MIXTURES)
def test_a_mixture_with_fewer_experts_is_the_literal_mixture_of_those_left(tokens, name, tmp_path) -> None:
    model = ARCHITECTURES[name].build()
    smaller, report = lab.drop_experts(model, tokens, n_experts=2)
    for index, block in enumerate(find_blocks(model)[1]):
        kept = [expert for expert in range(EXPERTS) if expert not in report.removal.experts[index]]
        block.mlp.forward = literal(model, block.mlp, kept, getattr(block.mlp, "shared_expert", None))
    with torch.no_grad():
        expected = model(input_ids=tokens).logits
        smaller.save_pretrained(tmp_path / "smaller")
        again = AutoModelForCausalLM.from_pretrained(tmp_path / "smaller").eval()
        torch.testing.assert_close(smaller(input_ids=tokens).logits, expected, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(again(input_ids=tokens).logits, expected, atol=1e-5, rtol=1e-5)
    width = 24 if name == "mixtral" else 12
    assert report.parameters_before - report.parameters_after == 2 * 2 * (3 * 16 * width + 16)
    assert report.widths["experts"] == 3


@pytest.mark.parametrize("name", [*MIXTURES, "gpt-oss"])
def test_masked_experts_are_never_chosen_and_the_rest_generates_with_and_without_a_cache(tokens, name) -> None:
    model = ARCHITECTURES[name].build()
    smaller, report = lab.drop_experts(model, tokens, n_experts=2)
    chosen: list[int] = []
    hooks = [
        module.register_forward_pre_hook(lambda _, args: chosen.extend(args[1].flatten().tolist()))
        for block in find_blocks(model)[1]
        for module in [block.mlp.experts]
    ]
    removal = Removal(experts={0: report.removal.experts[0], 1: report.removal.experts[0]})
    with torch.no_grad(), masked(model, removal):
        chosen.clear()  # what telling the parts of the blocks apart took
        model(input_ids=tokens)
    for hook in hooks:
        hook.remove()
    assert chosen and not set(chosen) & set(removal.experts[0])
    with torch.no_grad(), masked(model, report.removal):
        expected = model(input_ids=tokens).logits
    torch.testing.assert_close(smaller(input_ids=tokens).logits, expected, atol=1e-5, rtol=1e-5)
    assert (model(input_ids=tokens).logits - expected).abs().max() > 1e-3  # and only within
    options = {"max_new_tokens": 4, "do_sample": False, "pad_token_id": 0}
    written = smaller.generate(tokens[:, :5], **options)
    assert written.equal(smaller.generate(tokens[:, :5], use_cache=False, **options))


@pytest.mark.parametrize("name", ["mixtral", "gpt-oss"])
def test_experts_cut_wrongly_and_blocks_taken_with_them_do_not_pass_the_proof(monkeypatch, name) -> None:
    model = ARCHITECTURES[name].build()
    removal = Removal(experts={0: (1, 2), 1: (0, 4)})
    assert carve(model, Removal(blocks=(1,), experts=removal.experts)).config.num_hidden_layers == 1
    of_experts = slices._of_experts
    monkeypatch.setattr(slices, "_of_experts", lambda anatomy, block, kept: of_experts(anatomy, block, kept[::-1][:3]))
    carve(model, removal)  # another order of the same experts computes the same
    monkeypatch.setattr(slices, "_of_experts", lambda anatomy, block, kept: of_experts(anatomy, block, [0, 1, 2]))
    with pytest.raises(LookupError, match="does not compute what the dense one does"):
        carve(model, removal)


def literal(model: PreTrainedModel, mixture: nn.Module, kept: list[int], shared: nn.Module | None):
    """A mixture's forward pass, one token and one expert at a time."""

    def forward(hidden: Tensor) -> Tensor:
        rows = []
        for token in hidden.flatten(0, -2):
            chosen = routes(model, mixture, token, kept)
            row = sum(weight * output_of(mixture.experts, expert, token) for expert, weight in chosen.items())
            if shared is not None:
                row = row + torch.sigmoid(mixture.shared_expert_gate(token)) * shared(token)
            rows.append(row)
        return torch.stack(rows).reshape(hidden.shape)

    return forward


def test_what_cannot_be_asked_for_is_refused(tokens, tiny_llama) -> None:
    model = ARCHITECTURES["mixtral"].build()
    with pytest.raises(LookupError, match="no mixture"):
        lab.drop_experts(tiny_llama, tokens, n_experts=1)
    with pytest.raises(ValueError, match="from 1 to 4"):
        lab.drop_experts(model, tokens, n_experts=5)
    with pytest.raises(ValueError, match="every token is sent to 2"):
        lab.drop_experts(model, tokens, n_experts=4)
    with pytest.raises(LookupError, match="reap"):
        lab.drop_experts(model, tokens, n_experts=1, method="reaper")
