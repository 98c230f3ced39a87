"""What a command is given has to be there: looked at before anything that takes seconds to import.

The rooms that read checkpoints and problems start with these checks too, so that either way the
same line is said.
"""

from __future__ import annotations

import glob
from collections.abc import Iterable
from pathlib import Path

from ..errors import CheckpointError, ProblemError

PROBLEM_FILES = (".jsonl", ".json", ".parquet", ".arrow", ".tsv")
ACCEPTED = f"give a {', '.join(PROBLEM_FILES)} file, a folder of parquet files or a saved dataset"


def require_checkpoint(folder: str | Path) -> None:
    """Raises CheckpointError for what is no checkpoint folder at first sight."""
    path = Path(folder) / "config.json"
    if not path.is_file():
        raise CheckpointError(f"{path}: missing; is {folder} a checkpoint folder?")


def require_problem_file(path: Path) -> None:
    """Raises ProblemError for an unknown kind of file, and for one that is not there; a folder or a
    glob is looked into by whoever reads it."""
    if path.is_dir() or glob.has_magic(str(path)):
        return
    if path.suffix.lower() not in PROBLEM_FILES:
        raise ProblemError(f"{path}: unknown kind of file; {ACCEPTED}")
    if not path.exists():
        raise ProblemError(f"{path}: no such file; check the path (relative to {Path.cwd()})")


def require_inputs(checkpoint: Path | None, problems: Iterable[Path]) -> None:
    """Of a command; every one of them is looked at. Raises CheckpointError or ProblemError."""
    if checkpoint is not None:
        require_checkpoint(checkpoint)
    for path in problems:
        require_problem_file(path)
