#!/usr/bin/env bash
# The same boolean attention mask is understood by Llama and GPT-2, and changes what MPT computes.
#
# Versions: transformers 5.23.0 with torch 2.13.0 (CPU), numpy 2.4.6.
# Expected: a 4-D mask (batch, 1, queries, keys) says which token may look at which; several prompts or the choices of
#   an item can then be read in one row. Given the plain causal mask, whether as booleans (True may be seen) or as
#   numbers that are added to the scores (0, or the lowest number), a causal model computes what it computes without.
# Seen: Llama and GPT-2 give the same logits for all three. MPT gives them for none and for the numbers; for booleans
#   its logits differ, by more than a hundredth here, and no error or warning tells.
# Hurts: whoever packs several texts into a row with one mask for all models, and compares their likelihoods.
set -euo pipefail
export OMP_NUM_THREADS=1
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check transformers==5.23.0 torch==2.13.0 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import sys

import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, MptConfig, MptForCausalLM

MODELS = {
    LlamaForCausalLM: LlamaConfig(vocab_size=32, hidden_size=16, intermediate_size=16, num_hidden_layers=2,
                                  num_attention_heads=2),
    GPT2LMHeadModel: GPT2Config(vocab_size=32, n_embd=16, n_layer=2, n_head=2, n_positions=32),
    MptForCausalLM: MptConfig(vocab_size=32, d_model=16, n_heads=2, n_layers=2, max_seq_len=32),
}
causal = torch.ones(6, 6, dtype=torch.bool).tril()[None, None]
numbers = torch.zeros(1, 1, 6, 6).masked_fill(~causal, torch.finfo(torch.float32).min)
apart = {}
for kind, config in MODELS.items():
    torch.manual_seed(0)
    model = kind(config).eval()
    ids = torch.randint(3, 32, (1, 6))
    with torch.no_grad():
        plain = model(input_ids=ids, use_cache=False).logits
        for name, mask in {"booleans": causal, "numbers": numbers}.items():
            found = model(input_ids=ids, attention_mask=mask, use_cache=False).logits
            apart[kind.__name__, name] = float((found - plain).abs().max())
    print(f"{kind.__name__}: logits differ from those without a mask by {apart[kind.__name__, 'booleans']:.4f} with "
          f"booleans, by {apart[kind.__name__, 'numbers']:.4f} with numbers")

odd = apart.pop(("MptForCausalLM", "booleans"))
surprising = odd > 0.01 and max(apart.values()) < 1e-5
print("as recorded" if surprising else "CHANGED: MPT understands the mask, or another model does not")
sys.exit(0 if surprising else 1)
PYTHON
