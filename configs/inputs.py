"""What a command is given has to be there: looked at before anything that takes seconds to import.

The rooms that read checkpoints and problems start with these checks too, so that either way the
same line is said.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from .errors import CheckpointError, ProblemError

PROBLEM_FILES = (".jsonl", ".parquet")


def require_checkpoint(folder: str | Path) -> None:
    """Raises CheckpointError for what is no checkpoint folder at first sight."""
    path = Path(folder) / "config.json"
    if not path.is_file():
        raise CheckpointError(f"{path}: missing; is {folder} a checkpoint folder?")


def require_problem_file(path: Path) -> None:
    """Raises ProblemError for an unknown kind of file, and for one that is not there."""
    if path.suffix.lower() not in PROBLEM_FILES:
        raise ProblemError(
            f"{path}: unknown kind of file; give a {' or '.join(PROBLEM_FILES)} file"
        )
    if not path.is_file():
        raise ProblemError(f"{path}: no such file; check the path (relative to {Path.cwd()})")


def require_inputs(checkpoint: Path | None, problems: Iterable[Path]) -> None:
    """Of a command; every one of them is looked at. Raises CheckpointError or ProblemError."""
    if checkpoint is not None:
        require_checkpoint(checkpoint)
    for path in problems:
        require_problem_file(path)
