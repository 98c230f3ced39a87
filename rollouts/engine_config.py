"""Our settings → vLLM's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..configs.rollout import EngineConfig, RepetitionStop
from .engine_input import MAX_IMAGES_PER_PROMPT

if TYPE_CHECKING:
    from vllm.config import VllmConfig


def engine_config(
    checkpoint: Path,
    config: EngineConfig,
    repetition_stop: RepetitionStop | None,
    banned_ids: Sequence[int],
    *,
    seed: int,
    on_gpu: bool,
    one_process: bool,
) -> VllmConfig:
    """For `AsyncLLM.from_vllm_config`; `one_process` runs the model in the engine's own process.

    `on_gpu`, and with it `config.return_routes`, has never been run.
    """
    from vllm.config import WeightTransferConfig
    from vllm.engine.arg_utils import AsyncEngineArgs

    from .vllm_model import BANNED_IDS

    arguments: dict[str, Any] = {
        "model": str(checkpoint),
        "dtype": config.dtype,
        "seed": seed,
        "max_model_len": config.max_model_len,
        "max_num_seqs": config.max_num_seqs,
        "max_num_batched_tokens": config.max_num_batched_tokens,
        "tensor_parallel_size": config.tensor_parallel_size,
        "limit_mm_per_prompt": {"image": MAX_IMAGES_PER_PROMPT},
        "skip_mm_profiling": True,
        # Patches of recent images, shared by the samples of a problem. Its default is 4.
        "mm_processor_cache_gb": 1,
        "generation_config": "vllm",
        "logprobs_mode": "processed_logprobs",
        "weight_transfer_config": WeightTransferConfig(backend=config.weight_transfer),
        "worker_extension_cls": "kvl.rollouts.weights.weight_transfer.ReceivedWeights",
        "disable_log_stats": True,
        "use_tqdm_on_load": False,
        "additional_config": {BANNED_IDS: list(banned_ids)},
    }
    if repetition_stop is not None:
        arguments["additional_config"]["repetition_stop"] = repetition_stop.model_dump()
    if config.return_routes:
        arguments["enable_return_routed_experts"] = True
    if on_gpu:
        arguments["gpu_memory_utilization"] = config.memory_fraction
    else:
        # vLLM's CPU kernel rotates interleaved heads wrongly; its torch path is right.
        arguments["compilation_config"] = {"custom_ops": ["-rotary_embedding"]}
        arguments["enforce_eager"] = True
        arguments["block_size"] = 32
        # Seeded requests crash vLLM's CPU runner when their prefill is cut in pieces.
        arguments["enable_chunked_prefill"] = False
        arguments["max_num_batched_tokens"] = max(
            config.max_num_batched_tokens or 0, config.max_model_len, 2048
        )
        arguments["kv_cache_memory_bytes"] = config.cpu_cache_gib * 2**30
    if config.tensor_parallel_size > 1:
        # Its own choice inside a placement group, Ray, would look for bundles of one GPU each.
        arguments["distributed_executor_backend"] = "mp"
    if one_process:
        from vllm.v1.executor.uniproc_executor import UniProcExecutor

        # Named as a class: for the string "uni" vLLM starts one more process on CPU.
        arguments["distributed_executor_backend"] = UniProcExecutor
    settled = AsyncEngineArgs(**arguments).create_engine_config()
    # Only the settled config knows whether steps overlap: on GPUs they do, on CPU they do not.
    overlap = "Async" if settled.scheduler_config.async_scheduling else ""
    kind = (
        "weight_scheduler.Weight" if repetition_stop is None else "repetition_stop.RepetitionStop"
    )
    settled.scheduler_config.scheduler_cls = f"kvl.rollouts.{kind}{overlap}Scheduler"
    return settled
