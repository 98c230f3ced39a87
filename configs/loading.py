"""YAML files and `key=value` overrides in, one validated config tree out, and back to YAML.

* Relative paths in a config are relative to the current directory, `~/` is the home folder.
* A reward's file or module is looked for beside the config, then in the current directory.
* `${NAME}` and `${NAME:-default}` inside a string are environment variables.
* A config name that is no file is looked up among the presets: `rl/demo`.
"""

from __future__ import annotations

import difflib
import os
import re
import types
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from .base import SettingsError
from .errors import ConfigError
from .files import write_atomically

Model = TypeVar("Model", bound=BaseModel)

PRESETS = Path(__file__).resolve().parent
_VARIABLE = re.compile(r"\$\{(\w+)(?::-([^}]*))?\}")


@dataclass(slots=True)
class _Origins:
    """Where each dotted field was set: "demo.yaml:12" or "override rollout.workers=0"."""

    file: str
    fields: dict[str, str]

    def of(self, field: str) -> str:
        """The place of a field, or of the closest parent that was written down."""
        while field and field not in self.fields:
            # An override opens sections that have no line of their own.
            for inner, place in self.fields.items():
                if inner.startswith(f"{field}."):
                    return place
            field = field.rpartition(".")[0]
        return self.fields.get(field, self.file)

    def override(self, field: str, place: str) -> None:
        """Whatever was written at the field, and below it, is gone."""
        below = [inner for inner in self.fields if inner.startswith(f"{field}.")]
        for inner in below:
            del self.fields[inner]
        self.fields[field] = place


def load_config(
    path: str | Path,
    model: type[Model],
    overrides: Sequence[str] = (),
    context: Mapping[str, Any] | None = None,
) -> Model:
    """Read a YAML file or preset, apply dotted overrides such as `rollout.workers=2`, validate.

    `context` reaches the validators, with the config's folder: `rl/config.py` hands over how other
    rooms check their parts. Raises `ConfigError` with one line per problem.
    """
    file = find_config(path)
    tree, origins = _read_yaml(file)
    for override in overrides:
        _apply_override(tree, override, origins)
    tree = _expand(tree, "", origins)
    try:
        return model.model_validate(tree, context={"config_folder": file.parent, **(context or {})})
    except ValidationError as error:
        problems = [_describe(details, model, origins) for details in error.errors()]
        raise ConfigError("\n".join(problems)) from None


def save_config(config: BaseModel, path: str | Path) -> None:
    """Write the whole resolved tree as YAML that loads back equal; never leaves half a file."""
    write_atomically(Path(path), dump_config(config))


def dump_config(config: BaseModel) -> str:
    """The whole resolved tree as YAML, in the order of the schema."""
    tree = config.model_dump(mode="json")
    return yaml.dump(
        tree, Dumper=_Dumper, sort_keys=False, allow_unicode=True, default_flow_style=False
    )


class _Dumper(yaml.SafeDumper):
    """PyYAML writes Unicode's own line breaks as they are and reads them back as spaces or line
    ends; between double quotes it escapes them."""


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = '"' if any(line_break in text for line_break in "\x85\u2028\u2029") else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _represent_text)


def find_config(path: str | Path) -> Path:
    """The file of that path, else the preset of that name, with or without folder and suffix."""
    path = Path(path).expanduser()
    if path.is_file():
        return path
    name = Path(*path.parts[1:]) if path.parts[:1] == ("configs",) else path
    if not name.is_absolute() and ".." not in name.parts:
        for candidate in (PRESETS / name, PRESETS / f"{name}.yaml"):
            if candidate.is_file():
                return candidate
    if path.is_dir():
        raise ConfigError(f"{path}: is a folder, a config is a YAML file{_preset_hint(name)}")
    raise ConfigError(f"{path}: no such config file{_preset_hint(name)}")


def preset_names() -> list[str]:
    files = PRESETS.glob("*/*.yaml")
    return sorted(str(file.relative_to(PRESETS).with_suffix("")) for file in files)


def _preset_hint(name: Path) -> str:
    presets = preset_names()
    close = difflib.get_close_matches(str(name.with_suffix("")), presets, n=1)
    if close:
        return f"; did you mean the preset {close[0]}?"
    return f"; presets are {', '.join(presets)}" if presets else ""


def _read_yaml(file: Path) -> tuple[dict[str, Any], _Origins]:
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: cannot be read ({error})") from None
    try:
        root = yaml.compose(text, yaml.SafeLoader)
        tree = yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{file}:{mark.line + 1}" if mark else str(file)
        raise ConfigError(f"{where}: not valid YAML: {error.problem or error.context}") from None
    except (yaml.YAMLError, ValueError) as error:
        first_line = str(error).splitlines()[0]
        raise ConfigError(f"{file}: not valid YAML: {first_line}") from None
    if tree is None:
        tree = {}
    if not isinstance(tree, dict):
        raise ConfigError(
            f"{file}: holds a {type(tree).__name__}, a config is a mapping of `key: value` lines"
        )
    fields: dict[str, str] = {}
    for field, line in _lines(root, ""):
        place = f"{file}:{line}"
        if field in fields:
            raise ConfigError(f"{place}: {field} is set twice (first at {fields[field]})")
        fields[field] = place
    return tree, _Origins(str(file), fields)


