"""The config tree of `kvl-sft train`."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, PositiveInt

from .base import StrictModel
from .common import OptimizerConfig, PrecisionConfig, ProblemSource, Tracker


class SFTConfig(StrictModel):
    """Long-CoT supervised fine-tuning of the full model (Kimi k1.5 §2.2, Kimi-VL §2.4)."""

    run_dir: Path
    checkpoint: Path = Field(description="the checkpoint folder to start from")
    problems: ProblemSource = Field(description="problems with a written solution")
    epochs: float = Field(default=1.0, gt=0)
    max_steps: PositiveInt | None = None
    batch_size: PositiveInt = Field(default=32, description="documents per optimizer step and rank")
    gradient_accumulation: PositiveInt = 1
    max_tokens: PositiveInt = Field(
        default=2048, description="longer documents are skipped and reported"
    )
    optimizer: OptimizerConfig = OptimizerConfig(learning_rate=2e-5)
    warmup_fraction: float = Field(default=0.03, ge=0, lt=1)
    final_learning_rate_fraction: float = Field(default=0.1, ge=0, le=1, description="cosine floor")
    precision: PrecisionConfig = PrecisionConfig()
    activation_checkpointing: bool = False
    log_every: PositiveInt = 10
    save_every: PositiveInt = 200
    keep_checkpoints: PositiveInt = 2
    seed: int = 0
    trackers: tuple[Tracker, ...] = ("tensorboard",)
