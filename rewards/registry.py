"""From the name in a config to a reward: built in, an entry point, or an import path."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Protocol

from pydantic import BaseModel, ConfigDict, create_model

from ..configs.base import StrictModel
from .builtin import BUILTIN
from .types import RewardBatch, Sample, Verdict

GROUP = "kvl.rewards"

Value = float | Verdict


class Reward(Protocol):
    """A reward object: one value or verdict for each sample of the batch, in its order."""

    def grade(self, batch: RewardBatch) -> Sequence[Value] | Awaitable[Sequence[Value]]: ...


class UnknownReward(ValueError):
    """The name leads to no usable reward; the message says why and what is known."""


@dataclass(frozen=True, slots=True)
class RewardType:
    """What a name stands for.

    Example: `find("length")` is built in, has the config `Length.Config`, and `make(settings)`
    gives an object with `grade`. `per_sample` functions are wrapped into one by the runner.
    """

    name: str
    target: Any
    config: type[BaseModel]
    builtin: bool
    per_sample: bool

    @property
    def description(self) -> str:
        return (inspect.getdoc(self.target) or "").partition("\n")[0]

    def make(self, settings: Mapping[str, Any]) -> Any:
        """The reward object, or for a per-sample reward the function with its settings bound.

        Raises pydantic's `ValidationError` if the settings do not fit.
        """
        config = self.config.model_validate(dict(settings))
        if not self.per_sample:
            return self.target(config)
        bound = {name: getattr(config, name) for name in type(config).model_fields}
        return _Bound(self.target, bound)


@dataclass(frozen=True, slots=True)
class _Bound:
    """A per-sample function with its settings."""

    function: Callable[..., Value | Awaitable[Value]]
    settings: dict[str, Any]

    def __call__(self, sample: Sample) -> Value | Awaitable[Value]:
        return self.function(sample, **self.settings)


def find(name: str) -> RewardType:
    """The reward of that name. Raises `UnknownReward`."""
    if name in BUILTIN:
        return _reward_type(name, BUILTIN[name], builtin=True)
    if ":" in name:
        return _reward_type(name, _imported(name), builtin=False)
    installed = {point.name: point for point in plugins()}
    if name not in installed:
        known = ", ".join([*BUILTIN, *sorted(installed)])
        raise UnknownReward(
            f"no reward {name!r}: known are {known}; another one is written as package.module:Name"
        )
    return _reward_type(name, _loaded(installed[name]), builtin=False)


def plugins() -> list[EntryPoint]:
    """The installed entry points of the group `kvl.rewards`, by name."""
    return sorted(entry_points(group=GROUP), key=lambda point: point.name)


def _imported(path: str) -> Any:
    module_name, _, attribute = path.partition(":")
    try:
        target: Any = importlib.import_module(module_name)
        for part in attribute.split("."):
            target = getattr(target, part)
    except Exception as error:
        raise UnknownReward(f"reward {path}: cannot be imported ({_short(error)})") from error
    return target


def _loaded(point: EntryPoint) -> Any:
    try:
        return point.load()
    except Exception as error:
        raise UnknownReward(
            f"reward {point.name} of {point.value}: cannot be imported ({_short(error)})"
        ) from error


def _short(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _reward_type(name: str, target: Any, builtin: bool) -> RewardType:
    if inspect.isclass(target) and callable(getattr(target, "grade", None)):
        config = getattr(target, "Config", StrictModel)
        if not (inspect.isclass(config) and issubclass(config, BaseModel)):
            raise UnknownReward(f"reward {name}: its Config must be a pydantic model")
        return RewardType(name, target, config, builtin, per_sample=False)
    if inspect.isfunction(target):
        return RewardType(name, target, _config_of(name, target), builtin, per_sample=True)
    raise UnknownReward(
        f"reward {name}: must be a class with grade(batch) or a function of one sample, "
        f"is {type(target).__name__}"
    )


def _config_of(name: str, function: Callable[..., Any]) -> type[BaseModel]:
    """The settings of a per-sample function: its parameters after the sample."""
    parameters = list(inspect.signature(function, eval_str=True).parameters.values())
    if not parameters:
        raise UnknownReward(f"reward {name}: its first parameter must be the sample")
    fields: dict[str, Any] = {
        parameter.name: (
            Any if parameter.annotation is parameter.empty else parameter.annotation,
            ... if parameter.default is parameter.empty else parameter.default,
        )
        for parameter in parameters[1:]
    }
    strict = ConfigDict(extra="forbid", frozen=True, validate_default=True)
    return create_model(f"{function.__name__}_settings", __config__=strict, **fields)
