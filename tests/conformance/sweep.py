"""All classes, each in a process of its own with a limit on time and memory; results go to a file line by line."""

import json
import resource
import shutil
import tempfile
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from multiprocessing import connection, get_context
from pathlib import Path
from typing import TextIO

import torch
import transformers
from conformance.attempts import one_line
from conformance.checks import Row, check_class
from transformers import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_TEXT_ENCODING_MAPPING_NAMES,
    MODEL_MAPPING_NAMES,
)

from labutils.core import paths
from labutils.core.files import hash_tree

MAPPINGS = {
    "causal": MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    "base": MODEL_MAPPING_NAMES,
    "text": MODEL_FOR_TEXT_ENCODING_MAPPING_NAMES,
}
CPU_SECONDS, SECONDS, BYTES = 90, 900.0, 8 * 2**30


@dataclass(frozen=True)
class Candidate:
    """A class, the first model type that the mappings name it for, and the mappings' names."""

    name: str
    model_type: str
    mappings: str


def current_origin() -> str:
    """The transformers and the labutils that are imported here."""
    return f"transformers {transformers.__version__}, labutils {hash_tree(paths.PACKAGE, '*.py')[:12]}"


def candidates() -> list[Candidate]:
    """Every class of the mappings of the installed transformers, once."""
    found: dict[str, tuple[str, list[str]]] = {}
    for mapping, types in MAPPINGS.items():
        for model_type, names in types.items():
            for name in names if isinstance(names, tuple) else (names,):
                own = found.setdefault(name, (model_type, []))[1]
                if mapping not in own:
                    own.append(mapping)
    return [Candidate(name, model_type, " ".join(own)) for name, (model_type, own) in sorted(found.items())]


def check_candidate(candidate: Candidate) -> Row:
    """One class, checked in this process."""
    named = CONFIG_MAPPING[candidate.model_type]
    try:
        model_class = getattr(transformers, candidate.name)
        config_classes = list(dict.fromkeys([model_class.config_class or named, named]))
    except (AttributeError, ImportError) as error:  # it needs a package that is not here, or is not there at all
        return Row(candidate.name, candidate.mappings, "not built", one_line(error))
    folder = Path(tempfile.mkdtemp(prefix="conformance-"))
    try:
        return check_class(candidate.name, model_class, config_classes, candidate.mappings, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def sweep(todo: Sequence[Candidate], results: Path, jobs: int) -> Iterator[Row]:
    """Check classes side by side; each row is in the file before it is handed on."""
    _warm_up()
    origin = current_origin()
    context, waiting, running = get_context("fork"), list(reversed(todo)), {}
    with results.open("a", encoding="utf-8") as file:
        while waiting or running:
            while waiting and len(running) < jobs:
                candidate = waiting.pop()
                receiver, sender = context.Pipe(duplex=False)
                process = context.Process(target=_child, args=(candidate, sender))
                process.start()
                sender.close()
                running[receiver] = (candidate, process, time.monotonic())
            for receiver in connection.wait(list(running), timeout=0.5):
                candidate, process, _ = running.pop(receiver)
                row = _received(receiver, candidate)
                process.join()
                yield _noted(row, origin, file)
            for receiver, (candidate, process, started) in list(running.items()):
                if time.monotonic() - started > SECONDS:
                    process.kill()
                    process.join()
                    del running[receiver]
                    yield _noted(_wrong(candidate, f"not done after {SECONDS:.0f} seconds"), origin, file)


def read_rows(results: Path) -> dict[str, Row]:
    """What a file holds that was found with this code, the last row of each class.

    A line that a kill cut short is passed over.
    """
    rows, origin = {}, current_origin()
    for line in results.read_text(encoding="utf-8").splitlines() if results.exists() else ():
        if line.endswith("}"):
            row = Row(**json.loads(line))
            rows |= {row.name: row} if row.origin == origin else {}
    return rows


def _warm_up() -> None:
    """Import here, once, what every check imports on its way: a process that is forked off has it."""
    _be_quiet()
    for candidate in candidates():
        if candidate.name in ("BertModel", "MixtralForCausalLM"):
            check_candidate(candidate)


def _be_quiet() -> None:
    warnings.simplefilter("ignore")
    transformers.utils.logging.set_verbosity_error()
    torch.set_num_threads(1)


def _child(candidate: Candidate, sender: connection.Connection) -> None:
    _be_quiet()
    resource.setrlimit(resource.RLIMIT_AS, (BYTES, BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))  # of its own: others may keep it waiting
    sender.send(asdict(check_candidate(candidate)))


def _received(receiver: connection.Connection, candidate: Candidate) -> Row:
    try:
        return Row(**receiver.recv())
    except EOFError:
        return _wrong(candidate, f"its process ended without a result, perhaps after {CPU_SECONDS} seconds of work")


def _wrong(candidate: Candidate, reason: str) -> Row:
    return Row(candidate.name, candidate.mappings, "wrong", reason)


def _noted(row: Row, origin: str, file: TextIO) -> Row:
    row.origin = origin
    file.write(json.dumps(asdict(row)) + "\n")
    file.flush()
    return row
