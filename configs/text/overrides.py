"""`key=value` overrides of a config's tree, and where each of its fields was set."""

from __future__ import annotations

import typing
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from ..errors import ConfigError
from . import yaml_text
from .suggestions import models_in

_OVERRIDE = "override "


@dataclass(slots=True)
class Origins:
    """Where each dotted field was set ("demo.yaml:12" or "override rollout.workers=0"), and the
    words behind values that were read as something else than text."""

    file: str
    fields: dict[str, str]
    words: dict[yaml_text.Path, str]

    def of(self, field: str) -> str:
        """The place of a field, or of the closest parent that was written down."""
        while field and field not in self.fields:
            # An override opens sections that have no line of their own.
            for inner, place in self.fields.items():
                if inner.startswith(f"{field}."):
                    return place
            field = field.rpartition(".")[0]
        return self.fields.get(field, self.file)

    def override(self, path: yaml_text.Path, place: str, words: dict[yaml_text.Path, str]) -> None:
        """Whatever was written at the field, and below it, is gone."""
        self.forget(path)
        self.fields[_dotted(path)] = place
        self.words |= {(*path, *inner): word for inner, word in words.items()}

    def forget(self, path: yaml_text.Path) -> None:
        field = _dotted(path)
        for inner in [one for one in self.fields if f"{one}.".startswith(f"{field}.")]:
            del self.fields[inner]
        self.words = {p: word for p, word in self.words.items() if p[: len(path)] != path}

    def make_item(self, path: yaml_text.Path) -> None:
        """What was at a field is the first item of a list there from now on."""
        field, size = _dotted(path), len(path)
        self.fields = {
            f"{field}.0{one.removeprefix(field)}" if one.startswith(f"{field}.") else one: place
            for one, place in self.fields.items()
        }
        self.words = {
            (*p[:size], 0, *p[size:]) if p[:size] == path else p: word
            for p, word in self.words.items()
        }


def apply_override(
    tree: dict[str, Any],
    override: str,
    origins: Origins,
    model: type[BaseModel],
    note: Callable[[str], None],
) -> None:
    """Set one dotted field in place, such as `rollout.workers=2` or `rewards.0.weight=2`.

    Sections that are absent or null are opened, lists that are absent begin as their default, and
    the number after a list's last adds an item. Another `name` of an objective or `type` of a
    reward drops the settings of the former, which `note` is told. Raises ConfigError.
    """
    place = f"{_OVERRIDE}{override}"
    field, equals, text = override.partition("=")
    keys = field.strip().split(".")
    if not equals or not all(keys):
        raise ConfigError(f"{place}: write it as key=value, such as rollout.workers=2")
    try:
        document = yaml_text.read(text)
    except yaml_text.YAMLProblem:
        raise ConfigError(f"{place}: the value is not valid YAML; quote it?") from None
    holder: Any = tree
    path: yaml_text.Path = ()
    key: str | int = keys[0]
    for section, following in zip(keys, [*keys[1:], ""], strict=True):
        key = _key(holder, section, path, place)
        path = (*path, key)
        if not following:
            break
        inner = holder[key]
        if inner is None:
            inner = _begun(model, path, following.isdecimal())
        elif isinstance(inner, dict) and following.isdecimal() and _may_be_list(model, path):
            inner = [inner]
            origins.make_item(path)
        if not isinstance(inner, dict | list):
            raise ConfigError(f"{place}: {_dotted(path)} is a value, not a section")
        holder[key] = inner
        holder = inner
    if isinstance(holder, dict):
        _drop_settings_of_former(holder, path, document.tree, origins, model, note, place)
    holder[key] = document.tree
    origins.override(path, place, document.words)


def _key(holder: Any, section: str, path: yaml_text.Path, place: str) -> str | int:
    """Of a section or a list, where it exists afterwards. Raises ConfigError."""
    if isinstance(holder, dict):
        holder.setdefault(section, None)
        return section
    size, name = len(holder), _dotted(path)
    if not section.isdecimal():
        raise ConfigError(
            f"{place}: {name} is a list; write {name}.0.{section}=… for its first item, or give "
            f"all of it: {name}='[…, …]'"
        )
    if int(section) > size:
        raise ConfigError(
            f"{place}: {name} has {size} item{'' if size == 1 else 's'}, counted from 0; "
            f"{name}.{size} adds one"
        )
    if int(section) == size:
        holder.append(None)
    return int(section)


def _drop_settings_of_former(
    holder: dict[str, Any],
    path: yaml_text.Path,
    value: Any,
    origins: Origins,
    model: type[BaseModel],
    note: Callable[[str], None],
    place: str,
) -> None:
    """Settings that were given by an override are meant for the new one and stay."""
    section, leaf = path[:-1], str(path[-1])
    for kind in _models_at(model, section):
        if kind.model_config.get("extra") != "allow" or leaf != next(iter(kind.model_fields)):
            continue
        before = holder[leaf] or kind.model_fields[leaf].default
        if before == value:
            continue
        former = [
            key
            for key in holder
            if key not in kind.model_fields
            and not origins.of(_dotted((*section, key))).startswith(_OVERRIDE)
        ]
        for key in former:
            del holder[key]
            origins.forget((*section, key))
        if former:
            note(f"{place}: leaves out {', '.join(former)} of {before}")


def _begun(model: type[BaseModel], path: yaml_text.Path, item: bool) -> Any:
    """A list with its default items where an item is meant or the field is nothing else; else a
    section."""
    infos = _infos_at(model, path)
    if not item and not any(typing.get_origin(info.annotation) is tuple for info in infos):
        return {}
    for info in infos:
        default = info.get_default(call_default_factory=True)
        if isinstance(default, tuple):
            return [
                one.model_dump(mode="json", exclude_unset=True)
                if isinstance(one, BaseModel)
                else one
                for one in default
            ]
    return [] if _may_be_list(model, path) else {}


def _may_be_list(model: type[BaseModel], path: yaml_text.Path) -> bool:
    return any(_names_list(info.annotation) for info in _infos_at(model, path))


def _names_list(annotation: Any) -> bool:
    parts = typing.get_args(annotation)
    return typing.get_origin(annotation) is tuple or any(_names_list(part) for part in parts)


def _infos_at(model: type[BaseModel], path: yaml_text.Path) -> list[FieldInfo]:
    """Of a field in every model that it may belong to; none for an item of a list."""
    name = path[-1]
    holders = _models_at(model, path[:-1])
    return [kind.model_fields[name] for kind in holders if name in kind.model_fields]


def _models_at(model: type[BaseModel], path: yaml_text.Path) -> tuple[type[BaseModel], ...]:
    """Those that may stand at a path; the items of a list have the models of the list."""
    found: tuple[type[BaseModel], ...] = (model,)
    for key in path:
        if not isinstance(key, int):
            infos = [info for kind in found if (info := kind.model_fields.get(key)) is not None]
            found = tuple(one for info in infos for one in models_in(info.annotation))
    return found


def _dotted(path: yaml_text.Path) -> str:
    return ".".join(map(str, path))
