"""MathVista, MATH-Vision and MathVerse, column by column as the benchmarks publish them."""

from __future__ import annotations

import re

from ..placeholders import bind_composite, bind_in_order
from ..types import CHOICE_LETTERS, AnswerType, ImageSource, Problem, image_numbers
from .cells import Row, accepted, letter_of, letter_of_text, open_type, text, texts, whole_number
from .picture_cells import Place, image

_LANGUAGES = {"english": "en", "chinese": "zh", "persian": "fa"}
_VISTA_TYPES = {
    "integer": AnswerType.NUMBER,
    "float": AnswerType.NUMBER,
    "list": AnswerType.LIST,
    "text": AnswerType.TEXT,
}
_CHOICE_LINE = re.compile(r"\s*\(?([A-Z])[.:)]\s*(.*?)\s*")


def mathvista(row: Row, place: Place) -> Problem:
    """A row of MathVista: an answer to choices is an option's text there, here its letter."""
    shown = _pictures(row, place)
    options = texts(row.get("choices"), "choices")
    answer = text(row, "answer").strip()
    if options:
        answer_type = AnswerType.CHOICE
        if answer:
            answer = letter_of_text(answer, options) or letter_of(answer, options)
    else:
        kind = text(row, "answer_type")
        answer_type = _VISTA_TYPES.get(kind) or open_type((answer,))
    question, unit = text(row, "question"), text(row, "unit")
    if unit and question.strip():
        question = f"{question} (Unit: {unit})"
    metadata = row.get("metadata")
    about = metadata if isinstance(metadata, dict) else {}
    language = text(about, "language")
    question, *options = bind_in_order((question, *options), len(shown))
    return Problem(
        id=text(row, "pid") or place.name,
        question=question,
        images=shown,
        answer=answer,
        answer_type=answer_type,
        options=tuple(options),
        family=text(about, "task") or "unknown",
        source="MathVista",
        language=_LANGUAGES.get(language.lower(), language) or "en",
        precision=None if options else whole_number(row, "precision"),
    )


def math_vision(row: Row, place: Place) -> Problem:
    """A row of MATH-Vision; one picture of several figures is bound to the first placeholder."""
    shown = _pictures(row, place)
    question = text(row, "question")
    options = texts(row.get("options"), "options")
    if len(shown) == 1 and len(set(image_numbers(question, *options))) > 1:
        question, options = bind_composite(question, options)
    question, *bound = bind_in_order((question, *options), len(shown))
    golds = accepted(row.get("answer"), "answer")
    if options:
        golds = tuple(letter_of(one, options) if one else "" for one in golds)
    return Problem(
        id=text(row, "id") or place.name,
        question=question,
        images=shown,
        answer=golds[0] if len(golds) == 1 else golds,
        answer_type=AnswerType.CHOICE if options else open_type(golds),
        options=tuple(bound),
        family=text(row, "subject") or "unknown",
        level=whole_number(row, "level"),
        solution=text(row, "solution") or None,
        source="MATH-Vision",
    )


def mathverse(row: Row, place: Place) -> Problem:
    """A row of MathVerse. Its vision-only version has no question: its own query asks instead."""
    shown = _pictures(row, place)
    question, options = text(row, "question"), ()
    if question.strip():
        question, options = _without_choices(question)
    else:
        question = text(row, "query_cot") or text(row, "query_wo")
    answer = text(row, "answer").strip()
    is_choice = text(row, "question_type") == "multi-choice"
    if not is_choice:
        question, options = text(row, "question") or question, ()
    question, *bound = bind_in_order((question, *options), len(shown))
    return Problem(
        id=text(row, "sample_index") or place.name,
        question=question,
        images=shown,
        answer=letter_of(answer, options) if options and answer else answer,
        answer_type=AnswerType.CHOICE if is_choice else open_type((answer,)),
        options=tuple(bound),
        family=text(row, "problem_version") or "unknown",
        source="MathVerse",
    )


def _pictures(row: Row, place: Place) -> tuple[ImageSource, ...]:
    """The decoded picture; else the file that `image` names."""
    for column in ("decoded_image", "image"):
        if picture := image(row.get(column), column, place):
            return (picture,)
    return ()


def _without_choices(question: str) -> tuple[str, tuple[str, ...]]:
    """A question and the options it ends with, one to a line; none where they are no such list."""
    stem, found, listed = question.partition("Choices:")
    lines = [_CHOICE_LINE.fullmatch(line) for line in listed.strip().splitlines()]
    matches = [line for line in lines if line]
    letters = "".join(line[1] for line in matches)
    clean = len(matches) == len(lines) > 1 and letters == CHOICE_LETTERS[: len(lines)]
    if not found or not clean or not stem.strip():
        return question, ()
    return stem.strip(), tuple(line[2] for line in matches)
