"""From graded samples to rewards: every configured reward, weighted, as parts of the verdict."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Self

from .killable_pool import Failure, KillablePool, Task
from .plugin_worker import Crash, grade_batch, grade_sample, grade_samples, initialize
from .registry import RewardType, find
from .types import Outcome, RewardBatch, Sample, Verdict

Combination = Literal["sum", "gated"]

# An async function has its own clock for each sample; the pool's kills one that blocks the loop.
_ASYNC_GRACE = 1.5


@dataclass(frozen=True, slots=True)
class RewardSpec:
    """One entry of the config's `rewards`, resolved.

    Example: `{type: length, weight: 0.2, start: 40}` is `RewardSpec("length", 0.2, 40, {})`.
    """

    type: str
    weight: float = 1.0
    start: int = 0
    settings: Mapping[str, Any] | None = None
    timeout_seconds: float = 10.0
    workers: int = 1


class Rewards:
    """All rewards of a run. A context manager: plugins run in processes of their own.

    Example:
        with Rewards([RewardSpec("accuracy"), RewardSpec("length", 0.2, start=40)]) as rewards:
            (verdicts,) = rewards.score([RewardBatch(samples, iteration=0)])
            verdicts[0].parts  # {"accuracy": 1.0}

    `combination` "gated" gives the other parts to correct responses only. Raises `UnknownReward`
    or pydantic's `ValidationError` for entries that cannot be made.
    """

    def __init__(self, specs: Sequence[RewardSpec], combination: Combination = "sum") -> None:
        self._combination = combination
        self._entries = []
        names: dict[str, int] = {}
        for spec in specs:
            names[spec.type] = names.get(spec.type, 0) + 1
            name = spec.type if names[spec.type] == 1 else f"{spec.type}#{names[spec.type]}"
            self._entries.append(_Entry(name, spec, find(spec.type)))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        for entry in self._entries:
            entry.close()

    def score(self, batches: Sequence[RewardBatch]) -> list[list[Verdict]]:
        """The samples' verdicts with their weighted parts, batch by batch, in order.

        A sample whose plugin crashed or ran late is INVALID or TIMEOUT, with the plugin's name in
        its reason. Rewards that compare the samples of a batch do not see it. Raises
        `WorkersNotStarted` if a plugin's processes never came up, not even to report its error.
        """
        outside = [entry for entry in self._entries if not entry.kind.builtin]
        pending = [
            [(entry, entry.submit(batch)) for entry in outside if entry.is_on(batch.iteration)]
            for batch in batches
        ]
        return [
            self._score(batch, [(entry, entry.collect(tasks, batch)) for entry, tasks in running])
            for batch, running in zip(batches, pending, strict=True)
        ]

    def state_dict(self) -> dict[str, Any]:
        """What rewards remember between iterations (Toggle's budgets), by name."""
        return {
            entry.name: entry.reward.state_dict()
            for entry in self._entries
            if hasattr(entry.reward, "state_dict")
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        for entry in self._entries:
            if entry.name in state:
                entry.reward.load_state_dict(state[entry.name])

    def _score(
        self, batch: RewardBatch, graded: list[tuple[_Entry, list[float | Verdict | Crash]]]
    ) -> list[Verdict]:
        verdicts = [sample.verdict for sample in batch.samples]
        parts: list[dict[str, float]] = [{} for _ in verdicts]
        for entry, values in graded:
            for index, value in enumerate(values):
                failed = _failed(entry.name, value)
                if failed is not None:
                    outcome, reason = failed
                    verdicts[index] = replace(verdicts[index], outcome=outcome, reason=reason)
                else:
                    parts[index][entry.name] = entry.spec.weight * _number(value)
        kept = [index for index, verdict in enumerate(verdicts) if verdict.gradable]
        left = RewardBatch(tuple(batch.samples[index] for index in kept), batch.iteration)
        for entry in self._entries:
            if entry.kind.builtin and entry.is_on(batch.iteration) and kept:
                for index, value in zip(kept, entry.reward.grade(left), strict=True):
                    parts[index][entry.name] = entry.spec.weight * value
        return [
            replace(verdict, parts=self._combined(parts[index], batch.samples[index]))
            if verdict.gradable
            else replace(verdict, parts={})
            for index, verdict in enumerate(verdicts)
        ]

    def _combined(self, parts: dict[str, float], sample: Sample) -> dict[str, float]:
        ordered = {entry.name: parts[entry.name] for entry in self._entries if entry.name in parts}
        if self._combination == "gated" and not sample.correct:
            return {name: value if name == "accuracy" else 0.0 for name, value in ordered.items()}
        return ordered


class _Entry:
    """A configured reward: an object here if it is built in, else processes that hold it."""

    def __init__(self, name: str, spec: RewardSpec, kind: RewardType) -> None:
        self.name = name
        self.spec = spec
        self.kind = kind
        settings = dict(spec.settings or {})
        kind.config.model_validate(settings)
        # A plugin is made only where it runs: what it raises then must not be able to end the run.
        self.reward = kind.make(settings) if kind.builtin else None
        self._asynchronous = kind.per_sample and inspect.iscoroutinefunction(kind.target)
        self._pool: KillablePool | None = None
        if not kind.builtin:
            timeout = spec.timeout_seconds * (_ASYNC_GRACE if self._asynchronous else 1)
            self._pool = KillablePool(
                f"reward {name}",
                spec.workers,
                timeout,
                initialize,
                (spec.type, settings, list(sys.path)),
            )

    def is_on(self, iteration: int) -> bool:
        return iteration >= self.spec.start and self.spec.weight != 0

    def submit(self, batch: RewardBatch) -> list[Task]:
        """One task for each sample of a plain function, else one for the batch."""
        assert self._pool is not None
        if not batch.samples:
            return []
        if self._asynchronous:
            timeout = self.spec.timeout_seconds
            return [self._pool.submit(grade_samples, batch.samples, timeout)]
        if self.kind.per_sample:
            return [self._pool.submit(grade_sample, sample) for sample in batch.samples]
        return [self._pool.submit(grade_batch, batch)]

    def collect(self, tasks: list[Task], batch: RewardBatch) -> list[float | Verdict | Crash]:
        values: list[float | Verdict | Crash] = []
        for task in tasks:
            result = task.result()
            if isinstance(result, Failure):
                missing = 1 if len(tasks) > 1 else len(batch.samples)
                result = [Crash(result.reason, result.timed_out)] * missing
            values += result
        return values

    def close(self) -> None:
        if self._pool is not None:
            self._pool.close()


def _failed(name: str, value: float | Verdict | Crash) -> tuple[Outcome, str] | None:
    if isinstance(value, Crash):
        outcome = Outcome.TIMEOUT if value.timed_out else Outcome.INVALID
        return outcome, f"reward {name}: {value.reason}"
    if isinstance(value, Verdict) and not value.gradable:
        return value.outcome, f"reward {name}: {value.reason or value.outcome.value}"
    return None


def _number(value: float | Verdict | Crash) -> float:
    if isinstance(value, Verdict):
        return value.reward if value.parts else value.accuracy
    assert not isinstance(value, Crash)
    return value
