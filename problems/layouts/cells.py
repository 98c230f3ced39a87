"""Cells of foreign tables → texts, lists and numbers. Nothing is ever evaluated."""

from __future__ import annotations

import ast
import json
import re
from decimal import Decimal
from math import isfinite
from typing import Any

from ..types import CHOICE_LETTERS, AnswerType, ProblemError, one_line

Row = dict[str, Any]

MAX_LIST_CHARACTERS = 2**16  # of a list that is printed as text
_NO_LITERAL = (ValueError, SyntaxError, TypeError, MemoryError, RecursionError)
_NUMBER = re.compile(r"[-+]?\$?\d[\d,]*(\.\d+)?%?")


def text(row: Row, column: str) -> str:
    """A text or number as text, "" where there is none. Raises `ProblemError` for anything else."""
    return as_text(row.get(column), column)


def as_text(value: Any, column: str) -> str:
    """`text` of a value that is no cell of its own."""
    if value is None or value == "":
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    try:
        if isinstance(value, Decimal) and value.is_finite():
            return f"{value:f}"
        if isinstance(value, int) or (isinstance(value, float) and isfinite(value)):
            return str(int(value)) if value == int(value) and abs(value) < 2**53 else str(value)
    except ValueError:  # more digits than Python prints
        raise ProblemError(f"{column} is a number of too many digits") from None
    shown = value if isinstance(value, float) else type(value).__name__
    raise ProblemError(f"{column} is {shown}, not text")


def texts(value: Any, column: str) -> tuple[str, ...]:
    """A list of texts, a text that prints as one in Python or JSON, or texts named A, B, C, …

    Raises `ProblemError` for anything else.
    """
    if isinstance(value, str):
        listed = printed_list(value.strip() or "[]")
        if listed is None:
            raise ProblemError(f"{column} {one_line(value, 60)!r} is not a list")
        value = listed
    if isinstance(value, dict):
        named = {key: one for key, one in value.items() if one is not None}
        if "".join(map(str, named)) == CHOICE_LETTERS[: len(named)]:
            value = list(named.values())
    if value is None:
        return ()
    if not isinstance(value, list | tuple):
        raise ProblemError(f"{column} is {type(value).__name__}, not a list")
    return tuple(as_text(one, column) for one in value)


def printed_list(value: str) -> list[Any] | None:
    """The list that a text prints as, in Python or JSON; None if it prints as none."""
    if len(value) > MAX_LIST_CHARACTERS or not value.lstrip().startswith(("[", "(")):
        return None
    for read in (json.loads, ast.literal_eval):
        try:
            listed = read(value.strip())
        except _NO_LITERAL:
            continue
        if isinstance(listed, list | tuple):
            return list(listed)
    return None


def accepted(value: Any, column: str) -> tuple[str, ...]:
    """The gold answers: one, or several of a list, also of one that prints as a list of texts.

    A list of numbers, as an interval "[0, 2π)", is an answer of its own.
    """
    if isinstance(value, str):
        listed = printed_list(value) if value.strip().startswith("[") else None
        if listed and all(isinstance(one, str) for one in listed):
            return tuple(dict.fromkeys(listed))
        return (value.strip(),)
    if isinstance(value, list | tuple):
        return tuple(dict.fromkeys(as_text(one, column).strip() for one in value))
    return (as_text(value, column).strip(),)


def open_type(answers: tuple[str, ...]) -> AnswerType:
    """What all of the answers look like; where they differ, each as it looks."""
    kinds = {_look(answer) for answer in answers}
    return kinds.pop() if len(kinds) == 1 else AnswerType.OPEN


def _look(answer: str) -> AnswerType:
    if _NUMBER.fullmatch(answer):
        return AnswerType.NUMBER
    return AnswerType.EXPRESSION if re.search(r"[\\^=]", answer) else AnswerType.TEXT


def letter_of(answer: str, options: tuple[str, ...]) -> str:
    """The letter of an answer that is a letter, or else the text of one option.

    Raises `ProblemError` if it is neither or the text stands at several.
    """
    letter = answer.strip().strip("()")
    if letter in tuple(CHOICE_LETTERS[: len(options)]):
        return letter
    if found := letter_of_text(answer, options):
        return found
    raise ProblemError(f"answer {one_line(answer)!r} is no letter and not one of the options")


def letter_of_text(answer: str, options: tuple[str, ...]) -> str | None:
    """The letter of the one option that reads as the answer, None if there is no such option."""
    places = [place for place, option in enumerate(options) if option.strip() == answer.strip()]
    return CHOICE_LETTERS[places[0]] if len(places) == 1 and places[0] < 26 else None


def whole_number(row: Row, column: str) -> int | None:
    """An integer, also written as a float or as digits; None for anything else."""
    value = row.get(column)
    if isinstance(value, str) and re.fullmatch(r"\d{1,9}(\.0+)?", value.strip()):
        value = float(value)
    if isinstance(value, float) and isfinite(value) and value == int(value):
        value = int(value)
    return value if type(value) is int and abs(value) < 2**53 else None
