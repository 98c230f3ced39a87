"""What the verifier says about one response."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Self

from ..problems.types import AnswerType, Problem


class Outcome(StrEnum):
    CORRECT = "correct"
    INCORRECT = "incorrect"
    NO_ANSWER = "no_answer"  # graded: the response commits to no answer; accuracy 0
    INVALID = "invalid"  # the grader failed: the sample leaves its group, never a silent 0
    TIMEOUT = "timeout"  # the grader was killed at its wall clock: likewise leaves its group


class Strictness(StrEnum):
    """How strictly a response is read.

    RL     strict: one thinking section, one committed answer after it; anything else is no answer
    EVAL   as benchmarks do: free-form responses, with or without thinking markers
    """

    RL = "rl"
    EVAL = "eval"


# The name that plug-ins and scripts knew before 0.2.
Policy = Strictness


@dataclass(frozen=True, slots=True)
class GradeRequest:
    """One response to grade against the gold answer, or against several that are accepted.

    `answer` is the gold answer, or a tuple of which any one may be met. `options` are the texts of
    A, B, C, …; `precision` is the number of decimals that a benchmark compares (MathVista), where
    its rows say so. `question`, where it is known, lets the eval policy see that a sentence
    restates a yes/no question.
    """

    response: str
    answer: str | tuple[str, ...]
    answer_type: AnswerType
    options: tuple[str, ...] = ()
    precision: int | None = None
    question: str = ""

    @classmethod
    def of_problem(cls, problem: Problem, response: str) -> Self:
        """`response` against all that the problem accepts."""
        return cls(
            response,
            problem.answer,
            problem.answer_type,
            problem.options,
            problem.precision,
            problem.question,
        )

    @property
    def answers(self) -> tuple[str, ...]:
        """The accepted gold answers, also where there is one."""
        return (self.answer,) if isinstance(self.answer, str) else self.answer

    @classmethod
    def of_row(cls, row: Mapping[str, Any]) -> Self:
        """From a row of graded responses: response, gold, answer_type, options, precision and,
        where there is one, question.

        Its fields are taken as they are; `kvl.evaluation.grade_file.row_of` reads what users write.
        """
        kind, options = AnswerType(row["answer_type"]), tuple(row["options"])
        question = row.get("question") or ""
        return cls(row["response"], row["gold"], kind, options, row["precision"], question)


@dataclass(frozen=True, slots=True)
class Verdict:
    """The outcome of grading one response.

    Example: `Verdict(Outcome.CORRECT, extracted="12", span=(40, 42), parts={"accuracy": 1.0})`.

    extracted     the committed answer as written, None if there is none
    span          character offsets (start, end) in the response where that answer stands
    parts         weighted reward by its name, empty until the rewards are computed; their sum is
                  the sample's reward
    reason        why there is no answer, or why the sample is invalid, in a few words
    milliseconds  time spent grading it, waiting excluded
    """

    outcome: Outcome
    extracted: str | None = None
    span: tuple[int, int] | None = None
    parts: Mapping[str, float] = field(default_factory=dict)
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

    @property
    def reward(self) -> float:
        """The sum of the weighted parts."""
        return sum(self.parts.values())


@dataclass(frozen=True, slots=True)
class Sample:
    """One graded response, as rewards see it; plain data, so that it can go to another process.

    Example: `Sample("p1", "How many?", "3", AnswerType.NUMBER, (), "◁think▷…◁/think▷3", 57,
    False, Verdict(Outcome.CORRECT))`.

    tokens     response tokens, thinking and answer, without prompt and image tokens
    truncated  the response was cut by the token cap or the repetition stop; it counts as wrong
               whatever it says
    """

    problem_id: str
    question: str
    answer: str
    answer_type: AnswerType
    options: tuple[str, ...]
    response: str
    tokens: int
    truncated: bool
    verdict: Verdict

    @property
    def correct(self) -> bool:
        """Raw correctness, never a shaped reward."""
        return self.verdict.outcome is Outcome.CORRECT and not self.truncated


@dataclass(frozen=True, slots=True)
class RewardBatch:
    """The gradable samples of one problem in one iteration: what a reward grades at a time."""

    samples: tuple[Sample, ...]
    iteration: int
