"""What runs in the process of a plugin reward: its code may hang, crash or print there."""

from __future__ import annotations

import asyncio
import inspect
import os
import resource
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from pydantic import ValidationError

from ...configs.base import setting_names, settings_error
from ..types import RewardBatch, Sample
from .registry import BrokenReward, RewardType, UnknownReward, find
from .returned import Crash, Value, checked, checked_batch, described


@dataclass(frozen=True, slots=True)
class LoadRequest:
    """The plugin to load, and whether to make it or only to check its settings, if any."""

    type: str
    settings: Mapping[str, Any] | None
    import_from: str | None = None
    make: bool = True


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a plugin is, in plain words."""

    per_sample: bool
    asynchronous: bool
    settings: tuple[str, ...]
    description: str


@dataclass(frozen=True, slots=True)
class NotLoaded:
    """Why a plugin is not there.

    unknown     no such plugin, or nothing that could be one: another try ends as this one
    problems    (setting, what is wrong with it), if its settings do not fit
    """

    reason: str
    unknown: bool = False
    problems: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Answer:
    """The results of a call, and whether the process ends after it."""

    results: list[Value | Crash]
    ends: bool = False


def serve(connection: Connection, memory_bytes: int) -> None:
    """Load one plugin, answer with a `Loaded` or a `NotLoaded`, then answer calls with `Answer`s.

    A call is (function of this module, its arguments after the reward). Returns once the
    connection ends.
    """
    request: LoadRequest = connection.recv()
    # RLIMIT_DATA counts what is written to. Address space (RLIMIT_AS) would forbid CUDA and
    # memory-mapped files, which reserve far more than they use. Every child has the same limit.
    resource.setrlimit(resource.RLIMIT_DATA, (memory_bytes, memory_bytes))
    own = os.getpid()
    found, reward = load(request)
    connection.send(found)
    while isinstance(found, Loaded):
        try:
            function, arguments = connection.recv()
        except EOFError:
            return
        answer = _answer(function, reward, arguments)
        if os.getpid() != own:
            os._exit(0)  # a child that the plugin forked and that came back from the call
        connection.send(answer)
        if answer.ends:
            return


def load(request: LoadRequest) -> tuple[Loaded | NotLoaded, Any]:
    """What the plugin is, and itself if it is there; never raises, whatever its code does."""
    try:
        kind = find(request.type, request.import_from)
        if request.settings is not None:
            kind.config.model_validate(dict(request.settings))
    except ValidationError as error:
        problems = settings_error(error, kind.name, kind.config).problems
        return NotLoaded("its settings do not fit", problems=tuple(problems)), None
    except BrokenReward as error:
        return NotLoaded(str(error)), None
    except UnknownReward as error:
        return NotLoaded(str(error), unknown=True), None
    except BaseException as error:  # a validator of its config
        return NotLoaded(f"reward {request.type}: cannot be loaded: {_where(error)}"), None
    reward = None
    if request.make:
        try:
            reward = kind.make(request.settings or {})
        except BaseException as error:
            return NotLoaded(f"reward {request.type}: cannot be loaded: {_where(error)}"), None
    return _loaded(kind), reward


def _loaded(kind: RewardType) -> Loaded:
    settings = [
        name if field.is_required() else f"{name}={field.default!r}"
        for name, field in setting_names(kind.config).items()
    ]
    if kind.takes_any_setting:
        settings.append("**")
    return Loaded(kind.per_sample, kind.asynchronous, tuple(settings), kind.description)


def _answer(function: Callable[..., Any], reward: Any, arguments: tuple[Any, ...]) -> Answer:
    results: list[Value | Crash]
    try:
        results = function(reward, *arguments)
    except BaseException as error:  # an async plugin that ended the event loop
        results = [_crash(error)] * len(arguments[0])
    # What a plugin that ran out of memory still holds would make all later calls fail.
    ends = any(isinstance(one, Crash) and one.reason.startswith("MemoryError") for one in results)
    return Answer(results, ends)


def grade_batch(reward: Any, samples: tuple[Sample, ...], iteration: int) -> list[Value | Crash]:
    """One result for each sample of a batch reward."""
    try:
        values = _now(reward.grade(RewardBatch(samples, iteration)))
    except BaseException as error:
        return [_crash(error)] * len(samples)
    return checked_batch(values, len(samples))


def grade_each(reward: Any, samples: tuple[Sample, ...]) -> list[Value | Crash]:
    """The results of a per-sample function, one after the other."""
    results: list[Value | Crash] = []
    for sample in samples:
        try:
            results.append(checked(_now(reward(sample))))
        except BaseException as error:
            results.append(_crash(error))
    return results


def grade_together(
    reward: Any, samples: tuple[Sample, ...], timeout_seconds: float
) -> list[Value | Crash]:
    """The results of an async per-sample function, all at once, each with its own clock."""

    async def one(sample: Sample) -> Value | Crash:
        clock = asyncio.timeout(timeout_seconds)
        try:
            async with clock:
                return checked(await reward(sample))
        except BaseException as error:
            if clock.expired():
                return Crash(f"took more than {timeout_seconds:g} s", timed_out=True)
            return _crash(error)

    async def everything() -> list[Value | Crash]:
        return await asyncio.gather(*map(one, samples))

    return asyncio.run(everything())


def _now(value: Any) -> Any:
    """A value, awaited if it has to be."""
    if not inspect.isawaitable(value):
        return value

    async def awaited() -> Any:
        return await value

    return asyncio.run(awaited())


def _crash(error: BaseException) -> Crash:
    return Crash(_where(error))


def _where(error: BaseException) -> str:
    """The error and the last line of the plugin's own code that raised it."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f" ({os.path.basename(frames[-1].filename)}:{frames[-1].lineno})" if frames else ""
    return described(error) + where
