"""math-verify behind a wall clock, in processes that can be killed at any moment."""

from __future__ import annotations

from dataclasses import dataclass

from ..killable_pool import START_SECONDS, Failure, KillablePool, Task
from ..types import Outcome
from .math_worker import Comparison, Comparisons, MathJob, MathResult, initialize, solve

__all__ = ["Comparison", "Comparisons", "MathJob", "MathPool", "MathTask"]


@dataclass(frozen=True, slots=True)
class MathTask:
    """A job in a pool."""

    task: Task

    def result(self) -> MathResult:
        """Wait for the result. Raises only `WorkersNotStarted`."""
        result = self.task.result()
        if not isinstance(result, Failure):
            return result
        outcome = Outcome.TIMEOUT if result.timed_out else Outcome.INVALID
        spent = 1000 * self.task.owner.timeout_seconds if result.timed_out else 0.0
        return MathResult(outcome, f"math-verify: {result.reason}", spent)


class MathPool:
    """A `KillablePool` whose workers compare a prediction with a gold answer."""

    def __init__(
        self, workers: int, timeout_seconds: float, start_seconds: float = START_SECONDS
    ) -> None:
        self._pool = KillablePool(
            "the grader", workers, timeout_seconds, initialize, start_seconds=start_seconds
        )

    def submit(self, job: MathJob) -> MathTask:
        """Queue a job. Raises as `KillablePool.submit` does."""
        return MathTask(self._pool.submit(solve, job, self._pool.timeout_seconds))

    def close(self) -> None:
        """Kill all workers; jobs under way or queued become INVALID."""
        self._pool.close()
