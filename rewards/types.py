"""What the verifier says about one response."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from ..problems.types import AnswerType


class Outcome(StrEnum):
    CORRECT = "correct"
    INCORRECT = "incorrect"
    NO_ANSWER = "no_answer"  # graded: the response commits to no answer; accuracy 0
    INVALID = "invalid"  # the grader failed: the sample leaves its group, never a silent 0
    TIMEOUT = "timeout"  # the grader was killed at its wall clock: likewise leaves its group


@dataclass(frozen=True, slots=True)
class GradeRequest:
    """One response to grade against one gold answer."""

    response: str
    answer: str
    answer_type: AnswerType
    options: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Verdict:
    """The outcome of grading one response.

    Example: `Verdict(Outcome.CORRECT, extracted="12", milliseconds=0.3)`.
    `reason` explains no_answer, invalid and timeout in a few words.
    """

    outcome: Outcome
    extracted: str | None = None
    reason: str = ""
    milliseconds: float = 0.0

    @property
    def gradable(self) -> bool:
        """Whether the sample counts in its group's statistics."""
        return self.outcome not in (Outcome.INVALID, Outcome.TIMEOUT)

    @property
    def accuracy(self) -> float:
        """Raw correctness in {0, 1}; meaningful only when `gradable`."""
        return 1.0 if self.outcome is Outcome.CORRECT else 0.0
