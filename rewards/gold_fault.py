"""Why a problem's gold answer can be met by no answer, for whoever loads problems."""

from __future__ import annotations

from ..problems.types import Problem
from .grading.gold import BadGold, check_gold
from .types import GradeRequest


def gold_fault(problem: Problem) -> str | None:
    """What is wrong with a gold answer of the problem; None if each can be met.

    The `fault` of `load_problems`: what has one would make every sample invalid.
    """
    try:
        check_gold(GradeRequest.of_problem(problem, ""))
    except BadGold as error:
        return str(error)
    return None
