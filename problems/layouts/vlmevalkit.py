"""VLMEvalKit's tables: a question and its options in columns, pictures as base64."""

from __future__ import annotations

from ..placeholders import bind_in_order
from ..types import CHOICE_LETTERS, AnswerType, ImageSource, Problem, ProblemError, one_line
from .cells import (
    Row,
    accepted,
    letter_of,
    open_type,
    printed_list,
    text,
    texts,
    whole_number,
)
from .picture_cells import Place, from_base64, images

_TYPES = {"integer": AnswerType.NUMBER, "float": AnswerType.NUMBER, "list": AnswerType.LIST}
_SHORTEST_PICTURE = 64  # of base64: what is shorter is the index of the row with the picture


def vlmevalkit(row: Row, place: Place) -> Problem:
    """A row of VLMEvalKit; a hint comes before the question, as there."""
    shown = _pictures(row, place)
    options = _options(row)
    question, hint = text(row, "question"), text(row, "hint")
    if hint and question:
        question = f"Hint: {hint}\n{question}"
    label = text(row, "answer_option").strip()
    golds = accepted(row.get("answer"), "answer")
    if options:
        answer_type = AnswerType.CHOICE
        golds = (letter_of(label or golds[0], options),) if label or golds[0] else golds
    else:
        answer_type = _TYPES.get(text(row, "answer_type")) or open_type(golds)
    question, *bound = bind_in_order((question, *options), len(shown))
    return Problem(
        id=text(row, "index") or place.name,
        question=question,
        images=shown,
        answer=golds[0] if len(golds) == 1 else golds,
        answer_type=answer_type,
        options=tuple(bound),
        family=text(row, "category") or text(row, "task") or "unknown",
        precision=None if options else whole_number(row, "precision"),
        source="VLMEvalKit",
    )


def _options(row: Row) -> tuple[str, ...]:
    """The columns A, B, C, … up to the first empty one; else the list of choices."""
    found: list[str] = []
    for letter in CHOICE_LETTERS:
        option = text(row, letter)
        if not option.strip():
            break
        found.append(option)
    return tuple(found) or texts(row.get("choices") or None, "choices")


def _pictures(row: Row, place: Place) -> tuple[ImageSource, ...]:
    cell = row.get("image")
    if cell is None or cell == "":
        paths = row.get("image_path")
        listed = printed_list(paths) if isinstance(paths, str) else None
        return images(listed or paths, "image_path", place)
    if not isinstance(cell, str):
        return images(cell, "image", place)
    if len(cell) < _SHORTEST_PICTURE:
        raise ProblemError(f"image {one_line(cell)!r} is the index of a row, not a picture")
    if not cell.startswith("["):
        return (from_base64(cell, "image"),)
    parts = [part.strip().strip("'\"") for part in cell.strip().strip("[]").split(",")]
    return tuple(from_base64(part, "image") for part in parts if part)
