"""Prompts: templates with named columns, the default for a task's columns, and a record written into one."""

from collections.abc import Iterable
from dataclasses import dataclass
from string import Formatter

from labutils.core.options import suggest


@dataclass(frozen=True)
class Template:
    """A prompt with named columns, the family its tasks belong to, and the label names it is the default for."""

    family: str
    prompt: str
    labels: frozenset[str] = frozenset()


TEMPLATES = {
    "sentiment": Template(
        "sentiment",
        "Review: {text}\nSentiment:",
        frozenset({"positive", "negative", "neutral", "very positive", "very negative", "pos", "neg"}),
    ),
    "topic": Template("topic", "Article: {text}\nTopic:", frozenset({"world", "sports", "business", "sci/tech"})),
    "style": Template("topic", "Sentence: {text}\nStyle:", frozenset({"subjective", "objective"})),
    "question-type": Template(
        "topic", "Question: {text}\nType:", frozenset({"abbr", "desc", "enty", "hum", "loc", "num"})
    ),
    "label": Template("topic", "Text: {text}\nLabel:"),
    "inference": Template("inference", "Premise: {premise}\nHypothesis: {hypothesis}\nLabel:"),
    "paraphrase": Template("inference", "Sentence 1: {sentence1}\nSentence 2: {sentence2}\nLabel:"),
    "question": Template("qa", "Question: {question}\nAnswer:"),
    "reading": Template("qa", "Context: {context}\nQuestion: {question}\nAnswer:"),
    "continuation": Template("qa", "{question}"),
    "cause-effect": Template("qa", "{question} {connective}"),
}
CONNECTIVES = {"cause": "because", "effect": "so"}


def choose_template(name: str | None, columns: Iterable[str], labels: list[str], source: str) -> Template:
    """The template called `name`, or the default: by the columns, then, for single texts, by the set of label names.

        choose_template("Question: {text}\\nKind:", ["text", "label"], ["place", "person"], source)

    A name with braces is a prompt of its own, of the family that the columns' default has.

    Raises:
        ValueError: an unknown name, a prompt that ends with a blank, or columns that no template is for.
    """
    if name is None or "{" in name:
        default = _default_template(set(columns), labels)
        if name is not None and name != name.rstrip(" "):
            raise ValueError(f"the prompt {name!r} ends with a blank; leave it out, one is put before each choice")
        if name is not None:
            return Template("topic" if default is None else default.family, name)
        if default is None:
            raise ValueError(
                f"{source}: no task format has the columns {', '.join(sorted(columns))}; see labutils.data.tasks"
            )
        return default
    if name not in TEMPLATES:
        raise ValueError(
            f"template {name!r} is not one of {', '.join(TEMPLATES)}, nor a prompt with columns in braces."
            f"{suggest(name, TEMPLATES)}"
        )
    return TEMPLATES[name]


def _default_template(columns: set[str], labels: list[str]) -> Template | None:
    if "question" in columns:
        if columns & {"context", "support", "contexts"}:
            return TEMPLATES["reading"]
        return TEMPLATES["cause-effect" if "relation" in columns else "question"]
    if {"premise", "hypothesis"} <= columns:
        return TEMPLATES["inference"]
    if {"sentence1", "sentence2"} <= columns:
        return TEMPLATES["paraphrase"]
    if "text" in columns:
        names = {label.lower() for label in labels}
        return next((t for t in TEMPLATES.values() if names <= t.labels), TEMPLATES["label"])
    return None


def fill_prompt(record: dict, template: Template, source: str) -> str:
    """A record in a template's prompt; ValueError naming what the record lacks, or what is no format.

    >>> fill_prompt({"text": "Good."}, TEMPLATES["label"], "own")
    'Text: Good.\\nLabel:'
    """
    fields = dict(record)
    if "support" in record:
        fields.setdefault("context", record["support"])
    if "contexts" in record:
        fields.setdefault("context", _join_contexts(record["contexts"], source))
    if "relation" in record:
        relation = record["relation"]
        fields["connective"] = CONNECTIVES.get(relation, relation) if isinstance(relation, str) else relation
    try:
        written = template.prompt.format(**fields)
        named = [name for _, name, _, _ in Formatter().parse(template.prompt) if name]
    except KeyError as error:
        raise ValueError(
            f"{source}: the prompt {template.prompt!r} needs the column {error}; found {', '.join(record)}. "
            f"Name another template: {', '.join(TEMPLATES)}"
        ) from error
    except (IndexError, AttributeError, ValueError) as error:
        raise ValueError(
            f"{source}: the prompt {template.prompt!r} is no format ({error}); write columns as {{text}}, and braces "
            "that stand for themselves twice"
        ) from error
    for name in named:
        if (value := fields.get(name, "")) is None or isinstance(value, list | dict):
            kind = "null" if value is None else f"a {type(value).__name__}"
            raise ValueError(f"{source}: the column {name!r}, which the prompt needs, is {kind} in {record!r}")
    try:
        written.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"{source}: a prompt holds half of a surrogate pair: {ascii(written)}") from error
    return written


def _join_contexts(contexts: object, source: str) -> str:
    if not isinstance(contexts, list) or not all(isinstance(part, str) for part in contexts):
        raise ValueError(f"{source}: contexts must be a list of texts, not {contexts!r:.40}")
    return " ".join(contexts)
