"""Model formulas in the manner of lme4 (Bates et al. 2015, Journal of Statistical Software 67(1)).

    score ~ word_length + adaptation * finetuning + (1 + adaptation | sample)

Left of `~` stands the response. On the right, outside the parentheses, are the fixed effects: one number for all
groups. `a:b` is the interaction of a and b, `a*b` is short for a + b + a:b, and an intercept is added unless `0 +` or
`- 1` says otherwise. Every parenthesis with a bar is a random term: what stands left of the bar has a coefficient of
its own in every level of the grouping factor right of it, drawn from a normal distribution around the fixed effect.

    (1 | g)               the level of g shifts the intercept
    (1 + x | g), (x | g)  intercept and slope of x vary over g, with a correlation
    (x || g)              the same without correlation; also written (1 | g) + (0 + x | g)
    (1 | a) + (1 | b)     two grouping factors, crossed or nested as the data have it
    (1 | a/b)             b within a: (1 | a) + (1 | a:b); `a:b` is the combination of the two labels

Numbers are used as they are; text, categories and booleans get treatment coding: one 0/1 column per level but the
first. `C(x)` makes a category of a number, `I(x^2)` is arithmetic, and log, exp, sqrt, abs, scale, center are known.
"""

from dataclasses import dataclass

from labutils.multilevel.syntax import Node, parse

Term = tuple[Node, ...]  # the product of some factors; the empty product is the intercept
INTERCEPT: Term = ()
MOST_TERMS = 1000  # a product of many columns would take all memory


@dataclass(frozen=True)
class RandomTerm:
    """`terms` vary over the levels of `group` (several columns: their combinations), correlated with one another."""

    terms: tuple[Term, ...]
    group: tuple[str, ...]


@dataclass(frozen=True)
class Formula:
    """What a formula says: its text, the response, the terms of the fixed part, and the random terms."""

    text: str
    response: Node
    fixed: tuple[Term, ...]
    random: tuple[RandomTerm, ...]
    uncorrelated: tuple[Node, ...]  # factors that stand left of `||`, where only numbers make sense

    def columns(self) -> list[str]:
        factors = [factor for term in self.fixed for factor in term]
        factors += [factor for random in self.random for term in random.terms for factor in term]
        names = [name for factor in [self.response, *factors] for name in factor.columns()]
        return list(dict.fromkeys([*names, *(name for random in self.random for name in random.group)]))


def read_formula(text: str) -> Formula:
    """Read a formula; see the module for the notation.

    Raises:
        ValueError: the text is not a formula, or one without a response or without a random term.
    """
    tree = parse(text)
    if tree.text != "~" or len(tree.parts) != 2:
        raise ValueError(f"The formula {text!r} has no '~': write response ~ predictors + (1 | group).")
    response, right = tree.parts
    if response.kind not in ("name", "call"):
        hint = f" A column that is called so is written `{response}`." if response.kind == "number" else ""
        raise ValueError(
            f"The response must be one column or a function of one, got {str(response)!r} in {text!r}.{hint}"
        )
    summands = _summands(right)
    bars = [part for sign, part in summands if sign > 0 and part.kind == "operation" and part.text in ("|", "||")]
    fixed = [(sign, part) for sign, part in summands if part not in bars]
    if not bars:
        raise ValueError(
            f"The formula {text!r} has no random term, so there are no levels to tell apart: add one in parentheses, "
            "as (1 | group), or use ordinary least squares."
        )
    random = tuple(term for bar in bars for term in _random_terms(bar))
    uncorrelated = tuple(factor for bar in bars if bar.text == "||" for term in _terms(bar.parts[0]) for factor in term)
    return Formula(text, response, _with_intercept(fixed), random, uncorrelated)


def term_name(term: Term) -> str:
    """As R calls a term: "(Intercept)", "a", "a:b"."""
    return ":".join(map(str, term)) or "(Intercept)"


def _random_terms(bar: Node) -> list[RandomTerm]:
    """One random term per grouping factor, and with `||` one per term."""
    varying = _with_intercept(_summands(bar.parts[0]))
    if not varying:
        raise ValueError(f"The random term ({bar}) lets nothing vary: write (1 | group) or (0 + x | group).")
    groups = [_group_columns(term, bar) for term in _terms(bar.parts[1])]
    sets = [(term,) for term in varying] if bar.text == "||" else [varying]
    return [RandomTerm(terms, group) for group in groups for terms in sets]


