"""Before anything is changed: the replay of the blocks is what the model computes, or the model is refused by name."""

import copy

import pytest
import torch
from torch import Tensor, nn
from transformers import XLMConfig, XLMWithLMHeadModel

import labutils as lab
from labutils.models.structure import find_blocks
from labutils.pruning.calibration import BlockWalk
from labutils.pruning.proof import relative_difference, tolerance

IDS = torch.arange(3, 35).reshape(4, 8)


def assert_refused_unchanged(model: nn.Module, error: type[Exception], match: str, **options: object) -> None:
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(error, match=match):
        lab.prune(model, IDS, sparsity=0.5, **({"method": "wanda", "restorable": False} | options))
    assert all(tensor.equal(before[name]) for name, tensor in model.state_dict().items())


def wrap_forward(module: nn.Module, change) -> None:
    """Let what a module returns go through `change`."""
    forward = module.forward
    module.forward = lambda *args, **kwargs: change(forward(*args, **kwargs))


def test_blocks_whose_parts_stand_in_several_lists() -> None:
    """XLM: attentions, norms and feed-forward layers each have a list of their own."""
    torch.manual_seed(0)
    config = XLMConfig(vocab_size=64, emb_dim=16, n_layers=3, n_heads=2, max_position_embeddings=32)
    match = "XLMWithLMHeadModel.*'transformer.ffns' and also through 'transformer.attentions'"
    assert_refused_unchanged(XLMWithLMHeadModel(config).eval(), ValueError, match)


def test_what_stands_between_blocks_is_noticed(tiny_llama: nn.Module) -> None:
    """The model changes the states on their way from one block to the next, where no block knows of it."""
    blocks = tiny_llama.model.layers
    between = blocks[1].register_forward_hook(lambda block, args, output: output * 1.5)
    BlockWalk(tiny_llama, IDS)  # a hook belongs to its block and is replayed with it
    between.remove()

    class Scaled(nn.ModuleList):
        def __iter__(self):
            for block in super().__iter__():
                yield lambda hidden, block=block, **kwargs: 1.5 * block(hidden, **kwargs)

        def __getitem__(self, index):
            return list(self)[index] if isinstance(index, slice) else super().__getitem__(index)

    tiny_llama.model.layers = Scaled(blocks)
    match = r"LlamaForCausalLM: its 3 blocks 'model\.layers', run one after the other.*relative difference 0\.\d+"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("labutils.models.structure.block_lists", lambda model: {"model.layers": blocks})
        patch.setattr("labutils.pruning.proof.block_lists", lambda model: {"model.layers": blocks})
        assert_refused_unchanged(tiny_llama, LookupError, match)


def test_a_block_that_remembers_is_refused(tiny_llama: nn.Module) -> None:
    """It gives another output every time, as with a cache of its own."""
    times = []

    def remember(output: Tensor) -> Tensor:
        times.append(1)
        return output * (1 + 0.1 * len(times))

    wrap_forward(tiny_llama.model.layers[1], remember)
    assert_refused_unchanged(tiny_llama, LookupError, "do not give what the model itself computes")


class Past:
    """A cache that transformers does not know as one: an object that a block changes."""

    def __init__(self):
        self.times = 0


class Constant(Past):
    """Says 1 however often it is used."""

    times = property(lambda self: 1, lambda self, value: None)


class Caching(nn.Module):
    """A block around another, which works differently the second time that it gets the same cache."""

    def __init__(self, block: nn.Module):
        super().__init__()
        self.inner = block

    def forward(self, hidden_states: Tensor, past: Past, **kwargs: object) -> Tensor:
        past.times += 1
        return self.inner(hidden_states, **kwargs) * past.times


@pytest.mark.parametrize("number", [0, 2])
def test_what_a_block_is_called_with_must_stay_as_it_is(tiny_llama: nn.Module, number: int) -> None:
    """The last block's first replay is still right; a walk replays it again and again."""
    tiny_llama.model.layers = nn.ModuleList(Caching(block) for block in tiny_llama.model.layers)
    for index, block in enumerate(tiny_llama.model.layers):
        kind = Past if index == number else Constant  # the model makes a new one in every pass of its own
        block.register_forward_pre_hook(
            lambda block, args, kwargs, kind=kind: (args, {"past": kind()} | kwargs), with_kwargs=True
        )
    assert_refused_unchanged(tiny_llama, LookupError, "do not give what the model itself computes")


def test_blocks_out_of_order(tiny_llama: nn.Module) -> None:
    """A model that goes through its blocks twice, or skips one, is not walked as if it went through them once."""

    class Twice(nn.ModuleList):
        def __getitem__(self, index):
            return [*self, *self] if isinstance(index, slice) else super().__getitem__(index)

    class Skipping(nn.ModuleList):
        def __getitem__(self, index):
            return [self[0], self[2]] if isinstance(index, slice) else super().__getitem__(index)

    blocks = list(tiny_llama.model.layers)
    tiny_llama.model.layers = Twice(blocks)
    assert_refused_unchanged(tiny_llama, LookupError, r"'model\.layers' in the order \[0, 1, 2, 0, 1, 2\]")
    tiny_llama.model.layers = Skipping(blocks)
    assert_refused_unchanged(tiny_llama, LookupError, r"Only 2 of the 3 blocks.*first that was not is model\.layers\.1")


