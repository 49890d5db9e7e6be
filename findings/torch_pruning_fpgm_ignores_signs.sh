#!/usr/bin/env bash
# torch-pruning's geometric median compares the squares of weights: neurons that differ in signs alone count as copies.
#
# Versions: torch-pruning 1.6.1, with torch 2.13.0 (CPU), numpy 2.4.6.
# Expected: `FPGMImportance` names 'Filter Pruning via Geometric Median' (He et al., CVPR 2019), by which those filters
#   go that others can stand in for: the ones with the smallest sum of Euclidean distances to all filters of the layer.
# Seen: the distances are those of |w|^p, element by element, with p = 2 unless one asks for another; p = 1 compares
#   absolute values, and no p compares the weights. Turning any signs of a layer leaves all scores as they are. In 20
#   layers of 24 unrelated neurons, 4 copies of one neuron (with a hundredth of noise) and 4 that have the sizes of one
#   another's weights with signs of their own, all of equal norm, three neurons are removed. By the paper's rule they
#   are copies each time; by torch-pruning 1.4 of them are copies on average, and 1.1 have sizes in common only. The best
#   linear map from what is kept then misses 13 % of the layer's outputs instead of 0.4 %.
# Hurts: whoever takes torch-pruning's FPGM as the published baseline of redundancy, most of all behind layers whose
#   filters come in pairs of opposite signs, as first layers of ReLU networks learn them (Shang et al. 2016, 1603.05201).
set -euo pipefail
export OMP_NUM_THREADS=1
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch-pruning==1.6.1 torch==2.13.0 numpy==2.4.6
"$folder/venv/bin/python" - 2>"$folder/log" <<'PYTHON' || { cat "$folder/log" >&2; exit 1; }
import statistics
import sys

import torch
import torch_pruning as tp
from torch import nn

INPUTS, UNRELATED, ALIKE, GONE, LAYERS = 64, 24, 4, 3, 20
NEURONS = UNRELATED + 2 * ALIKE
COPIES, TURNED = range(UNRELATED, UNRELATED + ALIKE), range(UNRELATED + ALIKE, NEURONS)


def score(weight, **options):
    """The scores of a layer's neurons by that layer alone."""
    model = nn.Sequential(nn.Linear(INPUTS, NEURONS, bias=False), nn.ReLU(), nn.Linear(NEURONS, 4, bias=False))
    model[0].weight.data = weight.clone()
    graph = tp.DependencyGraph().build_dependency(model, example_inputs=torch.randn(1, INPUTS))
    group = graph.get_pruning_group(model[0], tp.prune_linear_out_channels, idxs=list(range(NEURONS)))
    return tp.importance.FPGMImportance(group_reduction="first", normalizer=None, **options)(group)


def lowest(scores):
    return set(scores.argsort()[:GONE].tolist())


def left(weight, removed):
    """What the best linear map from the kept neurons' outputs misses of all outputs, relative to their size."""
    kept = [neuron for neuron in range(NEURONS) if neuron not in removed]
    inputs = torch.randn(2000, INPUTS, generator=torch.Generator().manual_seed(1))
    outputs = (inputs @ weight.T).relu()
    solved = torch.linalg.lstsq(outputs[:, kept], outputs).solution
    return float((outputs[:, kept] @ solved - outputs).norm() / outputs.norm())


as_squares, as_sizes, deaf = [], [], []
copies_gone = {"paper": [], "torch-pruning": []}
turned_gone, errors = {"paper": [], "torch-pruning": []}, {"paper": [], "torch-pruning": []}
for seed in range(LAYERS):
    torch.manual_seed(seed)
    weight = torch.randn(NEURONS, INPUTS)
    for group in (COPIES, TURNED):
        weight[list(group)] = torch.randn(INPUTS) + 0.01 * torch.randn(ALIKE, INPUTS)
    signs = torch.randint(0, 2, (ALIKE, INPUTS)) * 2.0 - 1
    weight[list(TURNED)] *= signs
    weight /= weight.norm(dim=1, keepdim=True)
    theirs = score(weight)
    as_squares.append(torch.allclose(theirs, torch.cdist(weight.square(), weight.square()).sum(0), rtol=1e-3))
    as_sizes.append(torch.allclose(score(weight, p=1), torch.cdist(weight.abs(), weight.abs()).sum(0), rtol=1e-3))
    deaf.append(torch.allclose(theirs, score(weight * (torch.randint(0, 2, weight.shape) * 2.0 - 1)), rtol=1e-5))
    for name, scores in (("paper", torch.cdist(weight, weight).sum(0)), ("torch-pruning", theirs)):
        gone = lowest(scores)
        copies_gone[name].append(len(gone & set(COPIES)))
        turned_gone[name].append(len(gone & set(TURNED)))
        errors[name].append(left(weight, gone))

print(f"distances of squares: {all(as_squares)}; with p=1 of sizes: {all(as_sizes)}; deaf to signs: {all(deaf)}")
for name in errors:
    print(f"{name:14}: of {GONE} removed {statistics.mean(copies_gone[name]):.2f} are copies, "
          f"{statistics.mean(turned_gone[name]):.2f} only have a copy's sizes; "
          f"what the others cannot give back {statistics.mean(errors[name]):.3f}")
surprising = (all(as_squares) and all(as_sizes) and all(deaf)
              and min(copies_gone["paper"]) == GONE and statistics.mean(copies_gone["torch-pruning"]) < 0.7 * GONE
              and statistics.mean(errors["torch-pruning"]) > 3 * statistics.mean(errors["paper"]))
print("as recorded" if surprising else "CHANGED: signs count now")
sys.exit(0 if surprising else 1)
PYTHON
