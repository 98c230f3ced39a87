"""Problems as JSON lines with their images beside them, read and written in one schema.

A line is an object; what it does not name is absent, and other keys are kept but not read.

id            text without control characters or line breaks (or an integer), once in a file
question      text, with a placeholder `<image1>` or `<image 1>` for each image
images        list of files: relative to the file's folder and inside it, or in one of the folders
              that the config allows (`image_roots`); links are followed before that is checked
options       list of the texts of A, B, C, … Z
answer        text or a number; a list of them where several answers are accepted and any one of
              them is right. For `list` and `multi-select` a list holds the items of the one answer
answer_label  the letter, for a choice whose `answer` is the option's text
answer_type   one of `AnswerType`
precision     decimals that the benchmark compares numbers with
subject       the problem's family
level, pass_rate, solution, conclusion, source, language   as in `Problem`
composite_image  true: one file shows all the figures, each with its caption

Lines are UTF-8, with or without a byte order mark, and end with LF, CRLF or CR.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from math import isfinite
from pathlib import Path
from typing import Any

from ..configs.system.files import atomic_file, write_atomically
from . import pictures
from .json_lines import BadLine, Record, id_of, lines_of, parsed
from .placeholders import bind_composite
from .types import (
    CHOICE_LETTERS,
    AnswerType,
    ImageSource,
    Problem,
    ProblemError,
    Skipped,
    is_encodable,
    one_line,
)

_MAX_LEVEL = 2**53
_LISTED = (AnswerType.LIST, AnswerType.MULTI_SELECT)


def read_jsonl(path: Path, image_roots: Sequence[Path] = ()) -> Iterator[Problem | Skipped]:
    """Yield every line in file order as a problem, or as the reason why it is none.

    A line without a usable id is named `file.jsonl:LINE`. Images stay on disk, and are looked
    for in the file's folder and in `image_roots` only. Raises `ProblemError` if the file cannot
    be read.
    """
    folders = pictures.allowed_folders(path, image_roots)
    try:
        with path.open("rb") as file:
            for number, line in lines_of(file):
                name = f"{one_line(path.name)}:{number}"
                try:
                    record = parsed(line)
                except BadLine as error:
                    yield Skipped(name, f"line {number} {error}")
                    continue
                try:
                    problem = _problem(record, path.parent)
                    _check_folders(problem.images, folders)
                    yield problem
                except ProblemError as error:
                    yield Skipped(id_of(record), str(error))
    except OSError as error:
        raise ProblemError(f"{path}: cannot be read ({error.strerror or error})") from error


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

    From JSON lines of this module's schema with all the columns they have there; from another kind
    of file or layout, or several files, in this schema. An image that does not lie in the folder
    of `out` is copied beside it.
    Raises `ProblemError` if an image cannot be copied.
    """
    folder = out.parent / "images"
    if source.suffix.lower() != ".jsonl" or not source.is_file():
        yield from (_record(problem, folder) for problem in problems)
        return
    wanted = list(problems)
    originals = _originals({problem.id: problem for problem in wanted}, source)
    here, there = source.parent.resolve(), out.parent.resolve()
    for problem in wanted:
        record = originals.get(problem.id)
        if record is None:  # a line of another layout
            yield _record(problem, folder)
            continue
        if here != there and problem.images:
            record["images"] = [_seen_from(there, image) for image in problem.images]
        yield record


def _seen_from(folder: Path, image: ImageSource) -> str:
    """The name of an image in a file that lies in `folder`, which holds no links."""
    path = image.path and image.path.resolve()
    if path is None or not path.is_relative_to(folder):
        return f"images/{_store(image, folder / 'images')}"
    return path.relative_to(folder).as_posix()


def _originals(wanted: dict[str, Problem], source: Path) -> dict[str, Record]:
    """By id the line each problem was made of; another line may have the same id."""
    found: dict[str, Record] = {}
    with source.open("rb") as file:
        for _number, line in lines_of(file):
            try:
                record = parsed(line)
                name = id_of(record)
                if name not in found and _problem(record, source.parent) == wanted.get(name):
                    found[name] = record
            except (BadLine, ProblemError):
                continue  # no problem was made of it
    return found


def _text(record: Record, key: str) -> str:
    return _as_text(record.get(key), key)


def _as_text(value: Any, key: str) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        word = json.dumps(value)
        raise ProblemError(f'{key!r} is {word} without quotes, not text; write "{word}"')
    if isinstance(value, int) or (isinstance(value, float) and isfinite(value)):
        return str(value)
    shown = value if isinstance(value, float) else type(value).__name__
    raise ProblemError(f"{key!r} is {shown}, not text")


def _texts(record: Record, key: str) -> tuple[str, ...]:
    value = record.get(key)
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise ProblemError(f"{key!r} is not a list of texts")
    return tuple(value)


