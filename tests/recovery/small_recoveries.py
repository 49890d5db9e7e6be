"""Every kind of arm, with the smallest sizes, for the tests of sweeps of recoveries."""

from labutils.recovery import Recipe, RecoverySizes
from labutils.recovery.stages import way_of

ARMS = [
    "wanda", "wanda → lora", "wanda → norms", "wanda → all/logits@own", "wanda → reestimate", "wanda@own",
    "blocks → lora", "penalty → neurons", "neurons → all", "movement", "gradual", "lora@other",
]  # fmt: skip
RECIPES = {(way_of(arm), 0.5): Recipe(1e-3, 1e-3) for arm in ARMS} | {("lora", 0.0): Recipe(1e-3)}
SIZES = RecoverySizes(n_calibration=2, n_training=4, seq_len=16, steps=2, batch_size=2, rank=2, prompt_len=4)
