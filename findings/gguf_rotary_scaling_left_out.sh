#!/usr/bin/env bash
# A GGUF file says how its rotary positions are scaled; transformers loads the model without any scaling.
#
# Versions: transformers 5.23.0, gguf 0.19.0, with accelerate 1.15.0, torch 2.13.0 (CPU), numpy 2.4.6.
# Expected: the documentation offers `from_pretrained(..., gguf_file=...)` for Llama files among others, to be trained
#   or used as any model. The format's specification keeps the scaling in the file: the keys `llama.rope.scaling.type`
#   ("linear" or "yarn"), `.factor` and `.original_context_length`; for Llama 3.1 to 3.3, llama.cpp's converter writes
#   the tensor `rope_freqs.weight`, by which each rotary frequency is divided. transformers has all three kinds
#   ("linear", "yarn", "llama3"). So a model in 32-bit floats comes back from its file with the logits it had.
# Seen: true without scaling. With any of the three, the loaded configuration says `rope_type` "default", all weights
#   are equal bit for bit, and the logits are exactly those of the model without scaling. Nothing tells: no key is
#   reported as missing or unexpected, not even the tensor, and no warning names positions. In ten small random Llamas
#   that read 200 tokens, fewer than the context before scaling, another next token is the likeliest at 68 % (Llama
#   3.1), 90 % (linear) and 87 % (YaRN) of the positions; large random weights make that much of it.
# Hurts: whoever prunes, explains or scores Llama 3.1 or a long-context model from its GGUF file, or compares it with
#   the same model from safetensors: the difference looks like one of the quantisation.
set -euo pipefail
export OMP_NUM_THREADS=1
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    transformers==5.23.0 gguf==0.19.0 accelerate==1.15.0 torch==2.13.0 numpy==2.4.6
"$folder/venv/bin/python" - "$folder" 2>"$folder/log" <<'PYTHON' || { cat "$folder/log" >&2; exit 1; }
import sys

import gguf
import numpy as np
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

HEADS, WIDTH, MODELS, BASE, FACTOR, BEFORE = 2, 64, 10, 10000.0, 4.0, 256
SCALINGS = {
    "none": {"rope_type": "default"},
    "llama3": {"rope_type": "llama3", "factor": FACTOR, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
               "original_max_position_embeddings": BEFORE},
    "linear": {"rope_type": "linear", "factor": FACTOR},
    "yarn": {"rope_type": "yarn", "factor": FACTOR, "original_max_position_embeddings": BEFORE},
}  # fmt: skip


def build(seed, scaling):
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=128, hidden_size=WIDTH, intermediate_size=128, num_hidden_layers=2, num_attention_heads=HEADS,
        max_position_embeddings=int(BEFORE * FACTOR), initializer_range=0.2,
        rope_parameters={"rope_theta": BASE, **SCALINGS[scaling]},
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


def write(model, scaling):
    """The model as llama.cpp's converter writes it, in 32-bit floats."""
    config, writer = model.config, gguf.GGUFWriter(f"{sys.argv[1]}/model.gguf", "llama")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_rope_freq_base(BASE)
    writer.add_vocab_size(config.vocab_size)
    if scaling == "llama3":
        plain = BASE ** (-torch.arange(0, config.head_dim, 2) / config.head_dim)
        writer.add_tensor("rope_freqs.weight", (plain / model.model.rotary_emb.inv_freq).numpy().astype(np.float32))
    elif scaling != "none":
        writer.add_rope_scaling_type(gguf.RopeScalingType[scaling.upper()])
        writer.add_rope_scaling_factor(FACTOR)
        if scaling == "yarn":
            writer.add_rope_scaling_orig_ctx_len(BEFORE)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    for name, value in model.state_dict().items():
        if "q_proj" in name or "k_proj" in name:  # the two halves of a head become neighbouring pairs
            value = value.reshape(HEADS, 2, -1, WIDTH).transpose(1, 2).reshape(WIDTH, WIDTH)
        writer.add_tensor(names.get_name(name, (".weight",)), value.numpy())
    for step in (writer.write_header_to_file, writer.write_kv_data_to_file, writer.write_tensors_to_file):
        step()
    writer.close()


wrong, rope = {}, {}
for scaling in SCALINGS:
    apart, changed = 0.0, 0.0
    for seed in range(MODELS):
        model, unscaled = build(seed, scaling), build(seed, "none")
        write(model, scaling)
        loaded, report = AutoModelForCausalLM.from_pretrained(
            sys.argv[1], gguf_file="model.gguf", dtype=torch.float32, output_loading_info=True
        )
        assert not any(report.values()), report  # no missing, unexpected or mismatched key, no error
        mine, theirs = model.state_dict(), loaded.state_dict()
        assert mine.keys() == theirs.keys() and all(torch.equal(mine[name], theirs[name]) for name in mine)
        ids = torch.randint(0, 128, (1, 200))
        with torch.no_grad():
            logits, found, without = (each.eval()(ids).logits for each in (model, loaded, unscaled))
        apart = max(apart, float((found - without).abs().max()))
        changed += float((found.argmax(-1) != logits.argmax(-1)).float().mean()) / MODELS
    wrong[scaling], rope[scaling] = changed, loaded.config.rope_parameters["rope_type"]
    print(f"{scaling:6}: loaded as {rope[scaling]!r}, from the model without scaling by {apart:.0e}, "
          f"another likeliest token at {changed:4.0%} of the positions")
    assert apart < 1e-4
assert wrong["none"] == 0 and set(rope.values()) == {"default"}
assert min(wrong[scaling] for scaling in SCALINGS if scaling != "none") > 0.1
PYTHON
if grep -iE "rope|rotary|position|scaling" "$folder/log" >&2; then
    echo "a warning names the positions now" >&2
    exit 1
fi
