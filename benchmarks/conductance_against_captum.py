"""How long does the conductance of all blocks take from one path, in units of captum's `LayerConductance` for each?

The outputs of all blocks and the neurons of all MLPs, on the model given and on texts of the controlled language. Both
ways alternate over the same batches, on one thread. Ours takes the points that 2 % of the sum ask for, captum as many
as it is given; by how much the outputs of the blocks then miss their sum is written beside the seconds.

    python benchmarks/conductance_against_captum.py --model lab-llama --repeats 3

adds an entry for the model to `benchmarks/results/conductance_against_captum.json`.
"""

import argparse
import json
import statistics

import torch
from captum.attr import LayerConductance
from common import RESULTS, describe_machine, timed, write_result

import labutils as lab
from labutils.attribution.integration import frozen_weights, log_likelihood, path_batches, probed_module
from labutils.attribution.neurons import find_mlp_layers
from labutils.attribution.passages import text_passages
from labutils.attribution.refinement import refined_conductance

OUT = RESULTS / "conductance_against_captum.json"
MEMORY = 2**30


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="lab-llama", help="a lab model, or a folder (default lab-llama)")
    parser.add_argument("--texts", type=int, default=4, help="passages (default 4)")
    parser.add_argument("--steps", type=int, default=16, help="points of the path (default 16)")
    parser.add_argument("--repeats", type=int, default=3, help="timed pairs (default 3)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    model, tokenizer = lab.load_model(options.model)
    passages = text_passages(model, tokenizer, lab.load_texts("lab:review", n=options.texts))
    modules = [(block, "output") for block in lab.models.find_blocks(model)[1]]
    n_blocks = len(modules)
    modules += [(layer.down, "input") for layer in find_mlp_layers(model)]
    score, pairs, missed = log_likelihood(model), [], {}
    with frozen_weights(model):
        batches = list(path_batches(model, tokenizer, passages, MEMORY, "passages"))
        for _ in range(options.repeats):
            sums: list[list] = []
            theirs: list[list[torch.Tensor]] = []
            one = timed(lambda: sums.extend(together(score, batches, modules, n_blocks)))  # noqa: B023
            each = timed(lambda: theirs.extend(apart(score, batches, modules, options.steps)))  # noqa: B023
            points = sum(path.points for paths in sums for path in paths)
            missed = {
                "one path": max(
                    abs(float(path.totals[block].sum()) / path.change - 1)
                    for paths in sums for path in paths for block in range(n_blocks)
                ),
                "block by block": max(
                    abs(float(found[block][row].sum()) / path.change - 1)
                    for paths, found in zip(sums, theirs, strict=True)
                    for row, path in enumerate(paths) for block in range(n_blocks)
                ),
            }  # fmt: skip
            pairs.append({clock: (one[clock], each[clock]) for clock in one})
            print({clock: round(a / b, 3) for clock, (a, b) in pairs[-1].items()}, points, missed, flush=True)
    entries = json.loads(OUT.read_text()) if OUT.exists() else {}
    entry = {
        **describe_machine(), "blocks": len(modules) // 2, "passages": len(passages), "steps": options.steps,
        "tokens": sum(len(passage.ids) for passage in passages), "repeats": options.repeats,
        "points_of_one_path": points, "largest_share_of_a_sum_missed": missed,
        "median_over_pairs": {
            clock: {
                "ratio": statistics.median(pair[clock][0] / pair[clock][1] for pair in pairs),
                "seconds_of_one_path": statistics.median(pair[clock][0] for pair in pairs),
            }
            for clock in ("wall", "processor")
        },
    }  # fmt: skip
    write_result(OUT, {**entries, lab.models.model_name(options.model): entry})


def together(score, batches, modules, n_blocks) -> list[list]:
    """The sums of every module, from one way forward and back for all, batch by batch."""
    options = {"checked": range(n_blocks), "tolerance": 0.02, "n_points": 2049}
    return [refined_conductance(score, batch, modules, **options) for batch in batches]


def apart(score, batches, modules, steps) -> list[list[torch.Tensor]]:
    """Conductances [rows, units] of every module, from captum, module by module."""
    found: list[list[torch.Tensor]] = []
    for batch in batches:
        found.append([])
        for module, side in modules:
            with probed_module(module, side, batch.ids.shape[1]) as probe:
                shares = LayerConductance(score, probe).attribute(
                    batch.embeddings, batch.baseline, additional_forward_args=batch.fixed(), n_steps=steps,
                    method="riemann_trapezoid", internal_batch_size=max(2 * len(batch.passages), batch.rows_at_once),
                )  # fmt: skip
            found[-1].append(shares.detach().double().sum(1))
    return found


if __name__ == "__main__":
    main()
