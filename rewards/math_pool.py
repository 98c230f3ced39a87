"""math-verify behind a wall clock, in processes that can be killed at any moment."""

from __future__ import annotations

import multiprocessing
import threading
from concurrent.futures import Future, wait
from dataclasses import dataclass

from pebble import ProcessPool

from .math_worker import MathJob, MathResult, initialize, solve
from .types import Outcome

# Not fork: the parent holds Ray's and torch's threads. Not forkserver: there is one for the whole
# process, and whoever starts it first (vLLM) decides what all its children have imported. A spawned
# worker imports the parent's main script again, which for kvl-rl and kvl-sft is light.
_CONTEXT = multiprocessing.get_context("spawn")
_POLL_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class MathTask:
    """A job in a pool."""

    future: Future[MathResult]
    pool: ProcessPool
    timeout_seconds: float

    def result(self) -> MathResult:
        """Wait for the result. Never raises."""
        # A pebble pool that is stopped or broken leaves some of its futures pending for ever.
        while not self.future.done() and self.pool.active:
            wait([self.future], _POLL_SECONDS)
        if not self.future.done():
            return MathResult(Outcome.INVALID, "math workers died or were stopped")
        try:
            return self.future.result()
        except TimeoutError:
            reason = f"math-verify killed after {self.timeout_seconds:g} s"
            return MathResult(Outcome.TIMEOUT, reason, 1000 * self.timeout_seconds)
        except Exception as error:
            return MathResult(Outcome.INVALID, f"math worker died: {error}")


class MathPool:
    """`workers` processes, started with the first job and again after each loss.

    Safe to use from several threads. `close` kills what is running. A worker's start is not on the
    clock of its first job.
    """

    def __init__(self, workers: int, timeout_seconds: float) -> None:
        self._workers = workers
        self._timeout_seconds = timeout_seconds
        self._lock = threading.Lock()
        self._closed = False
        self._pool = self._new_pool()

    def submit(self, job: MathJob) -> MathTask:
        """Queue a job. Raises `RuntimeError` once the pool is closed."""
        with self._lock:
            if self._closed:
                raise RuntimeError("the math pool is closed")
            try:
                return self._schedule(job)
            except RuntimeError:  # pebble gives a pool up when a worker dies while all are idle
                self._stop()
                self._pool = self._new_pool()
                return self._schedule(job)

    def close(self) -> None:
        """Kill all workers; jobs under way or queued become INVALID."""
        with self._lock:
            self._closed = True
            self._stop()

    def _new_pool(self) -> ProcessPool:
        return ProcessPool(self._workers, initializer=initialize, context=_CONTEXT)

    def _schedule(self, job: MathJob) -> MathTask:
        future = self._pool.schedule(
            solve, (job, self._timeout_seconds), timeout=self._timeout_seconds
        )
        return MathTask(future, self._pool, self._timeout_seconds)

    def _stop(self) -> None:
        self._pool.stop()
        self._pool.join()
