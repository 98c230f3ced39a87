"""Checkpoints to resume from, for both trainings: whole or absent, checked before they are used.

A checkpoint is written under a hidden name, gets a manifest (its files with sizes and digests, and
the identity of its run), is flushed to disk and renamed, so that a kill at any moment leaves the
one before as the newest.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from ..configs.errors import CheckpointError
from ..configs.system.files import file_errors, remove_unfinished, replace_folder, write_json
from .identity import Identity, file_digest, require_same

MANIFEST = "complete.json"
STATE_FILE = "driver.json"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint that was found whole. `position` counts what was done when it was written."""

    position: int
    folder: Path

    def state(self) -> dict[str, Any]:
        """What `save` stored beside the files. Raises CheckpointError if it is no JSON object."""
        path = self.folder / STATE_FILE
        try:
            state = json.loads(path.read_bytes())
        except (OSError, ValueError, RecursionError) as error:
            raise CheckpointError(f"{path}: cannot be read ({error})") from None
        if not isinstance(state, dict):
            raise CheckpointError(f"{path}: is not a JSON object")
        return state


class Checkpoints:
    """`folder/iteration_000010` or `folder/step_000200`, the newest `keep` of them.

    say   is told, in one line, which damaged checkpoints are passed over and what is used instead
    """

    def __init__(
        self,
        folder: Path,
        unit: Literal["iteration", "step"],
        keep: int,
        run: Identity,
        say: Callable[[str], None],
    ) -> None:
        self.folder = folder
        self.unit = unit
        self.keep = keep
        self.run = run
        self._say = say
        self._damaged: set[Path] = set()  # found so by their digests
        self._name = re.compile(rf"{unit}_(\d{{6,}})")

    def latest(self) -> Checkpoint | None:
        """The newest whole one; None if there is none at all.

        Raises CheckpointError if all are damaged, and KVLError naming file and differences if it
        is of another run.
        """
        damaged = []
        for position, folder in reversed(self._found()):
            if (damage := self._damage(position, folder)) is None:
                _require_same_run(folder, self.run)
                if damaged:
                    self._say(f"{'; '.join(damaged)}: damaged, {folder.name} is used instead")
                return Checkpoint(position, folder)
            damaged.append(f"{folder} ({damage})")
            self._damaged.add(folder)
        if damaged:
            raise CheckpointError(
                f"{'; '.join(damaged)}: damaged, and no whole checkpoint is left; delete "
                f"{self.folder} to start over, or choose another run_dir"
            )
        return None

    def known_contents(self) -> Mapping[str, str]:
        """The digests that the newest checkpoint which has some says its run's files have."""
        for _, folder in reversed(self._found()):
            with suppress(CheckpointError, OSError, ValueError):
                if (held := _identity_of(folder)) is not None:
                    return held.contents
        return {}

    def save(self, position: int, state: dict[str, Any], fill: Callable[[Path], None]) -> None:
        """`fill` writes into the folder it is given; `state` is stored beside as JSON.

        Raises FileError, and then nothing of it is left.
        """
        with file_errors(self.folder / self._folder_name(position)):
            hidden = self.begin(position)
            try:
                fill(hidden)
                write_json(hidden / STATE_FILE, {"manifest": MANIFEST, **state}, indent=None)
                self.publish(position, hidden)
            except BaseException:
                self.give_up(position)
                raise

    def hidden(self, position: int) -> Path:
        """Where a checkpoint is written; the same for all ranks of a training."""
        return (self.folder / f".{self._folder_name(position)}.partial").absolute()

    def begin(self, position: int) -> Path:
        """An empty hidden folder, after removing what earlier processes left unfinished."""
        hidden = self.hidden(position)
        with file_errors(hidden):
            remove_unfinished(self.folder)
            hidden.mkdir(parents=True)
        return hidden

    def give_up(self, position: int) -> None:
        with suppress(OSError):
            shutil.rmtree(self.hidden(position))

    def publish(self, position: int, written: Path) -> Path:
        """Give a finished folder its manifest and its name; keep the newest whole ones only."""
        final = self.folder / self._folder_name(position)
        with file_errors(final):
            files = {
                str(file.relative_to(written)): _described(file)
                for file in sorted(written.rglob("*"))
                if file.is_file()
            }
            manifest = {self.unit: position, "files": files, "run": asdict(self.run)}
            write_json(written / MANIFEST, manifest)
            replace_folder(written, final)
            self.give_up(position)
            self._damaged.discard(final)
            self._remove_old()
        return final

    def _remove_old(self) -> None:
        found = self._found()
        # Without digests: reading all of the others would cost as much as having written this one.
        whole = [
            folder
            for position, folder in found
            if folder not in self._damaged and not self._damage(position, folder, digests=False)
        ]
        for _, folder in found:
            if folder not in whole[-self.keep :]:
                shutil.rmtree(folder)

    def _folder_name(self, position: int) -> str:
        return f"{self.unit}_{position:06d}"

    def _found(self) -> list[tuple[int, Path]]:
        """(position, folder) of all that have the name of a checkpoint, oldest first."""
        with file_errors(self.folder, "read"):
            paths = list(self.folder.iterdir()) if self.folder.is_dir() else []
        matches = [(self._name.fullmatch(path.name), path) for path in paths if path.is_dir()]
        return sorted((int(match[1]), path) for match, path in matches if match)

    def _damage(self, position: int, folder: Path, digests: bool = True) -> str | None:
        """What is wrong with a checkpoint, or None."""
        if not (folder / MANIFEST).exists():
            return self._damage_without_manifest(folder)
        try:
            manifest = json.loads((folder / MANIFEST).read_bytes())
            # Older manifests were {file: size} and nothing else.
            files = manifest.get("files", manifest)
            if manifest.get(self.unit, position) != position:
                return f"was written at {self.unit} {manifest[self.unit]}"
            for name, known in files.items():
                file = folder / name
                if not file.is_file():
                    return f"{name} is missing"
                listed = known if isinstance(known, dict) else {"bytes": known, "digest": None}
                if (size := file.stat().st_size) != listed["bytes"]:
                    return f"{name} has {size} bytes, not {listed['bytes']}"
                if digests and listed["digest"] not in (None, file_digest(file)):
                    return f"{name} has changed"
        except (OSError, ValueError, RecursionError, AttributeError, TypeError, KeyError) as error:
            return f"{MANIFEST} is no list of files: {type(error).__name__}"
        return None

    def _damage_without_manifest(self, folder: Path) -> str | None:
        """Older RL checkpoints had none; their state was the last file before the renaming."""
        if self.unit == "step":
            return f"{MANIFEST} is missing"
        try:
            state = Checkpoint(0, folder).state()
        except CheckpointError as error:
            return str(error).removeprefix(f"{folder}/")
        return f"{MANIFEST} is missing" if "manifest" in state else None


def _described(file: Path) -> dict[str, Any]:
    return {"bytes": file.stat().st_size, "digest": file_digest(file)}


def _require_same_run(folder: Path, run: Identity) -> None:
    """Of a checkpoint that says whose it is; older ones do not."""
    if (held := _identity_of(folder)) is not None:
        require_same(folder / MANIFEST, held, run, "is the checkpoint of a run")


def _identity_of(folder: Path) -> Identity | None:
    path = folder / MANIFEST
    manifest = json.loads(path.read_bytes()) if path.exists() else {}
    if not isinstance(manifest, dict) or (held := manifest.get("run")) is None:
        return None
    try:
        return Identity(dict(held["settings"]), dict(held["contents"]))
    except (KeyError, TypeError, ValueError):
        raise CheckpointError(f"{path}: `run` is not the identity of a run") from None
