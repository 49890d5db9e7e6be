"""How much memory does pruning a model from disk to disk take, beside the size of its file and beside memory?

A Llama with random float32 weights (136 blocks, hidden size 512) is written to disk, pruned to half zeros by Wanda
with `prune_checkpoint`, and then, for comparison, in memory with `prune`. Each runs in a process of
its own, whose peak resident memory is told in full: interpreter, packages and everything else included. The aim is a
file of at least three times that. Both results are compared tensor by tensor, bit for bit.

    OMP_NUM_THREADS=1 python benchmarks/streaming_memory.py

writes `benchmarks/results/streaming_memory.json`. It needs about three times the file's size (1.8 GB) on disk.
With `--folder` a call goes on where an earlier one was stopped; the result then says so, and its seconds are of the
last call alone.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from common import RESULTS, describe_machine, random_llama, random_tokens, timed, write_result
from safetensors import safe_open
from safetensors.torch import save_file

from labutils.core.usage import peak_resident_megabytes

OUT = RESULTS / "streaming_memory.json"
INDEX = "model.safetensors.index.json"
SHAPE = {"hidden": 512, "intermediate": 1408, "heads": 8, "vocabulary": 4096, "tied": True}
AIM = 3.0
PARTS = ("disk", "memory")
REQUEST = {"method": "wanda", "sparsity": 0.5, "batch_size": 4}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--blocks", type=int, default=136, help="blocks of the model (default 136)")
    parser.add_argument("--sequences", type=int, default=2, help="of 128 tokens (default 2)")
    parser.add_argument("--spill", action="store_true", help="keep the hidden states on disk as well")
    parser.add_argument("--folder", type=Path, help="work here, keep everything, and use what an earlier call finished")
    parser.add_argument("--only-disk", action="store_true", help="leave out the comparison with memory")
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    parser.add_argument("--place", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part:
        print(json.dumps(prune_in_this_process(options.part, options.place, options.sequences, options.spill)))
        return
    with tempfile.TemporaryDirectory() as temporary:
        place = options.folder or Path(temporary)
        if not (place / "dense" / INDEX).exists():
            write_model(place / "dense", options.blocks)
        size = sum(path.stat().st_size for path in (place / "dense").glob("*.safetensors")) / 1e6
        found = {part: in_own_process(part, place, options) for part in PARTS[: 1 if options.only_disk else 2]}
        equal, parameters = same_tensors(place / "disk", place / ("dense" if options.only_disk else "memory"))
    result = {
        **describe_machine(), **REQUEST, "shape": {**SHAPE, "blocks": options.blocks}, "spill": options.spill,
        "tokens": [options.sequences, 128], "parameters": parameters, "file_megabytes": size, **found,
        "file_over_peak": size / found["disk"]["peak_megabytes"], "aim": AIM,
        "bit_equal": None if options.only_disk else equal,
    }  # fmt: skip
    write_result(OUT, result)
    print(json.dumps(result, indent=1))


def write_model(folder: Path, n_blocks: int) -> None:
    """A checkpoint in shards of one block each; only one block is in memory."""
    small = random_llama(**SHAPE, blocks=1)
    small.config.num_hidden_layers = n_blocks
    small.config.save_pretrained(folder)
    state = small.state_dict()
    shards = {"model-others.safetensors": {key: value for key, value in state.items() if ".layers." not in key}}
    shards["model-others.safetensors"].pop("lm_head.weight")  # tied
    places = {key: name for name, tensors in shards.items() for key in tensors}
    save_file(shards.pop("model-others.safetensors"), folder / "model-others.safetensors", metadata={"format": "pt"})
    for index in range(n_blocks):
        first = {key: value for key, value in state.items() if ".layers.0." in key}
        fresh = {key: torch.randn_like(value) * 0.02 if value.dim() == 2 else value for key, value in first.items()}
        block = {key.replace(".layers.0.", f".layers.{index}."): value for key, value in fresh.items()}
        name = f"model-{index:05d}.safetensors"
        save_file(block, folder / name, metadata={"format": "pt"})
        places |= dict.fromkeys(block, name)
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": places}))


def in_own_process(part: str, place: Path, options: argparse.Namespace) -> dict[str, float]:
    """Run one part in a new process and return what it tells, or told before."""
    told = place / f"{part}.json"
    if told.exists():
        return json.loads(told.read_text())
    command = [sys.executable, __file__, "--part", part, "--place", str(place), "--sequences", str(options.sequences)]
    command += ["--spill"] if options.spill else []
    lines = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()
    told.write_text(lines[-1])
    return json.loads(lines[-1])


def prune_in_this_process(part: str, place: Path, n_sequences: int, spill: bool) -> dict[str, float]:
    """Prune the stored model into a folder named after the part; seconds and peak memory of the process."""
    import labutils as lab
    from labutils.checkpoints.streamed import StreamedModel  # noqa: F401 (loads what both parts need)

    lab.prune  # noqa: B018
    torch.set_num_threads(1)
    tokens = random_tokens(n_sequences, 128, vocabulary=SHAPE["vocabulary"])
    after_imports, resumed = peak_resident_megabytes(), (place / part).exists()

    def from_disk_to_disk() -> None:
        lab.prune_checkpoint(place / "dense", place / "disk", tokens, spill=spill, **REQUEST)

    def in_memory() -> None:
        from transformers import LlamaForCausalLM

        model = LlamaForCausalLM.from_pretrained(place / "dense", dtype=torch.float32).eval()
        lab.save_pruned(model, place / "memory", lab.prune(model, tokens, **REQUEST))

    taken = timed(from_disk_to_disk if part == "disk" else in_memory)
    return {
        **taken,
        "peak_megabytes": peak_resident_megabytes(),
        "megabytes_after_imports": after_imports,
        "resumed": resumed,
    }


def same_tensors(first: Path, second: Path) -> tuple[bool, int]:
    """Whether two checkpoints hold the same bits under the same names, and how many parameters they have."""
    files = [
        {key: path for path in folder.glob("model*.safetensors") for key in _keys(path)} for folder in (first, second)
    ]
    equal, count = files[0].keys() == files[1].keys(), 0
    for key in files[0]:
        one, other = (_read(file[key], key) for file in files)
        equal = equal and torch.equal(one, other)
        count += one.numel()
    return equal, count


def _keys(path: Path) -> list[str]:
    with safe_open(path, framework="pt") as file:
        return list(file.keys())


def _read(path: Path, key: str) -> torch.Tensor:
    with safe_open(path, framework="pt") as file:
        return file.get_tensor(key)


if __name__ == "__main__":
    main()
