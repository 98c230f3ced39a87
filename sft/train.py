"""`train(config)`: one supervised stage, from a checkpoint folder to a checkpoint folder."""

from __future__ import annotations

from collections.abc import Iterable
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
from ..configs.errors import KVLError
from ..configs.sft import SFTConfig
from ..kimi_vl_model.adapters import adapter_tensors, add_adapters, merged_state, save_adapter
from ..kimi_vl_model.checkpoint import export_checkpoint, load_model
from ..kimi_vl_model.freezing import freeze
from ..kimi_vl_model.processing import KimiVLProcessor
from ..kimi_vl_model.soundness import check_checkpoint
from ..problems.loading import load_problems
from ..problems.types import Skipped
from .checkpoints import last_complete, step_of
from .data import build_dataset, skip_counts, write_skipped
from .progress import MetricsFile, ProgressBar
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
    resumed = last_complete(config.run_dir / "checkpoints")
    if final.is_dir() or resumed is not None:
        _require_same_run(config)
    if final.is_dir():
        console.print(f"{config.run_dir}: already finished, the checkpoint is in {final}")
        return final
    check_checkpoint(config.checkpoint)  # before anything is written
    trainer, bar = _prepare(config, arguments, console, 0 if resumed is None else step_of(resumed))
    if resumed is not None:
        console.print(f"resuming from {resumed}")
    try:
        trainer.train(None if resumed is None else str(resumed))
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
    config: SFTConfig, arguments: TRLConfig, console: Console, step: int
) -> tuple[KimiVLSFTTrainer, ProgressBar]:
    """Read problems and model and start the run's files, `step` steps of which are done."""
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

    metrics = MetricsFile(config.run_dir / "metrics.jsonl")
    bar = ProgressBar(console)
    callbacks: list[TrainerCallback] = [bar]
    if arguments.should_save:
        config.run_dir.mkdir(parents=True, exist_ok=True)
        loading.save_config(config, config.run_dir / "config.yaml")
        write_skipped(skipped, config.run_dir / "skipped.jsonl")
        metrics.continue_from(step)
        if "tensorboard" in config.trackers:
            writer = SummaryWriter(config.run_dir / "tensorboard", purge_step=step + 1)
            callbacks.append(TensorBoardCallback(writer))
    report = f"; skipped {skip_counts(skipped)}: see {config.run_dir / 'skipped.jsonl'}"
    console.print(f"{len(dataset)} documents" + (report if skipped else ""))
    trainer = KimiVLSFTTrainer(config, arguments, model, processor, dataset, metrics, callbacks)
    trainer.adapters = adapters
    trainer.remove_callback(PrinterCallback)
    return trainer, bar


def _require_same_run(config: SFTConfig) -> None:
    path = config.run_dir / "config.yaml"
    if not path.is_file():
        return
    held = loading.load_config(path, SFTConfig)
    changed = [
        name
        for name in SFTConfig.model_fields
        if name not in MAY_CHANGE and getattr(held, name) != getattr(config, name)
    ]
    if changed:
        raise KVLError(
            f"{path}: this run_dir holds a run with another {', '.join(changed)}; "
            "choose another run_dir, or delete this one to start over"
        )
