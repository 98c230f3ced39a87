"""`kvl-rl eval` with the tiny model in place of the engine."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import mean
from typing import Any

import pytest

SAMPLED = ("--samples", "3", "--temperature", "1", "--config", "rl.yaml")


def evaluated(tiny: Any, out: Path, *arguments: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """(summary, rows)"""
    tiny("eval", "tiny", *arguments, "--out", out)
    rows = out.with_suffix(".jsonl").read_text().splitlines()
    return json.loads(out.read_text()), [json.loads(row) for row in rows]


def score(samples: list[dict[str, Any]]) -> float:
    return mean(s["outcome"] == "correct" and s["stop_reason"] == "stop" for s in samples)


def test_the_summary_is_the_rows_counted(tiny, tmp_path):
    summary, rows = evaluated(tiny, tmp_path / "all.json", "train.jsonl", *SAMPLED)
    assert summary["problems"] == len(rows) == 8
    assert summary["failures"] == summary["skipped"] == []
    assert (summary["samples"], summary["temperature"]) == (3, 1.0)
    assert all(len(row["samples"]) == 3 for row in rows)
    assert summary["pass_at_1"] == pytest.approx(mean(score(row["samples"]) for row in rows))
    assert summary["greedy"] == pytest.approx(mean(score([row["greedy"]]) for row in rows))
    assert summary["by_family"].keys() == {row["family"] for row in rows} == {"arithmetic"}
    assert summary["by_level"].keys() == {str(row["level"]) for row in rows}
    whole = {"pass_at_1": summary["pass_at_1"], "greedy": summary["greedy"], "problems": 8}
    assert summary["by_family"]["arithmetic"] == whole
    every = [sample for row in rows for sample in (row["greedy"], *row["samples"])]
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
    assert [row["greedy"] for row in other] == [row["greedy"] for row in rows]
    assert [row["samples"] for row in other] != [row["samples"] for row in rows]


def test_greedy_alone_samples_nothing(tiny, tmp_path):
    out = tmp_path / "greedy.json"
    summary, rows = evaluated(tiny, out, "heldout.jsonl", "--config", "rl.yaml", "--limit", "2")
    assert summary["problems"] == len(rows) == 2
    assert summary["samples"] == 0
    assert summary["pass_at_1"] is None
    assert [row["samples"] for row in rows] == [[], []]


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
    assert summary["greedy"] == pytest.approx(sum(score([row["greedy"]]) for row in answered) / 6)
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
        for one, other in zip(a["samples"], b["samples"], strict=True)
    ]
    assert all(one["text"] == other["text"] for one, other in pairs)
    assert all(one["outcome"] == "correct" for one, other in pairs if other["outcome"] == "correct")
    assert lenient["pass_at_1"] >= strict["pass_at_1"]
    assert any(one["outcome"] != other["outcome"] for one, other in pairs)
