"""Answers in short, for the README's table; the whole answers stand at the heads of notebooks and pages."""

import re

LEAST = 100  # characters


def in_short(answer: str) -> str:
    """The first sentences of an answer, as few as make up a hundred characters; "…" stands for what follows.

    A sentence ends outside of brackets, and before a capital letter or a star.

    >>> in_short("Yes. " * 50)  # 20 of them and "…"
    """
    depth = 0
    for place, sign in enumerate(answer):
        depth = max(0, depth + (sign in "([") - (sign in ")]"))
        ends = sign in ".?!" and not depth and re.match(r"\s+[A-Z*]", answer[place + 1 :])
        if ends and place + 1 >= LEAST:
            return f"{answer[: place + 1]} …"
    return answer
