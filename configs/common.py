"""Config parts that supervised and reinforcement stages share."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, PositiveFloat, PositiveInt

from .base import StrictModel


class ProblemSource(StrictModel):
    """Where problems come from: a file, several by a glob, a folder of parquet files or a saved
    dataset, in any layout of docs/data.md."""

    path: Path
    limit: PositiveInt | None = Field(
        default=None, description="take at most this many, in file order"
    )
    prefix: str | None = Field(default=None, description="keep only ids that start with this")
    image_roots: tuple[Path, ...] = Field(
        default=(), description="folders besides the file's own that its images may lie in"
    )
    columns: dict[str, str] = Field(
        default_factory=dict,
        description="field → column, for files of no known layout: {question: q, answer: gold}",
    )


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


class LoRAConfig(StrictModel):
    """Low-rank adapters on attention, dense MLP and shared experts instead of full training."""

    rank: PositiveInt = 16
    alpha: PositiveInt = Field(default=32, description="updates are scaled by alpha / rank")
    routed_experts: bool = Field(default=False, description="also one adapter per routed expert")


ParameterGroup = Literal["vision_tower", "projector", "router", "embeddings", "experts"]
Tracker = Literal["tensorboard", "trackio", "wandb"]


def require_one_choice(lora: LoRAConfig | None, freeze: tuple[ParameterGroup, ...]) -> None:
    """Raise ValueError if both say what trains: with adapters nothing else does."""
    if lora is not None and freeze:
        raise ValueError("lora already freezes everything but its adapters: remove freeze")
