"""What runs in the processes of a plugin reward: its code may hang, crash or print there."""

from __future__ import annotations

import asyncio
import inspect
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any

from .registry import RewardType, find
from .types import RewardBatch, Sample, Verdict


@dataclass(frozen=True, slots=True)
class Crash:
    """What a plugin did instead of giving a value, in one line."""

    reason: str
    timed_out: bool = False


_reward_type: RewardType | None = None
_reward: Any = None
_failure: str = ""


def initialize(name: str, settings: Mapping[str, Any], paths: list[str]) -> None:
    """Load the plugin, off the clock of its first call; a failure is kept for the calls."""
    global _reward_type, _reward, _failure
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, args=(os.getppid(),), daemon=True).start()
    os.dup2(2, 1)  # a plugin's prints must not mix with the command's output
    sys.path[:] = paths
    try:
        _reward_type = find(name)
        _reward = _reward_type.make(settings)
    except BaseException as error:
        _failure = f"cannot be loaded: {_describe(error)}"


def _end_with_parent(parent: int) -> None:
    """A worker that hangs in a plugin must not outlive a driver that was killed."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def grade_batch(batch: RewardBatch) -> list[float | Verdict | Crash]:
    """One result for each sample of a batch reward. Never raises."""
    crash, values = _call(_reward.grade if _reward is not None else None, batch)
    if crash is not None:
        return [crash] * len(batch.samples)
    try:
        values = list(values)
    except TypeError:
        return [Crash(f"returned {type(values).__name__}, not a list")] * len(batch.samples)
    if len(values) != len(batch.samples):
        message = f"returned {len(values)} values for {len(batch.samples)} samples"
        return [Crash(message)] * len(batch.samples)
    return [_checked(value) for value in values]


def grade_sample(sample: Sample) -> list[float | Verdict | Crash]:
    """The result of a per-sample function, as a list of one. Never raises."""
    crash, value = _call(_reward, sample)
    return [_checked(value) if crash is None else crash]


def grade_samples(
    samples: tuple[Sample, ...], timeout_seconds: float
) -> list[float | Verdict | Crash]:
    """The results of an async per-sample function, all at once, each with its own clock."""
    if _reward is None:
        return [Crash(_failure)] * len(samples)

    async def one(sample: Sample) -> float | Verdict | Crash:
        try:
            return _checked(await asyncio.wait_for(_reward(sample), timeout_seconds))
        except TimeoutError:
            return Crash(f"took more than {timeout_seconds:g} s", timed_out=True)
        except Exception as error:
            return Crash(_describe(error))

    async def everything() -> list[float | Verdict | Crash]:
        return await asyncio.gather(*map(one, samples))

    return asyncio.run(everything())


def _call(function: Any, argument: Any) -> tuple[Crash | None, Any]:
    if function is None:
        return Crash(_failure), None
    try:
        value = function(argument)
        if inspect.isawaitable(value):
            value = asyncio.run(_awaited(value))
    except Exception as error:
        return Crash(_describe(error)), None
    return None, value


async def _awaited(value: Any) -> Any:
    return await value


def _checked(value: Any) -> float | Verdict | Crash:
    if isinstance(value, Verdict):
        return value
    if isinstance(value, int | float) and isfinite(value):
        return float(value)
    return Crash(f"returned {value!r:.60}, not a finite number or a Verdict")


def _describe(error: BaseException) -> str:
    """The error and the last line of the plugin's own code that raised it."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f" ({os.path.basename(frames[-1].filename)}:{frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {error}"[:200] + where
