"""All rollout workers as one: problems in, rollouts out, weights to everyone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import ray
from ray.actor import ActorHandle
from ray.exceptions import GetTimeoutError, RayActorError, RayError, RayTaskError

from ..configs.errors import KVLError
from ..configs.rollout import EngineConfig, RolloutConfig
from ..problems.prompt import prompt_parts
from ..problems.types import Problem, ProblemError
from .cluster import WorkerError, connect
from .types import Rollout, RolloutFailure, RolloutRequest, SamplingSettings
from .worker import RolloutWorker

SHUTDOWN_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Sampling:
    """`requests` that the workers have, dealt out in turn; one reference per worker to its
    results."""

    requests: int
    references: Sequence[Any]
    failures: Sequence[RolloutFailure]


class Fleet:
    """`config.workers` engines, each an actor, started in the background by the constructor.

    The first call that needs them waits. Use it as a context manager: leaving it ends every
    process it started.
    """

    def __init__(self, checkpoint: str | Path, config: RolloutConfig, seed: int = 0) -> None:
        self._resources = ExitStack()
        self._resources.enter_context(connect())
        self._ready = False
        gpus = config.engine.tensor_parallel_size if ray.cluster_resources().get("GPU") else 0
        if not gpus and (instead := _gpu_only(config.engine)) is not None:
            self._resources.close()
            raise KVLError(instead)
        actor = ray.remote(num_cpus=0, num_gpus=gpus, max_restarts=0)(RolloutWorker)
        folder = Path(checkpoint).absolute()
        self._workers: Sequence[Any] = [
            actor.remote(
                folder,
                config.engine,
                seed + index,
                on_gpu=gpus > 0,
                repetition_stop=config.repetition_stop,
            )
            for index in range(config.workers)
        ]
        self._starts = [worker.start.remote() for worker in self._workers]
        self._places: list[str] = [""] * config.workers

    def __enter__(self) -> Fleet:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.shutdown()

    @property
    def workers(self) -> Sequence[ActorHandle]:
        """The actors, once all have started. Raises WorkerError naming one that did not."""
        if not self._ready:
            places = self._gather("starting its engine", self._starts)
            self._places = [f" (pid {place['pid']} on {place['host']})" for place in places]
            self._ready = True
        return self._workers

    def generate(
        self,
        problems: Sequence[Problem],
        settings: SamplingSettings,
        continued: Sequence[tuple[Problem, tuple[Rollout, ...]]] = (),
    ) -> tuple[list[Rollout], list[RolloutFailure]]:
        """`settings.samples` rollouts of every problem, in the order of the problems; after them
        the unfinished rollouts of `continued`, grown by what was sampled now.

        A problem that cannot be used comes back as a failure. Raises WorkerError when a worker
        died. Problems are dealt out in turn, so any `len(workers)` of them reach every worker.
        """
        return self.collect(self.submit(problems, settings, continued))

    def submit(
        self,
        problems: Sequence[Problem],
        settings: SamplingSettings,
        continued: Sequence[tuple[Problem, tuple[Rollout, ...]]] = (),
    ) -> Sampling:
        """What `generate` begins with; several may be under way, and the workers mix them."""
        requests: list[RolloutRequest] = []
        failures: list[RolloutFailure] = []
        for problem, before in [*((problem, ()) for problem in problems), *continued]:
            try:
                requests.append(RolloutRequest(problem.id, prompt_parts(problem), before))
            except ProblemError as error:
                failures.append(RolloutFailure(problem.id, str(error)))
        workers = self.workers
        dealt = [requests[turn :: len(workers)] for turn in range(len(workers))]
        references = [
            worker.sample.remote(own, settings) for worker, own in zip(workers, dealt, strict=True)
        ]
        return Sampling(len(requests), references, failures)

    def collect(self, sampling: Sampling) -> tuple[list[Rollout], list[RolloutFailure]]:
        """Wait for what was submitted; the results of `generate`."""
        count = sampling.requests
        batches = self._gather(f"sampling {count} problems", sampling.references)
        # Every request has one list of results; undo the dealing.
        results = [batches[i % len(batches)][i // len(batches)] for i in range(count)]
        rollouts: list[Rollout] = []
        failures = list(sampling.failures)
        for result in results:
            if isinstance(result, RolloutFailure):
                failures.append(result)
            else:
                rollouts += result
        return rollouts, failures

    def sample_everywhere(
        self, problems: Sequence[Problem], settings: SamplingSettings
    ) -> list[list[Rollout]]:
        """The rollouts of every worker, each asked for all of `problems`; what a worker cannot
        sample is missing from its list."""
        requests = [RolloutRequest(problem.id, prompt_parts(problem)) for problem in problems]
        results = self._everywhere(
            "sampling probes", lambda worker: worker.sample.remote(requests, settings)
        )
        return [
            [rollout for result in own if isinstance(result, list) for rollout in result]
            for own in results
        ]

    def sync_weights(self, updates: Iterable[dict[str, Any]], version: int) -> None:
        """Give every worker the weights of `updates`, one bucket at a time; `version` marks the
        tokens sampled from now on. Requests that are running pause and go on: when the first
        bucket is there. While one is loaded the next is gathered and written.

        An engine that failed halfway is unusable, so any error here is a WorkerError or the
        error of `updates` itself, and the fleet should be shut down. So it is if an engine
        received anything but what was sent.
        """
        sent, loading = None, []
        for update in updates:
            if sent is None:
                self.begin_update()
            self._gather("loading weights", loading)
            sent = update["digest"]
            loading = [worker.apply_update.remote(update) for worker in self.workers]
        if sent is None:
            raise ValueError(f"sync {version}: no weights to send")
        self._gather("loading weights", loading)
        for index, received in enumerate(self.finish_update(version)):
            if set(received) != {sent}:
                raise WorkerError(
                    f"sync {version}: rollout worker {index}{self._places[index]} received other "
                    f"weights than were sent (checksum {', '.join(received)} instead of {sent}); "
                    "run the same command again to resume"
                )

    def begin_update(self) -> None:
        self._everywhere("pausing for new weights", lambda worker: worker.begin_update.remote())

    def apply_update(self, update: dict[str, Any]) -> None:
        self._everywhere("loading weights", lambda worker: worker.apply_update.remote(update))

    def finish_update(self, version: int) -> list[list[str]]:
        """What every worker received; see `RolloutWorker.finish_update`."""
        return self._everywhere(
            f"switching to weights {version}", lambda worker: worker.finish_update.remote(version)
        )

    def init_weight_transfer(self, init_info: dict[str, Any]) -> None:
        """Hand the learner's rendezvous to the engines (nccl; shared_memory needs none)."""
        self._everywhere(
            "meeting the learner", lambda worker: worker.init_weight_transfer.remote(init_info)
        )

    def weight_versions(self) -> list[int]:
        return self._everywhere("answering", lambda worker: worker.weight_version.remote())

    def shutdown(self) -> None:
        """End all workers and their engine processes; safe to call twice."""
        workers, self._workers = self._workers, []
        if not workers:
            return
        # A worker that is still starting, or dead, is only killed.
        started, _ = ray.wait(self._starts, num_returns=len(self._starts), timeout=0)
        able = [w for w, start in zip(workers, self._starts, strict=False) if start in started]
        with suppress(RayError, GetTimeoutError):
            ray.get([w.shutdown.remote() for w in able], timeout=SHUTDOWN_SECONDS)
        for worker in workers:
            ray.kill(worker)
        self._resources.close()

    def _everywhere(self, doing: str, call: Callable[[ActorHandle], Any]) -> list[Any]:
        return self._gather(doing, [call(worker) for worker in self.workers])

    def _gather(self, doing: str, references: Sequence[Any]) -> list[Any]:
        """The results of one call to each worker; fails as soon as the first of them does."""
        waiting = list(references)
        while waiting:
            done, waiting = ray.wait(waiting)
            for reference in done:
                index = references.index(reference)
                try:
                    ray.get(reference)
                except RayActorError as error:
                    raise WorkerError(self._message(index, doing, _death(error))) from error
                except RayTaskError as error:
                    if isinstance(error.cause, KVLError):
                        raise error.cause from None
                    raise WorkerError(
                        self._message(index, doing, f"{type(error.cause).__name__}: {error.cause}")
                    ) from error
        return ray.get(list(references))

    def _message(self, index: int, doing: str, cause: str) -> str:
        return (
            f"rollout worker {index}{self._places[index]} failed while {doing}: {cause}; "
            "run the same command again to resume"
        )


def _gpu_only(engine: EngineConfig) -> str | None:
    """What of these settings no engine on CPU can do, and what to set instead."""
    lacking = "needs GPUs and this Ray cluster has none"
    if engine.weight_transfer != "shared_memory":
        transfer = engine.weight_transfer
        return f"rollout.engine.weight_transfer {transfer} {lacking}: use shared_memory"
    if engine.return_routes:
        return f"rollout.engine.return_routes {lacking}: set it to false"
    return None


def _death(error: RayActorError) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return next((line for line in lines if "Worker exit" in line or "cause" in line), lines[0])
