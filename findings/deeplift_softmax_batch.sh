#!/usr/bin/env bash
# captum's DeepLift explains an example differently depending on which other examples share its batch.
#
# Versions: captum 0.9.0, with torch 2.13.0 (CPU), numpy 2.4.6.
# Expected: the documentation of `DeepLift.attribute` takes dimension 0 as the number of examples, computes the delta
#   per example, and its own example explains a class of an image classifier that returns class probabilities. So a
#   batch is a matter of speed, and the attributions of an example sum to the difference of its output from the
#   baseline's.
# Seen: with an `nn.Softmax` in the model, attributions of the same example alone and in a batch of eight differ: the
#   mean that is taken off the softmax's multipliers runs over the whole batch. In random small networks the change is
#   half of the largest attribution at the median, and in 13 of 40 another feature becomes the most important one. The
#   sum is off too, alone as well as in company. Without the softmax (explaining logits), and for integrated gradients
#   of the same probabilities, alone and in company agree to the last digits.
# Hurts: whoever compares attributions before and after pruning with another batch size, order or last batch; and
#   whoever reads the delta per example as that example's own error.
set -euo pipefail
export OMP_NUM_THREADS=1
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check captum==0.9.0 torch==2.13.0 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import statistics
import sys
import warnings

import torch
from captum.attr import DeepLift, IntegratedGradients
from torch import nn

warnings.simplefilter("ignore")  # DeepLift says at each call that it sets hooks
NETWORKS = 40


def alone_and_together(method, examples):
    """Attributions of the first example by itself and as one of all."""
    return method.attribute(examples[:1], target=0)[0], method.attribute(examples, target=0)[0]


changes = {"DeepLift of probabilities": [], "DeepLift of logits": [], "integrated gradients of probabilities": []}
renamed = off_alone = off_together = 0
for seed in range(NETWORKS):
    torch.manual_seed(seed)
    logits = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)).double()
    probabilities = nn.Sequential(*logits, nn.Softmax(dim=1))
    examples = torch.randn(8, 4).double()
    methods = (DeepLift(probabilities), DeepLift(logits), IntegratedGradients(probabilities))
    for name, method in zip(changes, methods, strict=True):
        alone, together = alone_and_together(method, examples)
        changes[name].append(float((alone - together).abs().max() / alone.abs().max()))
    alone, together = alone_and_together(methods[0], examples)
    renamed += int(alone.abs().argmax() != together.abs().argmax())
    if seed == 0:
        target = float((probabilities(examples[:1]) - probabilities(0 * examples[:1]))[0, 0])
        print("first network, first example: alone   ", [round(value, 4) for value in alone.tolist()])
        print("                              together", [round(value, 4) for value in together.tolist()])
        print(f"   sums {float(alone.sum()):.4f} and {float(together.sum()):.4f}; the output differs by {target:.4f}")
        off_alone, off_together = abs(float(alone.sum()) - target), abs(float(together.sum()) - target)

for name, values in changes.items():
    print(f"{name}: largest change relative to the largest attribution, over {NETWORKS} networks: "
          f"median {statistics.median(values):.2g}, largest {max(values):.2g}")
print(f"another feature becomes the most important one in {renamed} of {NETWORKS} networks")

lift, *others = changes.values()
surprising = (statistics.median(lift) > 0.02 and max(lift) > 0.3 and renamed > 0
              and off_alone > 0.005 and off_together > 0.005
              and all(max(values) < 1e-9 for values in others))
print("as recorded" if surprising else "CHANGED: the company of an example no longer matters, or sums agree")
sys.exit(0 if surprising else 1)
PYTHON
