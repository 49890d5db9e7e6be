#!/usr/bin/env bash
# transformers: whether `hidden_states` show what a hook puts in depends on whether they had been asked for before.
#
# Versions: transformers 5.23.0, with torch 2.13.0 (CPU), numpy 2.4.6.
# Expected: `output_hidden_states=True` is documented to return the hidden states of the model at the output of each
#   layer, plus the embeddings. A forward hook of torch that returns something changes a layer's output. So the state
#   that is reported behind a patched layer is the one that the next layer reads, whatever was run earlier.
# Seen: states are recorded by forward hooks of transformers' own, which are set at the first call that asks for states
#   and stay; torch runs hooks in the order in which they were set. On a model that has not been asked yet, the report
#   shows the patch. After one call with `output_hidden_states=True`, as for the clean run that the patched one is
#   compared with, the same hook gives the same logits, but the report behind the patched layer holds the output from
#   before the patch: it equals the clean run's, bit for bit, while the next layer reads zeros (or a state moved by a
#   steering vector). All other states are right in both. So are the states in both orders where the hook is set with
#   `prepend=True`. It is the same for Llama, GPT-2, Mixtral and GPT-NeoX, and no warning tells.
# Hurts: whoever ablates, steers or restores a layer by a hook and reads what came of it from `hidden_states`: by the
#   report a removed layer works as before, a logit lens or a norm behind the patched layer shows no effect, and the
#   first effect seems to come one layer later than it does; running the same cell twice gives another answer.
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
    AutoModelForCausalLM, GPT2Config, GPTNeoXConfig, LlamaConfig, MixtralConfig
)  # fmt: skip

LAYERS, PATCHED, WIDTH = 5, 2, 32
COMMON = dict(vocab_size=64, initializer_range=0.3, bos_token_id=1, eos_token_id=2)
SMALL = dict(hidden_size=WIDTH, intermediate_size=64, num_hidden_layers=LAYERS, num_attention_heads=2)
CONFIGS = {
    "Llama": LlamaConfig(**COMMON, **SMALL),
    "GPT-2": GPT2Config(**COMMON, n_embd=WIDTH, n_layer=LAYERS, n_head=2, n_positions=64),
    "Mixtral": MixtralConfig(**COMMON, **SMALL, num_key_value_heads=2, num_local_experts=2, num_experts_per_tok=1),
    "GPT-NeoX": GPTNeoXConfig(**COMMON, **SMALL),
}
STEER = 10 * torch.randn(WIDTH, generator=torch.Generator().manual_seed(1))
CHANGES = {"remove": lambda state: torch.zeros_like(state), "steer": lambda state: state + STEER}


def layers_of(model):
    body = model.base_model
    return body.layers if hasattr(body, "layers") else body.h


def patch(change):
    def hook(module, inputs, output):
        return (change(output[0]), *output[1:]) if isinstance(output, tuple) else change(output)

    return hook


@torch.no_grad()
def read(config, change, asked_before, **place):
    """States of the clean run, and of the patched run: as reported, and as the layers read them; its logits."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config).eval()
    ids = torch.randint(3, 64, (2, 12))
    if asked_before:
        model(ids, output_hidden_states=True)
    handed = []
    layers = layers_of(model)
    handles = [layer.register_forward_pre_hook(lambda module, inputs: handed.append(inputs[0])) for layer in layers]
    handles.append(layers[PATCHED].register_forward_hook(patch(change), **place))
    patched = model(ids, output_hidden_states=True)
    for handle in handles:
        handle.remove()
    return model(ids, output_hidden_states=True).hidden_states, patched.hidden_states, handed, patched.logits


def off(left, right):
    return [float((a - b).abs().max() / b.abs().max().clamp(min=1)) for a, b in zip(left, right, strict=True)]


ok = True
for name, config in CONFIGS.items():
    for kind, change in CHANGES.items():
        logits = []
        for asked_before in (False, True):
            clean, reported, handed, last = read(config, change, asked_before)
            logits.append(last)
            wrong = off(reported[:-1], handed)
            as_clean = torch.equal(reported[PATCHED + 1], clean[PATCHED + 1])
            print(f"{name:8} {kind:6} asked before: {asked_before!s:5} reported against read by layers 0 to "
                  f"{LAYERS - 1}: {', '.join(f'{one:.2g}' for one in wrong)}; behind the patch as in the clean run: "
                  f"{as_clean}")
            others = wrong[: PATCHED + 1] + wrong[PATCHED + 2 :]
            ok &= max(others) == 0 and as_clean == asked_before and (wrong[PATCHED + 1] > 0.2) == asked_before
            _, reported, handed, _ = read(config, change, asked_before, prepend=True)
            ok &= max(off(reported[:-1], handed)) == 0
        ok &= torch.equal(*logits)
print("logits are the same in both orders, and with prepend=True all states are those that were read" if ok else "")
print("as recorded" if ok else "CHANGED: the report no longer depends on what was asked before")
sys.exit(0 if ok else 1)
PYTHON
if grep -iE "hook|hidden" "$folder/log" >&2; then
    echo "a warning speaks of hooks or states now" >&2
    exit 1
fi
