#!/usr/bin/env bash
# transformers: a gap in `position_ids` hides all that comes before it, but only where no cache is used.
#
# Versions: transformers 5.23.0, with torch 2.13.0 (CPU), numpy 2.4.6.
# Expected: `position_ids` are documented as the positions of the tokens in the position embeddings, `attention_mask`
#   as what hides tokens (left out, none is hidden, as with ones), and `use_cache` as a matter of speed. So a prompt of
#   which some tokens were dropped, the others keeping their positions, gives the same logits with the cache or
#   without, with a mask of ones or without.
# Seen: without cache and mask, each token whose position is not that of the token before it plus one is taken for the
#   beginning of another text, and sees nothing before it. (Texts packed into one row are meant, whose positions begin
#   anew; but a gap counts too, and so does a position that comes twice.) In ten small random models each of Llama,
#   Qwen3 and GPT-2 that read 12 of 20 tokens, logits are off by as much as the largest one, and at 63 % to 72 % of the
#   positions another next token is the likeliest; with one position twice, at 44 % to 46 %. With the cache, or with a
#   mask of ones, the logits are those of the plain causal mask in four dimensions. No warning tells.
# Hurts: whoever drops tokens of a prompt or of a cache and keeps positions, stretches or repeats positions, and reads
#   losses or gradients with `use_cache=False`, as in training: what looks like the effect of dropping tokens or of
#   another position is that of a hidden past; and the same model generates, with its cache, as if nothing were wrong.
set -euo pipefail
export OMP_NUM_THREADS=1
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check transformers==5.23.0 torch==2.13.0 numpy==2.4.6
"$folder/venv/bin/python" - 2>"$folder/log" <<'PYTHON' || { cat "$folder/log" >&2; exit 1; }
import sys

import torch
from transformers import (
    GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, Qwen3Config, Qwen3ForCausalLM
)  # fmt: skip

WORDS, MODELS, LENGTH, KEPT = 64, 10, 20, 12
COMMON = dict(vocab_size=WORDS, initializer_range=0.3, bos_token_id=1, eos_token_id=2)
ROTARY = dict(hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
              num_key_value_heads=1, max_position_embeddings=64)  # fmt: skip
CONFIGS = {
    LlamaForCausalLM: LlamaConfig(**COMMON, **ROTARY),
    Qwen3ForCausalLM: Qwen3Config(**COMMON, **ROTARY, head_dim=16),
    GPT2LMHeadModel: GPT2Config(**COMMON, n_embd=32, n_layer=2, n_head=2, n_positions=64),
}
causal = torch.full((KEPT, KEPT), torch.finfo(torch.float32).min).triu(1)[None, None]
ones = torch.ones(1, KEPT, dtype=torch.long)
WAYS = {
    "no cache, no mask": dict(use_cache=False),
    "cache, no mask": dict(use_cache=True),
    "no cache, ones": dict(use_cache=False, attention_mask=ones),
}
ok = True
for kind, config in CONFIGS.items():
    for case in ("in order", "gaps", "one twice"):
        off, other = {way: [] for way in WAYS}, dict.fromkeys(WAYS, 0)
        for seed in range(MODELS):
            torch.manual_seed(seed)
            model = kind(config).eval()
            ids = torch.randint(3, WORDS, (1, LENGTH))
            chosen = torch.randperm(LENGTH)[:KEPT].sort().values
            order = torch.arange(KEPT)
            positions = {"in order": 3 + order, "gaps": chosen, "one twice": order - (order >= KEPT // 2).long()}[case]
            given = dict(input_ids=ids[:, chosen], position_ids=positions[None])
            with torch.no_grad():
                right = model(**given, attention_mask=causal, use_cache=False).logits
                for way, settings in WAYS.items():
                    found = model(**given, **settings).logits
                    off[way].append(float((found - right).abs().max() / right.abs().max()))
                    other[way] += int((found.argmax(-1) != right.argmax(-1)).sum())
        for way, values in off.items():
            share = other[way] / (MODELS * KEPT)
            print(f"{kind.__name__:17} {case:9} {way:17}: logits off by {min(values):.0e} to {max(values):.0e} of the "
                  f"largest, another likeliest token at {share:.0%} of the positions")
            if case != "in order" and way == "no cache, no mask":
                ok &= min(values) > 0.1 and share > 0.2
            else:
                ok &= max(values) < 1e-5 and share == 0
print("as recorded" if ok else "CHANGED: gaps no longer hide the past, or do so in other cases too")
sys.exit(0 if ok else 1)
PYTHON
if grep -iE "position|packed|mask" "$folder/log" >&2; then
    echo "a warning speaks of positions now" >&2
    exit 1
fi
