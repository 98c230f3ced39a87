"""A gold answer that no answer can meet is found before anything is sampled."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from kvl.configs.common import ProblemSource
from kvl.problems.loading import load_problems
from kvl.problems.types import AnswerType, Problem
from kvl.rewards.gold_fault import gold_fault


@pytest.mark.parametrize(
    ("answer", "kind", "why"),
    [
        ("7", AnswerType.NUMBER, None),
        (r"\frac{1}{2}", AnswerType.EXPRESSION, None),
        (("7", "seven"), AnswerType.OPEN, None),
        ("a long sentence", AnswerType.TEXT, None),
        ("see the figure", AnswerType.NUMBER, "is not a number"),
        (r"\frac{1}{", AnswerType.EXPRESSION, "cannot be parsed"),
        ("perhaps", AnswerType.BOOL, "neither true nor false"),
        (("7", r"\frac{1}{"), AnswerType.EXPRESSION, "cannot be parsed"),
    ],
)
def test_the_fault_of_a_gold_is_said(
    answer: str | tuple[str, ...], kind: AnswerType, why: str | None
) -> None:
    fault = gold_fault(Problem("p", "?", (), answer, kind))
    assert (fault is None) if why is None else (why in (fault or ""))


def test_loading_skips_it_with_the_reason(tmp_path: Path) -> None:
    rows = [
        {"id": "a", "question": "?", "answer": "7", "answer_type": "number"},
        {"id": "b", "question": "?", "answer": "none given", "answer_type": "number"},
    ]
    path = tmp_path / "p.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    problems, skipped = load_problems(ProblemSource(path=path), gold_fault)
    assert [one.id for one in problems] == ["a"]
    assert [(one.id, one.reason) for one in skipped] == [
        ("b", "gold answer 'none given' is not a number")
    ]
