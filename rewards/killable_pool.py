"""Functions behind a wall clock, in processes that can be killed at any moment."""

from __future__ import annotations

import multiprocessing
import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from dataclasses import dataclass
from typing import Any

from pebble import ProcessPool

# Not fork: the parent holds Ray's and torch's threads. Not forkserver: there is one for the whole
# process, and whoever starts it first (vLLM) decides what all its children have imported. A spawned
# worker imports the parent's main script again, which for kvl-rl and kvl-sft is light.
_CONTEXT = multiprocessing.get_context("spawn")
_POLL_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Failure:
    """A call that gave no result: killed at its wall clock, or its worker died or was stopped."""

    timed_out: bool
    reason: str


@dataclass(frozen=True, slots=True)
class Task:
    """A call in a pool."""

    future: Future[Any]
    pool: ProcessPool
    timeout_seconds: float

    def result(self) -> Any | Failure:
        """Wait for what the function returns. Never raises."""
        # A pebble pool that is stopped or broken leaves some of its futures pending for ever.
        while not self.future.done() and self.pool.active:
            wait([self.future], _POLL_SECONDS)
        if not self.future.done():
            return Failure(False, "workers died or were stopped")
        try:
            return self.future.result()
        except TimeoutError:
            return Failure(True, f"killed after {self.timeout_seconds:g} s")
        except Exception as error:
            return Failure(False, f"worker died: {error}")


class KillablePool:
    """`workers` processes, started with the first call and again after each loss.

    Safe to use from several threads. `close` kills what is running. A worker's start, with its
    `initializer`, is not on the clock of its first call.
    """

    def __init__(
        self,
        workers: int,
        timeout_seconds: float,
        initializer: Callable[..., None],
        initargs: tuple[Any, ...] = (),
    ) -> None:
        self._workers = workers
        self._timeout_seconds = timeout_seconds
        self._initializer = initializer
        self._initargs = initargs
        self._lock = threading.Lock()
        self._closed = False
        self._pool = self._new_pool()

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Task:
        """Queue a call. Raises `RuntimeError` once the pool is closed."""
        with self._lock:
            if self._closed:
                raise RuntimeError("the pool is closed")
            try:
                return self._schedule(function, arguments)
            except RuntimeError:  # pebble gives a pool up when a worker dies while all are idle
                self._stop()
                self._pool = self._new_pool()
                return self._schedule(function, arguments)

    def close(self) -> None:
        """Kill all workers; calls under way or queued become failures."""
        with self._lock:
            self._closed = True
            self._stop()

    def _new_pool(self) -> ProcessPool:
        return ProcessPool(
            self._workers,
            initializer=self._initializer,
            initargs=list(self._initargs),
            context=_CONTEXT,
        )

    def _schedule(self, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Task:
        future = self._pool.schedule(function, arguments, timeout=self._timeout_seconds)
        return Task(future, self._pool, self._timeout_seconds)

    def _stop(self) -> None:
        self._pool.stop()
        self._pool.join()
