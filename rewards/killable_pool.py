"""Functions behind a wall clock, in processes that can be killed at any moment."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from dataclasses import dataclass
from multiprocessing.context import SpawnContext, SpawnProcess
from typing import Any

from pebble import ProcessPool

from ..configs.errors import KVLError

# Not fork: the parent holds Ray's and torch's threads. Not forkserver: there is one for the whole
# process, and whoever starts it first (vLLM) decides what all its children have imported. A spawned
# worker imports the parent's main script again, which for kvl-rl and kvl-sft is light.
_POLL_SECONDS = 0.5
# For the first worker of a pool, with all it imports: a second or two on an idle machine.
START_SECONDS = 120.0


class _SafePathProcess(SpawnProcess):
    """A spawned process that imports nothing from the working directory, not even before it has
    its parent's path: there may be a user's pickle.py or types.py."""

    @staticmethod
    def _Popen(process_obj: Any) -> Any:
        before = os.environ.get("PYTHONSAFEPATH")
        os.environ["PYTHONSAFEPATH"] = "1"
        try:
            return SpawnProcess._Popen(process_obj)  # type: ignore[attr-defined]
        finally:
            if before is None:
                os.environ.pop("PYTHONSAFEPATH", None)
            else:
                os.environ["PYTHONSAFEPATH"] = before


class _SafePathContext(SpawnContext):
    Process = _SafePathProcess  # type: ignore[assignment]


_CONTEXT = _SafePathContext()


class WorkersNotStarted(KVLError):
    """No worker process of a pool came up, so nothing that is put into it will ever be done."""


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
    owner: KillablePool

    def result(self) -> Any | Failure:
        """Wait for what the function returns. Raises only `WorkersNotStarted`."""
        # A pebble pool that is stopped or broken leaves some of its futures pending for ever.
        while not self.future.done() and self.pool.active:
            wait([self.future], _POLL_SECONDS)
            self.owner.check_start()
        if not self.future.done():
            self.owner.check_start()
            return Failure(False, "workers died or were stopped")
        try:
            return self.future.result()
        except TimeoutError:
            return Failure(True, f"killed after {self.owner.timeout_seconds:g} s")
        except Exception as error:
            self.owner.check_start()
            return Failure(False, f"worker died: {error}")


class KillablePool:
    """`workers` processes, started with the first call and again after each loss.

    Safe to use from several threads. `close` kills what is running. A worker's start, with its
    `initializer`, is not on the clock of its first call; `start_seconds` is how long the very
    first one may take. `name` says in errors what the workers are for.
    """

    def __init__(
        self,
        name: str,
        workers: int,
        timeout_seconds: float,
        initializer: Callable[..., None],
        initargs: tuple[Any, ...] = (),
        start_seconds: float = START_SECONDS,
    ) -> None:
        self.timeout_seconds = timeout_seconds
        self._name = name
        self._workers = workers
        self._initializer = initializer
        self._initargs = initargs
        self._start_seconds = start_seconds
        self._lock = threading.Lock()
        self._closed = False
        self._pool = self._new_pool()
        # A call that does nothing, before all others: a worker has come up once it returned.
        self._first: Future[Any] | None = None
        self._deadline = 0.0

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Task:
        """Queue a call.

        Raises `RuntimeError` once the pool is closed, `WorkersNotStarted` if it never worked.
        """
        with self._lock:
            if self._closed:
                raise RuntimeError("the pool is closed")
            if self._first is None:
                try:
                    self._first = self._pool.schedule(_do_nothing)
                except RuntimeError as error:
                    why = " ".join(str(error.__cause__ or error).split())
                    raise self._not_started(why[:200]) from error
                self._deadline = time.monotonic() + self._start_seconds
            try:
                return self._schedule(function, arguments)
            except RuntimeError:  # pebble gives a pool up when a worker dies while all are idle
                self.check_start()
                self._stop()
                self._pool = self._new_pool()
                return self._schedule(function, arguments)

    def check_start(self) -> None:
        """Raises `WorkersNotStarted` if no worker ever came up, and none will in time."""
        if self._closed or self._first is None:
            return
        if self._first.done():
            if self._first.exception() is not None:
                raise self._not_started("it ended before it took work")
        elif not self._pool.active:
            raise self._not_started("it ended before it took work")
        elif time.monotonic() > self._deadline:
            raise self._not_started(f"nothing came up within {self._start_seconds:g} s")

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
        future = self._pool.schedule(function, arguments, timeout=self.timeout_seconds)
        return Task(future, self._pool, self)

    def _not_started(self, why: str) -> WorkersNotStarted:
        return WorkersNotStarted(
            f"no worker process of {self._name} could start: {why}; its own error, if any, is "
            "above. The usual cause is a script that does its work without "
            '`if __name__ == "__main__":`, which every worker would do again'
        )

    def _stop(self) -> None:
        self._pool.stop()
        self._pool.join()


def _do_nothing() -> None:
    return
