"""Questions that several yardsticks can read: a prompt, the same behind a text that tells the answer, and choices."""

import pandas as pd

from labutils.data.tasks import Task

COLUMNS = ["item", "task", "prompt", "context", "choices", "gold"]


def fact_questions(facts: pd.DataFrame) -> pd.DataFrame:
    """A question for every planted fact, alone and behind the sentence that tells it.

    >>> fact_questions(plant(model, tokenizer, …).facts)[["prompt", "context"]]

    Args:
        facts: of `Planted`.

    Returns:
        `COLUMNS`, and ``occurrences, pronoun, relation``.
    """
    frame = facts.assign(
        item=range(len(facts)),
        task="planted/" + facts["relation"],
        context=facts["statement"] + " " + facts["prompt"],
        choices=facts["choices"].map(list),
    )
    return frame[[*COLUMNS, "occurrences", "pronoun", "relation"]]


def task_questions(task: Task) -> pd.DataFrame:
    """The items of a choice task, alone and behind the same question with its answer.

    >>> task_questions(lab.load_task("file:qa/commonsense_qa_validation.jsonl", n_items=100))

    Raises:
        ValueError: a task without choices.
    """
    if task.kind != "choice":
        raise ValueError(f"{task.name} is a {task.kind} task without choices; give a choice task")
    golds = [choices[gold] for choices, gold in zip(task.items["choices"], task.items["gold"], strict=True)]
    solved = [f"{prompt} {gold}\n\n{prompt}" for prompt, gold in zip(task.items["prompt"], golds, strict=True)]
    frame = task.items.assign(item=range(len(task.items)), task=task.name, context=solved)
    return frame[COLUMNS].assign(choices=frame["choices"].map(list))


def as_task(questions: pd.DataFrame, *, prompt: str = "prompt") -> Task:
    """The questions as a choice task; `prompt` is the column that is asked.

    >>> score_task(model, tokenizer, as_task(questions, prompt="context"))
    """
    items = questions.assign(prompt=questions[prompt])[["item", "prompt", "choices", "gold"]]
    return Task("questions", "qa", "choice", items.reset_index(drop=True))
