"""MMMU's own parquet files, column by column as the benchmark publishes them."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from .types import AnswerType, ImageSource, Problem, ProblemError, Skipped

_REQUIRED = ("id", "question", "options", "answer", "image_1")
_IMAGES = tuple(f"image_{number}" for number in range(1, 8))
_USED = (*_REQUIRED, *_IMAGES[1:], "explanation", "question_type", "topic_difficulty", "subfield")
_DIFFICULTY = {"easy": 1, "medium": 2, "hard": 3}
_ID = re.compile(r"(?:dev|validation|test)_(.+)_\d+")
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
                for row in batch.to_pylist():
                    number += 1
                    yield _problem_or_reason(row, f"{path.name}:{number}")
    except (OSError, pa.ArrowException) as error:
        raise ProblemError(f"{path}: cannot be read as parquet ({error})") from error


def _problem_or_reason(row: Row, name: str) -> Problem | Skipped:
    identity = str(row["id"] or name)
    try:
        return _problem(row, identity)
    except ProblemError as error:
        return Skipped(identity, str(error))


def _problem(row: Row, identity: str) -> Problem:
    options = tuple(_list(row["options"], "options"))
    answer = str(row["answer"] or "").strip()
    if answer == "?":
        raise ProblemError(f"problem {identity}: no answer (MMMU hides it in its test split)")
    if options and row.get("question_type") != "open":
        answer_type = AnswerType.CHOICE
    else:
        options, answer = (), _first_accepted(answer)
        answer_type = _open_type(answer)
    subject = _ID.fullmatch(identity)
    return Problem(
        id=identity,
        question=str(row["question"] or ""),
        images=_images(row, identity),
        answer=answer,
        answer_type=answer_type,
        options=options,
        family=subject[1] if subject else row.get("subfield") or "unknown",
        level=_DIFFICULTY.get(str(row.get("topic_difficulty")).lower()),
        solution=row.get("explanation") or None,
        source="MMMU",
    )


def _list(value: Any, column: str) -> list[str]:
    """A list column, or MMMU's string that looks like a Python list; never evaluated as code."""
    if isinstance(value, str):
        try:
            value = ast.literal_eval(value.strip() or "[]")
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            raise ProblemError(f"{column} {value[:60]!r} is not a list") from None
    if value is None:
        return []
    if not isinstance(value, list | tuple):
        raise ProblemError(f"{column} is {type(value).__name__}, not a list")
    return [str(one) for one in value]


def _first_accepted(answer: str) -> str:
    """The gold of an open question.

    Some open answers are a list of accepted spellings, such as "['$6', '6 dollars']". A problem
    has one gold answer: the first, which is the plain form in MMMU's files.
    """
    if not answer.startswith("["):
        return answer
    try:
        accepted = _list(answer, "answer")
    except ProblemError:
        return answer  # an interval such as "[0, 2π)" is its own answer
    return accepted[0] if accepted else ""


def _open_type(answer: str) -> AnswerType:
    if _NUMBER.fullmatch(answer):
        return AnswerType.NUMBER
    return AnswerType.EXPRESSION if re.search(r"[\\^=]", answer) else AnswerType.TEXT


def _images(row: Row, identity: str) -> tuple[ImageSource, ...]:
    """`image_1` … `image_7` up to the first empty one. Raises `ProblemError` if one follows it."""
    encoded = [_encoded(row.get(column)) for column in _IMAGES]
    given = [number for number, data in enumerate(encoded, start=1) if data]
    if given != list(range(1, len(given) + 1)):
        raise ProblemError(f"problem {identity}: images {given} are not numbered in a row")
    return tuple(ImageSource(data=data) for data in encoded if data)


def _encoded(cell: Any) -> bytes | None:
    """The bytes of an image cell: raw, or a struct of bytes and path, or empty."""
    return cell.get("bytes") if isinstance(cell, dict) else cell
