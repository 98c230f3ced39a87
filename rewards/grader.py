"""From responses to verdicts."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from .grading.judge import judge
from .grading.math_pool import MathJob, MathPool, MathTask
from .grading.reading.commitments import Commitment
from .grading.reading.extraction import NoAnswer
from .killable_pool import START_SECONDS
from .types import GradeRequest, Outcome, Strictness, Verdict


@dataclass(frozen=True, slots=True)
class _Pending:
    """A verdict that waits for math-verify."""

    found: Commitment
    task: MathTask
    milliseconds: float


class Grader:
    """Grades final answers by rule, with math-verify in `workers` killable processes.

    Example:
        with Grader(workers=2, timeout_seconds=5) as grader:
            verdicts = grader.grade(requests)

    A context manager; several threads may call `grade` at once. The processes start with the
    first answer that needs them, by spawn: a script needs its `if __name__ == "__main__"`.
    `timeout_seconds` is the wall clock of one math-verify comparison, `start_seconds` of the
    start of the first process.
    """

    def __init__(
        self,
        workers: int,
        timeout_seconds: float,
        policy: Strictness = Strictness.RL,
        start_seconds: float = START_SECONDS,
    ) -> None:
        if workers < 1 or timeout_seconds <= 0:
            raise ValueError("a grader needs at least one worker and a positive timeout")
        self._pool = MathPool(workers, timeout_seconds, start_seconds)
        self._policy = policy

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Kill the worker processes; the grader cannot be used afterwards."""
        self._pool.close()

    def grade(self, requests: Sequence[GradeRequest]) -> list[Verdict]:
        """One verdict for each request, in order; content never raises, failures are INVALID.

        For requests that need math-verify, raises `RuntimeError` if the grader is closed and
        `WorkersNotStarted` if its processes cannot start.
        """
        begun = [self._begin(request) for request in requests]
        return [_finish(item) if isinstance(item, _Pending) else item for item in begun]

    def _begin(self, request: GradeRequest) -> Verdict | _Pending:
        started = time.perf_counter()
        found = None
        reason = ""
        outcome = Outcome.INVALID
        judged: bool | MathJob | None = None
        try:
            found, judged = judge(request, self._policy)
        except NoAnswer as error:
            outcome, reason = Outcome.NO_ANSWER, str(error)
        except Exception as error:
            # A fault of the grader or of the gold answer must not become a silent 0.
            reason = f"{type(error).__name__}: {error}"
        milliseconds = 1000 * (time.perf_counter() - started)
        if found is not None and isinstance(judged, MathJob):
            return _Pending(found, self._pool.submit(judged), milliseconds)
        if judged is not None:
            outcome = Outcome.CORRECT if judged else Outcome.INCORRECT
        return _verdict(outcome, found, reason, milliseconds)


def _finish(pending: _Pending) -> Verdict:
    result = pending.task.result()
    milliseconds = pending.milliseconds + result.milliseconds
    return _verdict(result.outcome, pending.found, result.reason, milliseconds)


def _verdict(
    outcome: Outcome, found: Commitment | None, reason: str, milliseconds: float
) -> Verdict:
    span = (found.start, found.end) if found else None
    return Verdict(
        outcome, found.text if found else None, span, reason=reason, milliseconds=milliseconds
    )
