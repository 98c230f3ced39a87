"""A file of records: what counts as done, what a kill leaves, what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from kvl.configs.errors import ConfigError
from kvl.evaluation.records import recorded
from kvl.evaluation.records_file import RecordsFile
from kvl.evaluation.types import GradedResponse, Group
from kvl.problems.types import AnswerType, Problem
from kvl.rewards.types import Outcome, Verdict
from kvl.rollouts.types import Rollout, Segment, StopReason
from kvl.run_files.identity import Identity

SETTINGS = Identity({"checkpoint": "a", "samples": 4, "repetition_stop": None}, {"checkpoint": "x"})


def problem(name: str, question: str = "How many?") -> Problem:
    return Problem(name, question, (), "7", AnswerType.NUMBER)


def group(of: Problem, text: str = "数 Answer: 7 \u2028 \ud800") -> Group:
    verdict = Verdict(Outcome.CORRECT, "7", (10, 11), {"accuracy": 1.0, "odd": float("nan")})
    rollouts = [
        Rollout(of.id, i, (1,), (2,), (-1.0,), (Segment(0, 1, 3),), StopReason.STOP, text)
        for i in range(2)
    ]
    return Group(tuple(GradedResponse(of, one, verdict, 0.5, 1.0) for one in rollouts))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """With three problems in two appends."""
    path = tmp_path / "deep/out.samples.jsonl"
    records = RecordsFile(path, SETTINGS)
    records.append([group(problem("a"))])
    records.append([group(problem("b")), group(problem("c"))])
    return path


def test_what_was_written_is_read_again(path: Path) -> None:
    expected = tuple(recorded(one) for one in group(problem("b")).responses)
    assert expected[0].parts == {"accuracy": 1.0, "odd": None}
    for records in (RecordsFile(path, SETTINGS), RecordsFile(path, SETTINGS)):
        assert records.responses(problem("b")) == expected
        assert records.responses(problem("d")) is None
    records.append([group(problem("d"))])
    assert len(records.responses(problem("d")) or ()) == 2
    lines = path.read_bytes().splitlines()
    assert [json.loads(line)["id"] for line in lines] == ["a", "b", "c", "d"]
    assert "数".encode() in path.read_bytes() or b"\\u6570" in path.read_bytes()


@pytest.mark.parametrize("cut", range(1, 400, 37))
def test_a_line_cut_anywhere_is_dropped_and_written_again(path: Path, cut: int) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole[:-cut])
    records = RecordsFile(path, SETTINGS)
    assert whole.startswith(path.read_bytes())
    assert path.read_bytes().endswith(b"\n")
    records.append([group(problem(name)) for name in "abc" if problem(name) not in records])
    assert path.read_bytes() == whole


def test_a_problem_that_changed_is_not_done_and_its_old_line_goes(path: Path) -> None:
    changed = problem("b", "How many now?")
    records = RecordsFile(path, SETTINGS)
    assert problem("b") in records
    assert changed not in records
    assert replace(problem("b"), solution="Well.") in records, "the policy does not read that"
    records.append([group(changed, "new")])
    records.tidy()
    assert [json.loads(line)["id"] for line in path.read_bytes().splitlines()] == ["a", "c", "b"]
    for again in (records, RecordsFile(path, SETTINGS)):
        assert problem("b") not in again
        assert [one.text for one in again.responses(changed) or ()] == ["new", "new"]
        assert again.responses(problem("c"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"samples": 5}, r"out\.samples\.jsonl: was sampled .*samples was 4, is 5"),
        ({"repetition_stop": {"tokens": 9}}, r"repetition_stop was null, is"),
    ],
)
def test_other_settings_are_refused(path: Path, settings: dict, message: str) -> None:
    before = path.read_bytes()
    with pytest.raises(ConfigError, match=message):
        RecordsFile(path, Identity({**SETTINGS.settings, **settings}, SETTINGS.contents))
    assert path.read_bytes() == before


def test_a_checkpoint_may_move_but_not_change(path: Path) -> None:
    RecordsFile(path, Identity({**SETTINGS.settings, "checkpoint": "b"}, {"checkpoint": "x"}))
    with pytest.raises(ConfigError, match="checkpoint a has other contents now"):
        RecordsFile(path, Identity(SETTINGS.settings, {"checkpoint": "y"}))


@pytest.mark.parametrize("content", [None, "", "[]", '{"settings": 3}', '{"other": 1}'])
def test_records_without_their_settings_are_refused(path: Path, content: str | None) -> None:
    held = path.with_suffix(".settings.json")
    held.unlink()
    if content is not None:
        held.write_text(content)
    with pytest.raises(ConfigError, match=r"no out\.samples\.settings\.json says how it was"):
        RecordsFile(path, SETTINGS)


@pytest.mark.parametrize("line", ["{}", "[1]", "{not json", '{"id": "a", "responses": [3]}', ""])
def test_a_line_that_is_no_record_is_named(path: Path, line: str) -> None:
    whole = path.read_text(encoding="utf-8", errors="surrogatepass")
    path.write_text(line + "\n" + whole, encoding="utf-8", errors="surrogatepass")
    with pytest.raises(ConfigError, match=r"out\.samples\.jsonl:1: not a line of records"):
        RecordsFile(path, SETTINGS)


def test_without_records_any_settings_begin(path: Path) -> None:
    path.write_text("")
    other = Identity({**SETTINGS.settings, "samples": 9})
    RecordsFile(path, other).append([group(problem("a"))])
    assert problem("a") in RecordsFile(path, other)
