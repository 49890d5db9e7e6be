"""One draw of a recovery study: its sequences, and arms carried out on them."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pandas as pd
from jaxtyping import Int64
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from labutils.core.provenance import hash_tensors
from labutils.data.corpora import load_tokens
from labutils.pruning.pipeline import prune
from labutils.recovery.clock import Spent, Stopwatch
from labutils.recovery.descent import Diverged
from labutils.recovery.gradual import prune_while_tuning
from labutils.recovery.own_text import own_continuations
from labutils.recovery.penalised import tune_with_penalty
from labutils.recovery.places import assert_kept, kept_places
from labutils.recovery.readings import Reading, read_model
from labutils.recovery.recovering import Recovered, recover
from labutils.recovery.reestimating import reestimate
from labutils.recovery.removal import (
    Neurons,
    choose_blocks,
    choose_neurons,
    count_blocks,
    silence_neurons,
)
from labutils.recovery.stages import GRADUAL, OWN, TEXT, Stage
from labutils.structured.silencing import silence_blocks

Pools = Mapping[str, Sequence[Tensor]]  # name → the sequences of every draw
Way = tuple[str, float]  # an arm without its data, and the sparsity at which it is read


@dataclass(frozen=True)
class Recipe:
    """How an arm is trained at a sparsity: the highest learning rate, and the strength of a penalty where it has one.

    >>> {("wanda → lora", 0.7): Recipe(3e-3)}
    """

    rate: float
    strength: float = 0.0


@dataclass(frozen=True)
class RecoverySizes:
    """How much a recovery gets.

    Attributes:
        n_calibration: sequences that pruning reads, and re-estimation.
        n_training: sequences that training draws its batches from.
        prompt_len: tokens of a training sequence that the dense model continues, for the data "own".
    """

    n_calibration: int = 24
    n_training: int = 256
    seq_len: int = 128
    steps: int = 100
    batch_size: int = 8
    rank: int = 8
    prompt_len: int = 32


@dataclass
class Bench:
    """A dense model and what its arms are read on."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    readings: Sequence[Reading]
    text: str
    sizes: RecoverySizes
    recipes: Mapping[Way, Recipe]
    pools: Pools = field(default_factory=dict)


def load_calibrations(
    text: str, tokenizer: PreTrainedTokenizerBase, sizes: RecoverySizes, draws: Sequence[int]
) -> list[Int64[Tensor, "n seq_len"]]:
    """What the draws of a sweep calibrate on, by the sweep's sizes.

    >>> load_calibrations("lab:review", tokenizer, RecoverySizes(n_calibration=24), range(2))
    """
    few = {"n_sequences": sizes.n_calibration, "seq_len": sizes.seq_len}
    return [load_tokens(text, tokenizer, **few, seed=draw) for draw in draws]


