"""MMMU and MMMU-Pro, column by column as the benchmarks publish them."""

from __future__ import annotations

import re

from ..types import (
    PLACEHOLDER,
    AnswerType,
    ImageSource,
    Problem,
    ProblemError,
    image_numbers,
    one_line,
)
from .cells import Row, accepted, open_type, text, texts
from .picture_cells import Place, image

_IMAGES = tuple(f"image_{number}" for number in range(1, 8))
_DIFFICULTY = {"easy": 1, "medium": 2, "hard": 3}
_ID = re.compile(r"(?:dev|validation|test)_(.+)_\d+")
_READ_IT = "Answer the multiple-choice question that this picture shows."


def mmmu(row: Row, place: Place) -> Problem:
    """A row of MMMU, or of MMMU-Pro with its pictures apart; options of open questions go."""
    identity = text(row, "id")
    options = texts(row.get("options"), "options")
    answer = _answer(row)
    if options and row.get("question_type") != "open":
        golds, answer_type = (answer,), AnswerType.CHOICE
    else:
        options, golds = (), accepted(answer, "answer")
        answer_type = open_type(golds)
    question, explanation = text(row, "question"), text(row, "explanation")
    shown = _shown(row, place, question, options)
    return Problem(
        id=identity,
        question=_renumbered(question, shown),
        images=tuple(shown.values()),
        answer=golds[0] if len(golds) == 1 else golds,
        answer_type=answer_type,
        options=tuple(_renumbered(option, shown) for option in options),
        family=_family(row, identity),
        level=_DIFFICULTY.get(text(row, "topic_difficulty").lower()),
        solution=_solution(explanation, shown),
        source="MMMU" if "question_type" in row else "MMMU-Pro",
    )


def mmmu_pro_vision(row: Row, place: Place) -> Problem:
    """A row of MMMU-Pro whose one picture holds the question and the options."""
    identity = text(row, "id")
    picture = image(row.get("image"), "image", place)
    return Problem(
        id=identity,
        question=f"<image 1>{_READ_IT}",
        images=() if picture is None else (picture,),
        answer=_answer(row),
        answer_type=AnswerType.CHOICE,
        family=_family(row, identity),
        source="MMMU-Pro vision",
    )


def _answer(row: Row) -> str:
    answer = text(row, "answer").strip()
    if answer == "?":
        raise ProblemError("no answer (MMMU hides it in its test split)")
    return answer


def _family(row: Row, identity: str) -> str:
    subject = _ID.fullmatch(identity)
    return subject[1] if subject else text(row, "subject") or text(row, "subfield") or "unknown"


def _shown(
    row: Row, place: Place, question: str, options: tuple[str, ...]
) -> dict[int, ImageSource]:
    """The pictures that the question and its options name, by their numbers.

    Others belong to the explanation, or to nothing. Raises `ProblemError` if a named one is
    missing, or if there are pictures and nothing names any.
    """
    given = {
        number: picture
        for number, column in enumerate(_IMAGES, start=1)
        if (picture := image(row.get(column), column, place))
    }
    named = dict.fromkeys(image_numbers(question, *options))
    numbers = [one for one in given if str(one) in named]
    explained = set(image_numbers(text(row, "explanation")))
    unexplained = [one for one in given if str(one) not in explained]
    if len(numbers) < len(named) or (not named and unexplained):
        wanted = one_line(", ".join(named)) or "none"
        raise ProblemError(f"placeholders ({wanted}) do not match the images {list(given)}")
    return {number: given[number] for number in numbers}


def _renumbered(text: str, shown: dict[int, ImageSource]) -> str:
    """With placeholders that count the shown pictures from 1."""
    places = {str(number): place for place, number in enumerate(shown, start=1)}
    return PLACEHOLDER.sub(lambda match: f"<image {places[match[1]]}>", text)


def _solution(explanation: str, shown: dict[int, ImageSource]) -> str | None:
    """The explanation, unless it needs a picture that the prompt does not show."""
    if set(image_numbers(explanation)) - {str(number) for number in shown}:
        return None
    return _renumbered(explanation, shown) or None
