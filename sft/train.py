"""`train(config)`: one supervised stage, from a checkpoint folder to a checkpoint folder."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import datasets
import torch
from rich.console import Console
from torch.utils.tensorboard import SummaryWriter
from transformers import PrinterCallback, TrainerCallback
from transformers.integrations.integration_utils import TensorBoardCallback
from trl.trainer.sft_config import SFTConfig as TRLConfig

from ..configs import loading
from ..configs.sft import SFTConfig
from ..kimi_vl_model.checkpoint import export_checkpoint, load_model
from ..kimi_vl_model.processing import KimiVLProcessor
from ..kimi_vl_model.soundness import check_checkpoint
from ..kimi_vl_model.tuning.adapters import (
    adapter_tensors,
    add_adapters,
    merged_state,
    save_adapter,
)
from ..kimi_vl_model.tuning.freezing import freeze
from ..problems.loading import load_problems
from ..problems.types import Skipped
from ..run_files.checkpoints import Checkpoint, Checkpoints
from ..run_files.identity import identity, require_same_run
from ..run_files.lock import locked
from ..run_files.metrics_file import MetricsFile
from .data import build_dataset, skip_counts, write_skipped
from .progress import ProgressBar
from .trainer import KimiVLSFTTrainer, training_arguments

# What another session of the same run may change without changing what is learned.
MAY_CHANGE = {"run_dir", "precision", "log_every", "save_every", "keep_checkpoints", "trackers"}


def train(config: SFTConfig) -> Path:
    """Train, or go on with a run that was interrupted, and export `run_dir/final`.

    Returns the exported folder. A finished run is not trained again: its folder is returned.
    Raises CheckpointError for a damaged or missing checkpoint and KVLError for a batch that does
    not divide, for problems that leave nothing to train on, for a `run_dir` that holds another
    run, and for a loss that is not finite.
    """
    arguments = training_arguments(config)
    console = Console(quiet=not arguments.should_save, soft_wrap=True)
    final = config.run_dir / "final"
    if not final.is_dir():
        check_checkpoint(config.checkpoint)  # before anything is written
    with locked(config.run_dir) if arguments.should_save else nullcontext():
        return _train(config, arguments, console, final)


def _train(config: SFTConfig, arguments: TRLConfig, console: Console, final: Path) -> Path:
    paths = {"checkpoint": config.checkpoint, "problems.path": config.problems.path}
    run = identity(config, MAY_CHANGE, paths)
    saved = config.run_dir / "config.yaml"
    checkpoints = Checkpoints(
        config.run_dir / "checkpoints", "step", config.keep_checkpoints, run, console.print
    )
    if saved.is_file() and (final.is_dir() or any(checkpoints.folder.glob("[!.]*"))):
        require_same_run(saved, config, MAY_CHANGE, run, checkpoints.known_contents())
    if final.is_dir():
        console.print(f"{config.run_dir}: already finished, the checkpoint is in {final}")
        return final
    resumed = checkpoints.latest()
    trainer, bar = _prepare(config, arguments, console, checkpoints, resumed)
    if resumed is not None:
        console.print(f"resuming from {resumed.folder}")
    try:
        trainer.train(None if resumed is None else str(resumed.folder))
    finally:
        bar.close()
    state: dict[str, Any] = trainer.accelerator.get_state_dict(trainer.model_wrapped)
    if trainer.is_world_process_zero():
        tensors: Iterable[tuple[str, torch.Tensor]] = state.items()
        if (adapters := trainer.adapters) is not None:
            adapter = config.run_dir / "adapter"
            save_adapter(adapters, adapter_tensors(adapters), config.checkpoint, adapter)
            tensors = merged_state(trainer.policy)
        export_checkpoint(tensors, config.checkpoint, final)
    trainer.accelerator.wait_for_everyone()
    console.print(f"trained {trainer.state.global_step} steps, the checkpoint is in {final}")
    return final


def _prepare(
    config: SFTConfig,
    arguments: TRLConfig,
    console: Console,
    checkpoints: Checkpoints,
    resumed: Checkpoint | None,
) -> tuple[KimiVLSFTTrainer, ProgressBar]:
    """Read problems and model and start the run's files."""
    step = 0 if resumed is None else resumed.position
    if config.precision.threads is not None:
        torch.set_num_threads(config.precision.threads)
    datasets.disable_progress_bars()
    processor = KimiVLProcessor.from_pretrained(config.checkpoint)
    problems, unreadable = load_problems(config.problems)
    dataset, skipped = build_dataset(problems, processor, config.max_tokens)
    skipped += [Skipped(record.id, f"bad record: {record.reason}") for record in unreadable]
    model = load_model(config.checkpoint)
    freeze(model, config.freeze)
    torch.manual_seed(config.seed)
    adapters = None if config.lora is None else add_adapters(model, config.lora)

    metrics = MetricsFile(config.run_dir / "metrics.jsonl", "step")
    seconds = 0.0
    bar = ProgressBar(console)
    callbacks: list[TrainerCallback] = [bar]
    if arguments.should_save:
        config.run_dir.mkdir(parents=True, exist_ok=True)
        loading.save_config(config, config.run_dir / "config.yaml")
        write_skipped(skipped, config.run_dir / "skipped.jsonl")
        if before := metrics.continue_after(step):
            seconds = before[-1]["seconds"]
        if "tensorboard" in config.trackers:
            writer = SummaryWriter(config.run_dir / "tensorboard", purge_step=step + 1)
            callbacks.append(TensorBoardCallback(writer))
    report = f"; skipped {skip_counts(skipped)}: see {config.run_dir / 'skipped.jsonl'}"
    console.print(f"{len(dataset)} documents" + (report if skipped else ""))
    trainer = KimiVLSFTTrainer(
        config, arguments, model, processor, dataset, metrics, checkpoints, callbacks
    )
    trainer.adapters = adapters
    trainer.seconds = seconds
    trainer.remove_callback(PrinterCallback)
    return trainer, bar
