"""Loading: one bad record costs one problem, a bad file is one clear error."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from kvl.configs.common import ProblemSource
from kvl.problems.loading import load_problems, load_sources
from kvl.problems.prompt import prompt_parts
from kvl.problems.types import AnswerType, Problem, ProblemError

Record = dict[str, Any]
WriteRecords = Callable[..., Path]
Picture = Callable[..., bytes]

SAMPLE = Path(__file__).parents[1] / "data" / "mathvision_sample" / "sample.jsonl"


@dataclass(frozen=True)
class Source:
    path: Path
    limit: int | None = None
    prefix: str | None = None


def test_the_mathvision_sample_loads_whole() -> None:
    problems, skipped = load_problems(Source(SAMPLE))
    assert skipped == []
    assert len(problems) == 24
    assert {problem.answer_type for problem in problems} == {
        AnswerType.CHOICE,
        AnswerType.NUMBER,
        AnswerType.EXPRESSION,
    }
    for problem in problems:
        shown = [part for part in prompt_parts(problem) if not isinstance(part, str)]
        assert tuple(shown) == problem.images


@pytest.mark.parametrize(
    ("mode", "kind"),
    [("RGBA", "PNG"), ("P", "PNG"), ("L", "PNG"), ("RGB", "JPEG"), ("L", "JPEG"), ("RGB", "WEBP")],
)
def test_every_usual_kind_of_image_passes(
    write_records: WriteRecords, record: Record, picture: Picture, mode: str, kind: str
) -> None:
    path = write_records(record)
    (path.parent / "images/a.png").write_bytes(picture(mode, kind))
    problems, skipped = load_problems(Source(path))
    assert (len(problems), skipped) == (1, [])
    assert problems[0].images[0].open().mode == mode


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_a_truncated_image_costs_only_its_problem(
    write_records: WriteRecords, record: Record, picture: Picture, kind: str
) -> None:
    path = write_records(record, record | {"id": "p/2", "images": ["images/b.jpg"]})
    whole = picture("RGB", kind, (200, 200))
    (path.parent / "images/a.png").write_bytes(whole[: len(whole) // 2])
    problems, skipped = load_problems(Source(path))
    assert [problem.id for problem in problems] == ["p/2"]
    assert [one.id for one in skipped] == ["p/1"]
    assert "cannot be decoded" in skipped[0].reason


def test_each_bad_record_is_reported_once_and_the_rest_is_used(
    write_records: WriteRecords, record: Record
) -> None:
    path = write_records(
        record,
        record | {"id": "p/2", "images": ["images/none.png"]},
        record | {"id": "p/3", "answer": " "},
        record,
        record | {"id": "p/4", "answer_type": "choice", "options": ["x"] * 27, "answer": "A"},
        record | {"id": "p/5"},
    )
    path.write_text(path.read_text(encoding="utf-8") + "{broken\n", encoding="utf-8")
    problems, skipped = load_problems(Source(path))
    assert [problem.id for problem in problems] == ["p/1", "p/5"]
    reasons = {one.id: one.reason for one in skipped}
    assert len(skipped) == 5
    assert "No such file" in reasons["p/2"]
    assert "no answer" in reasons["p/3"]
    assert "same id" in reasons["p/1"]
    assert "27 options" in reasons["p/4"]
    assert "line 7 is not JSON" in reasons["problems.jsonl:7"]


@pytest.mark.parametrize(
    ("size", "fits"),
    [((7200, 100), False), ((7153, 28), False), ((7000, 100), True), ((2000, 3000), True)],
)
def test_an_image_too_long_for_the_vision_tower_is_skipped(
    write_records: WriteRecords,
    record: Record,
    picture: Picture,
    size: tuple[int, int],
    fits: bool,
) -> None:
    path = write_records(record, record | {"id": "p/2", "images": ["images/b.jpg"]})
    (path.parent / "images/a.png").write_bytes(picture("L", "JPEG", size))
    _, skipped = load_problems(Source(path))
    assert ["too long" in one.reason for one in skipped] == ([] if fits else [True])


def test_limit_counts_usable_problems_in_file_order(
    write_records: WriteRecords, record: Record
) -> None:
    path = write_records(
        *(record | {"id": f"p/{i}", "answer": "" if i == 0 else "7"} for i in range(5))
    )
    problems, skipped = load_problems(Source(path, limit=2))
    assert [problem.id for problem in problems] == ["p/1", "p/2"]
    assert [one.id for one in skipped] == ["p/0"]


def test_prefix_leaves_other_ids_out_without_reporting_them(
    write_records: WriteRecords, record: Record
) -> None:
    path = write_records(record, record | {"id": "q/1"}, record | {"id": "r/1", "answer": ""})
    problems, skipped = load_problems(Source(path, prefix="q/"))
    assert [problem.id for problem in problems] == ["q/1"]
    assert skipped == []


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ProblemError, match=r"none\.jsonl: no such file; check the path"):
        load_problems(Source(tmp_path / "none.jsonl"))


def test_an_unknown_kind_of_file_is_named_with_the_known_kinds(tmp_path: Path) -> None:
    with pytest.raises(ProblemError, match=r"data\.csv: unknown kind.*\.jsonl.*\.parquet"):
        load_problems(Source(tmp_path / "data.csv"))


def test_a_file_without_a_usable_problem_says_why(
    write_records: WriteRecords, record: Record
) -> None:
    with pytest.raises(ProblemError, match=r"1 skipped, the first .* no answer"):
        load_problems(Source(write_records(record | {"answer": ""})))
    with pytest.raises(ProblemError, match="no id starts with 'zzz'"):
        load_problems(Source(write_records(record), prefix="zzz"))
    with pytest.raises(ProblemError, match="the file is empty"):
        load_problems(Source(write_records()))


def test_sources_are_loaded_in_turn_and_an_id_belongs_to_the_first(
    write_records: WriteRecords, record: Record
) -> None:
    first = write_records(record, record | {"id": "p/2"})
    second = first.with_name("more.jsonl")
    second.write_text(first.read_text().replace('"p/2"', '"q/1"'))
    sources, skipped = load_sources([Source(first), Source(second)])
    assert [[one.id for one in problems] for problems in sources] == [["p/1", "p/2"], ["q/1"]]
    assert [one.id for one in skipped] == ["p/1"]
    assert "has the same id" in skipped[0].reason
    with pytest.raises(ProblemError, match=r"every problem has the id of one in .*problems\.jsonl"):
        load_sources([Source(first), Source(first)])


def test_a_selected_letter_outside_the_options_is_skipped(
    write_records: WriteRecords, record: Record
) -> None:
    several = record | {"answer_type": "multi-select", "options": ["a", "b"]}
    path = write_records(
        several | {"answer": "AB"},
        several | {"id": "p/2", "answer": "AC"},
        record | {"id": "p/3", "images": ["images/text.png"]},
    )
    (path.parent / "images/text.png").write_text("no picture")
    problems, skipped = load_problems(Source(path))
    assert [problem.answer for problem in problems] == ["AB"]
    assert "names C, the options are AB" in skipped[0].reason
    assert "not an image" in skipped[1].reason


def test_a_caller_can_refuse_problems_with_a_reason_of_its_own(
    write_records: WriteRecords, record: Record
) -> None:
    path = write_records(record, record | {"id": "p/2", "answer": ["8", "?"]})

    def unreadable(problem: Problem) -> str | None:
        return "no gold" if "?" in problem.accepted else None

    problems, skipped = load_problems(Source(path), unreadable)
    assert [problem.id for problem in problems] == ["p/1"]
    assert [(one.id, one.reason) for one in skipped] == [("p/2", "no gold")]
    assert load_sources([Source(path)], unreadable) == ([problems], skipped)


def test_images_in_the_sources_own_roots_load(write_records: WriteRecords, record: Record) -> None:
    path = write_records(record)
    inner = path.parent / "inner"
    inner.mkdir()
    moved = path.rename(inner / path.name)
    moved.write_text(json.dumps(record | {"images": [str(path.parent / "images/a.png")]}))
    with pytest.raises(ProblemError, match="image_roots"):
        load_problems(ProblemSource(path=moved))
    problems, _ = load_problems(ProblemSource(path=moved, image_roots=(path.parent,)))
    assert len(problems) == 1


def test_pipes_and_devices_are_skipped_and_nothing_waits(
    write_records: WriteRecords, record: Record
) -> None:
    names = ["images/pipe", "images/zero", "/dev/zero", "images"]
    path = write_records(record, *(record | {"id": name, "images": [name]} for name in names))
    os.mkfifo(path.parent / "images/pipe")
    (path.parent / "images/zero").symlink_to("/dev/zero")
    problems, skipped = load_problems(Source(path))
    assert [problem.id for problem in problems] == ["p/1"]
    assert [one.id for one in skipped] == names
