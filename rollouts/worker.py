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

from ..configs.rollout import EngineConfig, RepetitionStop
from ..problems.types import ProblemError
from .certain_runs import RUN_BEFORE, run_at_end
from .completion import rollout_of
from .engine_config import engine_config
from .engine_input import Prompt, engine_input, prepare
from .engine_process import (
    fork_engines_from_forkserver,
    set_environment,
    start_engine_forkserver,
)
from .types import Rollout, RolloutFailure, RolloutRequest, SamplingSettings

if TYPE_CHECKING:
    from vllm.sampling_params import SamplingParams
    from vllm.v1.engine.async_llm import AsyncLLM
    from vllm.v1.engine.output_processor import RequestOutputCollector

T = TypeVar("T")

LIVENESS_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class _Queued:
    """A problem whose samples the engine knows of; each collector will hold one output."""

    request: RolloutRequest
    prompt: Prompt
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
        repetition_stop: RepetitionStop | None = None,
    ) -> None:
        self._checkpoint = Path(checkpoint)
        self._config = config
        self._seed = seed
        self._weight_version = weight_version
        self._on_gpu = on_gpu
        self._repetition_stop = repetition_stop
        self._one_process = not on_gpu and config.tensor_parallel_size == 1
        self._engine: AsyncLLM | None = None
        self._request_numbers = itertools.count()
        # Whoever has it asks the engine, or changes its weights: no request is asked with the
        # salt of weights that will not compute it.
        self._turn = asyncio.Lock()
        set_environment(config, on_gpu)
        if self._one_process:
            start_engine_forkserver()

    async def start(self) -> dict[str, Any]:
        """Load the checkpoint into a fresh engine. Returns `place()`."""
        from ..kimi_vl_model.processing import KimiVLProcessor
        from ..kimi_vl_model.tokenization import banned_ids, stop_ids

        self._processor = KimiVLProcessor.from_pretrained(self._checkpoint)
        tokenizer = self._processor.tokenizer
        self._stop_ids = list(stop_ids(tokenizer))

        # A bad checkpoint folder is reported before this import, which takes seconds.
        from vllm.v1.engine.async_llm import AsyncLLM

        if self._one_process:
            fork_engines_from_forkserver()
        settled = engine_config(
            self._checkpoint,
            self._config,
            self._repetition_stop,
            banned_ids(tokenizer),
            seed=self._seed,
            on_gpu=self._on_gpu,
            one_process=self._one_process,
        )
        self._dense_layers = int(settled.model_config.hf_text_config.first_k_dense_replace)
        self._engine = AsyncLLM.from_vllm_config(settled, disable_log_stats=True)
        await self._engine.update_weight_version(str(self._weight_version))
        return self.place()

    def place(self) -> dict[str, Any]:
        """Where this worker runs, for messages."""
        return {"pid": os.getpid(), "host": os.uname().nodename}

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
        async with self._turn:
            await engine.pause_generation(mode="keep", clear_cache=True)
            try:
                queued = [
                    await self._ask(await self._prepare(request, settings), settings, parameters)
                    for request in requests
                ]
            finally:
                await engine.resume_generation()
        return await asyncio.gather(*map(self._collect, queued))

    async def _sample_one(
        self, request: RolloutRequest, settings: SamplingSettings, parameters: SamplingParams
    ) -> list[Rollout] | RolloutFailure:
        prepared = await self._prepare(request, settings)
        async with self._turn:
            queued = await self._ask(prepared, settings, parameters)
        return await self._collect(queued)

    async def _prepare(
        self, request: RolloutRequest, settings: SamplingSettings
    ) -> tuple[RolloutRequest, Prompt] | RolloutFailure:
        import torch

        dtype = getattr(torch, self._config.dtype)
        try:
            prompt = await asyncio.to_thread(
                prepare, request, settings, self._processor, self._config.max_model_len, dtype
            )
        except ProblemError as error:
            return RolloutFailure(request.problem_id, str(error))
        return request, prompt

    async def _ask(
        self,
        prepared: tuple[RolloutRequest, Prompt] | RolloutFailure,
        settings: SamplingSettings,
        parameters: SamplingParams,
    ) -> _Queued | RolloutFailure:
        """All samples of a problem one right after the other: the first brings its images, and
        the engine cannot have lost them again before the last."""
        from vllm.exceptions import VLLMClientError

        if isinstance(prepared, RolloutFailure):
            return prepared
        request, prompt = prepared
        collectors = []
        try:
            for sample, before in _samples(request, settings):
                own = copy.copy(parameters)
                own.seed = sample_seed(settings.seed, request.problem_id, sample)
                own.max_tokens = settings.new_tokens(before)
                own.extra_args = self._run_before(before)
                sampled = before.response_token_ids if before else ()
                collector = await self._running_engine.add_request(
                    f"{next(self._request_numbers)}",
                    engine_input(prompt, sampled, self._weight_version, not collectors),
                    own,
                )
                collectors.append((sample, before, collector))
        except VLLMClientError as error:
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
                    self._dense_layers,
                )
            )
        return rollouts

    def _run_before(self, before: Rollout | None) -> dict[str, Any] | None:
        """So that the repetition stop goes on counting where an earlier iteration ended."""
        stop = self._repetition_stop
        if before is None or stop is None:
            return None
        return {RUN_BEFORE: run_at_end(before.logprobs, stop.probability)}

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
        """Freeze running requests where they are and make the model ready to be overwritten.

        Until `finish_update` nothing new is asked: what comes meanwhile waits here."""
        engine = self._running_engine
        await self._turn.acquire()
        await self._while_alive(engine.pause_generation(mode="keep", clear_cache=False))
        await self._while_alive(engine.start_weight_update())

    async def apply_update(self, info: dict[str, Any]) -> None:
        """Load one bucket (shared_memory) or receive what the learner broadcasts (nccl, ipc)."""
        from vllm.distributed.weight_transfer.base import WeightTransferUpdateRequest

        request = WeightTransferUpdateRequest(info)
        await self._while_alive(self._running_engine.update_weights(request))

    async def finish_update(self, version: int) -> list[str]:
        """Use the new weights: running requests go on, their next tokens under `version`.

        Returns what every rank of the engine received, as `WeightDigest` (shared_memory only)."""
        engine = self._running_engine
        received = []
        if self._config.weight_transfer == "shared_memory":
            received = await self._while_alive(engine.collective_rpc("received_digest"))
        await self._while_alive(engine.finish_weight_update(str(version)))
        self._weight_version = version
        # What waits in the engine was asked under the old weights, and the new ones compute it:
        # `WeightScheduler` forgets embeddings and prefixes.
        await self._while_alive(engine.reset_encoder_cache())
        await self._while_alive(engine.resume_generation())
        self._turn.release()
        return received

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
