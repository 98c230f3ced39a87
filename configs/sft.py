"""The config tree of `kvl-sft train`."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, PositiveInt, model_validator

from .base import StrictModel
from .common import (
    LoRAConfig,
    OptimizerConfig,
    ParameterGroup,
    PrecisionConfig,
    ProblemSource,
    Tracker,
    require_one_choice,
)


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
    freeze: tuple[ParameterGroup, ...] = Field(
        default=(), description="parts of the model that stay as they are"
    )
    lora: LoRAConfig | None = Field(
        default=None, description="train adapters: run_dir/adapter, merged into run_dir/final"
    )
    load_balance_rate: float = Field(
        default=0.0, ge=0, description="step of the router's selection bias towards even load"
    )
    warmup_fraction: float = Field(default=0.03, ge=0, lt=1)
    final_learning_rate_fraction: float = Field(default=0.1, ge=0, le=1, description="cosine floor")
    precision: PrecisionConfig = PrecisionConfig()
    activation_checkpointing: bool = False
    log_every: PositiveInt = 10
    save_every: PositiveInt = 200
    keep_checkpoints: PositiveInt = 2
    seed: int = 0
    trackers: tuple[Tracker, ...] = ("tensorboard",)

    @model_validator(mode="after")
    def _parts_agree(self) -> SFTConfig:
        require_one_choice(self.lora, self.freeze)
        if self.load_balance_rate and "router" in self.freeze:
            raise ValueError(
                f"load_balance_rate ({self.load_balance_rate}) moves the router's selection bias: "
                "remove router from freeze, or set it to 0"
            )
        return self
