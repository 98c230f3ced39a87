"""Question, pictures and answer under the names that training data use: EasyR1, TRL and verl."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ..placeholders import bind_in_order
from ..types import CHOICE_LETTERS, AnswerType, ImageSource, Problem, ProblemError, one_line
from .cells import Row, accepted, as_text, letter_of, text, texts, whole_number
from .picture_cells import Place, images

# The columns that may hold each field, the first that a row has counts.
NAMES: Mapping[str, tuple[str, ...]] = {
    "id": ("id",),
    "question": ("question", "problem", "prompt"),
    "images": ("images", "image"),
    "answer": ("answer", "solution"),
    "options": ("options", "choices"),
    "answer_type": ("answer_type",),
    "precision": ("precision",),
    "subject": ("subject", "category"),
    "level": ("level",),
    "solution": ("solution",),
    "source": ("source", "data_source"),
    "language": ("language",),
}
_TAGGED = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)
_LETTERED = r"(?m)(?:^|\s)\(?{}[.):]\s*\S"


def question_answer(row: Row, place: Place) -> Problem:
    """A row with a question (text or chat), pictures if any, and an answer or a solution."""
    column = {field: _column(row, field) for field in NAMES}
    prompt, inline = _prompt(row.get(column["question"]), column["question"], place)
    shown = (*images(row.get(column["images"]), column["images"], place), *inline)
    options = texts(row.get(column["options"]), column["options"])
    bound = bind_in_order((prompt, *options), len(shown))
    given = text(row, column["answer_type"])
    golds = _golds(row, column["answer"], given)
    answer_type = _type(given, golds, prompt, options)
    if answer_type is AnswerType.CHOICE and options:
        golds = tuple(letter_of(one, options) for one in golds)
    is_gold = column["solution"] == column["answer"]
    return Problem(
        id=text(row, column["id"]) or place.name,
        question=bound[0],
        images=shown,
        answer=golds[0] if len(golds) == 1 else golds,
        answer_type=answer_type,
        options=bound[1:],
        family=text(row, column["subject"]) or "unknown",
        level=whole_number(row, column["level"]),
        solution=None if is_gold else text(row, column["solution"]) or None,
        source=text(row, column["source"]),
        language=text(row, column["language"]) or "en",
        precision=whole_number(row, column["precision"]),
    )


def verl(row: Row, place: Place) -> Problem:
    """verl's: a chat, pictures, and the gold answer inside of `reward_model`."""
    graded, extra = row.get("reward_model"), row.get("extra_info")
    if not isinstance(graded, dict):
        raise ProblemError("reward_model is no struct with a ground_truth")
    kept = {key: row.get(key) for key in ("id", "images", "data_source")}
    kept |= {"question": row.get("prompt"), "answer": graded.get("ground_truth")}
    kept["subject"] = row.get("ability")
    kept["solution"] = extra.get("solution") if isinstance(extra, dict) else None
    return question_answer(kept, place)


def _column(row: Row, field: str) -> str:
    names = NAMES[field]
    return next((name for name in names if row.get(name) not in (None, "")), names[0])


def _prompt(value: Any, column: str, place: Place) -> tuple[str, tuple[ImageSource, ...]]:
    """The one user turn, and the pictures that stand inside of it; system turns are left out."""
    if not isinstance(value, list | tuple):
        return as_text(value, column), ()
    turns = [turn for turn in value if isinstance(turn, dict)]
    others = [turn for turn in turns if turn.get("role") not in ("system", "user")]
    asked = [turn for turn in turns if turn.get("role") == "user"]
    if len(turns) < len(value) or others or len(asked) != 1:
        raise ProblemError(f"{column} is a chat with other than one user turn")
    content = asked[0].get("content")
    if not isinstance(content, list | tuple):
        return as_text(content, column), ()
    written, pictures = "", []
    for part in content:
        kind = part.get("type") if isinstance(part, dict) else None
        if kind == "text":
            written += as_text(part.get("text"), column)
        elif kind in ("image", "image_url"):
            written += "<image>"
            cell = part.get("image") or part.get("image_url") or part.get("path") or part.get("url")
            pictures += images(cell, column, place)
        else:
            raise ProblemError(f"{column} holds a part that is neither text nor image")
    return written, tuple(pictures)


def _golds(row: Row, column: str, answer_type: str) -> tuple[str, ...]:
    value = row.get(column)
    if answer_type in (AnswerType.LIST, AnswerType.MULTI_SELECT):  # the items of one answer
        return (", ".join(texts(value, column)) if isinstance(value, list) else text(row, column),)
    golds = accepted(value, column)
    # GSM8K's answers are worked solutions, too.
    return tuple(gold_of(one) if column == "solution" or "####" in one else one for one in golds)


def gold_of(solution: str) -> str:
    """The final answer of a solution: tagged `<answer>`, behind `####`, or in the last box.

    A solution that marks none is the answer itself.
    """
    if tagged := _TAGGED.findall(solution):
        solution = tagged[-1]
    elif "####" in solution:
        solution = solution.rpartition("####")[2]
    start = solution.rfind("\\boxed{")
    depth = 0
    for place in range(start + 6, len(solution)) if start >= 0 else ():
        depth += (solution[place] == "{") - (solution[place] == "}")
        if depth == 0:
            return solution[start + 7 : place].strip()
    return solution.strip()


def _type(
    given: str, golds: tuple[str, ...], question: str, options: tuple[str, ...]
) -> AnswerType:
    """As given; else a choice where options are listed, in the question or beside it."""
    if given:
        try:
            return AnswerType(given)
        except ValueError:
            known = ", ".join(AnswerType)
            raise ProblemError(f"answer_type {one_line(given)!r} is none of {known}") from None
    if options:
        return AnswerType.CHOICE
    are_letters = all(len(one) == 1 and one in CHOICE_LETTERS for one in golds)
    listed = ("A", "B", *golds) if are_letters else ()
    is_choice = listed and all(re.search(_LETTERED.format(one), question) for one in listed)
    return AnswerType.CHOICE if is_choice else AnswerType.OPEN
