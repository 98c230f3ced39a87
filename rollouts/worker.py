"""One vLLM engine: prompts in, rollouts out, new weights in between.

`RolloutWorker` is a plain class; `fleet.py` makes it a Ray actor. This module imports neither
torch nor vLLM, so that the constructor can first settle the environment and start the engine's
own import in parallel.
"""

from __future__ import annotations

import asyncio
import copy
import hashlib
import itertools
import os
from collections.abc import Awaitable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ..configs.rl import EngineConfig
from ..problems.types import ImageSource, ProblemError
from .completion import rollout_of
from .engine_process import (
    fork_engines_from_forkserver,
    set_environment,
    start_engine_forkserver,
)
from .types import Rollout, RolloutFailure, RolloutRequest, SamplingSettings

if TYPE_CHECKING:
    import torch
    from vllm.sampling_params import SamplingParams
    from vllm.v1.engine.async_llm import AsyncLLM
    from vllm.v1.engine.output_processor import RequestOutputCollector

T = TypeVar("T")

MAX_IMAGES_PER_PROMPT = 64
LIVENESS_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class _Image:
    """One image of a prompt: where its tokens stand, and its patches."""

    offset: int
    tokens: int
    pixel_values: torch.Tensor  # in the engine's dtype, [rows · columns, 3, 14, 14]
    grid: torch.Tensor  # int64 [2]
    digest: str


@dataclass(frozen=True, slots=True)
class _Prompt:
    token_ids: list[int]
    images: tuple[_Image, ...]


@dataclass(frozen=True, slots=True)
class _Queued:
    """A problem whose samples the engine knows of; each collector will hold one output."""

    request: RolloutRequest
    prompt: _Prompt
    collectors: list[tuple[int, Rollout | None, RequestOutputCollector]]


class EngineDied(RuntimeError):
    """The engine process is gone without a word."""


