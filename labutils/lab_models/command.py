"""The command `python -m labutils train`."""

import argparse

from labutils.core.paths import MODELS, expand
from labutils.lab_models.card import write_card
from labutils.lab_models.loop import find_spec, train_lab_model
from labutils.lab_models.specs import SPECS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command to a parser."""
    parser.add_argument("name", choices=tuple(SPECS), help="which lab model")
    parser.add_argument(
        "--tokens", type=int, help="training tokens (default: the model's own, see labutils/lab_models/specs.py)"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of weights, text and order (default: %(default)s)")
    parser.add_argument(
        "--device", choices=("auto", "cpu", "cuda"), default="auto", help="default: a GPU where there is one"
    )
    parser.add_argument("--out", type=expand, help="folder to write (default: data/models/<name>)")
    parser.add_argument("--resume", action="store_true", help="go on from the last checkpoint in the folder")
    parser.add_argument("--card-only", action="store_true", help="measure a trained model again and rewrite its card")


def main(args: argparse.Namespace) -> int:
    """Train a model, measure it, write its card; returns the exit status."""
    spec = find_spec(args.name)
    folder = expand(args.out or MODELS / spec.name)
    if not args.card_only:
        train_lab_model(spec, tokens=args.tokens, seed=args.seed, device=args.device, out=folder, resume=args.resume)
    card = write_card(folder, name=spec.name)
    print(f"{folder}: {card['fitness']['verdict']}")
    return 0
