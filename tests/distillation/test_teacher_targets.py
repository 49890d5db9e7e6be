"""What a teacher says: the same whether its states are kept or computed again."""

import pytest
import torch
from transformers import PreTrainedModel

from labutils.distillation import TaskData, targets
from labutils.distillation.data import make_batch
from labutils.distillation.task_models import TaskModel

CPU = torch.device("cpu")


@pytest.fixture
def teacher(tiny_llama: PreTrainedModel, pairs: TaskData) -> TaskModel:
    torch.manual_seed(0)
    return TaskModel(tiny_llama, pairs, adapter_rank=2).eval()


@pytest.mark.parametrize("states", ["hidden", "adapters"])
def test_kept_states_are_those_of_a_forward_pass(teacher: TaskModel, pairs: TaskData, states: str) -> None:
    kept = targets.TeacherTargets(teacher, pairs, pairs.train, states=states, with_padding=False)
    batch = make_batch(pairs, pairs.train, [6, 3, 11], CPU)
    reading = teacher.read(batch.ids, batch.mask)
    found, mask = kept.states(batch), batch.mask.bool()
    assert found.shape == getattr(reading, states).shape
    assert torch.allclose(found[:, mask], getattr(reading, states)[:, mask], atol=1e-4)
    assert (found[:, ~mask] == 0).all()
    assert torch.allclose(kept.outputs[batch.items], reading.outputs, atol=1e-4)
    assert not found.requires_grad and not kept.outputs.requires_grad


def test_padding_is_there_for_those_who_want_it(teacher: TaskModel, pairs: TaskData) -> None:
    found = targets.TeacherTargets(teacher, pairs, pairs.train, states="hidden", with_padding=True)
    batch = make_batch(pairs, pairs.train, list(range(12)), CPU)
    assert torch.equal(found.states(batch), teacher.read(batch.ids, batch.mask).hidden)
    assert (found.states(batch)[:, ~batch.mask.bool()] != 0).any()


def test_too_many_states_are_computed_again(
    teacher: TaskModel, pairs: TaskData, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = targets.TeacherTargets(teacher, pairs, pairs.train, states="hidden", with_padding=False)
    monkeypatch.setattr(targets, "BYTES_KEPT", 100)
    again = targets.TeacherTargets(teacher, pairs, pairs.train, states="hidden", with_padding=False)
    batch = make_batch(pairs, pairs.train, [0, 5], CPU)
    mask = batch.mask.bool()
    assert kept._kept and again._kept is None
    assert torch.allclose(kept.states(batch)[:, mask], again.states(batch)[:, mask], atol=1e-4)
