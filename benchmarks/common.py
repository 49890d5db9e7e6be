"""What the benchmarks share: random models, a clock, and a result file that tells its machine and date.

An environment of a peer, which need not hold what this package needs, can import it.
"""

import datetime
import json
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM

RESULTS = Path(__file__).parent / "results"


def random_llama(
    *, hidden: int, intermediate: int, blocks: int, heads: int, vocabulary: int = 32_000, positions: int = 512,
    tied: bool = True, device: str = "cpu", dtype: torch.dtype = torch.float32,
) -> LlamaForCausalLM:  # fmt: skip
    """A Llama with random weights of the given shape, made on the device, in evaluation mode; always the same one."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=vocabulary, hidden_size=hidden, intermediate_size=intermediate, num_hidden_layers=blocks,
        num_attention_heads=heads, num_key_value_heads=heads, max_position_embeddings=positions,
        tie_word_embeddings=tied,
    )  # fmt: skip
    with torch.device(device):
        return LlamaForCausalLM._from_config(config, dtype=dtype).eval()


def random_tokens(n: int, length: int, vocabulary: int = 32_000) -> torch.Tensor:
    """Token ids [n, length], drawn evenly; always the same ones."""
    return torch.randint(0, vocabulary, (n, length), generator=torch.Generator().manual_seed(0))


def timed(work: Callable[[], object], device: str = "cpu") -> dict[str, float]:
    """Wall seconds of one call, all work on the device included, and processor seconds of this process."""
    _finish_work(device)
    wall, processor = time.perf_counter(), time.process_time()
    work()
    _finish_work(device)
    return {"wall": time.perf_counter() - wall, "processor": time.process_time() - processor}


def _finish_work(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def describe_machine(device: str = "cpu") -> dict[str, object]:
    """Date, processor or accelerator, threads and versions."""
    from labutils.core.profiling import describe_processor

    about = {
        "date": datetime.date.today().isoformat(), "processor": describe_processor(), "cores": os.cpu_count(),
        "threads": torch.get_num_threads(), "python": platform.python_version(), "torch": torch.__version__,
    }  # fmt: skip
    return {**about, "accelerator": torch.cuda.get_device_name()} if device == "cuda" else about


def write_result(path: Path, result: dict) -> None:
    """Write a result as JSON, whole or not at all."""
    from labutils.core.files import write_atomically

    write_atomically(path, json.dumps(result, indent=1) + "\n")
