"""From the name in a config to a reward: built in, an entry point, a module or a file.

A plugin's code may do anything while it is imported, so only its own processes use `find`
(and the tests of whoever writes one); a run asks `plugin_process.describe`.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, Protocol

from pydantic import BaseModel

from ...configs.base import StrictModel
from ...configs.plugin_paths import find_file, how_to_import, is_file_name, split_name
from ..builtin import BUILTIN
from ..types import RewardBatch
from .returned import Value, described
from .signatures import UnusableSignature, function_of

GROUP = "kvl.rewards"


class Reward(Protocol):
    """A reward object: one value or verdict for each sample of the batch, in its order."""

    def grade(self, batch: RewardBatch) -> Sequence[Value] | Awaitable[Sequence[Value]]: ...


class UnknownReward(ValueError):
    """The name leads to no usable reward; the message says why and what is known."""


class BrokenReward(UnknownReward):
    """The name leads to a plugin whose import fails, which another import may not."""


@dataclass(frozen=True, slots=True)
class RewardType:
    """What a name stands for.

    Example: `find("length")` is built in, has the config `Length.Config`, and `make(settings)`
    gives an object with `grade`. `per_sample` rewards are made into a function of one sample
    instead; the calls of `asynchronous` ones can be awaited together.
    """

    name: str
    target: Any
    config: type[BaseModel]
    builtin: bool
    per_sample: bool
    asynchronous: bool = False

    @property
    def description(self) -> str:
        return (inspect.getdoc(self.target) or "").partition("\n")[0]

    @property
    def takes_any_setting(self) -> bool:
        """Whether settings that nobody declared reach it, through its `**kwargs`."""
        return not inspect.isclass(self.target) and self.config.model_config.get("extra") == "allow"

    def make(self, settings: Mapping[str, Any]) -> Any:
        """The reward object, or for a per-sample reward the function with its settings bound.

        Raises pydantic's `ValidationError` if the settings do not fit, and whatever the plugin's
        constructor raises.
        """
        config = self.config.model_validate(dict(settings))
        if inspect.isclass(self.target):
            make: Any = self.target
            return make(config)
        if _grades(self.target):
            return self.target
        return function_of(self.target).make(config)


def find(name: str, import_from: str | Path | None = None) -> RewardType:
    """The reward of that name, imported into this process.

    `import_from` is a folder to import its module from if no installed one has that name; a file
    may import its neighbours. Raises `UnknownReward`, `BrokenReward` for an import that fails.
    """
    if name in BUILTIN:
        return _reward_type(name, BUILTIN[name], builtin=True)
    if ":" in name:
        return _reward_type(name, _imported(name, import_from), builtin=False)
    installed = {point.name: point for point in plugins()}
    if name not in installed:
        known = ", ".join([*BUILTIN, *sorted(installed)])
        raise UnknownReward(
            f"no reward {name!r}: known are {known}; another one is written as "
            "package.module:Name or ./file.py:Name"
        )
    point = installed[name]
    try:
        target = point.load()
    except BaseException as error:
        where = f"reward {point.name} of {point.value}"
        raise BrokenReward(f"{where}: cannot be imported ({described(error)})") from error
    return _reward_type(name, target, builtin=False)


def plugins() -> list[EntryPoint]:
    """The installed entry points of the group `kvl.rewards`, by name."""
    return sorted(entry_points(group=GROUP), key=lambda point: point.name)


def _imported(name: str, import_from: str | Path | None) -> Any:
    try:
        module_name, attribute = split_name(name)
    except ValueError as error:
        raise UnknownReward(f"reward {error}") from None
    try:
        if is_file_name(module_name):
            file = find_file(module_name)
            if file is None:
                raise UnknownReward(f"reward {name}: no file {Path(module_name).absolute()}")
            target = _module_of_file(file)
        else:
            if import_from is not None:
                _add_last(Path(import_from))
            target = importlib.import_module(module_name)
    except UnknownReward:
        raise
    except ModuleNotFoundError as error:
        # Not a module that the plugin itself lacks.
        missing = error.name or ""
        if module_name == missing or module_name.startswith(f"{missing}."):
            raise UnknownReward(
                f"reward {name}: cannot be imported ({described(error)}); "
                f"{how_to_import(module_name, attribute)}"
            ) from error
        raise BrokenReward(f"reward {name}: cannot be imported ({described(error)})") from error
    except BaseException as error:
        raise BrokenReward(f"reward {name}: cannot be imported ({described(error)})") from error
    try:
        for part in attribute.split("."):
            target = getattr(target, part)
    except AttributeError as error:
        where = getattr(sys.modules.get(module_name), "__file__", None) or module_name
        raise UnknownReward(
            f"reward {name}: cannot be imported ({described(error)}) from {where}"
        ) from error
    return target


def _module_of_file(file: Path) -> Any:
    """The module of a plain file, under a name that no other module has."""
    name = f"kvl_plugin_{file.stem}_{hashlib.sha256(str(file).encode()).hexdigest()[:8]}"
    if name in sys.modules:
        return sys.modules[name]
    _add_last(file.parent)
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise UnknownReward(f"{file}: is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickle look themselves up there
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _add_last(folder: Path) -> None:
    """Let modules be imported from a folder that shadows nothing that is installed."""
    if str(folder) not in sys.path:
        sys.path.append(str(folder))


def _reward_type(name: str, target: Any, builtin: bool) -> RewardType:
    if _grades(target):
        config = getattr(target, "Config", StrictModel) if inspect.isclass(target) else StrictModel
        if not (inspect.isclass(config) and issubclass(config, BaseModel)):
            raise UnknownReward(f"reward {name}: its Config must be a pydantic model")
        return RewardType(name, target, config, builtin, per_sample=False)
    if inspect.isclass(target) or not callable(target):
        what = "a class without one" if inspect.isclass(target) else type(target).__name__
        raise UnknownReward(
            f"reward {name}: must be a class with grade(batch) or a function of one sample, "
            f"is {what}"
        )
    try:
        function = function_of(target)
    except UnusableSignature as error:
        raise UnknownReward(f"reward {name}: {error}") from None
    return RewardType(
        name, target, function.config, builtin, function.per_sample, function.asynchronous
    )


def _grades(target: Any) -> bool:
    """Whether it is a class, or an object, of the kind that sees a batch."""
    return callable(getattr(target, "grade", None))
