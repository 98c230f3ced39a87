"""Checkpoint folders of a run: complete or absent, never half."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..kimi_vl_model.folders import replace_folder
from ..kimi_vl_model.soundness import check_checkpoint

_NAME = re.compile(r"^iteration_(\d{6})$")
_DRIVER_FILE = "driver.json"


def check_weights(folder: Path) -> None:
    """Raise CheckpointError unless the folder can be trained and served, in all of its files."""
    check_checkpoint(folder)


class RunCheckpoints:
    """`run_dir/checkpoints/iteration_000010/`: the state after ten iterations.

    A folder is filled under another name and renamed when complete, so that a kill at any
    moment leaves the previous checkpoint as the latest.
    """

    def __init__(self, run_dir: Path, keep: int) -> None:
        self.folder = run_dir / "checkpoints"
        self.keep = keep

    def latest(self) -> tuple[int, Path] | None:
        """(iterations done, folder) of the newest complete checkpoint."""
        done = [
            (int(match[1]), path)
            for path in (self.folder.iterdir() if self.folder.is_dir() else ())
            if (match := _NAME.match(path.name)) and (path / _DRIVER_FILE).is_file()
        ]
        return max(done, default=None)

    def save(
        self, iterations: int, driver: dict[str, Any], learner: Callable[[Path], None]
    ) -> None:
        """`learner` fills the folder it is given; `driver` is stored beside as JSON."""
        name = f"iteration_{iterations:06d}"
        partial = (self.folder / f".{name}.partial").absolute()
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        learner(partial)
        (partial / _DRIVER_FILE).write_text(json.dumps(driver))
        replace_folder(partial, self.folder / name)
        for old in sorted(path for path in self.folder.iterdir() if _NAME.match(path.name))[
            : -self.keep
        ]:
            shutil.rmtree(old)

    @staticmethod
    def driver_state(folder: Path) -> dict[str, Any]:
        return json.loads((folder / _DRIVER_FILE).read_text())