def test_a_second_stack_of_blocks_is_not_left_dense_in_silence(tiny_llama: nn.Module, tiny_gpt2: nn.Module) -> None:
    class Beside(nn.Module):
        def __init__(self, blocks: nn.ModuleList):
            super().__init__()
            self.tower = nn.ModuleList(list(blocks)[:2])

        def forward(self, hidden: Tensor) -> Tensor:
            for block in self.tower:
                hidden = hidden + 0.1 * block(hidden)
            return hidden

    tiny_llama.model.norm = nn.Sequential(tiny_llama.model.norm, Beside(copy.deepcopy(tiny_gpt2.transformer.h)))
    assert_refused_unchanged(tiny_llama, ValueError, r"'model\.layers' and also through 'model\.norm\.1\.tower'")


def test_compiled_blocks_are_refused(tiny_llama: nn.Module) -> None:
    tiny_llama.model.layers[2].mlp.compile(backend="eager")
    assert_refused_unchanged(tiny_llama, ValueError, r"model\.layers\.2\.mlp is compiled.*compile it afterwards")


def test_a_compiled_model_is_the_model_inside(tiny_llama: nn.Module) -> None:
    plain = copy.deepcopy(tiny_llama)
    lab.prune(plain, IDS, method="sparsegpt", sparsity=0.5)
    lab.prune(torch.compile(tiny_llama, backend="eager"), IDS, method="sparsegpt", sparsity=0.5)
    assert all(tensor.equal(plain.state_dict()[name]) for name, tensor in tiny_llama.state_dict().items())


def test_weights_used_in_two_places_are_refused(tiny_llama: nn.Module, tiny_gpt2: nn.Module) -> None:
    layers = tiny_llama.model.layers
    own = layers[2].mlp
    layers[2].mlp = layers[0].mlp
    match = r"model\.layers\.0\.mlp\.gate_proj and model\.layers\.2\.mlp\.gate_proj are one and the same weight"
    assert_refused_unchanged(tiny_llama, ValueError, match)
    layers[2].mlp = own
    layers[2].self_attn.q_proj.weight = layers[2].self_attn.o_proj.weight
    match = r"model\.layers\.2\.self_attn\.q_proj and model\.layers\.2\.self_attn\.o_proj are one"
    assert_refused_unchanged(tiny_llama, ValueError, match)
    layers[2].self_attn.q_proj.weight = nn.Parameter(own.gate_proj.weight[:16].clone())
    layers[1] = layers[0]
    assert_refused_unchanged(tiny_llama, ValueError, r"layers\.0\.self_attn\.q_proj and model\.layers\.1\.self_attn")
    tiny_gpt2.lm_head.weight = tiny_gpt2.transformer.h[0].attn.c_proj.weight
    assert_refused_unchanged(tiny_gpt2, ValueError, r"transformer\.h\.0\.attn\.c_proj and lm_head\.weight are one")


def test_the_proof_runs_one_sequence_once_and_replays_it_once(tiny_llama: nn.Module) -> None:
    runs: list[int] = []
    for block in tiny_llama.model.layers:
        block.self_attn.register_forward_pre_hook(
            lambda layer, args, kwargs: runs.append(len(kwargs["hidden_states"])), with_kwargs=True
        )
    BlockWalk(tiny_llama, IDS, batch_size=4)
    assert runs == [1] * (1 + 2 * 3)  # the first block tells what blocks return


def test_weights_that_are_not_finite_are_left_to_what_names_them(tiny_llama: nn.Module) -> None:
    with torch.no_grad():
        tiny_llama.model.layers[1].mlp.up_proj.weight[0, 0] = float("inf")
    assert len(find_blocks(tiny_llama)[1]) == len(BlockWalk(tiny_llama, IDS).blocks)


def test_relative_difference() -> None:
    expected = torch.tensor([1.0, -4.0, 2.0])
    assert relative_difference(expected, expected) == 0.0
    assert relative_difference(torch.tensor([1.0, -4.0, 1.0]), expected) == 0.25
    assert relative_difference(expected[:2], expected) == float("inf")
    nan = torch.tensor([1.0, float("nan"), 2.0])
    assert relative_difference(nan, expected) == float("inf") and relative_difference(nan, nan) == 0.0
    assert relative_difference(torch.ones(2), torch.zeros(2)) == float("inf")
    assert tolerance(torch.float32, torch.bfloat16) == pytest.approx(2**-3.5)
