#!/usr/bin/env bash
# A saved Chinese-CLIP model comes back with another word embedding: loading zeroes the row of the padding token.
#
# Versions: transformers 5.23.0 with torch 2.13.0 (CPU), safetensors 0.8.0, numpy 2.4.6.
# Expected: `from_pretrained` gives the tensors that `save_pretrained` wrote, as it does for BERT, whose text tower is
#   built alike and has a padding token too.
# Seen: the file holds the row of `pad_token_id` as it was in memory; the loaded model has zeros there, without a
#   warning, and no key is reported as missing or unexpected. The text features of a batch that reads padding change,
#   here by more than a tenth of the largest one. BERT, saved and loaded in the same way, keeps its row.
# Hurts: whoever compares a model with what was saved of it, bit for bit, or has trained that row.
set -euo pipefail
export OMP_NUM_THREADS=1
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
  transformers==5.23.0 torch==2.13.0 safetensors==0.8.0 numpy==2.4.6
FOLDER="$folder" "$folder/venv/bin/python" - <<'PYTHON' 2>"$folder/log" || { cat "$folder/log" >&2; exit 1; }
import os
import sys

import torch
from safetensors.torch import load_file
from transformers import BertConfig, BertModel, ChineseCLIPConfig, ChineseCLIPModel

TEXT = dict(vocab_size=32, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
            max_position_embeddings=16)
IMAGE = dict(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, image_size=8,
             patch_size=4)
CONFIGS = {ChineseCLIPModel: ChineseCLIPConfig(text_config=TEXT, vision_config=IMAGE, projection_dim=8),
           BertModel: BertConfig(**TEXT)}
ids = torch.tensor([[5, 6, 7, 0, 0]])
lost, moved = {}, {}
for kind, config in CONFIGS.items():
    torch.manual_seed(0)
    model = kind(config).eval()
    key = next(name for name in model.state_dict() if name.endswith("word_embeddings.weight"))
    with torch.no_grad():
        model.state_dict()[key][0] = torch.linspace(-1, 1, 16)  # as training of the row might leave it
    place = os.path.join(os.environ["FOLDER"], kind.__name__)
    model.save_pretrained(place)
    stored = load_file(os.path.join(place, "model.safetensors"))[key][0]
    loaded, told = kind.from_pretrained(place, output_loading_info=True)
    loaded = loaded.eval()
    row = loaded.state_dict()[key][0]
    lost[kind.__name__] = float((stored - row).abs().max())
    read = lambda one: (one.text_model if kind is ChineseCLIPModel else one)(input_ids=ids).last_hidden_state
    with torch.no_grad():
        before, after = read(model), read(loaded)
    moved[kind.__name__] = float((before - after).abs().max() / before.abs().max())
    print(f"{kind.__name__}: largest entry of the padding row in the file {stored.abs().max():.2f}, in the loaded model "
          f"{row.abs().max():.2f}; output moved by {moved[kind.__name__]:.0%} of its largest entry; missing "
          f"{sorted(told['missing_keys'])}, unexpected {sorted(told['unexpected_keys'])}")

surprising = (lost["ChineseCLIPModel"] == 1 and moved["ChineseCLIPModel"] > 0.1
              and lost["BertModel"] == 0 == moved["BertModel"])
print("as recorded" if surprising else "CHANGED: both models come back as they were saved, or both do not")
sys.exit(0 if surprising else 1)
PYTHON
