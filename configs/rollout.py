"""How responses are sampled: the engines, and what an iteration asks of them."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, NonNegativeInt, PositiveInt

from .base import StrictModel


class EngineConfig(StrictModel):
    """One vLLM engine per rollout worker."""

    dtype: Literal["float32", "bfloat16"] = "bfloat16"
    max_model_len: PositiveInt = 4096
    max_num_seqs: PositiveInt = 256
    max_num_batched_tokens: PositiveInt | None = None
    tensor_parallel_size: PositiveInt = 1
    weight_transfer: Literal["shared_memory", "nccl", "ipc"] = "shared_memory"
    threads: PositiveInt = Field(default=1, description="CPU threads of an engine")
    deterministic: bool = Field(
        default=False,
        description="equal requests give equal tokens and log-probs, bit for bit: all prompts of "
        "an iteration are prepared before the first is sampled",
    )
    return_routes: bool = Field(
        default=False,
        description="rollouts hold the experts of every token; GPU only, and not yet run on one",
    )
    memory_fraction: float = Field(
        default=0.85, gt=0, le=1, description="GPU memory share; GPU only"
    )
    cpu_cache_gib: PositiveInt = Field(default=1, description="KV cache on a CPU machine, GiB")


class RepetitionStop(StrictModel):
    """Cuts a response whose newest tokens were all sampled with p above `probability`: it repeats
    itself, and is wrong (MiniMax-M1, arXiv 2506.13585)."""

    tokens: PositiveInt = Field(default=3000, description="consecutive tokens")
    probability: float = Field(default=0.99, gt=0, lt=1)


class RolloutConfig(StrictModel):
    workers: PositiveInt = 1
    problems_per_iteration: PositiveInt = 32
    samples_per_problem: int = Field(
        default=8, ge=2, description="k; a group of one has no baseline"
    )
    temperature: float = Field(default=1.0, gt=0, le=2, description="vLLM samples up to 2")
    max_response_tokens: PositiveInt = 2048
    truncated: Literal["zero", "mask", "continue"] = Field(
        default="zero",
        description="responses cut by the cap: wrong, left out of their group, or continued in "
        "the next iteration (partial rollouts)",
    )
    max_total_tokens: PositiveInt | None = Field(
        default=None, description="of a continued response, over all its iterations"
    )
    repetition_stop: RepetitionStop | None = Field(
        default=RepetitionStop(), description="null: responses may repeat themselves up to the cap"
    )
    degenerate_groups: Literal["keep", "refill"] = Field(
        default="keep",
        description="groups all right or all wrong: kept for the τ term, or replaced",
    )
    max_refills: NonNegativeInt = Field(default=3, description="further rounds of `refill`")
    engine: EngineConfig = EngineConfig()
