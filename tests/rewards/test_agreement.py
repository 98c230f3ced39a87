"""Agreement with people on real responses; the full figures are benchmarks/grading.py's."""

import json
from pathlib import Path

import pytest
from kvl.rewards.grader import Grader
from kvl.rewards.types import GradeRequest, Outcome, Strictness

SAMPLE = Path(__file__).resolve().parents[1] / "data/graded_responses/sample.jsonl"


@pytest.fixture(scope="module")
def judged():
    rows = [json.loads(line) for line in SAMPLE.read_text(encoding="utf-8").splitlines()]
    requests = [GradeRequest.of_row(row) for row in rows]
    with Grader(workers=2, timeout_seconds=30, policy=Strictness.EVAL) as grader:
        return list(zip(rows, grader.grade(requests), strict=True))


def test_real_responses_are_judged_as_people_judge_them(judged):
    agreed = sum((v.outcome is Outcome.CORRECT) == row["correct"] for row, v in judged)
    assert agreed / len(judged) >= 0.97


def test_wrong_responses_are_not_accepted(judged):
    accepted = [row["id"] for row, v in judged if v.outcome is Outcome.CORRECT]
    assert sum(not row["correct"] for row, _ in judged if row["id"] in accepted) <= 2


def test_every_real_response_gets_a_verdict_and_a_span_inside_it(judged):
    for row, verdict in judged:
        assert verdict.gradable, verdict.reason
        if verdict.span is not None:
            start, end = verdict.span
            assert 0 <= start <= end <= len(row["response"])
