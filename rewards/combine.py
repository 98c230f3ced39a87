"""From graded samples to rewards: every configured reward, weighted, as parts of the verdict."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Self

from ..configs.base import SettingsError
from .builtin import BUILTIN
from .plugins.plugin_pool import PluginPool
from .plugins.plugin_process import MEMORY_GIB
from .plugins.plugin_worker import (
    LoadRequest,
    NotLoaded,
    grade_batch,
    grade_each,
    grade_together,
)
from .plugins.registry import UnknownReward, find
from .plugins.returned import Crash, Value, contribution
from .types import Outcome, RewardBatch, Sample, Verdict

Combination = Literal["sum", "gated"]

# An async function has its own clock for each sample; the call's kills one that blocks the loop.
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
    memory_gib: float = MEMORY_GIB
    import_from: Path | None = None

    @property
    def label(self) -> str:
        """What metrics and reasons call it: of a file, the name without its folders."""
        file, colon, attribute = self.type.rpartition(":")
        return f"{Path(file).name}{colon}{attribute}" if colon else self.type


class Rewards:
    """All rewards of a run. A context manager: plugins run in processes of their own.

    Example:
        with Rewards([RewardSpec("accuracy"), RewardSpec("length", 0.2, start=40)]) as rewards:
            (verdicts,) = rewards.score([RewardBatch(samples, iteration=0)])
            verdicts[0].parts  # {"accuracy": 1.0}

    `combination` "gated" gives the other parts to correct responses only. Every plugin is loaded
    once, to learn what it is. Raises `UnknownReward` for a name that leads nowhere, `SettingsError`
    (or pydantic's `ValidationError`, built in) for settings that do not fit. A plugin that fails
    while it is imported or made raises nothing: it costs the samples that it should have graded.
    """

    def __init__(self, specs: Sequence[RewardSpec], combination: Combination = "sum") -> None:
        self._combination = combination
        self._entries: list[_BuiltIn | _Plugin] = []
        names: dict[str, int] = {}
        try:
            for spec in specs:
                label = spec.label
                names[label] = names.get(label, 0) + 1
                name = label if names[label] == 1 else f"{label}#{names[label]}"
                kind = _BuiltIn if spec.type in BUILTIN else _Plugin
                self._entries.append(kind(name, spec))
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        for entry in self._entries:
            entry.close()

    def score(self, batches: Sequence[RewardBatch]) -> list[list[Verdict]]:
        """The samples' verdicts with their weighted parts, batch by batch, in order.

        A sample whose plugin crashed, ran late or returned no reward is INVALID or TIMEOUT, with
        the plugin's name in its reason. Rewards that compare the samples of a batch do not see it.
        """
        plugins = [entry for entry in self._entries if isinstance(entry, _Plugin)]
        pending = [
            [(entry, entry.submit(batch)) for entry in plugins if entry.is_on(batch.iteration)]
            for batch in batches
        ]
        return [
            self._score(batch, [(entry, _collected(calls)) for entry, calls in running])
            for batch, running in zip(batches, pending, strict=True)
        ]

    def state_dict(self) -> dict[str, Any]:
        """What rewards remember between iterations (Toggle's budgets), by name."""
        return {
            entry.name: entry.reward.state_dict()
            for entry in self._entries
            if isinstance(entry, _BuiltIn) and hasattr(entry.reward, "state_dict")
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        for entry in self._entries:
            if isinstance(entry, _BuiltIn) and entry.name in state:
                entry.reward.load_state_dict(state[entry.name])

    def _score(
        self, batch: RewardBatch, graded: list[tuple[_Plugin, list[Value | Crash]]]
    ) -> list[Verdict]:
        verdicts = [sample.verdict for sample in batch.samples]
        parts: list[dict[str, float]] = [{} for _ in verdicts]
        for entry, values in graded:
            for index, value in enumerate(values):
                failed = _failed(entry.name, value)
                if failed is not None:
                    outcome, reason = failed
                    verdicts[index] = replace(verdicts[index], outcome=outcome, reason=reason)
                elif not isinstance(value, Crash):
                    parts[index][entry.name] = entry.spec.weight * contribution(value)
        kept = [index for index, verdict in enumerate(verdicts) if verdict.gradable]
        left = RewardBatch(tuple(batch.samples[index] for index in kept), batch.iteration)
        for entry in self._entries:
            if isinstance(entry, _BuiltIn) and entry.is_on(batch.iteration) and kept:
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


@dataclass(frozen=True, slots=True)
class _Call:
    """Some of a batch's samples on their way through a plugin."""

    size: int
    future: Future[list[Value | Crash] | Crash]


class _Entry:
    """A configured reward."""

    def __init__(self, name: str, spec: RewardSpec) -> None:
        self.name = name
        self.spec = spec

    def is_on(self, iteration: int) -> bool:
        return iteration >= self.spec.start and self.spec.weight != 0

    def close(self) -> None:
        pass


class _BuiltIn(_Entry):
    """A reward object in this process."""

    def __init__(self, name: str, spec: RewardSpec) -> None:
        super().__init__(name, spec)
        self.reward = find(spec.type).make(spec.settings or {})


class _Plugin(_Entry):
    """Processes that hold a plugin: no code of it runs in this one."""

    def __init__(self, name: str, spec: RewardSpec) -> None:
        super().__init__(name, spec)
        import_from = None if spec.import_from is None else str(spec.import_from)
        request = LoadRequest(spec.type, dict(spec.settings or {}), import_from)
        self._pool = PluginPool(request, spec.workers, spec.timeout_seconds, spec.memory_gib)
        loaded = self._pool.load()
        if isinstance(loaded, NotLoaded) and (loaded.unknown or loaded.problems):
            self._pool.close()
            if loaded.problems:
                raise SettingsError(loaded.problems)
            raise UnknownReward(loaded.reason)

    def submit(self, batch: RewardBatch) -> list[_Call]:
        """One call for each sample of a plain function, else one for the batch."""
        samples, timeout = batch.samples, self.spec.timeout_seconds
        if not samples:
            return []
        loaded = self._pool.load()
        size = len(samples)
        if isinstance(loaded, NotLoaded):
            failed: Future[list[Value | Crash] | Crash] = Future()
            failed.set_result(Crash(loaded.reason.removeprefix(f"reward {self.spec.type}: ")))
            return [_Call(size, failed)]
        if loaded.asynchronous:
            limit = timeout * _ASYNC_GRACE
            return [_Call(size, self._pool.submit(limit, grade_together, samples, timeout))]
        if loaded.per_sample:
            return [_Call(1, self._pool.submit(timeout, grade_each, (one,))) for one in samples]
        call = self._pool.submit(timeout, grade_batch, samples, batch.iteration)
        return [_Call(size, call)]

    def close(self) -> None:
        self._pool.close()


def _collected(calls: Sequence[_Call]) -> list[Value | Crash]:
    """The results of all samples of a batch, in order."""
    values: list[Value | Crash] = []
    for call in calls:
        results = call.future.result()
        values += [results] * call.size if isinstance(results, Crash) else results
    return values


def _failed(name: str, value: Value | Crash) -> tuple[Outcome, str] | None:
    if isinstance(value, Crash):
        outcome = Outcome.TIMEOUT if value.timed_out else Outcome.INVALID
        return outcome, f"reward {name}: {value.reason}"
    if isinstance(value, Verdict) and not value.gradable:
        return value.outcome, f"reward {name}: {value.reason or value.outcome.value}"
    return None
