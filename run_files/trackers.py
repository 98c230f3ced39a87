"""Where metrics go besides metrics.jsonl: TensorBoard, trackio, Weights & Biases."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

from ..configs.errors import KVLError

PROJECT = "kimi-vl-thinking"


class Sink(Protocol):
    """Takes finite numbers only; whoever calls it leaves out what is missing."""

    def log(self, iteration: int, metrics: Mapping[str, float]) -> None: ...

    def close(self) -> None: ...


class TensorBoard:
    """Event files in `folder`; readers drop earlier events from `purge_step` on."""

    def __init__(self, folder: Path, purge_step: int | None) -> None:
        # Importing it takes over a second, which `--help` and the report need not wait for.
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(folder), purge_step=purge_step)

    def log(self, iteration: int, metrics: Mapping[str, float]) -> None:
        for name, value in metrics.items():
            self._writer.add_scalar(name, value, iteration)
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


class HostedRun:
    """trackio and wandb, which share `init`, `log` and `finish`.

    Neither can take logged steps back, so a resumed run opens a second run in the same group.
    """

    def __init__(self, module: ModuleType, group: str, **options: Any) -> None:
        self._module = module
        try:
            module.init(project=PROJECT, group=group, **options)
        except Exception as error:
            raise KVLError(f"tracker {module.__name__} cannot start a run: {error}") from error

    def log(self, iteration: int, metrics: Mapping[str, float]) -> None:
        self._module.log(dict(metrics), step=iteration)

    def close(self) -> None:
        self._module.finish()


def check_trackers(names: Sequence[str]) -> None:
    """Raise KVLError now, not after the first iteration, if a tracker is not installed."""
    for name in names:
        if name != "tensorboard":
            _module(name)


def open_tracker(name: str, run_dir: Path, purge_step: int | None) -> Sink:
    if name == "tensorboard":
        return TensorBoard(run_dir / "tensorboard", purge_step)
    options = {"dir": str(run_dir)} if name == "wandb" else {}
    return HostedRun(_module(name), group=run_dir.resolve().name, **options)


def _module(name: str) -> ModuleType:
    try:
        module = importlib.import_module(name)
    except ImportError:
        module = None
    # A stray folder called wandb/ in the working directory imports as an empty package.
    if module is None or not hasattr(module, "init"):
        raise KVLError(
            f"tracker {name!r} is not installed: pip install kimi-vl-thinking[trackers], "
            "or take it out of `trackers` in the config"
        )
    return module
