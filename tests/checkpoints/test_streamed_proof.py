"""From disk to disk the replay of the blocks is proved as in memory, and nothing is left of a refusal."""

from pathlib import Path

import pytest
import torch
from transformers import LiltConfig, LiltModel, PreTrainedModel, XLMConfig, XLMModel

import labutils as lab
from labutils.checkpoints import save_dense

IDS = torch.randint(3, 60, (3, 10), generator=torch.Generator().manual_seed(0))


def lilt() -> PreTrainedModel:
    """Its blocks hand on a second stream of states beside the first."""
    torch.manual_seed(0)
    return LiltModel(
        LiltConfig(vocab_size=64, hidden_size=24, intermediate_size=24, num_hidden_layers=3, num_attention_heads=2,
                   channel_shrink_ratio=2, initializer_range=0.3)
    ).eval()  # fmt: skip


def xlm() -> PreTrainedModel:
    """It keeps attentions and feed-forward parts in lists of their own."""
    torch.manual_seed(0)
    return XLMModel(XLMConfig(vocab_size=64, emb_dim=16, n_layers=2, n_heads=2, max_position_embeddings=32)).eval()


@pytest.mark.parametrize(("build", "reason"), [(lilt, "run one after the other, do not give"), (xlm, "attentions")])
def test_what_cannot_be_replayed_is_refused_in_memory_and_on_disk(build, reason: str, tmp_path: Path) -> None:
    model = build()
    with pytest.raises((ValueError, LookupError), match=reason):
        lab.prune(model, IDS, method="wanda", sparsity=0.5)
    source = save_dense(model, tmp_path / "dense")
    with pytest.raises((ValueError, LookupError), match=reason):
        lab.prune_checkpoint(source, tmp_path / "pruned", IDS, method="wanda", sparsity=0.5)
    assert [path.name for path in tmp_path.iterdir()] == ["dense"]


def test_a_refusal_leaves_a_folder_that_was_there(tmp_path: Path) -> None:
    source = save_dense(xlm(), tmp_path / "dense")
    (tmp_path / "pruned").mkdir()
    with pytest.raises(ValueError, match="attentions"):
        lab.prune_checkpoint(source, tmp_path / "pruned", IDS, method="wanda", sparsity=0.5)
    assert (tmp_path / "pruned").exists() and not list((tmp_path / "pruned").iterdir())
