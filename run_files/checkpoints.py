"""Checkpoint folders of a run: complete or absent, never half."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from ..configs.errors import CheckpointError
from ..kimi_vl_model.checkpoint import (
    iterate_tensors,
    load_config,
    published_tensors,
    replace_folder,
)
from ..kimi_vl_model.modeling import KimiVLForConditionalGeneration

_NAME = re.compile(r"^iteration_(\d{6})$")
_DRIVER_FILE = "driver.json"


def check_weights(folder: Path) -> None:
    """Raise CheckpointError unless the folder holds every weight in its shape.

    Files are mapped and not read. vLLM itself would serve a model with a tensor missing.
    """
    with torch.device("meta"):
        model = KimiVLForConditionalGeneration(load_config(folder))
    missing = {name: tensor.shape for name, tensor in published_tensors(model.state_dict().items())}
    for name, tensor, file in iterate_tensors(folder):
        shape = missing.pop(name, tensor.shape)
        if tensor.shape != shape:
            raise CheckpointError(
                f"{file}: tensor {name} has shape {tuple(tensor.shape)}, "
                f"the config asks for {tuple(shape)}"
            )
    if missing:
        raise CheckpointError(f"{folder}: {len(missing)} tensor(s) missing, first {min(missing)}")


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