class RolloutWorker:
    """Owns one AsyncLLM. Call `start` first; `shutdown` ends every process it started."""

    def __init__(
        self,
        checkpoint: str | Path,
        config: EngineConfig,
        seed: int = 0,
        weight_version: int = 0,
        on_gpu: bool = False,
    ) -> None:
        self._checkpoint = Path(checkpoint)
        self._config = config
        self._seed = seed
        self._weight_version = weight_version
        self._on_gpu = on_gpu
        self._one_process = not on_gpu and config.tensor_parallel_size == 1
        self._engine: AsyncLLM | None = None
        self._request_numbers = itertools.count()
        set_environment(config, on_gpu)
        if self._one_process:
            start_engine_forkserver()

    async def start(self) -> dict[str, Any]:
        """Load the checkpoint into a fresh engine. Returns `place()`."""
        from ..kimi_vl_model.processing import KimiVLProcessor
        from ..kimi_vl_model.tokenization import MEDIA_PAD, banned_ids, stop_ids

        self._processor = KimiVLProcessor.from_pretrained(self._checkpoint)
        tokenizer = self._processor.tokenizer
        self._stop_ids = list(stop_ids(tokenizer))
        self._banned_ids = list(banned_ids(tokenizer))
        self._media_pad = int(tokenizer.convert_tokens_to_ids(MEDIA_PAD))  # pyright: ignore

        # A bad checkpoint folder is reported before this import, which takes seconds.
        from vllm.v1.engine.async_llm import AsyncLLM

        if self._one_process:
            fork_engines_from_forkserver()
        self._engine = AsyncLLM.from_engine_args(self._engine_args())
        await self._engine.update_weight_version(str(self._weight_version))
        return self.place()

    def place(self) -> dict[str, Any]:
        """Where this worker runs, for messages."""
        return {"pid": os.getpid(), "host": os.uname().nodename}

    def _engine_args(self) -> Any:
        from vllm.config import WeightTransferConfig
        from vllm.engine.arg_utils import AsyncEngineArgs

        config = self._config
        arguments: dict[str, Any] = {
            "model": str(self._checkpoint),
            "dtype": config.dtype,
            "seed": self._seed,
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
            "logits_processors": ["kvl.rollouts.vllm_model:BanTokens"],
            "additional_config": {"banned_token_ids": self._banned_ids},
            "weight_transfer_config": WeightTransferConfig(backend=config.weight_transfer),
            "disable_log_stats": True,
            "use_tqdm_on_load": False,
        }
        if self._on_gpu:
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
        if self._one_process:
            from vllm.v1.executor.uniproc_executor import UniProcExecutor

            # Named as a class: for the string "uni" vLLM starts one more process on CPU.
            arguments["distributed_executor_backend"] = UniProcExecutor
        return AsyncEngineArgs(**arguments)

    # Sampling

    async def sample(
        self, requests: Sequence[RolloutRequest], settings: SamplingSettings
    ) -> list[list[Rollout] | RolloutFailure]:
        """For each request its `settings.samples` rollouts, or why it could not be sampled.

        Raises vLLM's VLLMValidationError for impossible settings, EngineDied if its process died
        and vLLM's EngineDeadError if it failed by itself.
        """
        from vllm.sampling_params import RequestOutputKind, SamplingParams

        parameters = SamplingParams(
            temperature=settings.temperature,
            max_tokens=settings.max_response_tokens,
            stop_token_ids=self._stop_ids,
            logprobs=0,
            flat_logprobs=True,
            detokenize=False,
            output_kind=RequestOutputKind.FINAL_ONLY,
        )
        if self._config.deterministic:
            return await self._while_alive(self._sample_in_order(requests, settings, parameters))
        sampling = (self._sample_one(request, settings, parameters) for request in requests)
        return await self._while_alive(asyncio.gather(*sampling))

    async def _sample_in_order(
        self,
        requests: Sequence[RolloutRequest],
        settings: SamplingSettings,
        parameters: SamplingParams,
    ) -> list[list[Rollout] | RolloutFailure]:
        """All requests wait in the paused engine, in their order and without cached prefixes.

        Every step then holds the same sequences in every run, and so every rounding is the same.
        """
        engine = self._running_engine
        await engine.pause_generation(mode="keep", clear_cache=True)
        try:
            queued = [await self._queue(request, settings, parameters) for request in requests]
        finally:
            await engine.resume_generation()
        return await asyncio.gather(*map(self._collect, queued))

    async def _sample_one(
        self, request: RolloutRequest, settings: SamplingSettings, parameters: SamplingParams
    ) -> list[Rollout] | RolloutFailure:
        return await self._collect(await self._queue(request, settings, parameters))

    async def _queue(
        self, request: RolloutRequest, settings: SamplingSettings, parameters: SamplingParams
    ) -> _Queued | RolloutFailure:
        from vllm.exceptions import VLLMClientError

        try:
            prompt = await asyncio.to_thread(self._prepare, request, settings)
            collectors = []
            for sample, before in _samples(request, settings):
                own = copy.copy(parameters)
                own.seed = sample_seed(settings.seed, request.problem_id, sample)
                own.max_tokens = settings.new_tokens(before)
                collector = await self._running_engine.add_request(
                    f"{next(self._request_numbers)}", self._engine_input(prompt, before), own
                )
                collectors.append((sample, before, collector))
        except (ProblemError, VLLMClientError) as error:
            return RolloutFailure(request.problem_id, str(error))
        return _Queued(request, prompt, collectors)

    async def _collect(self, queued: _Queued | RolloutFailure) -> list[Rollout] | RolloutFailure:
        from vllm.outputs import RequestOutput

        if isinstance(queued, RolloutFailure):
            return queued
        rollouts = []
        for sample, before, collector in queued.collectors:
            # With final outputs only, the first one is the last one.
            output = collector.get_nowait() or await collector.get()
            if not isinstance(output, RequestOutput):
                raise RuntimeError(f"no text from the engine for {queued.request.problem_id}")
            rollouts.append(
                rollout_of(
                    output,
                    queued.request.problem_id,
                    sample,
                    tuple(queued.prompt.token_ids),
                    before,
                    self._processor.tokenizer.decode,  # pyright: ignore
                )
            )
        return rollouts

    def _prepare(self, request: RolloutRequest, settings: SamplingSettings) -> _Prompt:
        import torch

        images = [part.open() for part in request.parts if isinstance(part, ImageSource)]
        decoded = iter(images)
        parts = [part if isinstance(part, str) else next(decoded) for part in request.parts]
        encoded = self._processor.encode_prompt(parts)
        token_ids = list(encoded.token_ids)
        if settings.response_prefix:
            token_ids += self._processor.chat.text(settings.response_prefix)
        room = self._config.max_model_len - len(token_ids)
        needed = settings.max_total_tokens or settings.max_response_tokens
        if room < needed:
            raise ProblemError(
                f"problem {request.problem_id}: its prompt of {len(token_ids)} tokens "
                f"leaves {max(room, 0)} of max_model_len {self._config.max_model_len}, less than "
                f"the {needed} tokens that a response may have"
            )
        if len(images) > MAX_IMAGES_PER_PROMPT:
            raise ProblemError(
                f"problem {request.problem_id}: {len(images)} images, at most "
                f"{MAX_IMAGES_PER_PROMPT} are possible"
            )
        placed: list[_Image] = []
        position = 0
        for image, tokens in zip(images, encoded.image_tokens, strict=True):
            position = token_ids.index(self._media_pad, position)
            patches = self._processor.image_processor.preprocess(image)
            pixels = patches["pixel_values"]
            digest = hashlib.blake2b(pixels.numpy().tobytes(), digest_size=16).hexdigest()
            pixels = pixels.to(getattr(torch, self._config.dtype))
            placed.append(_Image(position, tokens, pixels, patches["image_grid_hws"][0], digest))
            position += tokens
        return _Prompt(token_ids, tuple(placed))

    def _engine_input(self, prompt: _Prompt, before: Rollout | None = None) -> Any:
        from vllm.inputs import mm_input, tokens_input
        from vllm.multimodal.inputs import (
            MultiModalBatchedField,
            MultiModalFieldElem,
            MultiModalFlatField,
            MultiModalKwargsItem,
            MultiModalKwargsItems,
            PlaceholderRange,
        )

        # Whatever the engine caches (prefix blocks, image embeddings) it caches under names
        # that hold the weight version: nothing computed by old weights is ever reused.
        version = str(self._weight_version)
        token_ids = [*prompt.token_ids, *(before.response_token_ids if before else ())]
        if not prompt.images:
            return tokens_input(token_ids, cache_salt=version)
        items = [
            MultiModalKwargsItem(
                {
                    "pixel_values": MultiModalFieldElem(
                        data=image.pixel_values,
                        field=MultiModalFlatField(slices=[slice(0, len(image.pixel_values))]),
                    ),
                    "image_grid_hws": MultiModalFieldElem(
                        data=image.grid, field=MultiModalBatchedField(keep_on_cpu=True)
                    ),
                }
            )
            for image in prompt.images
        ]
        return mm_input(
            prompt_token_ids=token_ids,
            mm_kwargs=MultiModalKwargsItems({"image": items}),
            mm_hashes={"image": [f"{image.digest}@{version}" for image in prompt.images]},
            mm_placeholders={
                "image": [PlaceholderRange(image.offset, image.tokens) for image in prompt.images]
            },
            cache_salt=version,
        )

    # Weights

    @property
    def _running_engine(self) -> AsyncLLM:
        if self._engine is None:
            raise RuntimeError("call start() first")
        return self._engine

    async def _while_alive(self, work: Awaitable[T]) -> T:
        """The result of `work`; raises EngineDied if the engine process dies meanwhile.

        vLLM notices that death but tells nobody who is already waiting for an answer.
        """
        task = asyncio.ensure_future(work)
        while not (await asyncio.wait({task}, timeout=LIVENESS_SECONDS))[0]:
            if self._running_engine.errored:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
                raise EngineDied("the engine process died; was it killed, or out of memory?")
        return task.result()

    def weight_version(self) -> int:
        return self._weight_version

    async def init_weight_transfer(self, init_info: dict[str, Any]) -> None:
        """Rendezvous with the learner; needed by nccl and ipc, not by shared_memory."""
        from vllm.distributed.weight_transfer.base import WeightTransferInitRequest

        request = WeightTransferInitRequest(init_info)
        await self._while_alive(self._running_engine.init_weight_transfer_engine(request))

    async def begin_update(self) -> None:
        """Freeze running requests where they are and make the model ready to be overwritten."""
        engine = self._running_engine
        await self._while_alive(engine.pause_generation(mode="keep", clear_cache=False))
        await self._while_alive(engine.start_weight_update())

    async def apply_update(self, info: dict[str, Any]) -> None:
        """Load one bucket (shared_memory) or receive what the learner broadcasts (nccl, ipc)."""
        from vllm.distributed.weight_transfer.base import WeightTransferUpdateRequest

        request = WeightTransferUpdateRequest(info)
        await self._while_alive(self._running_engine.update_weights(request))

    async def finish_update(self, version: int) -> None:
        """Use the new weights: running requests go on, their next tokens under `version`."""
        engine = self._running_engine
        await self._while_alive(engine.finish_weight_update(str(version)))
        self._weight_version = version
        await self._while_alive(engine.resume_generation())

    def shutdown(self) -> None:
        if self._engine is not None:
            self._engine.shutdown()
            self._engine = None


def sample_seed(seed: int | None, problem_id: str, sample: int) -> int | None:
    """A seed of its own for every sample, the same whichever worker and batch it lands in."""
    if seed is None:
        return None
    digest = hashlib.blake2b(f"{seed}/{problem_id}/{sample}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def _samples(
    request: RolloutRequest, settings: SamplingSettings
) -> Iterator[tuple[int, Rollout | None]]:
    """(number, what there is of it so far) of every response to sample now."""
    if request.continued:
        return ((rollout.sample, rollout) for rollout in request.continued)
    return ((sample, None) for sample in range(settings.samples))
