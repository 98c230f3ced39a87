"""A training set from a real engine's responses, through a kill."""

from __future__ import annotations

import signal

from kvl.configs.common import ProblemSource
from kvl.problems.loading import load_problems
from kvl.problems.prompt import target_text
from kvl.rewards.grader import Grader
from kvl.rewards.types import GradeRequest, Outcome

# When their raylet dies, Ray's agents try for 60 s to tell the driver, then they end.
RAY_AGENTS = ("ray::DashboardAgent", "ray::RuntimeEnvAgent")
COMMAND = ("kvl-sft", "distill", "sft/final", "problems/train.jsonl", "--config", "rl.yaml")


def test_a_killed_distillation_resumes_to_verified_rows(workshop, inside, records):
    out, log = "distilled/set.jsonl", workshop.folder / "distilled/set.samples.jsonl"
    command = workshop.start(*COMMAND, "--out", out)
    command.wait_until(lambda: log.is_file() and log.read_bytes().count(b"\n"))
    command.signal(signal.SIGKILL)
    command.process.wait()
    assert not (workshop.folder / out).exists()
    before = log.read_bytes()
    # What a kill in the middle of a write leaves.
    log.write_bytes(before + b'{"id": "half')

    # At once, as an impatient user would.
    resumed = inside(*COMMAND, "--out", out)
    assert command.left_over(besides=RAY_AGENTS) == []
    assert log.read_bytes().startswith(before)
    sampled = {line["id"]: line["responses"] for line in records(log)}
    assert len(sampled) == len(log.read_bytes().splitlines()) == 64
    assert all(len(responses) == 8 for responses in sampled.values())
    rows = records(workshop.folder / out)
    assert f"{len(rows)} rows from {len(rows)} of 64 problems" in resumed.stdout

    problems, skipped = load_problems(ProblemSource(path=workshop.folder / out))
    assert skipped == []
    assert rows
    for row, problem in zip(rows, problems, strict=True):
        response = sampled[row["problem_id"]][row["sample"]]
        assert target_text(problem) == response["text"]
        correct = [r for r in sampled[row["problem_id"]] if r["outcome"] == "correct"]
        assert row["tokens"] == response["tokens"] == min(r["tokens"] for r in correct)
        assert row["pass_rate"] == len(correct) / 8
    requests = [GradeRequest(target_text(p), p.answer, p.answer_type) for p in problems]
    with Grader(workers=1, timeout_seconds=60) as grader:
        assert {verdict.outcome for verdict in grader.grade(requests)} == {Outcome.CORRECT}
