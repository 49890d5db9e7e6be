#!/usr/bin/env bash
# torch-pruning's Taylor importance has no term for batch normalisation, which it lists; asked for it alone, it prunes nothing.
#
# Versions: torch-pruning 1.6.1, with torch 2.13.0 (CPU), numpy 2.4.6.
# Expected: `GroupTaylorImportance` names Molchanov et al. (CVPR 2019), who put the gates whose products of value and
#   gradient are taken behind batch normalisation, and has `_BatchNorm` among its `target_types` by default. So weights
#   of batch normalisation add |weight x gradient| to the scores of their channels, as their sizes do in
#   `GroupMagnitudeImportance`.
# Seen: they add nothing. The scores of a convolution's channels are bit for bit those without the type, whatever the
#   gradients of its batch normalisation are. (The branch that says it is for them asks for the pruning function of group
#   normalisation, which counts when its type is listed.) With `target_types` of batch normalisation alone the score is
#   None, and `BasePruner.step` at 50 % leaves all 1,660 parameters of a small network in place, without a warning; by
#   magnitude the same call leaves 852.
# Hurts: whoever compares criteria on networks with batch normalisation: 'Taylor' is that of the convolutions alone, and
#   the paper's best variant seems to run and changes nothing.
set -euo pipefail
export OMP_NUM_THREADS=1
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch-pruning==1.6.1 torch==2.13.0 numpy==2.4.6
"$folder/venv/bin/python" - 2>"$folder/log" <<'PYTHON' || { cat "$folder/log" >&2; exit 1; }
import sys

import torch
import torch_pruning as tp
from torch import nn

CHANNELS = 16


def network(norm):
    """A small classifier of pictures with the gradients of one batch."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, CHANNELS, 3, padding=1, bias=False), norm, nn.ReLU(), nn.Conv2d(CHANNELS, 8, 3, padding=1),
        nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4),
    )
    nn.init.normal_(norm.weight, 1, 0.3)
    pictures, labels = torch.randn(64, 3, 8, 8), torch.randint(0, 4, (64,))
    nn.functional.cross_entropy(model(pictures), labels).backward()
    return model


def score(model, **options):
    graph = tp.DependencyGraph().build_dependency(model, example_inputs=torch.randn(2, 3, 8, 8))
    group = graph.get_pruning_group(model[0], tp.prune_conv_out_channels, idxs=list(range(CHANNELS)))
    return tp.importance.GroupTaylorImportance(normalizer=None, **options)(group)


def left_by(importance):
    """Parameters that half pruning leaves."""
    model = network(nn.BatchNorm2d(CHANNELS))
    kept = {"ignored_layers": [model[-1]], "pruning_ratio": 0.5}
    tp.pruner.BasePruner(model, torch.randn(1, 3, 8, 8), importance=importance, **kept).step()
    return sum(weight.numel() for weight in model.parameters())


model = network(nn.BatchNorm2d(CHANNELS))
whole = sum(weight.numel() for weight in model.parameters())
listed = any(issubclass(nn.BatchNorm2d, kind) for kind in tp.importance.GroupTaylorImportance().target_types)
default, without = score(model), score(model, target_types=[nn.Conv2d, nn.Linear])
alone = score(model, target_types=[nn.BatchNorm2d])
model[1].weight.grad *= 1000
deaf = torch.equal(score(model), default)
grouped = network(nn.GroupNorm(CHANNELS, CHANNELS))
counted = score(grouped, target_types=[nn.GroupNorm])
expected = (grouped[1].weight * grouped[1].weight.grad).abs()
taylor = left_by(tp.importance.GroupTaylorImportance(target_types=[nn.BatchNorm2d]))
magnitude = left_by(tp.importance.GroupMagnitudeImportance(target_types=[nn.BatchNorm2d]))

print(f"listed by default: {listed}; scores as without it: {torch.equal(default, without)}; deaf to its gradients: {deaf}")
print(f"score by it alone: {alone}; group normalisation by itself as expected: {torch.allclose(counted, expected)}")
print(f"of {whole} parameters stay: by Taylor of batch normalisation {taylor}, by its magnitude {magnitude}")
surprising = (listed and torch.equal(default, without) and deaf and alone is None and torch.allclose(counted, expected)
              and taylor == whole == 1660 and magnitude == 852)
print("as recorded" if surprising else "CHANGED: batch normalisation counts now")
sys.exit(0 if surprising else 1)
PYTHON
if grep -iE "batch ?norm|importance" "$folder/log" >&2; then
    echo "a warning tells now" >&2
    exit 1
fi