class Draw:
    """The sequences of one draw, and arms carried out on them.

    Training sequences are those that follow the calibration sequences in the same order of the documents, so that no
    token of a finite text stands in both. Of first prunings the last one is kept for the arms that begin with it.
    """

    def __init__(self, bench: Bench, number: int) -> None:
        self.bench, self.number = bench, number
        self._texts: dict[tuple[str, bool], tuple[Tensor, Spent]] = {}
        self._pruned: tuple[tuple[Stage, float], dict[str, Tensor], Spent] | None = None

    def sequences(self, data: str, *, training: bool) -> tuple[Int64[Tensor, "n seq_len"], Spent]:
        """Sequences to train or calibrate on, and the time that it took to write them."""
        if (data, training) not in self._texts:
            self._texts[data, training] = self._load(data, training)
        return self._texts[data, training]

    def _load(self, data: str, training: bool) -> tuple[Tensor, Spent]:
        bench, sizes = self.bench, self.bench.sizes
        if data in bench.pools:
            found = bench.pools[data][self.number]
            return (found if training else found[: sizes.n_calibration]), Spent()
        count = sizes.n_calibration + (sizes.n_training if training else 0)
        tokens = load_tokens(bench.text, bench.tokenizer, n_sequences=count, seq_len=sizes.seq_len, seed=self.number)
        tokens = tokens[sizes.n_calibration :] if training else tokens
        if data == TEXT:
            return tokens, Spent()
        watch, prompts = Stopwatch(), tokens[:, : sizes.prompt_len]
        written = own_continuations(bench.model, prompts, seq_len=sizes.seq_len, seed=self.number)
        return written, watch.spent()

    def data_key(self, stages: list[Stage]) -> dict[str, str]:
        """Hashes of what the stages read; of own continuations, of the text whose beginnings are continued."""
        found = {}
        for stage in stages:
            for training in (False, True):
                data = TEXT if stage.data == OWN else stage.data
                tokens, _ = self.sequences(data, training=training)
                found[f"{stage.data} {training}"] = hash_tensors({"tokens": tokens})
        return found

    def carry_out(self, stages: list[Stage], sparsity: float, recipe: Recipe | None) -> pd.DataFrame:
        """The rows of one arm: ``evaluation, item, loss, unit, seconds, wall_seconds, trained, tokens``.

        Raises:
            Diverged: training leaves a loss that is not finite, or a model that cannot be read.
        """
        bench = self.bench
        model, neurons, kept = copy.deepcopy(bench.model), {}, {}
        spent, trained, tokens = Spent(), 0, 0
        for number, stage in enumerate(stages):
            if stage.prunes and stage.kind != "gradual":
                spent += self._prune(model, stage, sparsity, neurons, first=number == 0)
            else:
                if stage.kind == "penalty":
                    neurons = choose_neurons(model, self.sequences(stage.data, training=False)[0], sparsity)
                done, extra = self._train(model, stage, sparsity, neurons, recipe)
                spent, trained, tokens = spent + done.spent + extra, done.trained_parameters, tokens + done.tokens
            assert_kept(model, kept)
            if stage.prunes:
                kept = kept_places(model, bench.model)
        rows = self._read(model, recipe if tokens else None)
        times = {"seconds": spent.seconds, "wall_seconds": spent.wall_seconds}
        return rows.assign(**times, trained=trained, tokens=tokens)

    def _read(self, model: PreTrainedModel, recipe: Recipe | None) -> pd.DataFrame:
        try:
            return read_model(model, self.bench.tokenizer, self.bench.readings)
        except ValueError as error:
            if recipe is None or "NaN or infinite" not in str(error):
                raise
            raise Diverged(f"trained at {recipe.rate:g}, it cannot be read: lower the learning rate") from error

    def _prune(self, model: PreTrainedModel, stage: Stage, sparsity: float, neurons: Neurons, *, first: bool) -> Spent:
        if first and self._pruned is not None and self._pruned[0] == (stage, sparsity):
            model.load_state_dict(self._pruned[1])
            return self._pruned[2]
        calibration, extra = self.sequences(stage.data, training=False)
        watch = Stopwatch()
        if stage.name == "neurons":
            silence_neurons(model, neurons or choose_neurons(model, calibration, sparsity))
        elif stage.name == "blocks":
            silence_blocks(model, choose_blocks(model, calibration, count_blocks(model, sparsity)))
        else:
            prune(model, calibration, method=stage.name, sparsity=sparsity)
        spent = watch.spent() + extra
        if first:
            self._pruned = None  # the earlier one goes before the next is copied
            self._pruned = (stage, sparsity), copy.deepcopy(model.state_dict()), spent
        return spent

    def _train(
        self, model: PreTrainedModel, stage: Stage, sparsity: float, neurons: Neurons, recipe: Recipe | None
    ) -> tuple[Recovered, Spent]:
        bench, sizes = self.bench, self.bench.sizes
        if stage.kind == "reestimate":
            calibration, extra = self.sequences(stage.data, training=False)
            return reestimate(model, bench.model, calibration), extra
        tokens, extra = self.sequences(stage.data, training=True)
        steps = {"steps": sizes.steps, "batch_size": sizes.batch_size, "seed": self.number}
        steps["learning_rate"] = recipe.rate
        if stage.kind == "gradual":
            return prune_while_tuning(model, tokens, score=GRADUAL[stage.name], sparsity=sparsity, **steps), extra
        if stage.kind == "penalty":
            return tune_with_penalty(model, tokens, neurons, strength=recipe.strength, **steps), extra
        dense = {"dense": bench.model, "rank": sizes.rank}
        return recover(model, tokens, trained=stage.name, goal=stage.goal, **dense, **steps), extra
