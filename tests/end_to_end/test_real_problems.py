"""MATH-Vision at native resolution, with every kind of unusable record between."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

SAMPLE = Path(__file__).parents[1] / "data/mathvision_sample"
ENGINE = ("rollout.engine.max_model_len=4096", "rollout.engine.max_num_seqs=32")


@pytest.fixture(scope="module")
def damaged(workshop, records, write_records) -> dict[str, str]:
    """Writes `damaged/sample.jsonl`; returns a part of the reason expected for each bad id."""
    folder = workshop.folder / "damaged"
    shutil.copytree(SAMPLE, folder)
    problems = records(folder / "sample.jsonl")
    corrupt, unanswered, misplaced, endless = problems[:4]
    image = folder / corrupt["images"][0]
    image.write_bytes(image.read_bytes()[:200])
    unanswered.update(answer="", answer_label=None)
    misplaced["question"] += " <image2>"
    endless["question"] += " and so on" * 5000
    write_records(folder / "sample.jsonl", problems)
    return {
        corrupt["id"]: "cannot be decoded",
        unanswered["id"]: "answer",
        misplaced["id"]: "placeholders",
        endless["id"]: "max_model_len",
    }


def test_each_problem_is_rolled_out_or_reported_with_its_reason(workshop, inside, damaged, records):
    inside(
        "kvl-rl",
        "train",
        "rl.yaml",
        "run_dir=mathvision",
        "problems.path=damaged/sample.jsonl",
        "iterations=1",
        "rollout.problems_per_iteration=24",
        "rollout.samples_per_problem=2",
        "rollout.max_response_tokens=16",
        "learner.pack_tokens=2048",
        "transcripts_per_iteration=24",
        *ENGINE,
    )
    folder = workshop.folder / "mathvision"
    failures = {line["id"]: line["reason"] for line in records(folder / "failures.jsonl")}
    assert failures.keys() == damaged.keys()
    for name, reason in damaged.items():
        assert reason in failures[name]
    every = {problem["id"] for problem in records(SAMPLE / "sample.jsonl")}
    groups = records(folder / "transcripts/iteration_000000.jsonl")
    assert {group["id"] for group in groups} == every - damaged.keys()
    assert all(len(group["responses"]) == 2 for group in groups)
    (metrics,) = records(folder / "metrics.jsonl")
    assert metrics["problems"] == len(every) - len(damaged)
    assert metrics["mismatch_max"] <= 2e-3


def test_evaluation_covers_every_problem_of_the_sample(workshop, inside, records):
    config = workshop.folder / "mathvision.yaml"
    config.write_text(
        (workshop.folder / "rl.yaml")
        .read_text()
        .replace("max_model_len: 512", "max_model_len: 4096")
    )
    out = workshop.folder / "mathvision_eval.json"
    inside(
        "kvl-rl",
        "eval",
        "sft/final",
        SAMPLE / "sample.jsonl",
        "--config",
        config,
        "--max-response-tokens",
        "16",
        "--out",
        out,
    )
    summary = json.loads(out.read_text())
    every = {problem["id"] for problem in records(SAMPLE / "sample.jsonl")}
    assert summary["problems"] == len(every)
    assert summary["skipped"] == summary["failures"] == []
    rows = records(out.with_suffix(".jsonl"))
    assert {row["id"] for row in rows} == every
    assert all(one["outcome"] for row in rows for one in row["responses"])
    assert [len(row["responses"]) for row in rows] == [1] * len(rows)
