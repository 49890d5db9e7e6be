#!/usr/bin/env bash
# transformers refuses to build a second model with another attention; the first one then computes something else.
#
# Versions: transformers 5.23.0, with torch 2.13.0 (CPU), numpy 2.4.6.
# Expected: a configuration describes models, and `from_config(config, attn_implementation=...)` asks for one model's
#   attention. Where that model has no such attention, ValueError says so, and the model that was built before with its
#   own attention (written out, "eager", the only one that these four have without further packages) stays as it is.
# Seen: `from_config` writes the wish into the configuration that it was given, before it checks; the first model was
#   built from the same object, keeps it as its `config`, and reads its attention from there at every call. After the
#   refusal BLOOM, GPT-J and CodeGen have their masks made for the attention that they do not have, and their tokens
#   see what comes after them; gpt-oss goes through that attention, which leaves out its sinks. Their logits move by
#   0.8 to 1.3 of the largest, without a warning at the first model's calls. With a copy of the configuration nothing
#   changes.
# Hurts: whoever builds a dense model and its pruned copy from one configuration, tries a faster attention for one of
#   them and goes on without where that is refused: the model that was there before has changed in between.
set -euo pipefail
export OMP_NUM_THREADS=1
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check transformers==5.23.0 torch==2.13.0 numpy==2.4.6
"$folder/venv/bin/python" - 2>"$folder/log" <<'PYTHON' || { cat "$folder/log" >&2; exit 1; }
import copy
import sys

import torch
from transformers import AutoModelForCausalLM, BloomConfig, CodeGenConfig, GPTJConfig, GptOssConfig

COMMON = dict(vocab_size=64, initializer_range=0.3, bos_token_id=1, eos_token_id=2)
SMALL = dict(n_embd=32, n_layer=2, n_head=4, n_positions=64, rotary_dim=4)
CONFIGS = {
    "BLOOM": BloomConfig(**COMMON, hidden_size=32, n_layer=2, n_head=4),
    "GPT-J": GPTJConfig(**COMMON, **SMALL),
    "CodeGen": CodeGenConfig(**COMMON, **SMALL),
    "gpt-oss": GptOssConfig(**COMMON, hidden_size=32, intermediate_size=64, num_hidden_layers=2, head_dim=8,
                            num_attention_heads=4, num_key_value_heads=2, num_local_experts=4, num_experts_per_tok=2,
                            pad_token_id=0),
}  # fmt: skip


def build_another(model):
    AutoModelForCausalLM.from_config(model.config, attn_implementation="sdpa")


def build_from_copy(model):
    AutoModelForCausalLM.from_config(copy.deepcopy(model.config), attn_implementation="sdpa")


@torch.no_grad()
def read(config, change):
    """How far the first model's logits move, of the largest, and how much its first four tokens see of the others."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(copy.deepcopy(config)).eval()
    attention, ids = model.config._attn_implementation, torch.randint(3, 64, (1, 12))
    other_end = torch.cat([ids[:, :4], ids[:, 4:].flip(1)], dim=1)
    before = model(ids).logits
    try:
        change(model)
        refused = False
    except ValueError:
        refused = True
    after = model(ids).logits
    ahead = (after - model(other_end).logits)[:, :4].abs().max() / before.abs().max()
    return attention, refused, float((after - before).abs().max() / before.abs().max()), float(ahead)


ok = True
for name, config in CONFIGS.items():
    for change in (build_another, build_from_copy):
        attention, refused, moved, ahead = read(config, change)
        print(f"{name:8} {attention}, {change.__name__:15} refused: {refused}; logits move by {moved:.2f} of the "
              f"largest, the first tokens see ahead by {ahead:.2f}")
        ok &= attention == "eager" and refused
        ok &= moved > 0.3 if change is build_another else max(moved, ahead) < 1e-5
print("as recorded" if ok else "CHANGED: a refused model leaves others as they are, or the attention is there now")
sys.exit(0 if ok else 1)
PYTHON
if grep -iE "attention|config is shared" "$folder/log" >&2; then
    echo "a warning speaks of the attention now" >&2
    exit 1
fi
