r"""Answers of several solutions: `x=1 or x=-2`, `3\pm\sqrt{2}`, `x_1=1, x_2=-2`, in any order."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from itertools import permutations

from .math_pool import Comparisons, MathJob
from .reading.normalization import plain

Verdict = bool | MathJob

MAX_SOLUTIONS = 5
_SEPARATOR = re.compile(
    r"\\(?:lor|vee)(?![A-Za-z])|(?<![A-Za-z\\])(?:or|and)(?![A-Za-z])|或者?|[和与,;，；、]"
)
_OR = re.compile(r"\\(?:lor|vee)(?![A-Za-z])|(?<![A-Za-z\\])or(?![A-Za-z])|或")
_ASSIGNED = re.compile(r"^([A-Za-z]|\\[a-z]+)(?:_(?:\w|\{\w+\}))?=(?=[^=]+$)")
_MEMBER = re.compile(r"^([A-Za-z])\\in(?![A-Za-z]) ?(?=\\?\{)")
_PLUS_MINUS = re.compile(r"\\pm(?![A-Za-z]) ?|\+/-|\+-")
_ASSIGNED_TWICE = re.compile(r"=.*=|\\pm|±", re.DOTALL)
_INEQUALITY = re.compile(r"[<>]|\\(?:le|ge|lt|gt|ne)(?![A-Za-z])")
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")


@dataclass(frozen=True, slots=True)
class Solution:
    """One solution: the variable it gives a value, if it says so, and the value."""

    variable: str | None
    value: str


def parse_solutions(text: str) -> list[Solution] | None:
    """The solutions that an answer joins by "or", by commas after assignments, by a plus-minus or
    as a set; None if it is no such answer.
    """
    text = plain(text)
    if len(text) > 200:
        return None
    if re.fullmatch(r"[A-Za-z]\\in(?![A-Za-z]).*", text):
        text = _MEMBER.sub(r"\1=", text)
    items = _split(text)
    solutions = []
    for item in items:
        match = _ASSIGNED.match(item)
        variable, value = (match[1], item[match.end() :]) if match else (None, item)
        inner = _set_items(value)
        for one in inner or [value]:
            solutions += [Solution(variable, branch) for branch in _branches(one)]
    # A value after "x=1 or" belongs to x as well.
    named = {solution.variable for solution in solutions if solution.variable}
    if len(solutions) < 2 or len(solutions) > MAX_SOLUTIONS:
        return None
    if len(named) == 1 and solutions[0].variable:
        solutions = [Solution(solutions[0].variable, solution.value) for solution in solutions]
    return solutions


def solutions_agree(
    gold: str, prediction: str, compare: Callable[[str, str], Verdict]
) -> Verdict | None:
    """Whether both answers give the same solutions, in any order; None if that is not the question.

    The gold answer joins solutions by "or", a plus-minus or several assignments; or it is a list or
    a set, and the prediction assigns its items: x=2 or x=3 for {2, 3}.
    """
    alternatives = is_alternative(gold)
    if not alternatives and not (_ASSIGNED_TWICE.search(prediction) and is_alternative(prediction)):
        return None
    golds, predictions = parse_solutions(gold), parse_solutions(prediction)
    if golds is None:
        return None
    if any(_INEQUALITY.search(solution.value) for solution in golds) and predictions is None:
        return None  # x<1 or x>2 may be answered by a union of intervals
    if predictions is None or len(golds) != len(predictions):
        return False if alternatives else None
    variables = [solution.variable for solution in golds]
    said = [solution.variable for solution in predictions]
    if len(set(variables)) > 1 and not any(said):
        # "1, 2" for x=1, y=2 gives the values in order.
        predictions = [
            Solution(variable, solution.value)
            for variable, solution in zip(variables, predictions, strict=True)
        ]
    return _paired(golds, predictions, compare)


def _paired(
    golds: list[Solution], predictions: list[Solution], compare: Callable[[str, str], Verdict]
) -> Verdict:
    """Whether each gold solution has one equal solution of its own."""
    table = [
        [
            compare(gold.value, one.value)
            if one.variable in (None, gold.variable) or gold.variable is None
            else False
            for one in predictions
        ]
        for gold in golds
    ]
    ways = []
    for order in permutations(range(len(golds))):
        verdicts = [row[place] for row, place in zip(table, order, strict=True)]
        if False in verdicts:
            continue
        jobs = tuple(verdict for verdict in verdicts if not isinstance(verdict, bool))
        if not jobs:
            return True
        ways.append(Comparisons("all", jobs))
    return Comparisons("any", tuple(ways)) if ways else False


def is_alternative(text: str) -> bool:
    """Whether a gold answer offers solutions: by "or", a plus-minus, or one variable twice."""
    text = plain(text)
    if _OR.search(text) or len(_PLUS_MINUS.findall(text)) == 1:
        return True
    variables = [match[1] for item in _split(text) if (match := _ASSIGNED.match(item))]
    return len(variables) > 1


def _split(text: str) -> list[str]:
    """At every separator outside brackets."""
    if text.startswith("both "):
        text = text[5:]
    hidden = _THOUSANDS.sub("\0", text)
    items, depth, start = [], 0, 0
    position = 0
    while position < len(hidden):
        character = hidden[position]
        depth += (character in "([{") - (character in ")]}")
        match = _SEPARATOR.match(hidden, position) if depth == 0 else None
        if match:
            items.append(hidden[start:position])
            start = position = match.end()
        else:
            position += 1
    items.append(hidden[start:])
    return [item.replace("\0", ",").strip() for item in items if item.strip()]


def _set_items(value: str) -> list[str] | None:
    match = re.fullmatch(r"\\\{(.*)\\\}", value)
    return _split(match[1]) if match else None


def _branches(value: str) -> list[str]:
    """Both values of `3\\pm\\sqrt{2}`; a value without a plus-minus as it is."""
    if len(_PLUS_MINUS.findall(value)) != 1:
        return [value]
    first = _PLUS_MINUS.sub("+", value).removeprefix("+")
    return [first, _PLUS_MINUS.sub("-", value)]
