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
        ({"answer": []}, "no answer"),
        ({"answer": ["7", " "]}, "an accepted answer is empty"),
        ({"answer": [["7"]]}, "list, not text"),
        ({"answer_type": "list", "answer": ["1,000", "2"]}, "holds a comma"),
        ({"precision": "2"}, "'precision' '2' is not a number of decimals"),
        ({"precision": -1}, "precision -1 is not in 0"),
        ({"options": ""}, "'options' is not a list"),
        ({"composite_image": "no"}, "'composite_image' is str"),
        ({"level": 10**60}, "'level' is a number of 61 digits"),
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
    # Inside of the new file's folder, where the loader looks for them.
    (name,) = json.loads(out.read_text())["images"]
    assert (out.parent / name).is_file()


def test_an_image_below_the_new_folder_is_not_copied(
    write_records: WriteRecords, record: Record
) -> None:
    path = write_records(record)
    out = path.parent.parent / "out.jsonl"
    (moved,) = records_of([read_one(path)], path, out)
    assert moved["images"] == [f"{path.parent.name}/images/a.png"]
    assert not (out.parent / "images").exists()


@pytest.mark.parametrize(
    ("change", "accepted"),
    [
        ({"answer": ["7", "seven", "7"]}, ("7", "seven")),
        ({"answer": [7, 7.5]}, ("7", "7.5")),
        ({"answer": ["7"]}, "7"),
        ({"answer": ["2", 0], "answer_type": "list"}, "2, 0"),
        ({"answer": ["B", "A"], "answer_type": "multi-select", "options": ["x", "y"]}, "B, A"),
        ({"answer": ["y", "A"], "answer_type": "choice", "options": ["x", "y"]}, ("B", "A")),
    ],
)
def test_a_list_is_several_accepted_answers_or_the_items_of_one(
    write_records: WriteRecords, record: Record, tmp_path: Path, change: Record, accepted: object
) -> None:
    problem = read_one(write_records(record | change | {"precision": 2.0}))
    assert (problem.answer, problem.precision) == (accepted, 2)
    assert problem.gold == problem.accepted[0]
    write_jsonl([problem], tmp_path / "copy.jsonl")
    copy = read_one(tmp_path / "copy.jsonl")
    assert (copy.answer, copy.precision) == (accepted, 2)


def test_a_letter_past_the_options_is_an_options_text(
    write_records: WriteRecords, record: Record
) -> None:
    change = {"options": ["X", "Y"], "answer": "X", "answer_type": "choice"}
    assert read_one(write_records(record | change)).answer == "A"


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"id": "\xff"}', "not UTF-8"),
        (b'{"id": "\xed\xa0\xbd"}', "not UTF-8"),
        (b"[" * 200_000, "nested too deeply"),
        (b'{"id": "a", "own": ' + b"[" * 80 + b"]" * 80 + b"}", "nested too deeply"),
        (b'{"id": "a", "level": ' + b"9" * 5000 + b"}", "not JSON"),
        (b'{"id": "a", "answer": "1", "answer": "2"}', "names 'answer' twice"),
        (b'{"id": "a", "own": "' + b"x" * 2**24 + b'"}', "longer than 16 MiB"),
        (b'{"id": " "}', "not a record with an id"),
        (b'{"id": true}', "not a record with an id"),
        (b'{"id": "a\\nb"}', "control character, a line break"),
        (b'{"id": "a\\u0000"}', "control character, a line break"),
        (b'{"id": "\\ud83d"}', "half a surrogate pair"),
        (b'{"id": "' + b"x" * 600 + b'"}', "600 characters"),
    ],
)
def test_a_line_without_a_usable_record_is_one_skip(
    write_records: WriteRecords, record: Record, line: bytes, reason: str
) -> None:
    path = write_records(record)
    path.write_bytes(line + b"\n" + path.read_bytes())
    bad, good = read_jsonl(path)
    assert isinstance(bad, Skipped)
    assert (bad.id, good.id) == ("problems.jsonl:1", "p/1")
    assert reason in bad.reason
    assert bad.reason.isprintable()


@pytest.mark.parametrize("half", ["\ud83d", "\udc00\ud800"])
@pytest.mark.parametrize(
    "key", ["question", "options", "answer", "subject", "solution", "images", "own"]
)
def test_half_a_surrogate_pair_anywhere_is_a_reason(
    write_records: WriteRecords, record: Record, key: str, half: str
) -> None:
    value = [half] if key in ("options", "images") else f"{record.get(key)}{half}"
    assert f"'{key}' holds half a surrogate pair" in reason_of(write_records(record | {key: value}))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"question": f"<image{'9' * 5000}>"}, "a number of 5000 digits"),
        ({"question": f"<image{'0' * 5000}1>"}, "a number of 5001 digits"),
        ({"images": ["a\0.png"]}, "is no file name"),
        ({"images": [""]}, "is no file name"),
    ],
)
def test_names_that_nothing_can_have_are_a_reason(
    write_records: WriteRecords, record: Record, change: Record, reason: str
) -> None:
    assert reason in reason_of(write_records(record | change))


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r", "\n\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_line_ends_and_byte_order_marks_are_no_matter(
    write_records: WriteRecords, record: Record, end: str, mark: str
) -> None:
    path = write_records(record)
    lines = [json.dumps(record | {"id": name}) for name in ("a", "b")]
    path.write_bytes(f"{mark}{lines[0]}{end}{mark}{lines[1]}".encode())
    assert [item.id for item in read_jsonl(path)] == ["a", "b"]


@pytest.mark.parametrize(
    "name", ["../a.png", "/etc/a.png", "images/../../a.png", "images/link.png"]
)
def test_an_image_outside_of_the_folder_is_refused_unless_allowed(
    write_records: WriteRecords, record: Record, name: str
) -> None:
    path = write_records(record)
    folder = path.parent / "inner"
    (folder / "images").mkdir(parents=True)
    inner = path.rename(folder / path.name)
    (folder / "images/link.png").symlink_to(path.parent / "a.png")
    inner.write_text(json.dumps(record | {"images": [name]}))
    assert "lies outside of" in reason_of(inner)
    roots = [path.parent, Path("/etc")]
    (allowed,) = read_jsonl(inner, roots)
    assert isinstance(allowed, Problem)


def test_a_data_set_of_links_into_one_folder_loads(
    write_records: WriteRecords, record: Record
) -> None:
    path = write_records(record)
    blobs, snapshot = path.parent / "blobs", path.parent / "snapshots/main"
    (snapshot / "images").mkdir(parents=True)
    blobs.mkdir()
    (path.parent / "images/a.png").rename(blobs / "1")
    path.rename(blobs / "2")
    (snapshot / "images/a.png").symlink_to("../../../blobs/1")
    (snapshot / "problems.jsonl").symlink_to("../../blobs/2")
    assert read_one(snapshot / "problems.jsonl").images[0].open().size == (30, 20)
