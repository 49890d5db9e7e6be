"""A head on a backbone: what it reads, what padding and batches must not change, and what a copy leaves alone."""

import copy

import pytest
import torch
from transformers import PreTrainedModel

from labutils.distillation import TaskData
from labutils.distillation.data import make_batch
from labutils.distillation.task_models import TaskModel

CPU = torch.device("cpu")
NAMES = ["tiny_llama", "tiny_gpt2", "tiny_opt", "tiny_bert"]


@pytest.fixture(params=NAMES)
def backbone(request: pytest.FixtureRequest) -> PreTrainedModel:
    return request.getfixturevalue(request.param)


def read_one_by_one(model: TaskModel, data: TaskData, items: list[int]) -> torch.Tensor:
    outputs = []
    for item in items:
        batch = make_batch(data, data.train, [item], CPU)
        outputs.append(model.read(batch.ids, batch.mask).outputs)
    return torch.cat(outputs)


@pytest.mark.parametrize("pooling", ["mean", "last"])
@pytest.mark.parametrize("kind", ["moods", "pairs"])
def test_padding_does_not_change_the_outputs(
    backbone: PreTrainedModel, kind: str, pooling: str, request: pytest.FixtureRequest
) -> None:
    data = request.getfixturevalue(kind)
    model = TaskModel(backbone, data, pooling=pooling)
    items = [0, 4, 2, 9]
    batch = make_batch(data, data.train, items, CPU)
    assert batch.mask.min() == 0  # there is padding
    together = model.read(batch.ids, batch.mask)
    assert together.outputs.shape == (4, data.n_outputs) and together.adapters is None
    assert together.hidden.shape == (3, len(batch.rows), batch.ids.shape[1], 16)
    assert torch.allclose(together.outputs, read_one_by_one(model, data, items), atol=1e-4)


def test_the_head_reads_the_pooled_last_state_by_hand(tiny_llama: PreTrainedModel, moods: TaskData) -> None:
    batch = make_batch(moods, moods.train, [1, 7], CPU)
    with torch.no_grad():
        states = tiny_llama.model(input_ids=batch.ids, attention_mask=batch.mask).last_hidden_state
    lengths = [len(moods.train.rows[item]) for item in (1, 7)]
    for pooling in ("mean", "last"):
        model = TaskModel(tiny_llama, moods, pooling=pooling)
        for row, length in enumerate(lengths):
            kept = states[row, :length]
            state = kept.mean(dim=0) if pooling == "mean" else kept[-1]
            expected = model.head.weight @ state + model.head.bias
            assert torch.allclose(model.read(batch.ids, batch.mask).outputs[row], expected, atol=1e-5)


def test_pairs_are_read_as_difference_and_product(tiny_bert: PreTrainedModel, pairs: TaskData) -> None:
    model = TaskModel(tiny_bert, pairs)
    pooled = torch.tensor([[1.0, 2.0], [0.0, 1.0], [3.0, -1.0], [0.0, 1.0]])
    assert model.features(pooled).tolist() == [[2.0, 3.0, 3.0, -2.0], [0.0, 0.0, 0.0, 1.0]]


def test_reading_needs_no_gradient_and_restores_the_mode(tiny_gpt2: PreTrainedModel, moods: TaskData) -> None:
    model = TaskModel(tiny_gpt2, moods).train()
    batch = make_batch(moods, moods.train, [0, 1], CPU)
    first, second = (model.read(batch.ids, batch.mask).outputs for _ in range(2))
    assert model.training and not first.requires_grad and torch.equal(first, second)  # dropout is off
    assert model(batch.ids, batch.mask).outputs.requires_grad


def test_adapters_are_part_of_the_reading_until_they_are_merged(backbone: PreTrainedModel, moods: TaskData) -> None:
    model = TaskModel(backbone, moods, adapter_rank=2).eval()
    batch = make_batch(moods, moods.train, [0, 1, 2], CPU)
    reading = model.read(batch.ids, batch.mask)
    assert reading.adapters.shape[:3] == (3, 3, batch.ids.shape[1]) and reading.adapters.shape[3] in (2, 6)
    model.merge()
    merged = model.read(batch.ids, batch.mask)
    assert merged.adapters is None and torch.allclose(merged.outputs, reading.outputs, atol=1e-5)
    model.merge()  # nothing is left to merge


def test_the_backbone_is_copied(tiny_llama: PreTrainedModel, moods: TaskData) -> None:
    before = copy.deepcopy(tiny_llama.state_dict())
    model = TaskModel(tiny_llama, moods, adapter_rank=2)
    torch.nn.init.zeros_(next(model.backbone.parameters()))
    assert all(torch.equal(tensor, before[name]) for name, tensor in tiny_llama.state_dict().items())


def test_another_tokenizers_ids_are_refused(tiny_llama: PreTrainedModel, moods: TaskData) -> None:
    moods.test.rows[0].append(64)
    try:
        with pytest.raises(ValueError, match="to 64 do not fit a vocabulary of 64"):
            TaskModel(tiny_llama, moods)
    finally:
        moods.test.rows[0].pop()
