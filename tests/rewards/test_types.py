"""What a grader is asked."""

from __future__ import annotations

from kvl.problems.types import AnswerType, Problem
from kvl.rewards.types import GradeRequest


def test_a_request_of_a_problem_has_all_that_grading_depends_on() -> None:
    kind, options = AnswerType.CHOICE, ("x", "y", "z")
    problem = Problem("p", "Q", (), ("A", "C"), kind, options, precision=2)
    request = GradeRequest.of_problem(problem, "It is C.")
    assert request == GradeRequest("It is C.", ("A", "C"), kind, options, 2, "Q")
