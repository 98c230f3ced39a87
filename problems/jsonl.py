"""Problems as JSON lines with their images beside them, read and written in one schema."""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
from collections.abc import Iterable, Iterator
from math import isfinite
from pathlib import Path
from typing import Any

from PIL import Image

from ..configs.files import atomic_file, write_atomically
from .types import (
    CHOICE_LETTERS,
    PLACEHOLDER,
    AnswerType,
    ImageSource,
    Problem,
    ProblemError,
    Skipped,
)

Record = dict[str, Any]


def read_jsonl(path: Path) -> Iterator[Problem | Skipped]:
    """Yield every line in file order as a problem, or as the reason why it is none.

    A line that is not even a record is named `file.jsonl:LINE`. Images stay on disk.
    """
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            name = f"{path.name}:{number}"
            try:
                record = json.loads(line)
            except ValueError as error:
                yield Skipped(name, f"line {number} is not JSON ({error})")
                continue
            if not isinstance(record, dict) or not _id_of(record):
                yield Skipped(name, f"line {number} is not a record with an id")
                continue
            try:
                yield _problem(record, path.parent)
            except ProblemError as error:
                yield Skipped(_id_of(record), str(error))


def write_jsonl(problems: Iterable[Problem], path: Path) -> int:
    """Write `path` and `images/` beside it; return how many problems were written.

    Images are copied byte for byte and named by their content, so several files can share the
    folder and no id has to be a file name. The file appears only when it is complete.
    Raises `ProblemError` if an image cannot be read or its format is unknown.
    """
    folder = path.parent / "images"
    count = 0
    with atomic_file(path) as lines:
        for problem in problems:
            record = _record(problem, folder)
            lines.write(f"{json.dumps(record, ensure_ascii=False)}\n".encode())
            count += 1
    return count


def records_of(problems: Iterable[Problem], source: Path, out: Path) -> Iterator[Record]:
    """The records of problems that were read from `source`, for a file `out` in any folder.

    From JSON lines with all the columns they have there, and images still where they are; from
    another kind of file in this module's schema, its images copied beside `out`.
    Raises `ProblemError` if an image cannot be copied.
    """
    if source.suffix.lower() != ".jsonl":
        folder = out.parent / "images"
        folder.mkdir(parents=True, exist_ok=True)
        yield from (_record(problem, folder) for problem in problems)
        return
    wanted = list(problems)
    originals = _originals({problem.id: problem for problem in wanted}, source)
    here, there = source.parent.resolve(), out.parent.resolve()
    for problem in wanted:
        record = originals[problem.id]
        if here != there and record.get("images"):
            record["images"] = [
                name if Path(name).is_absolute() else os.path.relpath(here / name, there)
                for name in record["images"]
            ]
        yield record


def _originals(wanted: dict[str, Problem], source: Path) -> dict[str, Record]:
    """By id the line each problem was made of; another line may have the same id."""
    found: dict[str, Record] = {}
    for line in source.read_bytes().splitlines():
        try:
            record = json.loads(line)
            name = _id_of(record)
            if name not in found and _problem(record, source.parent) == wanted.get(name):
                found[name] = record
        except (ValueError, AttributeError):
            continue  # no problem was made of it
    return found


def _id_of(record: Record) -> str:
    """The id as text; numbers are taken too, anything else counts as none."""
    value = record.get("id")
    return str(value).strip() if isinstance(value, str | int) else ""


def _text(record: Record, key: str) -> str:
    value = record.get(key)
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        word = json.dumps(value)
        raise ProblemError(f'{key!r} is {word} without quotes, not text; write "{word}"')
    if isinstance(value, int | float) and isfinite(value):
        return str(value)
    shown = value if isinstance(value, float) else type(value).__name__
    raise ProblemError(f"{key!r} is {shown}, not text")


def _texts(record: Record, key: str) -> tuple[str, ...]:
    value = record.get(key) or []
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise ProblemError(f"{key!r} is not a list of texts")
    return tuple(value)


def _problem(record: Record, folder: Path) -> Problem:
    question, options = _text(record, "question"), _texts(record, "options")
    if record.get("composite_image"):
        question, options = _bind_composite(question, options)
    level, kind = record.get("level"), _text(record, "answer_type")
    pass_rate = record.get("pass_rate")
    if isinstance(pass_rate, bool) or not isinstance(pass_rate, int | float | None):
        raise ProblemError(f"'pass_rate' {pass_rate!r} is not a number")
    try:
        answer_type = AnswerType(kind)
    except ValueError:
        known = ", ".join(AnswerType)
        raise ProblemError(f"answer_type {kind!r} is none of {known}") from None
    answer = _text(record, "answer")
    if answer_type is AnswerType.CHOICE:
        answer = _choice(answer, _text(record, "answer_label"), options)
    return Problem(
        id=_id_of(record),
        question=question,
        images=tuple(ImageSource(path=folder / name) for name in _texts(record, "images")),
        answer=answer,
        answer_type=answer_type,
        options=options,
        family=_text(record, "subject") or "unknown",
        level=level if type(level) is int else None,
        solution=_text(record, "solution") or None,
        source=_text(record, "source"),
        language=_text(record, "language") or "en",
        pass_rate=pass_rate,
        conclusion=_text(record, "conclusion") or None,
    )


def _bind_composite(question: str, options: tuple[str, ...]) -> tuple[str, tuple[str, ...]]:
    """Give the one file to the first placeholder; the captions in it explain the others.

    `<image2>` becomes `image 2`, which reads on as a reference to a captioned figure.
    """
    bound = False

    def rewrite(match: re.Match[str]) -> str:
        nonlocal bound
        if not bound:
            bound = True
            return "<image1>"
        return f"image {match[1]}"

    question = PLACEHOLDER.sub(rewrite, question)
    return question, tuple(PLACEHOLDER.sub(rewrite, option) for option in options)


def _choice(answer: str, label: str, options: tuple[str, ...]) -> str:
    """The gold letter: the label, else the answer if it is a letter or one option's text."""
    if label.strip():
        return label.strip()
    if answer.strip() in tuple(CHOICE_LETTERS) or not options:
        return answer.strip()
    if options.count(answer) == 1:
        return CHOICE_LETTERS[options.index(answer)]
    raise ProblemError(f"answer {answer!r} has no label and is not one of the options")


def _record(problem: Problem, folder: Path) -> Record:
    is_choice = problem.answer_type is AnswerType.CHOICE
    return {
        "id": problem.id,
        "source": problem.source,
        "language": problem.language,
        "question": problem.question,
        "images": [f"images/{_store(image, folder)}" for image in problem.images],
        "options": list(problem.options),
        "answer": problem.answer,
        "answer_label": problem.answer if is_choice else None,
        "answer_type": str(problem.answer_type),
        "subject": problem.family,
        "level": problem.level,
        "pass_rate": problem.pass_rate,
        "solution": problem.solution,
        **({} if problem.conclusion is None else {"conclusion": problem.conclusion}),
    }


def _store(image: ImageSource, folder: Path) -> str:
    data = image.read()
    try:
        with Image.open(io.BytesIO(data)) as opened:
            kind = opened.format or ""
    except Exception as error:
        raise ProblemError(f"image of {len(data)} bytes: unknown format ({error})") from error
    suffix = "jpg" if kind == "JPEG" else kind.lower()
    name = f"{hashlib.sha256(data).hexdigest()[:20]}.{suffix}"
    target = folder / name
    if not target.exists():
        write_atomically(target, data)
    return name
