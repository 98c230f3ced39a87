"""Config parts that supervised and reinforcement stages share."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, PositiveFloat, PositiveInt

from .base import StrictModel


class ProblemSource(StrictModel):
    """Where problems come from: a `.jsonl` file (images beside it) or MMMU's `.parquet`."""

    path: Path
    limit: PositiveInt | None = Field(
        default=None, description="take at most this many, in file order"
    )
    prefix: str | None = Field(default=None, description="keep only ids that start with this")


class WeightedSource(ProblemSource):
    """A source that may be one of several: drawn from by weight, whatever their sizes."""

    weight: PositiveFloat = 1.0


class OptimizerConfig(StrictModel):
    """AdamW for everything, or Muon for matrices and AdamW for the rest."""

    name: Literal["adamw", "muon"] = "adamw"
    learning_rate: PositiveFloat = 1e-6
    weight_decay: float = Field(default=0.0, ge=0)
    betas: tuple[float, float] = (0.9, 0.95)
    eps: PositiveFloat = 1e-15
    momentum: float = Field(default=0.95, ge=0, lt=1, description="Muon's momentum")
    max_grad_norm: PositiveFloat = 1.0


class PrecisionConfig(StrictModel):
    mixed_precision: Literal["no", "bf16"] = "no"
    threads: PositiveInt | None = Field(default=None, description="CPU threads of the learner")


ParameterGroup = Literal["vision_tower", "projector", "router", "embeddings", "experts"]
Tracker = Literal["tensorboard", "trackio", "wandb"]
