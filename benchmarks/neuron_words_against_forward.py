"""How long does it take to match all neurons with all words of some texts, in units of one bare forward pass over them?

Measured on a Llama of about 60 M parameters with random weights, on one thread, on documents of the controlled
language. Pass and matching alternate over the same batches, and the ratio is the median over pairs, since the clock of
a shared machine drifts. Both the wall clock and the processor time of the process are reported, and the peak memory of
the process before and after four times as many texts.

    python benchmarks/neuron_words_against_forward.py --repeats 5

writes `benchmarks/results/neuron_words_against_forward.json`.
"""

import argparse
import json
import statistics

import torch
from common import RESULTS, describe_machine, random_llama, timed, write_result
from transformers import LlamaForCausalLM, PreTrainedTokenizerBase

import labutils as lab
from labutils.attribution.activations import measure_words
from labutils.core.usage import peak_resident_megabytes
from labutils.evaluation.batching import padded_batches

OUT = RESULTS / "neuron_words_against_forward.json"
SHAPE = {"hidden": 512, "intermediate": 1376, "blocks": 14, "heads": 8}  # 60 M parameters, as `prune_against_forward`


@torch.no_grad()
def forward_pass(
    model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerBase, texts: list[str], batch_size: int
) -> None:
    """Tokenise the texts and run the model over them, batched as the matching does."""
    rows = tokenizer(texts)["input_ids"]
    for _, ids, mask in padded_batches(rows, batch_size, tokenizer, torch.device("cpu")):
        model(input_ids=ids, attention_mask=mask, use_cache=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5, help="pairs of a pass and a matching (default 5)")
    parser.add_argument("--texts", type=int, default=128, help="documents (default 128)")
    parser.add_argument("--threads", type=int, default=1, help="threads of torch (default 1)")
    parser.add_argument("--batch-size", type=int, default=16, help="texts that run together, in both (default 16)")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    _, tokenizer = lab.load_model("lab-llama")
    model = random_llama(**SHAPE, vocabulary=max(len(tokenizer), 32_000))
    texts = lab.load_texts("lab:narrative", n=4 * options.texts)
    some, size = texts[: options.texts], options.batch_size
    forward_pass(model, tokenizer, some[:size], size)  # warm-up
    measure_words(model, tokenizer, some[:size], batch_size=size)
    pairs = []
    for _ in range(options.repeats):
        forward = timed(lambda: forward_pass(model, tokenizer, some, size))
        matching = timed(lambda: lab.neuron_words(model, tokenizer, some, min_count=5, batch_size=size))
        pairs.append({clock: (matching[clock] / forward[clock], forward[clock]) for clock in forward})
        print({clock: round(ratio, 3) for clock, (ratio, _) in pairs[-1].items()}, flush=True)
    found = measure_words(model, tokenizer, some, min_count=5, batch_size=size)
    before = peak_resident_megabytes()
    measure_words(model, tokenizer, texts, list(found.words), batch_size=size)
    summary = {
        clock: {
            "ratio": statistics.median(pair[clock][0] for pair in pairs),
            "forward_seconds": statistics.median(pair[clock][1] for pair in pairs),
        }
        for clock in ("wall", "processor")
    }
    about = {
        **describe_machine(), "texts": len(some), "batch_size": size,
        "tokens": sum(len(ids) for ids in tokenizer(some)["input_ids"]), "words": len(found.words),
        "neurons": sum(means.shape[1] for means in found.means), "repeats": options.repeats,
        "parameters": sum(p.numel() for p in model.parameters()),
        "peak_megabytes": before, "peak_megabytes_after_four_times_the_texts": peak_resident_megabytes(),
    }  # fmt: skip
    write_result(OUT, {**about, "median_over_pairs": summary})
    print(json.dumps(summary, indent=1))


if __name__ == "__main__":
    main()