def _lines(node: yaml.Node | None, prefix: str) -> Iterator[tuple[str, int]]:
    """Every dotted key below a YAML node with its 1-based line; items of lists by number."""
    if isinstance(node, yaml.SequenceNode):
        for number, item in enumerate(node.value):
            yield f"{prefix}{number}", item.start_mark.line + 1
            yield from _lines(item, f"{prefix}{number}.")
    if not isinstance(node, yaml.MappingNode):
        return
    for key, value in node.value:
        if not isinstance(key, yaml.ScalarNode):
            continue
        field = f"{prefix}{key.value}"
        yield field, key.start_mark.line + 1
        yield from _lines(value, f"{field}.")


def _apply_override(tree: dict[str, Any], override: str, origins: _Origins) -> None:
    """Set one dotted field in place; sections that are absent or null are opened."""
    place = f"override {override}"
    field, equals, text = override.partition("=")
    field = field.strip()
    if not equals or not all(field.split(".")):
        raise ConfigError(f"{place}: write it as key=value, such as rollout.workers=2")
    try:
        value = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError):
        raise ConfigError(f"{place}: the value is not valid YAML; quote it?") from None
    *sections, leaf = field.split(".")
    for depth, section in enumerate(sections):
        inner = tree.get(section)
        if inner is None:
            inner = tree[section] = {}
        parent = ".".join(sections[: depth + 1])
        if isinstance(inner, list):
            raise ConfigError(
                f"{place}: {parent} is a list; items have no overrides of their own, "
                f"give all of it: {parent}='[…, …]'"
            )
        if not isinstance(inner, dict):
            raise ConfigError(f"{place}: {parent} is a value, not a section")
        tree = inner
    tree[leaf] = value
    origins.override(field, place)


def _expand(value: Any, field: str, origins: _Origins) -> Any:
    """Fill in environment variables and the home folder, everywhere below `value`."""
    if isinstance(value, dict):
        return {
            key: _expand(inner, f"{field}.{key}" if field else str(key), origins)
            for key, inner in value.items()
        }
    if isinstance(value, list):
        return [_expand(inner, field, origins) for inner in value]
    if not isinstance(value, str):
        return value

    def fill(match: re.Match[str]) -> str:
        name, default = match.groups()
        found = os.environ.get(name) or default
        if found is None:
            raise ConfigError(
                f"{origins.of(field)}: {field}: environment variable {name} is not set; "
                f"set it or give a default: ${{{name}:-default}}"
            )
        return found

    filled = _VARIABLE.sub(fill, value)
    return os.path.expanduser(filled) if filled.startswith("~/") else filled


def _describe(details: ErrorDetails, model: type[BaseModel], origins: _Origins) -> str:
    """One validation error as one line: place, dotted field, what is wrong, what to do.

    A line for each, where several settings of a reward or objective are wrong.
    """
    location = details["loc"]
    field = ".".join(str(part) for part in location)
    place = f"{origins.of(field)}: "
    match details["type"]:
        case "extra_forbidden":
            return f"{place}unknown key {field}{_suggestion(field, model)}"
        case "missing":
            about = _description(field, model)
            return f"{place}{field} is missing{f': {about}' if about else ''}; add `{field}: …`"
        case "value_error":
            error = details.get("ctx", {}).get("error")
            if isinstance(error, SettingsError):
                return "\n".join(
                    f"{origins.of(f'{field}.{setting}')}: {field}: {message}"
                    for setting, message in error.problems
                )
            message = details["msg"].removeprefix("Value error, ")
            return place + (f"{field}: {message}" if field else message)
        case "model_type" | "model_attributes_type":
            return f"{place}{field} is a section of keys, got {details['input']!r}"
        case "path_type":
            return f"{place}{field} should be a path, got {details['input']!r}"
    message = details["msg"].removeprefix("Input ").replace("a valid tuple", "a list")
    about = _description(field, model)
    return f"{place}{field} {message}, got {details['input']!r}{f' ({about})' if about else ''}"


def _suggestion(field: str, model: type[BaseModel]) -> str:
    """What was probably meant: the same name elsewhere, else a similar one, siblings first."""
    known = list(dict.fromkeys(name for name, _about in _fields(model)))
    # Items of a list share their fields, which are listed without a number.
    parent, leaf = _split(re.sub(r"\.\d+(?=\.)", "", field))
    siblings = [name for name in known if _split(name)[0] == parent]
    for names, similarity in ((siblings, 0.8), (known, 1.0), (siblings, 0.6), (known, 0.6)):
        by_leaf = {_split(name)[1]: name for name in reversed(names)}
        for match in difflib.get_close_matches(leaf, by_leaf, n=1, cutoff=similarity):
            return f"; did you mean {by_leaf[match]}?"
    return f"; {parent or 'the config'} knows {', '.join(_split(name)[1] for name in siblings)}"


def _split(field: str) -> tuple[str, str]:
    """A dotted field's section and its own name."""
    parent, _, leaf = field.rpartition(".")
    return parent, leaf


def _description(field: str, model: type[BaseModel]) -> str | None:
    return dict(_fields(model)).get(field)


def _fields(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, str | None]]:
    """Every dotted field of the tree with its description, sections included."""
    for name, info in model.model_fields.items():
        yield f"{prefix}{name}", info.description
        for section in _models(info.annotation):
            yield from _fields(section, f"{prefix}{name}.")


def _models(annotation: Any) -> Iterable[type[BaseModel]]:
    """The config models an annotation names: `Model`, `Model | None`, `tuple[Model, ...]`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return (annotation,)
    if typing.get_origin(annotation) in (typing.Union, types.UnionType, tuple):
        parts = typing.get_args(annotation)
        return tuple(model for part in parts for model in _models(part))
    return ()
