"""How long does pruning take, and how much memory, beside llm-compressor's Wanda and SparseGPT?

The same model (a Llama with random weights, loaded by both from one file), the same 32 × 256 tokens in batches of
eight, sparsity 0.5, float32, one thread. llm-compressor pins another version of transformers, so it has an environment
of its own:

    python -m venv peer && peer/bin/pip install torch==2.13.0 && peer/bin/pip install llmcompressor lazy_loader psutil
    OMP_NUM_THREADS=1 python benchmarks/against_llm_compressor.py --peer peer/bin/python

Each side runs in a process of its own that stays alive, so that prunings alternate: the clock of a shared machine
drifts, and only neighbours in time compare. Beside every pair stands a pruning in sequence that prunes nothing, as a
floor: two passes of every block over the tokens (of the last one, one), with the sums that the method's scores are made
of. The first pruning of each side is not timed; it gives the peak memory of a process that has pruned once (everything
is in it: interpreter, packages, model), and the weights whose zeros are compared before anything is said about speed.
Beside the peak stands the floor of memory: the packages, before any model is there, and one copy of the weights. The
copy of the weights that ours keeps against failures, and the other side does not, is left out. Both sides count a row's
or a block's share of zeros a little differently, and llm-compressor's SparseGPT drops one weight more per block of
columns, so that a few masks differ.

The figures go into `benchmarks/results/against_llm_compressor.json`, one entry for each size and method, after every
pair. A call goes on with the entries it is to measure (`--sizes`, `--methods`) where day, machine and versions are the
same, and begins them anew where not.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from common import RESULTS, describe_machine, random_tokens, timed, write_result
from workers import Worker, answer

from labutils.core.usage import peak_resident_megabytes

OUT = RESULTS / "against_llm_compressor.json"
SIZES = {
    "15M": {"hidden": 320, "intermediate": 864, "blocks": 8, "heads": 5, "vocabulary": 16_000},
    "110M": {"hidden": 768, "intermediate": 2048, "blocks": 12, "heads": 12, "vocabulary": 32_000},
}
METHODS = ("wanda", "sparsegpt")
TOKENS, BATCH, SPARSITY = (32, 256), 8, 0.5
WARM_UP = 4  # sequences of the first pruning, where the entry is gone on with
CLOCKS = ("wall", "processor")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer", default="peer/bin/python", help="Python of the environment with llm-compressor")
    parser.add_argument("--sizes", nargs="+", default=list(SIZES), choices=list(SIZES))
    parser.add_argument("--methods", nargs="+", default=METHODS, choices=METHODS)
    parser.add_argument("--repeats", type=int, default=5, help="timed pairs (default 5)")
    parser.add_argument("--worker", choices=["ours", "theirs"], help=argparse.SUPPRESS)
    parser.add_argument("--model", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        serve(options.worker, options.model)
        return
    for size in options.sizes:
        with tempfile.TemporaryDirectory() as place:
            make_model(size, Path(place) / "model")
            for method in options.methods:
                compare(method, size, Path(place), options.peer, options.repeats)


def make_model(size: str, folder: Path) -> None:
    """Store the model in a process of its own, so that this one stays small."""
    code = f"import common, pathlib; common.random_llama(**{SIZES[size]}).save_pretrained({str(folder)!r})"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parent, stderr=subprocess.DEVNULL)


def compare(method: str, size: str, place: Path, peer: str, repeats: int) -> None:
    """Interleaved prunings of both sides, until the entry has as many pairs as asked for; written after each pair."""
    workers = {
        side: Worker(__file__, python, ["--worker", side, "--model", str(place / "model")])
        for side, python in (("ours", sys.executable), ("theirs", peer))
    }
    about = {
        **describe_machine(), "versions": {side: worker.about for side, worker in workers.items()}, "size": size,
        "method": method, "shape": SIZES[size], "tokens": list(TOKENS), "batch_size": BATCH, "sparsity": SPARSITY,
    }  # fmt: skip
    key, entries = f"{size} {method}", json.loads(OUT.read_text()) if OUT.exists() else {}
    entry = entries.get(key, {})
    is_whole = all("floor" in pair for pair in entry.get("pairs", [])) and "floor_megabytes" in entry
    if is_whole and {name: entry.get(name) for name in about} == about:
        for worker in workers.values():
            worker.ask(method=method, n=WARM_UP)
    else:
        first = {
            side: worker.ask(method=method, save=str(place / f"{side}.safetensors")) for side, worker in workers.items()
        }
        peaks = {side: found["peak_megabytes"] for side, found in first.items()}
        entry = {**about, "peak_megabytes": peaks, "floor_megabytes": first["ours"]["floor_megabytes"],
                 **compare_zeros(place), "pairs": []}  # fmt: skip
        write_result(OUT, {**entries, key: entry})
    while len(entry["pairs"]) < repeats:
        pair = {side: worker.ask(method=method) for side, worker in workers.items()}
        pair["floor"] = workers["ours"].ask(method=method, passes=True)
        entry["pairs"].append({side: {clock: run[clock] for clock in CLOCKS} for side, run in pair.items()})
        print(size, method, {side: round(run["processor"], 2) for side, run in pair.items()}, flush=True)
        write_result(OUT, {**entries, key: {**entry, **summary(entry["pairs"])}})
    for worker in workers.values():
        worker.close()


def summary(pairs: list[dict]) -> dict:
    """Medians over the pairs: of the seconds of each side and of the floor, and of both ratios to the peer."""
    return {
        "repeats": len(pairs),
        "seconds": {
            clock: {side: statistics.median(pair[side][clock] for pair in pairs) for side in pairs[0]}
            for clock in CLOCKS
        },
        **{
            f"{clock}_{name}": statistics.median(pair[side][clock] / pair["theirs"][clock] for pair in pairs)
            for clock in CLOCKS for name, side in (("ratio", "ours"), ("floor", "floor"))
        },
    }  # fmt: skip


def compare_zeros(place: Path) -> dict[str, float]:
    """Share of entries that are zero on both sides or on neither, shares of zeros, and how far kept weights differ."""
    from safetensors.torch import load_file

    ours, theirs = load_file(place / "ours.safetensors"), load_file(place / "theirs.safetensors")
    assert ours.keys() == theirs.keys()
    count = equal = own_zeros = peer_zeros = 0
    change = total = 0.0
    for name, weight in ours.items():
        other = theirs[name]
        both = (weight != 0) & (other != 0)
        count += weight.numel()
        equal += int(((weight != 0) == (other != 0)).sum())
        own_zeros += int((weight == 0).sum())
        peer_zeros += int((other == 0).sum())
        change += float(((weight - other)[both] ** 2).sum())
        total += float((other[both] ** 2).sum())
    return {
        "block_parameters": count, "masks_equal": equal / count, "relative_difference_of_kept": (change / total) ** 0.5,
        "reached_sparsity": {"ours": own_zeros / count, "theirs": peer_zeros / count},
    }  # fmt: skip


def serve(side: str, folder: Path) -> None:
    """Prune the stored model anew for every request that comes in, and answer with seconds and memory."""
    import torch
    import transformers
    from safetensors.torch import save_file
    from transformers import LlamaForCausalLM

    torch.set_num_threads(1)
    versions = {"torch": torch.__version__, "transformers": transformers.__version__}
    vocabulary = json.loads((folder / "config.json").read_text())["vocab_size"]
    prune = prune_ours if side == "ours" else prune_theirs
    tokens = random_tokens(*TOKENS, vocabulary=vocabulary)
    prune(None, tokens, versions)
    answer(versions)
    bare = peak_resident_megabytes()
    for line in sys.stdin:
        request = json.loads(line)
        model = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        some = tokens[: request.get("n")]
        work = gather_statistics if request.get("passes") else prune
        found = timed(lambda: work(model, some, request["method"]))  # noqa: B023
        found["peak_megabytes"] = peak_resident_megabytes()
        found["floor_megabytes"] = bare + sum(p.numel() * p.element_size() for p in model.parameters()) / 1e6
        if request.get("save"):
            layers = {name: p.data.contiguous() for name, p in model.named_parameters() if "proj" in name}
            save_file(layers, request["save"])
        answer(found)


def prune_ours(model, tokens, method) -> None:
    """Our side; without a model only the packages are loaded, and their versions told."""
    import labutils as lab

    if model is None:
        from labutils import pruning
        from labutils.core.files import hash_tree

        method["labutils"] = f"{lab.__version__}, sources {hash_tree(Path(pruning.__file__).parent, '*.py')[:12]}"
        lab.prune  # noqa: B018 (loads what pruning needs)
        return
    lab.prune(model, tokens, method=method, sparsity=SPARSITY, batch_size=BATCH, restorable=False)


def gather_statistics(model, tokens, method) -> None:
    """Walk through the blocks as a pruning in sequence does, gather what it reads, and change nothing."""
    from labutils.pruning.calibration import BlockWalk

    walk = BlockWalk(model, tokens, batch_size=BATCH)
    for index in range(len(walk.blocks)):
        walk.collect(index, hessian=method == "sparsegpt")
        if index + 1 < len(walk.blocks):
            walk.advance(index)


def prune_theirs(model, tokens, method) -> None:
    """The other side, as its documentation has it: `oneshot` with a modifier that leaves the head alone."""
    import importlib.metadata

    from llmcompressor import oneshot
    from llmcompressor.modifiers.pruning import SparseGPTModifier, WandaPruningModifier
    from tokenizers import Tokenizer, models
    from torch.utils.data import DataLoader
    from transformers import PreTrainedTokenizerFast

    if model is None:
        method["llmcompressor"] = importlib.metadata.version("llmcompressor")
        return
    kind = {"wanda": WandaPruningModifier, "sparsegpt": SparseGPTModifier}[method]
    recipe = kind(sparsity=SPARSITY, targets=["Linear"], ignore=["re:.*lm_head"])
    batches = DataLoader([{"input_ids": row} for row in tokens], batch_size=BATCH)
    unused = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel({"a": 0})))  # it asks for one
    oneshot(model=model, dataset=batches, recipe=recipe, processor=unused, num_calibration_samples=len(tokens))


if __name__ == "__main__":
    main()
