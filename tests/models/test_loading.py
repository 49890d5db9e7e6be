"""Loading models, and finding blocks and weight matrices by structure."""

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import BartConfig, LlamaForCausalLM, T5Config, T5EncoderModel, T5ForConditionalGeneration

import labutils as lab
from labutils.core import paths
from labutils.models import loading as models
from labutils.models.modes import eval_mode
from labutils.models.structure import find_blocks, is_causal, prunable_layers, weight_matrix


@pytest.mark.parametrize(
    ("name", "prefix", "layers"),
    [
        ("tiny_llama", "model.layers", 7),
        ("tiny_gpt2", "transformer.h", 4),
        ("tiny_opt", "model.decoder.layers", 6),
        ("tiny_bert", "encoder.layer", 6),
    ],
)
def test_blocks_and_matrices(name: str, prefix: str, layers: int, request: pytest.FixtureRequest) -> None:
    model = request.getfixturevalue(name)
    found, blocks = find_blocks(model)
    assert found == prefix and len(blocks) == 3
    assert all(len(prunable_layers(block)) == layers for block in blocks)
    assert is_causal(model) == (name != "tiny_bert")


def test_conv1d_matrices_are_out_by_in(tiny_gpt2: nn.Module) -> None:
    layer = tiny_gpt2.transformer.h[0].attn.c_attn
    inputs = torch.randn(2, 16)
    torch.testing.assert_close(inputs @ weight_matrix(layer).T + layer.bias, layer(inputs))
    weight_matrix(layer)[0, 0] = 7.0
    assert layer.weight[0, 0] == 7.0


def test_the_outermost_longest_list_wins() -> None:
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.experts = nn.ModuleList([nn.Linear(2, 2) for _ in range(9)])

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.heads = nn.ModuleList([nn.Linear(2, 2) for _ in range(2)])
            self.layers = nn.ModuleList([Block() for _ in range(4)])

    assert find_blocks(Model())[0] == "layers"


def test_a_saved_folder_loads(tiny_llama: nn.Module, tmp_path, lab_tokenizer) -> None:
    tiny_llama.save_pretrained(tmp_path)
    lab_tokenizer.save_pretrained(tmp_path)
    model, tokenizer = lab.load_model(str(tmp_path))
    assert isinstance(model, LlamaForCausalLM) and not model.training and len(tokenizer) == len(lab_tokenizer)
    assert torch.equal(model.model.embed_tokens.weight, tiny_llama.model.embed_tokens.weight)


def test_of_t5_the_encoder_is_loaded(tmp_path, lab_tokenizer) -> None:
    sizes = {"d_model": 16, "d_ff": 24, "d_kv": 8, "num_layers": 2, "num_heads": 2}
    whole = T5ForConditionalGeneration(T5Config(vocab_size=len(lab_tokenizer), **sizes))
    whole.save_pretrained(tmp_path)
    lab_tokenizer.save_pretrained(tmp_path)
    model, _ = lab.load_model(str(tmp_path))
    assert isinstance(model, T5EncoderModel) and not is_causal(model) and find_blocks(model)[0] == "encoder.block"
    for name, tensor in whole.encoder.state_dict().items():
        assert torch.equal(tensor, model.encoder.state_dict()[name]), name


def test_an_encoder_that_cannot_be_had_alone(tmp_path) -> None:
    BartConfig(architectures=["BartForConditionalGeneration"]).save_pretrained(tmp_path)
    with pytest.raises(LookupError, match="'bart' is a model with encoder and decoder"):
        lab.load_model(str(tmp_path))


def test_weights_that_are_not_finite_are_refused(tiny_llama: nn.Module, tmp_path, lab_tokenizer) -> None:
    with torch.no_grad():
        tiny_llama.model.norm.weight[2] = float("inf")
    tiny_llama.save_pretrained(tmp_path)
    lab_tokenizer.save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=r"model\.norm\.weight"):
        lab.load_model(str(tmp_path))


def test_lab_models_are_listed_and_load() -> None:
    listed = lab.list_lab_models()
    assert {"lab-llama", "lab-gpt2", "lab-opt"} <= set(listed["name"])
    assert listed["megabytes"].sum() < 40
    for name in listed["name"]:
        model, tokenizer = lab.load_model(name)
        assert len(tokenizer) == model.config.vocab_size
        assert not list((paths.MODELS / name).glob("*.bin"))


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("lab-lama", "lab-llama"),
        ("./nowhere", "not found"),
        ("package:no-such-thing", "not installed"),
        ("package:pytest", "no folder"),
    ],
)
def test_what_cannot_be_loaded_says_what_to_do(source: str, says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(LookupError, match=says):
        lab.load_model(source)


def test_a_hub_id_without_a_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*arguments: object, **options: object) -> None:
        raise OSError("We couldn't connect to the hub")

    monkeypatch.setattr(models.AutoConfig, "from_pretrained", unreachable)
    with pytest.raises(LookupError, match="connect to the network once"):
        models.load_model("some-owner/some-model")


def test_an_incomplete_folder(tmp_path) -> None:
    with pytest.raises(LookupError, match="not a complete model folder"):
        lab.load_model(str(tmp_path))


def test_eval_mode_gives_every_module_its_own_mode_back(tiny_gpt2: nn.Module) -> None:
    tiny_gpt2.train()
    tiny_gpt2.transformer.h[1].eval()
    modes = [module.training for module in tiny_gpt2.modules()]
    with pytest.raises(RuntimeError, match="stop"), eval_mode(tiny_gpt2):
        assert not any(module.training for module in tiny_gpt2.modules()) and not torch.is_grad_enabled()
        raise RuntimeError("stop")
    assert [module.training for module in tiny_gpt2.modules()] == modes and torch.is_grad_enabled()
    with eval_mode(tiny_gpt2, gradients=True):
        assert torch.is_grad_enabled() and not tiny_gpt2.training


def test_devices_that_torch_does_not_find_are_refused() -> None:
    assert models.choose_device("cpu") == "cpu" and models.choose_device("auto") in ("cpu", "cuda")
    for device in ("gpu", "cuda:99"):
        with pytest.raises(ValueError, match=f"device='{device}' cannot be used here; give one of auto, cpu"):
            models.choose_device(device)


def test_a_checkpoint_that_lacks_tensors_is_refused(tmp_path: Path) -> None:
    shutil.copytree(paths.MODELS / "lab-llama", tmp_path / "model")
    weights = load_file(tmp_path / "model" / "model.safetensors")
    renamed = {f"module.{name}": tensor for name, tensor in weights.items()}
    save_file(renamed, tmp_path / "model" / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(LookupError, match=r"does not belong to its configuration: it has no tensor '.*missing in all"):
        lab.load_model(str(tmp_path / "model"))
