"""YAML files and `key=value` overrides in, one validated config tree out, and back to YAML.

* Relative paths in a config are relative to the current directory, `~/` is the home folder.
* A reward's file or module is looked for beside the config, then in the current directory.
* `${NAME}` and `${NAME:-default}` inside a string are environment variables (`variables.py`).
* A field that holds text means the word that is written: `mixed_precision: no` (`yaml_text.py`).
* A config name that is no file is looked up among the presets: `rl/demo`.
"""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from .base import TEXT_ERRORS, SettingsError, StrictModel
from .errors import ConfigError
from .system.files import write_atomically
from .text import yaml_text
from .text.overrides import Origins, apply_override
from .text.suggestions import description, suggestion
from .text.variables import Expansion, as_written

Model = TypeVar("Model", bound=BaseModel)

PRESETS = Path(__file__).resolve().parent


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
        apply_override(tree, override, origins, model, _note)
    expansion = Expansion(tree, origins.of)
    try:
        config = _validate(
            model, expansion.tree, origins, {"config_folder": file.parent, **(context or {})}
        )
    except ValidationError as error:
        problems = [_describe(one, model, origins, tree, expansion) for one in error.errors()]
        raise ConfigError("\n".join(problems)) from None
    if isinstance(config, StrictModel):
        config._written = expansion.written(config.model_dump(mode="json"))
    return config


def _validate(
    model: type[Model], tree: dict[str, Any], origins: Origins, context: Mapping[str, Any]
) -> Model:
    """A field that holds text gets the word that was written, also where it was read as a truth
    value or a number: `mixed_precision: no`. Raises ValidationError."""
    try:
        return model.model_validate(tree, context=dict(context))
    except ValidationError as error:
        paths = [path for one in error.errors() for path in _text_expected(one)]
        known = [path for path in paths if path in origins.words]
        if not known:
            raise
        for path in known:
            _replace(tree, path, origins.words[path])
    return model.model_validate(tree, context=dict(context))


def _text_expected(details: ErrorDetails) -> Iterator[yaml_text.Path]:
    """Where the error asks for text in place of something else."""
    error = details.get("ctx", {}).get("error")
    if details["type"] in TEXT_ERRORS:
        yield details["loc"]
    elif isinstance(error, SettingsError):
        for setting in error.text:
            parts = (int(part) if part.isdecimal() else part for part in setting.split("."))
            yield (*details["loc"], *parts)


def _replace(tree: Any, path: yaml_text.Path, value: Any) -> None:
    for key in path[:-1]:
        tree = tree[key]
    tree[path[-1]] = value


def save_config(config: BaseModel, path: str | Path) -> None:
    """Write the whole resolved tree as YAML that loads back equal; never leaves half a file.

    Environment variables are saved as they were written. Raises FileError if it cannot be written.
    """
    write_atomically(Path(path), dump_config(config))


def dump_config(config: BaseModel) -> str:
    """The whole resolved tree as YAML, in the order of the schema, environment variables as they
    were written."""
    tree = config.model_dump(mode="json")
    if isinstance(config, StrictModel):
        tree = as_written(tree, config._written)
    return yaml_text.dump(tree)


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


def _read_yaml(file: Path) -> tuple[dict[str, Any], Origins]:
    try:
        text = file.read_text(encoding="utf-8")
        document = yaml_text.read(text)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: cannot be read ({error})") from None
    except yaml_text.YAMLProblem as error:
        where = f"{file}:{error.line}" if error.line else str(file)
        line = text.splitlines()[error.line - 1 : error.line] if error.line else []
        hint = "; quote what holds ${…}" if "${" in "".join(line) else ""
        raise ConfigError(f"{where}: not valid YAML: {error}{hint}") from None
    tree = {} if document.tree is None else document.tree
    if not isinstance(tree, dict):
        raise ConfigError(
            f"{file}: holds a {type(tree).__name__}, a config is a mapping of `key: value` lines"
        )
    fields: dict[str, str] = {}
    for field, line in document.lines:
        place = f"{file}:{line}"
        if field in fields:
            raise ConfigError(f"{place}: {field} is set twice (first at {fields[field]})")
        fields[field] = place
    return tree, Origins(str(file), fields, document.words)


def _note(text: str) -> None:
    # Not to stdout, where --dry-run prints the config.
    print(f"note: {text}", file=sys.stderr)


def _innermost(details: ErrorDetails) -> str:
    """The unknown key, with those below it as far as they are the only ones: `optimizer.lr=1`
    is about `lr`."""
    path, value = list(details["loc"]), details["input"]
    while isinstance(value, dict) and len(value) == 1:
        ((key, value),) = value.items()
        path.append(key)
    return ".".join(map(str, path))


def _describe(
    details: ErrorDetails,
    model: type[BaseModel],
    origins: Origins,
    written: dict[str, Any],
    expansion: Expansion,
) -> str:
    """One validation error as one line: place, dotted field, what is wrong, what to do.

    A line for each, where several settings of a reward or objective are wrong. Values appear as
    they were written.
    """
    location = details["loc"]
    field = ".".join(str(part) for part in location)
    place = f"{origins.of(field)}: "
    got = repr(expansion.fields.get(location, (details["input"],))[0])
    if not isinstance(details["input"], str):
        got = expansion.hide(got)
    match details["type"]:
        case "extra_forbidden":
            return f"{place}unknown key {field}{suggestion(_innermost(details), model)}"
        case "missing":
            about = description(field, model)
            return f"{place}{field} is missing{f': {about}' if about else ''}; add `{field}: …`"
        case "value_error":
            error = details.get("ctx", {}).get("error")
            if isinstance(error, SettingsError):
                return "\n".join(
                    f"{origins.of(f'{field}.{setting}')}: {field}: {expansion.hide(message)}"
                    for setting, message in error.problems
                )
            message = expansion.hide(details["msg"].removeprefix("Value error, "))
            return place + (f"{field}: {message}" if field else message)
        case "model_type" | "model_attributes_type":
            return f"{place}{field} is a section of keys, got {got}"
        case "path_type":
            return f"{place}{field} should be a path, got {got}"
    message = details["msg"].removeprefix("Input ").replace("a valid tuple", "a list")
    about = description(field, model)
    return f"{place}{field} {expansion.hide(message)}, got {got}{f' ({about})' if about else ''}"
