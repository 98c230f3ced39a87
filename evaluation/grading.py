"""Rollouts → verdicts: what training, evaluation, rating and distillation have in common."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ..problems.types import Problem
from ..rewards.grader import Grader
from ..rewards.types import GradeRequest, Verdict
from ..rollouts.types import Rollout
from .types import GradedResponse, Group, grouped


def grade_rollouts(
    grader: Grader,
    problems: Sequence[Problem],
    rollouts: Sequence[Rollout],
    temperature: float | None = None,
    given: str = "",
) -> list[Group]:
    """A group for each of `problems` that has rollouts, in their order.

    temperature   that they were sampled at
    given         text that each is graded behind; a verdict's span is still that in the response
    """
    by_problem: dict[str, list[Rollout]] = {problem.id: [] for problem in problems}
    for rollout in rollouts:
        by_problem[rollout.problem_id].append(rollout)
    asked = [(problem, one) for problem in problems for one in by_problem[problem.id]]
    verdicts = grader.grade(
        [GradeRequest.of_problem(problem, given + one.text) for problem, one in asked]
    )
    return grouped(
        GradedResponse(problem, one, _moved(verdict, -len(given)), temperature=temperature)
        for (problem, one), verdict in zip(asked, verdicts, strict=True)
    )


def _moved(verdict: Verdict, by: int) -> Verdict:
    if verdict.span is None or not by:
        return verdict
    start, end = verdict.span
    return replace(verdict, span=(start + by, end + by))
