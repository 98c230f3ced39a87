"""Rollouts → verdicts: what training, evaluation, rating and distillation have in common."""

from __future__ import annotations

from collections.abc import Sequence

from ..problems.types import Problem
from ..rewards.grader import Grader
from ..rewards.types import GradeRequest
from ..rollouts.types import Rollout
from .types import GradedResponse, Group, grouped


def grade_rollouts(
    grader: Grader, problems: Sequence[Problem], rollouts: Sequence[Rollout]
) -> list[Group]:
    """A group for each of `problems` that has rollouts, in their order."""
    by_problem: dict[str, list[Rollout]] = {problem.id: [] for problem in problems}
    for rollout in rollouts:
        by_problem[rollout.problem_id].append(rollout)
    asked = [(problem, one) for problem in problems for one in by_problem[problem.id]]
    verdicts = grader.grade([GradeRequest.of_problem(problem, one.text) for problem, one in asked])
    return grouped(
        GradedResponse(problem, one, verdict)
        for (problem, one), verdict in zip(asked, verdicts, strict=True)
    )
