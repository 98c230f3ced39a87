"""The config tree of `kvl-rl train`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    model_validator,
)

from .base import StrictModel
from .common import OptimizerConfig, PrecisionConfig, ProblemSource, Tracker


class EngineConfig(StrictModel):
    """One vLLM engine per rollout worker."""

    dtype: Literal["float32", "bfloat16"] = "bfloat16"
    max_model_len: PositiveInt = 4096
    max_num_seqs: PositiveInt = 256
    max_num_batched_tokens: PositiveInt | None = None
    tensor_parallel_size: PositiveInt = 1
    weight_transfer: Literal["shared_memory", "nccl", "ipc"] = "shared_memory"
    threads: PositiveInt = Field(default=1, description="CPU threads of an engine")
    memory_fraction: float = Field(
        default=0.85, gt=0, le=1, description="GPU memory share; GPU only"
    )
    cpu_cache_gib: PositiveInt = Field(default=1, description="KV cache on a CPU machine, GiB")


class RolloutConfig(StrictModel):
    workers: PositiveInt = 1
    problems_per_iteration: PositiveInt = 32
    samples_per_problem: int = Field(
        default=8, ge=2, description="k; a group of one has no baseline"
    )
    temperature: float = Field(default=1.0, gt=0, le=2, description="vLLM samples up to 2")
    max_response_tokens: PositiveInt = 2048
    engine: EngineConfig = EngineConfig()


class RewardEntry(BaseModel):
    """One reward: a built-in name, an installed plugin's name or `package.module:Name`.

    Keys that are not listed here are the reward's own settings; they are checked by its config.
    """

    model_config = ConfigDict(extra="allow", frozen=True, validate_default=True)

    type: str = Field(description="a name from `kvl-rl rewards`, or package.module:Name")
    weight: float = 1.0
    start: NonNegativeInt = Field(default=0, description="first iteration in which it counts")
    timeout_seconds: PositiveFloat = Field(default=10.0, description="of a plugin, per call")
    workers: PositiveInt = Field(default=1, description="processes of a plugin")

    @property
    def settings(self) -> dict[str, Any]:
        return dict(self.model_extra or {})

    @model_validator(mode="after")
    def _settings_fit(self) -> RewardEntry:
        # Not at the top: configs are read by commands that need no reward.
        from ..rewards.registry import find, settings_error

        found = find(self.type)
        try:
            found.config.model_validate(self.settings)
        except ValidationError as error:
            raise ValueError(settings_error(error, found)) from None
        return self


class RewardConfig(StrictModel):
    """How rewards add up, and the grader behind raw accuracy."""

    combination: Literal["sum", "gated"] = Field(
        default="sum", description="gated: only correct responses get more than their accuracy"
    )
    grader_workers: PositiveInt = 1
    grader_timeout_seconds: PositiveFloat = 2.0


class ObjectiveConfig(StrictModel):
    name: Literal["mirror_descent"] = "mirror_descent"
    tau: PositiveFloat = 0.01
    baseline: Literal["mean", "leave_one_out"] = "mean"


class LearnerConfig(StrictModel):
    world_size: PositiveInt = 1
    sharding: Literal["ddp", "fsdp2"] = "ddp"
    minibatches: PositiveInt = Field(default=4, description="optimizer steps per iteration")
    pack_tokens: PositiveInt = Field(default=4096, description="tokens per forward pass")
    logprob_chunk: PositiveInt = Field(default=1024, description="tokens per LM-head chunk")
    optimizer: OptimizerConfig = OptimizerConfig()
    reset_optimizer: bool = True
    precision: PrecisionConfig = PrecisionConfig()
    activation_checkpointing: bool = False


class EvalConfig(StrictModel):
    """Evaluation on held-out problems before the first and after the last iteration."""

    problems: ProblemSource
    samples: PositiveInt = 4
    temperature: PositiveFloat = 1.0
    every: PositiveInt | None = Field(default=None, description="also every n iterations")


class RLConfig(StrictModel):
    """Online policy mirror descent (Kimi k1.5 §2.3, Kimi-VL §2.4)."""

    run_dir: Path
    checkpoint: Path = Field(description="the checkpoint folder to start from")
    problems: ProblemSource
    evaluation: EvalConfig | None = None
    iterations: PositiveInt = 100
    rollout: RolloutConfig = RolloutConfig()
    rewards: tuple[RewardEntry, ...] = Field(
        default=(RewardEntry(type="accuracy"),), min_length=1, description="summed by weight"
    )
    reward: RewardConfig = RewardConfig()
    objective: ObjectiveConfig = ObjectiveConfig()
    learner: LearnerConfig = LearnerConfig()
    mismatch_tolerance: PositiveFloat = Field(
        default=2e-3, description="largest engine-learner log-prob difference allowed after a sync"
    )
    probe_problems: PositiveInt = 4
    checkpoint_every: PositiveInt = 10
    keep_checkpoints: PositiveInt = 2
    transcripts_per_iteration: NonNegativeInt = Field(
        default=2, description="groups written as JSONL"
    )
    seed: int = 0
    trackers: tuple[Tracker, ...] = ("tensorboard",)

    @model_validator(mode="after")
    def _responses_fit(self) -> RLConfig:
        if self.rollout.max_response_tokens >= self.rollout.engine.max_model_len:
            raise ValueError(
                f"rollout.max_response_tokens ({self.rollout.max_response_tokens}) must be smaller "
                f"than rollout.engine.max_model_len ({self.rollout.engine.max_model_len}): "
                "the prompt needs room too"
            )
        if self.learner.minibatches > self.rollout.problems_per_iteration:
            raise ValueError(
                f"learner.minibatches ({self.learner.minibatches}) exceeds "
                f"rollout.problems_per_iteration ({self.rollout.problems_per_iteration}): "
                "a minibatch holds whole groups"
            )
        return self
