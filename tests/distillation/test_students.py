"""Students cut from a teacher, and narrower ones of its family."""

import copy

import pytest
import torch
from transformers import PreTrainedModel

from labutils.distillation import cut_student, narrow_student
from labutils.models.structure import find_blocks

IDS = torch.randint(0, 64, (2, 6), generator=torch.Generator().manual_seed(0))


@pytest.fixture(params=["tiny_llama", "tiny_gpt2", "tiny_opt", "tiny_bert"])
def model(request: pytest.FixtureRequest) -> PreTrainedModel:
    return request.getfixturevalue(request.param)


def last_states(model: PreTrainedModel) -> torch.Tensor:
    with torch.no_grad():
        return model.base_model(input_ids=IDS).last_hidden_state


def test_all_blocks_are_the_model_itself(model: PreTrainedModel) -> None:
    assert torch.equal(last_states(cut_student(model, [0, 1, 2])), last_states(model))


def test_a_cut_student_computes_with_the_blocks_it_kept(model: PreTrainedModel) -> None:
    """The same as the whole model with the middle block made to hand its input on."""
    student = cut_student(model, [2, 0])
    assert student.config.num_hidden_layers == len(find_blocks(student)[1]) == 2
    skipping = copy.deepcopy(model)
    block = find_blocks(skipping)[1][1]
    returns_tuple = isinstance(_called(block, skipping), tuple)
    block.forward = lambda hidden_states, *rest, **named: (hidden_states,) if returns_tuple else hidden_states
    assert torch.allclose(last_states(student), last_states(skipping), atol=1e-6)
    assert not torch.allclose(last_states(student), last_states(model), atol=1e-3)


def _called(block: torch.nn.Module, model: PreTrainedModel) -> object:
    found = []
    handle = block.register_forward_hook(lambda module, inputs, output: found.append(output))
    last_states(model)
    handle.remove()
    return found[0]


def test_cutting_changes_nothing_and_shares_nothing(model: PreTrainedModel) -> None:
    before = copy.deepcopy(model.state_dict())
    for parameter in cut_student(model, [1]).parameters():
        torch.nn.init.zeros_(parameter)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert model.config.num_hidden_layers == 3


@pytest.mark.parametrize("blocks", [[], [3], [-1, 0]])
def test_blocks_that_are_not_there_are_refused(tiny_llama: PreTrainedModel, blocks: list[int]) -> None:
    with pytest.raises(ValueError, match="blocks 0 to 2"):
        cut_student(tiny_llama, blocks)


def test_a_narrow_student_has_the_size_asked_for(model: PreTrainedModel) -> None:
    student = narrow_student(model, n_blocks=2, width=8, seed=3)
    assert type(student) is type(model.base_model)
    assert student.config.hidden_size == 8 and len(find_blocks(student)[1]) == 2
    assert last_states(student).shape == (2, 6, 8) and torch.isfinite(last_states(student)).all()
    assert sum(p.numel() for p in student.parameters()) < sum(p.numel() for p in model.base_model.parameters())


def test_a_seed_decides_a_narrow_student(tiny_llama: PreTrainedModel) -> None:
    first, again, other = (
        narrow_student(tiny_llama, n_blocks=1, width=8, seed=seed).state_dict() for seed in (0, 0, 1)
    )
    assert all(torch.equal(tensor, again[name]) for name, tensor in first.items())
    assert not torch.equal(first["layers.0.mlp.up_proj.weight"], other["layers.0.mlp.up_proj.weight"])
    ratio = first["embed_tokens.weight"] / other["embed_tokens.weight"]
    assert torch.allclose(ratio, ratio.mean(), rtol=1e-4)  # the embeddings come from the teacher, but for their size


def test_narrow_embeddings_keep_the_words_geometry(tiny_llama: PreTrainedModel) -> None:
    """At full width the components only turn the embeddings: all angles between words stay."""
    source = tiny_llama.get_input_embeddings().weight
    table = narrow_student(tiny_llama, n_blocks=1, width=16).get_input_embeddings().weight
    cosines = [torch.nn.functional.normalize(each, dim=1) for each in (source, table)]
    assert torch.allclose(cosines[0] @ cosines[0].T, cosines[1] @ cosines[1].T, atol=1e-4)


@pytest.mark.parametrize(("n_blocks", "width"), [(0, 8), (1, 12), (1, 0), (1, 24)])
def test_sizes_that_cannot_be_are_refused(tiny_llama: PreTrainedModel, n_blocks: int, width: int) -> None:
    with pytest.raises(ValueError, match="multiple of the head width 8, up to 16"):
        narrow_student(tiny_llama, n_blocks=n_blocks, width=width)
