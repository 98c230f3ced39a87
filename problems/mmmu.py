"""MMMU's own parquet files, column by column as the benchmark publishes them."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from .types import (
    PLACEHOLDER,
    AnswerType,
    ImageSource,
    Problem,
    ProblemError,
    Skipped,
    id_fault,
    image_numbers,
    one_line,
)

_REQUIRED = ("id", "question", "options", "answer", "image_1")
_IMAGES = tuple(f"image_{number}" for number in range(1, 8))
_USED = (*_REQUIRED, *_IMAGES[1:], "explanation", "question_type", "topic_difficulty", "subfield")
_DIFFICULTY = {"easy": 1, "medium": 2, "hard": 3}
_ID = re.compile(r"(?:dev|validation|test)_(.+)_\d+")
_NO_LITERAL = (ValueError, SyntaxError, TypeError, MemoryError, RecursionError)
_NUMBER = re.compile(r"[-+]?\$?\d[\d,]*(\.\d+)?%?")

Row = dict[str, Any]


def read_mmmu(path: Path) -> Iterator[Problem | Skipped]:
    """Yield every row in file order; a row that is no problem comes with its reason.

    Raises `ProblemError` if the file is not parquet or lacks MMMU's columns.
    """
    try:
        with pq.ParquetFile(path) as table:
            names = set(table.schema_arrow.names)
            missing = [name for name in _REQUIRED if name not in names]
            if missing:
                raise ProblemError(f"{path}: no column {', '.join(missing)}; is this MMMU's file?")
            columns = [name for name in _USED if name in names]
            number = 0
            for batch in table.iter_batches(batch_size=64, columns=columns):
                for index in range(batch.num_rows):
                    number += 1
                    name = f"{one_line(path.name)}:{number}"
                    yield _problem_or_reason(batch.slice(index, 1), name)
    except (OSError, pa.ArrowException) as error:
        raise ProblemError(f"{path}: cannot be read as parquet ({error})") from error


def _problem_or_reason(batch: pa.RecordBatch, name: str) -> Problem | Skipped:
    """Of the one row of a batch; without a usable id it is called `name`."""
    try:
        (row,) = batch.to_pylist()
    except UnicodeDecodeError as error:
        return Skipped(name, f"a text is not UTF-8 ({error.reason})")
    identity = str(row["id"] or "")
    if fault := id_fault(identity):
        return Skipped(name, fault)
    try:
        return _problem(row, identity)
    except ProblemError as error:
        return Skipped(identity, str(error))


def _problem(row: Row, identity: str) -> Problem:
    options = tuple(_list(row["options"], "options"))
    answer = _text(row, "answer").strip()
    if answer == "?":
        raise ProblemError(f"problem {identity}: no answer (MMMU hides it in its test split)")
    if options and row.get("question_type") != "open":
        accepted, answer_type = (answer,), AnswerType.CHOICE
    else:
        options, accepted = (), _accepted(answer)
        answer_type = _open_type(accepted)
    question, explanation = _text(row, "question"), _text(row, "explanation")
    shown = _shown(row, identity, question, options)
    subject = _ID.fullmatch(identity)
    return Problem(
        id=identity,
        question=_renumbered(question, shown),
        images=tuple(ImageSource(data=data) for data in shown.values()),
        answer=accepted[0] if len(accepted) == 1 else accepted,
        answer_type=answer_type,
        options=tuple(_renumbered(option, shown) for option in options),
        family=subject[1] if subject else _text(row, "subfield") or "unknown",
        level=_DIFFICULTY.get(_text(row, "topic_difficulty").lower()),
        solution=_solution(explanation, shown),
        source="MMMU",
    )


def _text(row: Row, column: str) -> str:
    value = row.get(column)
    if value is not None and not isinstance(value, str | int | float):
        raise ProblemError(f"{column} is {type(value).__name__}, not text")
    return "" if value is None else str(value)


def _list(value: Any, column: str) -> list[str]:
    """A list column, or MMMU's string that looks like a Python list; never evaluated as code."""
    if isinstance(value, str):
        try:
            value = ast.literal_eval(value.strip() or "[]")
        except _NO_LITERAL:
            raise ProblemError(f"{column} {one_line(value, 60)!r} is not a list") from None
    if value is None:
        return []
    if not isinstance(value, list | tuple):
        raise ProblemError(f"{column} is {type(value).__name__}, not a list")
    return [str(one) for one in value]


def _accepted(answer: str) -> tuple[str, ...]:
    """The gold answers of an open question.

    Some open answers are a list of accepted spellings, such as "['$6', '6 dollars']", the plain
    form first. A list of numbers, as an interval "[0, 2π)", is an answer of its own.
    """
    try:
        given = ast.literal_eval(answer) if answer.startswith("[") else None
    except _NO_LITERAL:
        given = None
    if isinstance(given, list) and given and all(isinstance(one, str) for one in given):
        return tuple(dict.fromkeys(given))
    return (answer,)


def _open_type(accepted: tuple[str, ...]) -> AnswerType:
    """What all of the answers look like; where they differ, each as it looks."""
    kinds = {_look(answer) for answer in accepted}
    return kinds.pop() if len(kinds) == 1 else AnswerType.OPEN


def _look(answer: str) -> AnswerType:
    if _NUMBER.fullmatch(answer):
        return AnswerType.NUMBER
    return AnswerType.EXPRESSION if re.search(r"[\\^=]", answer) else AnswerType.TEXT


def _shown(row: Row, identity: str, question: str, options: tuple[str, ...]) -> dict[int, bytes]:
    """The pictures that the question and its options name, by their numbers.

    Others belong to the explanation, or to nothing. Raises `ProblemError` if a named one is
    missing, or if there are pictures and nothing names any.
    """
    given = {
        number: data
        for number, column in enumerate(_IMAGES, start=1)
        if (data := _encoded(row.get(column), column))
    }
    named = dict.fromkeys(image_numbers(question, *options))
    numbers = [one for one in given if str(one) in named]
    explained = set(image_numbers(_text(row, "explanation")))
    unexplained = [one for one in given if str(one) not in explained]
    if len(numbers) < len(named) or (not named and unexplained):
        wanted = one_line(", ".join(named)) or "none"
        raise ProblemError(
            f"problem {identity}: placeholders ({wanted}) do not match the images {list(given)}"
        )
    return {number: given[number] for number in numbers}


def _renumbered(text: str, shown: dict[int, bytes]) -> str:
    """With placeholders that count the shown pictures from 1."""
    places = {str(number): place for place, number in enumerate(shown, start=1)}
    return PLACEHOLDER.sub(lambda match: f"<image {places[match[1]]}>", text)


def _solution(explanation: str, shown: dict[int, bytes]) -> str | None:
    """The explanation, unless it needs a picture that the prompt does not show."""
    if set(image_numbers(explanation)) - {str(number) for number in shown}:
        return None
    return _renumbered(explanation, shown) or None


def _encoded(cell: Any, column: str) -> bytes | None:
    """The bytes of an image cell: raw, or a struct of bytes and path, or empty."""
    data = cell.get("bytes") if isinstance(cell, dict) else cell
    if data is not None and not isinstance(data, bytes):
        raise ProblemError(f"{column} is {type(data).__name__}, not an encoded image")
    return data
