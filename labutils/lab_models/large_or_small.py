"""Prune a large model or train a small one? Both ways from scratch, over seeds, at equal and at equal total tokens.

A large model is trained, half of its blocks are cut out (one by one, each the one whose absence costs least; the first
and the last stay), and what is left is trained on. A small model has the very shape that is left, and is trained on as
many tokens as the pruned one after its cut (equal tokens), or on as many as the large and the pruned one together
(equal total). Everything is trained by the loop and on the mixture of the lab models; no stage reads text that another
one of its chain has read.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor

from labutils.core.code import hash_code
from labutils.core.files import write_atomically
from labutils.core.progress import progress
from labutils.core.provenance import find_versions, hash_tensors
from labutils.lab_models.corpus import load_shard, train_tokenizer
from labutils.lab_models.loop import CHECKPOINT_FOLDER, Options, choose_products, find_spec, train_lab_model
from labutils.lab_models.specs import ModelSpec
from labutils.models.loading import choose_device, load_model
from labutils.models.structure import find_blocks
from labutils.recovery.readings import Reading, read_model
from labutils.recovery.removal import choose_blocks

LARGE, CUT, HEALED = "large", "large, cut", "large, cut, healed"
SMALL_EQUAL, SMALL_TOTAL = "small, equal tokens", "small, equal total"
ARMS = (LARGE, CUT, HEALED, SMALL_EQUAL, SMALL_TOTAL)
HEALING_SEEDS = 500  # of the training text: no large model's seed comes near it
CHOOSING_SEQUENCES = 32
CODE, TOLD = "labutils.lab_models.loop", ("labutils.core.progress",)
PLAN = "plan.json"  # beside a model: what it was to be trained from


def compare_large_and_small(
    name: str = "lab-llama",
    *,
    tokens: int,
    healing_tokens: int,
    seeds: Sequence[int],
    readings: Sequence[Reading],
    folder: Path,
    healing_rate: float = 1e-3,
    device: str = "cpu",
) -> pd.DataFrame:
    """Train and cut as the module's text says, once per seed, and read every model.

    >>> rows = compare_large_and_small(
    ...     tokens=1_500_000, healing_tokens=300_000, seeds=range(3), readings=readings, folder=folder
    ... )

    Args:
        name: a lab model with `num_hidden_layers`; the small one has half as many.
        tokens, healing_tokens: of the large model, and after the cut.
        folder: where models are kept; one that is there is not trained again, one that was stopped goes on.
        healing_rate: highest learning rate after the cut; small models train at the spec's own.

    Returns:
        ``model, calibration, evaluation, arm, sparsity, draw, item, loss, unit, seconds``: `draw` is the seed,
        `seconds` those of all trainings that lead to the arm.

    Raises:
        LookupError: an unknown model. ValueError: tokens too few for a step, no seed, blocks that cannot be halved, or
            a folder that holds models of another plan: other options, shape, first weights, code or versions.
    """
    spec = find_spec(name)
    depth = spec.config.get("num_hidden_layers", 0)
    if depth < 4 or depth % 2 or not seeds:
        raise ValueError(
            f"{name} has num_hidden_layers={depth}, seeds={list(seeds)}: an even depth of 4 or more and a seed are "
            "needed."
        )
    small = replace(
        spec, name=f"{name} with {depth // 2} blocks", config={**spec.config, "num_hidden_layers": depth // 2}
    )
    frames = []
    for seed in progress(list(seeds), total=len(seeds), description="large or small", unit="seed"):
        chain = _Chain(spec, small, seed, folder / f"seed-{seed}", device)
        frames.append(chain.carry_out(tokens, healing_tokens, healing_rate, readings))
    about = {"model": name, "calibration": "mixture", "sparsity": 0.5}
    return pd.concat(frames, ignore_index=True).assign(**about)


class _Chain:
    """All trainings of one seed."""

    def __init__(self, large: ModelSpec, small: ModelSpec, seed: int, folder: Path, device: str) -> None:
        self.large, self.small, self.seed, self.folder, self.device = large, small, seed, folder, device

    def carry_out(
        self, tokens: int, healing_tokens: int, healing_rate: float, readings: Sequence[Reading]
    ) -> pd.DataFrame:
        large = self._train("large", self.large, Options(tokens=tokens, learning_rate=self.large.learning_rate))
        cut = self._cut(large)
        healing = Options(tokens=healing_tokens, learning_rate=healing_rate, seed=HEALING_SEEDS)
        healed = self._train("healed", self.small, healing, start=cut)
        own = Options(tokens=healing_tokens, learning_rate=self.small.learning_rate)
        equal = self._train("equal", self.small, own)
        total = self._train("total", self.small, replace(own, tokens=tokens + healing_tokens))
        times = {LARGE: [large], CUT: [large], HEALED: [large, healed], SMALL_EQUAL: [equal], SMALL_TOTAL: [total]}
        frames = []
        for arm, folder in {LARGE: large, HEALED: healed, SMALL_EQUAL: equal, SMALL_TOTAL: total}.items():
            model, tokenizer = load_model(str(folder.resolve()), device=self.device)
            frames.append(read_model(model, tokenizer, readings).assign(arm=arm))
            if arm == HEALED:
                model.load_state_dict(cut)
                frames.append(read_model(model, tokenizer, readings).assign(arm=CUT))
        rows = pd.concat(frames, ignore_index=True).assign(draw=self.seed)
        return rows.assign(seconds=rows["arm"].map({arm: sum(map(_seconds, each)) for arm, each in times.items()}))

    def _train(self, name: str, spec: ModelSpec, options: Options, start: dict[str, Tensor] | None = None) -> Path:
        # In the plan, so that no arm of a chain that goes on elsewhere is trained in another dtype than its rivals.
        products = choose_products(options.products, torch.device(choose_device(self.device)))
        folder, options = self.folder / name, replace(options, seed=options.seed + self.seed, products=products)
        plan = {
            "options": asdict(options), "shape": [spec.config_class.__name__, spec.config],
            "start": None if start is None else hash_tensors(start),
            "code": hash_code(CODE, without=TOLD), "versions": find_versions("torch", "transformers"),
            "device": self.device,
        }  # fmt: skip
        plan = json.loads(json.dumps(plan))  # as a file gives it back
        if not any((folder / begun).exists() for begun in (PLAN, "training.json", CHECKPOINT_FOLDER)):
            write_atomically(folder / PLAN, json.dumps(plan, indent=1))
        self._check_plan(folder, plan)
        if not (folder / "training.json").exists():  # written last: a folder that has it is complete
            train_lab_model(spec, options=options, device=self.device, out=folder, resume=True, start=start)
        return folder

    @staticmethod
    def _check_plan(folder: Path, plan: dict) -> None:
        stored = json.loads((folder / PLAN).read_text()) if (folder / PLAN).exists() else {}
        if other := [part for part in plan if stored.get(part) != plan[part]]:
            raise ValueError(
                f"{folder} was trained with other {', '.join(other)}; remove it and what was trained after it, or name "
                "another folder."
            )

    def _cut(self, large: Path) -> dict[str, Tensor]:
        """The weights of a small model: the large one's without the blocks whose silence costs least."""
        model, _ = load_model(str(large.resolve()), device=self.device)
        prefix, blocks = find_blocks(model)
        gone = choose_blocks(model, self._choosing_tokens(), len(blocks) // 2)
        place = {str(old): str(new) for new, old in enumerate(sorted(set(range(len(blocks))) - set(gone)))}
        weights = {}
        for name, tensor in model.state_dict().items():
            if not name.startswith(f"{prefix}."):
                weights[name] = tensor
                continue
            number, _, rest = name.removeprefix(f"{prefix}.").partition(".")
            if number in place:
                weights[f"{prefix}.{place[number]}.{rest}"] = tensor
        return weights

    def _choosing_tokens(self) -> Tensor:
        seed = HEALING_SEEDS + self.seed
        return load_shard(999, train_tokenizer(), seed=seed, sequences=CHOOSING_SEQUENCES).tokens


def _seconds(folder: Path) -> float:
    return float(json.loads((folder / "training.json").read_text(encoding="utf-8"))["seconds"])
