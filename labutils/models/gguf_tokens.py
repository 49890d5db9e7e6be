"""Text is split before it becomes tokens as the vocabulary was trained, where transformers does not know the way.

A GGUF file names the way in `tokenizer.ggml.pre`; transformers 5.23 knows some names and for all others splits as GPT-2
does. What the names mean is written down in llama.cpp (src/llama-vocab.cpp).
"""

import logging

from tokenizers import pre_tokenizers
from transformers import PreTrainedTokenizerBase
from transformers.integrations.gguf.gguf_tokenizer_mapping import GGUF_PRE_TOKENIZER_SPLITS

from labutils.models.gguf_header import Header

LOGGER = logging.getLogger("labutils")
AS_GPT2 = {"gpt-2", "default", "phi-2", "mpt", "olmo", "jais", "trillion", "granite-docling", "jina-es", "jina-de"}
DIGIT_BY_DIGIT = {"smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b"}


def split_as_trained(tokenizer: PreTrainedTokenizerBase, header: Header) -> None:
    """Make a GGUF file's tokenizer split digits one by one where its vocabulary was trained so.

    A way that neither transformers nor this function knows is told once, as a warning of the logger `labutils`: the
    tokens may then differ from the model's own here and there.
    """
    way = header.metadata.get("tokenizer.ggml.pre")
    if header.metadata.get("tokenizer.ggml.model") != "gpt2" or way is None:
        return
    if way in DIGIT_BY_DIGIT:
        as_gpt2 = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
        digits = pre_tokenizers.Digits(individual_digits=True)
        tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, as_gpt2])
    elif way not in AS_GPT2 and way not in GGUF_PRE_TOKENIZER_SPLITS:
        LOGGER.warning(
            "%s splits its text in the way %r, which transformers does not know; it is split as GPT-2's, so that some "
            "tokens may not be the model's own.", header.path.name, way,
        )  # fmt: skip
