#!/usr/bin/env bash
# A GGUF file names SmolLM's way of splitting text; transformers splits it as GPT-2 does: numbered lists get other ids.
#
# Versions: transformers 5.23.0, gguf 0.19.0, with tokenizers 0.23.3, torch 2.13.0 (CPU), numpy 2.4.6.
# Expected: `tokenizer.ggml.pre` says how text is cut before merging, as the same vocabulary may be cut in several
#   ways. "smollm" means each digit by itself, then GPT-2's pattern (llama.cpp, src/llama-vocab.cpp). The documentation
#   offers `AutoTokenizer.from_pretrained(..., gguf_file=...)`, and the loader's function for this says that it splits
#   the way the merges were learned; so the ids are those of the tokenizer that the file was made from.
# Seen: "smollm" is not among the names that the loader knows; it takes GPT-2's pattern for it, without a warning. That
#   pattern leaves the last blank or line break of several for what follows, so that the merged token in front of a
#   digit is never reached: "\n\n7." begins with two line breaks where the model learned one token for both. 400
#   numbered paragraphs and rows of a table, in a vocabulary trained on them, become 6686 tokens instead of 5686; text
#   without two blanks or breaks before a digit is read alike. Of the name "qwen2", which it knows, all ids are right.
# Hurts: whoever scores SmolLM or a pruned copy of it from GGUF, on tables, lists, code or numbered answers: its
#   likelihood is that of a text cut in a way it was not trained on, and the counts of tokens differ from those from
#   safetensors.
set -euo pipefail
export OMP_NUM_THREADS=1
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
    transformers==5.23.0 gguf==0.19.0 tokenizers==0.23.3 torch==2.13.0 numpy==2.4.6
"$folder/venv/bin/python" - "$folder" 2>"$folder/log" <<'PYTHON' || { cat "$folder/log" >&2; exit 1; }
import json
import random
import sys

import gguf
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer
from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX

WAYS = {
    "smollm": [pre_tokenizers.Digits(individual_digits=True),
               pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)],
    "qwen2": [pre_tokenizers.Split(Regex(PRETOKENIZE_REGEX), behavior="isolated"),
              pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)],
}  # fmt: skip
chance = random.Random(0)
THINGS = "layers heads weights models seeds rows".split()


def paragraph(number):
    """A numbered paragraph, or a row of a table."""
    one, other = chance.sample(THINGS, 2)
    if number % 2:
        return f"\n\n{number}. We kept {chance.randrange(2000)} {one} and pruned {chance.randrange(90)} {other}."
    return f"\n    {one}    {chance.randrange(2000)}    {chance.randrange(90)}"


text = "Results" + "".join(paragraph(number) for number in range(400))


def train(way):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.Sequence(WAYS[way]), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator([text], trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet,
                                                              special_tokens=["<|endoftext|>"], show_progress=False))
    return tokenizer


def from_file(tokenizer, way):
    """The same tokenizer, written to a GGUF file and read by transformers."""
    model = json.loads(tokenizer.to_str())["model"]
    writer = gguf.GGUFWriter(f"{sys.argv[1]}/{way}.gguf", "llama")
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(way)
    writer.add_token_list(sorted(model["vocab"], key=model["vocab"].get))
    writer.add_token_types([3] + [1] * (len(model["vocab"]) - 1))
    writer.add_token_merges([" ".join(merge) for merge in model["merges"]])
    writer.add_eos_token_id(0)
    for step in (writer.write_header_to_file, writer.write_kv_data_to_file, writer.write_tensors_to_file):
        step()
    writer.close()
    return AutoTokenizer.from_pretrained(sys.argv[1], gguf_file=f"{way}.gguf")


for way in WAYS:
    tokenizer = train(way)
    loaded = from_file(tokenizer, way)
    mine, theirs = tokenizer.encode(text).ids, loaded(text, add_special_tokens=False)["input_ids"]
    assert loaded.decode(theirs) == text == tokenizer.decode(mine)
    print(f"{way}: {len(mine)} tokens, from its file {len(theirs)}; the same: {mine == theirs}")
    if way == "smollm":
        for short in ("We kept 2026 heads", "rows.\n\n7. We", "rows    12    7"):
            pair = tokenizer.encode(short).tokens, loaded.tokenize(short)
            print(f"  {short!r}: {pair[0]}\n    from its file {pair[1]}, the same: {pair[0] == pair[1]}")
        assert pair[0] != pair[1] and len(theirs) > 1.05 * len(mine)
    else:
        assert mine == theirs
PYTHON
if grep -iE "split|smollm|pre.?token" "$folder/log" >&2; then
    echo "a warning names the way of splitting now" >&2
    exit 1
fi