def _problem(record: Record, folder: Path) -> Problem:
    for key, value in record.items():
        if not is_encodable(json.dumps([key, value], ensure_ascii=False)):
            raise ProblemError(
                f"{one_line(key)!r} holds half a surrogate pair, which cannot be encoded"
            )
    question, options = _text(record, "question"), _texts(record, "options")
    composite = record.get("composite_image")
    if not isinstance(composite, bool | None):
        raise ProblemError(f"'composite_image' is {type(composite).__name__}, not true or false")
    if composite:
        question, options = bind_composite(question, options)
    kind = _text(record, "answer_type")
    try:
        answer_type = AnswerType(kind)
    except ValueError:
        known = ", ".join(AnswerType)
        raise ProblemError(f"answer_type {one_line(kind)!r} is none of {known}") from None
    pass_rate = record.get("pass_rate")
    if isinstance(pass_rate, bool) or not isinstance(pass_rate, int | float | None):
        raise ProblemError(f"'pass_rate' {one_line(repr(pass_rate))} is not a number")
    return Problem(
        id=id_of(record),
        question=question,
        images=tuple(_image(name, folder) for name in _texts(record, "images")),
        answer=_answer(record, answer_type, options),
        answer_type=answer_type,
        options=options,
        family=_text(record, "subject") or "unknown",
        level=_level(record),
        solution=_text(record, "solution") or None,
        source=_text(record, "source"),
        language=_text(record, "language") or "en",
        pass_rate=pass_rate,
        conclusion=_text(record, "conclusion") or None,
        precision=_precision(record),
    )


def _image(name: str, folder: Path) -> ImageSource:
    if not name or "\0" in name:
        raise ProblemError(f"image {name!r} is no file name")
    return ImageSource(path=folder / name)


def _check_folders(images: Iterable[ImageSource], folders: Sequence[Path]) -> None:
    for image in images:
        if image.path is not None and not pictures.is_inside(image.path, folders):
            raise ProblemError(
                f"image {image.name}: lies outside of {folders[0]}; a config can allow its folder "
                "by image_roots"
            )


def _level(record: Record) -> int | None:
    level = record.get("level")
    if type(level) is not int:
        return None
    if abs(level) > _MAX_LEVEL:
        raise ProblemError(f"'level' is a number of {len(str(abs(level)))} digits")
    return level


def _precision(record: Record) -> int | None:
    value = record.get("precision")
    if isinstance(value, float) and value.is_integer():  # as MathVista writes it
        return int(value)
    if value is None or type(value) is int:
        return value
    raise ProblemError(f"'precision' {one_line(repr(value))} is not a number of decimals")


def _answer(
    record: Record, answer_type: AnswerType, options: tuple[str, ...]
) -> str | tuple[str, ...]:
    """The one gold answer, or those of a list that differ."""
    value = record.get("answer")
    given = [_as_text(one, "answer") for one in (value if isinstance(value, list) else [value])]
    if isinstance(value, list) and answer_type in _LISTED:
        if any("," in one for one in given):
            raise ProblemError("an item of 'answer' holds a comma; write the answer as one text")
        given = [", ".join(given)]
    elif answer_type is AnswerType.CHOICE:
        label = _text(record, "answer_label")
        given = [_choice(one, label, options) for one in given]
    accepted = tuple(dict.fromkeys(given))
    return accepted[0] if len(accepted) == 1 else accepted


def _choice(answer: str, label: str, options: tuple[str, ...]) -> str:
    """The gold letter: the label, else the answer if it is a letter or one option's text."""
    if label.strip():
        return label.strip()
    if not options or answer.strip() in tuple(CHOICE_LETTERS[: len(options)]):
        return answer.strip()
    if options.count(answer) == 1 and (place := options.index(answer)) < len(CHOICE_LETTERS):
        return CHOICE_LETTERS[place]
    raise ProblemError(f"answer {one_line(answer)!r} has no label and is not one of the options")


def _record(problem: Problem, folder: Path) -> Record:
    several = isinstance(problem.answer, tuple)
    is_choice = problem.answer_type is AnswerType.CHOICE
    return {
        "id": problem.id,
        "source": problem.source,
        "language": problem.language,
        "question": problem.question,
        "images": [f"images/{_store(image, folder)}" for image in problem.images],
        "options": list(problem.options),
        "answer": list(problem.answer) if several else problem.answer,
        "answer_label": problem.answer if is_choice and not several else None,
        "answer_type": str(problem.answer_type),
        "subject": problem.family,
        "level": problem.level,
        "pass_rate": problem.pass_rate,
        "solution": problem.solution,
        **({} if problem.conclusion is None else {"conclusion": problem.conclusion}),
        **({} if problem.precision is None else {"precision": problem.precision}),
    }


def _store(image: ImageSource, folder: Path) -> str:
    data = image.read()
    try:
        kind = pictures.opened(data).format or ""
    except Exception as error:
        raise ProblemError(
            f"image {image.name}: unknown format ({one_line(str(error))})"
        ) from error
    suffix = "jpg" if kind == "JPEG" else kind.lower()
    name = f"{hashlib.sha256(data).hexdigest()[:20]}.{suffix}"
    target = folder / name
    if not target.exists():
        write_atomically(target, data)
    return name
