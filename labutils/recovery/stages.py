"""Arms of a recovery study: stages joined by " → ", each of which prunes, removes, trains or re-estimates.

    wanda → lora                 prune by Wanda, then train masked adapters on the text
    wanda → all/logits@own       … all parameters, towards the dense model's logits, on its own continuations
    wanda@own                    prune, calibrated on the dense model's own continuations
    neurons → lora, blocks → lora    remove neurons or whole blocks, then train
    penalty → neurons            train with a penalty on the neurons that go, then remove them
    movement, gradual            prune while training, by movement or by magnitude
    wanda → reestimate           move biases and norms without gradients
    lora                         train the dense model: what the text alone teaches

What follows "@" names the data: "text" (the study's own, where nothing is said), "own", or one of the study's pools.
"""

from dataclasses import dataclass

from labutils.pruning.requests import make_request
from labutils.recovery.places import LORA, PARTS, split_parts
from labutils.recovery.recovering import GOALS

ARROW = " → "
REMOVALS = ("neurons", "blocks")
GRADUAL = {"movement": "movement", "gradual": "magnitude"}  # stage → score
PENALTY, REESTIMATE, TEXT, OWN = "penalty", "reestimate", "text", "own"


@dataclass(frozen=True)
class Stage:
    """One step of an arm.

    Attributes:
        kind: "prune", "remove", "gradual", "penalty", "reestimate" or "train".
        name: a pruning method, "neurons", "blocks", or the parts that are trained.
        goal: of training.
        data: "text", "own", or the name of a pool.
    """

    kind: str
    name: str
    goal: str = "text"
    data: str = TEXT

    @property
    def prunes(self) -> bool:
        """Whether weights are zero behind it."""
        return self.kind in ("prune", "remove", "gradual")

    @property
    def trains(self) -> bool:
        """Whether it needs a learning rate."""
        return self.kind in ("train", "gradual", "penalty")


def parse_arm(arm: str) -> list[Stage]:
    """The stages of an arm; see the module's text.

    >>> [stage.kind for stage in parse_arm("wanda → lora/logits@own")]
    ['prune', 'train']

    Raises:
        LookupError: an unknown method, part or goal.
        ValueError: an arm that prunes twice, or a penalty that no removal of neurons follows.
    """
    stages = [parse_stage(text.strip()) for text in arm.split(ARROW.strip())]
    if sum(stage.prunes for stage in stages) > 1:
        raise ValueError(f"arm={arm!r} prunes twice; one stage prunes, the others train or re-estimate.")
    for stage, after in zip(stages, [*stages[1:], None], strict=True):
        if stage.kind == "penalty" and (after is None or after.name != "neurons"):
            raise ValueError(f'arm={arm!r}: a penalty stands before the neurons it empties, as in "penalty → neurons".')
    return stages


def way_of(arm: str) -> str:
    """An arm without the data that its stages name: what its learning rate is chosen for.

    >>> way_of("wanda@other → lora@own")
    'wanda → lora'
    """
    return ARROW.join(part.partition("@")[0].strip() for part in arm.split(ARROW.strip()))


def parse_stage(text: str) -> Stage:
    """One stage; LookupError where no method, removal, part or goal has its name."""
    name, _, data = text.partition("@")
    data = data or TEXT
    if name in REMOVALS:
        return Stage("remove", name, data=data)
    if name in GRADUAL:
        return Stage("gradual", name, data=data)
    if name in (PENALTY, REESTIMATE):
        return Stage(name, name, data=data)
    parts, _, goal = name.partition("/")
    if parts.split("+")[0] in (*PARTS, LORA):
        split_parts(parts)
        if (goal := goal or TEXT) not in GOALS:
            raise LookupError(f"stage {text!r}: no goal is called {goal!r}; there are {', '.join(GOALS)}.")
        return Stage("train", parts, goal, data)
    try:
        make_request(name, 0.5, None, "unstructured", False, 0, {})
    except LookupError as unknown:
        others = ", ".join([*REMOVALS, *GRADUAL, PENALTY, REESTIMATE, LORA, *PARTS])
        raise LookupError(f"stage {text!r} is none of {others}, and no pruning method: {unknown}") from unknown
    return Stage("prune", name, data=data)
