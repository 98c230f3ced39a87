"""The paths of a config that leaves its directory: for a Ray job, whose own one is a copy."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel

from .base import StrictModel
from .errors import ConfigError
from .text.variables import Written

Model = TypeVar("Model", bound=StrictModel)

# Where Ray unpacks what a job was submitted with; it goes with the job or the cluster.
_COPIES = ("runtime_resources", "working_dir_files")


def paths_of(config: BaseModel) -> Iterator[tuple[str, Path]]:
    """Every path in the tree with its dotted field, such as `problems.path`."""
    found: list[tuple[str, Path]] = []

    def note(field: str, path: Path) -> Path:
        found.append((field, path))
        return path

    _mapped(config, "", note)
    yield from found


def with_absolute_paths(config: Model) -> Model:
    """The same config for a process with another working directory. Variables in a path are
    filled in: they may be others where it is read."""
    resolved = _mapped(config, "", lambda _field, path: Path(os.path.abspath(path)))
    paths = {field for field, _path in paths_of(config)}
    resolved._written = Written(
        {
            path: text
            for path, text in config._written.items()
            if ".".join(map(str, path)) not in paths
        }
    )
    return resolved


def require_lasting_paths(config: BaseModel) -> None:
    """Raises ConfigError for a run_dir inside Ray's copy of a job's working directory, which is
    lost with it, and for inputs that the copy lacks: Ray leaves out what .gitignore names."""
    problems = []
    for field, path in paths_of(config):
        if not _is_in_a_copy(path):
            continue
        if field == "run_dir":
            problems.append(
                f"run_dir {path}: lies in Ray's copy of the job's working directory, which goes "
                "with the cluster; write an absolute path of a shared file system, or use "
                "`kvl-rl submit`, which resolves it"
            )
        elif not path.exists():
            problems.append(
                f"{field} {path}: is not in Ray's copy of the job's working directory, which "
                "leaves out what .gitignore names; write an absolute path of a shared file "
                "system, or use `kvl-rl submit`, which resolves it"
            )
    if problems:
        raise ConfigError("\n".join(problems))


def _is_in_a_copy(path: Path) -> bool:
    parts = Path(os.path.abspath(path)).parts
    return any(parts[n : n + 2] == _COPIES for n in range(len(parts)))


def _mapped(value: Any, field: str, change: Callable[[str, Path], Path]) -> Any:
    if isinstance(value, Path):
        return change(field, value)
    if isinstance(value, tuple):
        return tuple(_mapped(one, f"{field}.{n}", change) for n, one in enumerate(value))
    if isinstance(value, BaseModel):
        prefix = f"{field}." if field else ""
        fields = type(value).model_fields
        changed = {
            name: _mapped(getattr(value, name), f"{prefix}{name}", change) for name in fields
        }
        return value.model_copy(update=changed)
    return value
