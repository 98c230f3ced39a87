"""A final answer graded under both strictnesses, for the tests of values and spellings."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from kvl.problems.types import AnswerType
from kvl.rewards.grader import Grader
from kvl.rewards.types import GradeRequest, Outcome, Strictness

GradeAnswer = Callable[[str, str, str], Outcome]


@pytest.fixture(scope="module", params=list(Strictness))
def outcome_of(request: pytest.FixtureRequest) -> Iterator[GradeAnswer]:
    """`outcome_of(kind, gold, answer)`: of a response that boxes the answer after some thoughts."""
    with Grader(workers=1, timeout_seconds=30, policy=request.param) as grader:

        def outcome(kind: str, gold: str, answer: str) -> Outcome:
            response = f"◁think▷Some thoughts.◁/think▷\\boxed{{{answer}}}"
            return grader.grade([GradeRequest(response, gold, AnswerType(kind))])[0].outcome

        yield outcome
