"""`kvl-rl eval` with the tiny model in place of the engine."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from statistics import mean
from typing import Any

import pytest
from kvl.evaluation.evaluate import summarised
from kvl.evaluation.records import Response
from kvl.problems.types import AnswerType, Problem
from kvl.rewards.types import Outcome
from kvl.rollouts.types import RolloutFailure, StopReason
from stand_ins import TinyFleet

SAMPLED = ("--samples", "3", "--temperature", "1", "--config", "rl.yaml")


def evaluated(tiny: Any, out: Path, *arguments: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """(summary, rows)"""
    tiny("eval", "tiny", *arguments, "--out", out)
    rows = out.with_suffix(".jsonl").read_text().splitlines()
    return json.loads(out.read_text()), [json.loads(row) for row in rows]


def greedy(row: dict[str, Any]) -> dict[str, Any]:
    first = row["responses"][0]
    assert first["temperature"] == 0
    return first


def sampled(row: dict[str, Any]) -> list[dict[str, Any]]:
    _, *rest = row["responses"]
    assert all(one["temperature"] == 1 for one in rest)
    return rest


def score(samples: list[dict[str, Any]]) -> float:
    return mean(s["outcome"] == "correct" and s["stop_reason"] == "stop" for s in samples)


def test_the_summary_is_the_rows_counted(tiny, tmp_path):
    summary, rows = evaluated(tiny, tmp_path / "all.json", "train.jsonl", *SAMPLED)
    assert summary["problems"] == len(rows) == 8
    assert summary["failures"] == summary["skipped"] == []
    assert (summary["samples"], summary["temperature"]) == (3, 1.0)
    assert all(len(sampled(row)) == 3 for row in rows)
    assert summary["pass_at_1"] == pytest.approx(mean(score(sampled(row)) for row in rows))
    assert summary["greedy"] == pytest.approx(mean(score([greedy(row)]) for row in rows))
    assert summary["by_family"].keys() == {row["family"] for row in rows} == {"arithmetic"}
    assert summary["by_level"].keys() == {str(row["level"]) for row in rows}
    whole = {"pass_at_1": summary["pass_at_1"], "greedy": summary["greedy"], "problems": 8}
    assert summary["by_family"]["arithmetic"] == whole
    every = [sample for row in rows for sample in row["responses"]]
    cut = [sample["stop_reason"] == "length" for sample in every]
    assert summary["truncated_share"] == pytest.approx(mean(cut))
    assert summary["response_tokens_mean"] == pytest.approx(mean(s["tokens"] for s in every))
    assert max(sample["tokens"] for sample in every) <= 20
    # The taught model is right now and then.
    assert 0 < summary["pass_at_1"] < 1


def test_the_same_seed_is_the_same_evaluation_and_another_is_not(tiny, tmp_path):
    _, rows = evaluated(tiny, tmp_path / "one.json", "heldout.jsonl", *SAMPLED)
    _, again = evaluated(tiny, tmp_path / "again.json", "heldout.jsonl", *SAMPLED)
    _, other = evaluated(tiny, tmp_path / "other.json", "heldout.jsonl", *SAMPLED, "--seed", "1")
    assert again == rows
    assert [greedy(row) for row in other] == [greedy(row) for row in rows]
    assert [sampled(row) for row in other] != [sampled(row) for row in rows]


def test_greedy_alone_samples_nothing(tiny, tmp_path):
    out = tmp_path / "greedy.json"
    summary, rows = evaluated(tiny, out, "heldout.jsonl", "--config", "rl.yaml", "--limit", "2")
    assert summary["problems"] == len(rows) == 2
    assert summary["samples"] == 0
    assert summary["pass_at_1"] is None
    assert [sampled(row) for row in rows] == [[], []]


def test_what_cannot_be_read_is_left_out_and_what_cannot_be_rolled_out_is_wrong(tiny, tmp_path):
    lines = (tiny.folder / "train.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    rows[0]["question"] += " and so on" * 500
    rows[1]["answer"] = ""
    rows[2]["images"] = ["images/none.png"]
    (tiny.folder / "partly.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    out = tmp_path / "partly.json"
    ended = tiny("eval", "tiny", "partly.jsonl", "--config", "rl.yaml", "--out", out)
    summary = json.loads(out.read_text())
    assert [one["id"] for one in summary["failures"]] == [rows[0]["id"]]
    assert {one["id"] for one in summary["skipped"]} == {row["id"] for row in rows[1:3]}
    answered = [json.loads(row) for row in out.with_suffix(".jsonl").read_text().splitlines()]
    assert (summary["problems"], summary["not_rolled_out"], len(answered)) == (6, 1, 5)
    assert summary["greedy"] == pytest.approx(sum(score([greedy(row)]) for row in answered) / 6)
    for row in rows[:3]:
        assert row["id"] in ended.stdout


def test_strict_grading_needs_the_thinking_markers_and_evaluation_does_not(tiny, tmp_path):
    """Nothing strict grading accepts is wrong by the policy of benchmarks."""
    arguments = ("train.jsonl", *SAMPLED)
    lenient, lenient_rows = evaluated(tiny, tmp_path / "lenient.json", *arguments)
    strict, strict_rows = evaluated(tiny, tmp_path / "strict.json", *arguments, "--policy", "rl")
    assert (lenient["policy"], strict["policy"]) == ("eval", "rl")
    pairs = [
        (one, other)
        for a, b in zip(lenient_rows, strict_rows, strict=True)
        for one, other in zip(sampled(a), sampled(b), strict=True)
    ]
    assert all(one["text"] == other["text"] for one, other in pairs)
    assert all(one["outcome"] == "correct" for one, other in pairs if other["outcome"] == "correct")
    assert lenient["pass_at_1"] >= strict["pass_at_1"]
    assert any(one["outcome"] != other["outcome"] for one, other in pairs)


def test_what_cannot_be_graded_counts_as_wrong_and_is_counted() -> None:
    right = Response(0, "7", 1, Outcome.CORRECT, StopReason.STOP, temperature=0.0)
    late = Response(0, "7", 1, Outcome.TIMEOUT, StopReason.STOP, temperature=0.0)
    problems = [Problem(name, "?", (), "7", AnswerType.NUMBER) for name in "abcd"]
    failures = [RolloutFailure("d", "too long")]
    responses = {"a": [right], "b": [late], "c": [right]}
    summary = summarised(problems, responses, failures, samples=1, temperature=0.0)
    assert summary["greedy"] == 0.5
    assert (summary["problems"], summary["not_rolled_out"], summary["not_graded"]) == (4, 1, 1)


def test_a_gold_that_no_answer_can_meet_is_left_out_with_the_reason(tiny, tmp_path):
    rows = [json.loads(line) for line in (tiny.folder / "train.jsonl").read_text().splitlines()]
    rows[0] |= {"answer": "\\frac{1}{", "answer_type": "expression"}
    (tiny.folder / "golds.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    summary, answered = evaluated(tiny, tmp_path / "g.json", "golds.jsonl", "--config", "rl.yaml")
    assert [one["id"] for one in summary["skipped"]] == [rows[0]["id"]]
    assert "cannot be parsed" in summary["skipped"][0]["reason"]
    assert summary["problems"] == len(answered) == 7


def test_after_a_kill_only_the_rest_is_asked(tiny, tmp_path):
    arguments = ("train.jsonl", *SAMPLED)
    whole, rows = evaluated(tiny, tmp_path / "whole.json", *arguments)
    out = tmp_path / "killed.json"
    for name in ("jsonl", "settings.json"):
        shutil.copy(tmp_path / f"whole.{name}", tmp_path / f"killed.{name}")
    lines = out.with_suffix(".jsonl").read_bytes().splitlines(keepends=True)
    out.with_suffix(".jsonl").write_bytes(b"".join(lines[:3]) + lines[3][:-9])
    asked: list[str] = []

    class Noting(TinyFleet):
        def submit(self, problems, settings, continued=()):
            asked.extend(problem.id for problem in problems)
            return super().submit(problems, settings, continued)

    tiny.with_fleet(Noting)
    ended = tiny("eval", "tiny", *arguments, "--out", out)
    assert "3 of 8 problems are evaluated already" in ended.stdout
    assert set(asked) == {row["id"] for row in rows[3:]}
    assert [json.loads(row) for row in out.with_suffix(".jsonl").read_text().splitlines()] == rows
    resumed = json.loads(out.read_text())
    assert {**resumed, "seconds": 0} == {**whole, "seconds": 0}
    asked.clear()
    tiny("eval", "tiny", *arguments, "--out", out)
    assert asked == []


@pytest.mark.parametrize(
    ("changed", "difference"),
    [
        (("--samples", "4"), "samples was 3, is 4"),
        (("--seed", "2"), "seed was 0, is 2"),
        (("--policy", "rl"), "strictness was eval, is rl"),
        (("--limit", "3"), "limit was null, is 3"),
    ],
)
def test_records_of_other_settings_are_refused(tiny, tmp_path, changed, difference):
    out = tmp_path / "all.json"
    evaluated(tiny, out, "heldout.jsonl", *SAMPLED)
    before = out.read_bytes(), out.with_suffix(".jsonl").read_bytes()
    ended = tiny("eval", "tiny", "heldout.jsonl", *SAMPLED, *changed, "--out", out, code=2)
    assert difference in ended.stderr.replace("\n", " ")
    assert (out.read_bytes(), out.with_suffix(".jsonl").read_bytes()) == before


def test_a_problem_file_is_never_taken_for_records(tiny):
    before = (tiny.folder / "train.jsonl").read_bytes()
    out = tiny.folder / "train.json"
    ended = tiny("eval", "tiny", "train.jsonl", "--config", "rl.yaml", "--out", out, code=2)
    assert "says how it was sampled" in ended.stderr.replace("\n", " ")
    assert (tiny.folder / "train.jsonl").read_bytes() == before
