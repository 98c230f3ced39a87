"""Training checkpoints that are either complete or invisible.

A checkpoint is written under a hidden name, gets a list of its files with their sizes, and is
then renamed to `step_000200`. A folder whose list is missing or disagrees is never resumed from.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

from ..kimi_vl_model.folders import replace_folder

MANIFEST = "complete.json"
PARTIAL = ".partial"


def _sizes(folder: Path) -> dict[str, int]:
    return {
        str(file.relative_to(folder)): file.stat().st_size
        for file in sorted(folder.rglob("*"))
        if file.is_file() and file.name != MANIFEST
    }


def is_complete(folder: Path) -> bool:
    """Whether every file of the checkpoint is there at the size it had when it was finished."""
    try:
        return json.loads((folder / MANIFEST).read_text()) == _sizes(folder)
    except (OSError, ValueError):
        return False


def step_of(checkpoint: Path) -> int:
    """The optimizer steps that a `step_000200` folder stands for."""
    return int(checkpoint.name.removeprefix("step_"))


def _step_folders(folder: Path) -> list[Path]:
    found = [path for path in folder.glob("step_*") if path.name[5:].isdigit() and path.is_dir()]
    return sorted(found, key=step_of)


def last_complete(folder: Path) -> Path | None:
    """The complete checkpoint with the highest step, or None to start from the beginning."""
    return next((path for path in reversed(_step_folders(folder)) if is_complete(path)), None)


def publish(written: Path, folder: Path, step: int, keep: int) -> Path:
    """Rename a finished checkpoint to its final name; keep the newest `keep` complete ones."""
    for file in written.rglob("*"):
        if file.is_file():
            _flush(file)
    (written / MANIFEST).write_text(json.dumps(_sizes(written), indent=2))
    _flush(written / MANIFEST)
    final = folder / f"step_{step:06d}"
    replace_folder(written, final)
    complete = [path for path in _step_folders(folder) if is_complete(path)]
    for old in set(_step_folders(folder)).difference(complete[-keep:]):
        shutil.rmtree(old)
    return final


def _flush(file: Path) -> None:
    """Force a file to disk, so that the rename cannot survive a power cut that its data did not."""
    handle = os.open(file, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
