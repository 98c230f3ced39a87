"""The JSON lines adapter: what becomes a problem, and that writing loses nothing."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from kvl.problems.jsonl import read_jsonl, records_of, write_jsonl
from kvl.problems.types import AnswerType, ImageSource, Problem, ProblemError, Skipped

Record = dict[str, Any]
WriteRecords = Callable[..., Path]


def read_one(path: Path) -> Problem:
    (item,) = read_jsonl(path)
    assert isinstance(item, Problem), item
    return item


def reason_of(path: Path) -> str:
    (item,) = read_jsonl(path)
    assert isinstance(item, Skipped), item
    return item.reason


def test_a_record_becomes_a_problem_with_its_image_on_disk(
    write_records: WriteRecords, record: Record
) -> None:
    path = write_records(record)
    problem = read_one(path)
    assert (problem.id, problem.answer, problem.family) == ("p/1", "7", "counting")
    assert (problem.level, problem.answer_type) == (3, AnswerType.NUMBER)
    assert problem.images == (ImageSource(path=path.parent / "images/a.png"),)


@pytest.mark.parametrize("level", ["high school", None, "3", 2.5, True])
def test_a_level_that_is_no_integer_is_none(
    write_records: WriteRecords, record: Record, level: object
) -> None:
    assert read_one(write_records(record | {"level": level})).level is None


def test_a_missing_subject_is_the_unknown_family(
    write_records: WriteRecords, record: Record
) -> None:
    assert read_one(write_records(record | {"subject": None})).family == "unknown"


def test_several_images_keep_their_order(write_records: WriteRecords, record: Record) -> None:
    path = write_records(
        record | {"question": "<image 2> or <image 1>?", "images": ["images/a.png", "images/b.jpg"]}
    )
    names = [image.path.name for image in read_one(path).images if image.path]
    assert names == ["a.png", "b.jpg"]


@pytest.mark.parametrize(
    ("options", "answer", "label", "expected"),
    [
        (["2", "4"], "4", "B", "B"),
        (["2", "4"], "4", None, "B"),
        (["2", "4"], "A", None, "A"),
        (["A", "B", "C"], "C", "C", "C"),
        ([], "D", "D", "D"),
    ],
)
def test_the_answer_of_a_choice_is_its_letter(
    write_records: WriteRecords,
    record: Record,
    options: list[str],
    answer: str,
    label: str | None,
    expected: str,
) -> None:
    change = {"options": options, "answer": answer, "answer_label": label, "answer_type": "choice"}
    assert read_one(write_records(record | change)).answer == expected


def test_a_composite_image_is_bound_to_the_first_placeholder_only(
    write_records: WriteRecords, record: Record
) -> None:
    change = {
        "composite_image": True,
        "question": "Which one completes this?\n<image1>",
        "options": ["<image2>", "<image 3>"],
        "answer": "A",
        "answer_label": "A",
        "answer_type": "choice",
    }
    problem = read_one(write_records(record | change))
    assert problem.question == "Which one completes this?\n<image1>"
    assert problem.options == ("image 2", "image 3")


def test_a_composite_image_named_only_in_the_options_is_bound_there(
    write_records: WriteRecords, record: Record
) -> None:
    change = {
        "composite_image": True,
        "question": "Which graph?",
        "options": ["<image2>", "<image3>"],
        "answer_label": "B",
        "answer_type": "choice",
    }
    assert read_one(write_records(record | change)).options == ("<image1>", "image 3")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"answer": ""}, "no answer"),
        ({"answer": None}, "no answer"),
        ({"question": "How many?"}, "do not match"),
        ({"question": "<image1> <image2>"}, "do not match"),
        ({"answer_type": "guess"}, "none of choice, multi-select, number"),
        ({"options": "A, B"}, "not a list"),
        ({"answer": ["7"]}, "list, not text"),
        ({"answer": True}, "'answer' is true without quotes, not text; write \"true\""),
        ({"answer": float("nan")}, "'answer' is nan, not text"),
        ({"answer_type": "choice", "options": ["2", "4"], "answer": "5"}, "not one of"),
        ({"answer_type": "choice", "options": ["2", "4"], "answer_label": "C"}, "none of"),
    ],
)
def test_a_bad_record_is_skipped_with_its_reason(
    write_records: WriteRecords, record: Record, change: Record, reason: str
) -> None:
    assert reason in reason_of(write_records(record | change))


def test_a_line_that_is_no_record_is_named_by_its_number(
    write_records: WriteRecords, record: Record
) -> None:
    path = write_records(record, record | {"id": "p/2"})
    lines = path.read_bytes().splitlines()
    path.write_bytes(b"\n".join([lines[0], b'{"id": "p/x", ', b"", b"\xff\xfe", b"[1]", lines[1]]))
    items = list(read_jsonl(path))
    assert [item.id for item in items] == [
        "p/1",
        "problems.jsonl:2",
        "problems.jsonl:4",
        "problems.jsonl:5",
        "p/2",
    ]


def test_what_is_written_reads_back_the_same(
    write_records: WriteRecords, record: Record, tmp_path: Path
) -> None:
    choice = record | {
        "id": "日本/…: a",
        "question": "<image1> or <image2>?",
        "images": ["images/a.png", "images/b.jpg"],
        "options": ["x", "y"],
        "answer": "x",
        "answer_label": "A",
        "answer_type": "choice",
        "level": "x",
        "solution": "Plan: look.",
    }
    path = write_records(record, choice)
    first = [item for item in read_jsonl(path) if isinstance(item, Problem)]
    copy = tmp_path / "copy" / "train.jsonl"
    assert write_jsonl(first, copy) == 2
    second = [item for item in read_jsonl(copy) if isinstance(item, Problem)]
    for before, after in zip(first, second, strict=True):
        assert [image.read() for image in after.images] == [image.read() for image in before.images]
        assert dataclasses.replace(after, images=before.images) == before
    suffixes = {image.path.suffix for image in second[1].images if image.path}
    assert suffixes == {".png", ".jpg"}


def test_a_failed_write_leaves_the_old_file_and_no_scraps(
    write_records: WriteRecords, record: Record, tmp_path: Path
) -> None:
    path = write_records(record)
    problem = read_one(path)
    broken = dataclasses.replace(problem, id="p/2", images=(ImageSource(data=b"not an image"),))
    with pytest.raises(ProblemError, match="unknown format"):
        write_jsonl([problem, broken], path)
    assert json.loads(path.read_text(encoding="utf-8"))["id"] == "p/1"
    assert not list(tmp_path.rglob("*.tmp"))


@pytest.mark.parametrize("rate", [None, 0, 0.3, 1.0])
def test_a_pass_rate_is_read_and_written(
    write_records: WriteRecords, record: Record, tmp_path: Path, rate: float | None
) -> None:
    problem = read_one(write_records(record | {"pass_rate": rate}))
    assert problem.pass_rate == rate
    write_jsonl([problem], tmp_path / "copy.jsonl")
    assert read_one(tmp_path / "copy.jsonl").pass_rate == rate


@pytest.mark.parametrize("rate", ["0.5", True, 1.5, -0.1, float("nan")])
def test_a_pass_rate_that_is_none_is_a_bad_record(
    write_records: WriteRecords, record: Record, rate: object
) -> None:
    assert "pass_rate" in reason_of(write_records(record | {"pass_rate": rate}))


def test_records_keep_their_columns_and_their_images_in_another_folder(
    write_records: WriteRecords, record: Record, tmp_path: Path
) -> None:
    broken = record | {"answer": "", "own": "broken"}
    path = write_records(broken, record | {"own": "good"}, record | {"own": "second"})
    problem = next(item for item in read_jsonl(path) if isinstance(item, Problem))
    beside = list(records_of([problem], path, tmp_path / "out.jsonl"))
    assert beside == [record | {"own": "good"}]
    out = tmp_path / "deep/er/out.jsonl"
    out.parent.mkdir(parents=True)
    out.write_text("".join(json.dumps(one) for one in records_of([problem], path, out)))
    moved = read_one(out)
    assert moved.images[0].read() == problem.images[0].read()
    assert json.loads(out.read_text())["images"] == ["../../images/a.png"]
