"""What the learner does with an iteration's groups: corrections, optimizer steps, ranks."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, PositiveFloat, PositiveInt, field_validator, model_validator

from .base import StrictModel
from .common import (
    LoRAConfig,
    OptimizerConfig,
    ParameterGroup,
    PrecisionConfig,
    ProblemSource,
    require_one_choice,
)


class CorrectionConfig(StrictModel):
    """Weights π_i/μ for what the engine sampled, off by default (algorithm.md §4)."""

    importance: Literal["none", "truncated", "icepop"] = "none"
    truncation: PositiveFloat = Field(default=2.0, description="C of min(π_i/μ, C)")
    icepop_range: tuple[PositiveFloat, PositiveFloat] = (0.5, 5.0)
    sequence_mask: tuple[PositiveFloat, PositiveFloat] | None = Field(
        default=None, description="keep geometric mean ratios within, such as [0.999, 1.001]"
    )
    stale_tokens: Literal["weight", "mask"] = Field(
        default="weight", description="tokens that older weights sampled: π_i/μ, or left out"
    )
    routing_replay: bool = Field(
        default=False,
        description="the learner sends tokens to the experts that the engine chose (R3); needs "
        "rollout.engine.return_routes",
    )

    @field_validator("icepop_range", "sequence_mask")
    @classmethod
    def _ascending(cls, value: tuple[float, float] | None) -> tuple[float, float] | None:
        if value is not None and value[0] >= value[1]:
            raise ValueError(f"{list(value)} is no range: the first bound must be the smaller one")
        return value


class PTXConfig(StrictModel):
    """A supervised term on written solutions, added to every optimizer step."""

    problems: ProblemSource = Field(description="problems with a written solution")
    coefficient: PositiveFloat = 0.1
    documents: PositiveInt = Field(default=8, description="per optimizer step")


class LearnerConfig(StrictModel):
    world_size: PositiveInt = 1
    sharding: Literal["ddp", "fsdp2"] = Field(
        default="ddp", description="fsdp2: every rank holds a slice of all state"
    )
    expert_parallel: PositiveInt = Field(
        default=1, description="neighbouring ranks that divide the experts; needs fsdp2"
    )
    minibatches: PositiveInt = Field(default=4, description="optimizer steps per iteration")
    pack_tokens: PositiveInt = Field(default=4096, description="tokens per forward pass")
    logprob_chunk: PositiveInt = Field(default=1024, description="tokens per LM-head chunk")
    optimizer: OptimizerConfig = OptimizerConfig()
    reset_optimizer: bool = True
    precision: PrecisionConfig = PrecisionConfig()
    activation_checkpointing: bool = False
    freeze: tuple[ParameterGroup, ...] = Field(
        default=(), description="parts of the model that keep their weights"
    )
    lora: LoRAConfig | None = Field(
        default=None, description="train adapters: run_dir/adapter, merged into run_dir/final"
    )

    @model_validator(mode="after")
    def _parts_agree(self) -> LearnerConfig:
        require_one_choice(self.lora, self.freeze)
        if self.expert_parallel > 1:
            if self.sharding != "fsdp2" or self.world_size % self.expert_parallel:
                raise ValueError("expert_parallel needs sharding: fsdp2 and must divide world_size")
            if self.lora is not None and self.lora.routed_experts:
                raise ValueError("lora.routed_experts needs expert_parallel: 1")
        return self
