"""The files that say how good a run's policy was: `evaluation/NAME.json` and `best.json`.

An evaluation counts the iterations that were done when it was made: `before` has 0, `after` all.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..configs.errors import KVLError
from ..configs.system.files import file_errors, read_bytes, write_json

_OWN = re.compile(r"before|after|iteration_\d{6,}")


def rewind_evaluations(run_dir: Path, done: int, say: Callable[[str], None]) -> None:
    """Remove what was measured after `done` iterations, which will be trained again.

    Raises KVLError for a file that has the name of an evaluation and is none: nothing would be
    measured in its place. A stranger's file is left alone, and said.
    """
    for path in sorted((run_dir / "evaluation").glob("*.json")):
        summary = _object(path)
        iteration = None if summary is None else summary.get("iteration")
        if not isinstance(iteration, int):
            if _OWN.fullmatch(path.stem):
                raise KVLError(
                    f"{path}: is no evaluation of a run (it has no iteration); delete it, and it "
                    "is measured again"
                )
            say(f"{path}: is no evaluation of this run and is left alone")
        elif iteration > done and _OWN.fullmatch(path.stem):
            _remove(path)
    best = best_of(run_dir)
    if best is not None and best["iteration"] > done:
        with file_errors(run_dir / "best.json"):
            (run_dir / "best.json").unlink()


def keep_former_end(run_dir: Path) -> None:
    """A run that had ended goes on: what was measured at its end is one evaluation among others."""
    path = run_dir / "evaluation/after.json"
    if not path.exists() or (summary := _object(path)) is None:
        return
    name = path.with_name(f"iteration_{summary['iteration']:06d}.json")
    with file_errors(path):
        # The summary last: where it is missing, the end is measured anew.
        if path.with_suffix(".jsonl").exists():
            os.replace(path.with_suffix(".jsonl"), name.with_suffix(".jsonl"))
        os.replace(path, name)


def best_of(run_dir: Path) -> dict[str, Any] | None:
    """`best.json`: metric, value and iteration of the best evaluation; None if there is none.

    Raises KVLError if it is something else.
    """
    path = run_dir / "best.json"
    if not path.exists():
        return None
    note = _object(path) or {}
    kinds = {"metric": str, "value": int | float, "iteration": int}
    if not all(isinstance(note.get(name), kind) for name, kind in kinds.items()):
        raise KVLError(
            f"{path}: does not say metric, value and iteration of the best evaluation; delete it, "
            "and the next evaluation is the best so far"
        )
    return note


def note_best(run_dir: Path, metric: str, value: float, iteration: int) -> None:
    note = {"metric": metric, "value": value, "iteration": iteration}
    write_json(run_dir / "best.json", note, indent=None)


def _object(path: Path) -> dict[str, Any] | None:
    try:
        value = json.loads(read_bytes(path))
    except (ValueError, RecursionError) as error:
        if isinstance(error, KVLError):
            raise
        return None
    return value if isinstance(value, dict) else None


def _remove(path: Path) -> None:
    with file_errors(path):
        path.unlink()
        path.with_suffix(".jsonl").unlink(missing_ok=True)
