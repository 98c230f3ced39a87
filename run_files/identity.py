"""What makes a run the same run: its settings, and the contents of the files they name.

A run folder, and every checkpoint in it, is taken up only by a command with the same identity.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel

from ..configs.errors import ConfigError, KVLError
from ..configs.loading import load_config
from ..configs.system.files import file_errors

# Up to this size a file is hashed as a whole, of a larger one evenly spaced blocks are.
WHOLE_BYTES = 64 * 2**20
_BLOCKS = 1024
_CONTENTS_OF_FOLDER = ("*.safetensors", "config.json", "tiktoken.model")
_MISSING = object()

Config = TypeVar("Config", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Identity:
    """Settings by dotted name, without those that may change, and digests of what paths name.

    Example: `Identity({"seed": 0, "checkpoint": "runs/tiny"}, {"checkpoint": "1f0c…"})`.
    """

    settings: Mapping[str, Any]
    contents: Mapping[str, str] = field(default_factory=dict)

    def differences(self, held: Identity) -> list[tuple[str, str]]:
        """(setting, how it differs) from an identity that was held before, which may know less.

        A path may change where the same contents lie.
        """
        found = []
        for name, before in held.settings.items():
            now = self.settings.get(name, _MISSING)
            known = (held.contents.get(name), self.contents.get(name))
            if None not in known:
                if known[0] != known[1]:
                    same = f"{name} {before} has other contents now"
                    found.append((name, same if before == now else _change(name, before, now)))
            elif before != now:
                found.append((name, _change(name, before, now)))
        return found


def identity(
    config: BaseModel, may_change: Collection[str], paths: Mapping[str, Path] | None = None
) -> Identity:
    """Of a config. `may_change` names settings and sections, with `*` for any name or number;
    `paths` are hashed; one that is not there is left to whoever reads it.

    Raises FileError if one cannot be read.
    """
    settings = {
        name: value
        for name, value in _flat(config.model_dump(mode="json"), "")
        if not any(fnmatchcase(name, free) or fnmatchcase(name, f"{free}.*") for free in may_change)
    }
    return Identity(settings, {n: digest(p) for n, p in (paths or {}).items() if p.exists()})


def require_same_run(
    path: Path,
    config: Config,
    may_change: Collection[str],
    now: Identity,
    contents: Mapping[str, str] | None = None,
) -> Config:
    """The config saved at `path`. Raises KVLError if it is that of another run than `now`.

    contents   what is known of the digests that the saved config's paths had
    """
    try:
        held = load_config(path, type(config))
    except ConfigError as error:
        raise KVLError(
            f"{path}: cannot be compared with this command's config "
            f"({str(error).splitlines()[0]}); choose another run_dir"
        ) from None
    before = Identity(identity(held, may_change).settings, contents or {})
    require_same(path, before, now, "this run_dir holds a run")
    return held


def require_same(path: Path, held: Identity, now: Identity, what: str) -> None:
    """Raise KVLError naming the file and every difference."""
    if differences := now.differences(held):
        names = ", ".join(name for name, _ in differences)
        details = "; ".join(detail for _, detail in differences)
        raise KVLError(
            f"{path}: {what} with another {names}; {details}; "
            "choose another run_dir, or delete this one to start over"
        )


def digest(path: Path) -> str:
    """Of a file, or of the files of a checkpoint folder that say what the model computes."""
    with file_errors(path, "read"):
        if path.is_dir():
            found = {file for pattern in _CONTENTS_OF_FOLDER for file in path.glob(pattern)}
            total = hashlib.blake2b(digest_size=16)
            for file in sorted(found):
                total.update(f"{file.name}/{file_digest(file)}/".encode())
            return total.hexdigest()
        return file_digest(path)


def file_digest(path: Path) -> str:
    """Of the size and the bytes of a file; of a large one, of blocks all over it.

    Finds what is cut, zeroed or replaced, and in files of up to 64 MiB every changed byte.
    """
    size = path.stat().st_size
    found = hashlib.blake2b(str(size).encode(), digest_size=16)
    with path.open("rb") as file:
        if size <= WHOLE_BYTES:
            while block := file.read(2**20):
                found.update(block)
        else:
            length = WHOLE_BYTES // _BLOCKS
            for number in range(_BLOCKS):
                file.seek(number * (size - length) // (_BLOCKS - 1))
                found.update(file.read(length))
    return found.hexdigest()


def _flat(value: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        for name, inner in value.items():
            yield from _flat(inner, f"{prefix}.{name}" if prefix else str(name))
    elif isinstance(value, list) and any(isinstance(one, dict) for one in value):
        for number, inner in enumerate(value):
            yield from _flat(inner, f"{prefix}.{number}")
    else:
        yield prefix, value


def _change(name: str, before: Any, now: Any) -> str:
    return f"{name} was {_shown(before)}, is {_shown(now)}"


def _shown(value: Any) -> str:
    """As in a config; a section that was a plain value, or the other way round, is "another"."""
    if value is _MISSING:
        return "another"
    return value if isinstance(value, str) else json.dumps(value)