def _group_columns(term: Term, bar: Node) -> tuple[str, ...]:
    if not term or any(factor.kind != "name" for factor in term) or not _only_nested(bar.parts[1]):
        raise ValueError(
            f"The grouping factor of ({bar}) must be a column, a combination a:b, or nested columns a/b; several "
            "grouping factors get a random term each. A column whose name is not a plain word, such as a number, is "
            "written between backquotes."
        )
    return tuple(factor.text for factor in term)


def _only_nested(tree: Node) -> bool:
    return tree.kind == "name" or tree.text in (":", "/") and all(map(_only_nested, tree.parts))


def _summands(tree: Node) -> list[tuple[int, Node]]:
    """The signed parts of a sum, however deep in parentheses."""
    found: list[tuple[int, Node]] = []  # from the last one on: a long sum is a tree that is deep on the left
    while tree.kind == "operation" and tree.text in "+-":
        sign = -1 if tree.text == "-" else 1
        found = [(sign * inner, part) for inner, part in _summands(tree.parts[-1])] + found
        if len(tree.parts) == 1:
            return found
        tree = tree.parts[0]
    return [(1, tree), *found]


def _with_intercept(summands: list[tuple[int, Node]]) -> tuple[Term, ...]:
    """The terms of a sum, begun with an intercept, ordered as in R: by number of factors, factors as they appear."""
    terms = _sum([(1, Node("number", "1")), *summands])
    appearance = [factor for _, part in summands for factor in _factors(part)]
    return tuple(sorted((tuple(sorted(term, key=appearance.index)) for term in terms), key=len))


def _factors(tree: Node) -> list[Node]:
    """Columns and calls in the order in which they are written."""
    if tree.kind != "operation":
        return [tree]
    return [factor for part in tree.parts for factor in _factors(part)]


def _sum(summands: list[tuple[int, Node]]) -> list[Term]:
    """Terms added and taken out one after the other; `0` is the intercept taken out."""
    found: list[Term] = []
    for sign, part in summands:
        if part.kind == "number" and part.text == "0":
            sign, part = -sign, Node("number", "1")
        terms = _terms(part)
        if sign > 0:
            found = _union(found, terms)
        else:
            gone = [set(term) for term in terms]
            found = [term for term in found if set(term) not in gone]
    return found


def _terms(tree: Node) -> list[Term]:
    """The terms that a tree stands for, by the rules of Wilkinson & Rogers (1973, Applied Statistics 22(3))."""
    if tree.kind in ("name", "call"):
        return [(tree,)]
    if tree.kind == "number":
        if tree.text != "1":
            raise ValueError(
                f"The number {tree.text} is no term: only 1 and 0 are. Write I(...) for arithmetic, and `{tree.text}` "
                "for a column that is called so."
            )
        return [INTERCEPT]
    if tree.text in "+-":
        return _sum(_summands(tree))
    if tree.text not in ("*", "/", ":", "^"):
        raise ValueError(f"({tree}) must stand alone, in parentheses, as one summand of the formula.")
    left = _terms(tree.parts[0])
    if tree.text == "^":
        return _power(left, tree.parts[1])
    right = _terms(tree.parts[1])
    if tree.text == "/":
        return _union(left, _products([tuple(factor for term in left for factor in term)], right))
    return _products(left, right) if tree.text == ":" else _union(left, right, _products(left, right))


def _power(terms: list[Term], exponent: Node) -> list[Term]:
    digits = exponent.text.lstrip("0")
    if exponent.kind != "number" or not digits.isdigit():
        raise ValueError(f"Terms can be raised to a whole number only, got {exponent}; write I(x^2) for arithmetic.")
    found = terms
    for _ in range(min(int(digits[:4]), MOST_TERMS) - 1):
        longer = _union(found, _products(found, terms))
        if len(longer) == len(found):  # all products are there
            break
        found = longer
    return found


def _products(left: list[Term], right: list[Term]) -> list[Term]:
    _refuse_too_many(len(left) * len(right) // MOST_TERMS)  # many products are the same
    return _union([tuple(dict.fromkeys((*one, *other))) for one in left for other in right])


def _union(*lists: list[Term]) -> list[Term]:
    """All terms, each once; a:b and b:a are the same."""
    found: dict[frozenset[Node], Term] = {}
    for term in (term for terms in lists for term in terms):
        found.setdefault(frozenset(term), term)
    _refuse_too_many(len(found))
    return list(found.values())


def _refuse_too_many(count: int) -> None:
    if count > MOST_TERMS:
        raise ValueError(f"The formula stands for more than {MOST_TERMS:,} terms: leave out products or powers.")
