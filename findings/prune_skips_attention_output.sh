#!/usr/bin/env bash
# A pruned attention layer reports that a checkpoint was loaded, then computes with the weights it had before.
#
# Versions: torch 2.13.0 (CPU), with numpy 2.4.6.
# Expected: `torch.nn.utils.prune` keeps `weight_orig` and `weight_mask` in the state dict, and documents a forward
#   pre-hook that prunes on the fly. So "build the model, prune it, load the state dict of a pruned and trained one"
#   gives that model again; `load_state_dict` (strict) answers that all keys matched.
# Seen: true of linear layers by themselves. `nn.MultiheadAttention` never calls its linear layer `out_proj`: it reads
#   that layer's `weight`, which is a plain attribute once pruned, so the hook never runs. Loading changes
#   `weight_orig` and `weight_mask`, and the output comes from the weights of before, without a warning: off by more
#   than the largest output of the attention, and by a third of it in an `nn.TransformerEncoderLayer`. Changes of
#   `weight_orig` have no effect on the output either. `prune.remove` after loading makes the two agree, so that
#   measuring before and after it gives two results. Training such a layer stops at the second step with an error
#   about a graph used twice, which names neither pruning nor attention.
# Hurts: whoever evaluates a pruned transformer from its checkpoint, or wants to train one under its masks.
set -euo pipefail
export OMP_NUM_THREADS=1
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.13.0 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import sys

import torch
from torch import nn
from torch.nn.utils import prune


def build(kind, seed):
    """A model with half of each linear layer's weights masked, and these layers."""
    torch.manual_seed(seed)
    model = kind()
    layers = [module for module in model.modules() if isinstance(module, nn.Linear)]
    for layer in layers:
        prune.l1_unstructured(layer, "weight", amount=0.5)
    return model.eval(), layers


def perceptron():
    return nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 16))


def attention():
    return nn.MultiheadAttention(16, 2, batch_first=True)


def encoder():
    return nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)


torch.manual_seed(7)
tokens = torch.randn(2, 5, 16)
apart, apart_removed, moved = {}, {}, {}
with torch.no_grad():
    for kind in (perceptron, attention, encoder):
        name = kind.__name__

        def run(model, name=name):
            return model(tokens, tokens, tokens)[0] if name == "attention" else model(tokens)

        trained, _ = build(kind, 0)
        fresh, layers = build(kind, 1)
        answer = fresh.load_state_dict(trained.state_dict())
        wanted = run(trained)
        apart[name] = float((run(fresh) - wanted).abs().max())
        for layer in layers:
            prune.remove(layer, "weight")
        apart_removed[name] = float((run(fresh) - wanted).abs().max())

        stepped, layers = build(kind, 2)
        before = run(stepped)
        layers[0].weight_orig.mul_(10)  # stands for an optimiser's step; layers[0] is out_proj in both attentions
        moved[name] = float((run(stepped) - before).abs().max())
        print(f"{name}: {answer}; largest output {wanted.abs().max():.3f}, largest difference from the trained model "
              f"{apart[name]:.3f}, after prune.remove {apart_removed[name]:.3f}; "
              f"change of the output when weight_orig is made 10 times as large {moved[name]:.3f}")

steps = {}
for kind in (perceptron, attention):
    model, _ = build(kind, 3)
    steps[kind.__name__] = 0
    try:
        for _ in range(3):
            output = model(tokens) if kind is perceptron else model(tokens, tokens, tokens)[0]
            output.square().sum().backward()
            steps[kind.__name__] += 1
    except RuntimeError as error:
        print(f"{kind.__name__}: step {steps[kind.__name__] + 1} of training: {str(error).split('(')[0].strip()} ...")

surprising = (apart["perceptron"] < 1e-5 < 0.1 < min(apart["attention"], apart["encoder"])
              and max(apart_removed.values()) < 1e-5
              and moved["perceptron"] > 0.1 and moved["attention"] == moved["encoder"] == 0
              and steps == {"perceptron": 3, "attention": 1})
print("as recorded" if surprising else "CHANGED: pruned attention now follows weight_orig and weight_mask")
sys.exit(0 if surprising else 1)
PYTHON
