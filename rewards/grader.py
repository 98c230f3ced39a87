"""From responses to verdicts."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from ..problems.types import AnswerType
from .choice import grade_choice
from .expression import compare
from .extraction import NoAnswer, extract_answer
from .math_pool import MathJob, MathPool, MathTask
from .normalization import words
from .types import GradeRequest, Outcome, Verdict


@dataclass(frozen=True, slots=True)
class _Pending:
    """A verdict that waits for math-verify."""

    extracted: str
    task: MathTask
    milliseconds: float


class Grader:
    """Grades final answers by rule, with math-verify in `workers` killable processes.

    Example:
        with Grader(workers=2, timeout_seconds=5) as grader:
            verdicts = grader.grade(requests)

    A context manager; several threads may call `grade` at once. The processes start with the
    first answer that needs them, by spawn: a script needs its `if __name__ == "__main__"`.
    `timeout_seconds` is the wall clock of one math-verify comparison.
    """

    def __init__(self, workers: int, timeout_seconds: float) -> None:
        if workers < 1 or timeout_seconds <= 0:
            raise ValueError("a grader needs at least one worker and a positive timeout")
        self._pool = MathPool(workers, timeout_seconds)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Kill the worker processes; the grader cannot be used afterwards."""
        self._pool.close()

    def grade(self, requests: Sequence[GradeRequest]) -> list[Verdict]:
        """One verdict for each request, in order; content never raises, failures are INVALID.

        Raises `RuntimeError` if the grader is closed and a request needs math-verify.
        """
        begun = [self._begin(request) for request in requests]
        return [_finish(item) if isinstance(item, _Pending) else item for item in begun]

    def _begin(self, request: GradeRequest) -> Verdict | _Pending:
        started = time.perf_counter()
        extracted = None
        job = None
        reason = ""
        try:
            extracted = extract_answer(request.response)
            judged = _judge(extracted, request)
            if isinstance(judged, MathJob):
                job, outcome = judged, Outcome.INVALID
            else:
                outcome = Outcome.CORRECT if judged else Outcome.INCORRECT
        except NoAnswer as error:
            outcome, reason = Outcome.NO_ANSWER, str(error)
        except Exception as error:
            # A fault of the grader or of the gold answer must not become a silent 0.
            outcome, reason = Outcome.INVALID, f"{type(error).__name__}: {error}"
        milliseconds = 1000 * (time.perf_counter() - started)
        if job is not None and extracted is not None:
            return _Pending(extracted, self._pool.submit(job), milliseconds)
        return Verdict(outcome, extracted, reason, milliseconds)


def _judge(extracted: str, request: GradeRequest) -> bool | MathJob:
    match request.answer_type:
        case AnswerType.CHOICE:
            return grade_choice(extracted, request.answer, request.options)
        case AnswerType.TEXT:
            return words(extracted) == words(request.answer)
        case AnswerType.NUMBER | AnswerType.EXPRESSION:
            return compare(request.answer, extracted)


def _finish(pending: _Pending) -> Verdict:
    result = pending.task.result()
    milliseconds = pending.milliseconds + result.milliseconds
    return Verdict(result.outcome, pending.extracted, result.reason, milliseconds)
