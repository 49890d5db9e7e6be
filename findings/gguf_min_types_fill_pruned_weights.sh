#!/usr/bin/env bash
# Pruned weights come back as non-zero numbers from GGUF's Q4_1 and Q5_1, though not from the "coarser" Q4_0 and Q5_0.
#
# Versions: gguf 0.19.0, with numpy 2.4.6.
# Expected: quantising rounds to the nearest level, and zero is a level: so it is in Q8_0, Q5_0 and Q4_0, and in the
#   usual asymmetric quantisation to integers, whose zero point is an integer so that zero stays exact. The package's
#   description (reading and writing models in GGUF) and its docstrings say nothing else. Of two types with equally
#   many bits per weight, the one that also stores a minimum takes more space and has the smaller error on dense
#   weights.
# Seen: Q4_1 and Q5_1 put their levels at minimum + k * step with any real minimum, so zero falls between two levels.
#   Of a 2:4-pruned matrix hardly a weight stays zero (0.3 and 0.2 %), while Q4_0, Q5_0 and Q8_0 keep them all. All
#   pruned weights of a block move to one and the same number, up to 0.2 standard deviations of the weights, so that
#   errors cannot cancel within a block. The order of the types by error turns round: on dense weights Q4_1 is better
#   than Q4_0 and Q5_1 than Q5_0; on pruned weights both are worse.
# Hurts: whoever prunes first, exports second and counts zeros, checks an N:M pattern or reads the mask off the
#   exported file; and whoever chooses the type for a pruned model by the errors known from dense ones.
set -euo pipefail
export OMP_NUM_THREADS=1
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check gguf==0.19.0 numpy==2.4.6
"$folder/venv/bin/python" - "$folder/model.gguf" <<'PYTHON'
import sys

import numpy as np
from gguf import GGMLQuantizationType, GGUFReader, GGUFWriter
from gguf.quants import dequantize, quantize

TYPES = ["Q8_0", "Q5_0", "Q5_1", "Q4_0", "Q4_1"]
dense = np.random.default_rng(0).normal(size=(256, 512)).astype(np.float32)
groups = dense.reshape(-1, 4)
pruned = groups.copy()
np.put_along_axis(pruned, np.argsort(abs(groups), axis=1)[:, :2], 0, axis=1)  # 2:4 by magnitude
pruned = pruned.reshape(dense.shape)
gone = pruned == 0
assert gone.mean() == 0.5

writer = GGUFWriter(sys.argv[1], "llama")
for matrix, name in ((dense, "dense"), (pruned, "pruned")):
    for kind in TYPES:
        quantised = quantize(matrix, GGMLQuantizationType[kind])
        writer.add_tensor(f"{name}.{kind}", quantised, raw_dtype=GGMLQuantizationType[kind])
writer.write_header_to_file()
writer.write_kv_data_to_file()
writer.write_tensors_to_file()
writer.close()

read = {tensor.name: dequantize(tensor.data, tensor.tensor_type) for tensor in GGUFReader(sys.argv[1]).tensors}
kept, errors, moved_together = {}, {}, {}
for kind in TYPES:
    back = read[f"pruned.{kind}"]
    kept[kind] = float((back[gone] == 0).mean())
    blocks = zip(back.reshape(-1, 32), gone.reshape(-1, 32), strict=True)
    moved_together[kind] = all(np.ptp(block[lost]) == 0 for block, lost in blocks)
    pattern = float(((back.reshape(-1, 4) == 0).sum(1) >= 2).mean())
    errors[kind] = [float(np.sqrt(np.mean((read[f"{name}.{kind}"] - matrix) ** 2)))
                    for name, matrix in (("dense", dense), ("pruned", pruned))]
    print(f"{kind}: pruned weights still zero {kept[kind]:7.2%}, 2:4 groups still 2:4 {pattern:7.2%}, "
          f"largest pruned weight {abs(back[gone]).max():.3f}; "
          f"rms error dense {errors[kind][0]:.4f}, pruned {errors[kind][1]:.4f}")

surprising = (all(kept[kind] == 1 for kind in ("Q8_0", "Q5_0", "Q4_0"))
              and all(kept[kind] < 0.02 and moved_together[kind] for kind in ("Q5_1", "Q4_1")))
for plain, offset in (("Q5_0", "Q5_1"), ("Q4_0", "Q4_1")):
    surprising &= errors[offset][0] < errors[plain][0] and errors[offset][1] > errors[plain][1]
print("as recorded" if surprising else "CHANGED: zeros, blocks or errors are no longer as recorded")
sys.exit(0 if surprising else 1)
PYTHON
